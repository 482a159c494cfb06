//! What must not compile, and the sentences with which the compiler says why.
//!
//! Each file of `tests/refused/` is a module of one small crate, which is checked once with the
//! toolchain of this test. The sentences after `//! expect:` must occur in the messages about that
//! file; the rest of a message may change with the compiler.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MANIFEST: &str = r#"[package]
name = "refused"
version = "0.0.0"
edition = "2024"
publish = false

[lib]
path = "lib.rs"

[features]
cases = []

[dependencies]
elbo = { path = "ROOT", default-features = false }
nalgebra = { version = "0.35", default-features = false, features = ["std", "macros"] }
rand = "0.10"

[workspace]
"#;

struct Case {
    name: String,
    path: PathBuf,
    expected: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = std::fs::read_dir(root().join("tests").join("refused"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let expected: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("//! expect: "))
                .map(String::from)
                .collect();
            assert!(!expected.is_empty(), "{} expects no sentence", path.display());
            Case { name: path.file_stem().unwrap().to_string_lossy().into_owned(), path, expected }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A crate whose modules are the files, behind one feature.
fn write_crate(folder: &Path, cases: &[Case]) {
    std::fs::create_dir_all(folder).unwrap();
    let modules: String = cases
        .iter()
        .map(|Case { name, path, .. }| {
            format!("#[cfg(feature = \"cases\")]\n#[path = {path:?}]\npub mod {name};\n")
        })
        .collect();
    let manifest = MANIFEST.replace("ROOT", &root().display().to_string().replace('\\', "/"));
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("lib.rs"), modules).unwrap();
    // The versions that this crate was built with, so that no registry is read.
    if let Ok(lock) = std::fs::read(root().join("Cargo.lock")) {
        std::fs::write(folder.join("Cargo.lock"), lock).unwrap();
    }
}

/// The rendered messages by the file that they are about.
fn messages(output: &Output) -> HashMap<PathBuf, String> {
    let mut found: HashMap<PathBuf, String> = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let message = &value["message"];
        let Some(rendered) = message["rendered"].as_str() else { continue };
        for span in message["spans"].as_array().into_iter().flatten() {
            if let (Some(true), Some(file)) =
                (span["is_primary"].as_bool(), span["file_name"].as_str())
            {
                found.entry(PathBuf::from(file)).or_default().push_str(rendered);
            }
        }
    }
    found
}

#[test]
fn what_must_not_compile_says_why() {
    let cases = cases();
    assert!(cases.len() >= 13, "{} cases", cases.len());
    // Beside the test executables: `target`, wherever that is.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    write_crate(&folder, &cases);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let check = |features: &str| {
        Command::new(&cargo)
            .args(["check", "--quiet", "--offline", "--message-format=json"])
            .args(["--features", features])
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .env_remove("RUSTFLAGS")
            .output()
    };
    // Without the files the crate must compile; otherwise no refusal would mean a thing.
    match check("") {
        Err(error) => return println!("skipped: cargo cannot be run ({error})"),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("offline") || text.contains("no matching package"), "{text}");
            return println!("skipped: the dependencies are not at hand\n{text}");
        }
        Ok(_) => {}
    }
    let output = check("cases").unwrap();
    assert!(!output.status.success());
    let found = messages(&output);
    for Case { name, path, expected } in &cases {
        let text = found.get(path).unwrap_or_else(|| panic!("{name} compiles"));
        for sentence in expected {
            assert!(text.contains(sentence), "{name} is refused without: {sentence}\n\n{text}");
        }
    }
}

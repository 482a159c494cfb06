//! What must not compile, and the sentence that says why.
//!
//! Each file of `tests/refused/` is a module of one small crate, which is checked once per file
//! with the toolchain of this test. Only the sentences after `//! expect:` must stand in what the
//! compiler says, and not its whole output, which changes from release to release.

use std::path::{Path, PathBuf};
use std::process::Command;

const MANIFEST: &str = r#"[package]
name = "refused"
version = "0.0.0"
edition = "2024"
publish = false

[lib]
path = "lib.rs"

[features]
FEATURES

[dependencies]
elbo = { path = "ROOT", default-features = false }
nalgebra = { version = "0.35", default-features = false, features = ["std", "macros"] }
rand = "0.10"

[workspace]
"#;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files, by name.
fn cases() -> Vec<(String, PathBuf, Vec<String>)> {
    let mut cases: Vec<_> = std::fs::read_dir(root().join("tests").join("refused"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let expected = text
                .lines()
                .filter_map(|l| l.strip_prefix("//! expect: "))
                .map(String::from)
                .collect::<Vec<_>>();
            assert!(!expected.is_empty(), "{} says no sentence", path.display());
            (path.file_stem().unwrap().to_string_lossy().into_owned(), path, expected)
        })
        .collect();
    cases.sort();
    cases
}

/// A crate whose modules are the files, each behind a feature of its own: the dependencies are
/// checked once.
fn write_crate(folder: &Path, cases: &[(String, PathBuf, Vec<String>)]) {
    std::fs::create_dir_all(folder).unwrap();
    let features: String = cases.iter().map(|(name, ..)| format!("{name} = []\n")).collect();
    let modules: String = cases
        .iter()
        .map(|(name, path, _)| {
            format!("#[cfg(feature = {name:?})]\n#[path = {path:?}]\npub mod {name};\n")
        })
        .collect();
    let manifest = MANIFEST
        .replace("FEATURES", &features)
        .replace("ROOT", &root().display().to_string().replace('\\', "/"));
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("lib.rs"), modules).unwrap();
    // The versions that this crate was built with, so that nothing is looked up.
    if let Ok(lock) = std::fs::read(root().join("Cargo.lock")) {
        std::fs::write(folder.join("Cargo.lock"), lock).unwrap();
    }
}

#[test]
fn what_must_not_compile_says_why() {
    let cases = cases();
    assert!(cases.len() >= 6);
    // Beside the test executables: `target`, wherever that is.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    write_crate(&folder, &cases);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let check = |feature: &str| {
        Command::new(&cargo)
            .args(["check", "--quiet", "--offline", "--color", "never", "--features", feature])
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .env_remove("RUSTFLAGS")
            .output()
    };
    // Without any of the files it must compile; where it does not, no refusal would mean a thing.
    match check("") {
        Err(error) => return println!("skipped: cargo cannot be run ({error})"),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("offline") || said.contains("no matching package"), "{said}");
            return println!("skipped: the dependencies are not at hand\n{said}");
        }
        Ok(_) => {}
    }
    for (name, _, expected) in &cases {
        let output = check(name).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} compiles");
        for sentence in expected {
            assert!(
                said.contains(sentence),
                "{name} is refused without saying: {sentence}\n\n{said}"
            );
        }
        println!("{name}\n{said}");
    }
}

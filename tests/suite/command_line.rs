//! The main program from outside: exit codes, standard error, the JSON it writes, and the files
//! that it reads or refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IRIS: &[u8] = include_bytes!("../../examples/data/iris.csv.gz");
const LABELS: &[u8] = include_bytes!("../../examples/data/digits-labels.idx1-ubyte.gz");

/// The example, which cargo builds beside the tests: `…/deps/command_line-…` and
/// `…/examples/progression`.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let path = folder.join("examples").join(format!("progression{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not there: `cargo test` builds it, `cargo test --test command_line` alone does not",
        path.display()
    );
    path
}

/// A folder of a test's own, gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("elbo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), content).unwrap();
        name.into()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(program()).args(arguments).current_dir(&self.0).output().unwrap()
    }

    /// The figures of a run that must succeed; quick and without pictures.
    fn figures(&self, arguments: &[&str]) -> serde_json::Value {
        let output =
            self.run(&[arguments, &["--quick", "--no-plots", "--json", "out.json"]].concat());
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&std::fs::read_to_string(self.0.join("out.json")).unwrap()).unwrap()
    }

    /// A run that must fail: its one line on standard error.
    #[track_caller]
    fn refusal(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(&[arguments, &["--quick", "--no-plots"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(
            errors.len() == 1 && said.lines().last() == errors.last().copied(),
            "{arguments:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        errors[0]["error: ".len()..].to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Nine observations of three variables, which are not on a line.
fn small() -> String {
    let row = |i: u32| format!("{}.5,{},{}.25\n", i * 3 % 7, i * i % 11, i * 5 % 4);
    "a,b,c\n".to_owned() + &(0..9).map(row).collect::<String>()
}

/// The linear steps, in the order of the progression.
const LINEAR: [&str; 12] = [
    "linear_autoencoder",
    "linear_autoencoder_uncentered",
    "linear_autoencoder_gradient",
    "ppca_ml",
    "ppca_em",
    "ppca_px_em",
    "vem_full",
    "vem_diagonal",
    "vem_isotropic",
    "amortized_linear_full",
    "amortized_linear_diagonal",
    "amortized_linear_isotropic",
];

const FIGURES: [&str; 14] = [
    "name",
    "log_likelihood",
    "log_likelihood_standard_error",
    "elbo",
    "reconstruction",
    "kl",
    "gap",
    "approximation_gap",
    "amortization_gap",
    "sum_squared_error",
    "noise_variance",
    "iterations",
    "stop",
    "seconds",
];

#[test]
fn figures_in_their_order_and_null_where_there_is_none() {
    let folder = Folder::new("order");
    let iris = folder.write("iris.csv.gz", IRIS);
    let figures = folder.figures(&["--data", &iris, "--latent-dim", "2", "--seed", "3"]);
    assert_eq!((&figures["observations"], &figures["data_dim"]), (&150.into(), &4.into()));
    assert_eq!((&figures["latent_dim"], &figures["seed"]), (&2.into(), &3.into()));
    let steps = figures["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(&names[..12], LINEAR);
    for step in steps {
        let name = step["name"].as_str().unwrap();
        assert_eq!(step.as_object().unwrap().len(), FIGURES.len(), "{name}");
        assert!(FIGURES.iter().all(|figure| step.get(figure).is_some()), "{name}");
        let without_density = name.starts_with("linear_autoencoder");
        for figure in &FIGURES[1..9] {
            assert_eq!(step[figure].is_null(), without_density, "{name}: {figure}");
        }
        assert_eq!(step["noise_variance"].is_null(), without_density, "{name}");
        assert!(
            step["sum_squared_error"].as_f64().unwrap() > 0.0
                && step["seconds"].as_f64().unwrap() >= 0.0
        );
        let stops =
            ["closed_form", "converged", "iteration_limit", "early_stop", "floor", "diverged"];
        assert!(stops.contains(&step["stop"].as_str().unwrap()), "{name}");
    }
    let of = |name: &str| steps.iter().find(|s| s["name"] == name).unwrap();
    let log_p = -404.9627801561 / 150.0;
    for name in &LINEAR[3..8] {
        assert!((of(name)["elbo"].as_f64().unwrap() - log_p).abs() < 1e-5, "{name}");
    }
    assert!((of("vem_isotropic")["elbo"].as_f64().unwrap() + 475.7852012676 / 150.0).abs() < 1e-5);
    assert_eq!(of("ppca_ml")["stop"], "closed_form");
    assert_eq!(of("ppca_ml")["iterations"], 0);
    // The keys stand in this order in the file as well.
    let text = std::fs::read_to_string(folder.0.join("out.json")).unwrap();
    let first = &text[text.find("\"steps\"").unwrap()..];
    let places: Vec<usize> =
        FIGURES.iter().map(|f| first.find(&format!("\"{f}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!folder.0.join("target").exists(), "--no-plots writes no pictures");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let folder = Folder::new("seed");
    let data = folder.write("small.csv", small());
    let without_time = |mut figures: serde_json::Value| {
        figures["steps"].as_array_mut().unwrap().iter_mut().for_each(|s| s["seconds"] = 0.into());
        figures
    };
    let one =
        without_time(folder.figures(&["--data", &data, "--latent-dim", "1", "--threads", "1"]));
    assert_eq!(
        one,
        without_time(folder.figures(&["--data", &data, "--latent-dim", "1", "--threads", "2"]))
    );
}

#[test]
fn labels_and_columns_kept_apart() {
    let folder = Folder::new("label");
    let kind: String = small()
        .lines()
        .enumerate()
        .map(|(i, l)| format!("{l},{}\n", if i == 0 { "kind" } else { "x" }))
        .collect();
    let data = folder.write("kinds.csv", &kind);
    let said = folder.refusal(&["--data", &data], 1);
    assert!(
        said.contains("\"kind\"")
            && said.contains("is not a number")
            && said.starts_with("kinds.csv: "),
        "{said}"
    );
    assert_eq!(
        folder.figures(&["--data", &data, "--label", "kind", "--latent-dim", "1"])["data_dim"],
        3
    );
    assert_eq!(
        folder.figures(&["--data", &data, "--ignore", "kind,c", "--latent-dim", "1"])["data_dim"],
        2
    );
    let said = folder.refusal(&["--data", &data, "--ignore", "nothing"], 1);
    assert!(said.contains("there is no column \"nothing\" among the 4 columns"), "{said}");
    let data = folder.write("comma.csv", kind.replacen("a,b,c,kind", "a,b,c,\"kind, of\"", 1));
    assert_eq!(
        folder.figures(&["--data", &data, "--ignore", "\"kind, of\",c", "--latent-dim", "1"])["data_dim"],
        2
    );
    let plain: String = small().lines().skip(1).map(|l| format!("{l}\n")).collect();
    let data = folder.write("headless.csv", plain);
    assert_eq!(folder.figures(&["--data", &data, "--latent-dim", "1"])["observations"], 9);
}

/// The header of an `.npy` file of version 1.
fn npy(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let mut header = dictionary.to_owned();
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(content);
    bytes
}

fn idx(shape: &[u32], content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(shape.len()).unwrap()];
    shape.iter().for_each(|axis| bytes.extend(axis.to_be_bytes()));
    bytes.extend(content);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn other_formats() {
    let folder = Folder::new("formats");
    let values: Vec<u8> =
        (0..30u32).flat_map(|i| (f64::from(i * i % 13) + 0.5).to_le_bytes()).collect();
    let data = folder.write(
        "table.npy",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10, 3), }", &values),
    );
    let figures = folder.figures(&["--data", &data, "--latent-dim", "1"]);
    assert_eq!((&figures["observations"], &figures["data_dim"]), (&10.into(), &3.into()));
    let pixels: Vec<u8> = (0..80u32).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
    let data = folder.write("images.idx3-ubyte.gz", gzip(&idx(&[20, 2, 2], &pixels)));
    let figures = folder.figures(&["--data", &data, "--latent-dim", "2"]);
    assert_eq!((&figures["observations"], &figures["data_dim"]), (&20.into(), &4.into()));
}

/// What a file does not state is assumed with a note, or stated by an option.
#[test]
fn dialects() {
    let folder = Folder::new("dialects");
    let row = |i: u32| format!("{},5;{};{},25\r\n", i * 3 % 7, i * i % 11, i * 5 % 4);
    let rows: String = (0..9).map(row).collect();
    let data = folder.write("years.txt", format!("2019;2020;2021\r\n{rows}"));
    let arguments = ["--data", &data, "--latent-dim", "1", "--quick", "--no-plots"];
    let output = folder.run(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note: ")).collect();
    assert_eq!(notes.len(), 3, "{said}");
    assert!(notes.iter().all(|note| note.starts_with("note: years.txt: ")), "{said}");
    assert!(said.contains("9 observations of 3 variables"), "{said}");
    let figures = folder.figures(&["--data", &data, "--latent-dim", "1", "--header", "no"]);
    assert_eq!(figures["observations"], 10);
    let marked = folder.write("marked.csv", small() + "-9,1,2\n");
    let said = folder.refusal(&["--data", &marked, "--missing", "gone,-9"], 1);
    assert!(said.contains("line 11, column \"a\": the value is missing"), "{said}");
    assert!(said.contains("impute"), "{said}");
}

#[test]
fn precision_and_standardisation() {
    let folder = Folder::new("precision");
    let data = folder.write("small.csv", small());
    let of = |figures: &serde_json::Value, step: usize, figure: &str| {
        figures["steps"][step][figure].as_f64().unwrap()
    };
    let narrow = folder.figures(&["--data", &data, "--dtype", "f32"]);
    assert_eq!(narrow["latent_dim"], 2, "min(8, rank − 1)");
    let standard = folder.figures(&["--data", &data, "--standardize"]);
    // The squared error in closed form, and the same in other units: below the total of 9 × 3,
    // where each variance is 1.
    assert!(
        of(&narrow, 0, "sum_squared_error") > 0.0
            && of(&standard, 0, "sum_squared_error") < 27.0 / 3.0
    );
    assert!((of(&narrow, 3, "log_likelihood") - of(&narrow, 6, "elbo")).abs() < 1e-4);
}

#[test]
fn pictures_stand_in_target() {
    let folder = Folder::new("pictures");
    let data = folder.write("small.csv", small());
    let output = folder.run(&["--data", &data, "--latent-dim", "1", "--quick"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pages = std::fs::read_dir(folder.0.join("target").join("progression")).unwrap();
    let names: Vec<String> =
        pages.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(
        names.iter().any(|n| n.ends_with(".html")) && names.iter().any(|n| n == "spectrum.svg"),
        "{names:?}"
    );
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        LINEAR.iter().all(|step| table.lines().any(|l| l.split_whitespace().next() == Some(step))),
        "{table}"
    );
}

#[test]
fn what_cannot_be_written_is_said_before_the_work() {
    let folder = Folder::new("unwritable");
    for (path, reason) in
        [("missing/out.json", "its folder does not exist"), (".", "it is a folder")]
    {
        let output = folder.run(&["--quick", "--no-plots", "--json", path]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        // Alone on standard error: no step has begun.
        assert_eq!(told, format!("error: {path}: {reason}\n"));
    }
}

/// Whoever reads the table may stop reading.
#[test]
fn a_closed_standard_output_is_no_failure() {
    use std::process::Stdio;
    let folder = Folder::new("closed");
    let data = folder.write("small.csv", small());
    let arguments =
        ["--data", &data, "--latent-dim", "1", "--quick", "--no-plots", "--json", "out.json"];
    let mut command = Command::new(program());
    let mut child = command
        .args(arguments)
        .current_dir(&folder.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.0.join("out.json").exists());
}

#[test]
fn usage_is_exit_code_2() {
    let folder = Folder::new("usage");
    for (arguments, said) in [
        (&["--nonsense"][..], "invalid option '--nonsense'"),
        (&["--dtype", "f16"], "is not f32 or f64"),
        (&["--latent-dim", "0"], "is not a positive integer"),
        (&["--threads", "0"], "is not a positive integer"),
        (&["--threads", "100000"], "is not at most 1024"),
        (&["--seed", "-1"], "is not an integer"),
        (&["--json", ""], "is not a file"),
        (&["--data", "--no-plots"], "option '--data' needs a value: FILE"),
        (&["stray"], "unexpected argument"),
    ] {
        let refused = folder.refusal(arguments, 2);
        assert!(refused.contains(said), "{arguments:?}: {refused}");
    }
    let data = folder.write("data.csv", small());
    let refused = folder.refusal(&["--data", &data, "--json", &data], 2);
    assert!(refused.contains("is the data"), "{refused}");
    let help = folder.run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--latent-dim K"));
}

#[test]
fn bad_data_is_exit_code_1() {
    let folder = Folder::new("bad");
    let of_f8 = |shape: &str, content: &[u8]| {
        npy(&format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"), content)
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.csv", vec![], "the file is empty"),
        ("header.csv", b"a,b\n".to_vec(), "a header of 2 columns and no rows"),
        ("ragged.csv", b"a,b\n1,2\n3\n".to_vec(), "line 3: expected 2 fields, found 1"),
        ("text.csv", b"a,b\n1,2\n3,x\n".to_vec(), "line 3, column \"b\": \"x\" is not a number"),
        ("hole.csv", b"a,b\n1,2\n3,\n".to_vec(), "line 3, column \"b\": the value is missing"),
        ("infinite.csv", b"a,b\n1,2\n3,inf\n".to_vec(), "infinite or out of range"),
        (
            "huge.csv",
            b"a,b\n1,2\n3,1e200\n4,5\n".to_vec(),
            "huge.csv: row 2, column \"b\": 1e200 is too large",
        ),
        (
            "constant.csv",
            b"a,b\n1,2\n1,2\n1,2\n".to_vec(),
            "all 2 variables are constant over 3 observations",
        ),
        ("one.csv", b"a,b\n1,2\n".to_vec(), "1 observations, and at least 2 are needed"),
        ("line.csv", b"a,b\n1,2\n2,4\n3,6\n".to_vec(), "rank 1"),
        ("notes.pdf", b"1,2\n".to_vec(), "ends in none of .csv, .npy and .idxN-ubyte"),
        ("plain.csv.gz", b"a,b\n1,2\n".to_vec(), "1 observations, and at least 2 are needed"),
        (
            "date.csv",
            b"a,date\n1,2026-11-01\n".to_vec(),
            "\"2026-11-01\" is not a number but a date or time (--ignore date leaves",
        ),
        ("quoted.csv", b"a,\"b, c\"\n1,x\n".to_vec(), "(--ignore '\"b, c\"' leaves"),
        ("two.csv", b"a,a\n1,2\n".to_vec(), "(--ignore a, or --header no)"),
        ("one.csv", b"1,5\n2,7\n3,1\n2,2\n".to_vec(), "(--separator , or --decimal ,)"),
        ("wide.csv", ",".repeat(1 << 21).into(), "(--max-columns)"),
        ("cut.csv.gz", IRIS[..IRIS.len() / 2].to_vec(), "truncated"),
        ("labels.idx1-ubyte.gz", LABELS.to_vec(), "two axes or more are needed"),
        ("forged.npy", of_f8("(1000000000000, 3)", &[0; 24]), "the header announces"),
        (
            "oversized.npy",
            of_f8("(18446744073709551615, 18446744073709551615)", &[0; 24]),
            "exceeds the address space",
        ),
        ("magic.npy", b"PK\x03\x04....".to_vec(), "the first bytes are"),
        ("header.npy", npy("{'descr': '<f8'", &[]), "npy header"),
        (
            "objects.npy",
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }", &[0; 32]),
            "is not a real number type",
        ),
        ("forged.idx3-ubyte", idx(&[u32::MAX, 28, 28], &[0; 100]), "the header announces"),
    ];
    for (name, content, said) in cases {
        let data = folder.write(name, content);
        let refused = folder.refusal(&["--data", &data], 1);
        assert!(refused.contains(said) && refused.contains(name), "{name}: {refused}");
    }
    let said = folder.refusal(&["--data", "absent.csv"], 1);
    assert!(said.starts_with("absent.csv: cannot read the file"), "{said}");
    let data = folder.write("small.csv", small());
    let said = folder.refusal(&["--data", &data, "--latent-dim", "3"], 1);
    assert!(said.contains("rank 3") && said.contains("latent dimension of 3"), "{said}");
    let said = folder.refusal(&["--data", &data, "--latent-dim", "4"], 1);
    assert!(said.contains("the latent dimension 4 is not between 1 and 3"), "{said}");
    let said = folder
        .refusal(&["--data", &data, "--latent-dim", "1", "--json", "no/such/folder/out.json"], 1);
    assert!(said.starts_with("no/such/folder/out.json: "), "{said}");
}

/// A table of tests/cases.
fn case(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(name)).unwrap()
}

#[test]
fn a_column_that_is_constant_but_for_rounding_is_not_scaled() {
    let folder = Folder::new("constant");
    let figures = |name: &str| {
        let file = folder.write(name, case(name));
        let options = ["--data", &file, "--standardize", "--latent-dim", "1"];
        folder.figures(&options)["steps"].as_array().unwrap().clone()
    };
    let (found, control) = (figures("nearly_constant.csv"), figures("constant.csv"));
    for (found, control) in found.iter().zip(&control) {
        let error = |step: &serde_json::Value| step["sum_squared_error"].as_f64().unwrap();
        assert!((error(found) / error(control) - 1.0).abs() < 1e-6, "{found} {control}");
    }
    assert!((found[0]["sum_squared_error"].as_f64().unwrap() - 41.297_933).abs() < 1e-6);
}

#[test]
fn an_offset_that_single_precision_cannot_hold_is_refused_before_the_first_step() {
    let folder = Folder::new("offset");
    let file = folder.write("offset.csv", case("offset_f32.csv"));
    let options = ["--data", &file, "--latent-dim", "1", "--dtype", "f32"];
    let said = folder.refusal(&options, 1);
    assert!(!said.contains("[1/"), "{said}");
    for part in ["column \"x\"", "f32", "4.19430", "subtract the offset", "f64"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Both ways out.
    let double = folder.figures(&["--data", &file, "--latent-dim", "1"]);
    let noise = double["steps"][3]["noise_variance"].as_f64().unwrap();
    assert!((noise - 0.035_026_94).abs() < 1e-7, "{noise}");
    folder.figures(&[&options[..], &["--standardize"]].concat());
}

#[test]
fn a_rule_chooses_the_latent_dimension() {
    let folder = Folder::new("rules");
    let table = folder.write("total.csv", include_bytes!("../cases/redundant_total.csv"));
    let figures = folder.figures(&["--data", &table, "--latent-dim", "bic", "--quick"]);
    assert_eq!(figures["latent_dim"], 2, "the total says nothing new");
    for (rule, message) in [
        ("bac", "is not a positive integer or a rule"),
        ("share:0", "is not a positive integer or a rule"),
        ("share:1.5", "is not a positive integer or a rule"),
    ] {
        let run = folder.run(&["--data", &table, "--latent-dim", rule]);
        assert_eq!(run.status.code(), Some(2), "{rule}");
        assert!(String::from_utf8_lossy(&run.stderr).contains(message), "{rule}");
    }
    // Independent variables: 0 is an answer, and no model is fitted.
    let mut noise = String::from("a,b,c\n");
    let mut state = 1u64;
    let mut value = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 44
    };
    for _ in 0..200 {
        noise += &format!("{},{},{}\n", value(), value(), value());
    }
    let table = folder.write("noise.csv", noise);
    let run = folder.run(&["--data", &table, "--latent-dim", "parallel"]);
    assert_eq!(run.status.code(), Some(1), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stderr).contains("finds no latent dimension"));
}

//! Small files as people have them, with right values, and the example programs that take sizes.

use elbo::data::files::{Missing, ReadOptions, Table, read};
use std::path::Path;
use std::process::Command;

fn case(name: &str, options: &ReadOptions) -> Result<Table<f64>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(name);
    read(path, options).map_err(|error| error.to_string())
}

#[test]
fn cases() {
    let options = ReadOptions::default();
    // Years above 20 rows of decimals.
    let table = case("header_of_numbers.csv", &options).unwrap();
    assert_eq!((table.values.shape(), table.names.join(" ")), ((3, 20), "2019 2020 2021".into()));
    for (name, variables) in
        [("row_numbers.csv", 3), ("row_names.csv", 3), ("trailing_comma.csv", 3)]
    {
        let table = case(name, &options).unwrap();
        assert_eq!(table.values.shape(), (variables, 20), "{name}");
        assert_eq!((table.names.join(" "), table.notes.len()), ("a b c".into(), 1), "{name}");
    }
    let table = case("semicolon_decimal_comma.csv", &options).unwrap();
    assert_eq!((table.values.nrows(), table.values[(1, 1)]), (2, 4.33));
    // One number with a decimal comma, not two integers: one has a leading zero behind the comma.
    let table = case("one_column_decimal_comma.csv", &options).unwrap();
    assert_eq!(table.values.shape(), (1, 20));
    assert!(table.notes[0].contains("option separator"), "{:?}", table.notes);
    let table = case("one_column_decimal_comma.csv", &options.clone().decimal(',')).unwrap();
    assert_eq!((table.values.nrows(), table.values[(0, 1)]), (1, 4.78));
    let table = case("one_column_decimal_comma.csv", &options.clone().separator(',')).unwrap();
    assert_eq!(table.values.nrows(), 2);
    let table = case("marks.csv", &options.clone().missing(Missing::Allow)).unwrap();
    assert_eq!((table.missing, table.marks.len()), (9, 9));
    let table = case("two_columns_missing.csv", &options.clone().missing(Missing::Allow)).unwrap();
    assert_eq!((table.values.shape(), table.missing), ((2, 5), 2));
}

#[test]
fn arrays() {
    let options = ReadOptions::default();
    let halves = [1.0, 2.0, -1.0, 0.333251953125, 65504.0, 5.960464477539063e-8, -0.0, 1.5];
    assert_eq!(case("half.npy", &options).unwrap().values.as_slice(), halves);
    let table = case("floats.idx2-float", &options).unwrap();
    assert_eq!(table.values.as_slice(), [1.0, 2.5, -3.0, 4.0]);
}

#[test]
fn sizes_that_are_none_are_one_line() {
    let tests = std::env::current_exe().unwrap();
    let examples = tests.parent().and_then(Path::parent).unwrap().join("examples");
    for (name, arguments) in [
        ("out_of_core", &["0", "0"][..]),
        ("out_of_core", &["100", "8"]),
        ("out_of_core", &["many"]),
        ("out_of_core", &["100", "100", "100"]),
        ("wide", &["-3"]),
        ("wide", &["100", "1e3"]),
        ("wide", &["99999999999999999999"]),
    ] {
        let path = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let output = Command::new(path).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {said}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    }
}

//! The data sets kept with the examples.

use super::*;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name)
}

#[test]
fn digits() {
    let table = read::<f32>(data("digits-images.idx3-ubyte.gz"), &ReadOptions::default()).unwrap();
    assert_eq!(table.values.shape(), (64, 1797));
    assert_eq!((table.values.min(), table.values.max()), (0.0, 16.0));
    let labels = IdxArray::read(data("digits-labels.idx1-ubyte.gz")).unwrap();
    assert_eq!(labels.shape, [1797]);
    assert_eq!(labels.bytes[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn iris_and_wine_have_labels() {
    for (name, d, n) in [("iris.csv.gz", 4, 150), ("wine.csv.gz", 13, 178)] {
        let table = read::<f64>(data(name), &ReadOptions::default()).unwrap();
        assert_eq!((table.values.shape(), table.header), ((d, n), true));
        assert_eq!(table.classes().unwrap().1, ["0", "1", "2"]);
        assert_eq!(table.missing, 0);
    }
}

#[test]
fn penguins_have_holes_and_are_written_again() {
    let path = data("penguins.csv.gz");
    let text = read::<f64>(&path, &ReadOptions::default()).unwrap_err();
    assert_eq!(text.to_string(), "line 2, column \"species\": \"Adelie\" is not a number");
    let options = ReadOptions::default().label("species").ignore(["island", "sex", "year"]);
    let hole = read::<f64>(&path, &options).unwrap_err();
    let message = hole.to_string();
    assert!(message.starts_with("line 5, column \"bill_length_mm\": the value is missing"));
    let options = options.missing(Missing::Allow);
    let table = read::<f64>(&path, &options).unwrap();
    assert_eq!((table.values.shape(), table.missing), ((4, 344), 8));
    assert_eq!(table.classes().unwrap().1, ["Adelie", "Chinstrap", "Gentoo"]);
    let copy = Scratch::new("penguins.csv.gz");
    write_csv(&copy.0, &table).unwrap();
    let again = read::<f64>(&copy.0, &options).unwrap();
    assert_eq!(
        (again.apart, again.names, again.missing),
        (table.apart, table.names, table.missing)
    );
}

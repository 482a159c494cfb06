//! Writing: formats by name, and what a failure leaves behind.

use super::*;
use nalgebra::dmatrix;

fn options() -> ReadOptions {
    ReadOptions::default().missing(Missing::Allow).keep_text(true)
}

#[test]
fn the_name_chooses_the_format() {
    let text = "a;b\n1,50;2\n;4,25\n3,5;1\n";
    let mut table = csv_with(text, &options()).unwrap();
    table.values[(0, 1)] = 0.125;
    for (name, written) in [
        ("a.csv", "a;b\n1,50;2\n0,125;4,25\n3,5;1\n"),
        ("a.txt", "a;b\n1,50;2\n0,125;4,25\n3,5;1\n"),
        ("a.tsv", "a\tb\n1,50\t2\n0,125\t4,25\n3,5\t1\n"),
    ] {
        let file = Scratch::new(name);
        write(&file.0, &table).unwrap();
        assert_eq!(std::fs::read_to_string(&file.0).unwrap(), written);
        assert_eq!(read::<f64>(&file.0, &ReadOptions::default()).unwrap().values, table.values);
    }
    let file = Scratch::new("a.npy");
    write(&file.0, &table).unwrap();
    assert_eq!(read::<f64>(&file.0, &ReadOptions::default()).unwrap().values, table.values);
    for name in ["a.npz", "a.idx2-ubyte", "a.pdf"] {
        let file = Scratch::new(name);
        assert!(write(&file.0, &table).unwrap_err().to_string().starts_with("\"elbo-"));
        assert!(!file.0.exists());
    }
}

#[test]
fn all_of_a_table_is_written_back() {
    for text in [
        "\u{feff}a,b\r\n1,2\r\n3,?\r\n",
        "\"\" a b\ns0 1 NA\ns1 2.50 3\n",
        "a b\ns0 1 NA\ns1 2.50 3\n",
        "a|b|kind\n1|2|\"x|y\"\n3|4|z\n",
        "a,b,\n1,2,\n3,4,\n",
        "2019,2020\n1.5,2.5\n3.25,4.5\n3.5,4.75\n",
    ] {
        let options = options();
        let options = if text.contains("kind") { options.label("kind") } else { options };
        let table = csv_with(text, &options).unwrap();
        let bytes = encode_csv(&table).unwrap();
        let again = csv_with(std::str::from_utf8(&bytes).unwrap(), &options).unwrap();
        assert_eq!((again.names, again.apart), (table.names, table.apart));
        if !text.starts_with('"') {
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}

/// A table that cannot be written, and a folder without room for a new file, leave the old one.
#[test]
fn a_failure_leaves_the_file_as_it_was() {
    let file = Scratch::of("kept.csv", b"precious\n");
    let mut table = Table::new(dmatrix![1.0, 2.0]);
    table.values[0] = f64::INFINITY;
    assert!(write(&file.0, &table).is_err());
    let failing = |out: &mut dyn std::io::Write| {
        out.write_all(&[0; 100_000])?;
        Err(std::io::ErrorKind::StorageFull.into())
    };
    let error = super::super::write::create(&file.0, failing).unwrap_err();
    assert_eq!(error, FileError::Unwritable { kind: std::io::ErrorKind::StorageFull });
    assert_eq!(std::fs::read(&file.0).unwrap(), b"precious\n");
    let name = file.0.file_name().unwrap().to_string_lossy().into_owned();
    let beside = std::fs::read_dir(file.0.parent().unwrap()).unwrap().flatten();
    let left = beside.filter(|entry| entry.file_name().to_string_lossy().contains(&name));
    assert_eq!(left.count(), 1, "no temporary file is left");
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let table = Table::new(dmatrix![1.0, 2.0]);
    let (file, link) = (Scratch::of("target.csv", b"old\n"), Scratch::new("link.csv"));
    std::fs::set_permissions(&file.0, PermissionsExt::from_mode(0o600)).unwrap();
    symlink(&file.0, &link.0).unwrap();
    write(&link.0, &table).unwrap();
    assert!(std::fs::symlink_metadata(&link.0).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&file.0).unwrap(), "1\n2\n");
    assert_eq!(std::fs::metadata(&file.0).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file.0, PermissionsExt::from_mode(0o400)).unwrap();
    assert!(write(&file.0, &table).is_err());
    write("/dev/null", &table).unwrap();
}

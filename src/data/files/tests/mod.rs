//! Tests of the readers and writers: one for each rule, round trips, and malformed input.

mod csv;
mod limits;
mod npy;
mod npz;
mod properties;
mod real;
mod tables;
mod writing;

use super::*;

pub(super) fn csv<T: Real>(text: impl AsRef<[u8]>) -> Result<Table<T>, FileError> {
    decode(text.as_ref(), Format::Csv, &ReadOptions::default())
}

pub(super) fn csv_with(text: &str, options: &ReadOptions) -> Result<Table<f64>, FileError> {
    decode(text.as_bytes(), Format::Csv, options)
}

/// Returns the error message for a CSV text.
pub(super) fn refused(text: impl AsRef<[u8]>) -> String {
    csv::<f64>(text).unwrap_err().to_string()
}

/// A temporary file that is removed at the end of the test.
pub(super) struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("elbo-{}-{number}-{name}", std::process::id())))
    }

    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let scratch = Self::new(name);
        std::fs::write(&scratch.0, bytes).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[test]
fn the_name_tells_the_format() {
    for (name, format) in [
        ("a.csv", Format::Csv),
        ("A.CSV.GZ", Format::Csv),
        ("x.npy", Format::Npy),
        ("x.npy.gz", Format::Npy),
        ("dir.csv/train-images-idx3-ubyte.gz", Format::Idx),
        ("labels.idx1-ubyte", Format::Idx),
        ("floats.idx2-float", Format::Idx),
        ("a-idx3-double.gz", Format::Idx),
        ("a.npz", Format::Npy),
        ("a.tsv", Format::Csv),
        ("a.TXT.gz", Format::Csv),
        ("iris.data", Format::Csv),
    ] {
        assert_eq!(Format::of(name), Ok(format), "{name}");
    }
    for name in ["a.pdf", "csv", "", "a.gz", "a.csv.zip", "x.idx-ubyte", "ubyte"] {
        assert!(matches!(Format::of(name), Err(FileError::UnknownFormat { .. })), "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_says_so() {
    let absent = Scratch::new("absent.csv");
    let error = read::<f64>(&absent.0, &ReadOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the file: entity not found");
    let table = Table::new(nalgebra::dmatrix![1.0]);
    let error = write_csv(absent.0.join("below.csv"), &table).unwrap_err();
    assert!(matches!(error, FileError::Unwritable { .. }));
}

#[cfg(unix)]
#[test]
fn a_folder_is_no_file() {
    let folder = Scratch::new("folder.csv");
    std::fs::create_dir(&folder.0).unwrap();
    let error = read::<f64>(&folder.0, &ReadOptions::default()).unwrap_err();
    std::fs::remove_dir(&folder.0).unwrap();
    assert_eq!(error.to_string(), "cannot read the file: is a directory");
}

#[test]
fn gzip_is_recognised_by_content_under_any_name() {
    let packed = source::gzip(b"1,2\n3,4\n");
    for name in ["a.csv", "a.csv.gz"] {
        let file = Scratch::of(name, &packed);
        assert_eq!(read::<f64>(&file.0, &ReadOptions::default()).unwrap().values.len(), 4);
    }
    let file = Scratch::of("plain.csv.gz", b"1,2\n3,4\n");
    assert_eq!(read::<f64>(&file.0, &ReadOptions::default()).unwrap().values.len(), 4);
    let file = Scratch::of("cut.csv.gz", &packed[..packed.len() - 5]);
    let error = read::<f64>(&file.0, &ReadOptions::default()).unwrap_err();
    assert_eq!(error, FileError::TruncatedGzip { bytes: 8 });
}

#[test]
fn a_bomb_of_one_endless_field_stops_at_the_limit() {
    let bomb = source::gzip(&vec![b'0'; 1 << 22]);
    let options = ReadOptions::default().max_bytes(1 << 20);
    let error = decode::<f64>(&bomb, Format::Csv, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the content exceeds the limit of 1048576 bytes, which the option max_bytes sets"
    );
}

//! Readers and writers of table files: CSV, NumPy (`.npy`) and IDX (`.idxN-ubyte`), plain or
//! gzip-compressed.
//!
//! | name | content | observations |
//! |---|---|---|
//! | `*.csv` | comma-separated values, header optional | the records |
//! | `*.npy` | floats, integers, booleans; any byte order; C or Fortran order | the first axis |
//! | `*.idxN-ubyte` | bytes | the first axis |
//!
//! In `.npy` and IDX files, the axes after the first are flattened into the variables of an
//! observation. Each name may end in `.gz`, and content that begins with the gzip magic bytes is
//! decompressed whatever the name. [`read`] reads a path, [`decode`] a byte slice
//! (`include_bytes!`), and [`NpyBlocks`] a file larger than memory. [`write_csv`] and [`write_npy`]
//! write files.
//!
//! Files are untrusted input. The sizes in a header are checked against the length of the file
//! before memory is allocated, the output of decompression is bounded
//! ([`ReadOptions::max_bytes`]), and every error is a [`FileError`] whose message is one line with
//! the sizes and positions that disagree.
//!
//! In CSV, blank lines are skipped, white space around a field is removed, a field may be quoted, a
//! byte-order mark is skipped, and every line ending is read as `\n`. A number has the syntax of
//! Rust's `f64::from_str` and must be finite.
//!
//! ```
//! use elbo::data::files::{decode, Format, Missing, ReadOptions};
//! let penguins = b"bill,flipper,species\n39.1,181,Adelie\n,193,Gentoo\n";
//! let options = ReadOptions::default().label("species").missing(Missing::Allow);
//! let table = decode::<f64>(penguins, Format::Csv, &options)?;
//! assert_eq!(table.values.shape(), (2, 2)); // d×n: one observation a column
//! assert_eq!(table.missing, 1);
//! assert_eq!(table.labels().unwrap(), ["Adelie", "Gentoo"]);
//! # Ok::<(), elbo::data::files::FileError>(())
//! ```

mod csv;
mod error;
mod idx;
mod newlines;
mod npy;
mod npy_blocks;
mod npy_header;
mod options;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use error::FileError;
#[doc(hidden)] // a field of errors
pub use error::Location;
#[doc(hidden)] // arrays of any shape, for the programs
pub use idx::IdxArray;
pub use npy::write_npy;
pub use npy_blocks::NpyBlocks;
pub use options::{Header, Missing, ReadOptions};
pub use table::Table;
#[doc(hidden)] // a field of the table
pub use table::TextColumn;
#[doc(hidden)]
pub use write::encode_csv;
pub use write::write_csv;

use crate::Real;
use source::Source;
use std::path::Path;

/// File format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Comma-separated values (`.csv`).
    Csv,
    /// NumPy array (`.npy`).
    Npy,
    /// IDX array of bytes (`.idxN-ubyte`), the format of the MNIST files.
    Idx,
}

impl Format {
    /// Returns the format implied by the extension of a file name; a final `.gz` is ignored.
    ///
    /// ```
    /// use elbo::data::files::Format;
    /// assert_eq!(Format::of("iris.csv.gz")?, Format::Csv);
    /// assert_eq!(Format::of("t10k-images.idx3-ubyte.gz")?, Format::Idx);
    /// assert!(Format::of("notes.txt").is_err());
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    ///
    /// # Errors
    /// [`FileError::UnknownFormat`] for a name that ends in none of `.csv`, `.npy` and
    /// `.idxN-ubyte`.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let name = path.as_ref().file_name().unwrap_or_default().to_string_lossy();
        // Case-insensitive, for files from systems that write `.CSV`.
        let lower = name.to_lowercase();
        let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
        // The MNIST files are found under both names, `images.idx3-ubyte` and `images-idx3-ubyte`.
        let idx = stem
            .strip_suffix("-ubyte")
            .and_then(|stem| stem.strip_suffix(|axes: char| axes.is_ascii_digit()));
        match stem {
            _ if stem.ends_with(".csv") => Ok(Self::Csv),
            _ if stem.ends_with(".npy") => Ok(Self::Npy),
            _ if idx.is_some_and(|stem| stem.ends_with(".idx") || stem.ends_with("-idx")) => {
                Ok(Self::Idx)
            }
            _ => Err(FileError::UnknownFormat { name: name.into_owned() }),
        }
    }
}

/// Reads a table from a file, in the format implied by the file name ([`Format::of`]).
///
/// ```
/// # let path = std::env::temp_dir().join(format!("elbo-doc-read-{}.csv", std::process::id()));
/// use elbo::data::files::{read, ReadOptions};
/// std::fs::write(&path, "1,2\n3,4\n5,6\n").unwrap();
/// let table = read::<f32>(&path, &ReadOptions::default())?;
/// assert_eq!(table.values.shape(), (2, 3));
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
///
/// # Errors
/// [`FileError`] if the file cannot be read, its name has no known extension, or its content is
/// invalid.
pub fn read<T: Real>(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Table<T>, FileError> {
    let path = path.as_ref();
    let format = Format::of(path)?;
    table(Source::open(path, options.max_bytes)?, format, options)
}

/// Reads a table from the bytes of a file in memory, plain or gzip-compressed.
///
/// # Errors
/// [`FileError`] if the content is invalid.
pub fn decode<T: Real>(
    bytes: &[u8],
    format: Format,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    table(Source::memory(bytes, options.max_bytes)?, format, options)
}

fn table<T: Real>(
    source: Source<'_>,
    format: Format,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    match format {
        Format::Csv => csv::read(source, options),
        Format::Npy => npy::read(source, options),
        Format::Idx => idx::read(source, options),
    }
}

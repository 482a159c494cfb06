//! Tables in files: CSV, NumPy (`.npy`) and IDX (`.idxN-ubyte`), each plain or in gzip.
//!
//! | name | content | observations |
//! |---|---|---|
//! | `*.csv` | comma-separated values, header optional | the lines |
//! | `*.npy` | real numbers, integers or booleans, any byte order, C or Fortran order | the first axis; further axes are flattened |
//! | `*.idxN-ubyte` | bytes | the first axis; further axes are flattened |
//!
//! `.gz` may follow each name, and what begins as gzip is decompressed under any name. [`read`]
//! takes a path, [`decode`] bytes in memory (`include_bytes!`), [`NpyBlocks`] a file larger than
//! memory; [`write_csv`] and [`write_npy`] write.
//!
//! A file is not trusted: sizes in a header are checked against the length of the file before
//! memory is taken, what comes out of gzip is bounded ([`ReadOptions::max_bytes`]), and every
//! refusal is a [`FileError`] of one line with its numbers.
//!
//! In CSV, blank lines are skipped, spaces around a field are not part of it, a field may be
//! quoted, a byte-order mark is skipped, and line ends of every kind are read as `\n`. A number is
//! what Rust parses as one; it must be finite.
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

pub use error::{FileError, Location};
pub use idx::IdxArray;
pub use npy::write_npy;
pub use npy_blocks::NpyBlocks;
pub use options::{Header, Missing, ReadOptions};
pub use table::{Table, TextColumn};
pub use write::{encode_csv, write_csv};

use crate::Real;
use source::Source;
use std::path::Path;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// A NumPy array.
    Npy,
    /// The format of MNIST.
    Idx,
}

impl Format {
    /// The format that the name of a file tells.
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
    /// A name that ends in none of `.csv`, `.npy` and `.idxN-ubyte`.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let name = path.as_ref().file_name().unwrap_or_default().to_string_lossy();
        let lower = name.to_lowercase();
        let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
        // MNIST itself writes both `images.idx3-ubyte` and `images-idx3-ubyte`
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

/// Reads a table from a file, in the format that its name tells.
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
/// A file that cannot be read, or whose content is refused; see [`FileError`].
pub fn read<T: Real>(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Table<T>, FileError> {
    let path = path.as_ref();
    let format = Format::of(path)?;
    table(Source::open(path, options.max_bytes)?, format, options)
}

/// Reads a table from the content of a file.
///
/// # Errors
/// Content that is refused; see [`FileError`].
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

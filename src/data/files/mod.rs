//! Readers and writers of table files: delimited text (CSV), NumPy (`.npy`, `.npz`) and IDX, plain
//! or gzip-compressed.
//!
//! | name | content | observations |
//! |---|---|---|
//! | `*.csv`, `.tsv`, `.tab`, `.txt`, `.data`, `.dat` | delimited text, header optional | the records |
//! | `*.npy`, `*.npz` | floats, integers, booleans; any byte order; C or Fortran order | the first axis |
//! | `*.idxN-ubyte`, `-byte`, `-short`, `-int`, `-float`, `-double` | numbers | the first axis |
//!
//! In arrays, the axes after the first are flattened into the variables of an observation; an
//! `.npy` file of one axis has one variable. Each name may end in `.gz`; whether content is
//! compressed is recognised by its first bytes, whatever the name. [`read`] reads a path,
//! [`decode`] a byte slice (`include_bytes!`), and [`NpyBlocks`] a file larger than memory.
//! [`write()`] writes a table in the format of the file name; a failure leaves an existing file as it
//! was.
//!
//! Files are untrusted input. The sizes in a header are checked against the length of the file
//! before memory is allocated; the bytes that are read, the memory for the table, the number of
//! columns and the length of a record have limits ([`ReadOptions::max_bytes`],
//! [`ReadOptions::max_columns`]); and every error is a [`FileError`] whose message is one line with
//! the sizes and positions that disagree.
//!
//! In delimited text, blank lines are skipped, white space around a field is removed, a field may
//! be quoted, every line ending is accepted, and UTF-8 (with or without a byte-order mark), UTF-16
//! and Latin-1 are read. What the file does not state is detected from its first records and can be
//! set in [`ReadOptions`]: the separator (a comma, semicolon, tab, `|`, white space, or that of a
//! line `sep=;`), the decimal mark, the header, and a first column of row names. Marks between
//! groups of thousands (`1,100.50`, `1 100.50`, `1'100.50`), a typographic minus sign and Fortran's
//! exponents (`1.5D+03`) are read where they have one meaning. [`Table::notes`] contains what was
//! assumed.
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

mod array;
mod csv;
mod dialect;
mod element;
mod encoding;
mod error;
mod header;
mod idx;
mod npy;
mod npy_blocks;
mod npy_header;
mod npz;
mod number;
mod options;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod text;
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
#[doc(hidden)] // for the programs, before the work
pub use write::written_format;
pub use write::{write, write_csv};

use crate::Real;
use source::Source;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

/// File format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Delimited text (`.csv`, `.tsv`, `.tab`, `.txt`, `.data`, `.dat`).
    Csv,
    /// NumPy array (`.npy`) or archive of arrays (`.npz`).
    Npy,
    /// IDX array (`.idxN-ubyte` and its other element types), the format of the MNIST files.
    Idx,
}

/// Endings of delimited text, and those of them whose separator is a tab.
const TEXT: [&str; 6] = [".csv", ".tsv", ".tab", ".txt", ".data", ".dat"];
const TABS: [&str; 2] = [".tsv", ".tab"];

/// Whether a file name has one of these endings, which a `.gz` may follow.
fn ends_in(path: &Path, endings: &[&str]) -> bool {
    // Case-insensitive, for files from systems that write `.CSV`.
    let lower = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = lower.strip_suffix(".gz").unwrap_or(&lower);
    endings.iter().any(|ending| stem.ends_with(ending))
}

impl Format {
    /// Returns the format implied by the extension of a file name; a final `.gz` is ignored.
    ///
    /// ```
    /// use elbo::data::files::Format;
    /// assert_eq!(Format::of("iris.csv.gz")?, Format::Csv);
    /// assert_eq!(Format::of("t10k-images.idx3-ubyte.gz")?, Format::Idx);
    /// assert!(Format::of("notes.pdf").is_err());
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    ///
    /// # Errors
    /// [`FileError::UnknownFormat`] for a name with another extension.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref();
        // The MNIST files are found under both names, `images.idx3-ubyte` and `images-idx3-ubyte`.
        let idx = |axes: u8| {
            let kinds = ["ubyte", "byte", "short", "int", "float", "double"];
            kinds.iter().any(|kind| {
                let [point, dash] = ['.', '-'].map(|mark| format!("{mark}idx{axes}-{kind}"));
                ends_in(path, &[&point, &dash])
            })
        };
        match () {
            () if ends_in(path, &TEXT) => Ok(Self::Csv),
            () if ends_in(path, &[".npy", ".npz"]) => Ok(Self::Npy),
            () if (0..10).any(idx) => Ok(Self::Idx),
            () => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Err(FileError::UnknownFormat { name: name.into_owned() })
            }
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
    if format == Format::Npy
        && let Some(archive) = archive(path).map_err(FileError::reading)?
    {
        return npz::read(BufReader::new(archive), options);
    }
    let source = Source::open(path, options.max_bytes)?;
    if ends_in(path, &TABS) && options.separator.is_none() {
        return table(source, format, &options.clone().separator('\t'));
    }
    table(source, format, options)
}

/// Opens a file if it is a NumPy archive, by its first bytes. Its directory is at its end, so that
/// it must be a file and no pipe.
fn archive(path: &Path) -> std::io::Result<Option<File>> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut magic = Vec::new();
    file.by_ref().take(npz::MAGIC.len() as u64).read_to_end(&mut magic)?;
    Ok((magic == npz::MAGIC).then_some(file))
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
    if format == Format::Npy && bytes.starts_with(npz::MAGIC) {
        return npz::read(Cursor::new(bytes), options);
    }
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

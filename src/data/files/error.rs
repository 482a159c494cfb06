//! What a file was refused for.

use std::fmt;
use std::io;

/// A place in a file: a line of text, or a row of an array. Both are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// A line of a text file; the header is line 1.
    Line(u64),
    /// A row of an array, which is one observation.
    Row(u64),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Line(line) => write!(f, "line {line}"),
            Location::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// What a file was refused for, in one lower-case line.
///
/// No message names the file: the caller knows it and puts it in front.
///
/// ```
/// use elbo::data::files::{FileError, Format, ReadOptions, decode};
/// let error = decode::<f64>(b"a,b\n1,2\n3,four\n", Format::Csv, &ReadOptions::default())
///     .unwrap_err();
/// assert_eq!(error.to_string(), r#"line 3, column "b": "four" is not a number"#);
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read the file: {kind}")]
    Unreadable {
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The file cannot be created or written.
    #[error("cannot write the file: {kind}")]
    Unwritable {
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The name says nothing that this module knows.
    #[error("{} ends in none of .csv, .npy and .idxN-ubyte (.gz may follow)", Quoted(name))]
    UnknownFormat {
        /// The last part of the path.
        name: String,
    },
    /// The name ends in `.gz`, and the content is no gzip.
    #[error("the name ends in .gz, but the content is not gzip")]
    NotGzip,
    /// The gzip stream ends before its own end mark.
    #[error("the gzip stream is truncated after {bytes} decompressed bytes")]
    TruncatedGzip {
        /// Decompressed bytes up to the break.
        bytes: u64,
    },
    /// The gzip stream contradicts itself.
    #[error("the gzip stream is corrupt after {bytes} decompressed bytes")]
    CorruptGzip {
        /// Decompressed bytes up to the fault.
        bytes: u64,
    },
    /// More bytes come out of a gzip stream than
    /// [`ReadOptions::max_bytes`](super::ReadOptions::max_bytes) allows.
    #[error("the decompressed content exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The file holds no record at all.
    #[error("the file is empty")]
    EmptyFile,
    /// There is a header and nothing below it.
    #[error("a header of {columns} columns and no rows")]
    HeaderOnly {
        /// Columns named in the header.
        columns: usize,
    },
    /// Every column is a label or ignored.
    #[error("no column of numbers is left: all {columns} columns are kept apart")]
    NoNumbers {
        /// Columns in the file.
        columns: usize,
    },
    /// An array without rows or without columns.
    #[error("the array is empty: {rows} rows and {columns} columns")]
    EmptyArray {
        /// Length of the first axis.
        rows: usize,
        /// Product of the other axes.
        columns: usize,
    },
    /// A field is not text.
    #[error("line {line}, field {field}: not utf-8")]
    NotUtf8 {
        /// Line, counted from 1.
        line: u64,
        /// Field of that line, counted from 1.
        field: usize,
    },
    /// A record has more or fewer fields than the first one.
    #[error("line {line}: expected {expected} fields, found {actual}")]
    Ragged {
        /// Line, counted from 1.
        line: u64,
        /// Fields of the first record.
        expected: usize,
        /// Fields of this record.
        actual: usize,
    },
    /// An entry of a numeric column is text.
    #[error("{place}, column {}: {} is not a number", Quoted(column), Quoted(text))]
    NotANumber {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
        /// The offending text.
        text: String,
    },
    /// An entry is infinite, or too large for the number type.
    #[error("{place}, column {}: {} is infinite or out of range", Quoted(column), Quoted(text))]
    Infinite {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
        /// The offending text.
        text: String,
    },
    /// An entry is missing, and the caller wanted complete data.
    #[error("{place}, column {}: the value is missing", Quoted(column))]
    Missing {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
    },
    /// A column that the caller named does not exist.
    #[error("there is no column {} among the {columns} columns", Quoted(name))]
    UnknownColumn {
        /// The name asked for.
        name: String,
        /// Columns in the file.
        columns: usize,
    },
    /// Two columns have one name.
    #[error("columns {first} and {second} are both named {}", Quoted(name))]
    DuplicateColumn {
        /// The name.
        name: String,
        /// The first of them, counted from 1.
        first: usize,
        /// The other, counted from 1.
        second: usize,
    },
    /// The file does not begin as its format demands.
    #[error("not {format}: the first bytes are {found:02x?}")]
    Magic {
        /// What the file should be.
        format: &'static str,
        /// How it begins.
        found: Vec<u8>,
    },
    /// A version of the `.npy` format that does not exist yet.
    #[error("npy version {major}.{minor} is none of 1.0, 2.0 and 3.0")]
    NpyVersion {
        /// Major number.
        major: u8,
        /// Minor number.
        minor: u8,
    },
    /// The header of an `.npy` file is not the expected Python dictionary.
    #[error("npy header, byte {position}: expected {expected}")]
    NpyHeader {
        /// Byte of the header text, counted from 0.
        position: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// An element type that is not a real number.
    #[error("the element type {} is not a real number type that is read", Quoted(name))]
    ElementType {
        /// The type as the file names it.
        name: String,
    },
    /// An array with fewer than two axes.
    #[error("an array of shape {shape:?} is no table: two axes or more are needed")]
    Shape {
        /// The axes.
        shape: Vec<u64>,
    },
    /// The header claims more than this machine can address.
    #[error("an array of shape {shape:?} exceeds the address space")]
    Oversized {
        /// The axes.
        shape: Vec<u64>,
    },
    /// The header claims another size than the file has.
    #[error("the header announces {expected} bytes, the file holds {actual}")]
    Length {
        /// Bytes that header and array need.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// More follows after the array that the header announces.
    #[error("the header announces {expected} bytes, and more follow")]
    Trailing {
        /// Bytes that header and array need.
        expected: u64,
    },
    /// The parts of a table contradict each other.
    #[error("{what}: expected {expected}, got {actual}")]
    Dimension {
        /// Which size.
        what: &'static str,
        /// The size that was expected.
        expected: usize,
        /// The size that was given.
        actual: usize,
    },
    /// What was read is no data for the fit, or the fit itself failed.
    #[error(transparent)]
    Refused(#[from] crate::Error),
}

/// Text of a file in a message: escaped, so that it stays on the line, and cut.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 40;
        match self.0.char_indices().nth(LIMIT) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl FileError {
    /// The refusal behind an input error: one of ours that a reader carried through `std::io`, or
    /// the system's.
    pub(super) fn reading(error: io::Error) -> Self {
        let kind = error.kind();
        error.downcast::<FileError>().unwrap_or(FileError::Unreadable { kind })
    }

    pub(super) fn writing(error: io::Error) -> Self {
        let kind = error.kind();
        error.downcast::<FileError>().unwrap_or(FileError::Unwritable { kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_or_broken_text_stays_on_one_short_line() {
        let text = format!("a\nb{}", "é".repeat(100));
        let message = FileError::UnknownColumn { name: text, columns: 3 }.to_string();
        assert_eq!(message.lines().count(), 1);
        assert!(message.chars().count() < 100, "{message}");
    }

    #[test]
    fn an_own_refusal_survives_the_way_through_io() {
        let error = FileError::TooLarge { limit: 7 };
        assert_eq!(FileError::reading(io::Error::other(error.clone())), error);
        let missing = FileError::reading(io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "cannot read the file: entity not found");
    }
}

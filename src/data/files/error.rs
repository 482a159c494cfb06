//! Errors of the table readers and writers.

use std::fmt;
use std::io;

/// Position in a file: a line of text or a row of an array, both counted from 1.
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

/// Error of reading or writing a table file; its message is one lower-case line.
///
/// No message contains the file name: the caller has the path and can put it in front.
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
        /// The kind of error that the operating system returned.
        kind: io::ErrorKind,
    },
    /// The file cannot be created or written.
    #[error("cannot write the file: {kind}")]
    Unwritable {
        /// The kind of error that the operating system returned.
        kind: io::ErrorKind,
    },
    /// The file name has none of the known extensions.
    #[error(
        "{} ends in none of .csv, .npy and .idxN-ubyte, nor in .tsv, .tab, .txt, .data, .dat, .npz \
         (.gz may follow)",
        Quoted(name)
    )]
    UnknownFormat {
        /// The last part of the path.
        name: String,
    },
    /// A file name of a format that is read only.
    #[error("{}: files of this format are read and not written; .csv and .npy are", Quoted(name))]
    NotWritten {
        /// The last part of the path.
        name: String,
    },
    /// An option has an invalid value.
    #[error("the option {option}: {} is not {expected}", Quoted(given))]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Its value.
        given: String,
        /// What is expected.
        expected: &'static str,
    },
    /// The gzip stream is truncated.
    #[error("the gzip stream is truncated after {bytes} decompressed bytes")]
    TruncatedGzip {
        /// Decompressed bytes before the truncation.
        bytes: u64,
    },
    /// The gzip stream is malformed, or its checksum does not match.
    #[error("the gzip stream is corrupt after {bytes} decompressed bytes")]
    CorruptGzip {
        /// Decompressed bytes before the error.
        bytes: u64,
    },
    /// A file has more bytes, after decompression, than
    /// [`ReadOptions::max_bytes`](super::ReadOptions::max_bytes).
    #[error("the content exceeds the limit of {limit} bytes, which the option max_bytes sets")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The numbers and the text of a table need more memory than
    /// [`ReadOptions::max_bytes`](super::ReadOptions::max_bytes).
    #[error(
        "the table exceeds the limit of {limit} bytes of memory, which the option max_bytes sets"
    )]
    TooMuchMemory {
        /// The limit.
        limit: u64,
    },
    /// There are more columns than [`ReadOptions::max_columns`](super::ReadOptions::max_columns).
    #[error("more than {limit} columns, the limit that the option max_columns sets")]
    TooManyColumns {
        /// The limit.
        limit: usize,
    },
    /// A record is longer than 32 bytes for each of
    /// [`ReadOptions::max_columns`](super::ReadOptions::max_columns).
    #[error(
        "a record of more than {limit} bytes: is a quote not closed? The limit is 32 bytes for \
         each of the columns that the option max_columns allows"
    )]
    LongRecord {
        /// The limit.
        limit: usize,
    },
    /// The file holds no data: no byte, or no record.
    #[error("the file is empty")]
    EmptyFile,
    /// A CSV file has a header and no records.
    #[error("a header of {columns} columns and no rows")]
    HeaderOnly {
        /// Columns in the header.
        columns: usize,
    },
    /// There is no numeric column: every column is a label or ignored.
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
    /// The text has an encoding that is not read.
    #[error("the text is {name}: convert it to utf-8")]
    Encoding {
        /// The encoding.
        name: &'static str,
    },
    /// A field of a numeric column is not valid UTF-8.
    #[error("line {line}, field {field}: not utf-8, and not a number")]
    NotUtf8 {
        /// Line, counted from 1.
        line: u64,
        /// Field of that line, counted from 1.
        field: usize,
    },
    /// A record has another number of fields than the first record.
    #[error(
        "line {line}: expected {expected} fields, found {actual} (the options separator and \
         decimal set how they are split)"
    )]
    Ragged {
        /// Line, counted from 1.
        line: u64,
        /// Fields of the first record.
        expected: usize,
        /// Fields of this record.
        actual: usize,
    },
    /// A line above the table that is no record of it.
    #[error("line {line}: {} is no record: remove titles and comments", Quoted(text))]
    StrayLine {
        /// Line, counted from 1.
        line: u64,
        /// The beginning of the line.
        text: String,
    },
    /// A column without a name is empty in the first rows and not in this one.
    #[error(
        "line {line}, column {}: {} stands in a column that is empty above it",
        Quoted(column),
        Quoted(text)
    )]
    StrayField {
        /// Line, counted from 1.
        line: u64,
        /// Name of the column.
        column: String,
        /// The text.
        text: String,
    },
    /// A text file can be read in two ways, and its content does not decide between them.
    #[error("{} is one number, or two columns: {}", Quoted(text), match fields {
        2 => "set the option separator or decimal",
        _ => "the option decimal states that it is two; for one number, another separator is needed",
    })]
    Ambiguous {
        /// The text.
        text: String,
        /// The separator between the columns.
        separator: char,
        /// The number of fields in a line.
        fields: usize,
    },
    /// An entry of a numeric column does not parse as a number.
    #[error(
        "{place}, column {}: {} is not a number{}",
        Quoted(column),
        Quoted(text),
        super::number::kind(text)
    )]
    NotANumber {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
        /// The offending text.
        text: String,
    },
    /// An entry is infinite, or out of range of the number type.
    #[error("{place}, column {}: {} is infinite or out of range", Quoted(column), Quoted(text))]
    Infinite {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
        /// The offending text.
        text: String,
    },
    /// A value is missing, and the options allow no missing values.
    #[error(
        "{place}, column {}: the value is missing (Missing::Allow reads incomplete data)",
        Quoted(column)
    )]
    Missing {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
    },
    /// A label or ignored column that the options request does not exist.
    #[error("there is no column {} among the {columns} columns", Quoted(name))]
    UnknownColumn {
        /// The requested name.
        name: String,
        /// Columns in the file.
        columns: usize,
    },
    /// Two columns have the same name.
    #[error(
        "columns {first} and {second} are both named {}: rename one, leave both out with the \
         option ignore, or set the option header",
        Quoted(name)
    )]
    DuplicateColumn {
        /// The common name.
        name: String,
        /// Index of the first of the two columns, counted from 1.
        first: usize,
        /// Index of the second of the two columns, counted from 1.
        second: usize,
    },
    /// The file does not begin with the magic bytes of its format.
    #[error("not {format}: the first bytes are {found:02x?}")]
    Magic {
        /// The expected format.
        format: &'static str,
        /// The first bytes of the file.
        found: Vec<u8>,
    },
    /// A version of the `.npy` format other than 1.0, 2.0 and 3.0.
    #[error("npy version {major}.{minor} is none of 1.0, 2.0 and 3.0")]
    NpyVersion {
        /// Major version number.
        major: u8,
        /// Minor version number.
        minor: u8,
    },
    /// The header of an `.npy` file is not the expected Python dictionary.
    #[error("npy header, byte {position}: expected {expected}")]
    NpyHeader {
        /// Position of the error in the header text, in bytes, counted from 0.
        position: usize,
        /// What was expected at this position.
        expected: &'static str,
    },
    /// An element type that is not supported, such as complex numbers or text.
    #[error("the element type {} is not a real number type that is read", Quoted(name))]
    ElementType {
        /// The type string of the file (`.npy`), or its type code (IDX).
        name: String,
    },
    /// An integer of a numeric column that no `f64` represents.
    #[error(
        "{place}, column {}: the integer {text} has more digits than a floating-point number",
        Quoted(column)
    )]
    Inexact {
        /// Where.
        place: Location,
        /// Name of the column.
        column: String,
        /// The integer.
        text: String,
    },
    /// A NumPy archive does not determine which of its arrays is read.
    #[error("the archive holds {}: choose one with the option array", Names(names))]
    ChooseArray {
        /// The names of the arrays.
        names: Vec<String>,
    },
    /// A NumPy archive has a content that is not read.
    #[error("the archive holds {what}, which is not read")]
    Archive {
        /// The content.
        what: &'static str,
    },
    /// A NumPy archive is malformed or truncated.
    #[error("the archive is corrupt: {what}")]
    CorruptArchive {
        /// Where.
        what: &'static str,
    },
    /// An array with fewer axes than a table needs.
    #[error("an array of shape {shape:?} is no table: two axes or more are needed")]
    Shape {
        /// The axes.
        shape: Vec<u64>,
    },
    /// The array in the header is larger than the address space.
    #[error("an array of shape {shape:?} exceeds the address space")]
    Oversized {
        /// The axes.
        shape: Vec<u64>,
    },
    /// The length of the file differs from the length that its header implies.
    #[error("the header announces {expected} bytes, the file holds {actual}")]
    Length {
        /// Bytes that header and array need.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// Further bytes follow after the end of the array.
    #[error("the header announces {expected} bytes, and more follow")]
    Trailing {
        /// Bytes that header and array need.
        expected: u64,
    },
    /// The parts of a table disagree in size.
    #[error("{what}: expected {expected}, got {actual}")]
    DimensionMismatch {
        /// Which size.
        what: &'static str,
        /// The size that was expected.
        expected: usize,
        /// The size that was given.
        actual: usize,
    },
    /// An error of the library about the data read, or of a fit to them; lets `?` convert it.
    #[error(transparent)]
    Rejected(crate::Error),
}

/// Text from a file in an error message: escaped, so that it adds no line break, and shortened.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message holds up to two such texts and a position, and must still fit on one line.
        const LIMIT: usize = 40;
        match self.0.char_indices().nth(LIMIT) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Names of arrays in an error message, of which the first are listed.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LISTED: usize = 8;
        write!(f, "{} arrays", self.0.len())?;
        for (index, name) in self.0.iter().take(LISTED).enumerate() {
            write!(f, "{} {}", if index == 0 { ":" } else { "," }, Quoted(name))?;
        }
        if self.0.len() > LISTED { write!(f, ", …") } else { Ok(()) }
    }
}

impl FileError {
    /// Converts an error of the CSV parser.
    pub(super) fn parsing(error: csv::Error) -> Self {
        match error.into_kind() {
            csv::ErrorKind::Io(error) => Self::reading(error),
            // I/O is the only error of a flexible reader of byte records.
            _ => Self::Unreadable { kind: io::ErrorKind::InvalidData },
        }
    }

    /// Converts an error of a read operation. A [`FileError`] that a reader wrapped in an
    /// `io::Error` is unwrapped; any other error becomes [`FileError::Unreadable`].
    pub(super) fn reading(error: io::Error) -> Self {
        // `io::Error::other(FileError)` comes back here as the inner error.
        let kind = error.kind();
        error.downcast::<FileError>().unwrap_or(FileError::Unreadable { kind })
    }

    /// As [`Self::reading`], for a write operation.
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

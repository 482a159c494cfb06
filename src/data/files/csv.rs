//! CSV reader.
//!
//! A record is an observation, so the fields of n records in file order are already the d×n matrix
//! in column-major order: nothing is transposed.

use super::newlines::Newlines;
use super::options::{Header, Role, numbered};
use super::source::Source;
use super::table::{TextColumn, Texts, check, parse};
use super::{FileError, Location, Missing, ReadOptions, Table};
use crate::Real;
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder, Terminator};
use nalgebra::DMatrix;

pub(super) fn read<T: Real>(
    source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    // `has_headers(false)`: the header is detected below, with the options. `flexible`: records of
    // unequal length are reported by `Columns::push`, with the expected number of fields.
    // `Newlines` has mapped every line ending to `\n`. 64 KiB: as the buffer of `Source::open`.
    let mut reader: Records<'_> = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(Terminator::Any(b'\n'))
        .buffer_capacity(1 << 16)
        .from_reader(Newlines::new(source));
    let mut record = ByteRecord::new();
    let Some(line) = next(&mut reader, &mut record)? else {
        return Err(FileError::EmptyFile);
    };
    let first = fields(&record, line)
        .map(|field| field.map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()?;
    let header = is_header(&first, options);
    let mut columns = Columns::new(if header { first } else { numbered(first.len()) }, options)?;
    if !header {
        columns.push(&record, line)?;
    }
    while let Some(line) = next(&mut reader, &mut record)? {
        columns.push(&record, line)?;
    }
    columns.finish(header)
}

type Records<'a> = Reader<Newlines<Source<'a>>>;

/// Reads the next record, without blank lines, and returns the number of the line on which it
/// starts; `None` at the end of the file.
fn next(reader: &mut Records<'_>, record: &mut ByteRecord) -> Result<Option<u64>, FileError> {
    match reader.read_byte_record(record) {
        // `record.position()` lies before the blank lines that the parser skipped. The line is
        // therefore counted back from the end of the record, less the line breaks in quoted fields.
        Ok(true) => {
            let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
            let skipped = record.position().map_or(1, |position| position.line());
            Ok(Some(reader.position().line().saturating_sub(within + 1).max(skipped)))
        }
        Ok(false) => Ok(None),
        Err(error) => Err(match error.into_kind() {
            ErrorKind::Io(error) => FileError::reading(error),
            // I/O is the only error of a flexible reader of byte records.
            _ => FileError::Unreadable { kind: std::io::ErrorKind::InvalidData },
        }),
    }
}

/// Returns the fields of a record as UTF-8 text, without surrounding white space.
fn fields(record: &ByteRecord, line: u64) -> impl Iterator<Item = Result<&str, FileError>> {
    record.iter().enumerate().map(move |(field, bytes)| {
        std::str::from_utf8(bytes)
            .map(str::trim)
            .map_err(|_| FileError::NotUtf8 { line, field: field + 1 })
    })
}

/// Whether a field stands for a missing value.
fn is_missing(field: &str) -> bool {
    matches!(field, "" | "nan" | "NaN" | "NA")
}

/// Whether a field parses as a number, NaN excepted.
fn is_number(field: &str) -> bool {
    // Rust parses `nan` as a number; here it is a missing value and no evidence of a number.
    field.parse::<f64>().is_ok_and(|number| !number.is_nan())
}

/// Whether the first record is a header.
///
/// With [`Header::Detect`], a record with both text and numbers in numeric columns counts as data,
/// so that its text is reported as an error. Counted as a header, it would silently lose an
/// observation.
fn is_header(first: &[String], options: &ReadOptions) -> bool {
    match options.header {
        Header::Present => return true,
        Header::Absent => return false,
        Header::Detect => {}
    }
    // The name of a label or ignored column occurs in a header only.
    if first.iter().any(|field| !is_number(field) && options.role(field) != Role::Number) {
        return true;
    }
    // Otherwise the file has no column names that the options could refer to, and the roles follow
    // from the default names x1, x2, ….
    let names = numbered(first.len());
    let mut numeric =
        first.iter().zip(&names).filter(|(_, name)| options.role(name) == Role::Number);
    let text = numeric.clone().any(|(field, _)| !is_number(field) && !is_missing(field));
    text && !numeric.any(|(field, _)| is_number(field))
}

/// The columns read so far.
struct Columns<T> {
    names: Vec<String>,
    roles: Vec<Role>,
    missing: Missing,
    /// d×n in column-major order.
    values: Vec<T>,
    /// The text of the label and ignored columns.
    apart: Vec<Vec<String>>,
    text: Option<Texts>,
    rows: usize,
    /// Number of missing values.
    missing_values: usize,
}

impl<T: Real> Columns<T> {
    fn new(names: Vec<String>, options: &ReadOptions) -> Result<Self, FileError> {
        let roles = options.roles(&names)?;
        let apart = vec![Vec::new(); roles.iter().filter(|&&role| role != Role::Number).count()];
        let text = options.keep_text.then(Texts::default);
        Ok(Self {
            names,
            roles,
            missing: options.missing,
            values: Vec::new(),
            apart,
            text,
            rows: 0,
            missing_values: 0,
        })
    }

    fn push(&mut self, record: &ByteRecord, line: u64) -> Result<(), FileError> {
        if record.len() != self.names.len() {
            return Err(FileError::Ragged {
                line,
                expected: self.names.len(),
                actual: record.len(),
            });
        }
        // The text columns of a record, in file order.
        let mut apart = self.apart.iter_mut();
        for ((field, role), name) in fields(record, line).zip(&self.roles).zip(&self.names) {
            let field = field?;
            match role {
                Role::Number => {
                    let value = number(field, Location::Line(line), name, self.missing)?;
                    self.missing_values += usize::from(value.is_none());
                    self.values.push(value.unwrap_or(T::of(f64::NAN)));
                    if let Some(text) = &mut self.text {
                        text.push(field);
                    }
                }
                Role::Label | Role::Ignored => {
                    if let Some(column) = apart.next() {
                        column.push(field.to_owned());
                    }
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(self, header: bool) -> Result<Table<T>, FileError> {
        if self.rows == 0 {
            return Err(FileError::HeaderOnly { columns: self.names.len() });
        }
        let mut apart = Vec::with_capacity(self.apart.len());
        let mut names = Vec::with_capacity(self.names.len());
        let mut text = self.apart.into_iter();
        for (position, (name, role)) in self.names.into_iter().zip(self.roles).enumerate() {
            match (role, text.len()) {
                (Role::Number, _) => names.push(name),
                _ => apart.extend(text.next().map(|text| TextColumn {
                    name,
                    position,
                    label: role == Role::Label,
                    text,
                })),
            }
        }
        let values = DMatrix::from_vec(names.len(), self.rows, self.values);
        Ok(Table { values, names, header, apart, missing: self.missing_values, text: self.text })
    }
}

/// Parses a numeric field; `None` for a missing value, where those are allowed.
fn number<T: Real>(
    field: &str,
    place: Location,
    column: &str,
    missing: Missing,
) -> Result<Option<T>, FileError> {
    if is_missing(field) {
        // `check` returns the error if missing values are not allowed.
        return check(T::of(f64::NAN), place, column, missing).map(|()| None);
    }
    match parse::<T>(field) {
        Some(value) if value.as_f64().is_finite() => Ok(Some(value)),
        // Also a finite text beyond the range of `T`, such as 1e39 for `f32`.
        Some(value) if value.as_f64().is_infinite() => {
            Err(FileError::Infinite { place, column: column.to_owned(), text: field.to_owned() })
        }
        _ => {
            Err(FileError::NotANumber { place, column: column.to_owned(), text: field.to_owned() })
        }
    }
}

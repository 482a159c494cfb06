//! Reader of delimited text.
//!
//! A record is an observation, so the fields of n records in file order are already the d×n matrix
//! in column-major order: nothing is transposed.
//!
//! The first records are inspected for the encoding, the separator, the decimal mark and the
//! header; then all records are read in one pass.

use super::dialect::{Layout, Records, Sample, detect, parser};
use super::encoding::{Decoder, Encoding, text};
use super::header::{Columns, columns};
use super::number::{Entry, Syntax};
use super::options::{Role, numbered_name};
use super::source::Source;
use super::table::{Marks, TextColumn, Texts};
use super::text::{Budget, RecordLimit};
use super::{FileError, Location, Missing, ReadOptions, Table};
use crate::Real;
use csv::ByteRecord;
use nalgebra::DMatrix;
use std::io::{Cursor, Read};

pub(super) fn read<T: Real>(
    source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let limit = RecordLimit { columns: options.max_columns };
    let mut decoder = Decoder::new(source)?;
    let sample = Sample::read(&mut decoder, limit)?;
    let mut dialect = detect(&sample, options, limit)?;
    dialect.layout.marked = decoder.marked && decoder.encoding == Encoding::Utf8;
    if decoder.encoding != Encoding::Utf8 {
        dialect.notes.push("the text is UTF-16; it is written as UTF-8".into());
    }
    let budget = Budget::default();
    let input = Cursor::new(sample.bytes).chain(decoder);
    let mut reader = parser(input, dialect.layout.separator, limit, &budget);
    let mut record = ByteRecord::new();
    let mut next = |record: &mut ByteRecord| next(&mut reader, record, limit, &budget);
    if dialect.declared {
        next(&mut record)?;
    }
    let Some(line) = next(&mut record)? else {
        return Err(FileError::EmptyFile);
    };
    let latin = !record.iter().all(|field| std::str::from_utf8(field).is_ok());
    let columns = columns(&record, line, &mut dialect, options)?;
    let header = columns.header;
    let mut table = Reader::new(columns, dialect.syntax, options);
    table.latin = latin;
    if !header {
        table.push(&record, line)?;
    }
    while let Some(line) = next(&mut record)? {
        table.push(&record, line)?;
    }
    table.finish(header, dialect.layout, dialect.notes)
}

/// Reads the next record, without blank lines, and returns the number of the line on which it
/// starts; `None` at the end of the file.
fn next<R: Read>(
    reader: &mut Records<'_, R>,
    record: &mut ByteRecord,
    limit: RecordLimit,
    budget: &Budget,
) -> Result<Option<u64>, FileError> {
    budget.renew(limit);
    if !reader.read_byte_record(record).map_err(FileError::parsing)? {
        return Ok(None);
    }
    limit.check(record.len())?;
    // `record.position()` lies before the blank lines that the parser skipped. The line is
    // therefore counted back from the end of the record, less the line breaks in quoted fields.
    let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
    let skipped = record.position().map_or(1, |position| position.line());
    Ok(Some(reader.position().line().saturating_sub(within + 1).max(skipped)))
}

/// The table as far as it has been read.
struct Reader<'o, T> {
    columns: Columns,
    syntax: Syntax,
    options: &'o ReadOptions,
    /// d×n in column-major order.
    values: Vec<T>,
    /// The text of all columns that are no variables.
    apart: Vec<Vec<String>>,
    /// Bytes of `apart`.
    apart_bytes: usize,
    text: Option<Texts>,
    rows: usize,
    marks: Marks,
    /// Whether a field was read as Latin-1.
    latin: bool,
}

impl<'o, T: Real> Reader<'o, T> {
    fn new(columns: Columns, syntax: Syntax, options: &'o ReadOptions) -> Self {
        let apart = columns.roles.iter().filter(|&&role| role != Role::Number).count();
        Self {
            columns,
            syntax,
            options,
            values: Vec::new(),
            apart: vec![Vec::new(); apart],
            apart_bytes: 0,
            text: options.keep_text.then(Texts::default),
            rows: 0,
            marks: Marks::default(),
            latin: false,
        }
    }

    fn push(&mut self, record: &ByteRecord, line: u64) -> Result<(), FileError> {
        let expected = self.columns.roles.len();
        if record.len() != expected {
            return Err(FileError::Ragged { line, expected, actual: record.len() });
        }
        let mut next_apart = 0;
        for (column, bytes) in record.iter().enumerate() {
            let role = self.columns.roles[column];
            if role == Role::Number {
                self.number(bytes, line, column)?;
                continue;
            }
            let field = text(bytes);
            let field = field.trim();
            if role == Role::Empty {
                // Nothing is kept of it, and nothing may be in it.
                next_apart += 1;
                if field.is_empty() {
                    continue;
                }
                let (column, text) = (self.columns.names[column].clone(), field.to_owned());
                return Err(FileError::StrayField { line, column, text });
            }
            self.latin |= std::str::from_utf8(bytes).is_err();
            self.apart_bytes += size_of::<String>() + field.len();
            self.apart[next_apart].push(field.to_owned());
            next_apart += 1;
        }
        self.rows += 1;
        let text = self.text.as_ref().map_or(0, Texts::bytes);
        let bytes = self.values.len() * size_of::<T>() + self.apart_bytes + text;
        match bytes as u64 > self.options.max_bytes {
            true => Err(FileError::TooMuchMemory { limit: self.options.max_bytes }),
            false => Ok(()),
        }
    }

    /// Reads an entry of a variable.
    fn number(&mut self, bytes: &[u8], line: u64, column: usize) -> Result<(), FileError> {
        let field = text(bytes);
        let field = field.trim();
        let place = Location::Line(line);
        let name = || self.columns.names[column].clone();
        let value = match self.syntax.read::<T>(field) {
            Entry::Number(value) if value.as_f64().is_finite() => value,
            // Also a finite text beyond the range of `T`, such as 1e39 for `f32`.
            Entry::Number(_) => {
                return Err(FileError::Infinite { place, column: name(), text: field.to_owned() });
            }
            Entry::Missing if self.options.missing == Missing::Allow => {
                self.marks.count(field);
                T::of(f64::NAN)
            }
            Entry::Missing => return Err(FileError::Missing { place, column: name() }),
            // Only text can be in another encoding: digits and signs are ASCII.
            Entry::Text if std::str::from_utf8(bytes).is_err() => {
                return Err(FileError::NotUtf8 { line, field: column + 1 });
            }
            Entry::Text => {
                return Err(FileError::NotANumber {
                    place,
                    column: name(),
                    text: field.to_owned(),
                });
            }
        };
        self.values.push(value);
        if let Some(text) = &mut self.text {
            text.push(field);
        }
        Ok(())
    }

    fn finish(
        self,
        header: bool,
        layout: Layout,
        mut notes: Vec<String>,
    ) -> Result<Table<T>, FileError> {
        let Columns { names: all, roles, .. } = self.columns;
        if self.rows == 0 {
            return Err(FileError::HeaderOnly { columns: all.len() });
        }
        if self.latin {
            notes.push("text that is not UTF-8 was read as Latin-1; it is written as UTF-8".into());
        }
        notes.extend(self.marks.note());
        let mut apart = Vec::with_capacity(self.apart.len());
        let mut names = Vec::with_capacity(all.len() - self.apart.len());
        let mut text = self.apart.into_iter();
        for (position, (name, role)) in all.into_iter().zip(roles).enumerate() {
            if role == Role::Number {
                names.push(name);
                continue;
            }
            // Without a header the default name is given, also to a column of row names.
            let name = if header { name } else { numbered_name(position) };
            let text = text.next().unwrap_or_default();
            apart.push(TextColumn { name, position, label: role == Role::Label, text });
        }
        let values = DMatrix::from_vec(names.len(), self.rows, self.values);
        let missing = self.marks.total();
        let (marks, text) = (self.marks.into_counts(), self.text);
        Ok(Table { values, names, header, apart, missing, marks, notes, layout, text })
    }
}

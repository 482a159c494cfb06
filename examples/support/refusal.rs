//! Error messages about a table: the file, and rows and columns as they are counted and named in
//! the file.

use super::arguments::note;
use elbo::data::files::{FileError, ReadOptions, Table, read};
use elbo::{Error, Real};
use std::path::Path;

/// Reads a table and prints what was assumed; an error is one line, with the options that help.
pub fn read_table<T: Real>(path: &Path, options: &ReadOptions) -> Result<Table<T>, String> {
    let file = path.display();
    let table: Table<T> =
        read(path, options).map_err(|error| format!("{file}: {error}{}", way_out(&error)))?;
    table.notes.iter().for_each(|text| note(format!("{file}: {text}")));
    Ok(table)
}

/// The command-line options that help against an error of a file.
fn way_out(error: &FileError) -> String {
    let ignore = |column: &str| format!("--ignore {}", listed(column));
    let ways = match error {
        // A text without digits may be a mark.
        FileError::NotANumber { column, text, .. } if !text.contains(|c: char| c.is_numeric()) => {
            let (ignore, mark) = (ignore(column), listed(text));
            format!("{ignore} leaves the column out, --missing {mark} declares a missing value")
        }
        FileError::NotANumber { column, .. } => format!("{} leaves the column out", ignore(column)),
        FileError::Inexact { column, .. } => format!("{} leaves the column out", ignore(column)),
        FileError::Missing { .. } => "the program impute completes such a table".into(),
        FileError::DuplicateColumn { name, .. } => format!("{}, or --header no", ignore(name)),
        FileError::UnknownColumn { .. } => "--header yes or no says what the first line is".into(),
        FileError::Ambiguous { separator, fields: 2, .. } => {
            let decimal = if *separator == ',' { ',' } else { '.' };
            format!("--separator {} or --decimal {decimal}", shell(&separator.to_string()))
        }
        FileError::Ambiguous { .. } => "--decimal .".into(),
        FileError::Ragged { .. } => "--separator, --decimal".into(),
        FileError::ChooseArray { names } => {
            format!("--array {}", names.first().map_or("NAME".into(), |name| shell(name)))
        }
        FileError::TooLarge { .. } | FileError::TooMuchMemory { .. } => "--max-bytes".into(),
        FileError::TooManyColumns { .. } | FileError::LongRecord { .. } => "--max-columns".into(),
        _ => return String::new(),
    };
    format!(" ({ways})")
}

/// A name as an argument of an option that takes a list, quoted for a shell.
fn listed(name: &str) -> String {
    // As a field of CSV, where that needs quotes.
    match name.contains([',', '"', '\n']) {
        true => shell(&format!("\"{}\"", name.replace('"', "\"\""))),
        false => shell(name),
    }
}

/// A text as one argument in a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.,:/".contains(c);
    match text.chars().count() {
        1..=40 if text.chars().all(plain) => text.to_owned(),
        0..=40 => format!("'{}'", text.replace('\'', "'\\''")),
        _ => "NAME".into(),
    }
}

/// Translates the row and column of an error to the file: an observation is a row of the file,
/// counted from 1 without the header.
#[derive(Clone, Copy)]
pub struct Location<'a> {
    pub file: &'a str,
    pub columns: &'a [String],
}

impl<'a> Location<'a> {
    pub fn new<T: Real>(file: &'a str, table: &'a Table<T>) -> Self {
        Self { file, columns: &table.names }
    }

    /// The error as one line.
    pub fn says(&self, error: Error) -> String {
        let column = |variable: usize| self.columns.get(variable).map_or("", String::as_str);
        let what = match &error {
            Error::NeverObserved { variable, observations } => {
                format!(
                    "column {:?} is empty: its value is missing in all {observations} rows",
                    column(*variable)
                )
            }
            Error::NotFinite { row, column: observation, value } => {
                format!("row {}, column {:?}: {value} is not finite", observation + 1, column(*row))
            }
            Error::TooLarge { row, column: observation, value, limit } => {
                let place = format!("row {}, column {:?}", observation + 1, column(*row));
                format!(
                    "{place}: {value:e} is too large, the sum of squares overflows beyond {limit:e}"
                )
            }
            Error::OutsideSupport { row, column: observation, value, support } => {
                let place = format!("row {}, column {:?}", observation + 1, column(*row));
                format!("{place}: {value} is outside the support of the likelihood, {support}")
            }
            Error::NoFiniteIntercept { variable, value } => {
                let name = column(*variable);
                format!(
                    "column {name:?} is {value} in every row: its likelihood has no maximum; --ignore \
                     leaves the column out"
                )
            }
            Error::ZeroTotal { observation, total } => {
                format!(
                    "row {}: its entries sum to {total}, which has no logarithm: leave the row out, \
                     or use --offset none",
                    observation + 1
                )
            }
            Error::Offset { variable, mean, spacing, precision } => {
                format!(
                    "near the mean {mean:e} of column {:?} the numbers of {precision} are \
                     {spacing:e} apart, which is more than the data leave to the noise: subtract the \
                     offset from the column, standardise the data, or use f64",
                    column(*variable)
                )
            }
            _ => error.to_string(),
        };
        format!("{}: {what}", self.file)
    }
}

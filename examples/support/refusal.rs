//! Error messages about a table: the file, and rows and columns as they are counted and named in
//! the file.

use elbo::data::files::Table;
use elbo::{Error, Real};

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

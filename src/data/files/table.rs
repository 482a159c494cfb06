//! Table of numbers with column names and text columns, as read from a file.

use super::options::{Role, numbered};
use super::{FileError, Location, Missing, ReadOptions};
use crate::Real;
use nalgebra::DMatrix;
use std::collections::HashMap;

/// Table of n observations of d numbers, with its label and ignored columns as text.
///
/// ```
/// use elbo::data::files::{Format, ReadOptions, decode};
/// let table = decode::<f64>(
///     b"a,label,b\n1,u,2\n3,v,4\n5,u,6\n",
///     Format::Csv,
///     &ReadOptions::default(),
/// )?;
/// assert_eq!(table.values.shape(), (2, 3)); // d×n: an observation is a column
/// assert_eq!(table.names, ["a", "b"]);
/// assert_eq!(table.labels().unwrap(), ["u", "v", "u"]);
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Table<T: Real> {
    /// The numbers, d×n: one observation per column.
    pub values: DMatrix<T>,
    /// The names of the d rows of `values`: from the header, or `x1`, `x2`, ….
    pub names: Vec<String>,
    /// Whether the names were read from the file; if not, the table is written without a header.
    pub header: bool,
    /// The label and ignored columns, in file order.
    pub apart: Vec<TextColumn>,
    /// Number of missing values (NaN) in `values` when the table was read.
    pub missing: usize,
    /// The text of every number, if it was [kept](ReadOptions::keep_text).
    pub(super) text: Option<Texts>,
}

/// Text of the numeric fields in file order: one string, with the end of each field, instead of an
/// allocation for each field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Texts {
    joined: String,
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn push(&mut self, field: &str) {
        self.joined.push_str(field);
        self.ends.push(self.joined.len());
    }

    pub(super) fn get(&self, entry: usize) -> Option<&str> {
        // The first field starts at 0, every other one at the end of the field before it.
        let start =
            entry.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.joined.get(start..*self.ends.get(entry)?)
    }
}

/// A label or ignored column, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumn {
    /// The name of the column.
    pub name: String,
    /// The index among all columns of the file, counted from 0.
    pub position: usize,
    /// Whether it is the label column.
    pub label: bool,
    /// The entries, one for each observation.
    pub text: Vec<String>,
}

impl<T: Real> Table<T> {
    /// Creates a table of values (d×n) with the default column names `x1`, `x2`, ….
    ///
    /// ```
    /// use nalgebra::dmatrix;
    /// let table = elbo::data::files::Table::new(dmatrix![1.0, 3.0; 2.0, f64::NAN]);
    /// assert_eq!((table.names[1].as_str(), table.missing), ("x2", 1));
    /// ```
    pub fn new(values: DMatrix<T>) -> Self {
        let names = numbered(values.nrows());
        let missing = values.iter().filter(|value| value.as_f64().is_nan()).count();
        Self { values, names, header: false, apart: Vec::new(), missing, text: None }
    }

    /// Returns the label of each observation, if there is a label column.
    pub fn labels(&self) -> Option<&[String]> {
        self.apart.iter().find(|column| column.label).map(|column| column.text.as_slice())
    }

    /// Sets the label of each observation, in a column `label` after all others; replaces the
    /// present labels.
    pub fn set_labels(&mut self, labels: Vec<String>) {
        self.apart.retain(|column| !column.label);
        let position = self.values.nrows() + self.apart.len();
        self.apart.push(TextColumn { name: "label".into(), position, label: true, text: labels });
    }

    /// Returns the class index of each observation, and the class names in sorted order (numbers by
    /// value, then text alphabetically); `None` without labels.
    ///
    /// ```
    /// # use elbo::data::files::{decode, Format, ReadOptions};
    /// let table =
    ///     decode::<f64>(b"a,label\n1,10\n3,9\n5,10\n", Format::Csv, &ReadOptions::default())?;
    /// let (classes, names) = table.classes().unwrap();
    /// assert_eq!(classes, [1, 0, 1]);
    /// assert_eq!(names, ["9", "10"]);
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    pub fn classes(&self) -> Option<(Vec<usize>, Vec<String>)> {
        let labels = self.labels()?;
        // Sorted as text, to remove duplicates; the second sort is stable and puts numbers first.
        let mut names: Vec<&String> = labels.iter().collect();
        names.sort();
        names.dedup();
        let number = |name: &String| name.parse::<f64>().ok().filter(|number| number.is_finite());
        names.sort_by(|a, b| match (number(a), number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        let index: HashMap<&String, usize> =
            names.iter().enumerate().map(|(class, name)| (*name, class)).collect();
        let classes = labels.iter().map(|label| index[label]).collect();
        Some((classes, names.into_iter().cloned().collect()))
    }

    /// Creates a table from the array of a file: checks every entry, then moves the label and
    /// ignored columns to `apart`.
    pub(super) fn from_array(values: DMatrix<T>, options: &ReadOptions) -> Result<Self, FileError> {
        let names = numbered(values.nrows());
        let roles = options.roles(&names)?;
        for (row, observation) in values.column_iter().enumerate() {
            for ((&value, role), name) in observation.iter().zip(&roles).zip(&names) {
                // Ignored and label columns may hold anything: only numeric columns are checked.
                if *role == Role::Number {
                    check(value, Location::Row(row as u64 + 1), name, options.missing)?;
                }
            }
        }
        let apart: Vec<TextColumn> = (0..names.len())
            .filter(|&position| roles[position] != Role::Number)
            .map(|position| TextColumn {
                name: names[position].clone(),
                position,
                label: roles[position] == Role::Label,
                text: values.row(position).iter().map(|&value| print(value)).collect(),
            })
            .collect();
        // The common case, without a copy of the values.
        if apart.is_empty() {
            return Ok(Self::new(values));
        }
        let kept: Vec<usize> = (0..names.len()).filter(|&row| roles[row] == Role::Number).collect();
        let names = kept.iter().map(|&row| names[row].clone()).collect();
        Ok(Self { names, apart, ..Self::new(values.select_rows(&kept)) })
    }
}

/// Returns an error for an infinite value, and for NaN unless missing values are allowed.
pub(super) fn check<T: Real>(
    value: T,
    place: Location,
    column: &str,
    missing: Missing,
) -> Result<(), FileError> {
    let number = value.as_f64();
    if number.is_nan() && missing == Missing::Reject {
        return Err(FileError::Missing { place, column: column.to_owned() });
    }
    if number.is_infinite() {
        return Err(FileError::Infinite { place, column: column.to_owned(), text: print(value) });
    }
    Ok(())
}

/// Returns the shortest decimal text that parses to a bit-identical value; empty for NaN.
pub(super) fn print<T: Real>(value: T) -> String {
    if value.as_f64().is_nan() {
        return String::new();
    }
    // Unlike `Display`, `Debug` writes very large and very small numbers with an exponent. It
    // writes 1 as `1.0`.
    let mut text = format!("{value:?}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// Parses the nearest number of type `T`. Text is parsed as `f32` directly: by way of `f64` it
/// would be rounded twice.
pub(super) fn parse<T: Real>(text: &str) -> Option<T> {
    match size_of::<T>() {
        4 => text.parse::<f32>().ok().map(|value| T::of(value.into())),
        _ => text.parse::<f64>().ok().map(T::of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::dmatrix;

    #[test]
    fn an_array_gives_up_its_label_by_number() {
        let values = dmatrix![1.0, 2.0; 7.0, 8.5; 3.0, 4.0];
        let table = Table::from_array(values.clone(), &ReadOptions::default().label("x2")).unwrap();
        assert_eq!(table.names, ["x1", "x3"]);
        assert_eq!(table.labels().unwrap(), ["7", "8.5"]);
        assert_eq!(table.values, dmatrix![1.0, 2.0; 3.0, 4.0]);
        let absent = Table::from_array(values, &ReadOptions::default().ignore(["x4"])).unwrap_err();
        assert_eq!(absent, FileError::UnknownColumn { name: "x4".into(), columns: 3 });
    }

    #[test]
    fn an_array_is_checked_entry_by_entry() {
        let incomplete = dmatrix![1.0f32, 2.0; 3.0, f32::NAN];
        let refused = Table::from_array(incomplete.clone(), &ReadOptions::default()).unwrap_err();
        assert_eq!(refused.to_string(), r#"row 2, column "x2": the value is missing"#);
        assert_eq!(
            Table::from_array(incomplete, &ReadOptions::default().missing(Missing::Allow))
                .unwrap()
                .missing,
            1
        );
        let infinite = dmatrix![1.0, f64::NEG_INFINITY];
        let refused = Table::from_array(infinite, &ReadOptions::default().missing(Missing::Allow))
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            r#"row 2, column "x1": "-inf" is infinite or out of range"#
        );
    }

    #[test]
    fn classes_are_sorted_as_numbers_then_as_text() {
        let mut table = Table::new(DMatrix::<f64>::zeros(1, 5));
        assert_eq!(table.classes(), None);
        let text = ["b", "10", "9", "", "b"].map(String::from).to_vec();
        table.apart.push(TextColumn { name: "label".into(), position: 0, label: true, text });
        let (classes, names) = table.classes().unwrap();
        assert_eq!(names, ["9", "10", "", "b"]);
        assert_eq!(classes, [3, 1, 0, 2, 3]);
    }

    #[test]
    fn numbers_print_short() {
        assert_eq!(print(3750.0), "3750");
        assert_eq!(print(0.1f32), "0.1");
        assert_eq!(print(-0.0), "-0");
        assert_eq!(print(f64::MAX), "1.7976931348623157e308");
        assert_eq!(print(f64::NAN), "");
    }
}

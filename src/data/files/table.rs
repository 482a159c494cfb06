//! Table of numbers with column names and text columns, as read from a file.

use super::dialect::Layout;
use super::options::numbered;
use super::{FileError, Location, Missing};
use crate::Real;
use nalgebra::DMatrix;
use std::collections::HashMap;

/// Table of n observations of d numbers, with its label and ignored columns as text.
///
/// Two tables are equal if their contents are, however they were written in a file.
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
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Table<T: Real> {
    /// The numbers, d×n: one observation per column.
    pub values: DMatrix<T>,
    /// The names of the d rows of `values`: from the header, or `x1`, `x2`, ….
    pub names: Vec<String>,
    /// Whether the names were read from the file; if not, the table is written without a header.
    pub header: bool,
    /// The label and ignored columns, row names and empty columns, in file order.
    pub apart: Vec<TextColumn>,
    /// Number of missing values (NaN) in `values` when the table was read.
    pub missing: usize,
    /// How often each mark of a missing value was read, in the order of their first occurrence.
    pub marks: Vec<(String, usize)>,
    /// What was assumed about the file where it does not state it, one lower-case sentence each,
    /// with the option for another reading.
    ///
    /// ```
    /// use elbo::data::files::{Format, ReadOptions, decode};
    /// let years = b"2019,2020,2021\n3.5,6.25,4.5\n4.5,4.25,5.75\n4.75,4.5,4.25\n";
    /// let table = decode::<f64>(years, Format::Csv, &ReadOptions::default())?;
    /// assert_eq!(table.values.ncols(), 3);
    /// assert!(table.notes[0].starts_with("the first line was read as a header"));
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    pub notes: Vec<String>,
    /// How the file was written.
    pub(super) layout: Layout,
    /// The text of every number, if it was [kept](super::ReadOptions::keep_text).
    pub(super) text: Option<Texts>,
}

impl<T: Real> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        (&self.values, &self.names, self.header) == (&other.values, &other.names, other.header)
            && (&self.apart, self.missing, &self.text) == (&other.apart, other.missing, &other.text)
    }
}

/// Text of the numeric fields in file order, each followed by a character that occurs in no number:
/// one byte more for a field instead of an allocation for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Texts(String);

impl Texts {
    const END: char = '\u{1f}';

    pub(super) fn push(&mut self, field: &str) {
        // Only a declared mark of a missing value could contain it.
        self.0.extend(field.chars().filter(|&c| c != Self::END));
        self.0.push(Self::END);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(Self::END)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Counts of the marks of missing values.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<(String, usize)>);

impl Marks {
    pub(super) fn count(&mut self, mark: &str) {
        match self.0.iter_mut().find(|(known, _)| known == mark) {
            Some((_, count)) => *count += 1,
            None => self.0.push((mark.to_owned(), 1)),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// A note on marks other than those that stand for nothing else.
    pub(super) fn note(&self) -> Option<String> {
        let plain = |mark: &str| matches!(mark, "" | "NA" | "nan" | "NaN");
        let counts: Vec<String> = self
            .0
            .iter()
            .filter(|(mark, _)| !plain(mark))
            .map(|(mark, count)| format!("{mark:?} ({count})"))
            .collect();
        (!counts.is_empty()).then(|| format!("read as missing values: {}", counts.join(", ")))
    }

    pub(super) fn into_counts(self) -> Vec<(String, usize)> {
        self.0
    }
}

/// A column that is no variable, as text: labels, an ignored column, row names, or an empty column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumn {
    /// The name of the column.
    pub name: String,
    /// The index among all columns of the file, counted from 0.
    pub position: usize,
    /// Whether it is the label column.
    pub label: bool,
    /// The entries, one for each observation; none for an empty column.
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
        Self { names, missing, ..Self::without_names(values) }
    }

    /// A table without names, which the caller adds.
    pub(super) fn without_names(values: DMatrix<T>) -> Self {
        Self {
            values,
            names: Vec::new(),
            header: false,
            apart: Vec::new(),
            missing: 0,
            marks: Vec::new(),
            notes: Vec::new(),
            layout: Layout::default(),
            text: None,
        }
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
}

/// Returns an error for an infinite value, and for NaN unless missing values are allowed.
pub(super) fn check<T: Real>(
    value: T,
    place: Location,
    column: impl Fn() -> String,
    missing: Missing,
) -> Result<(), FileError> {
    let number = value.as_f64();
    if number.is_nan() && missing == Missing::Reject {
        return Err(FileError::Missing { place, column: column() });
    }
    if number.is_infinite() {
        return Err(FileError::Infinite { place, column: column(), text: print(value) });
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

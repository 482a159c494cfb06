//! Options of the table readers: label and ignored columns, missing values, header, limits.

use super::FileError;
use std::collections::HashMap;

/// Treatment of missing values (in CSV an empty field, `nan`, `NaN` or `NA`; in an array, NaN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// A missing value is an error that contains its position.
    #[default]
    Reject,
    /// A missing value becomes NaN and is counted.
    Allow,
}

/// Whether the first record of a CSV file is a header with the names of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// Detected: the first record is a header if it contains the name of a label or ignored column,
    /// or if its fields in numeric columns include text and no number.
    #[default]
    Detect,
    /// The first record is a header.
    Present,
    /// There is no header: the columns are named `x1`, `x2`, ….
    Absent,
}

/// Options for reading a table.
///
/// ```
/// use elbo::data::files::{Missing, ReadOptions};
/// let options = ReadOptions::default()
///     .label("species")
///     .ignore(["island", "sex"])
///     .missing(Missing::Allow);
/// assert_eq!(options.label.as_deref(), Some("species"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The column that holds the class of each observation, as text and not as data. A column set
    /// here must exist. By default, a column named `label` is used if there is one.
    pub label: Option<String>,
    /// Further columns that are not data, kept as text. Each must exist.
    pub ignore: Vec<String>,
    /// Whether missing values are allowed.
    pub missing: Missing,
    /// Whether a CSV file has a header.
    pub header: Header,
    /// Whether the table keeps the text of every number of a CSV file, so that numbers that have
    /// not changed can be written exactly as they were read.
    pub keep_text: bool,
    /// Limit on the size of a decompressed gzip stream, in bytes; 4 GiB by default.
    pub max_bytes: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            label: None,
            ignore: Vec::new(),
            missing: Missing::Reject,
            header: Header::Detect,
            keep_text: false,
            // 4 GiB: bounds the memory that a decompression bomb can take.
            max_bytes: 1 << 32,
        }
    }
}

impl ReadOptions {
    /// Sets the label column, which must exist.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>) -> Self {
        self.label = Some(name.into());
        self
    }

    /// Adds columns that are not data and are kept as text; each must exist.
    #[must_use]
    pub fn ignore<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ignore.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets whether missing values are allowed.
    #[must_use]
    pub fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    /// Sets whether a CSV file has a header.
    #[must_use]
    pub fn header(mut self, header: Header) -> Self {
        self.header = header;
        self
    }

    /// Sets whether the table keeps the text of every number of a CSV file.
    #[must_use]
    pub fn keep_text(mut self, keep_text: bool) -> Self {
        self.keep_text = keep_text;
        self
    }

    /// Sets the limit on the size of a decompressed gzip stream, in bytes.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Returns the role of a column with this name.
    pub(super) fn role(&self, name: &str) -> Role {
        let ignored = self.ignore.iter().any(|ignored| ignored == name);
        // `ignore` takes precedence over the default label column, but not over one that was set.
        match &self.label {
            Some(label) if label == name => Role::Label,
            None if name == "label" && !ignored => Role::Label,
            _ if ignored => Role::Ignored,
            _ => Role::Number,
        }
    }

    /// Returns the role of every column.
    ///
    /// # Errors
    /// [`FileError::DuplicateColumn`]; [`FileError::UnknownColumn`] if a label or ignored column
    /// does not exist; [`FileError::NoNumbers`] if no numeric column is left.
    pub(super) fn roles(&self, names: &[String]) -> Result<Vec<Role>, FileError> {
        // Names identify columns in the options and in errors, so that they must be distinct.
        let mut seen = HashMap::with_capacity(names.len());
        for (second, name) in names.iter().enumerate() {
            if let Some(first) = seen.insert(name.as_str(), second) {
                return Err(FileError::DuplicateColumn {
                    name: name.clone(),
                    first: first + 1,
                    second: second + 1,
                });
            }
        }
        if let Some(name) =
            self.label.iter().chain(&self.ignore).find(|name| !seen.contains_key(name.as_str()))
        {
            return Err(FileError::UnknownColumn { name: name.clone(), columns: names.len() });
        }
        let roles: Vec<Role> = names.iter().map(|name| self.role(name)).collect();
        match roles.contains(&Role::Number) {
            true => Ok(roles),
            false => Err(FileError::NoNumbers { columns: names.len() }),
        }
    }
}

/// Role of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Number,
    Label,
    Ignored,
}

/// Returns the default column names `x1`, `x2`, …, for data without a header.
pub(super) fn numbered(columns: usize) -> Vec<String> {
    (1..=columns).map(|column| format!("x{column}")).collect()
}

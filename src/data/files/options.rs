//! What the reader is asked for: which columns are kept apart, whether entries may be missing.

use super::FileError;
use std::collections::HashMap;

/// Whether entries may be missing (in CSV an empty field, `nan`, `NaN` or `NA`; in an array, NaN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// A missing entry is an error that names its place.
    #[default]
    Refuse,
    /// A missing entry becomes NaN and is counted.
    Allow,
}

/// Whether the first record of a CSV file names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// Look: it does if it names a column that is kept apart, or if it has a text and no number
    /// where numbers must stand.
    #[default]
    Detect,
    /// It does.
    Present,
    /// It does not: the columns are named `x1`, `x2`, ….
    Absent,
}

/// How to read a table.
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
    /// The column kept apart as text and used as the class. Named here, it must exist; otherwise a
    /// column `label` is taken if there is one.
    pub label: Option<String>,
    /// Other columns to keep apart. Each must exist.
    pub ignore: Vec<String>,
    /// Whether entries may be missing.
    pub missing: Missing,
    /// Whether a CSV file has a header.
    pub header: Header,
    /// Whether the table keeps the text of every number of a CSV file, so that it can be written as
    /// it stood.
    pub keep_text: bool,
    /// The most bytes that may come out of a gzip stream: 4 GiB unless told.
    pub max_bytes: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            label: None,
            ignore: Vec::new(),
            missing: Missing::Refuse,
            header: Header::Detect,
            keep_text: false,
            max_bytes: 1 << 32,
        }
    }
}

impl ReadOptions {
    /// Keeps this column apart as the label; it must exist.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>) -> Self {
        self.label = Some(name.into());
        self
    }

    /// Keeps these columns apart; each must exist.
    #[must_use]
    pub fn ignore<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ignore.extend(names.into_iter().map(Into::into));
        self
    }

    /// Says whether entries may be missing.
    #[must_use]
    pub fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    /// Says whether a CSV file has a header.
    #[must_use]
    pub fn header(mut self, header: Header) -> Self {
        self.header = header;
        self
    }

    /// Says whether the table keeps the text of every number of a CSV file.
    #[must_use]
    pub fn keep_text(mut self, keep_text: bool) -> Self {
        self.keep_text = keep_text;
        self
    }

    /// Bounds what may come out of a gzip stream.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The role that a column of this name would have.
    pub(super) fn role(&self, name: &str) -> Role {
        let ignored = self.ignore.iter().any(|ignored| ignored == name);
        match &self.label {
            Some(label) if label == name => Role::Label,
            None if name == "label" && !ignored => Role::Label,
            _ if ignored => Role::Ignored,
            _ => Role::Number,
        }
    }

    /// The role of every column; names must differ, and every column asked for must be there.
    pub(super) fn roles(&self, names: &[String]) -> Result<Vec<Role>, FileError> {
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

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Number,
    Label,
    Ignored,
}

/// The names of columns that nobody named.
pub(super) fn numbered(columns: usize) -> Vec<String> {
    (1..=columns).map(|column| format!("x{column}")).collect()
}

//! Options of the table readers: label and ignored columns, missing values, header, separator and
//! decimal mark, limits.

use super::FileError;
use super::number::{Decimal, Syntax};

/// Treatment of missing values: in text an empty field or a mark such as `NA`, `nan`, `n/a`,
/// `null`, `?`, `.`, `-`, `#N/A` and [declared](ReadOptions::missing_marks) ones; in an array, NaN.
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
    /// Detected: the first record is a header if it contains the names of the label and ignored
    /// columns, if its fields in numeric columns include text and no number, or if its numbers are
    /// years or count up in equal steps, unlike the records below.
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
    /// Further columns that are not data, kept as text. Each must exist; the empty name is that of
    /// a column without a name.
    pub ignore: Vec<String>,
    /// Whether missing values are allowed.
    pub missing: Missing,
    /// Further marks of missing values. A number such as `-9999` stands for every text of its
    /// value, and in an array for its value.
    pub marks: Vec<String>,
    /// Whether a CSV file has a header.
    pub header: Header,
    /// Whether the first column of a CSV file holds the names of the rows and is no variable. By
    /// default, a first column without a name that holds text or row numbers does.
    pub row_names: Option<bool>,
    /// The separator of the fields of a text file; a space stands for runs of white space. By
    /// default it is detected: a comma, semicolon, tab, `|` or white space.
    pub separator: Option<char>,
    /// The decimal mark of a text file, `.` or `,`. By default it is detected.
    pub decimal: Option<char>,
    /// The name of the array to be read from an `.npz` file; needed where there are several.
    pub array: Option<String>,
    /// Whether the table keeps the text of every number of a CSV file, so that numbers that have
    /// not changed can be written exactly as they were read.
    pub keep_text: bool,
    /// Limit on the bytes that are read, after decompression, and on the bytes of memory for the
    /// numbers and the text of a table; 4 GiB by default.
    pub max_bytes: u64,
    /// Limit on the number of columns; 2²⁰ by default. A record of a text file may have 32 bytes
    /// for each.
    pub max_columns: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            label: None,
            ignore: Vec::new(),
            missing: Missing::Reject,
            marks: Vec::new(),
            header: Header::Detect,
            row_names: None,
            separator: None,
            decimal: None,
            array: None,
            keep_text: false,
            // 4 GiB: bounds the memory that a decompression bomb can take.
            max_bytes: 1 << 32,
            // A column costs some 60 bytes for its name, in a file perhaps one.
            max_columns: 1 << 20,
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

    /// Adds marks of missing values to the common ones.
    ///
    /// ```
    /// use elbo::data::files::{Format, Missing, ReadOptions, decode};
    /// let options = ReadOptions::default().missing(Missing::Allow).missing_marks(["-9999"]);
    /// let table = decode::<f64>(b"a,b\n1,n/a\n-9999.0,4\n", Format::Csv, &options)?;
    /// assert_eq!(table.missing, 2);
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    #[must_use]
    pub fn missing_marks<S: Into<String>>(mut self, marks: impl IntoIterator<Item = S>) -> Self {
        self.marks.extend(marks.into_iter().map(Into::into));
        self
    }

    /// Sets whether a CSV file has a header.
    #[must_use]
    pub fn header(mut self, header: Header) -> Self {
        self.header = header;
        self
    }

    /// Sets whether the first column of a CSV file holds the names of the rows.
    #[must_use]
    pub fn row_names(mut self, row_names: bool) -> Self {
        self.row_names = Some(row_names);
        self
    }

    /// Sets the separator of the fields of a text file: an ASCII character that is part of no
    /// number, or a space for runs of white space.
    ///
    /// ```
    /// use elbo::data::files::{Format, ReadOptions, decode};
    /// let options = ReadOptions::default().separator(';').decimal(',');
    /// let table = decode::<f64>(b"a;b\n1,5;2\n3;4,25\n", Format::Csv, &options)?;
    /// assert_eq!(table.values[(1, 1)], 4.25);
    /// # Ok::<(), elbo::data::files::FileError>(())
    /// ```
    #[must_use]
    pub fn separator(mut self, separator: char) -> Self {
        self.separator = Some(separator);
        self
    }

    /// Sets the decimal mark of a text file, `.` or `,`.
    #[must_use]
    pub fn decimal(mut self, decimal: char) -> Self {
        self.decimal = Some(decimal);
        self
    }

    /// Sets the name of the array to be read from an `.npz` file.
    #[must_use]
    pub fn array(mut self, name: impl Into<String>) -> Self {
        self.array = Some(name.into());
        self
    }

    /// Sets whether the table keeps the text of every number of a CSV file.
    #[must_use]
    pub fn keep_text(mut self, keep_text: bool) -> Self {
        self.keep_text = keep_text;
        self
    }

    /// Sets the limit on the bytes that are read and on those of the table in memory.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the limit on the number of columns.
    #[must_use]
    pub fn max_columns(mut self, max_columns: usize) -> Self {
        self.max_columns = max_columns;
        self
    }

    /// The stated separator as a byte.
    pub(super) fn separator_byte(&self) -> Result<Option<u8>, FileError> {
        let Some(separator) = self.separator else { return Ok(None) };
        match u8::try_from(separator).ok().filter(|&byte| separates(byte)) {
            Some(byte) => Ok(Some(byte)),
            None => Err(FileError::InvalidOption {
                option: "separator",
                given: separator.to_string(),
                expected: "a space, a tab or an ASCII sign that is part of no number",
            }),
        }
    }

    /// The stated decimal mark.
    pub(super) fn decimal_mark(&self) -> Result<Option<Decimal>, FileError> {
        match self.decimal {
            None => Ok(None),
            Some('.') => Ok(Some(Decimal::Point)),
            Some(',') => Ok(Some(Decimal::Comma)),
            Some(other) => Err(FileError::InvalidOption {
                option: "decimal",
                given: other.to_string(),
                expected: "a point or a comma",
            }),
        }
    }

    /// The values of the declared marks that are numbers.
    pub(super) fn mark_values(&self) -> Vec<f64> {
        let syntax = Syntax::known(Decimal::Point);
        self.marks.iter().filter_map(|mark| syntax.number(mark)).collect()
    }

    /// The names of columns that must exist.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.label.iter().chain(&self.ignore)
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

    /// Returns the role of every column; `kinds` are the roles that follow from the content of a
    /// file, where the options assign none.
    ///
    /// # Errors
    /// [`FileError::DuplicateColumn`]; [`FileError::UnknownColumn`] if a label or ignored column
    /// does not exist; [`FileError::NoNumbers`] if no numeric column is left.
    pub(super) fn roles(
        &self,
        names: &[String],
        kinds: &[Option<Role>],
    ) -> Result<Vec<Role>, FileError> {
        if let Some(name) = self.names().find(|name| !names.contains(name)) {
            return Err(FileError::UnknownColumn { name: name.clone(), columns: names.len() });
        }
        let roles: Vec<Role> = names
            .iter()
            .zip(kinds)
            .map(|(name, kind)| match self.role(name) {
                Role::Number => kind.unwrap_or(Role::Number),
                role => role,
            })
            .collect();
        // Names identify columns in the options and in errors: those of variables are distinct.
        let named = |column: &usize| matches!(roles[*column], Role::Number | Role::Label);
        let mut sorted: Vec<usize> = (0..names.len()).filter(named).collect();
        sorted.sort_by_key(|&column| (names[column].as_str(), column));
        if let Some(pair) = sorted.windows(2).find(|pair| names[pair[0]] == names[pair[1]]) {
            return Err(FileError::DuplicateColumn {
                name: names[pair[0]].clone(),
                first: pair[0] + 1,
                second: pair[1] + 1,
            });
        }
        match roles.contains(&Role::Number) {
            true => Ok(roles),
            false => Err(FileError::NoNumbers { columns: names.len() }),
        }
    }

    /// Returns the role of each of `columns` columns with the default names, of which none is made.
    ///
    /// # Errors
    /// As [`Self::roles`].
    pub(super) fn numbered_roles(&self, columns: usize) -> Result<Vec<Role>, FileError> {
        let mut roles = vec![Role::Number; columns];
        for name in self.names() {
            let number = name.strip_prefix('x').and_then(|number| number.parse::<usize>().ok());
            let column = number.filter(|number| (1..=columns).contains(number));
            match column.filter(|column| *name == numbered_name(column - 1)) {
                Some(column) => roles[column - 1] = self.role(name),
                None => return Err(FileError::UnknownColumn { name: name.clone(), columns }),
            }
        }
        match roles.contains(&Role::Number) {
            true => Ok(roles),
            false => Err(FileError::NoNumbers { columns }),
        }
    }
}

/// Whether a byte can separate fields: not a part of numbers, names, quotes or lines.
pub(super) fn separates(byte: u8) -> bool {
    (byte.is_ascii_punctuation() || matches!(byte, b' ' | b'\t'))
        && !matches!(byte, b'"' | b'\'' | b'.' | b'+' | b'-')
}

/// Role of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Number,
    Label,
    Ignored,
    /// The names of the rows.
    RowNames,
    /// A column without a name and without entries.
    Empty,
}

/// Returns the default column names `x1`, `x2`, …, for data without a header.
pub(super) fn numbered(columns: usize) -> Vec<String> {
    (0..columns).map(numbered_name).collect()
}

/// Returns the default name of the column with this index, counted from 0.
pub(super) fn numbered_name(column: usize) -> String {
    format!("x{}", column + 1)
}

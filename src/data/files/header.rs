//! Detection of a header, of row names and of empty columns, from the first records of a text file.

use super::dialect::{Dialect, Record, usual_count};
use super::encoding::text;
use super::number::{Syntax, is_common_mark};
use super::options::{Header, Role, numbered};
use super::{FileError, ReadOptions};
use csv::ByteRecord;

/// Names that programs give to a column without a name, as R, pandas and readr write row names.
const UNNAMED: [&str; 3] = ["", "Unnamed: 0", "...1"];

/// The columns of a text file.
#[derive(Debug)]
pub(super) struct Columns {
    pub names: Vec<String>,
    pub roles: Vec<Role>,
    /// Whether the first record is a header.
    pub header: bool,
}

/// Finds the names and roles of the columns. `first` is the first record as a whole, which begins
/// on `line`; the records of the dialect hold the beginning of it only.
///
/// # Errors
/// [`FileError::StrayLine`] for a title or comment above the table, and the errors of
/// [`ReadOptions::roles`].
pub(super) fn columns(
    first: &ByteRecord,
    line: u64,
    dialect: &mut Dialect,
    options: &ReadOptions,
) -> Result<Columns, FileError> {
    let (head, body) = match dialect.records.split_first() {
        Some((head, body)) => (head.clone(), body.to_vec()),
        None => return Err(FileError::EmptyFile),
    };
    let usual = usual_count(&body).unwrap_or(first.len());
    let usual_body: Vec<&Record> = body.iter().filter(|record| record.count == usual).collect();
    // Few records of another length are errors of their own; many are none.
    let usual = if usual_body.len() * 10 >= body.len() * 9 { usual } else { first.len() };
    // Separators at the end of the header only.
    let named = first.len() - head.trailing.min(first.len().saturating_sub(usual));
    let beyond = usual.saturating_sub(named);
    let trailing = usual_body.iter().map(|record| record.trailing).min().unwrap_or(0);
    let mut padding = 0;
    if beyond > 0 && beyond <= trailing {
        // Separators at the end of the rows only.
        padding = beyond;
    } else if beyond == 1
        && !head.fields[0].starts_with('#')
        && has_row_names(&usual_body, dialect, options)
    {
        dialect.layout.short_header = true;
    } else if beyond > 0 && (head.fields[0].starts_with('#') || head.count == 1) {
        return Err(FileError::StrayLine { line, text: head.fields[0].clone() });
    }
    let inspected = usual_body.first().map_or(named, |record| record.fields.len());
    let fields = &head.fields[..head.fields.len().min(named).min(inspected)];
    let short = dialect.layout.short_header;
    let header = short || is_header(fields, &usual_body, dialect, options);
    // No text is made of numbers: tables may be wide.
    let names: Vec<String> = match header {
        true => std::iter::repeat_n(String::new(), usize::from(short))
            .chain(first.iter().take(named).map(|field| text(field).trim().to_owned()))
            .chain(std::iter::repeat_n(String::new(), padding))
            .collect(),
        false => numbered(named + padding),
    };
    let mut kinds = vec![None; names.len()];
    let empty = if header { trailing } else { trailing.min(head.trailing) };
    if names.len() == usual || body.is_empty() {
        row_names(&names, &usual_body, header, dialect, options, &mut kinds);
        empty_columns(&names, &usual_body, header, empty, dialect, options, &mut kinds);
    }
    let roles = options.roles(&names, &kinds)?;
    Ok(Columns { names, roles, header })
}

/// Whether the first fields of the records are names or numbers of rows.
fn has_row_names(body: &[&Record], dialect: &Dialect, options: &ReadOptions) -> bool {
    let first: Vec<&str> = body.iter().map(|record| record.fields[0].as_str()).collect();
    let is_number = |entry: &&str| dialect.syntax.is_number(entry);
    // A line above a table without row names has one field less by chance: its first column then
    // holds a name and numbers.
    let alike = first.iter().all(is_number) || !first.iter().any(is_number);
    options.row_names != Some(false) && alike && named_rows(&first, &dialect.syntax).is_some()
}

/// What the entries of an unnamed column are: names or numbers of rows; `None` for data.
fn named_rows(entries: &[&str], syntax: &Syntax) -> Option<&'static str> {
    if entries.is_empty() || entries.iter().all(|entry| entry.is_empty()) {
        return None;
    }
    if entries.iter().any(|entry| !is_common_mark(entry) && !syntax.is_number(entry)) {
        return Some("names");
    }
    let numbers: Option<Vec<i64>> = entries.iter().map(|entry| entry.parse().ok()).collect();
    let numbers = numbers?;
    // Tables put one below the other count from the start again; a shuffled or filtered table has
    // each number once.
    let counts = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1 || (0..2).contains(&pair[1]));
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    (counts || sorted.windows(2).all(|pair| pair[0] != pair[1])).then_some("numbers")
}

/// Marks the column of row names, which is no variable.
fn row_names(
    names: &[String],
    body: &[&Record],
    header: bool,
    dialect: &mut Dialect,
    options: &ReadOptions,
    kinds: &mut [Option<Role>],
) {
    let name = names[0].as_str();
    if options.row_names == Some(true) {
        kinds[0] = Some(Role::RowNames);
        return;
    }
    let unnamed = header && UNNAMED.contains(&name) && options.role(name) == Role::Number;
    if !unnamed || options.row_names == Some(false) || names.len() < 2 {
        return;
    }
    let entries: Vec<&str> = body.iter().map(|record| record.fields[0].as_str()).collect();
    let column = if name.is_empty() { "unnamed column".into() } else { format!("column {name:?}") };
    match named_rows(&entries, &dialect.syntax) {
        Some(what) => {
            kinds[0] = Some(Role::RowNames);
            dialect.notes.push(format!(
                "the {column} holds {what} of rows and is no variable; the option row_names says \
                 otherwise"
            ));
        }
        None if !entries.iter().all(|entry| entry.is_empty()) => dialect.notes.push(format!(
            "the {column} was read as a variable; the options row_names and ignore leave it out"
        )),
        None => {}
    }
}

/// Marks the columns without a name and without an entry, which separators at the ends of lines
/// make.
fn empty_columns(
    names: &[String],
    body: &[&Record],
    header: bool,
    trailing: usize,
    dialect: &mut Dialect,
    options: &ReadOptions,
    kinds: &mut [Option<Role>],
) {
    if body.is_empty() {
        return;
    }
    let first_trailing = names.len().saturating_sub(trailing).max(1);
    let mut found = 0;
    for (column, (name, kind)) in names.iter().zip(kinds).enumerate() {
        let nameless = if header { name.is_empty() } else { column >= first_trailing };
        if !nameless || kind.is_some() || options.role(name) != Role::Number {
            continue;
        }
        let within =
            body.iter().all(|record| record.fields.get(column).is_none_or(String::is_empty));
        let known = column >= first_trailing || column < body[0].fields.len();
        if within && known {
            *kind = Some(Role::Empty);
            found += 1;
        }
    }
    if found > 0 {
        let columns = if found == 1 { "1 column" } else { &format!("{found} columns") };
        dialect.notes.push(format!("{columns} without name and entries left out"));
    }
}

/// Whether the first record is a header.
///
/// With [`Header::Detect`], a record with both text and numbers in numeric columns counts as data,
/// so that its text is reported as an error. Counted as a header, it would silently lose an
/// observation.
fn is_header(
    first: &[String],
    body: &[&Record],
    dialect: &mut Dialect,
    options: &ReadOptions,
) -> bool {
    match options.header {
        Header::Present => return true,
        Header::Absent => return false,
        Header::Detect => {}
    }
    let syntax = &dialect.syntax;
    let number = |field: &String| syntax.is_number(field);
    // The name of a label or ignored column occurs in a header only. A numeric name counts if every
    // name of the options occurs: one of them could be a value by chance.
    let named: Vec<&String> = options.names().collect();
    let role = |field: &String| options.role(field) != Role::Number && !field.is_empty();
    if first.iter().any(|field| role(field) && !number(field))
        || !named.is_empty() && named.iter().all(|name| first.contains(name))
    {
        return true;
    }
    // Otherwise the file has no column names that the options could refer to, and the roles follow
    // from the default names x1, x2, ….
    let names = numbered(first.len());
    let numeric =
        || (0..first.len()).filter(|&column| options.role(&names[column]) == Role::Number);
    let text = numeric().any(|column| !number(&first[column]) && !is_common_mark(&first[column]));
    let numbers: Vec<usize> = numeric().filter(|&column| number(&first[column])).collect();
    if numbers.is_empty() {
        return text;
    }
    let labels = Labels::of(first, body, &numbers, syntax);
    let index = first[0].is_empty() && over_row_names(first, body, &numbers, syntax);
    let header = labels.are_names() || index;
    if header {
        dialect.notes.push(format!(
            "the first line was read as a header: its numbers ({}, …) look like names; the option \
             header says otherwise",
            first[numbers[0]]
        ));
    }
    header
}

/// Whether the first field is empty over a column of row names, and the others are distinct: what
/// pandas writes above its index.
fn over_row_names(first: &[String], body: &[&Record], numbers: &[usize], syntax: &Syntax) -> bool {
    let entries: Vec<&str> = body.iter().map(|record| record.fields[0].as_str()).collect();
    let complete = entries.len() > 1 && entries.iter().all(|entry| !entry.is_empty());
    let text = entries.iter().all(|entry| !syntax.is_number(entry) && !is_common_mark(entry));
    let counted: Option<Vec<i64>> = entries.iter().map(|entry| entry.parse().ok()).collect();
    let counted = counted.is_some_and(|numbers| {
        (0..2).contains(&numbers[0]) && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
    });
    let mut names: Vec<&String> = numbers.iter().map(|&column| &first[column]).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    complete && (text || counted) && names.len() == all && all + 1 == first.len()
}

/// Numbers of a first record, beside those of the records below.
struct Labels {
    first: Vec<f64>,
    /// The numbers of the records below, without records that lack one.
    rows: Vec<Vec<f64>>,
    /// Whether the first record has integers over columns of which most hold other numbers.
    integers_over_decimals: bool,
    integers: bool,
    /// Whether each number lies outside the range of the numbers below.
    outside: bool,
}

impl Labels {
    fn of(first: &[String], body: &[&Record], columns: &[usize], syntax: &Syntax) -> Self {
        let value = |field: &String| syntax.number::<f64>(field).unwrap_or(f64::NAN);
        let integer = |field: &str| {
            let digits = field.trim_start_matches('-');
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        let row = |fields: &[String]| -> Vec<f64> {
            columns.iter().map(|&column| value(&fields[column])).collect()
        };
        let rows: Vec<Vec<f64>> = body.iter().map(|record| row(&record.fields)).collect();
        let column = |column: usize| {
            let entries = body.iter().map(move |record| record.fields[column].as_str());
            entries.filter(|entry| syntax.is_number(entry))
        };
        let over_decimals = |&at: &usize| {
            let decimals = column(at).filter(|entry| !integer(entry)).count();
            2 * decimals > column(at).count()
        };
        let outside = |&at: &usize| {
            let label = value(&first[at]);
            let numbers = || column(at).filter_map(|entry| syntax.number::<f64>(entry));
            numbers().count() >= 3
                && (numbers().all(|number| number < label)
                    || numbers().all(|number| number > label))
        };
        let integers = columns.iter().all(|&at| integer(&first[at]));
        let contrast = columns.iter().filter(|at| over_decimals(at)).count();
        Self {
            first: row(first),
            rows: rows.into_iter().filter(|row| row.iter().all(|x| x.is_finite())).collect(),
            integers_over_decimals: integers && 2 * contrast >= columns.len(),
            integers,
            outside: columns.iter().all(outside),
        }
    }

    /// Whether the numbers are names of columns: years, or numbers that count up in equal steps, as
    /// at most one in ten of the records below does, and that differ in kind or range from the
    /// numbers below.
    fn are_names(&self) -> bool {
        let d = self.first.len();
        let alone = |kind: fn(&[f64]) -> bool| {
            let alike = self.rows.iter().filter(|row| kind(row)).count();
            self.rows.len() > 1 && kind(&self.first) && 10 * alike <= self.rows.len()
        };
        let differ = self.integers_over_decimals || self.outside;
        let counted = self.first[0] == 0.0 && d >= 3 || d >= 5;
        (self.integers && alone(years) && differ)
            || (self.integers
                && alone(consecutive)
                && (self.integers_over_decimals || self.outside && d >= 3 || counted))
            || (d >= 3 && alone(equal_steps) && self.outside)
            || (d >= 5 && alone(rising) && self.outside)
    }
}

fn years(row: &[f64]) -> bool {
    let mut sorted = row.to_vec();
    sorted.sort_by(f64::total_cmp);
    row.iter().all(|year| (1500.0..=2200.0).contains(year) && year.fract() == 0.0)
        && sorted.windows(2).all(|pair| pair[0] != pair[1])
}

fn consecutive(row: &[f64]) -> bool {
    row.len() > 1 && row.windows(2).all(|pair| pair[1] - pair[0] == 1.0)
}

fn equal_steps(row: &[f64]) -> bool {
    let step = row[1] - row[0];
    // Steps of decimals are equal up to the rounding of the numbers.
    let size = row.iter().fold(0.0_f64, |size, x| size.max(x.abs()));
    step != 0.0
        && row.windows(2).all(|pair| (pair[1] - pair[0] - step).abs() <= 8.0 * f64::EPSILON * size)
}

fn rising(row: &[f64]) -> bool {
    row.is_sorted_by(|a, b| a < b) || row.is_sorted_by(|a, b| a > b)
}

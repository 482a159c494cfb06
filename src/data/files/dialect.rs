//! Detection of how a text file is written, from its first records: the separator of the fields and
//! the decimal mark.

use super::encoding::{Decoder, text};
use super::number::{Decimal, Syntax, is_common_mark};
use super::text::{BUFFER, Budget, Limited, Newlines, RecordLimit, Spaces};
use super::{FileError, ReadOptions};
use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};
use std::io::Read;

/// The separators that are looked for, in order of preference. A space stands for any run of white
/// space.
const SEPARATORS: [u8; 5] = [b',', b';', b'\t', b'|', b' '];

/// Records and fields of a record that are inspected.
const RECORDS: usize = 200;
const FIELDS: usize = 1000;

/// Fewer records than this do not decide between two integer columns and decimal commas: short
/// tables are read as columns, with a note.
const SHORT: usize = 4;

/// How the fields of a text file are written; a table is written in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub separator: u8,
    pub decimal: Decimal,
    /// Whether lines end with `\r\n`.
    pub crlf: bool,
    /// Whether the file begins with a byte-order mark.
    pub marked: bool,
    /// Whether the header has no field for the first column, as R writes row names.
    pub short_header: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            separator: b',',
            decimal: Decimal::Point,
            crlf: false,
            marked: false,
            short_header: false,
        }
    }
}

/// The beginning of a text file.
pub(super) struct Sample {
    pub bytes: Vec<u8>,
    /// Whether it is the whole file.
    pub complete: bool,
}

impl Sample {
    /// Reads at least 64 KiB and three lines, at most the limit of one record.
    pub(super) fn read(decoder: &mut Decoder<'_>, limit: RecordLimit) -> Result<Self, FileError> {
        let mut bytes = Vec::new();
        let (mut lines, mut separators) = (0, [0; 4]);
        loop {
            let before = bytes.len();
            let read = decoder.take(BUFFER as u64).read_to_end(&mut bytes);
            let read = read.map_err(FileError::reading)?;
            let piece = &bytes[before..];
            let count = |wanted: u8| piece.iter().filter(|&&byte| byte == wanted).count();
            lines += count(b'\n').max(count(b'\r'));
            for (total, &separator) in separators.iter_mut().zip(&SEPARATORS) {
                *total += count(separator);
                if lines == 0 {
                    limit.check(total.saturating_sub(BUFFER))?;
                }
            }
            let complete = read < BUFFER;
            if complete || lines >= 3 || bytes.len() >= limit.bytes() {
                return Ok(Self { bytes, complete });
            }
        }
    }

    fn crlf(&self) -> bool {
        let end = self.bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        end.is_some_and(|end| self.bytes[end..].starts_with(b"\r\n"))
    }

    /// The separator of a first line such as `sep=;`, which spreadsheets write.
    fn declared(&self) -> Option<u8> {
        let line = self.bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
        let line = line.strip_prefix(b"\"").unwrap_or(line);
        let line = line.strip_suffix(b"\"").unwrap_or(line);
        match line {
            [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', separator] => Some(*separator),
            _ => None,
        }
    }
}

/// A record of the sample, of which at most the first 1000 fields are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub fields: Vec<String>,
    /// The number of its fields.
    pub count: usize,
    /// The number of empty fields at its end.
    pub trailing: usize,
}

/// What was found about a text file before its records are read.
#[derive(Debug)]
pub(super) struct Dialect {
    pub layout: Layout,
    pub syntax: Syntax,
    /// Whether the first line declares the separator and is no record.
    pub declared: bool,
    /// The first records.
    pub records: Vec<Record>,
    pub notes: Vec<String>,
}

/// The CSV parser over all adapters.
pub(super) type Records<'b, R> = Reader<Limited<'b, Spaces<Newlines<R>>>>;

pub(super) fn parser<R: Read>(
    input: R,
    separator: u8,
    limit: RecordLimit,
    budget: &Budget,
) -> Records<'_, R> {
    let inner = Spaces::new(Newlines::new(input), separator == b' ');
    budget.renew(limit);
    // `has_headers(false)`: the header is detected with the options. `flexible`: records of unequal
    // length are reported with the expected number of fields.
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .terminator(Terminator::Any(b'\n'))
        .buffer_capacity(BUFFER)
        .from_reader(Limited { inner, separator, limit, budget })
}

/// Splits the sample into its records.
fn records(
    sample: &Sample,
    separator: u8,
    skip: usize,
    limit: RecordLimit,
) -> Result<Vec<Record>, FileError> {
    let budget = Budget::default();
    let mut reader = parser(sample.bytes.as_slice(), separator, limit, &budget);
    let mut record = ByteRecord::new();
    let mut records = Vec::new();
    while records.len() < RECORDS + skip
        && reader.read_byte_record(&mut record).map_err(FileError::parsing)?
    {
        budget.renew(limit);
        let kept = record.iter().take(FIELDS).map(|field| text(field).trim().to_owned());
        let trailing =
            (0..record.len()).rev().take_while(|&field| record[field].trim_ascii().is_empty());
        records.push(Record {
            fields: kept.collect(),
            count: record.len(),
            trailing: trailing.count(),
        });
    }
    // The sample may end within a record; one cut record is better than none.
    if !sample.complete && records.len() < RECORDS + skip && records.len() > skip + 1 {
        records.pop();
    }
    Ok(records.split_off(skip.min(records.len())))
}

/// Detects separator and decimal mark, where the options do not state them.
pub(super) fn detect(
    sample: &Sample,
    options: &ReadOptions,
    limit: RecordLimit,
) -> Result<Dialect, FileError> {
    let stated = options.separator_byte()?;
    let declared = sample.declared();
    let skip = usize::from(declared.is_some());
    let mut notes = Vec::new();
    let separator = match stated.or(declared.filter(|&byte| super::options::separates(byte))) {
        Some(separator) => separator,
        None => best(sample, skip, limit)?,
    };
    let mut layout = Layout { separator, crlf: sample.crlf(), ..Layout::default() };
    let mut found = records(sample, separator, skip, limit)?;
    let decimal = options.decimal_mark()?;
    if stated.or(declared).is_none() && matches!(separator, b',' | b' ') {
        match single_column(&found, separator, decimal)? {
            Some(true) => {
                // One field in each record, whatever separator that does not occur.
                layout.separator = b';';
                notes.push(
                    "each line was read as one number; the option separator says otherwise".into(),
                );
                found = records(sample, b';', skip, limit)?;
            }
            Some(false) => notes.push(
                "commas were read as separators of columns; if they are decimal marks, set the \
                 option decimal"
                    .into(),
            ),
            None => {}
        }
    }
    if stated.or(declared).is_none() && layout.separator != b',' && found[..].iter().any(wide) {
        notes.push(format!(
            "fields are separated by {}; the option separator says otherwise",
            name(layout.separator)
        ));
    }
    let syntax = syntax(&found, options, decimal, layout.separator, &mut notes);
    layout.decimal = syntax.decimal;
    Ok(Dialect { layout, syntax, declared: skip > 0, records: found, notes })
}

fn wide(record: &Record) -> bool {
    record.count > 1
}

/// A separator for a message.
pub(super) fn name(separator: u8) -> String {
    match separator {
        b'\t' => "tabs".into(),
        b' ' => "white space".into(),
        _ => format!("{:?}", char::from(separator)),
    }
}

fn numeric(field: &str) -> bool {
    is_common_mark(field)
        || [Decimal::Point, Decimal::Comma].iter().any(|&decimal| {
            // White space around a number belongs to no number.
            Syntax::known(decimal).is_number(field)
        })
}

/// The separator that splits the records into equally many fields, of which most are numbers.
fn best(sample: &Sample, skip: usize, limit: RecordLimit) -> Result<u8, FileError> {
    let mut best = (b',', 0.0);
    for separator in SEPARATORS {
        if !sample.bytes.contains(&separator) {
            continue;
        }
        let records = records(sample, separator, skip, limit)?;
        // The first record may be a header or a title.
        let body = if records.len() > 1 { &records[1..] } else { &records[..] };
        let Some(count) = usual_count(body).filter(|&count| count > 1) else { continue };
        let usual = body.iter().filter(|record| record.count == count);
        let consistent = usual.clone().count() as f64 / body.len() as f64;
        let (mut fields, mut numbers) = (0, 0);
        for field in usual.flat_map(|record| &record.fields) {
            fields += 1;
            numbers += usize::from(numeric(field));
        }
        let share = f64::from(numbers as u32) / f64::from(fields.max(1) as u32);
        // White space separates the words of a text as well.
        if separator == b' ' && share < 0.5 {
            continue;
        }
        let score = consistent * (share + 0.01);
        if score > best.1 {
            best = (separator, score);
        }
    }
    Ok(best.0)
}

/// The most frequent number of fields; of several, the largest.
pub(super) fn usual_count(records: &[Record]) -> Option<usize> {
    let mut counts: Vec<usize> = records.iter().map(|record| record.count).collect();
    counts.sort_unstable();
    let groups = counts.chunk_by(|a, b| a == b);
    groups.max_by_key(|group| group.len()).map(|group| group[0])
}

/// What two neighbouring fields of digits can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairs {
    Columns,
    Decimals,
    Unclear,
}

/// Whether records that a comma or space splits are in fact one number each: `3,05`, `1 100`.
///
/// Returns true for one column, false for columns that may also be decimals, `None` for columns.
///
/// # Errors
/// [`FileError::Ambiguous`] where the records do not decide.
fn single_column(
    records: &[Record],
    separator: u8,
    decimal: Option<Decimal>,
) -> Result<Option<bool>, FileError> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let named = records.first().filter(|first| !first.fields.iter().any(|field| numeric(field)));
    let body = if named.is_some() { &records[1..] } else { records };
    let Some(first) = body.first() else { return Ok(None) };
    let ambiguous = || {
        let text = first.fields[..2].join(&char::from(separator).to_string());
        let (separator, fields) = (char::from(separator), first.count);
        Err(FileError::Ambiguous { text, separator, fields })
    };
    let one_name = named.is_some_and(|named| named.count == 1);
    let two = body.iter().all(|record| record.count == 2);
    if separator == b' ' {
        // Groups of thousands: `1 100.50`.
        let joined = |record: &Record| {
            let whole = record.fields.join(" ");
            Syntax::known(Decimal::Point).is_number(&whole)
                || Syntax::known(Decimal::Comma).is_number(&whole)
        };
        return match body.iter().all(joined) && first.count > 1 {
            true if one_name => Ok(Some(true)),
            true if named.is_none() => ambiguous(),
            _ => Ok(None),
        };
    }
    let even = body.iter().all(|record| record.count == first.count) && first.count % 2 == 0;
    if !even || named.is_some_and(|named| named.count == first.count) {
        return Ok(None);
    }
    let pairs: Vec<[&str; 2]> = body
        .iter()
        .flat_map(|record| record.fields.chunks_exact(2))
        .map(|pair| [pair[0].as_str(), pair[1].as_str()])
        .collect();
    let unsigned = |text: &str| digits(text.trim_start_matches(['+', '-']));
    if !pairs.iter().all(|[a, b]| unsigned(a) && digits(b)) {
        return Ok(None);
    }
    match (evidence(&pairs), decimal) {
        _ if one_name && two && decimal != Some(Decimal::Point) => Ok(Some(true)),
        (Pairs::Columns, _) | (_, Some(Decimal::Point)) => Ok(None),
        (_, Some(Decimal::Comma)) | (Pairs::Decimals, None) if two => Ok(Some(true)),
        // Commas cannot both separate fields and mark decimals.
        (_, Some(Decimal::Comma)) | (Pairs::Decimals, None) => ambiguous(),
        (Pairs::Unclear, None) if two && body.len() >= SHORT => ambiguous(),
        (Pairs::Unclear, None) => {
            Ok((two || pairs.iter().any(|[_, b]| b.len() > 1)).then_some(false))
        }
    }
}

/// Reads the digits before and after a comma. A column of integers has no leading zeros, and one
/// value in ten ends in 0; decimals that were printed as short as possible never end in 0, and one
/// in ten begins with it.
fn evidence(pairs: &[[&str; 2]]) -> Pairs {
    // So many without a leading zero: by chance in one of a hundred tables of decimals.
    const MANY: usize = 44;
    let long = |text: &str| text.len() > 1;
    let length = pairs.first().map_or(0, |pair| pair[1].len());
    let equal = pairs.iter().all(|pair| pair[1].len() == length);
    let thousands = equal && length == 3;
    let leading = |text: &str| long(text) && text.starts_with('0');
    if pairs.iter().any(|pair| leading(pair[0].trim_start_matches(['+', '-']))) {
        return Pairs::Columns;
    }
    if pairs.iter().any(|pair| leading(pair[1]) || pair[0] == "-0") {
        return if thousands { Pairs::Unclear } else { Pairs::Decimals };
    }
    let shortened = pairs.iter().any(|pair| long(pair[1]) && pair[1].ends_with('0'));
    if !equal && shortened || pairs.iter().filter(|pair| long(pair[1])).count() >= MANY {
        return Pairs::Columns;
    }
    Pairs::Unclear
}

/// The syntax of the numbers: the decimal mark that the fields show.
fn syntax(
    records: &[Record],
    options: &ReadOptions,
    decimal: Option<Decimal>,
    separator: u8,
    notes: &mut Vec<String>,
) -> Syntax {
    let point = Syntax::known(Decimal::Point);
    let comma = Syntax::known(Decimal::Comma);
    let (mut points, mut commas, mut unclear) = (0, 0, None);
    for field in records.iter().flat_map(|record| &record.fields) {
        if !field.contains([',', '.', '\'', '’', ' ', '\u{a0}', '\u{2009}', '\u{202f}']) {
            continue;
        }
        let (a, b) = (point.is_number(field), comma.is_number(field));
        points += usize::from(a && !b && field.contains('.'));
        commas += usize::from(b && !a && field.contains(','));
        if a && b && field.contains([',', '.']) {
            unclear = unclear.or(Some(field));
        }
    }
    let found = match decimal {
        Some(decimal) => decimal,
        None if commas > 0 && points == 0 => Decimal::Comma,
        None => Decimal::Point,
    };
    if decimal.is_none() && found == Decimal::Comma {
        notes.push("numbers have decimal commas; the option decimal says otherwise".into());
    }
    if let Some(field) = unclear
        && decimal.is_none()
        && points + commas == 0
        && separator == b';'
        && field.contains('.')
    {
        notes.push(format!(
            "{field:?} was read with a decimal point; if it groups thousands, set the option \
             decimal"
        ));
    }
    let value = |mark: &str| Syntax::known(found).number(mark);
    let syntax = Syntax {
        decimal: found,
        certain: decimal.is_some() || points + commas > 0,
        marks: options.marks.iter().map(|mark| (mark.clone(), value(mark))).collect(),
    };
    let fields = || records.iter().flat_map(|record| &record.fields);
    if let Some(field) = fields().find(|field| syntax.has_groups(field)) {
        notes.push(format!("{field:?} was read with marks between groups of thousands"));
    }
    syntax
}

//! CSV writer: header, rows and columns in the order in which they were read.

use super::source::is_gz;
use super::table::{parse, print};
use super::{FileError, Location, Table};
use crate::Real;
use flate2::{Compression, write::GzEncoder};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Creates a file with the content that `body` writes, gzip-compressed if its name ends in `.gz`.
pub(super) fn create(
    path: &Path,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let write = || {
        // 64 KiB: few system calls for rows of some hundred bytes.
        let mut out = BufWriter::with_capacity(1 << 16, File::create(path)?);
        if is_gz(path) {
            let mut encoder = GzEncoder::new(&mut out, Compression::default());
            body(&mut encoder)?;
            encoder.finish()?;
        } else {
            body(&mut out)?;
        }
        // `BufWriter` ignores errors when it is dropped; `flush` returns them.
        out.flush()
    };
    write().map_err(FileError::writing)
}

/// Writes a table as a CSV file, gzip-compressed if the name ends in `.gz`.
///
/// The header (if there was one), the rows and the columns keep the order of the file, and label
/// and ignored columns keep their text. Every number is written so that it parses to a
/// bit-identical value, NaN as an empty field. A number whose text was
/// [kept](super::ReadOptions::keep_text) is written with that text, unless its value has changed.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("elbo-doc-{}.csv", std::process::id()));
/// use elbo::data::files::{decode, read, write_csv, Format, Missing, ReadOptions};
/// let options = ReadOptions::default().missing(Missing::Allow).keep_text(true);
/// let mut table = decode::<f64>(b"a,label,b\n1.0,u,\n3,v,4\n", Format::Csv, &options)?;
/// table.values[(1, 0)] = 2.5;
/// write_csv(&path, &table)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,label,b\n1.0,u,2.5\n3,v,4\n");
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
///
/// # Errors
/// [`FileError::DimensionMismatch`] for a table whose parts disagree in size;
/// [`FileError::Infinite`]; [`FileError::Unwritable`] if the file cannot be written.
pub fn write_csv<T: Real>(path: impl AsRef<Path>, table: &Table<T>) -> Result<(), FileError> {
    verify(table)?;
    create(path.as_ref(), |out| records(out, table))
}

/// Returns the CSV text of a table: the content of the file that [`write_csv`] writes.
///
/// # Errors
/// [`FileError::DimensionMismatch`] for a table whose parts disagree in size;
/// [`FileError::Infinite`].
pub fn encode_csv<T: Real>(table: &Table<T>) -> Result<Vec<u8>, FileError> {
    verify(table)?;
    let mut bytes = Vec::new();
    records(&mut bytes, table).map_err(FileError::writing)?;
    Ok(bytes)
}

/// Checks the sizes, the positions and the values of a table, before a file is created.
fn verify<T: Real>(table: &Table<T>) -> Result<(), FileError> {
    let (d, n) = table.values.shape();
    let same = |what, expected, actual| match expected == actual {
        true => Ok(()),
        false => Err(FileError::DimensionMismatch { what, expected, actual }),
    };
    same("names of columns", d, table.names.len())?;
    // `merge` passes over the positions once: they must rise, and lie within the table.
    let columns = d + table.apart.len();
    let mut free = 0;
    for column in &table.apart {
        same("entries of a column kept apart", n, column.text.len())?;
        if column.position < free || column.position >= columns {
            return Err(FileError::DimensionMismatch {
                what: "position of a column kept apart",
                expected: free,
                actual: column.position,
            });
        }
        free = column.position + 1;
    }
    // A reader would reject an infinite value. NaN is written as an empty field.
    for (row, observation) in table.values.column_iter().enumerate() {
        if let Some((value, name)) =
            observation.iter().zip(&table.names).find(|(value, _)| value.as_f64().is_infinite())
        {
            return Err(FileError::Infinite {
                place: Location::Row(row as u64 + 1),
                column: name.clone(),
                text: print(*value),
            });
        }
    }
    Ok(())
}

/// Writes the header, if there is one, and the records of a table.
fn records<T: Real>(out: &mut dyn Write, table: &Table<T>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    // A file without a header has names x1, x2, … that were not in it.
    if table.header {
        let apart = table.apart.iter().map(|column| (column.position, column.name.as_str()));
        writer.write_record(merge(table.names.iter().map(String::as_str), apart))?;
    }
    for (row, observation) in table.values.column_iter().enumerate() {
        // The text that was read, if it still parses to the value.
        let as_it_stood = |j: usize, value: T| {
            let text = table.text.as_ref()?.get(row * observation.len() + j)?;
            (parse(text) == Some(value)).then_some(Cow::Borrowed(text))
        };
        let number = |(j, &value): (usize, &T)| {
            as_it_stood(j, value).unwrap_or_else(|| Cow::Owned(print(value)))
        };
        let numbers: Vec<Cow<'_, str>> = observation.iter().enumerate().map(number).collect();
        let apart = table.apart.iter().map(|column| (column.position, column.text[row].as_str()));
        writer.write_record(merge(numbers.iter().map(AsRef::as_ref), apart))?;
    }
    writer.flush()
}

/// Merges numbers and text columns (with their positions) into a record in file order.
fn merge<'a>(
    numbers: impl Iterator<Item = &'a str>,
    apart: impl Iterator<Item = (usize, &'a str)>,
) -> impl Iterator<Item = &'a str> {
    let (mut numbers, mut apart) = (numbers, apart.peekable());
    (0..).map_while(move |position| match apart.next_if(|(place, _)| *place == position) {
        Some((_, text)) => Some(text),
        None => numbers.next(),
    })
}

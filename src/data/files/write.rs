//! Writing a table again, with the same header, rows and columns.

use super::source::is_gz;
use super::table::{parse, print};
use super::{FileError, Location, Table};
use crate::Real;
use flate2::{Compression, write::GzEncoder};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Creates a file, in gzip if its name ends in `.gz`, and lets `body` fill it.
pub(super) fn create(
    path: &Path,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 16, File::create(path)?);
        if is_gz(path) {
            let mut encoder = GzEncoder::new(&mut out, Compression::default());
            body(&mut encoder)?;
            encoder.finish()?;
        } else {
            body(&mut out)?;
        }
        out.flush()
    };
    write().map_err(FileError::writing)
}

/// Writes a table as CSV: the header if there was one, rows and columns in the order of the file,
/// the columns kept apart as they were, every number so that it reads back as the same bits, NaN as
/// an empty field. A number whose text was [kept](super::ReadOptions::keep_text) stands as it
/// stood, unless it is another by now. Gzip if the name ends in `.gz`.
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
/// A table whose parts differ in size, an infinite value, a file that cannot be written.
pub fn write_csv<T: Real>(path: impl AsRef<Path>, table: &Table<T>) -> Result<(), FileError> {
    verify(table)?;
    create(path.as_ref(), |out| records(out, table))
}

/// The text that [`write_csv`] writes.
///
/// # Errors
/// A table whose parts differ in size, an infinite value.
pub fn encode_csv<T: Real>(table: &Table<T>) -> Result<Vec<u8>, FileError> {
    verify(table)?;
    let mut bytes = Vec::new();
    records(&mut bytes, table).map_err(FileError::writing)?;
    Ok(bytes)
}

/// The sizes must agree before a file is begun.
fn verify<T: Real>(table: &Table<T>) -> Result<(), FileError> {
    let (d, n) = table.values.shape();
    let same = |what, expected, actual| match expected == actual {
        true => Ok(()),
        false => Err(FileError::Dimension { what, expected, actual }),
    };
    same("names of columns", d, table.names.len())?;
    let columns = d + table.apart.len();
    let mut free = 0;
    for column in &table.apart {
        same("entries of a column kept apart", n, column.text.len())?;
        if column.position < free || column.position >= columns {
            return Err(FileError::Dimension {
                what: "position of a column kept apart",
                expected: free,
                actual: column.position,
            });
        }
        free = column.position + 1;
    }
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

fn records<T: Real>(out: &mut dyn Write, table: &Table<T>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    if table.header {
        let apart = table.apart.iter().map(|column| (column.position, column.name.as_str()));
        writer.write_record(merge(table.names.iter().map(String::as_str), apart))?;
    }
    for (row, observation) in table.values.column_iter().enumerate() {
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

/// The fields of a record in the order of the file.
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

//! Writers: header, rows and columns in the order in which they were read.

use super::dialect::Layout;
use super::number::{Decimal, Syntax};
use super::source::is_gz;
use super::table::{TextColumn, print};
use super::{FileError, Format, Location, Table};
use crate::Real;
use csv::{QuoteStyle, Terminator, WriterBuilder};
use flate2::{Compression, write::GzEncoder};
use std::borrow::Cow;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Creates a file with the content that `body` writes, gzip-compressed if its name ends in `.gz`.
///
/// The content is written to a new file in the same folder, which replaces the old one when it is
/// complete and on the disk: a failure leaves the old file as it was.
pub(super) fn create(
    path: &Path,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let replace = || {
        // A symbolic link stays one: the file that it points to is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let old = std::fs::metadata(&path).ok();
        // Devices and pipes are written to.
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            return content(File::create(&path)?, is_gz(&path), body).map(|_| ());
        }
        let (temporary, file) = temporary(&path)?;
        let permissions = old.map(|old| old.permissions());
        let written = finish(file, &temporary, &path, permissions, body);
        if written.is_err() {
            // The error that is returned is the one that matters.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    };
    replace().map_err(FileError::writing)
}

/// Writes the new file and gives it the name of the old one.
fn finish(
    file: File,
    temporary: &Path,
    path: &Path,
    permissions: Option<Permissions>,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // A read-only file is not replaced, although its folder would allow it.
    if permissions.as_ref().is_some_and(Permissions::readonly) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let file = content(file, is_gz(path), body)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.sync_all()?;
    drop(file);
    std::fs::rename(temporary, path)
}

/// Creates a new file beside `path`, with a name of its own.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Shortened, so that the name does not exceed the limit of the file system.
        let name: String = name.chars().take(40).collect();
        let path = path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => return file.map(|file| (path, file)),
        }
    }
}

/// Writes the content of a file.
fn content(
    file: File,
    gz: bool,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<File> {
    // 64 KiB: few system calls for rows of some hundred bytes.
    let mut out = BufWriter::with_capacity(1 << 16, file);
    if gz {
        let mut encoder = GzEncoder::new(&mut out, Compression::default());
        body(&mut encoder)?;
        encoder.finish()?;
    } else {
        body(&mut out)?;
    }
    // `BufWriter` ignores errors when it is dropped; `into_inner` returns them.
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Writes a table in the format that the file name implies ([`Format::of`]): delimited text as by
/// [`write_csv`], with tabs if the name ends in `.tsv` or `.tab`, or the numbers as by
/// [`write_npy`](super::write_npy).
///
/// ```
/// # let path = std::env::temp_dir().join(format!("elbo-doc-{}.tsv", std::process::id()));
/// use elbo::data::files::{Format, ReadOptions, decode, write};
/// let table = decode::<f64>(b"a,b\n1,2\n3,4\n", Format::Csv, &ReadOptions::default())?;
/// write(&path, &table)?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\tb\n1\t2\n3\t4\n");
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
///
/// # Errors
/// [`FileError::NotWritten`] for IDX files and `.npz` archives, [`FileError::UnknownFormat`], and
/// those of the two functions.
pub fn write<T: Real>(path: impl AsRef<Path>, table: &Table<T>) -> Result<(), FileError> {
    let path = path.as_ref();
    match written_format(path)? {
        Format::Npy => super::write_npy(path, &table.values),
        _ => write_csv(path, table),
    }
}

/// Returns the format in which [`write()`] writes a file of this name.
///
/// # Errors
/// [`FileError::NotWritten`] for a format that is read only; [`FileError::UnknownFormat`].
#[doc(hidden)] // for the programs, before the work
pub fn written_format(path: impl AsRef<Path>) -> Result<Format, FileError> {
    let path = path.as_ref();
    // A device or a pipe has no ending.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return Ok(Format::Csv);
    }
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match Format::of(path)? {
        Format::Idx => Err(FileError::NotWritten { name: name() }),
        Format::Npy if super::ends_in(path, &[".npz"]) => {
            Err(FileError::NotWritten { name: name() })
        }
        format => Ok(format),
    }
}

/// Writes a table as delimited text, gzip-compressed if the name ends in `.gz`.
///
/// Separator, decimal mark, line ends and byte-order mark are those of the file that the table was
/// read from; the separator is a tab if the name ends in `.tsv` or `.tab`. The header (if there was one), the rows and the columns keep the order of the file, and label
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
    let mut layout = table.layout;
    if super::ends_in(path.as_ref(), &super::TABS) {
        layout.separator = b'\t';
    }
    create(path.as_ref(), |out| records(out, table, layout))
}

/// Returns the CSV text of a table: the content of the file that [`write_csv`] writes.
///
/// # Errors
/// [`FileError::DimensionMismatch`] for a table whose parts disagree in size;
/// [`FileError::Infinite`].
pub fn encode_csv<T: Real>(table: &Table<T>) -> Result<Vec<u8>, FileError> {
    verify(table)?;
    let mut bytes = Vec::new();
    records(&mut bytes, table, table.layout).map_err(FileError::writing)?;
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
        if !column.text.is_empty() {
            same("entries of a column kept apart", n, column.text.len())?;
        }
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
fn records<T: Real>(out: &mut dyn Write, table: &Table<T>, layout: Layout) -> io::Result<()> {
    if layout.marked {
        out.write_all("\u{feff}".as_bytes())?;
    }
    let empty = |text: &String| text.is_empty();
    let spaces = layout.separator == b' ';
    // Between spaces an empty field shows only in quotes.
    let unnamed =
        |column: &TextColumn| empty(&column.name) && !(layout.short_header && column.position == 0);
    let quoted = spaces
        && table.apart.iter().any(|column| {
            unnamed(column) || column.text.iter().any(empty) || column.text.is_empty()
        });
    let end = if layout.crlf { Terminator::CRLF } else { Terminator::Any(b'\n') };
    let mut writer = WriterBuilder::new()
        .flexible(layout.short_header)
        .delimiter(layout.separator)
        .terminator(end)
        .quote_style(if quoted { QuoteStyle::NonNumeric } else { QuoteStyle::Necessary })
        .from_writer(out);
    // A file without a header has names x1, x2, … that were not in it.
    if table.header {
        let apart = table.apart.iter().map(|column| (column.position, column.name.as_str()));
        let names = merge(table.names.iter().map(String::as_str), apart);
        writer.write_record(names.skip(usize::from(layout.short_header)))?;
    }
    let syntax = Syntax::known(layout.decimal);
    let mut texts = table.text.iter().flat_map(|texts| texts.iter());
    for (row, observation) in table.values.column_iter().enumerate() {
        let number = |&value: &T| {
            // The text that was read, if the value is still what it stands for.
            if let Some(text) = texts.next() {
                let stands = match value.as_f64().is_nan() {
                    true => !syntax.is_number(text),
                    false => syntax.number(text) == Some(value),
                };
                if stands && !(spaces && text.is_empty()) {
                    return Cow::Borrowed(text);
                }
            }
            Cow::Owned(match (layout.decimal, print(value)) {
                (_, text) if text.is_empty() && spaces => "NA".into(),
                (Decimal::Comma, text) => text.replace('.', ","),
                (Decimal::Point, text) => text,
            })
        };
        let numbers: Vec<Cow<'_, str>> = observation.iter().map(number).collect();
        let apart = table
            .apart
            .iter()
            .map(|column| (column.position, column.text.get(row).map_or("", String::as_str)));
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

//! Reader of NumPy archives (`.npz`): a zip file of `.npy` files, stored or deflated.
//!
//! The few structures that NumPy writes are read here, from the central directory at the end of the
//! file (PKWARE's APPNOTE 6.3, sections 4.3 to 4.5, with its 64-bit extension): the `zip` crate
//! would bring more crates than all readers together have.

use super::source::Source;
use super::{FileError, ReadOptions, Table};
use crate::Real;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// The first bytes of an archive.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Limit on the size of the central directory: that of 65536 arrays with names of 200 bytes.
const DIRECTORY: u64 = 1 << 24;

/// An entry of the central directory.
struct Entry {
    name: String,
    deflated: bool,
    crc: u32,
    /// Bytes in the archive, and after decompression.
    packed: u64,
    size: u64,
    /// Start of the local header.
    start: u64,
}

pub(super) fn read<T: Real>(
    mut file: impl Read + Seek,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let mut entries = entries(&mut file)?;
    let found = match &options.array {
        Some(wanted) => entries.iter().position(|entry| entry.name == *wanted),
        None => (entries.len() == 1).then_some(0),
    };
    let Some(found) = found else {
        let names = entries.into_iter().map(|entry| entry.name).collect();
        return Err(FileError::ChooseArray { names });
    };
    let entry = entries.swap_remove(found);
    file.seek(SeekFrom::Start(entry.start)).map_err(FileError::reading)?;
    let head = take(&mut file, 30)?;
    if !head.starts_with(MAGIC) {
        return Err(corrupt("the header of an array"));
    }
    // Name and extra field of the local header, whose lengths may differ from the directory's.
    let skipped = i64::from(short(&head, 26)) + i64::from(short(&head, 28));
    file.seek(SeekFrom::Current(skipped)).map_err(FileError::reading)?;
    let packed = file.take(entry.packed);
    // The size of a stored array is that of its bytes; the one of a deflated array is a claim.
    let length = (!entry.deflated).then_some(entry.packed);
    let inner: Box<dyn Read> = match entry.deflated {
        true => Box::new(DeflateDecoder::new(packed)),
        false => Box::new(packed),
    };
    let checked = Checked { inner, crc: Crc::new(), expected: (entry.crc, entry.size) };
    let source = Source::plain(Box::new(BufReader::new(checked)), length, options.max_bytes);
    super::npy::read(source, options)
}

/// Reader that compares size and checksum at the end.
struct Checked<R> {
    inner: R,
    crc: Crc,
    expected: (u32, u64),
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => io::Error::other(corrupt("compressed data")),
            _ => error,
        })?;
        self.crc.update(&buffer[..read]);
        // `Crc::amount` counts modulo 2³².
        let found = (self.crc.sum(), self.crc.amount());
        if read == 0 && !buffer.is_empty() && found != (self.expected.0, self.expected.1 as u32) {
            return Err(io::Error::other(corrupt("the checksum of an array")));
        }
        Ok(read)
    }
}

/// Reads the central directory: the arrays, without the `.npy` of their names.
fn entries(file: &mut (impl Read + Seek)) -> Result<Vec<Entry>, FileError> {
    let length = file.seek(SeekFrom::End(0)).map_err(FileError::reading)?;
    // The end record has 22 bytes and a comment of at most 65535.
    let tail = length.min(22 + 65535);
    file.seek(SeekFrom::Start(length - tail)).map_err(FileError::reading)?;
    let tail = take(file, tail)?;
    let end = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06");
    let Some(end) = end.filter(|end| tail.len() - end >= 22) else {
        let found = tail[..tail.len().min(4)].to_vec();
        return Err(FileError::Magic { format: "npz", found });
    };
    let (mut size, mut start) =
        (u64::from(word(&tail, end + 12)), u64::from(word(&tail, end + 16)));
    // Fields of all ones: the values are in the 64-bit record, whose place is before the end record.
    if size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        let locator = end.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
        let locator = locator.ok_or_else(|| corrupt("the 64-bit record"))?;
        file.seek(SeekFrom::Start(long(&tail, locator + 8))).map_err(FileError::reading)?;
        let record = take(file, 56)?;
        (size, start) = (long(&record, 40), long(&record, 48));
    }
    if size > DIRECTORY || start.checked_add(size).is_none_or(|end| end > length) {
        return Err(corrupt("the directory"));
    }
    file.seek(SeekFrom::Start(start)).map_err(FileError::reading)?;
    let directory = take(file, size)?;
    let mut entries = Vec::new();
    let mut rest = directory.as_slice();
    while rest.starts_with(b"PK\x01\x02") && rest.len() >= 46 {
        let lengths = [28, 30, 32].map(|at| usize::from(short(rest, at)));
        let next = 46 + lengths.iter().sum::<usize>();
        let record = rest.get(..next).ok_or_else(|| corrupt("the directory"))?;
        let name = String::from_utf8_lossy(&record[46..46 + lengths[0]]);
        if let Some(name) = name.strip_suffix(".npy") {
            let extra = &record[46 + lengths[0]..46 + lengths[0] + lengths[1]];
            entries.push(entry(record, name, extra)?);
        }
        rest = &rest[next..];
    }
    Ok(entries)
}

/// Reads one record of the directory.
fn entry(record: &[u8], name: &str, extra: &[u8]) -> Result<Entry, FileError> {
    if short(record, 8) & 1 != 0 {
        return Err(FileError::Archive { what: "an encrypted array" });
    }
    let deflated = match short(record, 10) {
        0 => false,
        8 => true,
        _ => return Err(FileError::Archive { what: "a compression other than deflate" }),
    };
    let mut wide = wide_fields(extra).chunks_exact(8).map(|bytes| long(bytes, 0));
    // In this order, and only those whose 32 bits are all ones.
    let mut field = |at: usize| match word(record, at) {
        u32::MAX => wide.next().ok_or_else(|| corrupt("the directory")),
        value => Ok(u64::from(value)),
    };
    let (size, packed, start) = (field(24)?, field(20)?, field(42)?);
    Ok(Entry { name: name.to_owned(), deflated, crc: word(record, 16), packed, size, start })
}

/// The 64-bit fields (header 1) among the extra fields of an entry.
fn wide_fields(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (id, length) = (short(extra, 0), usize::from(short(extra, 2)));
        let Some(field) = extra.get(4..4 + length) else { break };
        if id == 1 {
            return field;
        }
        extra = &extra[4 + length..];
    }
    &[]
}

fn corrupt(what: &'static str) -> FileError {
    FileError::CorruptArchive { what }
}

/// Reads exactly `count` bytes; the callers have bounded it.
fn take(file: &mut impl Read, count: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes).map_err(FileError::reading)?;
    match bytes.len() as u64 == count {
        true => Ok(bytes),
        false => Err(corrupt("the end of the file")),
    }
}

/// Little-endian numbers at a position; 0 beyond the end.
fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

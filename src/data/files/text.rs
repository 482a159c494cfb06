//! Adapters between the bytes of a text file and the CSV parser: line endings, runs of white space,
//! and limits on what one record may hold.

use super::FileError;
use std::cell::Cell;
use std::io::{self, Read};

/// Limits on one record. The parser holds a whole record in memory, so that they are enforced on
/// the bytes that reach it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordLimit {
    pub columns: usize,
}

impl RecordLimit {
    /// Bytes of a record: 32 for each column, more than any number has digits.
    pub(super) fn bytes(self) -> usize {
        self.columns.saturating_mul(32)
    }

    pub(super) fn check(self, columns: usize) -> Result<(), FileError> {
        match columns > self.columns {
            true => Err(FileError::TooManyColumns { limit: self.columns }),
            false => Ok(()),
        }
    }
}

/// Size of the buffer between these adapters and the parser: as that of `Source::open`.
pub(super) const BUFFER: usize = 1 << 16;

/// What the current record may still take of its limits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    separators: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    /// Starts a record. The buffer of the parser holds the beginning of it already, and may hold
    /// other records beyond it: hence one buffer more.
    pub(super) fn renew(&self, limit: RecordLimit) {
        self.separators.set(limit.columns.saturating_add(BUFFER));
        self.bytes.set(limit.bytes().saturating_add(BUFFER));
    }
}

/// Reader that returns an error when a record exceeds its budget.
pub(super) struct Limited<'b, R> {
    pub inner: R,
    pub separator: u8,
    pub limit: RecordLimit,
    pub budget: &'b Budget,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        // As many bytes as there may be columns cannot hold too many separators.
        let allowed = self.limit.bytes().saturating_add(BUFFER);
        let used = allowed.saturating_sub(self.budget.bytes.get()).saturating_add(read);
        let counted = used > self.limit.columns;
        let separators = match counted {
            true => buffer[..read].iter().filter(|&&byte| byte == self.separator).count(),
            false => 0,
        };
        match self.budget.separators.get().checked_sub(separators) {
            Some(left) => self.budget.separators.set(left),
            // Separators of several short records lie in one buffer; beyond it they are of one.
            None => {
                return Err(io::Error::other(FileError::TooManyColumns {
                    limit: self.limit.columns,
                }));
            }
        }
        match self.budget.bytes.get().checked_sub(read) {
            Some(left) => self.budget.bytes.set(left),
            None => {
                let limit = self.limit.bytes();
                return Err(io::Error::other(FileError::LongRecord { limit }));
            }
        }
        Ok(read)
    }
}

/// Reader that maps `\r\n` and `\r` to `\n` and terminates the last line, so that line numbers in
/// errors agree with a text editor.
pub(super) struct Newlines<R> {
    inner: R,
    /// The last byte read from `inner`; `\n` at first, so that an empty input stays empty.
    last: u8,
}

impl<R: Read> Newlines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, last: b'\n' }
    }
}

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.inner.read(buffer)?;
            if read == 0 {
                // End of the input: terminate the last line, once.
                let unended = !matches!(self.last, b'\n' | b'\r') && !buffer.is_empty();
                if unended {
                    buffer[0] = b'\n';
                    self.last = b'\n';
                }
                return Ok(usize::from(unended));
            }
            // The common case: nothing to map.
            if self.last != b'\r' && !buffer[..read].contains(&b'\r') {
                self.last = buffer[read - 1];
                return Ok(read);
            }
            // In place: `written` ≤ `place`, since bytes are dropped and none is added. `last`
            // lasts from one read to the next, because a read may end between `\r` and `\n`.
            let mut written = 0;
            for place in 0..read {
                let byte = buffer[place];
                if !(byte == b'\n' && self.last == b'\r') {
                    buffer[written] = if byte == b'\r' { b'\n' } else { byte };
                    written += 1;
                }
                self.last = byte;
            }
            // Everything was dropped (a single `\n` after `\r`). Read again: 0 would mean the end.
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

/// Reader that replaces every run of spaces and tabs outside quotes by one space, and removes those
/// at both ends of a line; or passes everything on.
pub(super) struct Spaces<R> {
    inner: R,
    active: bool,
    /// Bytes to be returned, from index `next` on.
    ready: Vec<u8>,
    next: usize,
    /// Whether a run of white space has been read and not yet written.
    pending: bool,
    quoted: bool,
    /// Whether the last byte closed a quoted field.
    closed: bool,
    last: u8,
}

impl<R: Read> Spaces<R> {
    pub(super) fn new(inner: R, active: bool) -> Self {
        let (ready, last) = (Vec::new(), b'\n');
        Self { inner, active, ready, next: 0, pending: false, quoted: false, closed: false, last }
    }

    fn push(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' if !self.quoted => {
                self.pending = self.last != b'\n';
                self.closed = false;
                return;
            }
            b'\n' if !self.quoted => self.pending = false,
            // A quote opens a field only at its start; within quotes it closes it, unless another
            // quote follows.
            b'"' if self.quoted => {
                self.quoted = false;
                self.closed = true;
                self.ready.push(byte);
                self.last = byte;
                return;
            }
            b'"' if self.pending || self.last == b'\n' || self.closed => self.quoted = true,
            _ => {}
        }
        if std::mem::take(&mut self.pending) {
            self.ready.push(b' ');
        }
        self.ready.push(byte);
        self.last = byte;
        self.closed = false;
    }
}

impl<R: Read> Read for Spaces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.active {
            return self.inner.read(buffer);
        }
        while self.next == self.ready.len() {
            self.ready.clear();
            self.next = 0;
            let mut piece = [0; 1 << 13];
            let read = self.inner.read(&mut piece)?;
            if read == 0 {
                return Ok(0);
            }
            piece[..read].iter().for_each(|&byte| self.push(byte));
        }
        let read = (&self.ready[self.next..]).read(buffer)?;
        self.next += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reader that returns one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    #[test]
    fn all_line_ends_are_one_even_across_reads() {
        for (given, expected) in [
            ("a\r\nb\r\n", "a\nb\n"),
            ("a\rb", "a\nb\n"),
            ("a\n\r\n\nb\r\r\n", "a\n\n\nb\n\n"),
            ("", ""),
            ("a", "a\n"),
        ] {
            let (mut fast, mut slow) = (String::new(), String::new());
            Newlines::new(given.as_bytes()).read_to_string(&mut fast).unwrap();
            Newlines::new(Slow(given.as_bytes())).read_to_string(&mut slow).unwrap();
            assert_eq!((fast.as_str(), slow.as_str()), (expected, expected));
        }
    }

    #[test]
    fn runs_of_spaces_are_one_outside_quotes() {
        for (given, expected) in [
            ("  a  b \t c  \n\n   d e\n", "a b c\n\nd e\n"),
            ("\"a  b\"   \"c\"\"  d\"\n", "\"a  b\" \"c\"\"  d\"\n"),
            ("5'  6\"  7\n", "5' 6\" 7\n"),
            ("   ", ""),
        ] {
            let (mut fast, mut slow) = (String::new(), String::new());
            Spaces::new(given.as_bytes(), true).read_to_string(&mut fast).unwrap();
            Spaces::new(Slow(given.as_bytes()), true).read_to_string(&mut slow).unwrap();
            assert_eq!((fast.as_str(), slow.as_str()), (expected, expected));
        }
    }

    #[test]
    fn a_record_has_limits() {
        let limit = RecordLimit { columns: 10 };
        let budget = Budget::default();
        let read = |bytes: &[u8]| {
            budget.renew(limit);
            let mut reader = Limited { inner: bytes, separator: b',', limit, budget: &budget };
            reader.read_to_end(&mut Vec::new()).map_err(FileError::reading)
        };
        assert!(read(&vec![b'1'; BUFFER]).is_ok());
        assert_eq!(read(&vec![b'1'; 3 * BUFFER]), Err(FileError::LongRecord { limit: 320 }));
        let commas = [vec![b','; BUFFER / 2], vec![b'1'; BUFFER / 2]].concat();
        assert!(read(&commas).is_ok());
        assert!(read(&vec![b','; 3 * BUFFER]).is_err());
        assert!(limit.check(10).is_ok() && limit.check(11).is_err());
    }
}

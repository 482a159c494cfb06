//! Line-ending normalisation to `\n`, so that line numbers in errors agree with a text editor.

use std::io::{self, Read};

/// Reader that maps `\r\n` and `\r` to `\n` and terminates the last line.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_line_ends_are_one_even_across_reads() {
        /// Reader that returns one byte at a time.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let one = buffer.len().min(1);
                self.0.read(&mut buffer[..one])
            }
        }
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
}

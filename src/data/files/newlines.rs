//! Line ends of every kind as `\n`, so that the lines of a message are those of an editor.

use std::io::{self, Read};

/// Turns `\r\n` and `\r` into `\n`, and ends the last line.
pub(super) struct Newlines<R> {
    inner: R,
    /// The last byte that came in.
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
                let unended = !matches!(self.last, b'\n' | b'\r') && !buffer.is_empty();
                if unended {
                    buffer[0] = b'\n';
                    self.last = b'\n';
                }
                return Ok(usize::from(unended));
            }
            let mut written = 0;
            for place in 0..read {
                let byte = buffer[place];
                if !(byte == b'\n' && self.last == b'\r') {
                    buffer[written] = if byte == b'\r' { b'\n' } else { byte };
                    written += 1;
                }
                self.last = byte;
            }
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
        /// Gives one byte at a time.
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

//! Character encodings of text files: UTF-8 and UTF-16, with and without a byte-order mark, and
//! Latin-1.

use super::FileError;
use super::source::Source;
use std::borrow::Cow;
use std::io::{self, Read};

/// Encoding of a text file, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, or a single-byte encoding: fields that are not valid UTF-8 are read as Latin-1.
    Utf8,
    Utf16 {
        big_endian: bool,
    },
}

/// Reader of the text as UTF-8, without a byte-order mark.
pub(super) struct Decoder<'a> {
    source: Source<'a>,
    pub encoding: Encoding,
    /// Whether the text began with a byte-order mark.
    pub marked: bool,
    /// Bytes to be returned before those of `source`, from index `next` on.
    ready: Vec<u8>,
    next: usize,
    /// Input of UTF-16 that is not yet decoded: half a unit, or the first of two surrogates.
    left: Vec<u8>,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// [`FileError::Magic`] for content that is no text, [`FileError::Encoding`] for UTF-32.
    pub(super) fn new(mut source: Source<'a>) -> Result<Self, FileError> {
        let mut head = [0; 4];
        let found = source.fill(&mut head)?;
        let head = &head[..found];
        if matches!(head, [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff]) {
            return Err(FileError::Encoding { name: "utf-32" });
        }
        // Zip archives (also spreadsheets), PDF, PNG: none begins with text of a table.
        if [b"PK\x03\x04".as_slice(), b"%PDF", b"\x89PNG"].contains(&head) {
            return Err(FileError::Magic { format: "delimited text", found: head.to_vec() });
        }
        // Without a mark, UTF-16 is recognised by the zero byte of its first characters.
        let (encoding, mark) = match *head {
            [0xff, 0xfe, ..] => (Encoding::Utf16 { big_endian: false }, 2),
            [0xfe, 0xff, ..] => (Encoding::Utf16 { big_endian: true }, 2),
            [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
            [1..=255, 0, 1..=255, 0] => (Encoding::Utf16 { big_endian: false }, 0),
            [0, 1..=255, 0, 1..=255] => (Encoding::Utf16 { big_endian: true }, 0),
            _ => (Encoding::Utf8, 0),
        };
        let rest = head[mark..].to_vec();
        let (ready, left) = match encoding {
            Encoding::Utf8 => (rest, Vec::new()),
            Encoding::Utf16 { .. } => (Vec::new(), rest),
        };
        Ok(Self { source, encoding, marked: mark > 0, ready, next: 0, left })
    }

    /// Decodes the next piece of UTF-16 into `ready`, which stays empty at the end of the input.
    fn decode(&mut self, big_endian: bool) -> io::Result<()> {
        let mut buffer = [0; 1 << 14];
        while self.next == self.ready.len() {
            let read = self.source.read(&mut buffer)?;
            self.left.extend_from_slice(&buffer[..read]);
            let units: Vec<u16> = self
                .left
                .chunks_exact(2)
                .map(|pair| match big_endian {
                    true => u16::from_be_bytes([pair[0], pair[1]]),
                    false => u16::from_le_bytes([pair[0], pair[1]]),
                })
                .collect();
            // A leading surrogate waits for its partner in the next piece.
            let waits = read > 0 && matches!(units.last(), Some(0xd800..=0xdbff));
            let whole = units.len() - usize::from(waits);
            let text: String = char::decode_utf16(units[..whole].iter().copied())
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect();
            self.left.drain(..2 * whole);
            self.ready = text.into_bytes();
            self.next = 0;
            if read == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let (Encoding::Utf16 { big_endian }, true) =
            (self.encoding, self.next == self.ready.len())
        {
            self.decode(big_endian)?;
        }
        if self.next < self.ready.len() {
            let read = (&self.ready[self.next..]).read(buffer)?;
            self.next += read;
            return Ok(read);
        }
        match self.encoding {
            Encoding::Utf8 => self.source.read(buffer),
            Encoding::Utf16 { .. } => Ok(0),
        }
    }
}

/// Characters of the bytes 0x80 to 0x9f in Windows-1252, which extends Latin-1; where it has none,
/// the control character of Latin-1.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Decodes a field: UTF-8, or Latin-1 (Windows-1252) if it is not valid UTF-8.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(
            bytes
                .iter()
                .map(|&byte| match byte {
                    0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                    _ => char::from(byte),
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> String {
        let mut text = String::new();
        let source = Source::memory(bytes, 1 << 20).unwrap();
        Decoder::new(source).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn utf16_of_both_byte_orders() {
        let text = "naïve,𝛼\n1,2\n".repeat(3000);
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&[&[0xfe, 0xff], big.as_slice()].concat()), text);
        assert_eq!(read(&[&[0xff, 0xfe], little.as_slice()].concat()), text);
        assert_eq!((read(&big), read(&little)), (text.clone(), text.clone()));
        assert_eq!(read(&[b"\xef\xbb\xbf", text.as_bytes()].concat()), text);
        // Half a unit at the end, and surrogates without a partner.
        assert_eq!(read(&[0xff, 0xfe, b'1', 0, b'2']), "1");
        assert_eq!(read(&[0xff, 0xfe, 0, 0xd8, b'2', 0, 0, 0xd8]), "\u{fffd}2\u{fffd}");
        assert_eq!((read(b"").as_str(), read(b"1").as_str()), ("", "1"));
    }

    #[test]
    fn latin_1_and_what_is_no_text() {
        assert_eq!(text(b"caf\xe9 \x80"), "café €");
        assert_eq!(text("café".as_bytes()), "café");
        for bytes in [b"\xff\xfe\0\0a\0\0\0".as_slice(), b"PK\x03\x04abc", b"%PDF-1.7"] {
            assert!(Decoder::new(Source::memory(bytes, 100).unwrap()).is_err());
        }
    }
}

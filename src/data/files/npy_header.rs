//! Header of an `.npy` file: magic bytes, version, and a Python dictionary (NumPy's
//! `numpy.lib.format`, NEP 1).
//!
//! The parser is written here because the `npyz` crate panics on a forged header whose sizes
//! overflow, and because its parser of Python literals brings 15 crates, one of which needs a C
//! compiler. The header of an array needs no more than a dictionary with three keys.

use super::FileError;
use super::array::product;
use super::element::{Element, Kind};
use super::source::Source;

/// Contents of the header of an `.npy` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NpyHeader {
    pub element: Element,
    /// Whether the first axis varies fastest.
    pub fortran: bool,
    pub shape: Vec<u64>,
    /// Bytes before the first element.
    pub offset: u64,
}

/// Limit on the length of a header, in bytes: 64 KiB, which version 1.0 with its length field of 16
/// bits cannot exceed. The header of a plain array is far shorter.
const LONGEST: u32 = 1 << 16;

impl NpyHeader {
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, FileError> {
        let mut magic = [0; 8];
        let found = source.fill(&mut magic)?;
        if found == 0 {
            return Err(FileError::EmptyFile);
        }
        if found < 8 || &magic[..6] != b"\x93NUMPY" {
            return Err(FileError::Magic { format: "npy", found: magic[..found].to_vec() });
        }
        // Versions 2.0 and 3.0 have a length field of 4 bytes instead of 2.
        let width = match (magic[6], magic[7]) {
            (1, 0) => 2,
            (2 | 3, 0) => 4,
            (major, minor) => return Err(FileError::NpyVersion { major, minor }),
        };
        let mut length = [0; 4];
        let found = source.fill(&mut length[..width])?;
        let length = u32::from_le_bytes(length);
        // Before the text is allocated: versions 2.0 and 3.0 could claim 4 GiB.
        if length > LONGEST {
            return Err(FileError::NpyHeader {
                position: 0,
                expected: "a header of at most 65536 bytes",
            });
        }
        let (before, claimed) = (8 + found as u64, u64::from(length));
        let mut text = vec![0; length as usize];
        let read = source.fill(&mut text)?;
        if found < width || read < text.len() {
            let expected = 8 + width as u64 + claimed;
            return Err(FileError::Length { expected, actual: before + read as u64 });
        }
        Self::parse(&text, before + claimed)
    }

    fn parse(text: &[u8], offset: u64) -> Result<Self, FileError> {
        let mut cursor = Cursor { text, position: 0 };
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        cursor.expect(b'{', "'{'")?;
        while !cursor.accept(b'}') {
            // NumPy writes exactly these three keys, sorted; any order is accepted.
            let key = cursor.string()?;
            cursor.expect(b':', "':'")?;
            match key.as_slice() {
                b"descr" => descr = Some(cursor.descr()?),
                b"fortran_order" => fortran = Some(cursor.boolean()?),
                b"shape" => shape = Some(cursor.shape()?),
                _ => return Err(cursor.wrong("'descr', 'fortran_order' or 'shape'")),
            }
            if !cursor.accept(b',') {
                cursor.expect(b'}', "',' or '}'")?;
                break;
            }
        }
        let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
            return Err(cursor.wrong("'descr', 'fortran_order' and 'shape'"));
        };
        if cursor.peek().is_some() {
            return Err(cursor.wrong("nothing after the dictionary"));
        }
        let Some(element) = element(&descr) else {
            return Err(FileError::ElementType { name: descr });
        };
        Ok(Self { element, fortran, shape, offset })
    }

    /// Returns the size of all elements in bytes; an error if it exceeds the address space.
    pub(super) fn bytes(&self) -> Result<u64, FileError> {
        product(&self.shape, self.element.item as u64)
    }

    /// Returns the header (version 1.0) of an n×d array of little-endian floats in C order.
    pub(super) fn write(item: usize, n: usize, d: usize) -> Vec<u8> {
        let mut dictionary =
            format!("{{'descr': '<f{item}', 'fortran_order': False, 'shape': ({n}, {d}), }}");
        // The format pads the header with spaces so that the elements start at a multiple of 64
        // bytes. 10 bytes of magic, version and length precede it, and a line feed ends it.
        let padding = (64 - (10 + dictionary.len() + 1) % 64) % 64;
        dictionary.extend(std::iter::repeat_n(' ', padding));
        dictionary.push('\n');
        let length = (dictionary.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, dictionary.as_bytes()].concat()
    }
}

/// Returns the element type of a type string such as `<f8`; `None` for a type that is not supported.
fn element(descr: &str) -> Option<Element> {
    let mut chars = descr.chars();
    // `|`: the byte order does not apply, as for single bytes. `=`: that of this machine.
    let big_endian = match chars.next()? {
        '<' | '|' => false,
        '>' => true,
        '=' => cfg!(target_endian = "big"),
        _ => return None,
    };
    let (kind, item) = match chars.as_str() {
        "b1" | "?" => (Kind::Bool, 1),
        "u1" => (Kind::Unsigned, 1),
        "u2" => (Kind::Unsigned, 2),
        "u4" => (Kind::Unsigned, 4),
        "u8" => (Kind::Unsigned, 8),
        "i1" => (Kind::Signed, 1),
        "i2" => (Kind::Signed, 2),
        "i4" => (Kind::Signed, 4),
        "i8" => (Kind::Signed, 8),
        "f2" => (Kind::Float, 2),
        "f4" => (Kind::Float, 4),
        "f8" => (Kind::Float, 8),
        _ => return None,
    };
    Some(Element { kind, item, big_endian })
}

/// Recursive-descent parser of the dictionary, at a position in its text.
struct Cursor<'a> {
    text: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    /// Returns the error at the current position.
    fn wrong(&self, expected: &'static str) -> FileError {
        FileError::NpyHeader { position: self.position, expected }
    }

    /// Skips white space and returns the next byte, without consuming it.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.position).is_some_and(u8::is_ascii_whitespace) {
            self.position += 1;
        }
        self.text.get(self.position).copied()
    }

    /// Consumes the next byte if it is `byte`; returns whether it was.
    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), FileError> {
        if self.accept(byte) { Ok(()) } else { Err(self.wrong(expected)) }
    }

    fn string(&mut self) -> Result<Vec<u8>, FileError> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.wrong("a string")),
        };
        let rest = &self.text[self.position + 1..];
        let Some(end) = rest.iter().position(|&byte| byte == quote) else {
            return Err(self.wrong("a closed string"));
        };
        self.position += end + 2;
        Ok(rest[..end].to_vec())
    }

    /// Parses the type string. A structured type (a list of fields) is reported as an element type
    /// that is not supported.
    fn descr(&mut self) -> Result<String, FileError> {
        if self.peek() == Some(b'[') {
            let text = String::from_utf8_lossy(&self.text[self.position..]);
            return Err(FileError::ElementType { name: text.trim().to_owned() });
        }
        self.string().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    fn boolean(&mut self) -> Result<bool, FileError> {
        self.peek();
        let rest = &self.text[self.position..];
        for (word, value) in [(b"True".as_slice(), true), (b"False", false)] {
            if rest.starts_with(word) {
                self.position += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<u64>, FileError> {
        // The limit of NumPy 2 (`NPY_MAXDIMS`).
        const MOST_AXES: usize = 64;
        let mut shape = Vec::new();
        self.expect(b'(', "'('")?;
        while !self.accept(b')') {
            if shape.len() == MOST_AXES {
                return Err(self.wrong("at most 64 axes"));
            }
            shape.push(self.size()?);
            if !self.accept(b',') {
                self.expect(b')', "',' or ')'")?;
                break;
            }
        }
        Ok(shape)
    }

    fn size(&mut self) -> Result<u64, FileError> {
        self.peek();
        let rest = &self.text[self.position..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let size = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
        let Some(size) = size else {
            return Err(self.wrong("a size that fits 64 bits"));
        };
        self.position += digits;
        // Files written under Python 2 may hold long integers, such as `3L`.
        self.position += usize::from(self.text.get(self.position) == Some(&b'L'));
        Ok(size)
    }
}

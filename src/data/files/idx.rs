//! Reader of IDX, the format of the MNIST files: the bytes `0 0 type axes`, the lengths of the axes
//! as big-endian `u32`, then the elements, of one of six types.

use super::array::{self, Array, product};
use super::element::{Element, Kind};
use super::source::Source;
use super::{FileError, ReadOptions, Table};
use crate::Real;
use std::path::Path;

/// Array of bytes from an IDX file, with the last axis fastest (C order).
///
/// ```
/// use elbo::data::files::IdxArray;
/// let labels = IdxArray::decode(&[0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1])?;
/// assert_eq!(labels.shape, [3]);
/// assert_eq!(labels.bytes, [7, 2, 1]);
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdxArray {
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The elements in C order.
    pub bytes: Vec<u8>,
}

impl IdxArray {
    /// Reads an IDX file, plain or gzip-compressed.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be read, or if its header is invalid or disagrees with its
    /// length.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FileError> {
        bytes(Source::open(path.as_ref(), ReadOptions::default().max_bytes)?)
    }

    /// Decodes the bytes of an IDX file, plain or gzip-compressed (`include_bytes!`).
    ///
    /// # Errors
    /// [`FileError`] if the header is invalid or disagrees with the number of bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        self::bytes(Source::memory(bytes, ReadOptions::default().max_bytes)?)
    }
}

/// Reads the header: the element type and the lengths of the axes.
fn header(source: &mut Source<'_>) -> Result<(Element, Vec<u64>), FileError> {
    let mut magic = [0; 4];
    let found = source.fill(&mut magic)?;
    if found == 0 {
        return Err(FileError::EmptyFile);
    }
    if found < 4 || magic[..2] != [0, 0] {
        return Err(FileError::Magic { format: "idx", found: magic[..found].to_vec() });
    }
    let (kind, item) = match magic[2] {
        0x08 => (Kind::Unsigned, 1),
        0x09 => (Kind::Signed, 1),
        0x0b => (Kind::Signed, 2),
        0x0c => (Kind::Signed, 4),
        0x0d => (Kind::Float, 4),
        0x0e => (Kind::Float, 8),
        other => return Err(FileError::ElementType { name: format!("0x{other:02x}") }),
    };
    let element = Element { kind, item, big_endian: true };
    let axes = usize::from(magic[3]);
    let mut sizes = vec![0; 4 * axes];
    let found = source.fill(&mut sizes)?;
    if found < sizes.len() {
        return Err(FileError::Length {
            expected: 4 + sizes.len() as u64,
            actual: 4 + found as u64,
        });
    }
    let shape: Vec<u64> = sizes
        .chunks_exact(4)
        .map(|size| u64::from(u32::from_be_bytes([size[0], size[1], size[2], size[3]])))
        .collect();
    Ok((element, shape))
}

/// Reads an array of bytes of any number of axes.
fn bytes(mut source: Source<'_>) -> Result<IdxArray, FileError> {
    let (element, shape) = header(&mut source)?;
    if element.kind != Kind::Unsigned {
        return Err(FileError::ElementType { name: "other than bytes".into() });
    }
    let total = product(&shape, 1)?;
    // No allocation by the sizes in the header: `bytes` grows with what is read.
    let mut bytes = Vec::new();
    source.pieces(total, 1, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(IdxArray { shape: shape.iter().map(|&size| size as usize).collect(), bytes })
}

pub(super) fn read<T: Real>(
    mut source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let (element, shape) = header(&mut source)?;
    // A file of one axis holds labels: it is an `IdxArray` but no table.
    if shape.len() < 2 {
        return Err(FileError::Shape { shape });
    }
    array::read(source, &Array { element, shape: &shape, fortran: false }, options)
}

#[cfg(test)]
mod tests {
    use super::super::source::gzip;
    use super::super::{Format, decode};
    use super::*;

    fn idx(shape: &[u32], bytes: &[u8]) -> Vec<u8> {
        let sizes = shape.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, shape.len() as u8].into_iter().chain(sizes).chain(bytes.iter().copied()).collect()
    }

    fn refused(bytes: &[u8]) -> String {
        decode::<f32>(bytes, Format::Idx, &ReadOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn images_are_flattened_plain_and_in_gzip() {
        let file = idx(&[2, 2, 3], &[0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255]);
        for bytes in [gzip(&file), file] {
            let table = decode::<f64>(&bytes, Format::Idx, &ReadOptions::default()).unwrap();
            assert_eq!(table.values.shape(), (6, 2));
            assert_eq!(table.values[(4, 1)], 254.0);
        }
    }

    #[test]
    fn forged_headers_cost_no_memory() {
        assert_eq!(
            refused(&idx(&[u32::MAX, u32::MAX], &[1])),
            refused(&idx(&[u32::MAX, u32::MAX], &[]))
        );
        assert!(refused(&idx(&[u32::MAX, u32::MAX], &[1])).contains("exceeds the address space"));
        assert_eq!(
            refused(&idx(&[1 << 20, 1 << 20], &[1])),
            "the header announces 1099511627788 bytes, the file holds 13"
        );
        assert_eq!(
            refused(&gzip(&idx(&[1 << 20, 1 << 20], &[1]))),
            "the content exceeds the limit of 4294967296 bytes, which the option max_bytes sets"
        );
        assert_eq!(
            refused(&gzip(&idx(&[1 << 10, 1 << 20], &[1]))),
            "the header announces 1073741836 bytes, the file holds 13"
        );
        assert_eq!(refused(&[0, 0, 8, 255]), "the header announces 1024 bytes, the file holds 4");
        assert_eq!(
            refused(&gzip(&idx(&[1, 1], &[1, 2]))),
            "the header announces 13 bytes, and more follow"
        );
    }

    #[test]
    fn every_element_type() {
        macro_rules! each {
            ($($code:literal: $t:ty, $values:expr;)*) => { $(
                let given: [$t; 2] = $values;
                let mut file = vec![0, 0, $code, 2, 0, 0, 0, 1, 0, 0, 0, 2];
                file.extend(given.iter().flat_map(|value| value.to_be_bytes()));
                let table = decode::<f64>(&file, Format::Idx, &ReadOptions::default()).unwrap();
                assert_eq!(table.values.as_slice(), given.map(|value| value as f64));
            )* };
        }
        each! {
            0x08: u8, [1, 255];
            0x09: i8, [1, -128];
            0x0b: i16, [-300, 300];
            0x0c: i32, [-70_000, 70_000];
            0x0d: f32, [1.5, -3.25];
            0x0e: f64, [1e-300, -2.0];
        }
        assert!(IdxArray::decode(&[0, 0, 9, 1, 0, 0, 0, 1, 7]).is_err());
    }

    #[test]
    fn other_shapes_types_and_beginnings_are_refused() {
        assert_eq!(
            refused(&idx(&[3], &[1, 2, 3])),
            "an array of shape [3] is no table: two axes or more are needed"
        );
        assert_eq!(
            refused(&idx(&[], &[1])),
            "an array of shape [] is no table: two axes or more are needed"
        );
        assert_eq!(refused(&idx(&[0, 4], &[])), "the array is empty: 0 rows and 4 columns");
        assert_eq!(
            refused(&[0, 0, 0x0a, 1]),
            "the element type \"0x0a\" is not a real number type that is read"
        );
        assert_eq!(refused(b"\x89PNG"), "not idx: the first bytes are [89, 50, 4e, 47]");
        assert_eq!(refused(b""), "the file is empty");
    }
}

//! Reader of IDX, the format of the MNIST files: the bytes `0 0 type axes`, the lengths of the axes
//! as big-endian `u32`, then the elements.

use super::source::Source;
use super::{FileError, ReadOptions, Table};
use crate::Real;
use crate::linalg::room;
use nalgebra::DMatrix;
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
        from_source(Source::open(path.as_ref(), ReadOptions::default().max_bytes)?)
    }

    /// Decodes the bytes of an IDX file, plain or gzip-compressed (`include_bytes!`).
    ///
    /// # Errors
    /// [`FileError`] if the header is invalid or disagrees with the number of bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        from_source(Source::memory(bytes, ReadOptions::default().max_bytes)?)
    }
}

/// Reads the header and the elements.
fn from_source(mut source: Source<'_>) -> Result<IdxArray, FileError> {
    let mut magic = [0; 4];
    let found = source.fill(&mut magic)?;
    if found == 0 {
        return Err(FileError::EmptyFile);
    }
    if found < 4 || magic[..2] != [0, 0] {
        return Err(FileError::Magic { format: "idx", found: magic[..found].to_vec() });
    }
    // Type code 8 is an unsigned byte, the element type of the MNIST files. The other codes
    // (9 and 11 to 14: signed bytes, wider integers, floats) are not supported.
    if magic[2] != 8 {
        return Err(FileError::ElementType { name: format!("0x{:02x}", magic[2]) });
    }
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
    let total = product(&shape, 1)?;
    // No allocation by the sizes in the header: `bytes` grows with what is read.
    let mut bytes = Vec::new();
    source.pieces(total, 1, |piece| bytes.extend_from_slice(piece))?;
    Ok(IdxArray { shape: shape.iter().map(|&size| size as usize).collect(), bytes })
}

/// Returns the size in bytes of an array of this shape with `item` bytes per element.
///
/// # Errors
/// [`FileError::Oversized`] above `isize::MAX`, the largest allocation in Rust.
pub(super) fn product(shape: &[u64], item: u64) -> Result<u64, FileError> {
    shape
        .iter()
        .try_fold(item, |product, &size| product.checked_mul(size))
        .filter(|&total| isize::try_from(total).is_ok())
        .ok_or_else(|| FileError::Oversized { shape: shape.to_vec() })
}

/// Returns (n, d): the length of the first axis, and the product of the lengths of the others.
pub(super) fn flatten(shape: &[u64]) -> Result<(usize, usize), FileError> {
    let [rows, others @ ..] = shape else {
        return Err(FileError::Shape { shape: shape.to_vec() });
    };
    // A label file has one axis: it is an `IdxArray` but no table.
    if others.is_empty() {
        return Err(FileError::Shape { shape: shape.to_vec() });
    }
    // Both factors are checked: an axis of length 0 would hide the overflow of the others.
    let (rows, columns) = (product(&[*rows], 1)? as usize, product(others, 1)? as usize);
    match rows > 0 && columns > 0 {
        true => Ok((rows, columns)),
        false => Err(FileError::EmptyArray { rows, columns }),
    }
}

pub(super) fn read<T: Real>(
    source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let array = from_source(source)?;
    let shape: Vec<u64> = array.shape.iter().map(|&size| size as u64).collect();
    // Observations first in C order is d×n in column-major order: nothing is transposed.
    let (n, d) = flatten(&shape)?;
    let mut values = room(n * d);
    values.extend(array.bytes.iter().map(|&byte| T::of(byte.into())));
    Table::from_array(DMatrix::from_vec(d, n, values), options)
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
            "the decompressed content exceeds the limit of 4294967296 bytes"
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
            refused(&[0, 0, 0x0d, 1]),
            "the element type \"0x0d\" is not a real number type that is read"
        );
        assert_eq!(refused(b"\x89PNG"), "not idx: the first bytes are [89, 50, 4e, 47]");
        assert_eq!(refused(b""), "the file is empty");
    }
}

//! Reader and writer of NumPy arrays (`.npy`): n×d, one observation per row; the axes after the
//! first are flattened.

use super::idx::flatten;
use super::npy_header::NpyHeader;
use super::source::Source;
use super::{FileError, ReadOptions, Table};
use crate::Real;
use crate::linalg::room;
use nalgebra::DMatrix;
use std::path::Path;

pub(super) fn read<T: Real>(
    mut source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let header = NpyHeader::read(&mut source)?;
    let (n, d) = flatten(&header.shape)?;
    // `pieces` compares a known file length with the header before it calls the closure, so that
    // room for all n·d values can be allocated at the first call. The length of a gzip stream is
    // unknown: a forged header could claim any size, and `values` grows with the data instead.
    let known = source.length().is_some();
    let mut values: Vec<T> = Vec::new();
    source.pieces(header.bytes()?, header.item, |piece| {
        if known && values.capacity() == 0 {
            values = room(n * d);
        }
        values.extend(piece.chunks_exact(header.item).map(|item| T::of(header.element(item))));
    })?;
    let values = match header.fortran {
        // n×d in C order is d×n in column-major order
        false => DMatrix::from_vec(d, n, values),
        true => {
            // Fortran order: entry (i, j) of n×d lies at i + n·places[j]. Values are gathered in
            // the order of the result, which is written once from start to end.
            let places = storage(&header.shape[1..]);
            let mut turned = room(n * d);
            turned.extend(
                (0..n)
                    .flat_map(|observation| places.iter().map(move |place| observation + n * place))
                    .map(|place| values[place]),
            );
            DMatrix::from_vec(d, n, turned)
        }
    };
    Table::from_array(values, options)
}

/// Returns the index in Fortran order (first axis fastest) of each variable, for the variables in C
/// order (last axis fastest).
pub(super) fn storage(axes: &[u64]) -> Vec<usize> {
    let mut places = vec![0];
    let mut stride = 1;
    // One axis at a time: it varies fastest in the result and has the largest stride in the file.
    for &size in axes {
        let size = size as usize;
        places = places
            .iter()
            .flat_map(|&place| (0..size).map(move |index| place + stride * index))
            .collect();
        stride *= size;
    }
    places
}

/// Writes values (d×n) as an `.npy` file of n rows and d columns, of type `<f8` or `<f4` according
/// to the scalar; gzip-compressed if the name ends in `.gz`.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("elbo-doc-{}.npy", std::process::id()));
/// use elbo::data::files::{read, write_npy, ReadOptions};
/// let values = nalgebra::dmatrix![1.0f32, 2.0, 3.0; 4.0, 5.0, 6.0];
/// write_npy(&path, &values)?;
/// assert_eq!(read::<f32>(&path, &ReadOptions::default())?.values, values);
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
///
/// # Errors
/// [`FileError::Unwritable`] if the file cannot be written.
pub fn write_npy<T: Real>(path: impl AsRef<Path>, values: &DMatrix<T>) -> Result<(), FileError> {
    super::write::create(path.as_ref(), |out| {
        let item = size_of::<T>();
        out.write_all(&NpyHeader::write(item, values.ncols(), values.nrows()))?;
        // d×n in column-major order is n×d in C order: entries are written in storage order.
        values.iter().try_for_each(|value| match item {
            4 => out.write_all(&(value.as_f64() as f32).to_le_bytes()),
            _ => out.write_all(&value.as_f64().to_le_bytes()),
        })
    })
}

//! Reader and writer of NumPy arrays (`.npy`): n×d, one observation per row; the axes after the
//! first are flattened.

use super::array::{self, Array};
use super::npy_header::NpyHeader;
use super::source::Source;
use super::{FileError, ReadOptions, Table};
use crate::Real;
use nalgebra::DMatrix;
use std::path::Path;

pub(super) fn read<T: Real>(
    mut source: Source<'_>,
    options: &ReadOptions,
) -> Result<Table<T>, FileError> {
    let header = NpyHeader::read(&mut source)?;
    let array = Array { element: header.element, shape: &header.shape, fortran: header.fortran };
    array::read(source, &array, options)
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

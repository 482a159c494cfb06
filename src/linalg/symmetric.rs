//! Eigenvalues and eigenvectors of symmetric matrices.

use super::moments::check_finite;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Eigenvalues and eigenvectors of a symmetric matrix.
///
/// ```math
/// S = V \operatorname{diag}(λ) V^⊤
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SymmetricEigen<T: Real> {
    /// Eigenvalues, falling.
    pub values: DVector<T>,
    /// The eigenvectors, as columns in the order of the values; the entry of largest size in each is positive.
    pub vectors: DMatrix<T>,
}

/// All eigenvalues and eigenvectors of a symmetric d×d matrix, of which the lower triangle is read.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`], [`Error::Dimension`] when it is not square; [`Error::DecompositionLimit`].
///
/// ```
/// use nalgebra::dmatrix;
/// let eigen = elbo::linalg::symmetric_eigen(dmatrix![2.0, 1.0; 1.0, 2.0].as_view())?;
/// assert!((eigen.values[0] - 3.0_f64).abs() < 1e-14 && (eigen.values[1] - 1.0).abs() < 1e-14);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn symmetric_eigen<T: Real>(s: DMatrixView<'_, T>) -> Result<SymmetricEigen<T>> {
    let dimension = s.nrows();
    leading(s, dimension)
}

/// The k largest eigenvalues of a symmetric d×d matrix (the lower triangle is read) and their eigenvectors (d×k); k is cut at d.
///
/// # Errors
/// As for [`symmetric_eigen`].
///
/// ```
/// use nalgebra::dmatrix;
/// let eigen = elbo::linalg::leading_eigenpairs(dmatrix![2.0, 1.0; 1.0, 2.0].as_view(), 1)?;
/// assert!((eigen.values[0] - 3.0_f64).abs() < 1e-14 && eigen.vectors.ncols() == 1);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn leading_eigenpairs<T: Real>(s: DMatrixView<'_, T>, k: usize) -> Result<SymmetricEigen<T>> {
    leading(s, k)
}

fn leading<T: Real>(s: DMatrixView<'_, T>, k: usize) -> Result<SymmetricEigen<T>> {
    check_finite(s)?;
    let d = s.nrows();
    if s.ncols() != d {
        return Err(Error::Dimension { what: "columns of a symmetric matrix", expected: d, actual: s.ncols() });
    }
    let limit = 60 * d + 100;
    let eigen = nalgebra::SymmetricEigen::try_new(s.map(|v| v.as_f64()), f64::EPSILON, limit)
        .ok_or(Error::DecompositionLimit { what: "the symmetric eigenvalue decomposition", limit })?;
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    order.truncate(k.min(d));
    let values = DVector::from_iterator(order.len(), order.iter().map(|i| T::of(eigen.eigenvalues[*i])));
    let mut vectors = DMatrix::from_fn(d, order.len(), |i, j| T::of(eigen.eigenvectors[(i, order[j])]));
    for mut column in vectors.column_iter_mut() {
        if super::svd::largest_entry(column.as_slice()) < T::zero() {
            column.neg_mut();
        }
    }
    Ok(SymmetricEigen { values, vectors })
}

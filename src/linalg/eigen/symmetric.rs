//! Eigenvalues and eigenvectors of symmetric matrices by way of the tridiagonal form: S = Q T Qᵗ,
//! the eigenpairs (λ, z) of T, and the eigenvectors Q z of S (Golub & Van Loan, section 8.3).
//!
//! The arithmetic is in double precision for every scalar type.

use super::tridiagonal::tridiagonalize;
use super::tridiagonal_pairs::{Eigenpairs, leading_pairs};
use crate::linalg::kernel::vector::max_abs;
use crate::linalg::{check_finite, orient, zeros};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Eigenvalues and eigenvectors of a symmetric matrix.
///
/// ```math
/// S = V \operatorname{diag}(λ) V^⊤
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SymmetricEigen<T: Real> {
    /// Eigenvalues, in descending order.
    pub values: DVector<T>,
    /// Eigenvectors, as columns in the order of the values; the first large entry of each
    /// (within 10⁻³ of the largest one) is positive.
    pub vectors: DMatrix<T>,
}

/// All eigenvalues and eigenvectors of a symmetric d×d matrix; only the lower triangle is read.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`], [`Error::DimensionMismatch`] when the matrix is not
/// square; [`Error::DecompositionLimit`].
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

/// The power of two at or below the largest absolute entry of the lower triangle (1 for a zero
/// matrix).
///
/// Division by it is exact. The largest entry is then in [1, 2), and products of entries do not
/// overflow.
pub(super) fn unit_of<T: Real>(s: DMatrixView<'_, T>) -> f64 {
    let largest = (0..s.nrows())
        .fold(T::zero(), |m, j| m.max(max_abs(&s.column(j).data.into_slice()[j..])))
        .as_f64();
    // The exponent is clamped to the range in which both 2ᵉ and 2⁻ᵉ are normal numbers.
    if largest > 0.0 { 2f64.powi((largest.log2().floor() as i32).clamp(-1021, 1022)) } else { 1.0 }
}

/// The lower triangle divided by `unit`, in double precision, with zeros above the diagonal.
pub(super) fn lower_over<T: Real>(s: DMatrixView<'_, T>, unit: f64) -> DMatrix<f64> {
    let mut lower = zeros(s.nrows(), s.nrows());
    for j in 0..s.nrows() {
        let (to, from) = (
            &mut lower.column_mut(j).data.into_slice_mut()[j..],
            &s.column(j).data.into_slice()[j..],
        );
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.as_f64() / unit);
    }
    lower
}

/// The k leading pairs by the reduction of the whole matrix to tridiagonal form.
pub(super) fn leading<T: Real>(s: DMatrixView<'_, T>, k: usize) -> Result<SymmetricEigen<T>> {
    check_finite(s)?;
    let d = s.nrows();
    if s.ncols() != d {
        return Err(Error::DimensionMismatch {
            what: "columns of a symmetric matrix",
            expected: d,
            actual: s.ncols(),
        });
    }
    let k = k.min(d);
    let unit = unit_of(s);
    // The thresholds for T assume that its largest entry is about 1.
    let t = tridiagonalize(lower_over(s, unit));
    let Eigenpairs { values, vectors } = leading_pairs(&t.diagonal, &t.off_diagonal, k)?;
    let vectors = t.back(vectors);
    let values = DVector::from_iterator(k, values.iter().map(|v| T::of(v * unit)));
    let mut vectors = vectors.map(T::of);
    // An eigenvector is determined up to its sign: fix it, so that equal input gives equal output.
    orient(&mut vectors);
    Ok(SymmetricEigen { values, vectors })
}

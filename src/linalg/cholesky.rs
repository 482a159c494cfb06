//! Cholesky factorisation of a positive definite matrix, triangular solves and log-determinant.
//!
//! The algorithms are blocked (Golub & Van Loan, Matrix Computations): for large d nearly all of
//! the work is in matrix products.

use super::kernel::vector::{add_scaled, all_finite, dot};
use super::moments::check_finite;
use super::product::gemm;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// Columns that are factored, or rows that are solved, between two matrix products.
// A multiple of the height of every micro-kernel's tile (48 rows in f32 and 24 in f64 with AVX-512;
// 24, 12 and 6 elsewhere), and less than the 256 columns of f64 that a product packs at a time: an
// update by one block is one pass over the result.
const BLOCK: usize = 192;

/// The lower Cholesky factor L of a symmetric positive definite d×d matrix.
///
/// Only the lower triangle of `a` is read.
///
/// ```math
/// A = L L^⊤
/// ```
///
/// # Errors
/// [`Error::NotPositiveDefinite`], [`Error::DimensionMismatch`] when it is not square,
/// [`Error::Empty`], [`Error::NotFinite`].
///
/// ```
/// use nalgebra::dmatrix;
/// let l = elbo::linalg::cholesky_lower(dmatrix![4.0, 2.0; 2.0, 2.0].as_view())?;
/// assert_eq!(l, dmatrix![2.0, 0.0; 1.0, 1.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn cholesky_lower<T: Real>(a: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
    check_finite(a)?;
    let d = a.nrows();
    if a.ncols() != d {
        return Err(Error::DimensionMismatch {
            what: "columns of a symmetric matrix",
            expected: d,
            actual: a.ncols(),
        });
    }
    let mut l = a.clone_owned();
    factor_lower(&mut l)?;
    l.fill_upper_triangle(T::zero(), 1);
    Ok(l)
}

/// Overwrites the lower triangle of a square matrix by its Cholesky factor.
///
/// Entries above the diagonal are unspecified afterwards.
pub(crate) fn factor_lower<T: Real>(l: &mut DMatrix<T>) -> Result<()> {
    let d = l.nrows();
    // Right-looking: once a block of columns is factored, its outer product is subtracted from all
    // that lies to the right.
    for first in (0..d).step_by(BLOCK) {
        let end = d.min(first + BLOCK);
        factor_columns(l, first, end)?;
        // Only the lower triangle is needed. Each strip of columns starts at its own diagonal, so
        // that at most half of a square of 768 × 768 is computed in vain for each strip.
        for from in (end..d).step_by(4 * BLOCK) {
            let width = (4 * BLOCK).min(d - from);
            let (left, mut right) = l.columns_range_pair_mut(first..end, from..from + width);
            let mut right = right.rows_mut(from, d - from);
            let (rows, columns) = (left.rows(from, d - from), left.rows(from, width));
            gemm(
                -T::one(),
                rows,
                super::Operand::from(&columns).transposed(),
                T::one(),
                &mut right,
            );
        }
    }
    // Pivots were checked one by one. An overflow below the diagonal of the last columns is not
    // seen by any pivot.
    if (0..d).all(|j| all_finite(&l.column(j).as_slice()[j..])) {
        Ok(())
    } else {
        Err(Error::NotPositiveDefinite { size: d })
    }
}

/// Columns at which the recursion stops: they are factored one by one.
// Eight columns are the width of a micro-kernel's tile with AVX-512 and NEON; narrower products
// would leave a part of it empty.
const FEW: usize = 8;

/// Factors columns `first..end` of a matrix, over all rows from the diagonal down.
///
/// Recursive: it factors the left half, subtracts its outer product from the right half, and
/// factors the right half. Most of the work within a block is then in products as well.
fn factor_columns<T: Real>(l: &mut DMatrix<T>, first: usize, end: usize) -> Result<()> {
    let d = l.nrows();
    if end - first > FEW {
        let middle = first + (end - first).div_ceil(2).next_multiple_of(FEW);
        factor_columns(l, first, middle)?;
        let (left, mut right) = l.columns_range_pair_mut(first..middle, middle..end);
        let (rows, columns) = (left.rows(middle, d - middle), left.rows(middle, end - middle));
        gemm(
            -T::one(),
            rows,
            super::Operand::from(&columns).transposed(),
            T::one(),
            right.rows_mut(middle, d - middle),
        );
        return factor_columns(l, middle, end);
    }
    // Unblocked and right-looking: columns are contiguous, and all updates are sums of scaled
    // columns.
    for j in first..end {
        let (left, right) = l.as_mut_slice().split_at_mut((j + 1) * d);
        let column = &mut left[j * d..];
        let pivot = column[j];
        if pivot <= T::zero() || !pivot.is_finite() {
            return Err(Error::NotPositiveDefinite { size: d });
        }
        let root = pivot.sqrt();
        column[j..].iter_mut().for_each(|v| *v /= root);
        for (c, next) in right.chunks_exact_mut(d).take(end - j - 1).enumerate() {
            let c = j + 1 + c;
            add_scaled(&mut next[c..], -column[c], &column[c..]);
        }
    }
    Ok(())
}

/// Overwrites B (d×m) by L⁻¹B, the solution of LY = B (forward substitution).
///
/// L is d×d and lower triangular, with no zero on its diagonal; entries above the diagonal are not
/// read.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![2.0; 3.0];
/// elbo::linalg::solve_lower(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut());
/// assert_eq!(b, dmatrix![1.0; 2.0]);
/// ```
pub fn solve_lower<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>) {
    let d = l.nrows();
    assert!(
        l.ncols() == d && b.nrows() == d,
        "a {d}x{} factor cannot solve for {} rows",
        l.ncols(),
        b.nrows()
    );
    for first in (0..d).step_by(BLOCK) {
        let end = d.min(first + BLOCK);
        // Within the block by columns of L, which are contiguous: each x_j is removed from the rows
        // below as soon as it is known.
        for mut column in b.column_iter_mut() {
            let x = column.as_mut_slice();
            for j in first..end {
                let value = x[j] / l[(j, j)];
                x[j] = value;
                add_scaled(&mut x[j + 1..end], -value, &l.column(j).as_slice()[j + 1..end]);
            }
        }
        // The block's rows are removed from all rows below by one product. It reads and writes rows
        // of the same matrix, so that those it reads are copied.
        if end < d {
            let solved = b.rows(first, end - first).clone_owned();
            let mut rest = b.rows_mut(end, d - end);
            gemm(
                -T::one(),
                l.view((end, first), (d - end, end - first)),
                &solved,
                T::one(),
                &mut rest,
            );
        }
    }
}

/// Overwrites B (d×m) by L⁻ᵗB, the solution of LᵗX = B (back substitution).
///
/// L is d×d and lower triangular, with no zero on its diagonal; entries above the diagonal are not
/// read.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![4.0; 2.0];
/// elbo::linalg::solve_lower_transposed(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut());
/// assert_eq!(b, dmatrix![1.0; 2.0]);
/// ```
pub fn solve_lower_transposed<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>) {
    let d = l.nrows();
    assert!(
        l.ncols() == d && b.nrows() == d,
        "a {d}x{} factor cannot solve for {} rows",
        l.ncols(),
        b.nrows()
    );
    for first in (0..d).step_by(BLOCK).rev() {
        let end = d.min(first + BLOCK);
        if end < d {
            let solved = b.rows(end, d - end).clone_owned();
            let below = l.view((end, first), (d - end, end - first));
            let mut part = b.rows_mut(first, end - first);
            gemm(
                -T::one(),
                super::Operand::from(&below).transposed(),
                &solved,
                T::one(),
                &mut part,
            );
        }
        // Rows of Lᵗ are columns of L: inner products read them in order.
        for mut column in b.column_iter_mut() {
            let x = column.as_mut_slice();
            for j in (first..end).rev() {
                let sum = dot(&l.column(j).as_slice()[j + 1..end], &x[j + 1..end]);
                x[j] = (x[j] - sum) / l[(j, j)];
            }
        }
    }
}

/// Overwrites B (d×m) by (LLᵗ)⁻¹B, the solution of AX = B for A = LLᵗ.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![6.0; 4.0];
/// elbo::linalg::solve_cholesky(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut()); // A = [4 2; 2 2]
/// assert_eq!(b, dmatrix![1.0; 1.0]);
/// ```
pub fn solve_cholesky<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>) {
    solve_lower(l, b.as_view_mut());
    solve_lower_transposed(l, b);
}

/// The log-determinant ln |A| of A = LLᵗ, given its Cholesky factor L.
///
/// A sum of logarithms in `f64`: it does not overflow or underflow where the determinant would.
///
/// ```math
/// \ln|A| = 2 \sum_j \ln L_{jj}
/// ```
///
/// ```
/// use nalgebra::dmatrix;
/// assert!(
///     (elbo::linalg::log_determinant(&dmatrix![2.0, 0.0; 1.0, 1.0]) - 4.0_f64.ln()).abs()
///         < 1e-15
/// );
/// ```
pub fn log_determinant<T: Real>(l: &DMatrix<T>) -> T {
    T::of(l.diagonal().iter().map(|v| 2.0 * v.as_f64().ln()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;

    fn check<T: Real>(d: usize) {
        let x = random::<T>(d, 2 * d, 3);
        let a = &x * x.transpose();
        let l = cholesky_lower(a.as_view()).unwrap();
        let tolerance = 30.0 * T::EPSILON.as_f64() * d as f64;
        assert!((&l * l.transpose() - &a).amax().as_f64() < tolerance * a.amax().as_f64());
        assert!(l.upper_triangle() == DMatrix::from_diagonal(&l.diagonal()));
        let solution = random::<T>(d, 3, 4);
        let mut b = &a * &solution;
        solve_cholesky(&l, b.as_view_mut());
        assert!((b - solution).amax().as_f64() < 1e3 * tolerance, "{d}");
        let expected: f64 =
            a.map(|v| v.as_f64()).symmetric_eigenvalues().iter().map(|v| v.ln()).sum();
        assert!((log_determinant(&l).as_f64() - expected).abs() < 1e4 * tolerance);
    }

    #[test]
    fn factors_and_solutions() {
        for d in [1, 5, 64, 65, 200] {
            check::<f64>(d);
            check::<f32>(d);
        }
    }

    #[test]
    fn refusals() {
        let bad = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 1.0]);
        assert_eq!(cholesky_lower(bad.as_view()), Err(Error::NotPositiveDefinite { size: 2 }));
        assert!(cholesky_lower(DMatrix::<f64>::zeros(2, 2).as_view()).is_err());
        assert!(matches!(
            cholesky_lower(DMatrix::<f64>::zeros(2, 3).as_view()),
            Err(Error::DimensionMismatch { .. })
        ));
        assert!(matches!(
            cholesky_lower(DMatrix::from_element(1, 1, f64::NAN).as_view()),
            Err(Error::NotFinite { .. })
        ));
    }

    #[test]
    fn determinants_that_would_underflow() {
        let l = DMatrix::<f64>::identity(500, 500) * 1e-5;
        assert!((log_determinant(&l) - 1000.0 * 1e-5_f64.ln()).abs() < 1e-8);
    }
}

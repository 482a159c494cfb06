//! Regularised inverse covariance, applied from the right as a preconditioner.
//!
//! Legend: X (d×n) centred data, S = XXᵗ/n the covariance, D the diagonal matrix of the standard
//! deviations, C = D⁻¹SD⁻¹ the correlation matrix, ρ the ridge, Z = D⁻¹X the standardised data.

use super::gram::scatter_f64;
use super::moments::{check_finite, sums_of_squares_f64};
use super::{cholesky_lower, gemm, matrix_product, product_tr_left, solve_cholesky};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// The inverse (S + ρD²)⁻¹ of a covariance with a ridge, as a Cholesky factor.
///
/// ```math
/// D^{-1} (C + ρ I)^{-1} D^{-1}
/// ```
/// The ridge is relative to each variance, so that it does not depend on the units of the
/// variables. A variable without variance is neither scaled nor mixed with others. With d ≤ n the
/// factor is d×d; with d > n it is n×n, and no d×d matrix is formed.
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![3.0, -3.0, 3.0, -3.0; 1.0, 1.0, -1.0, -1.0]; // S = diag(9, 1)
/// let mut rows = dmatrix![9.0, 1.0];
/// elbo::linalg::Whitening::new(x.as_view(), 1e-9)?.apply(&mut rows)?;
/// assert!((rows - dmatrix![1.0, 1.0]).amax() < 1e-8_f64);
/// # Ok::<(), elbo::Error>(())
/// ```
// A factor and triangular solves, not an explicit inverse: C may be close to singular, with ρ the
// smallest eigenvalue. It is in double precision for `f32` data as well.
#[derive(Debug, Clone)]
pub struct Whitening<'a, T: Real> {
    /// The reciprocal standard deviations; 1 for a variable without variance.
    inverse_standard_deviations: DVector<T>,
    has_variance: Vec<bool>,
    ridge: T,
    factor: Factor<'a, T>,
}

/// The Cholesky factor of the smaller of two matrices.
#[derive(Debug, Clone)]
enum Factor<'a, T: Real> {
    /// The Cholesky factor of C + ρI, in double precision.
    Variables(DMatrix<f64>),
    /// The data, and the Cholesky factor of ZᵗZ/n + ρI in double precision.
    Observations(DMatrixView<'a, T>, DMatrix<f64>),
}

impl<'a, T: Real> Whitening<'a, T> {
    /// Computes the factor for centred data `x` (d×n) and a ridge ρ > 0, relative to the variances.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NotFinite`]; [`Error::NotPositiveDefinite`] when ρ is not
    /// positive and finite, or is too small beside the rounding errors of C.
    ///
    /// ```
    /// let x = nalgebra::DMatrix::from_element(2, 3, f64::NAN);
    /// assert!(elbo::linalg::Whitening::new(x.as_view(), 1e-9).is_err());
    /// ```
    pub fn new(x: DMatrixView<'a, T>, ridge: T) -> Result<Self> {
        check_finite(x)?;
        let (d, n) = x.shape();
        if !(ridge > T::zero() && ridge.is_finite()) {
            return Err(Error::NotPositiveDefinite { size: d });
        }
        let squares = sums_of_squares_f64(x, None, 1.0);
        let deviations: Vec<f64> = squares.iter().map(|s| (s / n as f64).sqrt()).collect();
        // A subnormal standard deviation has a reciprocal that overflows in T: it counts as 0.
        let usable = |s: f64| T::of(1.0 / s).is_finite() && s.is_finite() && s > 0.0;
        let has_variance: Vec<bool> = deviations.iter().map(|s| usable(*s)).collect();
        let inverses: Vec<f64> =
            deviations.iter().map(|s| if usable(*s) { 1.0 / s } else { 1.0 }).collect();
        let inverse_standard_deviations =
            DVector::from_iterator(d, inverses.iter().map(|v| T::of(*v)));
        let shift = ridge.as_f64();
        let factor = if d <= n {
            let mut correlations = scatter_f64(x, None, None, 1.0);
            for j in 0..d {
                for i in 0..d {
                    correlations[(i, j)] *= inverses[i] * inverses[j] / n as f64;
                }
            }
            for j in 0..d {
                if !has_variance[j] {
                    correlations.row_mut(j).fill(0.0);
                    correlations.column_mut(j).fill(0.0);
                }
                // The diagonal of C is 1 by definition; computed, it has rounding errors, which may
                // be as large as a small ρ.
                correlations[(j, j)] = 1.0 + if has_variance[j] { shift } else { 0.0 };
            }
            Factor::Variables(cholesky_lower(correlations.as_view())?)
        } else {
            let mut inner = DMatrix::<f64>::zeros(n, n);
            // In blocks of 1024 variables, so that the standardised copy in f64 stays small.
            for first in (0..d).step_by(1024) {
                let rows = 1024.min(d - first);
                let mut scaled = x.rows(first, rows).map(|v| v.as_f64());
                for mut column in scaled.column_iter_mut() {
                    for (i, v) in column.iter_mut().enumerate() {
                        *v *= if has_variance[first + i] { inverses[first + i] } else { 0.0 };
                    }
                }
                gemm(
                    1.0 / n as f64,
                    super::Operand::from(&scaled).transposed(),
                    &scaled,
                    1.0,
                    &mut inner,
                );
            }
            for j in 0..n {
                inner[(j, j)] += shift;
            }
            Factor::Observations(x, cholesky_lower(inner.as_view())?)
        };
        Ok(Self { inverse_standard_deviations, has_variance, ridge, factor })
    }

    /// Overwrites a k×d matrix by its product with the inverse from the right.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when the matrix does not have d columns.
    ///
    /// ```
    /// use nalgebra::dmatrix;
    /// let x = dmatrix![2.0, -2.0; 0.0, 0.0]; // the second variable has no variance
    /// let mut rows = dmatrix![4.0, 5.0];
    /// elbo::linalg::Whitening::new(x.as_view(), 1e-9)?.apply(&mut rows)?;
    /// assert!((rows - dmatrix![1.0, 5.0]).amax() < 1e-8_f64);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn apply(&self, rows: &mut DMatrix<T>) -> Result<()> {
        let d = self.has_variance.len();
        if rows.ncols() != d {
            return Err(Error::DimensionMismatch {
                what: "columns to whiten",
                expected: d,
                actual: rows.ncols(),
            });
        }
        self.scale(rows);
        match &self.factor {
            Factor::Variables(factor) => {
                // The inverse is symmetric: the product from the right is a solve with the
                // transpose.
                let mut columns = rows.transpose().map(|v| v.as_f64());
                solve_cholesky(factor, columns.as_view_mut());
                rows.tr_copy_from(&columns.map(T::of));
            }
            Factor::Observations(x, factor) => {
                // The Woodbury identity: (ZZᵗ/n + ρI)⁻¹ = (I − Z (ZᵗZ/n + ρI)⁻¹ Zᵗ/n)/ρ. Columns
                // without variance are set to 0 meanwhile and restored at the end.
                let kept = rows.clone();
                for (mut column, varies) in rows.column_iter_mut().zip(&self.has_variance) {
                    if !varies {
                        column.fill(T::zero());
                    }
                }
                let mut scaled = rows.clone();
                self.scale(&mut scaled);
                let mut inner = product_tr_left(x, super::Operand::from(&scaled).transposed())
                    .map(|v| v.as_f64());
                solve_cholesky(factor, inner.as_view_mut());
                let inner = inner.map(|v| T::of(v / x.ncols() as f64));
                let mut back = matrix_product(x, &inner).transpose();
                self.scale(&mut back);
                *rows -= back;
                *rows /= self.ridge;
                for (j, varies) in self.has_variance.iter().enumerate() {
                    if !varies {
                        rows.column_mut(j).copy_from(&kept.column(j));
                    }
                }
            }
        }
        self.scale(rows);
        Ok(())
    }

    /// Multiplies the matrix by D⁻¹ from the right.
    fn scale(&self, rows: &mut DMatrix<T>) {
        for (mut column, factor) in
            rows.column_iter_mut().zip(self.inverse_standard_deviations.iter())
        {
            column *= *factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;

    fn check<T: Real>(d: usize, n: usize, ridge: f64, tolerance: f64) {
        let mut x = random::<T>(d, n, 3);
        for j in 0..d {
            x.row_mut(j).scale_mut(T::of(10f64.powi((j % 5) as i32 - 2)));
        }
        x.row_mut(1).fill(T::zero());
        let wide = x.map(|v| v.as_f64());
        let s = &wide * wide.transpose() / n as f64;
        let rows = random::<T>(3, d, 4);
        let mut got = rows.clone();
        Whitening::new(x.as_view(), T::of(ridge)).unwrap().apply(&mut got).unwrap();
        // The product with S + ρD² gives the rows back. Variable 1 has no variance.
        let mut matrix = s.clone();
        for j in 0..d {
            matrix[(j, j)] = if j == 1 { 1.0 } else { s[(j, j)] * (1.0 + ridge) };
        }
        let back = got.map(|v| v.as_f64()) * matrix;
        let error = (back - rows.map(|v| v.as_f64())).amax();
        assert!(error < tolerance, "{d}x{n}: {error:e}");
    }

    #[test]
    fn undone_by_the_covariance() {
        check::<f64>(6, 40, 1e-8, 1e-9);
        check::<f64>(30, 10, 1e-3, 1e-8);
        check::<f32>(6, 40, 1e-4, 1e-3);
        check::<f32>(30, 10, 1e-1, 1e-1);
    }

    #[test]
    fn refusals() {
        let x = random::<f64>(3, 5, 1);
        assert!(matches!(
            Whitening::new(x.as_view(), 0.0),
            Err(Error::NotPositiveDefinite { size: 3 })
        ));
        assert!(Whitening::new(x.as_view(), f64::NAN).is_err());
        let whitening = Whitening::new(x.as_view(), 1e-6).unwrap();
        assert!(matches!(
            whitening.apply(&mut DMatrix::zeros(2, 4)),
            Err(Error::DimensionMismatch { expected: 3, actual: 4, .. })
        ));
    }
}

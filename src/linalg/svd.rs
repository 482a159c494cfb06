//! The thin singular value decomposition A = UΣVᵗ: Householder QR, then one-sided Jacobi on R.
//!
//! Jacobi is slower than bidiagonalisation, but accurate for columns of very different scales.[^1]
//! QR first reduces an m×n problem to n×n, and does not harm that accuracy: its error in each
//! column is small relative to that column.
//!
//! [^1]: J. Demmel and K. Veselić, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal.
//! Appl. 13 (1992).

use super::jacobi::square_svd;
use super::moments::check_finite;
use super::product::matrix_product;
use super::qr::thin_qr;
use super::signs::is_reversed;
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// The thin singular value decomposition of an m×n matrix, r = min(m, n).
///
/// ```math
/// A = U \operatorname{diag}(s) V^⊤
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ThinSvd<T: Real> {
    /// Left singular vectors, m×r; the columns are orthonormal, also where the singular value is 0.
    pub u: DMatrix<T>,
    /// The r singular values, in descending order.
    pub singular_values: DVector<T>,
    /// Right singular vectors, n×r; the columns are orthonormal.
    pub v: DMatrix<T>,
}

impl<T: Real> ThinSvd<T> {
    /// This decomposition with signs such that the first large entry in each column of U (within
    /// 10⁻³ of the largest one) is positive.
    ///
    /// ```
    /// use nalgebra::dmatrix;
    /// let svd = elbo::linalg::thin_svd(dmatrix![-3.0; -4.0].as_view())?.with_fixed_signs();
    /// assert!(svd.u[(1, 0)] > 0.0 && svd.v[(0, 0)] < 0.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn with_fixed_signs(mut self) -> Self {
        // A pair (u_j, v_j) is determined up to a common sign.
        for j in 0..self.u.ncols() {
            if is_reversed(self.u.column(j).as_slice()) {
                self.u.column_mut(j).neg_mut();
                self.v.column_mut(j).neg_mut();
            }
        }
        self
    }
}

/// The thin singular value decomposition of an m×n matrix of any shape and rank.
///
/// ```math
/// A = U \operatorname{diag}(s) V^⊤, \quad U^⊤U = V^⊤V = I, \quad s_1 ≥ s_2 ≥ … ≥ 0
/// ```
/// Small singular values are accurate also where the columns (for m ≥ n; the rows for m < n) have
/// very different scales: if A = B D with D diagonal, the relative error of each singular value is
/// about ε times the condition number of B alone.
///
/// # Errors
/// [`crate::Error::Empty`], [`crate::Error::NotFinite`]; [`crate::Error::DecompositionLimit`] after
/// 60 sweeps; no matrix is known that needs so many.
///
/// ```
/// use nalgebra::dmatrix;
/// let svd = elbo::linalg::thin_svd(dmatrix![3.0, 0.0; 0.0, 0.0; 4.0, 0.0].as_view())?;
/// assert!((svd.singular_values[0] - 5.0_f64).abs() < 1e-14 && svd.singular_values[1] == 0.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn thin_svd<T: Real>(a: DMatrixView<'_, T>) -> Result<ThinSvd<T>> {
    check_finite(a)?;
    // A wide matrix: the decomposition of Aᵗ, with U and V exchanged.
    if a.nrows() < a.ncols() {
        let ThinSvd { u, singular_values, v } = tall_svd(a.transpose().as_view())?;
        return Ok(ThinSvd { u: v, singular_values, v: u });
    }
    tall_svd(a)
}

/// The decomposition for m ≥ n: with A = QR and R = U′ΣVᵗ, U is QU′.
fn tall_svd<T: Real>(a: DMatrixView<'_, T>) -> Result<ThinSvd<T>> {
    let (q, r) = thin_qr(a)?;
    // In double precision for `f32` as well: R is small, and Jacobi loses no accuracy of its own.
    let inner = square_svd(r.map(|v| v.as_f64()))?;
    Ok(ThinSvd {
        u: matrix_product(&q, &inner.left.map(T::of)),
        singular_values: DVector::from_iterator(
            inner.values.len(),
            inner.values.iter().map(|s| T::of(*s)),
        ),
        v: inner.right.map(T::of),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::linalg::testing::{hard_matrices, orthonormality, random};

    fn check<T: Real>(a: &DMatrix<T>) {
        let svd = thin_svd(a.as_view()).unwrap();
        let rank = a.nrows().min(a.ncols());
        assert_eq!((svd.u.shape(), svd.v.shape()), ((a.nrows(), rank), (a.ncols(), rank)));
        let tolerance = 40.0 * T::EPSILON.as_f64() * (rank as f64).sqrt();
        assert!(
            orthonormality(&svd.u) < tolerance,
            "u of {:?}: {:e}",
            a.shape(),
            orthonormality(&svd.u)
        );
        assert!(
            orthonormality(&svd.v) < tolerance,
            "v of {:?}: {:e}",
            a.shape(),
            orthonormality(&svd.v)
        );
        let values = svd.singular_values.as_slice();
        assert!(values.windows(2).all(|w| w[0] >= w[1]) && values.iter().all(|s| *s >= T::zero()));
        let back = &svd.u * DMatrix::from_diagonal(&svd.singular_values) * svd.v.transpose();
        let (error, size) = ((back - a).norm().as_f64(), a.norm().as_f64());
        assert!(error <= tolerance * size, "{:?}: {error:e} of {size:e}", a.shape());
        let squares: f64 = values.iter().map(|s| s.as_f64().powi(2)).sum();
        assert!((squares - size * size).abs() <= tolerance * size * size);
    }

    #[test]
    fn hard_matrices_are_decomposed() {
        for a in hard_matrices() {
            check(&a);
            check(&a.map(|v| v as f32));
        }
    }

    #[test]
    fn known_singular_values_to_their_last_digits() {
        // Orthonormal columns times scales over 24 orders of magnitude, which are the singular
        // values.
        let q = super::super::qr::orthonormalize(random::<f64>(50, 9, 7).as_view()).unwrap();
        let mut a = q.clone();
        for j in 0..9 {
            a.column_mut((j * 4) % 9).scale_mut(10f64.powi(-3 * j as i32));
        }
        for a in [a.clone(), a.transpose()] {
            let svd = thin_svd(a.as_view()).unwrap();
            for j in 0..9 {
                let expected = 10f64.powi(-3 * j as i32);
                assert!(
                    (svd.singular_values[j] / expected - 1.0).abs() < 1e-13,
                    "{j}: {:e}",
                    svd.singular_values[j]
                );
            }
        }
    }

    /// Columns of similar lengths, for which rotations start at eigenvectors: singular values that
    /// are equal, tiny, zero, or span fifteen orders of magnitude.
    #[test]
    fn columns_that_are_not_graded() {
        for (m, n) in [(8, 8), (30, 9), (60, 60), (130, 97), (40, 90)] {
            let rank = m.min(n);
            let q = |rows, seed| {
                crate::linalg::orthonormalize(random::<f64>(rows, rank, seed).as_view()).unwrap()
            };
            let spectra: [&dyn Fn(usize) -> f64; 6] = [
                &|_| 1.0,
                &|i| if i < rank / 2 { 1.0 } else { 0.0 },
                &|i| if i < rank / 2 { 2.0 } else { 1e-12 },
                &|i| 10f64.powf(-15.0 * i as f64 / rank as f64),
                &|i| if i == 0 { 1.0 } else { 1e-9 },
                &|i| 1.0 + 1e-15 * i as f64,
            ];
            for spectrum in spectra {
                let known = nalgebra::DVector::from_fn(rank, |i, _| spectrum(i));
                let a = q(m, 1) * DMatrix::from_diagonal(&known) * q(n, 2).transpose();
                check(&a);
                check(&a.map(|v| v as f32));
                let mut sorted: Vec<f64> = known.iter().copied().collect();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let found = thin_svd(a.as_view()).unwrap().singular_values;
                let error = found.iter().zip(&sorted).map(|(a, b)| (a - b).abs());
                assert!(error.fold(0.0, f64::max) < 1e-14 * sorted[0], "{m}x{n}");
            }
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let a = random::<f64>(300, 150, 9);
        let run = |t| crate::linalg::testing::with_threads(t, || thin_svd(a.as_view()).unwrap());
        let one = run(1);
        assert!(one == run(2) && one == run(5));
    }

    #[test]
    fn signs_are_fixed() {
        let a = random::<f64>(20, 6, 11);
        let (one, other) = (
            thin_svd(a.as_view()).unwrap().with_fixed_signs(),
            thin_svd((-&a).as_view()).unwrap().with_fixed_signs(),
        );
        assert!((&one.u - &other.u).amax() < 1e-13 && (&one.v + &other.v).amax() < 1e-13);
        check(&a);
    }

    #[test]
    fn extreme_scales_and_refusals() {
        for scale in [1e-300, 1e-160, 1e160, 1e300] {
            let svd = thin_svd(random::<f64>(6, 4, 3).scale(scale).as_view()).unwrap();
            let plain = thin_svd(random::<f64>(6, 4, 3).as_view()).unwrap();
            assert!((svd.singular_values / scale - plain.singular_values).amax() < 1e-14);
        }
        // For so small a column the cotangent of twice the rotation angle has a square that
        // overflows.
        for scale in [1e-100, 1e-150, 1e-156] {
            let svd =
                thin_svd(nalgebra::dmatrix![1.0, scale; 1.0, 2.0 * scale; 0.0, scale].as_view())
                    .unwrap();
            let expected = [2f64.sqrt(), scale * 1.5f64.sqrt()];
            assert!(
                (0..2).all(|j| (svd.singular_values[j] / expected[j] - 1.0).abs() < 1e-13),
                "{scale:e}: {}",
                svd.singular_values
            );
        }
        assert!(matches!(
            thin_svd(DMatrix::<f64>::zeros(0, 3).as_view()),
            Err(Error::Empty { .. })
        ));
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(matches!(
                thin_svd(DMatrix::from_element(3, 2, bad).as_view()),
                Err(Error::NotFinite { .. })
            ));
        }
    }
}

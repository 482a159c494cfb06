//! Eigenvalues and eigenvectors of symmetric matrices: all pairs, the leading k pairs, or the
//! leading k pairs of a matrix-free operator.
//!
//! | file | contents |
//! |---|---|
//! | `symmetric` | the decomposition of a matrix, by way of its tridiagonal form |
//! | `tridiagonal` | the Householder reduction to tridiagonal form |
//! | `tridiagonal_pairs` | eigenpairs of that form: all, or the k largest |
//! | `divide_conquer` | all eigenpairs of that form by divide and conquer |
//! | `bisection`, `inverse_iteration` | the k largest eigenvalues of that form, and their vectors |
//! | `krylov` | block Krylov for an operator that is given by its products with blocks of vectors |
//!
//! The k leading pairs of a d×d matrix are computed by the first of these that applies and
//! succeeds:
//!
//! | case | algorithm |
//! |---|---|
//! | d ≥ 256 and 12k ≤ d | block Krylov, then a proof that no larger eigenvalue was overlooked |
//! | 3k < d | tridiagonal form, bisection, inverse iteration |
//! | always | tridiagonal form, divide and conquer (implicit QL up to 64 rows) |

mod bisection;
mod divide_conquer;
mod inverse_iteration;
mod krylov;
mod symmetric;
mod tridiagonal;
mod tridiagonal_pairs;

pub use krylov::leading_eigenpairs_of;
pub(crate) use krylov::pseudo_random;
pub use symmetric::{SymmetricEigen, symmetric_eigen};

use super::cholesky::factor_lower;
use super::gram::{add_lower, mirror};
use super::{check_finite, matrix_product_into};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};
use symmetric::{leading, lower_over, unit_of};

/// The smallest dimension d for which the leading pairs are first sought by block Krylov.
// The search reads the matrix some twenty times; the tridiagonal form takes 4d³/3 operations, half
// of them in matrix-vector products, which reuse nothing. At d = 784 and k = 50, on two threads,
// the search with its proof takes 7.5 ms and the tridiagonal form took 22 (docs/performance.md).
const KRYLOV_MIN_DIMENSION: usize = 256;
/// The number of columns of a block in that search.
// Small, because a basis of a given size then holds higher powers of S, and the search ends with
// fewer columns. Large blocks would save passes over the matrix, but it stays in cache.
const BLOCK: usize = 8;

/// The k largest eigenvalues of a symmetric d×d matrix and their eigenvectors (d×k). The lower
/// triangle is read; for k > d all d pairs are returned.
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
    let d = s.nrows();
    if prefers_krylov(d, k) && s.ncols() == d {
        check_finite(s)?;
        // Scaling by a power of two is exact and keeps squares of entries in range. The products of
        // the search read both triangles.
        let unit = unit_of(s);
        let mut whole = lower_over(s, unit);
        mirror(&mut whole);
        if let Some(found) = searched(&whole, k)? {
            return Ok(SymmetricEigen {
                values: found.values.map(|v| T::of(v * unit)),
                vectors: found.vectors.map(T::of),
            });
        }
    }
    leading(s, k)
}

/// The result of [`leading_eigenpairs`] for a matrix of which both triangles are stored; the matrix
/// is not copied unless its entries are very large or very small.
pub(crate) fn leading_eigenpairs_of_whole(
    s: &DMatrix<f64>,
    k: usize,
) -> Result<SymmetricEigen<f64>> {
    if prefers_krylov(s.nrows(), k) {
        check_finite(s.as_view())?;
        // Between 2⁻⁴⁰⁰ and 2⁴⁰⁰ the square of the largest entry is far from overflow (2¹⁰²⁴) and
        // from the subnormal numbers (2⁻¹⁰²²), so that no scaled copy is needed.
        if unit_of(s.as_view()).log2().abs() > 400.0 {
            return leading_eigenpairs(s.as_view(), k);
        }
        if let Some(found) = searched(s, k)? {
            return Ok(found);
        }
    }
    leading(s.as_view(), k)
}

/// Whether block Krylov is tried for the k leading pairs of a d×d matrix.
fn prefers_krylov(d: usize, k: usize) -> bool {
    // A search rarely needs more than 4k columns. With 12k ≤ d these are at most d/3, and the
    // projected eigenproblems stay small beside a decomposition of the matrix.
    d >= KRYLOV_MIN_DIMENSION && k > 0 && 12 * k <= d
}

/// The k leading pairs of S (both triangles stored) by block Krylov; `None` where the search would
/// cost more than a decomposition, or where a larger eigenvalue was overlooked.
fn searched(s: &DMatrix<f64>, k: usize) -> Result<Option<SymmetricEigen<f64>>> {
    let d = s.nrows();
    let products = |v: DMatrixView<'_, f64>, out: DMatrixViewMut<'_, f64>| {
        matrix_product_into(s, v, out);
        Ok(())
    };
    // At most 2d/5 columns in the basis, and no restarts: a spectrum that needs more is decomposed.
    let found = krylov::search(d, k, BLOCK, 2 * d / 5, false, products)?;
    Ok(found.filter(|found| none_overlooked(s, found)))
}

/// Whether the pairs `found` are the leading ones: S has no other eigenvalue above the smallest of
/// them.
///
/// A Krylov space from a block of b columns contains at most b independent eigenvectors of a
/// multiple eigenvalue, so that the search can overlook copies. The remaining eigenvalues of S are
/// those of S − VΛVᵗ, apart from k zeros. They all lie below μ if and only if μI − S + VΛVᵗ is
/// positive definite, that is, if it has a Cholesky factor. (For μ ≤ 0 the zeros make the test
/// fail, and the matrix is decomposed.)
fn none_overlooked(s: &DMatrix<f64>, found: &SymmetricEigen<f64>) -> bool {
    let (Some(smallest), Some(largest)) =
        (found.values.iter().next_back(), found.values.iter().next())
    else {
        return true;
    };
    // μ is the smallest eigenvalue found plus a margin. The margin covers the residuals of the
    // pairs found (at most RESIDUAL_TOLERANCE · λ_1 each), which S − VΛVᵗ still contains, and the
    // rounding of the factor.
    let margin = 4.0 * krylov::RESIDUAL_TOLERANCE * largest.abs();
    let mut rest = lower_over(s.as_view(), -1.0);
    let mut scaled = found.vectors.clone();
    scaled
        .column_iter_mut()
        .zip(found.values.iter())
        .for_each(|(mut column, value)| column *= *value);
    add_lower(&scaled, &found.vectors, rest.as_view_mut());
    (0..s.nrows()).for_each(|i| rest[(i, i)] += smallest + margin);
    factor_lower(&mut rest).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::linalg::testing::{hard_matrices, orthonormality, random, with_threads};
    use nalgebra::DVector;

    fn check<T: Real>(s: &DMatrix<T>) {
        let d = s.nrows();
        let all = symmetric_eigen(s.as_view()).unwrap();
        let exact = s.map(|v| v.as_f64());
        let size = exact.amax().max(1e-300) * d as f64;
        let tolerance = 10.0 * T::EPSILON.as_f64();
        assert!(all.values.as_slice().windows(2).all(|w| w[0] >= w[1]));
        for k in [d, d / 4, 1] {
            let some = leading_eigenpairs(s.as_view(), k).unwrap();
            assert!(
                orthonormality(&some.vectors) < tolerance * 10.0,
                "{d} {k}: {:e}",
                orthonormality(&some.vectors)
            );
            let (v, l) = (some.vectors.map(|v| v.as_f64()), some.values.map(|v| v.as_f64()));
            assert!(
                (&exact * &v - &v * DMatrix::from_diagonal(&l)).amax() < tolerance * size,
                "{d} {k}"
            );
            assert!((some.values - all.values.rows(0, k)).amax().as_f64() < tolerance * size);
        }
        assert!(
            (all.values.iter().map(|v| v.as_f64()).sum::<f64>() - exact.trace()).abs()
                < tolerance * size
        );
    }

    #[test]
    fn hard_spectra() {
        for a in hard_matrices() {
            let s = &a * a.transpose();
            check(&s);
            check(&s.map(|v| v as f32));
            check(&(&a.transpose() * &a));
        }
        check(&DMatrix::<f64>::from_element(90, 90, 1.0));
        let indefinite = random::<f64>(77, 77, 4);
        check(&(&indefinite + indefinite.transpose()));
    }

    #[test]
    fn known_spectrum() {
        let known = DVector::from_fn(100, |i, _| if i < 3 { 7.0 } else { 1.0 / i as f64 });
        let eigen = leading_eigenpairs(with_spectrum(&known).as_view(), 10).unwrap();
        assert!((eigen.values - known.rows(0, 10)).amax() < 1e-13);
    }

    fn with_spectrum(known: &DVector<f64>) -> DMatrix<f64> {
        let d = known.len();
        let q = crate::linalg::orthonormalize(random::<f64>(d, d, 7).as_view()).unwrap();
        &q * DMatrix::from_diagonal(known) * q.transpose()
    }

    #[test]
    fn a_search_overlooks_no_copy_of_an_eigenvalue() {
        let d = 400;
        // More copies than a block has columns, at the top of the spectrum and inside it.
        for copies in [0..20, 5..25] {
            let known = DVector::from_fn(d, |i, _| {
                if copies.contains(&i) { 50.0 } else { 100.0 / (1.0 + i as f64).powf(1.3) }
            });
            let mut sorted: Vec<f64> = known.iter().copied().collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let s = with_spectrum(&known);
            let eigen = leading_eigenpairs(s.as_view(), 30).unwrap();
            assert!(
                eigen.values.iter().zip(&sorted).all(|(a, b)| (a - b).abs() < 1e-11),
                "{copies:?}"
            );
            assert!(orthonormality(&eigen.vectors) < 1e-12);
        }
        // The test fails when a copy of the multiple eigenvalue, or a value between, is left out.
        let known = DVector::from_fn(d, |i, _| if i < 3 { 2.0 } else { 1.0 / (i as f64) });
        let s = with_spectrum(&known);
        let all = leading(s.as_view(), 6).unwrap();
        let without = |left_out: usize| {
            let kept: Vec<usize> = (0..6).filter(|j| *j != left_out).collect();
            SymmetricEigen {
                values: all.values.select_rows(&kept),
                vectors: all.vectors.select_columns(&kept),
            }
        };
        assert!(none_overlooked(&s, &all) && none_overlooked(&s, &without(5)));
        assert!(!none_overlooked(&s, &without(1)) && !none_overlooked(&s, &without(4)));
    }

    #[test]
    fn a_few_pairs_of_many_by_search_or_whole() {
        let d = 300;
        let power = with_spectrum(&DVector::from_fn(d, |i, _| (1.0 + i as f64).powf(-1.4)));
        assert!(searched(&power, 12).unwrap().is_some());
        // No gap after the leading part: the search returns `None`.
        let flat = with_spectrum(&DVector::from_fn(d, |i, _| 1.0 - 1e-3 * i as f64));
        assert!(searched(&flat, 30).unwrap().is_none());
        for s in [
            power,
            flat,
            DMatrix::identity(d, d),
            DMatrix::zeros(d, d),
            DMatrix::from_element(d, d, 1.0),
        ] {
            for k in [1, 12, 30] {
                let (some, whole) =
                    (leading_eigenpairs(s.as_view(), k).unwrap(), leading(s.as_view(), k).unwrap());
                assert!((&some.values - &whole.values).amax() < 1e-12, "{k}");
                assert!(orthonormality(&some.vectors) < 1e-12);
                assert!(
                    (&s * &some.vectors - &some.vectors * DMatrix::from_diagonal(&some.values))
                        .amax()
                        < 1e-8 * some.values[0].max(1e-300),
                    "{k}"
                );
            }
        }
    }

    #[test]
    fn the_search_at_any_scale() {
        let mut s = with_spectrum(&DVector::from_fn(300, |i, _| (1.0 + i as f64).powf(-1.4)));
        crate::linalg::gram::mirror(&mut s);
        let plain = leading_eigenpairs(s.as_view(), 5).unwrap();
        assert!(searched(&s, 5).unwrap().is_some());
        for scale in [-1000, -300, 300, 1000].map(|exponent| 2f64.powi(exponent)) {
            let scaled = s.scale(scale);
            for eigen in
                [leading_eigenpairs(scaled.as_view(), 5), leading_eigenpairs_of_whole(&scaled, 5)]
            {
                let eigen = eigen.unwrap();
                // Scaling by a power of two changes exponents only.
                assert!(
                    eigen.values == plain.values.scale(scale) && eigen.vectors == plain.vectors
                );
            }
        }
        assert_eq!(leading_eigenpairs(s.as_view(), 0).unwrap().values.len(), 0);
    }

    #[test]
    fn scales_and_refusals() {
        let s = DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 2.0]);
        for scale in [1e-300, 1e300] {
            let eigen = symmetric_eigen(s.scale(scale).as_view()).unwrap();
            assert!((eigen.values / scale - DVector::from_vec(vec![3.0, 1.0])).amax() < 1e-14);
        }
        for bad in [f64::NAN, f64::NEG_INFINITY] {
            assert!(matches!(
                symmetric_eigen(DMatrix::from_element(2, 2, bad).as_view()),
                Err(Error::NotFinite { .. })
            ));
        }
        assert!(matches!(
            leading_eigenpairs(DMatrix::<f64>::zeros(2, 3).as_view(), 1),
            Err(Error::DimensionMismatch { .. })
        ));
        assert!(symmetric_eigen(DMatrix::<f64>::zeros(0, 0).as_view()).is_err());
        assert_eq!(leading_eigenpairs(s.as_view(), 0).unwrap().values.len(), 0);
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let a = random::<f64>(450, 450, 3);
        let s = &a + a.transpose();
        let run = |t| with_threads(t, || leading_eigenpairs(s.as_view(), 5).unwrap());
        assert!(run(1) == run(2));
    }
}

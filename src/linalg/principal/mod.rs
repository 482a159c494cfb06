//! Principal components: the leading eigenvectors of the covariance, by whichever route keeps the
//! digits and costs least.
//!
//! Legend: X (d×n) data, μ the mean, S = (X−μ)(X−μ)ᵗ/n, λ_j its eigenvalues.
//!
//! | file | what it holds |
//! |---|---|
//! | `solver` | the ways by name |
//! | `routes` | the ways themselves, and the choice |
//! | `products` | leading pairs from products alone |

mod products;
mod routes;
mod solver;

pub(crate) use products::{Captured, add_product, block_of};
pub use solver::{PcaAlgorithm, Solver};

use super::centred::centred_moments;
use super::gram::wide;
use super::parallel::fork_join_scope;
use super::{check_finite, mean_wide, refined_mean, squares_wide};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use routes::{Data, Solution};
use solver::by_products_alone;

/// The k leading principal components of d×n data.
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalComponents<T: Real> {
    /// The directions, d×k, orthonormal; the entry of largest size in each is positive.
    pub vectors: DMatrix<T>,
    /// The eigenvalues λ_1 ≥ … ≥ λ_k of the covariance with divisor n.
    pub variances: DVector<T>,
    /// The sum of all d eigenvalues, which is the sum of the variables' variances.
    pub total_variance: T,
    /// The sum of the d − k eigenvalues that are left.
    pub residual_variance: T,
    /// The way that was taken.
    pub solver: PcaAlgorithm,
    /// The largest ‖S u_j − λ_j u_j‖ over λ_1, measured on the [randomised](Solver::Randomized)
    /// way: within this of each λ_j (in units of λ_1) stands an eigenvalue of S.
    pub accuracy: Option<T>,
}

/// The k leading principal components of `x` (d×n) about `mean` (d entries; about 0 without one).
///
/// ```math
/// S = \frac 1 n (X − μ)(X − μ)^⊤ = \sum_j λ_j u_j u_j^⊤
/// ```
/// Variances and residual keep about nine digits even where the variables' scales span ten orders
/// of magnitude: S is formed only when that loses nothing. Beyond the data it takes O(min(d, n)²)
/// memory, and a copy of the data on the [`PcaAlgorithm::Full`] route (in double precision, also
/// where `f32` products would lose what `f32` data determine).
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`] (also when a variance is beyond the largest number),
/// [`Error::DimensionMismatch`] when k > d or the mean has another length;
/// [`Error::DecompositionLimit`].
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![1.0, -1.0, 3.0, -3.0; 0.0, 0.0, 1.0, 1.0];
/// let p = elbo::linalg::principal_components(x.as_view(), Some(&x.column_mean()), 1)?;
/// assert!((p.variances[0] - 5.0_f64).abs() < 1e-12 && (p.residual_variance - 0.25).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn principal_components<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
    k: usize,
) -> Result<PrincipalComponents<T>> {
    principal_components_by(x, mean, k, Solver::Auto)
}

/// [`principal_components`] by a way of one's own choice.
///
/// # Errors
/// As for [`principal_components`]; [`Error::DimensionMismatch`] also for [`Solver::Gram`] with k >
/// n.
///
/// ```
/// use elbo::linalg::{Solver, principal_components_by};
/// let x = nalgebra::DMatrix::from_fn(40, 90, |i, j| {
///     ((i * j) as f64).sin() + if i < 2 { (j * i + j) as f64 } else { 0.0 }
/// });
/// let solver = Solver::Randomized { oversampling: 8, power_iterations: 3 };
/// let found = principal_components_by(x.as_view(), None, 2, solver)?;
/// assert!(found.accuracy.is_some_and(|share| share < 1e-2));
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn principal_components_by<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
    k: usize,
    solver: Solver,
) -> Result<PrincipalComponents<T>> {
    let (d, n) = x.shape();
    if d == 0 || n == 0 {
        return Err(Error::Empty { rows: d, columns: n });
    }
    if let Some(m) = mean {
        if m.len() != d {
            return Err(Error::DimensionMismatch {
                what: "entries of the mean",
                expected: d,
                actual: m.len(),
            });
        }
        check_finite(m.as_view())?;
    }
    if k > d {
        return Err(Error::DimensionMismatch {
            what: "components, at most the variables",
            expected: d,
            actual: k,
        });
    }
    let mean = mean.map(wide);
    let squares = squares_wide(x, mean.as_deref(), 1.0);
    let data = Data::new(x, mean.as_deref(), squares, None)?;
    let solution = fork_join_scope(|| data.solve_by(k, solver))?;
    data.finish(solution, k)
}

/// The same about the mean of the data, rounded by `round`, which is returned beside: where the
/// covariance is the way, one pass finds both.
///
/// That pass sees every entry: it calls for the `check` of the data only where it does not prove
/// their squares to be below `limit`.
pub(crate) fn principal_components_centred<T: Real>(
    x: DMatrixView<'_, T>,
    limit: f64,
    check: impl FnOnce() -> Result<()>,
    round: impl Fn(f64) -> f64,
    k: usize,
    solver: Solver,
) -> Result<(Vec<f64>, PrincipalComponents<T>)> {
    let (d, n) = x.shape();
    let by_covariance = match solver {
        Solver::Covariance => true,
        Solver::Auto => 0 < k && k < d && d <= n && !by_products_alone(d, n, k),
        _ => false,
    };
    let (mean, squares, moments) = if by_covariance {
        let found = centred_moments(x, round);
        if !found.proves_below(limit, n) {
            check()?;
        }
        (found.mean, found.squares, Some(found.moments))
    } else {
        check()?;
        let (mean, squares) = refined_mean(x, mean_wide(x)?, round);
        (mean, squares, None)
    };
    let data = Data::new(x, Some(&mean), squares, moments)?;
    let solution = fork_join_scope(|| data.solve_by(k, solver))?;
    let found = data.finish(solution, k)?;
    Ok((mean, found))
}

impl<T: Real> Data<'_, T> {
    fn finish(&self, solution: Solution<T>, k: usize) -> Result<PrincipalComponents<T>> {
        let unit = |v: f64| v.max(0.0) / self.x.ncols() as f64 / self.scale / self.scale;
        let mut vectors = solution.vectors;
        for mut column in vectors.column_iter_mut() {
            if crate::linalg::svd::largest_entry(column.as_slice()) < T::zero() {
                column.neg_mut();
            }
        }
        let total_variance = T::of(unit(self.total()));
        if !total_variance.is_finite() {
            return Err(Error::NotFinite { row: 0, column: 0, value: unit(self.total()) });
        }
        Ok(PrincipalComponents {
            vectors,
            variances: DVector::from_iterator(k, solution.values.iter().map(|v| T::of(unit(*v)))),
            total_variance,
            residual_variance: T::of(unit(if k == self.x.nrows() {
                0.0
            } else {
                solution.residual
            })),
            solver: solution.solver,
            accuracy: solution.accuracy.map(T::of),
        })
    }
}

/// All eigenvalues of S, falling (d of them, zeros included): what the choice of k looks at.
///
/// # Errors
/// As for [`principal_components`].
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![1.0, -1.0; 2.0, -2.0];
/// let spectrum = elbo::linalg::covariance_spectrum(x.as_view(), None)?;
/// assert!((spectrum[0] - 5.0_f64).abs() < 1e-12 && spectrum[1].abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn covariance_spectrum<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
) -> Result<DVector<T>> {
    let d = x.nrows();
    let rank = d.min(x.ncols());
    let components = principal_components(x, mean, rank)?;
    Ok(components.variances.resize_vertically(d, T::zero()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::orthonormalize;
    use crate::linalg::testing::{hard_matrices, orthonormality, random};

    fn check<T: Real>(x: &DMatrix<T>, tolerance: f64) {
        let (d, n) = x.shape();
        let mean = super::super::column_mean(x.as_view()).unwrap();
        let mut centred = x.map(|v| v.as_f64());
        centred.column_iter_mut().for_each(|mut c| c -= mean.map(|v| v.as_f64()));
        let svd = super::super::thin_svd(centred.transpose().as_view()).unwrap();
        let squares: Vec<f64> = svd.singular_values.iter().map(|s| s * s / n as f64).collect();
        for k in [0, 1, 2, d.min(n) / 2, d.min(n), d] {
            if k > d {
                continue;
            }
            let p = principal_components(x.as_view(), Some(&mean), k).unwrap();
            assert!(
                orthonormality(&p.vectors) < 100.0 * T::EPSILON.as_f64(),
                "{:?} k={k}",
                x.shape()
            );
            let size = squares.first().copied().unwrap_or(0.0);
            for (j, (variance, square)) in p.variances.iter().zip(&squares).enumerate() {
                assert!(
                    (variance.as_f64() - square).abs() <= tolerance * size,
                    "{:?} k={k} {j}",
                    x.shape()
                );
            }
            let residual: f64 = squares.iter().skip(k).sum();
            assert!(
                (p.residual_variance.as_f64() - residual).abs() <= tolerance * size,
                "{:?} k={k}",
                x.shape()
            );
            // The variance along the directions is what is claimed.
            let projected = p.vectors.map(|v| v.as_f64()).transpose() * &centred;
            let captured = projected.norm_squared() / n as f64;
            let claimed: f64 = p.variances.iter().map(|v| v.as_f64()).sum();
            assert!((captured - claimed).abs() <= 10.0 * tolerance * size, "{:?} k={k}", x.shape());
        }
    }

    #[test]
    fn components_of_hard_data() {
        for x in hard_matrices() {
            check(&x, 1e-12);
            check(&x.map(|v| v as f32), 1e-5);
        }
        check(&random::<f64>(6, 400, 1).map(|v| v + 1e6), 1e-12);
    }

    #[test]
    fn scales_ten_orders_of_magnitude_apart() {
        let q = orthonormalize(random::<f64>(60, 12, 7).as_view()).unwrap();
        let mut x = q.transpose() * 60f64.sqrt();
        for j in 0..12 {
            x.row_mut((j * 5) % 12).scale_mut(10f64.powi(-(j as i32)));
        }
        for k in [1, 5, 11] {
            let p = principal_components(x.as_view(), None, k).unwrap();
            assert_eq!(p.solver, PcaAlgorithm::Full);
            for j in 0..k {
                assert!((p.variances[j] / 100f64.powi(-(j as i32)) - 1.0).abs() < 1e-12);
            }
            let residual: f64 = (k..12).map(|j| 100f64.powi(-(j as i32))).sum();
            assert!((p.residual_variance / residual - 1.0).abs() < 1e-12, "{k}");
            let single = principal_components(x.map(|v| v as f32).as_view(), None, k).unwrap();
            assert!((f64::from(single.residual_variance) / residual - 1.0).abs() < 1e-6, "{k}");
            assert!(
                (single.variances.map(f64::from).component_div(&p.variances).add_scalar(-1.0))
                    .amax()
                    < 1e-6
            );
        }
    }

    #[test]
    fn the_way_is_chosen_by_shape() {
        let solver =
            |d, n| principal_components(random::<f64>(d, n, 1).as_view(), None, 2).unwrap().solver;
        assert_eq!(solver(10, 50), PcaAlgorithm::Covariance);
        assert_eq!(solver(50, 10), PcaAlgorithm::Gram);
        assert_eq!(solver(1000, 1010), PcaAlgorithm::Krylov);
    }

    #[test]
    fn extreme_scales_and_refusals() {
        let x = random::<f64>(4, 30, 2);
        let plain = principal_components(x.as_view(), None, 2).unwrap();
        for scale in [1e-140, 1e-100, 1e140] {
            let p = principal_components(x.scale(scale).as_view(), None, 2).unwrap();
            assert!(
                (p.variances[1] / scale / scale / plain.variances[1] - 1.0).abs() < 1e-12,
                "{scale:e}"
            );
        }
        let single = principal_components(x.map(|v| 1e17 * v as f32).as_view(), None, 2).unwrap();
        assert!((f64::from(single.variances[1]) / 1e34 / plain.variances[1] - 1.0).abs() < 1e-5);
        assert!(matches!(
            principal_components(x.scale(1e200).as_view(), None, 2),
            Err(Error::NotFinite { .. })
        ));
        assert!(matches!(
            principal_components(x.as_view(), None, 5),
            Err(Error::DimensionMismatch { expected: 4, actual: 5, .. })
        ));
        let mut bad = x.clone();
        bad[(1, 3)] = f64::NAN;
        assert!(matches!(
            principal_components(bad.as_view(), None, 2),
            Err(Error::NotFinite { row: 1, column: 3, .. })
        ));
    }
}

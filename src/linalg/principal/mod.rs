//! Principal components: the leading eigenvectors of the covariance, by the algorithm that costs
//! least among those that are accurate enough for the data.
//!
//! Legend: X (d×n) data, μ the mean, S = (X−μ)(X−μ)ᵗ/n, λ_j its eigenvalues, u_j its eigenvectors.
//!
//! | file | contents |
//! |---|---|
//! | `solver` | the enums of algorithms: the one requested, and the one used |
//! | `routes` | the algorithms, and the automatic choice among them |
//! | `products` | matrix-free eigenpairs: block Krylov and the randomised range finder |

mod products;
mod routes;
mod solver;

pub(crate) use products::{Captured, add_product, block_columns};
pub use solver::{PcaAlgorithm, Solver};

use super::centred::centred_moments;
use super::gram::wide;
use super::parallel::fork_join_scope;
use super::{check_finite, fix_directions, mean_wide, refined_mean, sums_of_squares_f64};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use routes::{Data, Solution};
use solver::prefers_matrix_free;

/// The k leading principal components of d×n data.
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalComponents<T: Real> {
    /// The principal directions u_j, d×k, orthonormal; the first large entry of each (within 10⁻³
    /// of the largest one) is positive.
    pub vectors: DMatrix<T>,
    /// The eigenvalues λ_1 ≥ … ≥ λ_k of the covariance with divisor n.
    pub variances: DVector<T>,
    /// The sum of all d eigenvalues, which is the sum of the variables' variances.
    pub total_variance: T,
    /// The sum of the d − k other eigenvalues.
    pub residual_variance: T,
    /// The algorithm that was used.
    pub solver: PcaAlgorithm,
    /// The largest residual ‖S u_j − λ_j u_j‖ / λ_1, for the [randomised](Solver::Randomized)
    /// algorithm, otherwise `None`. Within this distance of each λ_j (in units of λ_1) lies an
    /// eigenvalue of S.
    pub accuracy: Option<T>,
}

/// The k leading principal components of `x` (d×n), centred at `mean` (d entries; not centred for
/// `None`).
///
/// ```math
/// S = \frac 1 n (X − μ)(X − μ)^⊤ = \sum_j λ_j u_j u_j^⊤
/// ```
/// Variances and residual variance have about nine correct digits even where the scales of the
/// variables span ten orders of magnitude: S is formed only where its rounding errors are small
/// enough for that. The memory beyond the data is O(min(d, n)²), and a copy of the data for
/// [`PcaAlgorithm::Full`] (in double precision, also where products in `f32` would lose digits that
/// `f32` data determine).
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`] (also when a variance overflows),
/// [`Error::DimensionMismatch`] when k > d or the mean does not have d entries;
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

/// The k leading principal components of `x` (d×n) by a given algorithm; otherwise as
/// [`principal_components`].
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
    // In double precision for `f32` as well: the squares decide on the algorithm and give the total
    // variance.
    let mean = mean.map(wide);
    let squares = sums_of_squares_f64(x, mean.as_deref(), 1.0);
    let data = Data::new(x, mean.as_deref(), squares, None)?;
    // The solvers fork many times: keep the workers spinning between the forks.
    let solution = fork_join_scope(|| data.solve_by(k, solver))?;
    data.finish(solution, k)
}

/// The mean of the data in double precision, and the k leading principal components about it.
///
/// Where the covariance is formed, mean and covariance come from one pass over the data. Its sums
/// of squares bound every entry: `check`, which validates the data in a pass of its own, is called
/// only where these sums do not prove that all entries are finite with squares below `limit`.
pub(crate) fn principal_components_centred<T: Real>(
    x: DMatrixView<'_, T>,
    limit: f64,
    check: impl FnOnce() -> Result<()>,
    k: usize,
    solver: Solver,
) -> Result<(Vec<f64>, PrincipalComponents<T>)> {
    let (d, n) = x.shape();
    // Whether the covariance will be formed; `Auto` anticipates the choice of `Data::solve`. If
    // that decides otherwise, the moments are discarded, or computed by a pass of their own.
    let by_covariance = match solver {
        Solver::Covariance => true,
        Solver::Auto => 0 < k && k < d && d <= n && !prefers_matrix_free(d, n, k),
        _ => false,
    };
    let (mean, squares, moments) = if by_covariance {
        let found = centred_moments(x, |mean| mean);
        if !found.proves_below(limit, n) {
            check()?;
        }
        (found.mean, found.squares, Some(found.moments))
    } else {
        check()?;
        let (mean, squares) = refined_mean(x, mean_wide(x)?, |mean| mean);
        (mean, squares, None)
    };
    let data = Data::new(x, Some(&mean), squares, moments)?;
    let solution = fork_join_scope(|| data.solve_by(k, solver))?;
    let found = data.finish(solution, k)?;
    Ok((mean, found))
}

impl<T: Real> Data<'_, T> {
    /// Converts a solution from sums of scaled squares to variances, and fixes the signs.
    fn finish(&self, solution: Solution<T>, k: usize) -> Result<PrincipalComponents<T>> {
        // Twice by the scale, because its square may overflow or underflow. Rounding may make small
        // eigenvalues negative.
        let unit = |v: f64| v.max(0.0) / self.x.ncols() as f64 / self.scale / self.scale;
        let mut vectors = solution.vectors;
        fix_directions(&mut vectors, solution.values.iter().copied());
        // Variances may overflow in T although the scaled sums did not.
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

/// All d eigenvalues of the covariance S in descending order, including zeros: the data of a scree
/// plot, and of criteria for the number of components.
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
    // At most min(d, n) eigenvalues are not 0.
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
            // The sum of the variances is the variance of the data projected on the directions.
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

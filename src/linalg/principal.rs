//! Principal components: the leading eigenvectors of the covariance, by whichever route keeps the digits and costs least.
//!
//! Legend: X (d×n) data, μ the mean, S = (X−μ)(X−μ)ᵗ/n, λ_j its eigenvalues.

use super::centred::centred_moments;
use super::gram::{moments_of_columns, moments_of_rows, wide};
use super::moments::{check_finite, mean_wide, refined_mean, squares_wide};
use super::parallel::together;
use super::qr::orthonormalize;
use super::solver::{Solver, by_products_alone};
use super::symmetric::leading_eigenpairs_of_whole;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Eigenvalues below this share of the largest have lost digits when S is formed: in double precision,
const RESOLVED: f64 = 1e-5;
/// and out of products in single precision.
const RESOLVED_SINGLE: f64 = 1e-3;

/// Which way [`principal_components`] went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrincipalSolver {
    /// The leading eigenvectors of the d×d covariance.
    Covariance,
    /// Those of the n×n matrix of inner products, when n < d.
    Gram,
    /// Products with X and Xᵗ alone, when d and n are both large and k is small: neither d×d nor n×n is formed.
    Krylov,
    /// The same by the randomised range finder, when it is [asked for](Solver::Randomized).
    Randomized,
    /// QR and one-sided Jacobi on the data, when eigenvalues span more than five orders of magnitude.
    Full,
}

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
    pub solver: PrincipalSolver,
    /// The largest ‖S u_j − λ_j u_j‖ over λ_1, measured on the [randomised](Solver::Randomized) way: within this of each λ_j (in units of λ_1) stands
    /// an eigenvalue of S.
    pub accuracy: Option<T>,
}

/// The k leading principal components of `x` (d×n) about `mean` (d entries; about 0 without one).
///
/// ```math
/// S = \frac 1 n (X − μ)(X − μ)^⊤ = \sum_j λ_j u_j u_j^⊤
/// ```
/// Variances and residual keep about nine digits even where the variables' scales span ten orders of magnitude: S is formed only when
/// that loses nothing. Beyond the data it takes O(min(d, n)²) memory, and a copy of the data on the [`PrincipalSolver::Full`] route (in double precision, also where `f32`
/// products would lose what `f32` data determine).
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`] (also when a variance is beyond the largest number), [`Error::Dimension`] when k > d or the
/// mean has another length; [`Error::DecompositionLimit`].
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![1.0, -1.0, 3.0, -3.0; 0.0, 0.0, 1.0, 1.0];
/// let p = elbo::linalg::principal_components(x.as_view(), Some(&x.column_mean()), 1)?;
/// assert!((p.variances[0] - 5.0_f64).abs() < 1e-12 && (p.residual_variance - 0.25).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn principal_components<T: Real>(x: DMatrixView<'_, T>, mean: Option<&DVector<T>>, k: usize) -> Result<PrincipalComponents<T>> {
    principal_components_by(x, mean, k, Solver::Auto)
}

/// [`principal_components`] by a way of one's own choice.
///
/// # Errors
/// As for [`principal_components`]; [`Error::Dimension`] also for [`Solver::Gram`] with k > n.
///
/// ```
/// use elbo::linalg::{principal_components_by, Solver};
/// let x = nalgebra::DMatrix::from_fn(40, 90, |i, j| ((i * j) as f64).sin() + if i < 2 { (j * i + j) as f64 } else { 0.0 });
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
            return Err(Error::Dimension { what: "entries of the mean", expected: d, actual: m.len() });
        }
        check_finite(m.as_view())?;
    }
    if k > d {
        return Err(Error::Dimension { what: "components, at most the variables", expected: d, actual: k });
    }
    let mean = mean.map(wide);
    let squares = squares_wide(x, mean.as_deref(), 1.0);
    let data = Data::new(x, mean.as_deref(), squares, None)?;
    let solution = together(|| data.solve_by(k, solver))?;
    data.finish(solution, k)
}

/// The same about the mean of the data, rounded by `round`, which is returned beside: where the covariance is the way, one pass finds both.
///
/// That pass sees every entry: it calls for the `check` of the data only where it does not prove their squares to be below `limit`.
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
    let solution = together(|| data.solve_by(k, solver))?;
    let found = data.finish(solution, k)?;
    Ok((mean, found))
}

/// The data in a unit in which squares neither over- nor underflow.
pub(super) struct Data<'a, T: Real> {
    pub(super) x: DMatrixView<'a, T>,
    pub(super) mean: Option<&'a [f64]>,
    /// The deviations are multiplied by this power of two.
    pub(super) scale: f64,
    /// Σ squares of the scaled deviations, per variable.
    pub(super) squares: Vec<f64>,
    /// Their d×d moments, if they are known.
    pub(super) moments: Option<DMatrix<f64>>,
}

pub(super) struct Solution<T: Real> {
    pub(super) vectors: DMatrix<T>,
    /// Scaled, times n.
    pub(super) values: Vec<f64>,
    pub(super) residual: f64,
    pub(super) solver: PrincipalSolver,
    pub(super) accuracy: Option<f64>,
}

impl<'a, T: Real> Data<'a, T> {
    fn new(x: DMatrixView<'a, T>, mean: Option<&'a [f64]>, mut squares: Vec<f64>, moments: Option<DMatrix<f64>>) -> Result<Self> {
        let (mut scale, mut moments) = (1.0, moments);
        let total: f64 = squares.iter().sum();
        // The products are taken in T, whose squares must stay in range with room for their sums.
        let room = (T::MAX.as_f64().sqrt() * 1e-8, 1e8 / T::MAX.as_f64().sqrt());
        let typical = (total / x.len() as f64).sqrt();
        if !total.is_finite() || typical > room.0 || typical < room.1 {
            check_finite(x)?;
            let largest = largest_deviation(x, mean);
            if largest > 0.0 {
                scale = 2f64.powi(-(largest.log2().ceil() as i32).clamp(-1020, 1020));
                squares = squares_wide(x, mean, scale);
                moments = None;
            }
        }
        Ok(Self { x, mean, scale, squares, moments })
    }

    pub(super) fn total(&self) -> f64 {
        self.squares.iter().sum()
    }

    pub(super) fn solve(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        let total = self.total();
        if total == 0.0 {
            let vectors = DMatrix::identity(d, k);
            return Ok(Solution { vectors, values: vec![0.0; k], residual: 0.0, solver: PrincipalSolver::Covariance, accuracy: None });
        }
        if k == 0 {
            let vectors = DMatrix::zeros(d, 0);
            return Ok(Solution { vectors, values: vec![], residual: total, solver: PrincipalSolver::Covariance, accuracy: None });
        }
        // Scales this far apart cannot come out of S resolved: do not form it.
        let largest = self.squares.iter().fold(0.0_f64, |a, b| a.max(*b));
        let graded = k >= d.min(n) || self.squares.iter().filter(|s| **s < RESOLVED * RESOLVED * largest && **s > 0.0).count() * 2 > d - k;
        if !graded {
            let solution = match self.by_krylov(k) {
                Some(found) => found?,
                None if n < d => self.by_gram(k)?,
                None => self.by_covariance(k)?,
            };
            let smallest = solution.residual.min(*solution.values.last().unwrap_or(&0.0));
            let single = size_of::<T>() == 4;
            if smallest >= if single { RESOLVED_SINGLE } else { RESOLVED } * solution.values[0] {
                return Ok(solution);
            }
        }
        if size_of::<T>() == 8 {
            return self.by_data(k);
        }
        // What single-precision data determine may need products in double precision.
        let x = self.x.map(|v| v.as_f64());
        let wide = Data { x: x.as_view(), mean: self.mean, scale: self.scale, squares: self.squares.clone(), moments: None };
        let Solution { vectors, values, residual, solver, accuracy } = wide.solve(k)?;
        Ok(Solution { vectors: vectors.map(T::of), values, residual, solver, accuracy })
    }

    pub(super) fn by_covariance(&self, k: usize) -> Result<Solution<T>> {
        let found;
        let moments = match &self.moments {
            Some(moments) => moments,
            None => {
                found = moments_of_rows(self.x, self.mean, None, self.scale);
                &found
            }
        };
        let eigen = leading_eigenpairs_of_whole(moments, k)?;
        let values: Vec<f64> = eigen.values.iter().copied().collect();
        let residual = moments.trace() - values.iter().sum::<f64>();
        Ok(Solution { vectors: eigen.vectors.map(T::of), values, residual, solver: PrincipalSolver::Covariance, accuracy: None })
    }

    pub(super) fn by_gram(&self, k: usize) -> Result<Solution<T>> {
        let moments = moments_of_columns(self.x, self.mean, self.scale);
        let eigen = leading_eigenpairs_of_whole(&moments, k)?;
        let values: Vec<f64> = eigen.values.iter().copied().collect();
        let residual = moments.trace() - values.iter().sum::<f64>();
        // (X − μ)V = XV − μ(1ᵗV).
        let weights = eigen.vectors.map(T::of);
        let mut vectors = super::matrix_product(self.x, &weights);
        if let Some(mean) = self.mean {
            for j in 0..k {
                let sum: f64 = eigen.vectors.column(j).iter().sum();
                vectors.column_mut(j).iter_mut().zip(mean).for_each(|(v, m)| *v -= T::of(m * sum));
            }
        }
        Ok(Solution { vectors: orthonormalize(vectors.as_view())?, values, residual, solver: PrincipalSolver::Gram, accuracy: None })
    }

    /// QR and Jacobi on the data themselves.
    pub(super) fn by_data(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        if n < d {
            return self.by_tall_data(k);
        }
        let mut rows = DMatrix::<T>::zeros(n, d);
        for (j, column) in self.x.column_iter().enumerate() {
            for i in 0..d {
                let mean = self.mean.map_or(0.0, |m| m[i]);
                rows[(j, i)] = T::of((column[i].as_f64() - mean) * self.scale);
            }
        }
        let r = super::qr::r_factor(rows.as_view())?;
        let svd = super::jacobi::square_svd(r.map(|v| v.as_f64()))?;
        let squares: Vec<f64> = svd.values.iter().map(|s| s * s).collect();
        Ok(Solution {
            vectors: svd.right.columns(0, k).map(T::of),
            values: squares[..k].to_vec(),
            residual: squares[k..].iter().rev().sum(),
            solver: PrincipalSolver::Full,
            accuracy: None,
        })
    }

    /// The same when there are fewer observations than variables: the factors of X − μ itself.
    fn by_tall_data(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        // Large rows first: then reflections do little harm to small ones.
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|a, b| self.squares[*b].total_cmp(&self.squares[*a]));
        let centred = DMatrix::from_fn(d, n, |i, j| {
            let variable = order[i];
            T::of((self.x[(variable, j)].as_f64() - self.mean.map_or(0.0, |m| m[variable])) * self.scale)
        });
        let svd = super::thin_svd(centred.as_view())?;
        let mut vectors = DMatrix::zeros(d, k);
        for (i, variable) in order.iter().enumerate() {
            for j in 0..k.min(n) {
                vectors[(*variable, j)] = svd.u[(i, j)];
            }
        }
        if k > n {
            vectors = orthonormalize(vectors.as_view())?;
        }
        let square = |j: usize| svd.singular_values.get(j).map_or(0.0, |s| s.as_f64() * s.as_f64());
        let (values, residual) = ((0..k).map(square).collect(), (k..n.max(k)).rev().map(square).sum());
        Ok(Solution { vectors, values, residual, solver: PrincipalSolver::Full, accuracy: None })
    }

    fn finish(&self, solution: Solution<T>, k: usize) -> Result<PrincipalComponents<T>> {
        let unit = |v: f64| v.max(0.0) / self.x.ncols() as f64 / self.scale / self.scale;
        let mut vectors = solution.vectors;
        for mut column in vectors.column_iter_mut() {
            if super::svd::largest_entry(column.as_slice()) < T::zero() {
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
            residual_variance: T::of(unit(if k == self.x.nrows() { 0.0 } else { solution.residual })),
            solver: solution.solver,
            accuracy: solution.accuracy.map(T::of),
        })
    }
}

fn largest_deviation<T: Real>(x: DMatrixView<'_, T>, mean: Option<&[f64]>) -> f64 {
    let mut largest = 0.0_f64;
    for column in x.column_iter() {
        for (i, v) in column.iter().enumerate() {
            // Halves, because the difference of two numbers near the limit is beyond it.
            largest = largest.max((0.5 * v.as_f64() - 0.5 * mean.map_or(0.0, |m| m[i])).abs());
        }
    }
    (2.0 * largest).min(f64::MAX)
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
pub fn covariance_spectrum<T: Real>(x: DMatrixView<'_, T>, mean: Option<&DVector<T>>) -> Result<DVector<T>> {
    let d = x.nrows();
    let rank = d.min(x.ncols());
    let components = principal_components(x, mean, rank)?;
    Ok(components.variances.resize_vertically(d, T::zero()))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            assert!(orthonormality(&p.vectors) < 100.0 * T::EPSILON.as_f64(), "{:?} k={k}", x.shape());
            let size = squares.first().copied().unwrap_or(0.0);
            for (j, (variance, square)) in p.variances.iter().zip(&squares).enumerate() {
                assert!((variance.as_f64() - square).abs() <= tolerance * size, "{:?} k={k} {j}", x.shape());
            }
            let residual: f64 = squares.iter().skip(k).sum();
            assert!((p.residual_variance.as_f64() - residual).abs() <= tolerance * size, "{:?} k={k}", x.shape());
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
            assert_eq!(p.solver, PrincipalSolver::Full);
            for j in 0..k {
                assert!((p.variances[j] / 100f64.powi(-(j as i32)) - 1.0).abs() < 1e-12);
            }
            let residual: f64 = (k..12).map(|j| 100f64.powi(-(j as i32))).sum();
            assert!((p.residual_variance / residual - 1.0).abs() < 1e-12, "{k}");
            let single = principal_components(x.map(|v| v as f32).as_view(), None, k).unwrap();
            assert!((f64::from(single.residual_variance) / residual - 1.0).abs() < 1e-6, "{k}");
            assert!((single.variances.map(f64::from).component_div(&p.variances).add_scalar(-1.0)).amax() < 1e-6);
        }
    }

    #[test]
    fn the_way_is_chosen_by_shape() {
        let solver = |d, n| principal_components(random::<f64>(d, n, 1).as_view(), None, 2).unwrap().solver;
        assert_eq!(solver(10, 50), PrincipalSolver::Covariance);
        assert_eq!(solver(50, 10), PrincipalSolver::Gram);
        assert_eq!(solver(1000, 1010), PrincipalSolver::Krylov);
    }

    #[test]
    fn extreme_scales_and_refusals() {
        let x = random::<f64>(4, 30, 2);
        let plain = principal_components(x.as_view(), None, 2).unwrap();
        for scale in [1e-140, 1e-100, 1e140] {
            let p = principal_components(x.scale(scale).as_view(), None, 2).unwrap();
            assert!((p.variances[1] / scale / scale / plain.variances[1] - 1.0).abs() < 1e-12, "{scale:e}");
        }
        let single = principal_components(x.map(|v| 1e17 * v as f32).as_view(), None, 2).unwrap();
        assert!((f64::from(single.variances[1]) / 1e34 / plain.variances[1] - 1.0).abs() < 1e-5);
        assert!(matches!(principal_components(x.scale(1e200).as_view(), None, 2), Err(Error::NotFinite { .. })));
        assert!(matches!(principal_components(x.as_view(), None, 5), Err(Error::Dimension { expected: 4, actual: 5, .. })));
        let mut bad = x.clone();
        bad[(1, 3)] = f64::NAN;
        assert!(matches!(principal_components(bad.as_view(), None, 2), Err(Error::NotFinite { row: 1, column: 3, .. })));
    }
}

//! The algorithms for principal components, and the automatic choice among them.
//!
//! Legend: X (d×n) data, μ the mean, S = (X−μ)(X−μ)ᵗ/n.
//!
//! The choice of `Solver::Auto`, in this order:
//!
//! 1. If the scales of the variables are too far apart for S, or all min(d, n) eigenvalues are
//!    wanted: QR and one-sided Jacobi on the data (`by_data`).
//! 2. If min(d, n) is large and k small: block Krylov without forming a matrix (`by_krylov`).
//! 3. If n < d, the n×n Gram matrix (`by_gram`), otherwise the d×d covariance (`by_covariance`).
//! 4. If the smallest eigenvalue or the residual found by 2 or 3 is too small to be accurate:
//!    `by_data` as well.
//!
//! Data in `f32` that lead to `by_data` go through the list once more in double precision, where S
//! may be accurate enough.

use super::products::{Captured, add_product, block_columns};
use super::solver::prefers_matrix_free;
use super::{PcaAlgorithm, Solver};
use crate::linalg::eigen::leading_eigenpairs_of_whole;
use crate::linalg::gram::{centre, gram_f64, scatter_f64};
use crate::linalg::jacobi::square_svd;
use crate::linalg::{
    check_finite, gemm, leading_eigenpairs_of, matrix_product, orthonormalize, product_tr_left,
    r_factor, sums_of_squares_f64, thin_svd,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// The smallest eigenvalue, relative to the largest, that is accepted from S in double precision.
// Forming S adds an error of some ε = 2e-16 times the largest eigenvalue. Relative to an eigenvalue
// of 1e-5 this is 2e-11, before it grows with the dimensions: about nine digits are correct.
const RESOLVED: f64 = 1e-5;
/// The smallest eigenvalue, relative to the largest, that is accepted from products in single
/// precision.
const RESOLVED_SINGLE: f64 = 1e-3;
/// The relative error of products in double precision that is small enough; in single precision it
/// is eight roundings.
const FEW_LOST: f64 = 1e-13;

/// The data, with a scale at which squares of centred entries neither overflow nor underflow.
pub(super) struct Data<'a, T: Real> {
    /// X, d×n.
    pub(super) x: DMatrixView<'a, T>,
    /// μ; 0 for `None`.
    pub(super) mean: Option<&'a [f64]>,
    /// A power of two, by which the centred data are multiplied.
    pub(super) scale: f64,
    /// The sum of squares of the scaled centred data, for each variable.
    pub(super) squares: Vec<f64>,
    /// n·scale²·S, if it is known.
    pub(super) moments: Option<DMatrix<f64>>,
}

/// Principal components in the units of a computation: eigenvalues of n·scale²·S.
pub(super) struct Solution<T: Real> {
    /// The principal directions, d×k.
    pub(super) vectors: DMatrix<T>,
    /// The k leading eigenvalues of n·scale²·S.
    pub(super) values: Vec<f64>,
    /// The sum of the other eigenvalues.
    pub(super) residual: f64,
    /// The algorithm that was used.
    pub(super) solver: PcaAlgorithm,
    /// The largest relative residual, for the randomised algorithm only.
    pub(super) accuracy: Option<f64>,
}

impl<'a, T: Real> Data<'a, T> {
    /// Chooses the scale: 1 unless squares would come near the limits of the number type T.
    pub(super) fn new(
        x: DMatrixView<'a, T>,
        mean: Option<&'a [f64]>,
        mut squares: Vec<f64>,
        moments: Option<DMatrix<f64>>,
    ) -> Result<Self> {
        let (mut scale, mut moments) = (1.0, moments);
        let total: f64 = squares.iter().sum();
        // Products are computed in T. The root mean square of the entries must lie between √MAX and
        // 1/√MAX, with eight decades to spare at both ends for sums and for unequal entries.
        let room = (T::MAX.as_f64().sqrt() * 1e-8, 1e8 / T::MAX.as_f64().sqrt());
        let typical = (total / x.len() as f64).sqrt();
        if !total.is_finite() || typical > room.0 || typical < room.1 {
            // Infinite or NaN entries lead here as well, and are reported with their position.
            check_finite(x)?;
            let largest = largest_centred_entry(x, mean);
            if largest > 0.0 {
                scale = 2f64.powi(-(largest.log2().ceil() as i32).clamp(-1020, 1020));
                squares = sums_of_squares_f64(x, mean, scale);
                moments = None;
            }
        }
        Ok(Self { x, mean, scale, squares, moments })
    }

    /// The trace of n·scale²·S.
    pub(super) fn total(&self) -> f64 {
        self.squares.iter().sum()
    }

    /// The k leading components by the automatic choice that the module describes.
    fn solve(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        let total = self.total();
        // Constant data: any orthonormal directions serve.
        if total == 0.0 {
            let vectors = DMatrix::identity(d, k);
            return Ok(Solution {
                vectors,
                values: vec![0.0; k],
                residual: 0.0,
                solver: PcaAlgorithm::Covariance,
                accuracy: None,
            });
        }
        if k == 0 {
            let vectors = DMatrix::zeros(d, 0);
            return Ok(Solution {
                vectors,
                values: vec![],
                residual: total,
                solver: PcaAlgorithm::Covariance,
                accuracy: None,
            });
        }
        // With k ≥ min(d, n) the residual is 0 up to rounding, and would fail the test below. The
        // same holds if more than half of the d − k eigenvalues left over may belong to variables
        // whose variance, if not 0, is below RESOLVED² of the largest. In both cases S would be
        // formed in vain.
        let largest = self.squares.iter().fold(0.0_f64, |a, b| a.max(*b));
        let graded = k >= d.min(n)
            || self
                .squares
                .iter()
                .filter(|s| **s < RESOLVED * RESOLVED * largest && **s > 0.0)
                .count()
                * 2
                > d - k;
        if !graded {
            let solution = match self.by_krylov(k) {
                Some(found) => found?,
                None if n < d => self.by_gram(k)?,
                None => self.by_covariance(k)?,
            };
            // The smallest number that is returned must be resolved.
            let smallest = solution.residual.min(*solution.values.last().unwrap_or(&0.0));
            let single = size_of::<T>() == 4;
            if smallest >= if single { RESOLVED_SINGLE } else { RESOLVED } * solution.values[0] {
                return Ok(solution);
            }
        }
        if size_of::<T>() == 8 {
            return self.by_data(k);
        }
        // Products in double precision may resolve what those in single precision do not.
        let x = self.x.map(|v| v.as_f64());
        let wide = Data {
            x: x.as_view(),
            mean: self.mean,
            scale: self.scale,
            squares: self.squares.clone(),
            moments: None,
        };
        let Solution { vectors, values, residual, solver, accuracy } = wide.solve(k)?;
        Ok(Solution { vectors: vectors.map(T::of), values, residual, solver, accuracy })
    }

    /// The leading eigenvectors of the d×d covariance.
    fn by_covariance(&self, k: usize) -> Result<Solution<T>> {
        let found;
        let moments = match &self.moments {
            Some(moments) => moments,
            None => {
                found = scatter_f64(self.x, self.mean, None, self.scale);
                &found
            }
        };
        let eigen = leading_eigenpairs_of_whole(moments, k)?;
        let values: Vec<f64> = eigen.values.iter().copied().collect();
        let residual = moments.trace() - values.iter().sum::<f64>();
        Ok(Solution {
            vectors: eigen.vectors.map(T::of),
            values,
            residual,
            solver: PcaAlgorithm::Covariance,
            accuracy: None,
        })
    }

    /// The leading eigenvectors v of the n×n Gram matrix (X−μ)ᵗ(X−μ), as directions (X − μ)v.
    fn by_gram(&self, k: usize) -> Result<Solution<T>> {
        let moments = gram_f64(self.x, self.mean, self.scale);
        let eigen = leading_eigenpairs_of_whole(&moments, k)?;
        let values: Vec<f64> = eigen.values.iter().copied().collect();
        let residual = moments.trace() - values.iter().sum::<f64>();
        let vectors = self.centred_product(&eigen.vectors);
        Ok(Solution {
            vectors: orthonormalize(vectors.as_view())?,
            values,
            residual,
            solver: PcaAlgorithm::Gram,
            accuracy: None,
        })
    }

    /// The product (X − μ1ᵗ)V, d×k, for V (n×k).
    fn centred_product(&self, v: &DMatrix<f64>) -> DMatrix<T> {
        let ((d, n), weights) = (self.x.shape(), v.map(T::of));
        let Some(mean) = self.mean else { return matrix_product(self.x, &weights) };
        if self.lost() <= FEW_LOST.max(8.0 * T::EPSILON.as_f64()) {
            // XV − μ(1ᵗV): no centred copy of the data.
            let mut product = matrix_product(self.x, &weights);
            for (mut out, v) in product.column_iter_mut().zip(v.column_iter()) {
                let sum = v.sum();
                out.iter_mut().zip(mean).for_each(|(out, m)| *out -= T::of(m * sum));
            }
            return product;
        }
        // Beside a large mean this difference would cancel: the data are centred first, by blocks.
        let mut product = DMatrix::zeros(d, v.ncols());
        let block = block_columns(d);
        let mut centred = DMatrix::<T>::zeros(d, block.min(n));
        for first in (0..n).step_by(block) {
            let count = block.min(n - first);
            for (j, mut out) in centred.column_iter_mut().enumerate().take(count) {
                let x = self.x.column(first + j);
                centre(x.data.into_slice(), Some(mean), 1.0, out.as_mut_slice());
            }
            let weights = weights.rows(first, count);
            gemm(T::one(), centred.columns(0, count), weights, T::one(), &mut product);
        }
        product
    }

    /// The relative error of products that are centred after the fact, XV − μ(1ᵗV), which cancel
    /// where the mean is large against the standard deviations: ε times their ratio.
    fn lost(&self) -> f64 {
        let square = |m: &f64| (m * self.scale).powi(2);
        let offset = self.mean.map_or(0.0, |mean| mean.iter().map(square).sum::<f64>());
        T::EPSILON.as_f64() * (offset * self.x.ncols() as f64 / self.total()).sqrt()
    }

    /// QR of the centred data and one-sided Jacobi on R, whose singular values are accurate
    /// relative to themselves where the variables have different scales (Demmel and Veselić 1992).
    fn by_data(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        if n < d {
            return self.by_svd(k);
        }
        let mut rows = DMatrix::<T>::zeros(n, d);
        for (j, column) in self.x.column_iter().enumerate() {
            for i in 0..d {
                let mean = self.mean.map_or(0.0, |m| m[i]);
                rows[(j, i)] = T::of((column[i].as_f64() - mean) * self.scale);
            }
        }
        // The variables are the columns here: column scaling does not harm the accuracy of R.
        let r = r_factor(rows.as_view())?;
        let svd = square_svd(r.map(|v| v.as_f64()))?;
        let squares: Vec<f64> = svd.values.iter().map(|s| s * s).collect();
        Ok(Solution {
            vectors: svd.right.columns(0, k).map(T::of),
            values: squares[..k].to_vec(),
            // From the smallest to the largest, for the smallest rounding error.
            residual: squares[k..].iter().rev().sum(),
            solver: PcaAlgorithm::Full,
            accuracy: None,
        })
    }

    /// The leading components for n < d by the singular value decomposition of X − μ itself.
    fn by_svd(&self, k: usize) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        // The variables are the rows here. With the largest ones first, the rounding errors of
        // Householder reflections in small rows stay small relative to these (Cox and Higham 1998).
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|a, b| self.squares[*b].total_cmp(&self.squares[*a]));
        let centred = DMatrix::from_fn(d, n, |i, j| {
            let variable = order[i];
            T::of(
                (self.x[(variable, j)].as_f64() - self.mean.map_or(0.0, |m| m[variable]))
                    * self.scale,
            )
        });
        let svd = thin_svd(centred.as_view())?;
        let mut vectors = DMatrix::zeros(d, k);
        for (i, variable) in order.iter().enumerate() {
            for j in 0..k.min(n) {
                vectors[(*variable, j)] = svd.u[(i, j)];
            }
        }
        // Columns beyond n have variance 0: any orthonormal completion serves.
        if k > n {
            vectors = orthonormalize(vectors.as_view())?;
        }
        let square = |j: usize| svd.singular_values.get(j).map_or(0.0, |s| s.as_f64() * s.as_f64());
        let (values, residual) =
            ((0..k).map(square).collect(), (k..n.max(k)).rev().map(square).sum());
        Ok(Solution { vectors, values, residual, solver: PcaAlgorithm::Full, accuracy: None })
    }

    /// The k leading components by the algorithm `solver`.
    pub(super) fn solve_by(&self, k: usize, solver: Solver) -> Result<Solution<T>> {
        if k == 0 || self.total() == 0.0 {
            return self.solve(k);
        }
        match solver {
            Solver::Auto => self.solve(k),
            Solver::Covariance => self.by_covariance(k),
            Solver::Gram if k <= self.x.ncols() => self.by_gram(k),
            Solver::Gram => Err(Error::DimensionMismatch {
                what: "components, at most the observations",
                expected: self.x.ncols(),
                actual: k,
            }),
            Solver::Full if size_of::<T>() == 8 => self.by_data(k),
            Solver::Full => {
                let x = self.x.map(|v| v.as_f64());
                let wide = Data {
                    x: x.as_view(),
                    mean: self.mean,
                    scale: self.scale,
                    squares: self.squares.clone(),
                    moments: None,
                };
                let Solution { vectors, values, residual, solver, accuracy } = wide.by_data(k)?;
                Ok(Solution { vectors: vectors.map(T::of), values, residual, solver, accuracy })
            }
            Solver::Krylov | Solver::Randomized { .. } => self.by_products(k, solver),
        }
    }

    /// The leading components by block Krylov in the precision of the data; `None` if another
    /// algorithm costs less or is more accurate, or if the search does not converge.
    fn by_krylov(&self, k: usize) -> Option<Result<Solution<T>>> {
        let (d, n) = self.x.shape();
        let zeros = DVector::from_element(d, T::zero());
        let mean =
            self.mean.map_or(zeros, |m| DVector::from_iterator(d, m.iter().map(|v| T::of(*v))));
        if !prefers_matrix_free(d, n, k)
            || self.scale != 1.0
            || self.lost() > FEW_LOST.max(8.0 * T::EPSILON.as_f64())
        {
            return None;
        }
        let ones = DVector::from_element(n, T::one());
        // (X − μ1ᵗ)V and (X − μ1ᵗ)ᵗY.
        let forth = |v: DMatrixView<'_, T>| {
            let mut y = matrix_product(self.x, v);
            let sums = product_tr_left(&ones, v);
            gemm(-T::one(), &mean, &sums, T::one(), &mut y);
            y
        };
        let back = |y: DMatrixView<'_, T>| {
            let mut v = product_tr_left(self.x, y);
            let sums = product_tr_left(&mean, y);
            gemm(-T::one(), &ones, &sums, T::one(), &mut v);
            v
        };
        // The smaller of the two Gram operators has the shorter vectors.
        let found = if n < d {
            leading_eigenpairs_of(n, k, |v, mut out| {
                out.copy_from(&back(forth(v).as_view()));
                Ok(())
            })
        } else {
            leading_eigenpairs_of(d, k, |y, mut out| {
                out.copy_from(&forth(back(y).as_view()));
                Ok(())
            })
        };
        let eigen = found.ok()?;
        let values: Vec<f64> = eigen.values.iter().map(|v| v.as_f64()).collect();
        let residual = self.total() - values.iter().sum::<f64>();
        let vectors = if n < d {
            orthonormalize(forth(eigen.vectors.as_view()).as_view())
        } else {
            Ok(eigen.vectors)
        };
        Some(vectors.map(|vectors| Solution {
            vectors,
            values,
            residual,
            solver: PcaAlgorithm::Krylov,
            accuracy: None,
        }))
    }

    /// The leading components by block Krylov or the randomised range finder, with passes over
    /// blocks of centred data in double precision. A last pass computes variances and residual.
    fn by_products(&self, k: usize, solver: Solver) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        let block = block_columns(d);
        // Centred before the product, block by block: a large mean does not cancel here.
        let deviations = |first: usize| {
            let columns = self.x.columns(first, block.min(n - first));
            let mut block = DMatrix::<f64>::zeros(d, columns.ncols());
            for (mut out, x) in block.column_iter_mut().zip(columns.column_iter()) {
                for (i, (out, x)) in out.iter_mut().zip(x.iter()).enumerate() {
                    *out = (x.as_f64() - self.mean.map_or(0.0, |m| m[i])) * self.scale;
                }
            }
            block
        };
        let found = solver.leading_of(d, k, |v, mut out| {
            out.fill(0.0);
            (0..n).step_by(block).for_each(|first| add_product(&deviations(first), v, &mut out));
            Ok(())
        })?;
        let mut captured = Captured::new(k);
        (0..n).step_by(block).for_each(|first| captured.add(deviations(first), &found.vectors));
        let vectors = found.vectors.map(T::of);
        Ok(Solution {
            vectors,
            values: captured.values,
            residual: captured.outside,
            solver: found.solver,
            accuracy: found.accuracy,
        })
    }
}

/// The largest absolute entry of X − μ, at most the largest finite number.
fn largest_centred_entry<T: Real>(x: DMatrixView<'_, T>, mean: Option<&[f64]>) -> f64 {
    let mut largest = 0.0_f64;
    for column in x.column_iter() {
        for (i, v) in column.iter().enumerate() {
            // In halves, because the difference of two numbers near the limit overflows.
            largest = largest.max((0.5 * v.as_f64() - 0.5 * mean.map_or(0.0, |m| m[i])).abs());
        }
    }
    (2.0 * largest).min(f64::MAX)
}

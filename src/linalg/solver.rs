//! The choice of a way to principal components, and the ways that see the data only through products with blocks of it.
//!
//! Legend: D a block of deviations x − μ (d×b), S the sum of DDᵗ over the blocks (times 1/n), Q orthonormal columns.

use super::principal::{Data, Solution};
use super::symmetric::symmetric_eigen;
use super::{PrincipalSolver, gemm, leading_eigenpairs_of, matrix_product, orthonormalize, product_tr_left};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};

/// From this many variables and observations on, products alone may be quicker.
const KRYLOV: usize = 1000;

/// Which way to principal components is to be taken.
///
/// Each leads to the same subspace; they differ in time, memory and digits. Which one was taken is told by [`PrincipalSolver`].
///
/// ```
/// use elbo::linalg::{principal_components_by, PrincipalSolver, Solver};
/// let x = nalgebra::dmatrix![1.0, -1.0, 3.0, -3.0; 0.0, 0.0, 1.0, 1.0];
/// let found = principal_components_by(x.as_view(), Some(&x.column_mean()), 1, Solver::Gram)?;
/// assert_eq!(found.solver, PrincipalSolver::Gram);
/// assert!((found.variances[0] - 5.0_f64).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Solver {
    /// By the shape of the data and their spectrum: what costs least among those that keep about nine digits.
    #[default]
    Auto,
    /// The d×d covariance: O(nd²) time, O(d²) memory. Eigenvalues below 1e-5 of the largest lose digits.
    Covariance,
    /// The n×n inner products: O(dn²) time, O(n²) memory, with the digits of the covariance.
    Gram,
    /// [Block Krylov](leading_eigenpairs_of) with products alone: O(ndk) time a product, O(dk) memory. Residuals of 1e-9 of λ_1.
    /// Asked for by name it works in double precision, for `f32` data too; where [`Self::Auto`] takes this way, in the precision of the data.
    Krylov,
    /// The randomised range finder with power iterations[^1]: `power_iterations` + 2 products with k + `oversampling` columns, as many as are
    /// said and no more, O(dk) memory. The start is fixed: the same data give the same bits.
    ///
    /// The accuracy is measured, and told: see [`PrincipalComponents::accuracy`](super::PrincipalComponents::accuracy). Expected is a loss of captured
    /// variance that falls as (λ_{k+p+1}/λ_k)^(2q+2): p = 10 and q = 4 serve all but the flattest spectra.
    ///
    /// [^1]: N. Halko, P. G. Martinsson and J. A. Tropp, [SIAM Review 53 (2011)](https://doi.org/10.1137/090771806), algorithms 4.4 and 5.3.
    Randomized {
        /// p, columns beyond k.
        oversampling: usize,
        /// q.
        power_iterations: usize,
    },
    /// QR and one-sided Jacobi on the data themselves: all digits, at the cost of a copy of the data and many times the time.
    Full,
}

/// What products alone found: the leading pairs of S.
pub(crate) struct Leading {
    pub(crate) vectors: DMatrix<f64>,
    pub(crate) solver: PrincipalSolver,
    /// max_j ‖S u_j − λ_j u_j‖ / λ_1, where it was measured.
    pub(crate) accuracy: Option<f64>,
}

impl Solver {
    /// The leading k pairs of an operator known by its products, by the randomised way if that is asked for, else by block Krylov.
    pub(crate) fn leading_of(
        self,
        dimension: usize,
        k: usize,
        apply: impl FnMut(DMatrixView<'_, f64>, DMatrixViewMut<'_, f64>) -> Result<()>,
    ) -> Result<Leading> {
        match self {
            Self::Randomized { oversampling, power_iterations } => randomized(dimension, k, oversampling, power_iterations, apply),
            _ => {
                let found = leading_eigenpairs_of(dimension, k, apply)?;
                Ok(Leading { vectors: found.vectors, solver: PrincipalSolver::Krylov, accuracy: None })
            }
        }
    }
}

fn randomized(
    dimension: usize,
    k: usize,
    oversampling: usize,
    power_iterations: usize,
    mut apply: impl FnMut(DMatrixView<'_, f64>, DMatrixViewMut<'_, f64>) -> Result<()>,
) -> Result<Leading> {
    let width = k.saturating_add(oversampling).min(dimension);
    let mut basis = orthonormalize(super::krylov::pseudo_random::<f64>(dimension, width).as_view())?;
    let mut product = DMatrix::zeros(dimension, width);
    for _ in 0..=power_iterations {
        apply(basis.as_view(), product.as_view_mut())?;
        basis = orthonormalize(product.as_view())?;
    }
    apply(basis.as_view(), product.as_view_mut())?;
    super::check_finite(product.as_view())?;
    let inner = product_tr_left(&basis, &product);
    let ritz = symmetric_eigen(((&inner + inner.transpose()) * 0.5).as_view())?;
    let coordinates = ritz.vectors.columns(0, k).into_owned();
    let (vectors, products) = (matrix_product(&basis, &coordinates), matrix_product(&product, &coordinates));
    let values = ritz.values.rows(0, k).into_owned();
    let residual = |j: usize| (products.column(j) - vectors.column(j) * values[j]).norm();
    let largest = values.iter().copied().fold(0.0, f64::max);
    let worst = (0..k).map(residual).fold(0.0, f64::max);
    let accuracy = Some(if largest > 0.0 { worst / largest } else { 0.0 });
    Ok(Leading { vectors, solver: PrincipalSolver::Randomized, accuracy })
}

/// out ← out + D(DᵗV).
pub(crate) fn add_product(block: &DMatrix<f64>, v: DMatrixView<'_, f64>, out: &mut DMatrixViewMut<'_, f64>) {
    let along = product_tr_left(block, v);
    gemm(1.0, block, &along, 1.0, out);
}

/// Σ (q_jᵗ x)² along each of some directions, and what is left of Σ‖x‖² outside of them: sums of squares, from which nothing cancels.
pub(crate) struct Captured {
    pub(crate) values: Vec<f64>,
    pub(crate) outside: f64,
}

impl Captured {
    pub(crate) fn new(directions: usize) -> Self {
        Self { values: vec![0.0; directions], outside: 0.0 }
    }

    pub(crate) fn add(&mut self, mut block: DMatrix<f64>, directions: &DMatrix<f64>) {
        let along = product_tr_left(directions, &block);
        gemm(-1.0, directions, &along, 1.0, &mut block);
        self.outside += block.norm_squared();
        self.values.iter_mut().zip(along.row_iter()).for_each(|(value, row)| *value += row.norm_squared());
    }
}

/// Columns of a block of d variables that the ways above read at a time.
pub(crate) fn block_of(d: usize) -> usize {
    (1usize << 19).div_ceil(d.max(1)).clamp(16, 8192)
}

/// Whether products alone may be quicker than a whole decomposition.
pub(super) fn by_products_alone(d: usize, n: usize, k: usize) -> bool {
    let small = d.min(n);
    // A whole decomposition takes O(min(d, n)³), and the search O(ndk) a product: the larger the table, the more components it is worth.
    let worth = if small < 5 * KRYLOV { 50 * k <= small } else { 12 * k <= small };
    small >= KRYLOV && worth
}

impl<T: Real> Data<'_, T> {
    /// The way that was asked for.
    pub(super) fn solve_by(&self, k: usize, solver: Solver) -> Result<Solution<T>> {
        if k == 0 || self.total() == 0.0 {
            return self.solve(k);
        }
        match solver {
            Solver::Auto => self.solve(k),
            Solver::Covariance => self.by_covariance(k),
            Solver::Gram if k <= self.x.ncols() => self.by_gram(k),
            Solver::Gram => Err(Error::Dimension { what: "components, at most the observations", expected: self.x.ncols(), actual: k }),
            Solver::Full if size_of::<T>() == 8 => self.by_data(k),
            Solver::Full => {
                let x = self.x.map(|v| v.as_f64());
                let wide = Data { x: x.as_view(), mean: self.mean, scale: self.scale, squares: self.squares.clone(), moments: None };
                let Solution { vectors, values, residual, solver, accuracy } = wide.by_data(k)?;
                Ok(Solution { vectors: vectors.map(T::of), values, residual, solver, accuracy })
            }
            Solver::Krylov | Solver::Randomized { .. } => self.by_products(k, solver),
        }
    }

    /// `None` when another way costs less or keeps more digits, or the search did not end.
    pub(super) fn by_krylov(&self, k: usize) -> Option<Result<Solution<T>>> {
        let (d, n) = self.x.shape();
        let zeros = DVector::from_element(d, T::zero());
        let mean = self.mean.map_or(zeros, |m| DVector::from_iterator(d, m.iter().map(|v| T::of(*v))));
        let offset = mean.iter().map(|m| (m.as_f64() * self.scale).powi(2)).sum::<f64>() * n as f64;
        // The mean is taken out of the products afterwards: a large one would cancel.
        let lost = T::EPSILON.as_f64() * (offset / self.total()).sqrt();
        if !by_products_alone(d, n, k) || self.scale != 1.0 || lost > (8.0 * T::EPSILON.as_f64()).max(1e-13) {
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
        let vectors = if n < d { orthonormalize(forth(eigen.vectors.as_view()).as_view()) } else { Ok(eigen.vectors) };
        Some(vectors.map(|vectors| Solution { vectors, values, residual, solver: PrincipalSolver::Krylov, accuracy: None }))
    }

    /// Passes over blocks of deviations in double precision.
    fn by_products(&self, k: usize, solver: Solver) -> Result<Solution<T>> {
        let (d, n) = self.x.shape();
        let block = block_of(d);
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
        Ok(Solution { vectors, values: captured.values, residual: captured.outside, solver: found.solver, accuracy: found.accuracy })
    }
}

#[cfg(test)]
mod tests {
    use crate::linalg::testing::{orthonormality, random, with_threads};
    use crate::linalg::{PrincipalSolver, Solver, column_mean, principal_components, principal_components_by};
    use crate::{Error, Real};
    use nalgebra::DMatrix;

    const RANDOMIZED: Solver = Solver::Randomized { oversampling: 10, power_iterations: 4 };

    /// A table with the spectrum of images: falling as a power.
    fn table<T: Real>(d: usize, n: usize) -> DMatrix<T> {
        let (left, right) = (random::<f64>(d, 40, 5), random::<f64>(40, n, 6));
        let scales = DMatrix::from_diagonal(&nalgebra::DVector::from_fn(40, |i, _| 3.0 / (1.0 + i as f64)));
        let mut x = left * scales * right + random::<f64>(d, n, 7) * 0.3;
        x.row_iter_mut().enumerate().for_each(|(i, mut row)| row.add_scalar_mut((i % 7) as f64));
        x.map(T::of)
    }

    fn agree<T: Real>(d: usize, n: usize, tolerance: f64) {
        let x = table::<T>(d, n);
        let mean = column_mean(x.as_view()).unwrap();
        let k = 5;
        let by = |solver| principal_components_by(x.as_view(), Some(&mean), k, solver).unwrap();
        let full = by(Solver::Full);
        assert_eq!(full.solver, PrincipalSolver::Full);
        let ways = [
            (Solver::Auto, None),
            (Solver::Covariance, Some(PrincipalSolver::Covariance)),
            (Solver::Gram, Some(PrincipalSolver::Gram)),
            (Solver::Krylov, Some(PrincipalSolver::Krylov)),
            (RANDOMIZED, Some(PrincipalSolver::Randomized)),
        ];
        for (solver, used) in ways {
            let found = by(solver);
            assert!(used.is_none_or(|used| used == found.solver), "{solver:?}");
            assert!(orthonormality(&found.vectors) < 1e3 * T::EPSILON.as_f64(), "{solver:?}");
            let size = full.variances[0].as_f64();
            let values = (&found.variances - &full.variances).amax().as_f64() / size;
            let residual = (found.residual_variance - full.residual_variance).as_f64().abs() / size;
            let cosine = full.vectors.transpose() * &found.vectors;
            let angle = (cosine.transpose() * cosine - DMatrix::identity(k, k)).amax().as_f64();
            assert!(
                values < tolerance && residual < 10.0 * tolerance && angle < 100.0 * tolerance,
                "{solver:?}: {values:e} {residual:e} {angle:e}"
            );
        }
    }

    #[test]
    fn every_way_leads_to_the_same_place() {
        for (d, n) in [(60, 300), (300, 60), (200, 210)] {
            agree::<f64>(d, n, 1e-9);
            agree::<f32>(d, n, 1e-6);
        }
    }

    #[test]
    fn the_stated_accuracy_holds_and_falls_with_the_iterations() {
        let x = table::<f64>(110, 140);
        let exact = principal_components_by(x.as_view(), None, 8, Solver::Full).unwrap();
        let mut before = f64::INFINITY;
        for power_iterations in [0, 1, 2, 4, 8] {
            let found = principal_components_by(x.as_view(), None, 8, Solver::Randomized { oversampling: 8, power_iterations }).unwrap();
            let stated = found.accuracy.unwrap();
            // An eigenvalue stands within the residual of each value found, and none is overstated.
            for (value, exact) in found.variances.iter().zip(exact.variances.iter()) {
                let nearest = (value - exact).abs() / exact.max(1e-300);
                assert!(nearest * exact <= stated * exact.max(found.variances[0]) + 1e-12 && *value <= exact * (1.0 + 1e-12));
            }
            assert!(stated < before, "{power_iterations}: {stated:e} after {before:e}");
            before = stated;
        }
        assert!(before < 1e-4, "{before:e}");
    }

    #[test]
    fn refusals_bits_and_corners() {
        let x = random::<f64>(30, 4, 2);
        let refused = principal_components_by(x.as_view(), None, 5, Solver::Gram);
        assert!(matches!(refused, Err(Error::Dimension { expected: 4, actual: 5, .. })));
        let zero = DMatrix::<f64>::zeros(6, 5);
        for solver in [Solver::Krylov, RANDOMIZED, Solver::Gram, Solver::Covariance, Solver::Full] {
            let none = principal_components_by(zero.as_view(), None, 2, solver).unwrap();
            assert!(none.residual_variance == 0.0 && none.variances[0] == 0.0);
            // More components than directions of variance.
            let few = principal_components_by(x.as_view(), None, 4, solver).unwrap();
            assert!(few.residual_variance < 1e-14 && orthonormality(&few.vectors) < 1e-12, "{solver:?}");
            assert_eq!(principal_components_by(x.as_view(), None, 0, solver).unwrap().variances.len(), 0);
        }
        let x = table::<f64>(300, 400);
        let run = |t| with_threads(t, || principal_components_by(x.as_view(), None, 3, RANDOMIZED).unwrap());
        assert!(run(1) == run(3));
        let plain = principal_components(x.as_view(), None, 3).unwrap();
        assert_eq!(plain.accuracy, None);
    }
}

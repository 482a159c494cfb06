//! Gaussian posteriors with one covariance for each pattern of missing values: the exact posterior
//! of a linear-Gaussian model for incomplete data.

use super::{GaussianPosterior, Posterior, half_squared_norms};
use crate::Real;
use crate::linalg::{matrix_product, product_tr_right};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Gaussian posteriors N(m_i, Σ_p) with one Σ_p = F_p F_pᵗ for all observations with the same
/// missing values. For an observation without any observed entry it is the prior, N(0, I).
///
/// ```
/// use elbo::posterior::{GaussianPosterior, Posterior};
/// use nalgebra::dmatrix;
/// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 1.0], nalgebra::dvector![0.0, 0.0], 1.0)?;
/// let x = dmatrix![3.0, 3.0, f64::NAN; 3.0, f64::NAN, f64::NAN];
/// let q = model.encode(elbo::data::Incomplete(&x))?;
/// let expected = dmatrix![2.0, 1.5, 0.0]; // 6/(2+σ²), 3/(1+σ²), prior mean
/// assert!((q.mean() - expected).amax() < 1e-12);
/// assert!((q.covariance(1)[(0, 0)] - 0.5).abs() < 1e-12 && q.covariance(2)[(0, 0)] == 1.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PatternCovariance<T: Real> {
    mean: DMatrix<T>,
    // The factors F_p of all patterns side by side: k rows, k columns for each pattern.
    factors: DMatrix<T>,
    // ln|Σ_p| of each pattern.
    log_determinants: Vec<T>,
    // The index of the pattern of each observation.
    pattern_of: Vec<usize>,
}

impl<T: Real> PatternCovariance<T> {
    /// A posterior from the means (k×n), the factors side by side, ln|F_pF_pᵗ| of each pattern, and
    /// the index of each observation's pattern.
    pub(crate) fn new(
        mean: DMatrix<T>,
        factors: DMatrix<T>,
        log_determinants: Vec<T>,
        pattern_of: Vec<usize>,
    ) -> Self {
        Self { mean, factors, log_determinants, pattern_of }
    }

    /// The factor F_p for observation `i`, k×k. It is any matrix with F_pF_pᵗ = Σ_p, not
    /// necessarily triangular.
    pub fn factor(&self, i: usize) -> DMatrixView<'_, T> {
        self.of_pattern(self.pattern_of[i])
    }

    fn of_pattern(&self, pattern: usize) -> DMatrixView<'_, T> {
        let k = self.mean.nrows();
        self.factors.columns(pattern * k, k)
    }

    /// Evaluates `f` once for each pattern and returns its value for each observation.
    fn of_each(&self, f: impl FnMut(usize) -> T) -> DVector<T> {
        let of_patterns: Vec<T> = (0..self.log_determinants.len()).map(f).collect();
        DVector::from_iterator(
            self.pattern_of.len(),
            self.pattern_of.iter().map(|&pattern| of_patterns[pattern]),
        )
    }
}

impl<T: Real> Posterior<T> for PatternCovariance<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.mean.as_view()
    }

    fn into_mean(self) -> DMatrix<T> {
        self.mean
    }
}

impl<T: Real> GaussianPosterior<T> for PatternCovariance<T> {
    fn kl_to_prior(&self) -> DVector<T> {
        let k = T::of_usize(self.latent_dim());
        let spread = self.of_each(|p| {
            T::of(0.5) * (self.of_pattern(p).norm_squared() - k - self.log_determinants[p])
        });
        half_squared_norms(self.mean()) + spread
    }

    fn covariance(&self, i: usize) -> DMatrix<T> {
        product_tr_right(self.factor(i), self.factor(i))
    }

    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T> {
        self.of_each(|p| {
            T::of(matrix_product(root, &self.of_pattern(p).map(|v| v.as_f64())).norm_squared())
        })
    }

    fn covariance_sum(&self) -> DMatrix<T> {
        let k = self.latent_dim();
        // Σ_p n_p F_pF_pᵗ in one product: the factors, each scaled by the number n_p of its
        // observations, times the factors transposed.
        let mut counts = vec![T::zero(); self.log_determinants.len()];
        self.pattern_of.iter().for_each(|&pattern| counts[pattern] += T::one());
        let mut weighted = self.factors.clone();
        for (mut column, pattern) in weighted
            .column_iter_mut()
            .zip((0..counts.len()).flat_map(|p| std::iter::repeat_n(p, k)))
        {
            column *= counts[pattern];
        }
        product_tr_right(&weighted, &self.factors)
    }

    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>) {
        z.copy_from(&self.mean);
        for (i, mut column) in z.column_iter_mut().enumerate() {
            column.gemv(T::one(), &self.factor(i), &noise.column(i), T::one());
        }
    }
}

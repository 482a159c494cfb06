//! Gaussian posteriors with one covariance for all observations: the exact posterior of a
//! linear-Gaussian model.

use super::{GaussianPosterior, Posterior, half_squared_norms};
use crate::Real;
use crate::linalg::{gemm, matrix_product, product_tr_right};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Gaussian posteriors N(m_i, Σ) with a shared covariance Σ = LLᵗ.
///
/// L is any k×k matrix with LLᵗ = Σ, not necessarily triangular.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedCovariance<T: Real> {
    mean: DMatrix<T>,
    // L (k×k) and ln|Σ| are in double precision for every `T`: they are few numbers, and the terms
    // of the traces and of the KL can cancel.
    factor: DMatrix<f64>,
    log_determinant: f64,
}

impl<T: Real> SharedCovariance<T> {
    /// A posterior from the means (k×n), a factor L (k×k) and ln|LLᵗ|.
    pub(crate) fn new(mean: DMatrix<T>, factor: DMatrix<f64>, log_determinant: f64) -> Self {
        Self { mean, factor, log_determinant }
    }

    /// The shared covariance Σ, k×k.
    pub fn common_covariance(&self) -> DMatrix<T> {
        product_tr_right(&self.factor, &self.factor).map(T::of)
    }
}

impl<T: Real> Posterior<T> for SharedCovariance<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.mean.as_view()
    }

    fn into_mean(self) -> DMatrix<T> {
        self.mean
    }
}

impl<T: Real> GaussianPosterior<T> for SharedCovariance<T> {
    fn kl_to_prior(&self) -> DVector<T> {
        // ½(tr Σ − k − ln|Σ|), with tr Σ = ‖L‖²: the same for all observations.
        let constant =
            0.5 * (self.factor.norm_squared() - self.latent_dim() as f64 - self.log_determinant);
        half_squared_norms(self.mean()).map(|m| T::of(m.as_f64() + constant))
    }

    fn covariance(&self, _i: usize) -> DMatrix<T> {
        self.common_covariance()
    }

    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T> {
        DVector::from_element(self.len(), T::of(matrix_product(root, &self.factor).norm_squared()))
    }

    fn covariance_sum(&self) -> DMatrix<T> {
        self.common_covariance() * T::of_usize(self.len())
    }

    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>) {
        z.copy_from(&self.mean);
        gemm(T::one(), &self.factor.map(T::of), noise, T::one(), z.as_view_mut());
    }
}

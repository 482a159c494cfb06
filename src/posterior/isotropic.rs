//! Gaussian posteriors with an isotropic covariance: one variance for all latent dimensions.

use super::{
    GaussianPosterior, Posterior, PosteriorFamily, add_mean_kl_gradient, bounded, excess,
    square_sum,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Gaussian posteriors with isotropic covariance, q(z_i) = N(μ_i, σ_i² I). φ_i (k+1 rows) is μ_i
/// followed by ln σ_i².
///
/// ```
/// use elbo::posterior::{GaussianPosterior, Isotropic, PosteriorFamily};
/// use nalgebra::dmatrix;
/// let prior_itself = Isotropic::from_parameters(2, dmatrix![0.0; 0.0; 0.0])?;
/// assert_eq!(prior_itself.kl_to_prior()[0], 0.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Isotropic<T: Real> {
    latent_dim: usize,
    parameters: DMatrix<T>,
}

impl<T: Real> Isotropic<T> {
    /// The variances σ_i², one entry per observation.
    pub fn variances(&self) -> DVector<T> {
        DVector::from_iterator(self.len(), (0..self.len()).map(|i| self.log_variance(i).0.exp()))
    }

    fn kl_of_each(&self) -> impl Iterator<Item = T> {
        let k = self.latent_dim;
        // KL = ½(‖μ‖² + k(σ² − 1 − ln σ²)).
        let of_column = move |column: &[T]| {
            T::of(0.5) * (square_sum(&column[..k]) + T::of_usize(k) * excess(&column[k..]))
        };
        self.parameters.as_slice().chunks_exact(k + 1).map(of_column)
    }

    fn log_variance(&self, i: usize) -> (T, bool) {
        bounded(self.parameters[(self.latent_dim, i)])
    }
}

impl<T: Real> Posterior<T> for Isotropic<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.parameters.rows(0, self.latent_dim)
    }
}

impl<T: Real> GaussianPosterior<T> for Isotropic<T> {
    fn kl_to_prior(&self) -> DVector<T> {
        DVector::from_iterator(self.len(), self.kl_of_each())
    }

    fn kl_to_prior_sum(&self) -> T {
        self.kl_of_each().fold(T::zero(), |sum, kl| sum + kl)
    }

    fn covariance(&self, i: usize) -> DMatrix<T> {
        DMatrix::from_diagonal_element(
            self.latent_dim,
            self.latent_dim,
            self.log_variance(i).0.exp(),
        )
    }

    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T> {
        self.variances() * T::of(root.norm_squared())
    }

    fn covariance_sum(&self) -> DMatrix<T> {
        DMatrix::from_diagonal_element(self.latent_dim, self.latent_dim, self.variances().sum())
    }

    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>) {
        z.copy_from(&self.mean());
        for (i, (mut z, noise)) in z.column_iter_mut().zip(noise.column_iter()).enumerate() {
            let deviation = (T::of(0.5) * self.log_variance(i).0).exp();
            z.axpy(deviation, &noise, T::one());
        }
    }
}

impl<T: Real> PosteriorFamily<T> for Isotropic<T> {
    fn parameter_count(latent_dim: usize) -> usize {
        latent_dim.saturating_add(1)
    }

    phi_accessors!();

    fn add_negative_kl_gradient(&self, scale: T, d: &mut DMatrix<T>) {
        add_mean_kl_gradient(self.mean(), scale, d);
        // ∂KL/∂ln σ² = ½k(σ² − 1). `quick_exp_m1` is accurate for σ² near 1, where σ² − 1 would
        // cancel.
        let half_k = T::of(0.5) * T::of_usize(self.latent_dim);
        for i in 0..self.len() {
            let (log_variance, held) = self.log_variance(i);
            if !held {
                d[(self.latent_dim, i)] -= scale * half_k * log_variance.quick_exp_m1();
            }
        }
    }

    fn add_negative_half_trace_gradient(
        &self,
        root: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    ) {
        // tr(RᵗR σ²I) = σ²‖R‖² (Frobenius norm).
        let half_trace = T::of(0.5) * root.norm_squared();
        for i in 0..self.len() {
            let (log_variance, held) = self.log_variance(i);
            if !held {
                d[(self.latent_dim, i)] -= scale * half_trace * log_variance.exp();
            }
        }
    }

    fn add_transform_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        d: &mut DMatrix<T>,
    ) {
        let k = self.latent_dim;
        for (i, (noise, d_z)) in noise.column_iter().zip(d_z.column_iter()).enumerate() {
            let mut d = d.column_mut(i);
            // z = μ + σε, so that ∂/∂ln σ² is ½σ εᵗ∂/∂z.
            let mut along = T::zero();
            for ((d, &noise), &d_z) in d.iter_mut().zip(noise.iter()).zip(d_z.iter()) {
                *d += d_z;
                along += noise * d_z;
            }
            let (log_variance, held) = self.log_variance(i);
            if !held {
                let half = T::of(0.5);
                d[k] += half * (half * log_variance).exp() * along;
            }
        }
    }

    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self> {
        let latent_dim = mean.nrows();
        // KL(q‖p) = ½(σ² tr Λ − k ln σ²) + const. has its minimum at σ² = k / tr Λ, tr Λ = ‖R‖².
        let log_variance = T::of((latent_dim as f64 / precision_root.norm_squared()).ln());
        let parameters = mean.insert_row(latent_dim, log_variance);
        Ok(Self { latent_dim, parameters })
    }
}

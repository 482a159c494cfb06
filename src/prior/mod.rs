//! Priors π(z) of the latent variable.
//!
//! [`StandardNormal`] in all models of the progression; [`GaussianPrior`] and [`MixturePrior`] with
//! free parameters, for a deep decoder; [`DynPrior`] is any of them, chosen at run time.

mod dynamic;
mod gaussian;
mod mixture;
mod standard_normal;

pub use dynamic::DynPrior;
pub use gaussian::GaussianPrior;
pub use mixture::MixturePrior;
pub use standard_normal::StandardNormal;

use crate::Real;
use crate::likelihood::Weights;
use crate::map::Parameters;
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// A prior π(z) with free parameters, which a fit moves with those of the decoder and the
/// likelihood.
///
/// Implement the log-density, its derivatives and the sampler to use the prior in every objective
/// that is estimated from samples. Closed-form divergences exist for [`StandardNormal`] only: a
/// model with another prior has no closed-form ELBO, and asking for it does not compile.
pub trait Prior<T: Real>: Parameters<T> + Clone {
    /// The latent dimension k that the prior is made for; `None` if it follows the decoder.
    fn latent_dim(&self) -> Option<usize>;

    /// ln π(z_i) in nats, one entry for each column of z (k×n), with every constant.
    fn log_density(&self, z: DMatrixView<'_, T>) -> DVector<T>;

    /// Returns Σ_i w_i ln π(z_i), adds its derivative by z to `d_z` (k×n), and writes that by the
    /// parameters to `d_parameters`.
    fn add_log_density_gradient(
        &self,
        z: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_z: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T;

    /// n samples of z, k×n.
    fn sample(&self, latent_dim: usize, n: usize, rng: &mut dyn Rng) -> DMatrix<T>;

    /// Whether this is N(0, I), whose divergence from a Gaussian is in closed form.
    fn is_standard(&self) -> bool {
        false
    }
}

/// ln N(z_i; 0, I), one entry for each column.
pub(crate) fn standard_log_density<T: Real>(z: DMatrixView<'_, T>) -> DVector<T> {
    let constant = T::of_usize(z.nrows()) * T::of(std::f64::consts::TAU.ln());
    let half = T::of(0.5);
    DVector::from_iterator(
        z.ncols(),
        z.column_iter().map(|z| -half * (constant + z.norm_squared())),
    )
}

/// ln π(z_i) − ln N(z_i; 0, I), one entry for each column; `None` for the standard normal itself.
pub(crate) fn log_ratio_to_standard<T: Real>(
    prior: &impl Prior<T>,
    z: DMatrixView<'_, T>,
) -> Option<DVector<T>> {
    (!prior.is_standard()).then(|| prior.log_density(z) - standard_log_density(z))
}

/// Σ_i w_i (ln π(z_i) − ln N(z_i; 0, I)), bit for bit the value of [`add_log_ratio_gradient`]; 0 for
/// the standard normal itself.
pub(crate) fn log_ratio_sum<T: Real>(
    prior: &impl Prior<T>,
    z: DMatrixView<'_, T>,
    weights: Weights<'_, T>,
) -> T {
    if prior.is_standard() {
        return T::zero();
    }
    let sum = |densities: DVector<T>| {
        let terms = densities.iter().enumerate().map(|(i, &density)| weights.of(i) * density);
        terms.fold(T::zero(), |sum, term| sum + term)
    };
    sum(prior.log_density(z)) - sum(standard_log_density(z))
}

/// Returns Σ_i w_i (ln π(z_i) − ln N(z_i; 0, I)) and adds its derivative by z to `d_z`; that by the
/// parameters is written to `d_parameters`.
pub(crate) fn add_log_ratio_gradient<T: Real>(
    prior: &impl Prior<T>,
    z: DMatrixView<'_, T>,
    weights: Weights<'_, T>,
    d_z: &mut DMatrix<T>,
    d_parameters: &mut [T],
) -> T {
    let value = prior.add_log_density_gradient(z, weights, d_z, d_parameters);
    let standard = standard_log_density(z);
    let mut sum = T::zero();
    for (i, (mut d_z, z)) in d_z.column_iter_mut().zip(z.column_iter()).enumerate() {
        d_z.axpy(weights.of(i), &z, T::one());
        sum += weights.of(i) * standard[i];
    }
    value - sum
}

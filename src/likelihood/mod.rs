//! p(x|z): a typed log-density of an observation, given what the decoder makes of z.
//!
//! In the order of the progression: [`Noiseless`] (the linear autoencoder has no density),
//! [`IsotropicGaussian`] (probabilistic PCA), [`DiagonalGaussian`] (factor analysis), then
//! [`Bernoulli`]. The two Gaussians are [`GaussianNoise`]: with a linear decoder, closed forms. A
//! likelihood is never "a loss": it keeps every constant, and it is a sum over the variables, never
//! a mean.

mod bernoulli;
mod diagonal_gaussian;
mod gaussian_noise;
mod isotropic_gaussian;
mod noiseless;

pub use bernoulli::Bernoulli;
pub use diagonal_gaussian::DiagonalGaussian;
pub use gaussian_noise::GaussianNoise;
pub(crate) use gaussian_noise::log_two_pi_times;
pub use isotropic_gaussian::{IsotropicGaussian, NoiseVariance};
pub(crate) use isotropic_gaussian::{check_floor, check_variance};
pub use noiseless::Noiseless;

use crate::map::Parameters;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// What the decoder's output says x is: all that a reconstruction needs, with a density or without
/// one.
pub trait ConditionalMean<T: Real> {
    /// E[x|y] for each column of the decoder's output, d×n.
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T>;
}

/// p(x_i | y_i), the density of an observation given the decoder's output y_i (d×1): its mean, or
/// its logits.
///
/// You give the log-density, its derivative, the mean and the sampler; you get log p(x|z), sampling
/// and the reparameterised evidence lower bound of every model with this likelihood.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a likelihood: a linear autoencoder has no density p(x|z)",
    label = "there is no log-likelihood without a density",
    note = "probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait Likelihood<T: Real>: ConditionalMean<T> + Parameters<T> + Clone {
    /// log p(x_i|y_i) in nats, one entry an observation, every constant kept; x and y are d×n.
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T>;

    /// scale·Σ_i log p(x_i|y_i), with its derivatives: `d_output` (d×n, overwritten) and
    /// `d_parameters` (overwritten).
    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        scale: T,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T;

    /// One draw of x for each column of the decoder's output, d×n.
    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T>;

    /// Refuses data that the likelihood cannot produce.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`](crate::Error::OutsideSupport) names the entry.
    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        let _ = x;
        Ok(())
    }
}

//! Likelihoods p(x|z): the density of an observation given the output of the decoder.
//!
//! From PCA to the variational autoencoder: [`Noiseless`] (the linear autoencoder has no density),
//! [`IsotropicGaussian`] (probabilistic PCA), [`DiagonalGaussian`] (factor analysis) and
//! [`Bernoulli`]. The two Gaussians implement [`GaussianNoise`]: with a linear decoder, the
//! marginal and the posterior are in closed form.
//!
//! A likelihood is a normalised log-density, not a loss: it keeps every constant, and it is a sum
//! over the variables, not a mean.

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
pub(crate) use isotropic_gaussian::{check_share, check_variance};
pub use noiseless::Noiseless;

use crate::map::Parameters;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// The conditional mean E[x|y] given the decoder's output y. It is all that a reconstruction needs,
/// and also exists where there is no density.
pub trait ConditionalMean<T: Real> {
    /// E[x|y] for each column y of the decoder's output, d×n.
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T>;

    /// Whether the mean is the decoder's output itself, as it is for Gaussian noise.
    fn is_identity(&self) -> bool {
        false
    }

    /// The variance of each variable's noise (d), if it is Gaussian.
    fn gaussian_variances(&self, data_dim: usize) -> Option<DVector<T>> {
        let _ = data_dim;
        None
    }

    /// Whether each variable has a Gaussian noise variance of its own, as in factor analysis.
    fn has_variance_of_each_variable(&self) -> bool {
        false
    }

    /// Checks that the likelihood fits a decoder with this number of output rows; by default it
    /// fits every decoder.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn expect_output_dim(&self, output_dim: usize) -> Result<()> {
        let _ = output_dim;
        Ok(())
    }
}

/// A likelihood p(x_i | y_i): the density of an observation given the decoder's output y_i (d×1),
/// which is its mean or its logits.
///
/// Implement the log-density, its derivative, the mean and the sampler to use log p(x|z), sampling
/// and the reparameterised evidence lower bound (ELBO) of every model with this likelihood.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a likelihood: a linear autoencoder has no density p(x|z)",
    label = "there is no log-likelihood without a density",
    note = "probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait Likelihood<T: Real>: ConditionalMean<T> + Parameters<T> + Clone {
    /// log p(x_i|y_i) in nats, one entry per observation, with every constant; x and y are d×n.
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T>;

    /// Returns scale·Σ_i log p(x_i|y_i) and computes its derivatives: `d_output` (d×n, overwritten)
    /// and `d_parameters` (overwritten).
    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        scale: T,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T;

    /// A sample of x for each column of the decoder's output, d×n.
    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T>;

    /// Checks that the data are in the support of the likelihood.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`](crate::Error::OutsideSupport), with row, column and value of the
    /// first entry outside.
    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        let _ = x;
        Ok(())
    }
}

//! Generative models, a decoder and a likelihood with parameters θ, and the traits of their closed
//! forms.
//!
//! Each capability is a small trait, required by the bound of the functions that need it. A deep
//! decoder, for example, has no closed-form posterior: a call that needs one does not compile, and
//! the compiler's message gives the reason.

mod generative;
pub(crate) mod incomplete;
mod linear_gaussian;
mod marginal_factor;
mod residual_statistics;
mod stepwise;

pub use generative::GenerativeModel;
pub use incomplete::ConditionalMoments;
pub use linear_gaussian::LinearGaussian;
#[doc(hidden)] // listed in `advanced`
pub use linear_gaussian::ResidualStatistics;

use crate::map::DifferentiableMap;
use crate::posterior::{GaussianPosterior, Posterior};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// A map from codes z (k×n) to the location parameters of the likelihood (d×n). Every
/// [`DifferentiableMap`] is a decoder.
pub trait Decoder<T: Real> {
    /// The latent dimension k.
    fn latent_dim(&self) -> usize;
    /// The number d of variables.
    fn observed_dim(&self) -> usize;
    /// Decodes each column of z (k×n) into a column of d×n.
    fn decode(&self, z: DMatrixView<'_, T>) -> DMatrix<T>;
    /// The residuals x − decode(z), d×n; override it where they can be computed without
    /// cancellation of two large numbers.
    fn residuals(&self, z: DMatrixView<'_, T>, x: DMatrixView<'_, T>) -> DMatrix<T> {
        x - self.decode(z)
    }
}

impl<T: Real, M: DifferentiableMap<T>> Decoder<T> for M {
    fn latent_dim(&self) -> usize {
        self.input_dim()
    }
    fn observed_dim(&self) -> usize {
        self.output_dim()
    }
    fn decode(&self, z: DMatrixView<'_, T>) -> DMatrix<T> {
        self.apply(z)
    }
    // Not the default: a map can subtract its bias from x first, which avoids cancellation.
    fn residuals(&self, z: DMatrixView<'_, T>, x: DMatrixView<'_, T>) -> DMatrix<T> {
        DifferentiableMap::residuals(self, z, x)
    }
}

/// A model with a latent variable z and a decoder.
pub trait LatentModel<T: Real> {
    /// The decoder's type.
    type Decoder: Decoder<T>;
    /// The decoder z → x.
    fn decoder(&self) -> &Self::Decoder;
}

/// A model with a joint density p(x, z) = π(z) p(x|z).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no density p(x|z): a linear autoencoder has no likelihood",
    note = "probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait ProbabilisticModel<T: Real>: LatentModel<T> {
    /// log p(x_i|z_i) in nats, one entry per observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn log_density_given(
        &self,
        x: Observations<'_, T>,
        z: DMatrixView<'_, T>,
    ) -> Result<DVector<T>>;

    /// ln π(z_i) − ln N(z_i; 0, I) in nats, one entry for each column of z; `None` for the prior
    /// N(0, I), the default.
    fn log_prior_ratio(&self, z: DMatrixView<'_, T>) -> Option<DVector<T>> {
        let _ = z;
        None
    }

    /// Samples n pairs from π(z)p(x|z): z (k×n) and x (d×n).
    fn sample(&self, n: usize, rng: &mut dyn Rng) -> (DMatrix<T>, DMatrix<T>);
}

/// A model whose log-likelihood log p(x_i) is in closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form log-likelihood: the integral over z is only \
               tractable for a linear decoder with Gaussian noise",
    note = "estimate it with `diagnostics::ImportanceSampling`, or bound it with `objective::Elbo`"
)]
pub trait MarginalLikelihood<T: Real>: ProbabilisticModel<T> {
    /// log p(x_i) in nats, one entry per observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn log_likelihood(&self, x: Observations<'_, T>) -> Result<DVector<T>>;
}

/// A model whose posterior p(z_i|x_i) is in closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form posterior: p(z|x) is only Gaussian for a linear \
               decoder with Gaussian noise",
    note = "approximate it: `inference::PerPoint` (one q_i a point) or `inference::Amortized` (a \
            map)"
)]
pub trait ExactPosterior<T: Real>: ProbabilisticModel<T> {
    /// The type of the exact posterior.
    type Posterior: GaussianPosterior<T>;

    /// p(z_i|x_i) of each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn posterior(&self, x: Observations<'_, T>) -> Result<Self::Posterior>;

    /// The means of p(z_i|x_i) for values that are not validated yet; override it where validation
    /// can be fused into the pass over them.
    #[doc(hidden)]
    fn codes_of_unvalidated(&self, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        Ok(self.posterior(Observations::new(values)?)?.into_mean())
    }

    /// A square-root factor of the precision Λ of p(z_i|x_i), which all observations share: R with
    /// k columns and RᵗR = Λ. It is in double precision, so that the contribution of small loadings
    /// is not lost beside that of large ones.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite).
    fn posterior_precision_root(&self) -> Result<DMatrix<f64>>;
}

/// A model whose expected log-likelihood E_q log p(x_i|z_i) is in closed form under a Gaussian q, or
/// a one-dimensional quadrature to 1e-10.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form expected log-likelihood under `{Q}`",
    note = "estimate it by sampling: `estimate_elbo` of a model, `Elbo::<Reparameterization>`"
)]
pub trait ExpectedLogLikelihood<T: Real, Q>: ProbabilisticModel<T> {
    /// E_q log p(x_i|z_i) in nats, one entry per observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn expected_log_likelihood(&self, x: Observations<'_, T>, q: &Q) -> Result<DVector<T>>;
}

/// A model with a closed-form M-step: the θ that maximises the expected log-likelihood, from
/// statistics of x and q that add up over chunks of data.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form M-step under `{Q}`",
    note = "move θ by the gradient: `fit::StochasticGradient`"
)]
pub trait MStep<T: Real, Q>: ProbabilisticModel<T> {
    /// The sufficient statistics of x and q for the M-step; those of two chunks add up.
    type Statistics: std::ops::AddAssign;

    /// The statistics of some observations and their q_i.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn statistics(&self, x: Observations<'_, T>, q: &Q) -> Result<Self::Statistics>;

    /// Replaces θ by the maximiser of E_q log p(x|z).
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) when Σ E zzᵗ is singular.
    fn maximize(&mut self, statistics: &Self::Statistics) -> Result<()>;
}

//! θ: a decoder and a likelihood, and what can be asked of them.
//!
//! One capability is one small trait, asked for in the bound. A deep decoder simply has no
//! closed-form posterior: a call that needs one does not compile, and the compiler says why.

mod generative;
pub(crate) mod incomplete;
mod linear_gaussian;
mod marginal_factor;
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

/// A map from a code z (k×n) to what the likelihood is centred on (d×n). Every
/// [`DifferentiableMap`] is one.
pub trait Decoder<T: Real> {
    /// k.
    fn latent_dim(&self) -> usize;
    /// d.
    fn observed_dim(&self) -> usize;
    /// Decodes each column of z (k×n) into a column of d×n.
    fn decode(&self, z: DMatrixView<'_, T>) -> DMatrix<T>;
    /// x − decode(z), d×n; override it where the difference need not be that of two large numbers.
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
    fn residuals(&self, z: DMatrixView<'_, T>, x: DMatrixView<'_, T>) -> DMatrix<T> {
        DifferentiableMap::residuals(self, z, x)
    }
}

/// A model with a latent variable z: at least a decoder.
pub trait LatentModel<T: Real> {
    /// The decoder's type.
    type Decoder: Decoder<T>;
    /// z → x.
    fn decoder(&self) -> &Self::Decoder;
}

/// A model with a joint density p(x, z) = π(z) p(x|z), π = N(0, I).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no density p(x|z): a linear autoencoder has no likelihood",
    note = "probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait ProbabilisticModel<T: Real>: LatentModel<T> {
    /// log p(x_i|z_i) in nats, one entry an observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn log_density_given(
        &self,
        x: Observations<'_, T>,
        z: DMatrixView<'_, T>,
    ) -> Result<DVector<T>>;

    /// Draws n pairs from π(z)p(x|z): z (k×n) and x (d×n).
    fn sample(&self, n: usize, rng: &mut dyn Rng) -> (DMatrix<T>, DMatrix<T>);
}

/// A model whose log p(x_i) is in closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form log-likelihood: the integral over z is only tractable for a linear decoder with Gaussian noise",
    note = "estimate it with `diagnostics::ImportanceSampling`, or bound it with `objective::Elbo`"
)]
pub trait MarginalLikelihood<T: Real>: ProbabilisticModel<T> {
    /// log p(x_i) in nats, one entry an observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn log_likelihood(&self, x: Observations<'_, T>) -> Result<DVector<T>>;
}

/// A model whose posterior p(z_i|x_i) is in closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form posterior: p(z|x) is only Gaussian for a linear decoder with Gaussian noise",
    note = "approximate it: `inference::PerPoint` (one q_i a point) or `inference::Amortized` (a map)"
)]
pub trait ExactPosterior<T: Real>: ProbabilisticModel<T> {
    /// The exact posterior's type.
    type Posterior: GaussianPosterior<T>;

    /// p(z_i|x_i) of each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn posterior(&self, x: Observations<'_, T>) -> Result<Self::Posterior>;

    /// The means of p(z_i|x_i) for values that nobody has checked: override it where the check
    /// joins the pass over them.
    #[doc(hidden)]
    fn codes_of_unvalidated(&self, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        Ok(self.posterior(Observations::new(values)?)?.into_mean())
    }

    /// A matrix R with k columns whose RᵗR is the precision Λ of p(z_i|x_i), the same for each
    /// observation; in double precision, in which what small loadings say is not lost beside large
    /// ones.
    ///
    /// # Errors
    /// [`Error::NotFinite`](crate::Error::NotFinite).
    fn posterior_precision_root(&self) -> Result<DMatrix<f64>>;
}

/// A model for which E_q log p(x_i|z_i) is in closed form under a Gaussian q.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form expected log-likelihood under `{Q}`",
    note = "estimate it by sampling: `estimate_elbo` of a model, `Elbo::<Reparameterization>`"
)]
pub trait ExpectedLogLikelihood<T: Real, Q>: ProbabilisticModel<T> {
    /// E_q log p(x_i|z_i) in nats, one entry an observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn expected_log_likelihood(&self, x: Observations<'_, T>, q: &Q) -> Result<DVector<T>>;
}

/// A model whose θ has a closed-form maximiser, given q: the M-step of EM, from statistics that add
/// up over chunks of data.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form M-step under `{Q}`",
    note = "move θ by the gradient: `fit::StochasticGradient`"
)]
pub trait MStep<T: Real, Q>: ProbabilisticModel<T> {
    /// What the M-step needs to know of x and q; two of them add up to that of both.
    type Statistics: std::ops::AddAssign;

    /// The statistics of some observations and their q_i.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn statistics(&self, x: Observations<'_, T>, q: &Q) -> Result<Self::Statistics>;

    /// Moves θ to the maximiser of E_q log p(x|z).
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) when Σ E zzᵗ is singular.
    fn maximize(&mut self, statistics: &Self::Statistics) -> Result<()>;
}

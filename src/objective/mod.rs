//! Objective functions J of a fit. **J is always maximised**; it is a sum over the observations, in
//! nats where it is a log-density.
//!
//! From PCA to the variational autoencoder: [`SquaredError`] (of the autoencoder, with negative
//! sign), [`LogLikelihood`], and the evidence lower bound [`Elbo`] in [closed form](ClosedForm), by
//! the [reparameterisation trick](Reparameterization) and by its [path derivative](PathDerivative);
//! then the [importance-weighted bound](ImportanceWeighted), the [Rényi bound](Renyi) between the two,
//! and a [choice at run time](SampledBound).

mod binarized;
mod elbo;
mod importance_weighted;
mod log_likelihood;
mod path_derivative;
mod renyi;
mod sampled_bound;
mod squared_error;

pub use binarized::Binarized;
#[doc(hidden)]
pub use binarized::BinarizedWorkspace;
#[doc(hidden)]
pub use elbo::ElboWorkspace;
pub(crate) use elbo::check_samples;
pub use elbo::{ClosedForm, Elbo, ElboTerms, Reparameterization};
#[doc(hidden)]
pub use importance_weighted::ImportanceWorkspace;
pub use importance_weighted::{ImportanceWeighted, WeightedGradient};
pub(crate) use importance_weighted::{half_log_determinants, log_density_with_prior, log_weights};
pub use log_likelihood::LogLikelihood;
pub use path_derivative::PathDerivative;
pub use renyi::Renyi;
pub use sampled_bound::SampledBound;
#[doc(hidden)]
pub use sampled_bound::SampledWorkspace;
pub use squared_error::SquaredError;
#[doc(hidden)]
pub use squared_error::SquaredErrorWorkspace;
pub(crate) use squared_error::check_weight;

use crate::{Observations, Real, Result};
use rand::Rng;

/// An objective J(θ, Q) on a set of observations; **J is always maximised**.
///
/// Implement the value to use every fitter that only compares values. On a mini-batch of n out of N
/// observations the value is scaled by N/n.
pub trait Objective<T: Real, M, Q> {
    /// J, a total over the observations.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when model, q and x do not fit
    /// each other.
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T>;
}

/// The gradient of J by the free parameters of θ and of φ, in the order of
/// [`Parameters`](crate::map::Parameters).
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<T> {
    /// ∂J/∂θ: first by the parameters of the decoder, then by those of the likelihood and of the
    /// prior.
    pub theta: Vec<T>,
    /// ∂J/∂φ, by the parameters of the inference.
    pub phi: Vec<T>,
}

impl<T> Default for Gradient<T> {
    fn default() -> Self {
        Self { theta: Vec::new(), phi: Vec::new() }
    }
}

/// An objective with a gradient by θ and by the parameters φ of an inference `I`.
///
/// Implement value and gradient in one call to use the gradient fitters.
/// [`testing::check_objective`](crate::testing::check_objective) checks the gradient against
/// central differences.
pub trait DifferentiableObjective<T: Real, M, I> {
    /// Buffers kept between calls, so that a training step does not allocate.
    type Workspace: Default;

    /// J, a total over the observations, and its gradient (overwritten).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when model, inference and x do
    /// not fit each other.
    fn value_and_gradient(
        &self,
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T>;

    /// J, and the gradient of J with its divergence from the prior multiplied by `kl_weight` (β),
    /// which a fit may climb in its place. The value is still J, the bound.
    ///
    /// By default there is a gradient for β = 1 only.
    ///
    /// # Errors
    /// As [`value_and_gradient`](Self::value_and_gradient);
    /// [`Error::Unsupported`](crate::Error::Unsupported) for an objective without a weight of its
    /// divergence.
    #[allow(clippy::too_many_arguments)] // those of `value_and_gradient`, and the weight
    fn value_and_weighted_gradient(
        &self,
        kl_weight: f64,
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        if kl_weight == 1.0 {
            return self.value_and_gradient(model, inference, x, rng, workspace, gradient);
        }
        Err(crate::Error::Unsupported {
            what: "a weight of the divergence in this objective",
            must: "`Elbo::reparameterized` or `Elbo::path_derivative`",
        })
    }

    /// J without its gradient; with the same random numbers it equals the value of
    /// [`value_and_gradient`](Self::value_and_gradient). `unused` is a buffer for the gradient.
    /// Override it where the value alone costs less.
    ///
    /// # Errors
    /// As [`value_and_gradient`](Self::value_and_gradient).
    fn value(
        &self,
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        unused: &mut Gradient<T>,
    ) -> Result<T> {
        self.value_and_gradient(model, inference, x, rng, workspace, unused)
    }
}

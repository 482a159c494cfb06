//! J: what a fit raises. **J is always maximised**; it is a sum over the observations, in nats
//! where it is a log-density.
//!
//! In the order of the progression: [`SquaredError`] (the autoencoder's, with its sign turned),
//! [`LogLikelihood`], [`Elbo`] in [closed form](ClosedForm), by the [reparameterisation
//! trick](Reparameterization), by it along the [path of z alone](PathDerivative), and with [many
//! draws for one logarithm](ImportanceWeighted).

mod elbo;
mod importance_weighted;
mod log_likelihood;
mod path_derivative;
mod squared_error;

pub(crate) use elbo::check_draws;
pub use elbo::{ClosedForm, Elbo, ElboTerms, ElboWorkspace, Reparameterization};
pub use importance_weighted::{ImportanceWeighted, ImportanceWorkspace};
pub(crate) use importance_weighted::{log_deviations, log_weights};
pub use log_likelihood::LogLikelihood;
pub use path_derivative::PathDerivative;
pub(crate) use squared_error::check_weight;
pub use squared_error::{SquaredError, SquaredErrorWorkspace};

use crate::{Observations, Real, Result};
use rand::Rng;

/// J(θ, Q) on some observations; **J is always maximised**.
///
/// You give the value; you get every fitter that only compares values. Over a mini-batch the value
/// is scaled by N/n.
pub trait Objective<T: Real, M, Q> {
    /// J in total over the observations.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when model, q and x do not fit each
    /// other.
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T>;
}

/// The derivative of J by the free parameters of θ and of φ, in the order of
/// [`Parameters`](crate::map::Parameters).
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<T> {
    /// ∂J/∂θ: the decoder's parameters, then the likelihood's.
    pub theta: Vec<T>,
    /// ∂J/∂φ.
    pub phi: Vec<T>,
}

impl<T> Default for Gradient<T> {
    fn default() -> Self {
        Self { theta: Vec::new(), phi: Vec::new() }
    }
}

/// An objective with a derivative by θ and by the parameters of an inference `I`.
///
/// You give value and gradient in one call; you get the gradient fitters.
/// [`testing::check_objective`](crate::testing::check_objective) tells whether the derivative is
/// right.
pub trait DifferentiableObjective<T: Real, M, I> {
    /// Buffers kept between calls, so that a step need not allocate.
    type Workspace: Default;

    /// J in total over the observations, and its gradient (overwritten).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when model, inference and x do not fit
    /// each other.
    fn value_and_gradient(
        &self,
        model: &M,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T>;

    /// J alone, the same from the same draws; `unused` has room for the gradient. Override it where
    /// that costs less.
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

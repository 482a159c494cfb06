//! The marginal log-likelihood, for models in which the integral over z is in closed form.

use super::Objective;
use crate::model::MarginalLikelihood;
use crate::{Observations, Real, Result};
use rand::Rng;

/// The log-likelihood J(θ) = Σ_i log p(x_i), in nats. It does not depend on q.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogLikelihood;

impl<T: Real, M: MarginalLikelihood<T>, Q> Objective<T, M, Q> for LogLikelihood {
    fn evaluate(&self, model: &M, _q: &Q, x: Observations<'_, T>, _rng: &mut dyn Rng) -> Result<T> {
        Ok(model.log_likelihood(x)?.sum() * x.scale())
    }
}

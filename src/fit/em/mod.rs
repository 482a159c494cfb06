//! The loop that is EM with the exact posterior, and variational EM with a table; and what gets to
//! the same optimum sooner.

pub(crate) mod aligned;
mod gradient;
pub(crate) mod px_em;
pub(crate) mod subspace_vem;

pub use gradient::GradientVariationalEm;
pub use px_em::PxEm;
pub use subspace_vem::{SubspaceFamily, SubspaceVem};

use super::{Fitted, RemainingGain, StopReason, Trace};
use crate::inference::EStep;
use crate::model::MStep;
use crate::objective::Objective;
use crate::{Observations, Real, Result};
use rand::Rng;

/// Coordinate ascent on J(θ, Q): Q is moved to its optimum given θ, then θ to its optimum given Q.
/// J never falls.
///
/// With [`Exact`](crate::inference::Exact) it is EM; with [`PerPoint`](crate::inference::PerPoint)
/// it is variational EM. After the last M-step comes one more E-step, so that the θ, Q and J that
/// are returned belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectationMaximization {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
}

impl Default for ExpectationMaximization {
    fn default() -> Self {
        Self { max_iterations: 2_000, tolerance: 1e-7 }
    }
}

impl ExpectationMaximization {
    /// Raises `objective` from the given θ and Q.
    ///
    /// # Errors
    /// Those of the E-step, the M-step and the objective.
    pub fn fit<T, M, I, J>(
        &self,
        objective: &J,
        model: M,
        inference: I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<(M, I)>>
    where
        T: Real,
        M: MStep<T, I::Posterior>,
        I: EStep<T, M>,
        J: Objective<T, M, I::Posterior>,
    {
        self.fit_confirmed(objective, model, inference, x, rng, |_, _| Ok(0.0))
    }

    /// The same, with a second opinion before it stops: `remaining(model, J)` is a gain per
    /// observation that is known to be within reach.
    ///
    /// A rate of 1 − 10⁻⁹ looks like convergence to any extrapolation; where a better model is
    /// easily found, the fit goes on, and says in the end that it did not get there.
    pub(crate) fn fit_confirmed<T, M, I, J>(
        &self,
        objective: &J,
        mut model: M,
        mut inference: I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        remaining: impl Fn(&M, f64) -> Result<f64>,
    ) -> Result<Fitted<(M, I)>>
    where
        T: Real,
        M: MStep<T, I::Posterior>,
        I: EStep<T, M>,
        J: Objective<T, M, I::Posterior>,
    {
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(self.tolerance);
        let observations = x.population() as f64;
        let stop = loop {
            inference.maximize(&model, x)?;
            let q = inference.infer(&model, x)?;
            let value = objective.evaluate(&model, &q, x, rng)?.as_f64() / observations;
            trace.push(value);
            if rule.update(value) {
                if remaining(&model, value)? <= 10.0 * self.tolerance {
                    break StopReason::Converged;
                }
                rule = RemainingGain::below(self.tolerance);
            }
            if trace.len() > self.max_iterations {
                break StopReason::IterationLimit;
            }
            let statistics = model.statistics(x, &q)?;
            model.maximize(&statistics)?;
        };
        Ok(Fitted { model: (model, inference), trace, stop })
    }
}

//! Expectation-maximisation (EM) and variational EM, and accelerated algorithms for the same
//! optima.

pub(crate) mod aligned;
mod gradient;
pub(crate) mod px_em;
pub(crate) mod subspace_vem;

pub use gradient::GradientVariationalEm;
pub use px_em::PxEm;
pub use subspace_vem::{SubspaceFamily, SubspaceVem};

use super::{Fitted, Observer, RemainingGain, StopReason, Trace};
use crate::inference::EStep;
use crate::model::MStep;
use crate::objective::Objective;
use crate::{IntoObservations, Observations, Real, Result};
use rand::Rng;

/// EM and variational EM: coordinate ascent on the evidence lower bound (ELBO) J(θ, Q), which sets
/// Q to its optimum given θ (E-step), then θ to its optimum given Q (M-step). J never falls.
///
/// With [`Exact`](crate::inference::Exact) it is EM; with [`PerPoint`](crate::inference::PerPoint)
/// it is variational EM. One more E-step follows the last M-step, so that the returned θ, Q and J
/// belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectationMaximization {
    /// Maximum number of iterations.
    pub max_iterations: usize,
    /// Tolerance on the estimated remaining gain of J, in nats per observation.
    pub tolerance: f64,
}

impl Default for ExpectationMaximization {
    fn default() -> Self {
        Self { max_iterations: 2_000, tolerance: 1e-7 }
    }
}

impl ExpectationMaximization {
    /// Maximises `objective` over θ and Q, starting from the given ones.
    ///
    /// # Errors
    /// Errors of the E-step, the M-step and the objective.
    pub fn fit<'a, T, M, I, J>(
        &self,
        objective: &J,
        model: M,
        inference: I,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<(M, I)>>
    where
        T: Real,
        M: MStep<T, I::Posterior>,
        I: EStep<T, M>,
        J: Objective<T, M, I::Posterior>,
    {
        let x = x.into_observations()?;
        self.fit_with_observer(objective, model, inference, x, rng, &mut ())
    }

    /// [`Self::fit`] with an observer.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_with_observer<'a, T, M, I, J>(
        &self,
        objective: &J,
        model: M,
        inference: I,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<(M, I)>>
    where
        T: Real,
        M: MStep<T, I::Posterior>,
        I: EStep<T, M>,
        J: Objective<T, M, I::Posterior>,
    {
        let x = x.into_observations()?;
        self.fit_with_gain_test(objective, model, inference, x, rng, observer, |_, _| Ok(0.0))
    }

    /// [`fit`](Self::fit) with an additional convergence test: `remaining(model, J)` returns a gain
    /// per observation that is known to be possible.
    ///
    /// At a convergence rate of 1 − 10⁻⁹ any extrapolation reports convergence. As long as
    /// `remaining` finds a better model the fit goes on, and ends as [`StopReason::IterationLimit`]
    /// if it never gets there.
    #[allow(clippy::too_many_arguments)] // the parts of a fit, each of them needed
    pub(crate) fn fit_with_gain_test<T, M, I, J>(
        &self,
        objective: &J,
        mut model: M,
        mut inference: I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
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
            // J is evaluated between the E-step and the M-step, where θ and Q belong together;
            // every exit of the loop is here, after an E-step.
            inference.maximize(&model, x)?;
            let q = inference.infer(&model, x)?;
            let value = objective.evaluate(&model, &q, x, rng)?.as_f64() / observations;
            trace.push(value);
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            if rule.update(value) {
                // The extrapolation is a rough estimate: a known gain overrules it only above ten
                // tolerances.
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
        Ok(Fitted::new((model, inference), trace, stop))
    }
}

//! The Rényi bound.

use super::importance_weighted::{ImportanceWeighted, ImportanceWorkspace, normalize};
use super::{DifferentiableObjective, Gradient, Objective};
use crate::inference::DifferentiableInference;
use crate::likelihood::Likelihood;
use crate::map::DifferentiableMap;
use crate::model::{GenerativeModel, ProbabilisticModel};
use crate::posterior::GaussianPosterior;
use crate::{Error, Observations, Real, Result};
use rand::Rng;

/// The variational Rényi bound of order α, estimated with K samples z_s of q.
///
/// ```math
/// J_α = \sum_i \frac{1}{1-α}\ln E_{q_i} w_i(z)^{1-α} ≈ \sum_i \frac{1}{1-α}\ln\frac1K\sum_s
/// w_{is}^{1-α}, \qquad w = \frac{p(x|z)\,π(z)}{q(z)}
/// ```
///
/// ([Li & Turner 2016](https://arxiv.org/abs/1602.02311), equations 6 and 9). The exact J_α is log p
/// less the Rényi divergence of order α from q to the posterior, and falls as α rises. α = 1 is the
/// evidence lower bound (ELBO); α = 0 with K samples is the [importance-weighted
/// bound](ImportanceWeighted) on the same samples. The estimate is a lower bound on J_α in
/// expectation for α < 1, and an upper bound for α > 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Renyi {
    order: f64,
    samples: usize,
}

impl Renyi {
    /// The bound of order α with K = `samples` samples for each observation (at least 1).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an order that is negative or not finite.
    pub fn new(order: f64, samples: usize) -> Result<Self> {
        if !(order >= 0.0 && order.is_finite()) {
            return Err(Error::InvalidParameter {
                name: "the order of the Rényi bound",
                value: order,
                must: "at least 0 and finite",
            });
        }
        Ok(Self { order, samples: samples.max(1) })
    }

    fn weighted(&self) -> ImportanceWeighted {
        ImportanceWeighted::new(self.samples)
    }
}

impl<T: Real, M, Q> Objective<T, M, Q> for Renyi
where
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
{
    fn evaluate(&self, model: &M, q: &Q, x: Observations<'_, T>, rng: &mut dyn Rng) -> Result<T> {
        let mut log_weights = self.weighted().log_weights(model, q, x, rng)?;
        Ok(normalize(&mut log_weights, self.order).sum() * x.scale())
    }
}

impl<T, D, L, I> DifferentiableObjective<T, GenerativeModel<D, L>, I> for Renyi
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    I: DifferentiableInference<T>,
{
    type Workspace = ImportanceWorkspace<T, I::Tape, D::Tape>;

    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, L>,
        inference: &I,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<T>,
    ) -> Result<T> {
        self.weighted()
            .bound_and_gradient(self.order, model, inference, x, rng, workspace, gradient)
    }
}

//! Inference by the exact posterior.

use super::{EStep, Inference, OutOfSample};
use crate::model::ExactPosterior;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// The exact posterior q(z_i) = p(z_i|x_i) in closed form: the optimum of the E-step over all
/// distributions. It has no parameters of its own and always follows the current model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exact;

impl<T: Real, M: ExactPosterior<T>> Inference<T, M> for Exact {
    type Posterior = M::Posterior;

    fn infer(&self, model: &M, x: Observations<'_, T>) -> Result<M::Posterior> {
        model.posterior(x)
    }
}

impl<T: Real, M: ExactPosterior<T>> OutOfSample<T, M> for Exact {
    fn codes_of_unvalidated(&self, model: &M, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        model.codes_of_unvalidated(values)
    }
}

impl<T: Real, M: ExactPosterior<T>> EStep<T, M> for Exact {
    fn maximize(&mut self, _model: &M, _x: Observations<'_, T>) -> Result<()> {
        // `infer` evaluates the posterior of the current model, so that there is nothing to update.
        Ok(())
    }
}

//! Inference with local variational parameters: one q_i for each observation, as in variational EM.

use super::{DifferentiableInference, EStep, Inference};
use crate::data::expect;
use crate::map::Parameters;
use crate::model::ExactPosterior;
use crate::posterior::{Posterior, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::DMatrix;

/// Local variational inference q(z_i) = q(z|φ_i), with one stored φ_i for each observation of a
/// fit.
///
/// It is an [`Inference`], but not an encoder: for an observation outside the fit there is no φ.
#[derive(Debug, Clone, PartialEq)]
pub struct PerPoint<Q> {
    /// The posterior q_i of each observation.
    pub posterior: Q,
}

impl<Q> PerPoint<Q> {
    /// Local variational inference from given q_i.
    pub fn new(posterior: Q) -> Self {
        Self { posterior }
    }

    /// Local variational inference for n observations, with every q_i initialised at the prior N(0,
    /// I).
    pub fn at_prior<T: Real>(latent_dim: usize, n: usize) -> Self
    where
        Q: PosteriorFamily<T>,
    {
        Self { posterior: Q::at_prior(latent_dim, n) }
    }
}

impl<T: Real, M, Q: PosteriorFamily<T>> Inference<T, M> for PerPoint<Q> {
    type Posterior = Q;

    fn infer(&self, _model: &M, x: Observations<'_, T>) -> Result<Q> {
        expect("observations of the table", self.posterior.len(), x.len())?;
        Ok(self.posterior.clone())
    }

    fn fixed_latent_dim(&self) -> Option<usize> {
        Some(self.posterior.latent_dim())
    }
}

/// The E-step under a linear-Gaussian model, in closed form: the q_i with the exact mean and the
/// covariance of the KL projection.
impl<T: Real, M: ExactPosterior<T>, Q: PosteriorFamily<T>> EStep<T, M> for PerPoint<Q> {
    fn maximize(&mut self, model: &M, x: Observations<'_, T>) -> Result<()> {
        // A Gaussian family contains the exact mean, and KL(q‖p) is minimal there for any
        // covariance.
        let exact = model.posterior(x)?;
        self.posterior =
            Q::nearest(exact.mean().into_owned(), model.posterior_precision_root()?.as_view())?;
        Ok(())
    }
}

impl<T: Real, Q: PosteriorFamily<T>> Parameters<T> for PerPoint<Q> {
    fn parameters(&self) -> &[T] {
        self.posterior.parameters().as_slice()
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        self.posterior.parameters_mut().as_mut_slice()
    }
}

impl<T: Real, Q: PosteriorFamily<T>> DifferentiableInference<T> for PerPoint<Q> {
    type Family = Q;
    type Tape = ();

    fn latent_dim(&self) -> usize {
        self.posterior.latent_dim()
    }

    fn forward(&self, x: Observations<'_, T>, _tape: &mut (), mut phi: DMatrix<T>) -> Result<Q> {
        expect("observations of the table", self.posterior.len(), x.len())?;
        // A copy, because q must own its φ; the buffer comes from the caller.
        let table = self.posterior.parameters();
        crate::linalg::reshape(&mut phi, table.nrows(), table.ncols());
        phi.copy_from(table);
        Q::from_parameters(self.posterior.latent_dim(), phi)
    }

    fn backward(
        &self,
        _x: Observations<'_, T>,
        _tape: &mut (),
        d_phi: &DMatrix<T>,
        d_parameters: &mut [T],
    ) {
        // The φ_i are the free parameters themselves: the backward pass is the identity.
        d_parameters.copy_from_slice(d_phi.as_slice());
    }
}

//! Inference: where the approximate posterior q(z_i) of each observation comes from.
//!
//! In the order of the progression: [`Exact`] (the exact posterior), [`PerPoint`] (local
//! variational parameters, one row of a table for each observation of the fit) and [`Amortized`]
//! (an encoder, a map from x to the parameters of q). The first and the last serve observations
//! outside the fit as well; only they implement [`OutOfSample`].

mod amortized;
mod exact;
mod per_point;

pub use amortized::{Amortized, Encoder, GaussianEncoder, PointEncoder};
pub use exact::Exact;
pub use per_point::PerPoint;

use crate::map::Parameters;
use crate::posterior::{Posterior, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// The inference slot of a model: the posteriors q(z_i) of the observations of a fit, under a
/// generative model of type `M`.
pub trait Inference<T: Real, M> {
    /// The type of the posteriors.
    type Posterior: Posterior<T>;

    /// The posterior q(z_i) of each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when x does not fit the model,
    /// or is not what a table was fitted to.
    fn infer(&self, model: &M, x: Observations<'_, T>) -> Result<Self::Posterior>;

    /// The latent dimension k that this inference is made for; `None` if it follows the model.
    fn fixed_latent_dim(&self) -> Option<usize> {
        None
    }

    /// The number d of variables that this inference is made for; `None` if it follows the model.
    fn fixed_data_dim(&self) -> Option<usize> {
        None
    }
}

/// Inference for any observations of the right dimension, of the fit or new.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot encode a new x: a table of φ_i has one row for each \
               observation of the fit and says nothing of any other",
    label = "this inference knows only the observations it was fitted to",
    note = "use the exact posterior (`Exact`) or an encoder (`Amortized`)"
)]
pub trait OutOfSample<T: Real, M>: Inference<T, M> {
    /// The means of q for values that are not validated yet; override it where validation can be
    /// fused into the pass over them.
    #[doc(hidden)]
    fn codes_of_unvalidated(&self, model: &M, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        Ok(self.infer(model, Observations::new(values)?)?.into_mean())
    }
}

/// The E-step of (variational) EM: inference whose optimal q under a given model has a closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form E-step under `{M}`",
    note = "only a linear decoder with Gaussian noise has one; for a deep decoder \
            ascend the gradient: `fit::LocalRefinement`"
)]
pub trait EStep<T: Real, M>: Inference<T, M> {
    /// Replaces Q by the maximiser of the ELBO for the given θ.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when x does not fit the model.
    fn maximize(&mut self, model: &M, x: Observations<'_, T>) -> Result<()>;
}

/// Inference with free parameters φ and a gradient: an encoder, or a table of local parameters.
pub trait DifferentiableInference<T: Real>: Parameters<T> {
    /// The posterior family.
    type Family: PosteriorFamily<T>;
    /// The intermediate values that `forward` keeps for `backward`.
    type Tape: Default + Clone + std::fmt::Debug;

    /// The latent dimension k.
    fn latent_dim(&self) -> usize;

    /// The posterior q_i of each observation, written into the memory of `phi`.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn forward(
        &self,
        x: Observations<'_, T>,
        tape: &mut Self::Tape,
        phi: DMatrix<T>,
    ) -> Result<Self::Family>;

    /// Back-propagates ∂/∂φ_i (a column an observation) to the free parameters (overwritten).
    fn backward(
        &self,
        x: Observations<'_, T>,
        tape: &mut Self::Tape,
        d_phi: &DMatrix<T>,
        d_parameters: &mut [T],
    );
}

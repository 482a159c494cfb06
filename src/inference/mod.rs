//! Where q comes from: the exact posterior, a table with one q_i for each observation, or a map of
//! x.
//!
//! In the order of the progression: [`Exact`], [`PerPoint`], [`Amortized`]. Only the first and the
//! last can say anything of an observation that was not there when the model was fitted; the
//! compiler knows ([`OutOfSample`]).

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

/// A way to get q(z_i) for the observations of a fit, under a model of type `M`.
pub trait Inference<T: Real, M> {
    /// What q is.
    type Posterior: Posterior<T>;

    /// q(z_i) for each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when x does not fit the model, or is
    /// not what a table was made for.
    fn infer(&self, model: &M, x: Observations<'_, T>) -> Result<Self::Posterior>;
}

/// An inference that serves any x of the right dimension, seen before or not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot encode a new x: a table of φ_i has one row for each observation of the fit and says nothing of any other",
    label = "this inference knows only the observations it was fitted to",
    note = "use the exact posterior (`Exact`) or an encoder (`Amortized`)"
)]
pub trait OutOfSample<T: Real, M>: Inference<T, M> {
    /// The means of q for values that nobody has checked: override it where the check joins the
    /// pass over them.
    #[doc(hidden)]
    fn codes_of_unvalidated(&self, model: &M, values: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
        Ok(self.infer(model, Observations::new(values)?)?.into_mean())
    }
}

/// An inference whose best q under a given model is in closed form: the E-step.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form E-step under `{M}`",
    note = "only a linear decoder with Gaussian noise has one; for a deep decoder ascend the gradient: `fit::LocalRefinement`"
)]
pub trait EStep<T: Real, M>: Inference<T, M> {
    /// Moves Q to the maximiser of J(θ, Q) for the given θ.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when x does not fit the model.
    fn maximize(&mut self, model: &M, x: Observations<'_, T>) -> Result<()>;
}

/// An inference with free parameters φ that a gradient can move: an encoder, or the table itself.
pub trait DifferentiableInference<T: Real>: Parameters<T> {
    /// The posterior family.
    type Family: PosteriorFamily<T>;
    /// What `forward` leaves for `backward`.
    type Tape: Default + Clone + std::fmt::Debug;

    /// k.
    fn latent_dim(&self) -> usize;

    /// q_i for each observation, in the memory of `phi`.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    fn forward(
        &self,
        x: Observations<'_, T>,
        tape: &mut Self::Tape,
        phi: DMatrix<T>,
    ) -> Result<Self::Family>;

    /// Carries ∂/∂φ_i (a column an observation) back to the free parameters (overwritten).
    fn backward(
        &self,
        x: Observations<'_, T>,
        tape: &mut Self::Tape,
        d_phi: &DMatrix<T>,
        d_parameters: &mut [T],
    );
}

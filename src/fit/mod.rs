//! How θ and Q are found, when to stop, and what a fit returns.
//!
//! | | fits |
//! |---|---|
//! | `closed_form` | the linear autoencoder and PPCA by their formulas |
//! | `autoencoder_descent`, `regularized_descent` | the linear autoencoder by its gradient, without a weight on the maps and with one |
//! | `alternate` | EM and variational EM: plain, parameter-expanded, over spans, by gradient |
//! | `joint_quasi_newton` | amortised inference of a linear-Gaussian model |
//! | `stochastic_gradient` | whatever has a gradient, by mini-batches |
//! | `refine` | q_i of single observations, θ held |
//! | `profile_likelihood`, `incomplete`, `streaming` | factor analysis, data with holes, data read in blocks |
//!
//! Not converging is a reason to [stop](Stop), returned with the model and its [trace](Trace),
//! never an error that loses them.

pub(crate) mod autoencoder_descent;
pub(crate) mod closed_form;
pub(crate) mod em;
mod joint_quasi_newton;
mod local_refinement;
mod missing_data;
mod observer;
pub(crate) mod profile_likelihood;
mod quasi_newton;
mod regularized_descent;
mod stochastic_gradient;
mod stop;
mod streaming;

pub use autoencoder_descent::AutoencoderDescent;
pub use closed_form::{Solved, SolverReport};
pub use em::{ExpectationMaximization, GradientVariationalEm, PxEm, SubspaceFamily, SubspaceVem};
pub use joint_quasi_newton::{AffineScaleHead, JointQuasiNewton};
pub use local_refinement::LocalRefinement;
pub use missing_data::{EmAcceleration, MissingDataEm};
pub(crate) use missing_data::{MissingDataRequest, Observed, WeightedEm, check_weights};
pub use observer::{Answer, Observer};
pub use profile_likelihood::ProfileLikelihood;
pub use stochastic_gradient::{
    Adam, AdamSettings, LearningRateSchedule, MAX_REJECTIONS, PLATEAU_FACTOR, Preconditioner,
    StochasticGradient,
};
pub use stop::{RemainingGain, StopReason, Trace};
pub use streaming::OnlineEm;

/// What an iterative fit returns: the model, how it went, and why it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted<S> {
    /// The fitted step: θ and Q, which belong together.
    pub model: S,
    /// J, iteration by iteration.
    pub trace: Trace,
    /// Why the fit ended.
    pub stop: StopReason,
}

impl<S> Fitted<S> {
    /// The number of iterations made.
    pub fn iterations(&self) -> usize {
        self.trace.len().saturating_sub(1)
    }

    /// The same fit with the model replaced by what `f` makes of it.
    pub fn map<U>(self, f: impl FnOnce(S) -> U) -> Fitted<U> {
        Fitted { model: f(self.model), trace: self.trace, stop: self.stop }
    }
}

impl<S> std::ops::Deref for Fitted<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.model
    }
}

//! How θ and Q are found, when to stop, and what a fit returns.
//!
//! | | fits |
//! |---|---|
//! | `closed_form` | the linear autoencoder and PPCA by their formulas |
//! | `factor_descent`, `weighted_descent` | the linear autoencoder by its gradient, without a weight on the maps and with one |
//! | `alternate` | EM and variational EM: plain, parameter-expanded, over spans, by gradient |
//! | `joint_ascent` | amortised inference of a linear-Gaussian model |
//! | `stochastic_gradient` | whatever has a gradient, by mini-batches |
//! | `refine` | q_i of single observations, θ held |
//! | `profile_ascent`, `incomplete`, `streaming` | factor analysis, data with holes, data read in blocks |
//!
//! Not converging is a reason to [stop](Stop), returned with the model and its [trace](Trace), never an error that loses them.

pub(crate) mod alternate;
pub(crate) mod closed_form;
pub(crate) mod factor_descent;
mod incomplete;
mod joint_ascent;
mod observer;
pub(crate) mod profile_ascent;
mod quasi_newton;
mod refine;
mod stochastic_gradient;
mod stop;
mod streaming;
mod weighted_descent;

pub use alternate::{Alternate, GradientVariationalEm, ParameterExpanded, SpanAscent, SpanFamily};
pub use closed_form::{Route, Solved};
pub use factor_descent::FactorDescent;
pub use incomplete::{IncompleteEm, Scheme};
pub(crate) use incomplete::{IncompleteRequest, Observed, WeightedEm, check_weights};
pub use joint_ascent::{AffineHead, JointAscent};
pub use observer::{Answer, Observer};
pub use profile_ascent::ProfileAscent;
pub use refine::Refine;
pub use stochastic_gradient::{Adam, AdamSettings, Decay, MAX_REJECTIONS, Preconditioner, RATE_CUT, StochasticGradient};
pub use stop::{RemainingGain, Stop, Trace};
pub use streaming::OnlineEm;

/// What an iterative fit returns: the model, how it went, and why it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted<S> {
    /// The fitted step: θ and Q, which belong together.
    pub model: S,
    /// J, iteration by iteration.
    pub trace: Trace,
    /// Why the fit ended.
    pub stop: Stop,
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

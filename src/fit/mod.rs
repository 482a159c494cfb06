//! How θ and Q are found: closed form, alternation, quasi-Newton, stochastic gradient; when to stop; and what a fit returns.
//!
//! Not converging is a reason to [stop](Stop), returned with the model and its [trace](Trace), never an error that loses them.

mod adam;
pub(crate) mod aligned;
mod alternate;
pub(crate) mod closed_form;
pub(crate) mod factor_descent;
mod gradient_em;
mod incomplete;
mod joint_ascent;
mod observer;
mod online;
mod out_of_core;
pub(crate) mod parameter_expanded;
pub(crate) mod profile_ascent;
mod quasi_newton;
mod refine;
mod schedule;
pub(crate) mod span_ascent;
mod stochastic_gradient;
mod stop;
mod training;

pub use adam::{Adam, AdamSettings};
pub use alternate::Alternate;
pub use closed_form::{Route, Solved};
pub use factor_descent::FactorDescent;
pub use gradient_em::GradientVariationalEm;
pub(crate) use incomplete::IncompleteRequest;
pub use incomplete::{IncompleteEm, Scheme};
pub use joint_ascent::{AffineHead, JointAscent};
pub use observer::{Answer, Observer};
pub use online::OnlineEm;
pub use parameter_expanded::ParameterExpanded;
pub use profile_ascent::ProfileAscent;
pub use refine::Refine;
pub use schedule::Decay;
pub use span_ascent::{SpanAscent, SpanFamily};
pub use stochastic_gradient::{MAX_REJECTIONS, Preconditioner, RATE_CUT, StochasticGradient};
pub use stop::{RemainingGain, Stop, Trace};

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

//! Fitting algorithms, stopping, and what a fit returns.
//!
//! | algorithm | fits |
//! |---|---|
//! | closed form, by a [`Solver`] | the linear autoencoder and probabilistic PCA |
//! | [`AutoencoderDescent`] | linear autoencoder by gradient, with or without L2 regularisation |
//! | [`ExpectationMaximization`], [`PxEm`] | EM and variational EM: plain and parameter-expanded |
//! | [`SubspaceVem`], [`GradientVariationalEm`] | variational EM: over subspaces, and by gradient |
//! | [`JointQuasiNewton`] | amortised inference of a linear-Gaussian model |
//! | [`ProfileLikelihood`] | factor analysis |
//! | [`MissingDataEm`] | probabilistic PCA and factor analysis of incomplete data |
//! | [`OnlineEm`] | probabilistic PCA of a stream |
//! | [`StochasticGradient`] | whatever has a gradient, by mini-batches |
//! | [`LocalRefinement`] | the q_i of single observations for a fixed model |
//!
//! A fit that did not converge returns its model, its [`Trace`] and the [`StopReason`]; it is not
//! an error.

pub(crate) mod autoencoder_descent;
pub(crate) mod closed_form;
pub(crate) mod em;
mod form;
pub(crate) mod generalized;
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

#[doc(hidden)] // a field of the report
pub use crate::linalg::PcaAlgorithm;
pub use crate::linalg::Solver;
pub use autoencoder_descent::AutoencoderDescent;
pub use closed_form::SolverReport;
#[doc(hidden)] // bound of the fits of `VariationalPpca`: the families of this crate have it
pub use em::SubspaceFamily;
pub use em::{ExpectationMaximization, GradientVariationalEm, PxEm, SubspaceVem};
#[doc(hidden)] // bound of `fit`, of which the compiler reports the words
pub use form::Deterministic;
pub use form::FitData;
pub(crate) use form::unused_generator;
#[doc(hidden)] // bounds of the fits with linear predictors
pub use generalized::{PredictorFamily, PredictorForm};
#[doc(hidden)] // bound of the fits of `AmortizedPpca`: the families of this crate have it
pub use joint_quasi_newton::AffineScaleHead;
pub use joint_quasi_newton::JointQuasiNewton;
pub use local_refinement::LocalRefinement;
pub use missing_data::{EmAcceleration, MissingDataEm};
pub(crate) use missing_data::{MissingDataRequest, Observed, WeightedEm, check_weights};
pub use observer::{EpochProgress, Observer};
pub use profile_likelihood::ProfileLikelihood;
#[doc(hidden)] // listed in `advanced`
pub use stochastic_gradient::{Adam, AdamSettings, Preconditioner};
pub use stochastic_gradient::{Checkpoint, Checkpoints, FittedParts};
pub use stochastic_gradient::{KlWeight, LearningRateSchedule, StochasticGradient};
#[cfg(feature = "safetensors")]
pub(crate) use stochastic_gradient::{Origin, Progress};
#[doc(hidden)] // listed in `advanced`
pub use stop::RemainingGain;
pub use stop::{StopReason, Trace};
pub use streaming::OnlineEm;

/// The result of a fit: the model, the objective over the iterations, and why the fit ended.
///
/// ```
/// use elbo::Ppca;
/// let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
/// let fit = Ppca::fit(1, &x)?;
/// assert_eq!(fit.stop.name(), "closed_form");
/// println!("{fit}"); // the model, its variances, and why the fit ended
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fitted<M> {
    /// The fitted model: θ and Q, which belong together.
    pub model: M,
    /// The objective per observation, iteration by iteration; empty for a closed form.
    pub trace: Trace,
    /// Why the fit ended.
    pub stop: StopReason,
    /// The algorithm of a closed form, with its accuracy; `None` for an iterative fit.
    pub solver: Option<SolverReport>,
}

impl<M> Fitted<M> {
    /// An iterative fit from its parts.
    pub fn new(model: M, trace: Trace, stop: StopReason) -> Self {
        Self { model, trace, stop, solver: None }
    }

    /// A closed form.
    pub(crate) fn closed_form(model: M, solver: SolverReport) -> Self {
        let (trace, stop) = (Trace::new(), StopReason::ClosedForm);
        Self { model, trace, stop, solver: Some(solver) }
    }

    /// The number of iterations.
    pub fn iterations(&self) -> usize {
        self.trace.len().saturating_sub(1)
    }

    /// Replaces the model by a function of it.
    pub fn map<U>(self, f: impl FnOnce(M) -> U) -> Fitted<U> {
        let Self { model, trace, stop, solver } = self;
        Fitted { model: f(model), trace, stop, solver }
    }

    /// Replaces the model by a fallible function of it.
    ///
    /// # Errors
    /// Those of `f`.
    pub(crate) fn try_map<U>(
        self,
        f: impl FnOnce(M) -> crate::Result<U>,
    ) -> crate::Result<Fitted<U>> {
        let Self { model, trace, stop, solver } = self;
        Ok(Fitted { model: f(model)?, trace, stop, solver })
    }
}

impl<M: std::fmt::Display> std::fmt::Display for Fitted<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nfit: {}", self.model, self.stop)?;
        if let Some(last) = self.trace.last() {
            write!(
                f,
                " after {} iterations, objective {last:.6} per observation",
                self.iterations()
            )?;
        }
        if let Some(report) = &self.solver {
            write!(f, ", by {:?}", report.solver)?;
        }
        Ok(())
    }
}

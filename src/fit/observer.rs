//! Observers of a fit, which can stop it.

use std::ops::ControlFlow;

/// Observer of a fit: it is called after each iteration or epoch, and can stop the fit.
///
/// `()` does nothing. A closure of the iteration and of the objective per observation that returns
/// `()` or [`ControlFlow`] is an observer.
///
/// ```
/// use elbo::{Ppca, fit::{PxEm, StopReason}};
/// use rand::{SeedableRng, rngs::StdRng};
/// use std::ops::ControlFlow;
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0; 2.1, 3.9, 6.2, 7.8, 10.1, 11.9; 0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let mut seen = Vec::new();
/// let mut observer = |iteration: usize, value: f64| {
///     seen.push(value);
///     if iteration < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
/// };
/// let builder = Ppca::builder(1).fitter(PxEm::default());
/// let fit = builder.fit_with_observer(&x, &mut StdRng::seed_from_u64(0), &mut observer)?;
/// assert_eq!((fit.stop, seen.len()), (StopReason::Interrupted, 2));
/// # Ok::<(), elbo::Error>(())
/// ```
pub trait Observer {
    /// Takes the iteration or epoch that ended, counted from 1, and the objective per observation.
    fn observe(&mut self, iteration: usize, value: f64) -> ControlFlow<()>;

    /// Takes the progress of a gradient fit at the end of an epoch; by default it passes epoch and J
    /// to [`observe`](Self::observe).
    fn observe_epoch(&mut self, progress: &EpochProgress) -> ControlFlow<()> {
        self.observe(progress.epoch, progress.objective)
    }

    /// Whether the observer does nothing, so that random restarts may run in parallel.
    #[doc(hidden)]
    fn is_silent(&self) -> bool {
        false
    }
}

/// Progress of a gradient fit at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EpochProgress {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// J per observation, averaged over the batches of the epoch while they were trained on.
    pub objective: f64,
    /// J per observation on the held-out observations, if there are any.
    pub held_out: Option<f64>,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

impl Observer for () {
    fn observe(&mut self, _iteration: usize, _value: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn is_silent(&self) -> bool {
        true
    }
}

impl<F, A> Observer for F
where
    F: FnMut(usize, f64) -> A,
    A: IntoControlFlow,
{
    fn observe(&mut self, iteration: usize, value: f64) -> ControlFlow<()> {
        self(iteration, value).into_control_flow()
    }
}

/// Return type of an observing closure: `()` or [`ControlFlow`].
pub trait IntoControlFlow {
    /// `()` continues the fit.
    fn into_control_flow(self) -> ControlFlow<()>;
}

impl IntoControlFlow for () {
    fn into_control_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl IntoControlFlow for ControlFlow<()> {
    fn into_control_flow(self) -> ControlFlow<()> {
        self
    }
}

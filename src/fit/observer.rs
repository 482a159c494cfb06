//! Who watches a fit, and may end it.

use std::ops::ControlFlow;

/// Is told how a fit goes, after each iteration or epoch, and may ask it to stop.
///
/// `()` is silent; a closure of the iteration and of J per observation is an observer, whether it
/// answers or not.
///
/// ```
/// use elbo::fit::Observer;
/// use std::ops::ControlFlow;
/// let mut seen = Vec::new();
/// let mut watch = |iteration: usize, value: f64| seen.push((iteration, value));
/// assert_eq!(watch.observe(1, -2.5), ControlFlow::Continue(()));
/// let mut impatient = |iteration: usize, _: f64| {
///     if iteration < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
/// };
/// assert_eq!(impatient.observe(3, -2.0), ControlFlow::Break(()));
/// assert_eq!(seen, [(1, -2.5)]);
/// ```
pub trait Observer {
    /// Iteration or epoch `iteration`, counted from 1, is over, and J per observation is `value`.
    fn observe(&mut self, iteration: usize, value: f64) -> ControlFlow<()>;
}

impl Observer for () {
    fn observe(&mut self, _iteration: usize, _value: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F, A> Observer for F
where
    F: FnMut(usize, f64) -> A,
    A: Answer,
{
    fn observe(&mut self, iteration: usize, value: f64) -> ControlFlow<()> {
        self(iteration, value).into_control_flow()
    }
}

/// What a closure that observes may return: nothing, or whether to go on.
pub trait Answer {
    /// Nothing means to go on.
    fn into_control_flow(self) -> ControlFlow<()>;
}

impl Answer for () {
    fn into_control_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Answer for ControlFlow<()> {
    fn into_control_flow(self) -> ControlFlow<()> {
        self
    }
}

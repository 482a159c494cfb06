//! Stopping: the reason why a fit ended, the trace of its objective, and the convergence test.

/// Reason why a fit ended.
// Saved by name or, in a binary format, by position: a new reason is added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StopReason {
    /// The optimum was computed in closed form, without iterations.
    ClosedForm,
    /// The remaining gain of J is estimated to be below the tolerance.
    Converged,
    /// The maximum number of iterations was reached before convergence.
    IterationLimit,
    /// Early stopping: J on the held-out observations stopped rising. The best parameters are
    /// returned.
    EarlyStop,
    /// No step improved on the initialisation, which is returned: neither J of all observations nor,
    /// beyond its standard error, J of the held-out ones would have been higher.
    NoImprovement,
    /// The noise variance reached its declared lower bound (floor), or the squared error of a
    /// linear autoencoder fell below the rounding error of the data.
    Floor,
    /// J or its gradient was not finite, or an EM step lowered J by more than rounding. The last
    /// parameters before that are returned.
    Diverged,
    /// An observer ended the fit.
    Interrupted,
}

impl StopReason {
    /// Name of the reason in `snake_case`: `closed_form`, `converged`, `iteration_limit`,
    /// `early_stop`, `no_improvement`, `floor`, `diverged` or `interrupted`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedForm => "closed_form",
            Self::Converged => "converged",
            Self::IterationLimit => "iteration_limit",
            Self::EarlyStop => "early_stop",
            Self::NoImprovement => "no_improvement",
            Self::Floor => "floor",
            Self::Diverged => "diverged",
            Self::Interrupted => "interrupted",
        }
    }
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Trace of a fit: the objective J per observation, in double precision, at the initialisation and
/// after each iteration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    values: Vec<f64>,
    held_out: Vec<f64>,
    starts: Vec<f64>,
    rejected: usize,
    reinitialized: usize,
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a value of J per observation.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// J per observation at the initialisation, then after each iteration.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Last value of J per observation, or `None` for an empty trace. The fits of this crate never
    /// record NaN.
    pub fn last(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// J per observation on the held-out observations, at the initialisation and after each epoch;
    /// empty if no observations were held out. It is −∞ where J overflowed, as for one observation
    /// whose q the encoder puts far from anything that it was trained on.
    pub fn held_out(&self) -> &[f64] {
        &self.held_out
    }

    /// Final J per observation of each initialisation, in the order in which they were run; empty
    /// for a fit without random restarts. The trace itself is that of the best initialisation.
    ///
    /// ```
    /// assert!(elbo::fit::Trace::new().starts().is_empty());
    /// ```
    pub fn starts(&self) -> &[f64] {
        &self.starts
    }

    /// The number of mixture components that had lost their observations and were re-initialised;
    /// the objective may fall there, and nowhere else.
    pub fn reinitialized(&self) -> usize {
        self.reinitialized
    }

    pub(crate) fn set_reinitialized(&mut self, count: usize) {
        self.reinitialized = count;
    }

    pub(crate) fn set_starts(&mut self, starts: Vec<f64>) {
        self.starts = starts;
    }

    /// Number of rejected steps. A gradient fit rejects a step at which J or its gradient is not
    /// finite: it returns to the last good parameters and halves the learning rate.
    /// [`MissingDataEm`](super::MissingDataEm) rejects an extrapolation that lowers J, and takes
    /// the plain EM step instead.
    pub fn rejected_steps(&self) -> usize {
        self.rejected
    }

    pub(crate) fn push_held_out(&mut self, value: f64) {
        self.held_out.push(value);
    }

    pub(crate) fn reject(&mut self) {
        self.rejected += 1;
    }

    /// Replaces the last entry by J at the parameters that are returned.
    pub(crate) fn replace_last(&mut self, value: f64) {
        if let Some(last) = self.values.last_mut() {
            *last = value;
        }
    }

    pub(crate) fn reserve(&mut self, entries: usize) {
        self.values.reserve(entries);
        self.held_out.reserve(entries);
    }

    /// Calls the observer with the last iteration, and returns whether it stops the fit.
    pub(crate) fn interrupted(&self, observer: &mut dyn super::Observer) -> bool {
        match (self.len(), self.last()) {
            (2.., Some(value)) => observer.observe(self.len() - 1, value).is_break(),
            _ => false,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the trace has no entry.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Convergence test: estimates the remaining gain of J by Aitken extrapolation and compares it with
/// a tolerance.
///
/// With d_t the last gain and r = d_t/d_{t−1}, the gains of a linearly convergent iteration form a
/// geometric series, whose remainder is d_t r/(1−r). The test must hold for several iterations in a
/// row, because progress near a saddle is slow as well. It is never relative to |J|, which depends
/// on the units of x and may be 0.
#[derive(Debug, Clone)]
pub struct RemainingGain {
    tolerance: f64,
    previous: Option<f64>,
    previous_gain: Option<f64>,
    held: usize,
}

impl RemainingGain {
    /// Number of consecutive iterations for which the test must hold.
    // One small gain may be accidental: the first gains near a saddle shrink before they grow.
    const IN_A_ROW: usize = 3;

    /// Creates a test for a remaining gain below `tolerance` (for J: nats per observation).
    pub fn below(tolerance: f64) -> Self {
        Self { tolerance, previous: None, previous_gain: None, held: 0 }
    }

    /// Records the next value; returns `true` once the remaining gain is small enough.
    pub fn update(&mut self, value: f64) -> bool {
        let gain = self.previous.map(|previous| value - previous);
        if let (Some(gain), Some(before)) = (gain, self.previous_gain) {
            // A gain below the rounding error of J counts as converged. J is a sum over many terms,
            // so that its own error is allowed a multiple of ε|J|; max(1) covers a J near 0.
            let rounding = 64.0 * f64::EPSILON * value.abs().max(1.0);
            let ratio = if before > 0.0 { gain / before } else { 0.0 };
            // A ratio of 1 or more means that the gains are not shrinking: there is no finite
            // estimate.
            let remaining = if ratio < 1.0 {
                gain.max(0.0) * ratio.max(0.0) / (1.0 - ratio)
            } else {
                f64::INFINITY
            };
            // The gain itself must be near the tolerance too: after a single accidental drop in the
            // gains the ratio is small and the extrapolated remainder far too optimistic.
            let small =
                gain <= rounding || (remaining < self.tolerance && gain < 10.0 * self.tolerance);
            self.held = if small { self.held + 1 } else { 0 };
        }
        self.previous_gain = gain;
        self.previous = Some(value);
        self.held >= Self::IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_geometric_tail_is_not_taken_for_the_end() {
        let mut rule = RemainingGain::below(1e-7);
        // The gains shrink by a factor of 0.999: when the gain is 1e-7, the remaining gain is 1e-4.
        let mut value = 0.0;
        let stopped = (0..100_000).find(|&t| {
            value -= 0.0;
            let j = -0.999f64.powi(t);
            value = j;
            rule.update(j)
        });
        let t = stopped.expect("it ends");
        assert!(0.999f64.powi(t) < 1.1e-7, "stopped at {t}");
    }

    #[test]
    fn values_that_no_longer_change_end_it() {
        let mut rule = RemainingGain::below(1e-7);
        assert_eq!((0..10).position(|_| rule.update(-3.0)), Some(4));
    }
}

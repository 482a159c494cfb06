//! When a fit ends, and the trace that it leaves.

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The optimum is a formula.
    ClosedForm,
    /// The gain that remains is estimated to be below the tolerance.
    Converged,
    /// The bound on the iterations was reached first.
    IterationLimit,
    /// Held-out J no longer rose; the best θ was kept.
    EarlyStop,
    /// The noise variance reached its declared floor.
    Floor,
    /// A step led out of the finite numbers; the last good θ was kept.
    Diverged,
    /// An observer asked for it.
    Interrupted,
}

impl StopReason {
    /// The reason in `snake_case`: `closed_form`, `converged`, `iteration_limit`, `early_stop`,
    /// `floor`, `diverged` or `interrupted`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClosedForm => "closed_form",
            Self::Converged => "converged",
            Self::IterationLimit => "iteration_limit",
            Self::EarlyStop => "early_stop",
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

/// J after each iteration, per observation and in double precision; the first entry is the start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    values: Vec<f64>,
    held_out: Vec<f64>,
    starts: Vec<f64>,
    rejected: usize,
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds J per observation.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// J per observation: the start, then each iteration.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The last J per observation; NaN is never among them, and an empty trace has none.
    pub fn last(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// J per observation on what was held out, after the start and after each epoch; empty where
    /// nothing was.
    pub fn held_out(&self) -> &[f64] {
        &self.held_out
    }

    /// Where J per observation ended from each start, in the order in which they were made, of a
    /// fit that was asked to start more than once; the trace itself is that of the best.
    ///
    /// ```
    /// assert!(elbo::fit::Trace::new().starts().is_empty());
    /// ```
    pub fn starts(&self) -> &[f64] {
        &self.starts
    }

    pub(crate) fn set_starts(&mut self, starts: Vec<f64>) {
        self.starts = starts;
    }

    /// How often the fit went back to its last good parameters, with half the step, because J or
    /// its gradient was not finite.
    pub fn rejected_steps(&self) -> usize {
        self.rejected
    }

    pub(crate) fn push_held_out(&mut self, value: f64) {
        self.held_out.push(value);
    }

    pub(crate) fn reject(&mut self) {
        self.rejected += 1;
    }

    /// Puts J at the parameters that are returned in the place of the last entry.
    pub(crate) fn replace_last(&mut self, value: f64) {
        if let Some(last) = self.values.last_mut() {
            *last = value;
        }
    }

    pub(crate) fn reserve(&mut self, entries: usize) {
        self.values.reserve(entries);
        self.held_out.reserve(entries);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// Estimates the gain of J that remains, by Aitken's extrapolation, and says when it is below a
/// tolerance.
///
/// With d_t the last gain and r = d_t/d_{t−1}, a geometric tail leaves d_t r/(1−r). The test must
/// hold several times running, because a start near a saddle is slow as well; it is never relative
/// to |J|, which depends on the units of x and may be 0.
#[derive(Debug, Clone)]
pub struct RemainingGain {
    tolerance: f64,
    previous: Option<f64>,
    previous_gain: Option<f64>,
    held: usize,
}

impl RemainingGain {
    /// How often the test must hold in a row.
    const IN_A_ROW: usize = 3;

    /// Says when less than `tolerance` remains (for J: nats per observation).
    pub fn below(tolerance: f64) -> Self {
        Self { tolerance, previous: None, previous_gain: None, held: 0 }
    }

    /// Takes the next value; true once the remaining gain is small enough.
    pub fn update(&mut self, value: f64) -> bool {
        let gain = self.previous.map(|previous| value - previous);
        if let (Some(gain), Some(before)) = (gain, self.previous_gain) {
            // A gain within the rounding of J itself says that nothing can be seen to remain.
            let rounding = 64.0 * f64::EPSILON * value.abs().max(1.0);
            let ratio = if before > 0.0 { gain / before } else { 0.0 };
            let remaining = if ratio < 1.0 {
                gain.max(0.0) * ratio.max(0.0) / (1.0 - ratio)
            } else {
                f64::INFINITY
            };
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
        // Gains shrink by 0.999: at a gain of 1e-7 there remain 1e-4.
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

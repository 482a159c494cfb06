//! Learning-rate schedules.

/// Learning-rate schedule: the factor by which the learning rate falls over a fit, from 1 to 0 at
/// the last step (constant: no decay).
///
/// ```
/// use elbo::fit::LearningRateSchedule;
/// assert_eq!(LearningRateSchedule::Linear.factor(0.25), 0.75);
/// assert!((LearningRateSchedule::Cosine.factor(0.5) - 0.5).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LearningRateSchedule {
    /// No decay.
    Constant,
    /// Linear decay to 0.
    Linear,
    /// Cosine decay to 0 (Loshchilov & Hutter 2017, without restarts): slow at first and at the
    /// end.
    #[default]
    Cosine,
}

impl LearningRateSchedule {
    /// Returns the factor of the learning rate when the fraction `done` (0 to 1) of all steps is
    /// complete.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - done,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        }
    }
}

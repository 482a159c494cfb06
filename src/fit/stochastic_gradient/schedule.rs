//! How the learning rate goes over a fit.

/// How the learning rate falls from its start to 0 at the last step.
///
/// ```
/// use elbo::fit::LearningRateSchedule;
/// assert_eq!(LearningRateSchedule::Linear.factor(0.25), 0.75);
/// assert!((LearningRateSchedule::Cosine.factor(0.5) - 0.5).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LearningRateSchedule {
    /// It does not fall.
    Constant,
    /// In proportion to what is left.
    Linear,
    /// Along half a cosine: slowly at first, and slowly at the end.
    #[default]
    Cosine,
}

impl LearningRateSchedule {
    /// The factor of the learning rate when the part `done` (0 to 1) of all steps is done.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - done,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        }
    }
}

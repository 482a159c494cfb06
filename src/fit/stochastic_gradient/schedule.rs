//! Schedules of the learning rate and of the weight of the divergence.

use crate::{Error, Result};

/// Learning-rate schedule: the factor by which the learning rate falls over a fit, from 1 to 0 at
/// the last step (constant: no decay).
///
/// ```
/// use elbo::fit::LearningRateSchedule;
/// assert_eq!(LearningRateSchedule::Linear.factor(0.25), 0.75);
/// assert!((LearningRateSchedule::Cosine.factor(0.5) - 0.5).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum LearningRateSchedule {
    /// No decay.
    Constant,
    /// Linear decay to 0.
    Linear,
    /// Cosine decay to 0 (Loshchilov & Hutter 2017, without restarts): slow at first and at the
    /// end.
    #[default]
    Cosine,
    /// Constant within each of `stages` equal parts of the fit; from one to the next it is multiplied
    /// by `factor`.
    Steps {
        /// The number of stages, at least 1.
        stages: usize,
        /// The factor between neighbouring stages.
        factor: f64,
    },
}

impl LearningRateSchedule {
    /// Returns the factor of the learning rate when the fraction `done` (0 to 1) of all steps is
    /// complete.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - done,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Steps { stages, factor } => {
                let stage = (done * stages as f64).floor().min(stages.max(1) as f64 - 1.0);
                factor.powf(stage)
            }
        }
    }
}

/// Weight β of the divergence from the prior in the objective that a fit climbs.
///
/// ```math
/// J_β = \sum_i E_{q_i} \log p(x_i|z_i) - β\,\mathrm{KL}(q_i ‖ π)
/// ```
///
/// A weight below 1 in the first epochs lets the code carry information before the divergence
/// prunes it (Bowman et al. 2016); a constant β other than 1 is the β-VAE (Higgins et al. 2017).
///
/// ```
/// use elbo::fit::KlWeight;
/// let warm_up = KlWeight::WarmUp { epochs: 10 };
/// assert_eq!((warm_up.at(0), warm_up.at(4), warm_up.at(30)), (0.1, 0.5, 1.0));
/// assert_eq!(KlWeight::default().at(0), 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum KlWeight {
    /// The same β in all epochs.
    Constant(f64),
    /// β rises linearly to 1 in the first epochs.
    WarmUp {
        /// The epoch (counted from 1) at which β reaches 1.
        epochs: usize,
    },
    /// β rises linearly to 1 in the first half of each cycle and stays there in the second (Fu et
    /// al. 2019).
    Cyclic {
        /// The length of a cycle in epochs, at least 1.
        epochs: usize,
    },
}

impl Default for KlWeight {
    fn default() -> Self {
        Self::Constant(1.0)
    }
}

impl KlWeight {
    /// β in an epoch, counted from 0.
    pub fn at(self, epoch: usize) -> f64 {
        let rise =
            |epoch: usize, epochs: usize| ((epoch + 1) as f64 / epochs.max(1) as f64).min(1.0);
        match self {
            Self::Constant(weight) => weight,
            Self::WarmUp { epochs } => rise(epoch, epochs),
            Self::Cyclic { epochs } => rise(epoch % epochs.max(1), epochs.div_ceil(2)),
        }
    }

    /// Returns an error for a weight that is negative or not finite.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Constant(value) if !(value >= 0.0 && value.is_finite()) => {
                let name = "the weight of the divergence";
                Err(Error::InvalidParameter { name, value, must: "at least 0 and finite" })
            }
            _ => Ok(()),
        }
    }
}

//! A positive parameter of a variable, such as a scale: learned with a floor, or fixed.

use crate::{Error, Result};

/// A positive parameter p. It is fixed, or learned as p = floor + e^ξ.
///
/// A floor added to the exponential keeps the derivative by ξ smooth: no optimiser has to project a
/// gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Positive {
    fixed: Option<f64>,
    floor: f64,
    // Whether the floor was chosen by the caller, and is not to be replaced by one from data.
    chosen: bool,
}

/// The range of ξ. Beyond it p is constant and the derivative is 0; e^±60 is 1e±26.
const RANGE: f64 = 60.0;

impl Positive {
    /// Learned, with this default floor.
    pub(super) const fn learned(floor: f64) -> Self {
        Self { fixed: None, floor, chosen: false }
    }

    /// Fixed at this value.
    pub(super) fn fixed(name: &'static str, value: f64) -> Result<Self> {
        let value = super::check_variance(name, value).map(|()| value)?;
        if !(1e-40..=1e30).contains(&value) {
            return Err(Error::InvalidParameter { name, value, must: "between 1e-40 and 1e30" });
        }
        Ok(Self { fixed: Some(value), floor: 0.0, chosen: true })
    }

    /// The same with another floor.
    pub(super) fn with_floor(self, name: &'static str, floor: f64) -> Result<Self> {
        super::isotropic_gaussian::check_floor(name, floor)?;
        Ok(Self { floor, chosen: true, ..self })
    }

    /// The same with this floor, unless the caller has chosen one.
    pub(super) fn with_default_floor(self, floor: f64) -> Self {
        if self.chosen || !floor.is_finite() { self } else { Self { floor, ..self } }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// The number of parameters ξ: 0 or 1.
    pub(super) fn count(&self) -> usize {
        usize::from(self.fixed.is_none())
    }

    /// p, and its derivative by ξ.
    pub(super) fn at(&self, parameter: impl FnOnce() -> f64) -> (f64, f64) {
        match self.fixed {
            Some(value) => (value, 0.0),
            None => {
                let parameter = parameter();
                let excess = parameter.clamp(-RANGE, RANGE).exp();
                let inside = parameter.abs() <= RANGE;
                (self.floor + excess, if inside { excess } else { 0.0 })
            }
        }
    }

    /// The ξ of this value of p; one at the floor starts a little above it.
    pub(super) fn parameter_of(&self, value: f64) -> f64 {
        (value - self.floor).max(0.01 * self.floor).max(1e-26).ln().clamp(-RANGE, RANGE)
    }

    /// Whether a learned p is within .1 % of its floor.
    pub(super) fn rests_on_floor(&self, parameter: impl FnOnce() -> f64) -> bool {
        self.fixed.is_none() && self.floor > 0.0 && self.at(parameter).0 <= 1.001 * self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_smooth_bound() {
        let positive = Positive::learned(0.5);
        assert_eq!(positive.at(|| -1e9).1, 0.0);
        assert!(positive.rests_on_floor(|| -20.0) && !positive.rests_on_floor(|| 0.0));
        let (value, slope) = positive.at(|| positive.parameter_of(2.0));
        assert!((value - 2.0).abs() < 1e-15 && (slope - 1.5).abs() < 1e-15);
        assert!(positive.at(|| positive.parameter_of(0.1)).0 > 0.5);
    }

    #[test]
    fn refuses_what_is_not_positive() {
        assert!(Positive::fixed("a scale", 0.0).is_err());
        assert!(Positive::fixed("a scale", f64::NAN).is_err());
        assert!(Positive::fixed("a scale", 1e200).is_err());
        assert!(Positive::learned(0.0).with_floor("a floor", -1.0).is_err());
        let chosen = Positive::learned(1e-8).with_floor("a floor", 0.25).unwrap();
        assert_eq!(chosen.with_default_floor(3.0), chosen);
    }
}

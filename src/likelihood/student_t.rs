//! Student-t distribution of one variable.

use super::entries::{Entry, Entrywise, finite, univariate_by_entries};
use super::gaussian::SCALE_FLOOR;
use super::positive::Positive;
use super::start::{
    mean_and_deviation, positive_scale, quantile, scale_floor, sorted, without_offsets,
};
use super::univariate::Univariate;
use crate::linalg::Elementary;
use crate::linalg::special::{HALF_LN_TWO_PI, RisingConstants, ln_rising};
use crate::{Error, Real, Result};
use rand::Rng;
use rand_distr::Distribution;

/// Student-t distribution of a variable with its location as predictor, and with a scale s and ν
/// degrees of freedom of its own.
///
/// ```math
/// \ln p(x|y) = \ln\frac{\Gamma(\frac{\nu+1}2)}{\Gamma(\frac\nu2)\sqrt{\nu\pi}\,s}
/// - \tfrac{\nu+1}2\ln\Bigl(1+\frac{u^2}\nu\Bigr), \quad u = \frac{x-y}s
/// ```
///
/// The parameters are ln(s − floor) and ln(ν − 1), without those that are fixed. The log-density is
/// unbounded as s → 0 at a perfect fit: the floor of s is 1e-8 by default, and a thousandth of the
/// variable's standard deviation after [`Independent::start`](super::Independent::start). A learned
/// ν is above 1, so that the mean y exists; for a fixed ν of at most 1 the location is returned in
/// its place. For large ν the log-density converges to the Gaussian one without cancellation. The
/// expectation under a distribution of y needs quadrature.
///
/// ```
/// use elbo::likelihood::{StudentT, Univariate};
/// // One degree of freedom: the Cauchy distribution.
/// let cauchy = StudentT::default().with_scale(1.0)?.with_degrees_of_freedom(1.0)?;
/// let density = cauchy.log_density(0.0f64, 1.0, &[]);
/// assert!((density + (2.0 * std::f64::consts::PI).ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StudentT {
    scale: Positive,
    freedom: Positive,
}

impl Default for StudentT {
    fn default() -> Self {
        Self { scale: Positive::learned(SCALE_FLOOR), freedom: Positive::learned(1.0) }
    }
}

/// Degrees of freedom above this have the density of this many, which is the Gaussian one to all
/// digits.
const LARGEST_FREEDOM: f64 = 1e15;

impl StudentT {
    /// Fixes the scale s.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless s is between 1e-40 and 1e30.
    pub fn with_scale(self, scale: f64) -> Result<Self> {
        Ok(Self { scale: Positive::fixed("the scale", scale)?, ..self })
    }

    /// Fixes the degrees of freedom ν.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless ν is between 1e-3 and 1e15.
    pub fn with_degrees_of_freedom(self, degrees_of_freedom: f64) -> Result<Self> {
        let (name, value) = ("the degrees of freedom", degrees_of_freedom);
        if !(1e-3..=LARGEST_FREEDOM).contains(&value) {
            return Err(Error::InvalidParameter { name, value, must: "between 1e-3 and 1e15" });
        }
        Ok(Self { freedom: Positive::fixed(name, value)?, ..self })
    }

    /// Sets the lower bound (floor) of a learned s, in the units of the variable; 0 for none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a floor that is negative or not finite.
    pub fn with_floor(self, floor: f64) -> Result<Self> {
        Ok(Self { scale: self.scale.with_floor("the floor of a scale", floor)?, ..self })
    }

    /// The scale s, given the parameters.
    pub fn scale<T: Real>(&self, parameters: &[T]) -> T {
        finite(self.scale.at(|| parameters[0].as_f64()).0)
    }

    /// The degrees of freedom ν, given the parameters.
    pub fn degrees_of_freedom<T: Real>(&self, parameters: &[T]) -> T {
        finite(self.freedom_and_slope(|p| parameters[p].as_f64()).0)
    }

    fn freedom_and_slope(&self, parameter: impl Fn(usize) -> f64) -> (f64, f64) {
        let (freedom, slope) = self.freedom.at(|| parameter(self.scale.count()));
        if freedom > LARGEST_FREEDOM { (LARGEST_FREEDOM, 0.0) } else { (freedom, slope) }
    }
}

impl Entrywise<6, 2> for StudentT {
    fn slots(&self) -> [Option<usize>; 2] {
        let of_freedom = self.scale.count();
        [(!self.scale.is_fixed()).then_some(0), (!self.freedom.is_fixed()).then_some(of_freedom)]
    }

    /// 1/s, ν, the normaliser, its derivative by ν, (ds/dξ)/s, dν/dξ.
    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; 6] {
        let (scale, slope) = self.scale.at(|| parameter(0));
        let (freedom, d_freedom) = self.freedom_and_slope(parameter);
        // ln Γ(h + ½) − ln Γ(h) − ½ ln h for h = ν/2, which is about −1/8h for large h.
        let (ratio, d_ratio) = ln_rising(0.5, &RisingConstants::new(0.5 * freedom).0);
        let normaliser = ratio - HALF_LN_TWO_PI - scale.ln();
        [1.0 / scale, freedom, normaliser, 0.5 * d_ratio, slope / scale, d_freedom]
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, constants: [f64; 6]) -> Entry<2> {
        let [inverse, freedom, normaliser, d_normaliser, slope, d_freedom] = constants;
        // Limited, so that the square is finite.
        let error = ((x - y) * inverse).clamp(-1e150, 1e150);
        let square = error * error / freedom;
        let growth = square.quick_ln_1p();
        // (ν + 1)/ν · 1/(1 + u²/ν)
        let weight = (1.0 + 1.0 / freedom) / (1.0 + square);
        let half = 0.5 * (freedom + 1.0);
        Entry {
            density: normaliser - half * growth,
            d_output: error * weight * inverse,
            d_parameters: [
                (error * error * weight - 1.0) * slope,
                (d_normaliser - 0.5 * growth + 0.5 * square * weight) * d_freedom,
            ],
        }
    }
}

impl<T: Real> Univariate<T> for StudentT {
    univariate_by_entries!(6, 2);

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        let half = 0.5 * self.degrees_of_freedom(parameters).as_f64();
        // z/√(g/h) with g ~ Γ(h, 1); a g that underflowed is replaced by the smallest number.
        let ratio = match rand_distr::Gamma::new(half, 1.0 / half) {
            Ok(gamma) => gamma.sample(rng).max(f64::MIN_POSITIVE),
            Err(_) => 1.0,
        };
        let normal = f64::standard_normal(rng) / ratio.sqrt();
        finite(y.as_f64() + self.scale(parameters).as_f64() * normal)
    }

    fn contains(&self, x: T) -> bool {
        x.is_finite()
    }

    fn support(&self) -> &'static str {
        "the real numbers"
    }

    /// The median, the degrees of freedom of the excess kurtosis κ (4 + 6/κ, between 3 and 30), and
    /// the scale of the quartiles.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let values = sorted(without_offsets(values, offsets));
        let (mean, deviation) = mean_and_deviation(&values);
        let (median, range) =
            (quantile(&values, 0.5), quantile(&values, 0.75) - quantile(&values, 0.25));
        let n = values.len().max(1) as f64;
        let kurtosis =
            values.iter().map(|v| ((v - mean) / deviation).powi(4)).sum::<f64>() / n - 3.0;
        let freedom = if kurtosis > 0.0 { (4.0 + 6.0 / kurtosis).min(30.0) } else { 30.0 };
        // 1.349 standard deviations are between the quartiles of a normal variable.
        let scale = if range > 0.0 { range / 1.349 } else { 0.1 * deviation };
        let scale = positive_scale(scale, median);
        let own = [self.scale.parameter_of(scale), self.freedom.parameter_of(freedom)];
        for (slot, value) in Entrywise::slots(self).iter().zip(own) {
            if let Some(slot) = slot {
                parameters[*slot] = T::of(value);
            }
        }
        finite(median)
    }

    fn with_floors_from(&self, values: &[T]) -> Self {
        let floor = scale_floor(values.iter().map(|x| x.as_f64()));
        Self { scale: self.scale.with_default_floor(floor), ..*self }
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.scale.rests_on_floor(|| parameters[0].as_f64())
    }
}

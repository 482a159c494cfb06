//! Laplace distribution of one variable.

use super::entries::{Entry, Entrywise, finite, univariate_by_entries};
use super::gaussian::SCALE_FLOOR;
use super::positive::Positive;
use super::start::{positive_scale, quantile, scale_floor, sorted, without_offsets};
use super::univariate::{ExpectedLogDensity, Univariate};
use crate::Real;
use crate::Result;
use rand::{Rng, RngExt};

/// Laplace distribution of a variable with its median as predictor and a scale b of its own.
///
/// ```math
/// \ln p(x|y) = -\ln 2b - \frac{|x-y|}{b}
/// ```
///
/// The parameter is ln(b − floor), unless b is fixed. The log-density is unbounded as b → 0 at a
/// perfect fit: the floor is 1e-8 by default, and a thousandth of the variable's standard deviation
/// after [`Independent::start`](super::Independent::start). At x = y the derivative by y is 0. The
/// expectation under a Gaussian distribution of y is in closed form.
///
/// ```
/// use elbo::likelihood::{Laplace, Univariate};
/// assert_eq!(Laplace::fixed(0.5)?.log_density(3.0f64, 1.0, &[]), -4.0);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laplace {
    scale: Positive,
}

impl Default for Laplace {
    fn default() -> Self {
        Self { scale: Positive::learned(SCALE_FLOOR) }
    }
}

impl Laplace {
    /// A fixed scale b.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) unless b is between 1e-40 and
    /// 1e30.
    pub fn fixed(scale: f64) -> Result<Self> {
        Ok(Self { scale: Positive::fixed("the scale", scale)? })
    }

    /// Sets the lower bound (floor) of a learned b, in the units of the variable; 0 for none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for a floor that is negative or
    /// not finite.
    pub fn with_floor(self, floor: f64) -> Result<Self> {
        Ok(Self { scale: self.scale.with_floor("the floor of a scale", floor)? })
    }

    /// The scale b, given the parameters.
    pub fn scale<T: Real>(&self, parameters: &[T]) -> T {
        finite(self.scale.at(|| parameters[0].as_f64()).0)
    }
}

impl Entrywise<3, 1> for Laplace {
    fn slots(&self) -> [Option<usize>; 1] {
        [(!self.scale.is_fixed()).then_some(0)]
    }

    /// 1/b, −ln 2b, and (db/dξ)/b.
    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; 3] {
        let (scale, slope) = self.scale.at(|| parameter(0));
        [1.0 / scale, -(2.0 * scale).ln(), slope / scale]
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, [inverse, constant, slope]: [f64; 3]) -> Entry<1> {
        let error = x - y;
        let distance = error.abs() * inverse;
        let sign = if error == 0.0 { 0.0 } else { 1.0f64.copysign(error) };
        Entry {
            density: constant - distance,
            d_output: sign * inverse,
            d_parameters: [(distance - 1.0) * slope],
        }
    }
}

impl<T: Real> Univariate<T> for Laplace {
    univariate_by_entries!(3, 1);

    /// E|x − y| is the mean of a folded normal variable.
    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        parameters: &[T],
        d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let [inverse, constant, slope] = Entrywise::constants(self, |p| parameters[p].as_f64());
        let error = x.as_f64() - mean.as_f64();
        // A variance of 0 has the limits of this one.
        let deviation = variance.as_f64().max(1e-100).sqrt();
        let standard = error / deviation;
        let density = (-0.5 * standard * standard).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let sign = libm::erf(standard * std::f64::consts::FRAC_1_SQRT_2);
        let distance = inverse * (2.0 * deviation * density + error * sign);
        if let Some(d) = d_parameters.first_mut() {
            *d = finite((distance - 1.0) * slope);
        }
        Some(ExpectedLogDensity {
            value: finite(constant - distance),
            d_mean: finite(sign * inverse),
            d_variance: finite(-inverse * density / deviation),
        })
    }

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        // 1 − u is in (0, 1]: its logarithm is finite.
        let (size, sign) = (-(1.0 - rng.random::<f64>()).ln(), rng.random::<bool>());
        let distance = self.scale(parameters) * T::of(size);
        if sign { y + distance } else { y - distance }
    }

    fn contains(&self, x: T) -> bool {
        x.is_finite()
    }

    fn support(&self) -> &'static str {
        "the real numbers"
    }

    /// The maximum likelihood: the median, and the mean distance from it.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let values = sorted(without_offsets(values, offsets));
        let median = quantile(&values, 0.5);
        let distances = values.iter().map(|v| (v - median).abs()).sum::<f64>();
        let scale = positive_scale(distances / values.len().max(1) as f64, median);
        if let Some(parameter) = parameters.first_mut() {
            *parameter = T::of(self.scale.parameter_of(scale));
        }
        finite(median)
    }

    fn with_floors_from(&self, values: &[T]) -> Self {
        let floor = scale_floor(values.iter().map(|x| x.as_f64()));
        Self { scale: self.scale.with_default_floor(floor) }
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.scale.rests_on_floor(|| parameters[0].as_f64())
    }
}

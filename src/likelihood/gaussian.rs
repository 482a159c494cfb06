//! Gaussian and log-normal distributions of one variable.

use super::entries::{Entry, Entrywise, LANES, finite, univariate_by_entries};
use super::positive::Positive;
use super::start::{mean_and_deviation, scale_floor, without_offsets};
use super::univariate::{ExpectedLogDensity, Univariate};
use crate::Real;
use crate::Result;
use crate::linalg::Elementary;
use crate::linalg::special::HALF_LN_TWO_PI;
use rand::Rng;

/// Default floor of a scale before the data are known.
pub(super) const SCALE_FLOOR: f64 = 1e-8;

/// Gaussian distribution of a variable with its mean as predictor and a standard deviation σ of its
/// own.
///
/// ```math
/// \ln p(x|y) = -\tfrac12\ln 2\pi\sigma^2 - \frac{(x-y)^2}{2\sigma^2}
/// ```
///
/// The parameter is ln(σ − floor), unless σ is fixed. The log-density is unbounded as σ → 0 at a
/// perfect fit: the floor is 1e-8 by default, and a thousandth of the variable's standard deviation
/// after [`Independent::start`](super::Independent::start). The expectation under a Gaussian
/// distribution of y is in closed form.
///
/// ```
/// use elbo::likelihood::{Gaussian, Univariate};
/// let density = Gaussian::fixed(2.0)?.log_density(1.0f64, 1.0, &[]);
/// assert!((density + (2.0 * (2.0 * std::f64::consts::PI).sqrt()).ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gaussian {
    deviation: Positive,
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { deviation: Positive::learned(SCALE_FLOOR) }
    }
}

impl Gaussian {
    /// A fixed standard deviation σ.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) unless σ is between 1e-40 and
    /// 1e30.
    pub fn fixed(standard_deviation: f64) -> Result<Self> {
        Ok(Self { deviation: Positive::fixed("the standard deviation", standard_deviation)? })
    }

    /// Sets the lower bound (floor) of a learned σ, in the units of the variable; 0 for none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for a floor that is negative or
    /// not finite.
    pub fn with_floor(self, floor: f64) -> Result<Self> {
        Ok(Self {
            deviation: self.deviation.with_floor("the floor of a standard deviation", floor)?,
        })
    }

    /// The standard deviation σ, given the parameters.
    pub fn standard_deviation<T: Real>(&self, parameters: &[T]) -> T {
        finite(self.deviation.at(|| parameters[0].as_f64()).0)
    }
}

/// The constants of a Gaussian entry: 1/σ, −½ ln 2πσ², and (dσ/dξ)/σ.
pub(super) fn gaussian_constants((deviation, slope): (f64, f64)) -> [f64; 3] {
    [1.0 / deviation, -HALF_LN_TWO_PI - deviation.ln(), slope / deviation]
}

/// ln N(x; y, σ²) and its derivatives by y and ξ.
#[inline(always)]
pub(super) fn gaussian_entry(x: f64, y: f64, constants: [f64; 3]) -> Entry<1> {
    let [precision, constant, slope] = constants;
    let error = (x - y) * precision;
    Entry {
        density: constant - 0.5 * error * error,
        d_output: error * precision,
        d_parameters: [(error * error - 1.0) * slope],
    }
}

impl Entrywise<3, 1> for Gaussian {
    fn slots(&self) -> [Option<usize>; 1] {
        [(!self.deviation.is_fixed()).then_some(0)]
    }

    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; 3] {
        gaussian_constants(self.deviation.at(|| parameter(0)))
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, constants: [f64; 3]) -> Entry<1> {
        gaussian_entry(x, y, constants)
    }
}

/// E ln N(x; y, σ²) over y ~ N(m, v): the log-density at m, less v/2σ².
fn expected<T: Real>(
    (x, mean, variance): (f64, T, T),
    constants: [f64; 3],
    d_parameters: &mut [T],
) -> ExpectedLogDensity<T> {
    let entry = gaussian_entry(x, mean.as_f64(), constants);
    let share = variance.as_f64() * constants[0] * constants[0];
    if let Some(d) = d_parameters.first_mut() {
        *d = finite(entry.d_parameters[0] + share * constants[2]);
    }
    ExpectedLogDensity {
        value: finite(entry.density - 0.5 * share),
        d_mean: finite(entry.d_output),
        d_variance: finite(-0.5 * constants[0] * constants[0]),
    }
}

impl<T: Real> Univariate<T> for Gaussian {
    univariate_by_entries!(3, 1);

    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        parameters: &[T],
        d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let constants = Entrywise::constants(self, |p| parameters[p].as_f64());
        Some(expected((x.as_f64(), mean, variance), constants, d_parameters))
    }

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        y + self.standard_deviation(parameters) * T::standard_normal(rng)
    }

    fn contains(&self, x: T) -> bool {
        x.is_finite()
    }

    fn support(&self) -> &'static str {
        "the real numbers"
    }

    /// Mean and standard deviation.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let (mean, deviation) = mean_and_deviation(&without_offsets(values, offsets));
        if let Some(parameter) = parameters.first_mut() {
            *parameter = T::of(self.deviation.parameter_of(deviation));
        }
        finite(mean)
    }

    fn with_floors_from(&self, values: &[T]) -> Self {
        let floor = scale_floor(values.iter().map(|x| x.as_f64()));
        Self { deviation: self.deviation.with_default_floor(floor) }
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.deviation.rests_on_floor(|| parameters[0].as_f64())
    }
}

/// Log-normal distribution of a positive variable: ln x ~ N(y, σ²), with the mean of ln x as
/// predictor.
///
/// ```math
/// \ln p(x|y) = -\ln x - \tfrac12\ln 2\pi\sigma^2 - \frac{(\ln x-y)^2}{2\sigma^2}
/// ```
///
/// The parameter is ln(σ − floor), unless σ is fixed. The log-density is unbounded as σ → 0 at a
/// perfect fit: the floor is 1e-8 by default, and a thousandth of the standard deviation of ln x
/// after [`Independent::start`](super::Independent::start). The expectation under a Gaussian
/// distribution of y is in closed form. E\[x|y\] is exp(y + ½σ²).
///
/// ```
/// use elbo::likelihood::{Gaussian, LogNormal, Univariate};
/// let (x, y) = (3.0f64, 0.5);
/// let of_logarithm = Gaussian::fixed(0.7)?.log_density(x.ln(), y, &[]);
/// let density = LogNormal::fixed(0.7)?.log_density(x, y, &[]);
/// assert!((density - (of_logarithm - x.ln())).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogNormal {
    logarithm: Gaussian,
}

impl LogNormal {
    /// A fixed standard deviation σ of ln x.
    ///
    /// # Errors
    /// As [`Gaussian::fixed`].
    pub fn fixed(standard_deviation: f64) -> Result<Self> {
        Ok(Self { logarithm: Gaussian::fixed(standard_deviation)? })
    }

    /// Sets the lower bound (floor) of a learned σ; 0 for none.
    ///
    /// # Errors
    /// As [`Gaussian::with_floor`].
    pub fn with_floor(self, floor: f64) -> Result<Self> {
        Ok(Self { logarithm: self.logarithm.with_floor(floor)? })
    }

    /// The standard deviation σ of ln x, given the parameters.
    pub fn standard_deviation<T: Real>(&self, parameters: &[T]) -> T {
        self.logarithm.standard_deviation(parameters)
    }
}

impl Entrywise<3, 1> for LogNormal {
    fn slots(&self) -> [Option<usize>; 1] {
        self.logarithm.slots()
    }

    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; 3] {
        Entrywise::constants(&self.logarithm, parameter)
    }

    #[inline(always)]
    fn of_x(x: &[f64; LANES], _: &[[f64; LANES]; 3]) -> [f64; LANES] {
        let mut logarithms = *x;
        for l in 0..LANES {
            logarithms[l] = x[l].quick_ln();
        }
        logarithms
    }

    #[inline(always)]
    fn entry(_: f64, y: f64, logarithm: f64, constants: [f64; 3]) -> Entry<1> {
        let entry = gaussian_entry(logarithm, y, constants);
        Entry { density: entry.density - logarithm, ..entry }
    }
}

impl<T: Real> Univariate<T> for LogNormal {
    univariate_by_entries!(3, 1);

    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        parameters: &[T],
        d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let constants = Entrywise::constants(self, |p| parameters[p].as_f64());
        let logarithm = x.as_f64().ln();
        let of_logarithm = expected((logarithm, mean, variance), constants, d_parameters);
        let value = finite(of_logarithm.value.as_f64() - logarithm);
        Some(ExpectedLogDensity { value, ..of_logarithm })
    }

    fn mean(&self, y: T, parameters: &[T]) -> T {
        let deviation: T = self.standard_deviation(parameters);
        finite((y.as_f64() + 0.5 * deviation.as_f64().powi(2)).exp())
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        let logarithm = y + self.standard_deviation(parameters) * T::standard_normal(rng);
        finite::<T>(logarithm.as_f64().exp()).max(T::MIN_POSITIVE)
    }

    fn contains(&self, x: T) -> bool {
        x > T::zero() && x.is_finite()
    }

    fn support(&self) -> &'static str {
        "the positive numbers"
    }

    /// Mean and standard deviation of ln x.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let logarithms: Vec<f64> = values.iter().map(|x| x.as_f64().ln()).collect();
        let offsets: Vec<f64> = offsets.iter().map(|o| o.as_f64()).collect();
        let mut own: Vec<f64> = vec![0.0; parameters.len()];
        let mean = Univariate::<f64>::start(&self.logarithm, &logarithms, &offsets, &mut own);
        parameters.iter_mut().zip(own).for_each(|(to, p)| *to = T::of(p));
        finite(mean)
    }

    fn with_floors_from(&self, values: &[T]) -> Self {
        let floor = scale_floor(values.iter().map(|x| x.as_f64().ln()));
        Self {
            logarithm: Gaussian { deviation: self.logarithm.deviation.with_default_floor(floor) },
        }
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.logarithm.deviation.rests_on_floor(|| parameters[0].as_f64())
    }
}

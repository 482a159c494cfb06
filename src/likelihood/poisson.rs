//! Poisson likelihood of counts.

use super::entries::{Entry, Entrywise, LANES, finite, univariate_by_entries};
use super::start::Exposures;
use super::univariate::{ExpectedLogDensity, Univariate};
use crate::Real;
use crate::linalg::Elementary;
use crate::linalg::special::{ln_factorial, ln_factorials};
use rand::Rng;
use rand_distr::Distribution;
use std::hint::select_unpredictable as choose;

/// Poisson distribution of counts with the logarithm of its mean as predictor.
///
/// ```math
/// \ln p(x|y) = xy - e^y - \ln x!
/// ```
///
/// Known exposures enter as an offset of the predictor, their logarithm. For y above 70, a mean of
/// more than 10³⁰, the exponential is continued by its tangent, so that the log-density and its
/// derivative are finite for every predictor. The expectation of the log-density under a Gaussian
/// distribution of y is in closed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Poisson;

/// The largest count that has a next one in double precision, 2⁵³.
pub(super) const LARGEST_COUNT: f64 = 9_007_199_254_740_992.0;

/// Whether x is a count: an integer of at least 0 that is exact in double precision.
pub(super) fn is_count<T: Real>(x: T) -> bool {
    x >= T::zero() && x.as_f64() <= LARGEST_COUNT && x.floor() == x
}

/// The words for counts in an error.
pub(super) const COUNTS: &str = "the counts 0, 1, 2, …, 2⁵³";

/// The largest predictor whose exponential is computed.
const LARGEST_LOG_MEAN: f64 = 70.0;

/// e^y, continued by its tangent above 70; and its derivative.
#[inline(always)]
pub(super) fn exp_with_tangent(y: f64) -> (f64, f64) {
    let limited = choose(y > LARGEST_LOG_MEAN, LARGEST_LOG_MEAN, y);
    let slope = limited.quick_exp();
    (slope * (1.0 + (y - limited)), slope)
}

/// A sample of a Poisson distribution with this mean.
pub(super) fn sample_poisson(mean: f64, rng: &mut dyn Rng) -> f64 {
    match rand_distr::Poisson::new(mean) {
        Ok(poisson) if mean < 1e15 => poisson.sample(rng),
        // A mean of 0, or one whose spread is below the resolution of counts.
        _ => mean.min(LARGEST_COUNT).round(),
    }
}

impl Entrywise<0, 0> for Poisson {
    fn slots(&self) -> [Option<usize>; 0] {
        []
    }

    fn constants(&self, _: impl Fn(usize) -> f64) -> [f64; 0] {
        []
    }

    #[inline(always)]
    fn of_x(x: &[f64; LANES], _: &[[f64; LANES]; 0]) -> [f64; LANES] {
        ln_factorials(x)
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, ln_factorial: f64, _: [f64; 0]) -> Entry<0> {
        let (mean, slope) = exp_with_tangent(y);
        Entry { density: x * y - mean - ln_factorial, d_output: x - slope, d_parameters: [] }
    }
}

impl<T: Real> Univariate<T> for Poisson {
    univariate_by_entries!(0, 0);

    /// x m − exp(m + ½v) − ln x!: the mean of a log-normal variable.
    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        _parameters: &[T],
        _d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let (x, mean, variance) = (x.as_f64(), mean.as_f64(), variance.as_f64());
        let (rate, slope) = exp_with_tangent(mean + 0.5 * variance);
        Some(ExpectedLogDensity {
            value: finite(x * mean - rate - ln_factorial(x)),
            d_mean: finite(x - slope),
            d_variance: finite(-0.5 * slope),
        })
    }

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        finite(exp_with_tangent(y.as_f64()).0)
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        T::of(sample_poisson(y.as_f64().exp(), rng))
    }

    fn contains(&self, x: T) -> bool {
        is_count(x)
    }

    fn support(&self) -> &'static str {
        COUNTS
    }

    /// The maximum likelihood: ln Σx − ln Σe^o, or half a count where all are 0.
    fn start(&self, values: &[T], offsets: &[T], _parameters: &mut [T]) -> T {
        T::of(Exposures::new(values, offsets).log_mean())
    }
}

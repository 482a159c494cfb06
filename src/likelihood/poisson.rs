//! Poisson likelihood of counts.

use super::univariate::{ExpectedLogDensity, Univariate};
use crate::Real;
use crate::linalg::special::ln_factorial;
use rand::Rng;
use rand_distr::Distribution;

/// Poisson distribution of counts with the logarithm of its mean as predictor.
///
/// ```math
/// \ln p(x|y) = xy - e^y - \ln x!
/// ```
///
/// Known exposures enter as an offset of the predictor, their logarithm.
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

impl<T: Real> Univariate<T> for Poisson {
    fn log_density(&self, x: T, y: T, _parameters: &[T]) -> T {
        T::of(x.as_f64() * y.as_f64() - y.as_f64().exp() - ln_factorial(x.as_f64()))
    }

    fn log_density_gradient(&self, x: T, y: T, _: &[T], _: &mut [T]) -> (T, T) {
        let (x, y) = (x.as_f64(), y.as_f64());
        let mean = y.exp();
        (T::of(x * y - mean - ln_factorial(x)), T::of(x - mean))
    }

    /// x(m) − exp(m + ½v) − ln x!: the mean of a log-normal variable.
    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        _parameters: &[T],
        _d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let (x, mean, variance) = (x.as_f64(), mean.as_f64(), variance.as_f64());
        let rate = (mean + 0.5 * variance).exp();
        Some(ExpectedLogDensity {
            value: T::of(x * mean - rate - ln_factorial(x)),
            d_mean: T::of(x - rate),
            d_variance: T::of(-0.5 * rate),
        })
    }

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y.exp()
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        let rate = y.as_f64().exp();
        match rand_distr::Poisson::new(rate) {
            Ok(poisson) => T::of(poisson.sample(rng)),
            // A rate of 0, or beyond what the sampler takes: the spread is below the resolution.
            Err(_) => T::of(rate.min(LARGEST_COUNT).round()),
        }
    }

    fn contains(&self, x: T) -> bool {
        is_count(x)
    }

    fn support(&self) -> &'static str {
        COUNTS
    }

    /// The maximum likelihood: ln Σx − ln Σe^o, or half a count where all are 0.
    fn start(&self, values: &[T], offsets: &[T], _parameters: &mut [T]) -> T {
        let total: f64 = values.iter().map(|v| v.as_f64()).sum();
        let exposure = match offsets {
            [] => values.len() as f64,
            offsets => offsets.iter().map(|o| o.as_f64().exp()).sum(),
        };
        T::of((total.max(0.5) / exposure).ln())
    }
}

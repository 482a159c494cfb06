//! Poisson likelihood of counts.

use super::entries::{Entry, Entrywise, LANES, finite, univariate_by_entries};
use super::is_missing;
use super::start::Exposures;
use super::univariate::{ExpectedLogDensity, Univariate};
use crate::Real;
use crate::linalg::Elementary;
use crate::linalg::special::{ln_factorial, ln_factorials};
use crate::linalg::vector::vectorized;
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

    fn expected_log_densities(
        &self,
        x: &[T],
        means: &mut [T],
        variances: &mut [T],
        weight: T,
    ) -> Option<T> {
        let weight = weight.as_f64();
        let mut sums = [0.0; LANES];
        vectorized(
            #[inline(always)]
            || {
                let rows =
                    x.chunks(LANES).zip(means.chunks_mut(LANES)).zip(variances.chunks_mut(LANES));
                for ((x, means), variances) in rows {
                    let entries = x.iter().zip(means).zip(variances).zip(&mut sums);
                    for (((&x, mean), variance), sum) in entries {
                        let (x, m) = (x.as_f64(), mean.as_f64());
                        let (rate, slope) = exp_with_tangent(m + 0.5 * variance.as_f64());
                        // A missing entry has no part in the sum, and the derivatives 0.
                        let observed = !x.is_nan();
                        *sum += choose(observed, x * m - rate, 0.0);
                        *mean = T::of(choose(observed, weight * (x - slope), 0.0));
                        *variance = T::of(choose(observed, -0.5 * weight * slope, 0.0));
                    }
                }
            },
        );
        let total: f64 = sums.iter().sum();
        let factorials = x.iter().filter(|x| !is_missing(**x)).map(|x| ln_factorial(x.as_f64()));
        Some(finite(total - factorials.sum::<f64>()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn loop_is_the_sum_of_its_entries<T: Real>(tolerance: f64) {
        // More entries than a block, counts on both sides of the table, and a missing entry.
        let x: Vec<T> = (0..21)
            .map(|i| T::of(if i == 5 { f64::NAN } else { (i * i * i % 700) as f64 }))
            .collect();
        let moments: Vec<(T, T)> = (0..21)
            .map(|i| (T::of((i as f64 * 0.7).sin() * 4.0), T::of(0.05 * i as f64)))
            .collect();
        let (mut means, mut variances): (Vec<T>, Vec<T>) = moments.iter().copied().unzip();
        let weight = T::of(1.5);
        let found = Poisson.expected_log_densities(&x, &mut means, &mut variances, weight).unwrap();
        let mut sum = 0.0;
        for (i, (&x, &(mean, variance))) in x.iter().zip(&moments).enumerate() {
            let close = |found: T, right: f64| {
                let apart = (found.as_f64() - right).abs();
                assert!(apart <= tolerance * (1.0 + right.abs()), "{i}: {found} {right}");
            };
            if crate::likelihood::is_missing(x) {
                close(means[i], 0.0);
                close(variances[i], 0.0);
                continue;
            }
            let one = Poisson.expected_log_density(x, mean, variance, &[], &mut []).unwrap();
            sum += one.value.as_f64();
            close(means[i], 1.5 * one.d_mean.as_f64());
            close(variances[i], 1.5 * one.d_variance.as_f64());
        }
        assert!((found.as_f64() - sum).abs() <= tolerance * sum.abs(), "{found} {sum}");
    }

    #[test]
    fn the_loop_over_expectations_is_the_sum_of_its_entries() {
        loop_is_the_sum_of_its_entries::<f64>(1e-13);
        loop_is_the_sum_of_its_entries::<f32>(1e-5);
    }
}

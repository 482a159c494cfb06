//! Continuous Bernoulli distribution of values in [0, 1].

use super::bernoulli_univariate::UNIT_INTERVAL;
use super::entries::{Entry, Entrywise, univariate_by_entries};
use super::start::root_of_score;
use super::univariate::Univariate;
use crate::Real;
use crate::linalg::Elementary;
use rand::{Rng, RngExt};
use std::hint::select_unpredictable as choose;

/// Continuous Bernoulli distribution[^1] of a value in [0, 1] with its natural parameter, the logit
/// of λ, as predictor.
///
/// ```math
/// \ln p(x|y) = xy - \ln\frac{e^y-1}y
/// ```
///
/// Unlike the Bernoulli log-density at fractions, it is normalised over [0, 1]. Near y = 0 the
/// normaliser and the mean are computed by their series. The expectation under a distribution of y
/// needs quadrature.
///
/// [^1]: G. Loaiza-Ganem and J. P. Cunningham, The continuous Bernoulli: fixing a pervasive error
/// in variational autoencoders, NeurIPS 2019.
///
/// ```
/// use elbo::likelihood::{ContinuousBernoulli, Univariate};
/// assert_eq!(ContinuousBernoulli.log_density(0.3f64, 0.0, &[]), 0.0); // uniform
/// assert_eq!(ContinuousBernoulli.mean(0.0f64, &[]), 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContinuousBernoulli;

/// B_2k / (2k)! for k = 1, 2, …: the mean is ½ + Σ B_2k y^(2k−1) / (2k)!, and its integral
/// y/2 + Σ B_2k y^2k / (2k (2k)!) is the logarithm of the normaliser.
const SERIES: [f64; 10] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 74_724_249_600.0,
    -3617.0 / 10_670_622_842_880_000.0,
    43_867.0 / 5_109_094_217_170_944_000.0,
    -174_611.0 / 802_857_662_698_291_200_000.0,
];

/// ln((e^y − 1)/y) and its derivative, the mean.
#[inline(always)]
fn normaliser(y: f64) -> (f64, f64) {
    let size = y.abs();
    let square = y * y;
    let (mut value, mut mean) = (0.0, 0.0);
    for k in (0..SERIES.len()).rev() {
        value = value * square + SERIES[k] / (2 * k + 2) as f64;
        mean = mean * square + SERIES[k];
    }
    let near = (0.5 * y + value * square, 0.5 + mean * y);
    // 1 where the series is used, so that nothing is divided by 0.
    let inside = size < 1.0;
    let size = choose(inside, 1.0, size);
    let power = size.exp_neg_abs();
    let missing = 1.0 - power;
    let far = choose(y > 0.0, y, 0.0) + (missing / size).quick_ln();
    let far_mean = choose(y > 0.0, 1.0 / missing - 1.0 / size, 1.0 / size - power / missing);
    (choose(inside, near.0, far), choose(inside, near.1, far_mean))
}

impl Entrywise<0, 0> for ContinuousBernoulli {
    fn slots(&self) -> [Option<usize>; 0] {
        []
    }

    fn constants(&self, _: impl Fn(usize) -> f64) -> [f64; 0] {
        []
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, _: [f64; 0]) -> Entry<0> {
        let (logarithm, mean) = normaliser(y);
        Entry { density: x * y - logarithm, d_output: x - mean, d_parameters: [] }
    }
}

impl<T: Real> Univariate<T> for ContinuousBernoulli {
    univariate_by_entries!(0, 0);

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        T::of(normaliser(y.as_f64()).1)
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        let (y, u) = (y.as_f64(), rng.random::<f64>());
        // The inverse of the distribution function for −|y|, and by symmetry for |y|.
        let size = y.abs();
        let low = if size < 1e-10 { u } else { -(u * (-size).exp_m1()).ln_1p() / size };
        let low = low.clamp(0.0, 1.0);
        T::of(if y > 0.0 { 1.0 - low } else { low })
    }

    fn contains(&self, x: T) -> bool {
        x >= T::zero() && x <= T::one()
    }

    fn support(&self) -> &'static str {
        UNIT_INTERVAL
    }

    /// The maximum likelihood: the predictor whose mean is that of the values, at most 1000 in
    /// size.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        T::of(root_of_score(self, values, offsets, parameters, 1e3))
    }
}

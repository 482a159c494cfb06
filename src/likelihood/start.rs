//! Statistics of a variable's observed values, from which fits start.

use super::univariate::Univariate;
use crate::Real;

/// Values less their offsets.
pub(super) fn without_offsets<T: Real>(values: &[T], offsets: &[T]) -> Vec<f64> {
    let offset = |i: usize| offsets.get(i).map_or(0.0, |o| o.as_f64());
    values.iter().enumerate().map(|(i, x)| x.as_f64() - offset(i)).collect()
}

/// Mean and standard deviation. Where all values are equal the deviation is a thousandth of their
/// size, or 1 where they are 0: a positive scale to start from.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, positive_scale(variance.sqrt(), mean))
}

/// A scale, or, if it is 0 beside values of this size, a thousandth of it.
pub(super) fn positive_scale(scale: f64, size: f64) -> f64 {
    let smallest = 1e-12 * size.abs();
    if scale > smallest && scale > 1e-30 {
        scale
    } else if size.abs() > 1e-20 {
        1e-3 * size.abs()
    } else {
        1.0
    }
}

/// The value below which a share of the sorted values lies, interpolated.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len().max(1) - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(&low), Some(&high)) => low + (at - at.floor()) * (high - low),
        _ => 0.0,
    }
}

/// The values in increasing order.
pub(super) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The floor of a scale that suits the values: a thousandth of their standard deviation.
pub(super) fn scale_floor(values: impl Iterator<Item = f64>) -> f64 {
    1e-3 * mean_and_deviation(&values.collect::<Vec<_>>()).1
}

/// Counts, and the exposures e^o of their offsets.
pub(super) struct Exposures {
    counts: Vec<f64>,
    exposures: Vec<f64>,
}

impl Exposures {
    pub(super) fn new<T: Real>(values: &[T], offsets: &[T]) -> Self {
        let counts = values.iter().map(|x| x.as_f64()).collect();
        let exposure = |i: usize| offsets.get(i).map_or(1.0, |o| o.as_f64().exp());
        Self { counts, exposures: (0..values.len()).map(exposure).collect() }
    }

    /// ln Σx − ln Σe^o, or half a count where all are 0.
    pub(super) fn log_mean(&self) -> f64 {
        let (total, exposure) =
            (self.counts.iter().sum::<f64>(), self.exposures.iter().sum::<f64>());
        (total.max(0.5) / exposure).ln().clamp(-700.0, 700.0)
    }

    /// The size r of a negative binomial distribution by moments, Σμ²/Σ((x − μ)² − μ); 1000 where
    /// the counts vary no more than those of a Poisson distribution.
    pub(super) fn size(&self) -> f64 {
        let rate = self.log_mean().exp();
        let (mut squares, mut excess) = (0.0, 0.0);
        for (x, exposure) in self.counts.iter().zip(&self.exposures) {
            let mean = rate * exposure;
            squares += mean * mean;
            excess += (x - mean) * (x - mean) - mean;
        }
        let size = squares / excess;
        if excess > 0.0 && size.is_finite() { size.clamp(1e-3, 1e3) } else { 1e3 }
    }
}

/// The predictor at which the derivative of the log-density, summed over the values, is 0, for a
/// distribution whose log-density is concave in y; a bisection within ±1000 about the offsets. It
/// is at most `bound` away from them: where all values are at an end of the support it is infinite.
pub(super) fn root_of_score<T: Real, U: Univariate<T>>(
    distribution: &U,
    values: &[T],
    offsets: &[T],
    parameters: &[T],
    bound: f64,
) -> f64 {
    let mut unused = vec![T::zero(); parameters.len()];
    let mut score = |y: f64| {
        let entry = |(i, &x): (usize, &T)| {
            let offset = offsets.get(i).map_or(0.0, |o| o.as_f64());
            distribution.log_density_gradient(x, T::of(y + offset), parameters, &mut unused).1
        };
        values.iter().enumerate().map(entry).fold(0.0, |sum, slope| sum + slope.as_f64())
    };
    let n = values.len().max(1) as f64;
    let centre = -offsets.iter().fold(0.0, |sum, o| sum + o.as_f64()) / n;
    let (mut low, mut high) = (centre - 1e3, centre + 1e3);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if score(middle) > 0.0 { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).clamp(centre - bound, centre + bound)
}

/// The bound of [`root_of_score`] for logits of n observations.
pub(super) fn logit_bound(n: usize) -> f64 {
    2.0 + (2.0 * n.max(1) as f64).ln()
}

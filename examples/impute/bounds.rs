//! The mean of a normal distribution truncated to an interval.

/// Half-width of the interval of integration, in standard deviations beyond the mode: what lies
/// further out has a share of 10⁻¹⁴.
const REACH: f64 = 9.0;

/// Number of intervals of Simpson's rule.
const INTERVALS: usize = 2_000;

/// E[x | low ≤ x ≤ high] for x ~ N(mean, variance).
///
/// The density is taken relative to its largest value in the interval, so that nothing underflows
/// where the interval lies far from the mean.
pub fn truncated_mean(mean: f64, variance: f64, low: f64, high: f64) -> f64 {
    let deviation = variance.max(0.0).sqrt();
    let mode = mean.clamp(low, high);
    // The density falls to a share of e⁻⁴⁰ within `reach` of the mode.
    let distance = (mode - mean).abs();
    let reach = if distance > deviation {
        // Beyond the mean by t deviations it falls like exp(−t·s): the tail is short.
        (40.0 * variance / distance).min(REACH * deviation)
    } else {
        REACH * deviation
    };
    let (from, to) = ((mode - reach).max(low), (mode + reach).min(high));
    let width = (to - from) / INTERVALS as f64;
    if width.is_nan() || width <= 0.0 || from + width == from {
        return mode;
    }
    let (mut weight, mut sum) = (0.0, 0.0);
    for i in 0..=INTERVALS {
        let x = from + width * i as f64;
        // ½((x−m)² − (mode−m)²)/v without cancellation.
        let exponent = 0.5 * (x - mode) * (x + mode - 2.0 * mean) / variance;
        let simpson = match i {
            0 | INTERVALS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let density = simpson * (-exponent).exp();
        weight += density;
        sum += density * (x - mode);
    }
    (mode + sum / weight).clamp(low, high)
}

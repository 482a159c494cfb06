//! Ordered categories.

use super::entries::{Entries, finite};
use super::is_missing;
use super::positive::Positive;
use super::univariate::Univariate;
use crate::linalg::Elementary;
use crate::{Error, Real, Result};
use rand::{Rng, RngExt};

/// Ordered categories 0, 1, …, C − 1 by cumulative logits (the graded response model): a larger
/// predictor makes higher categories more probable.
///
/// ```math
/// P(x \le c\,|\,y) = \mathrm{sigmoid}(\tau_{c+1} - y), \quad 0 = \tau_1 < \tau_2 < \dots <
/// \tau_{C-1}
/// ```
///
/// The first threshold is 0, because a constant in y, such as the intercept of a decoder, moves all
/// thresholds together. The C − 2 parameters are ln(τ_{c+1} − τ_c − 1e-6): the thresholds are
/// ordered without a constraint, and 1e-6 is the floor of a difference, which a category without an
/// observation comes to. With two categories it is the Bernoulli distribution. The expectation
/// under a distribution of y needs quadrature. E\[x|y\] is the mean of the category numbers.
///
/// ```
/// use elbo::likelihood::{Ordinal, Univariate};
/// let grades = Ordinal::new(3)?;
/// // Thresholds 0 and 1e-6 + e⁰: P(x ≤ 0) = ½ at y = 0.
/// assert!((grades.log_density(0.0f64, 0.0, &[0.0]) - 0.5f64.ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordinal {
    categories: usize,
}

/// A difference of neighbouring thresholds.
const DIFFERENCE: Positive = Positive::learned(1e-6);

/// The largest number of categories.
const LARGEST: usize = 10_000;

impl Ordinal {
    /// The number C of categories.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless C is between 2 and 10,000.
    pub fn new(categories: usize) -> Result<Self> {
        if !(2..=LARGEST).contains(&categories) {
            return Err(Error::InvalidParameter {
                name: "the number of categories",
                value: categories as f64,
                must: "between 2 and 10000",
            });
        }
        Ok(Self { categories })
    }

    /// The number C of categories.
    pub fn categories(&self) -> usize {
        self.categories
    }

    /// The thresholds τ_1 = 0 to τ_{C−1}, given the parameters.
    pub fn thresholds<T: Real>(&self, parameters: &[T]) -> Vec<T> {
        let mut all = vec![T::zero()];
        let mut last = 0.0;
        for p in parameters {
            last += DIFFERENCE.at(|| p.as_f64()).0;
            all.push(finite(last));
        }
        all
    }

    /// The thresholds below and above category c, −∞ and ∞ at the ends.
    fn bounds<T: Real>(&self, c: usize, parameters: &[T]) -> (f64, f64) {
        let difference = |p: &T| DIFFERENCE.at(|| p.as_f64()).0;
        let Some(below) = c.checked_sub(1) else { return (f64::NEG_INFINITY, 0.0) };
        let low = parameters.iter().take(below).map(difference).sum::<f64>();
        let high = parameters.get(below).map_or(f64::INFINITY, |p| low + difference(p));
        (low, high)
    }
}

/// ln P(x|y) between two thresholds, and its derivatives by them, apart from the part that both
/// have by their difference Δ, which is the last: ln(σ(a)σ(−b)(1 − e^−Δ)) with a = high − y, b =
/// low − y.
fn between((low, high): (f64, f64), y: f64) -> (f64, [f64; 3]) {
    let (mut value, mut slopes) = (0.0, [0.0; 3]);
    if high.is_finite() {
        let (softplus, sigmoid) = (y - high).quick_softplus_and_sigmoid();
        value -= softplus;
        slopes[1] = sigmoid;
    }
    if low.is_finite() {
        let (softplus, sigmoid) = (low - y).quick_softplus_and_sigmoid();
        value -= softplus;
        slopes[0] = -sigmoid;
    }
    if low.is_finite() && high.is_finite() {
        // e^−Δ − 1; the derivative of ln(1 − e^−Δ) is 1/(e^Δ − 1).
        let missing = (low - high).quick_exp_m1();
        value += (-missing).quick_ln();
        slopes[2] = -(1.0 + missing) / missing;
    }
    (value, slopes)
}

/// The derivative by the difference of parameter l, for category c, which lies between τ_c and
/// τ_{c+1}: it moves the thresholds from τ_{l+2} on.
fn slope_of_difference(c: usize, l: usize, [below, above, difference]: [f64; 3]) -> f64 {
    match c.cmp(&(l + 1)) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => above + difference,
        std::cmp::Ordering::Greater => above + below,
    }
}

/// The number of a category.
fn category<T: Real>(x: T) -> usize {
    x.as_f64().max(0.0) as usize
}

impl<T: Real> Univariate<T> for Ordinal {
    fn parameter_count(&self) -> usize {
        self.categories - 2
    }

    fn log_density(&self, x: T, y: T, parameters: &[T]) -> T {
        finite(between(self.bounds(category(x), parameters), y.as_f64()).0)
    }

    fn log_density_gradient(&self, x: T, y: T, parameters: &[T], d: &mut [T]) -> (T, T) {
        let c = category(x);
        let (value, slopes) = between(self.bounds(c, parameters), y.as_f64());
        for (l, (to, p)) in d.iter_mut().zip(parameters).enumerate() {
            let by_parameter = DIFFERENCE.at(|| p.as_f64()).1;
            *to = finite(slope_of_difference(c, l, slopes) * by_parameter);
        }
        (finite(value), finite(-(slopes[0] + slopes[1])))
    }

    /// The thresholds from the second on, and the derivatives of their differences by ξ.
    fn constant_count(&self) -> usize {
        2 * (self.categories - 2)
    }

    fn constants(&self, parameters: &[T], constants: &mut [f64]) {
        let (thresholds, slopes) = constants.split_at_mut(self.categories - 2);
        let mut last = 0.0;
        for ((p, threshold), slope) in parameters.iter().zip(thresholds).zip(slopes) {
            let (difference, by_parameter) = DIFFERENCE.at(|| p.as_f64());
            last += difference;
            (*threshold, *slope) = (last, by_parameter);
        }
    }

    fn sum_of_entries(&self, entries: Entries<'_, T>) -> f64 {
        let Entries { x, y, constants, mut gradient, .. } = entries;
        let (len, differences) = (x.len(), self.categories - 2);
        let mut sum = 0.0;
        for l in 0..len {
            if is_missing(x[l]) {
                if let Some(of) = &mut gradient {
                    of.d_output[l] = T::zero();
                }
                continue;
            }
            let c = category(x[l]);
            // Threshold τ_m, with −∞ below the first and ∞ above the last.
            let threshold = |m: usize| match m {
                0 => f64::NEG_INFINITY,
                1 => 0.0,
                m if m <= differences + 1 => constants[(m - 2) * len + l],
                _ => f64::INFINITY,
            };
            let (value, slopes) = between((threshold(c), threshold(c + 1)), y[l].as_f64());
            sum += value;
            let Some(of) = &mut gradient else { continue };
            of.d_output[l] = finite::<T>(-of.weight * (slopes[0] + slopes[1])).flushed();
            for m in 0..differences.min(c) {
                let by_parameter = constants[(differences + m) * len + l];
                of.d_parameters[m * len + l] +=
                    of.weight * slope_of_difference(c, m, slopes) * by_parameter;
            }
        }
        sum
    }

    fn mean(&self, y: T, parameters: &[T]) -> T {
        let above = |threshold: &T| (y.as_f64() - threshold.as_f64()).quick_sigmoid();
        T::of(self.thresholds(parameters).iter().map(above).sum())
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        // x is the number of thresholds below y plus a logistic variable.
        let u = rng.random::<f64>();
        let logistic = y.as_f64() + (u.max(f64::MIN_POSITIVE) / (1.0 - u)).ln();
        let thresholds = self.thresholds(parameters);
        T::of_usize(thresholds.iter().filter(|t| t.as_f64() < logistic).count())
    }

    fn contains(&self, x: T) -> bool {
        x >= T::zero() && x < T::of_usize(self.categories) && x.floor() == x
    }

    fn support(&self) -> &'static str {
        "the numbers of the categories, from 0"
    }

    /// The logits of the cumulative shares, half an observation added to the average category.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let mut counts = vec![0.5; self.categories];
        for x in values {
            if let Some(count) = counts.get_mut(category(*x)) {
                *count += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        let mut sum = 0.0;
        let logits: Vec<f64> = counts[..self.categories - 1]
            .iter()
            .map(|count| {
                sum += count;
                (sum / (total - sum)).ln()
            })
            .collect();
        for (to, pair) in parameters.iter_mut().zip(logits.windows(2)) {
            *to = T::of(DIFFERENCE.parameter_of(pair[1] - pair[0]));
        }
        let offset = offsets.iter().fold(0.0, |sum, o| sum + o.as_f64());
        T::of(-logits[0] - offset / offsets.len().max(1) as f64)
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        parameters.iter().any(|p| DIFFERENCE.rests_on_floor(|| p.as_f64()))
    }
}

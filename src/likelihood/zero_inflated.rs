//! Counts with more zeros than their distribution has.

use super::entries::finite;
use super::univariate::Univariate;
use crate::linalg::Elementary;
use crate::{Real, Result};
use rand::{Rng, RngExt};

/// Zero-inflated counts: 0 with the probability π of the variable, and otherwise a variable of the
/// distribution U, which may be 0 too.
///
/// ```math
/// p(x|y) = \pi[x = 0] + (1-\pi)\,p_U(x|y)
/// ```
///
/// The first parameter is the logit of π, unless π is fixed; those of U follow. U is a distribution
/// of counts. A π of 0 is U itself. The expectation under a distribution of y needs quadrature.
///
/// ```
/// use elbo::likelihood::{Poisson, Univariate, ZeroInflated};
/// let counts = ZeroInflated::fixed(Poisson, 0.25)?;
/// let zero = counts.log_density(0.0f64, 0.0, &[]);
/// assert!((zero - (0.25 + 0.75 * (-1.0f64).exp()).ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ZeroInflated<U> {
    counts: U,
    fixed: Option<f64>,
}

impl<U> ZeroInflated<U> {
    /// Zeros are added to this distribution with a probability that is learned.
    pub fn new(counts: U) -> Self {
        Self { counts, fixed: None }
    }

    /// Zeros are added with a fixed probability π.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) unless π is at least 0 and below
    /// 1.
    pub fn fixed(counts: U, zero_share: f64) -> Result<Self> {
        super::check_share("the share of added zeros", zero_share)?;
        Ok(Self { counts, fixed: Some(zero_share) })
    }

    /// The distribution of the counts without the added zeros.
    pub fn counts(&self) -> &U {
        &self.counts
    }

    /// The share π of added zeros, given the parameters.
    pub fn zero_share<T: Real>(&self, parameters: &[T]) -> T {
        T::of(self.logarithms(parameters).0.exp())
    }

    /// ln π, ln(1 − π), and, where π is learned, (dπ/dξ)/π = 1 − π.
    fn logarithms<T: Real>(&self, parameters: &[T]) -> (f64, f64, f64) {
        match self.fixed {
            Some(share) => (share.ln(), (-share).ln_1p(), 0.0),
            None => {
                let (softplus, sigmoid) = (-parameters[0].as_f64()).quick_softplus_and_sigmoid();
                (-softplus, -parameters[0].as_f64() - softplus, sigmoid)
            }
        }
    }

    fn own(&self) -> usize {
        usize::from(self.fixed.is_none())
    }
}

impl<T: Real, U: Univariate<T>> Univariate<T> for ZeroInflated<U> {
    fn parameter_count(&self) -> usize {
        self.own() + self.counts.parameter_count()
    }

    fn log_density(&self, x: T, y: T, parameters: &[T]) -> T {
        let (zero, other, _) = self.logarithms(parameters);
        let density = self.counts.log_density(x, y, &parameters[self.own()..]).as_f64();
        let density = other + density;
        finite(if x == T::zero() { add_logarithms(zero, density).0 } else { density })
    }

    fn log_density_gradient(&self, x: T, y: T, parameters: &[T], d: &mut [T]) -> (T, T) {
        let (zero, other, slope) = self.logarithms(parameters);
        let own = self.own();
        let (density, d_output) =
            self.counts.log_density_gradient(x, y, &parameters[own..], &mut d[own..]);
        let density = other + density.as_f64();
        // The posterior probability that the count is not an added zero.
        let (value, share) =
            if x == T::zero() { add_logarithms(zero, density) } else { (density, 1.0) };
        for d in &mut d[own..] {
            *d = finite(share * d.as_f64());
        }
        if own == 1 {
            // (1 − share)·(1 − π) − share·π
            d[0] = finite(slope - share);
        }
        (finite(value), finite(share * d_output.as_f64()))
    }

    fn mean(&self, y: T, parameters: &[T]) -> T {
        let (_, other, _) = self.logarithms(parameters);
        finite(other.exp() * self.counts.mean(y, &parameters[self.own()..]).as_f64())
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        let drawn = self.counts.sample(y, &parameters[self.own()..], rng);
        let share: T = self.zero_share(parameters);
        if rng.random::<f64>() < share.as_f64() { T::zero() } else { drawn }
    }

    fn contains(&self, x: T) -> bool {
        self.counts.contains(x)
    }

    fn support(&self) -> &'static str {
        self.counts.support()
    }

    /// U is started at the counts that are not 0, and π at the share of zeros that U does not have.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        let own = self.own();
        let positive: Vec<usize> = (0..values.len()).filter(|&i| values[i] > T::zero()).collect();
        let zeros = 1.0 - positive.len() as f64 / values.len().max(1) as f64;
        let at = |all: &[T]| positive.iter().filter_map(|&i| all.get(i).copied()).collect();
        let (others, of_others): (Vec<T>, Vec<T>) = (at(values), at(offsets));
        let y = if others.is_empty() {
            self.counts.start(values, offsets, &mut parameters[own..])
        } else {
            self.counts.start(&others, &of_others, &mut parameters[own..])
        };
        if own == 1 {
            let expected = self.counts.log_density(T::zero(), y, &parameters[own..]).as_f64().exp();
            let share = ((zeros - expected) / (1.0 - expected)).clamp(0.02, 0.98);
            parameters[0] = T::of((share / (1.0 - share)).ln());
        }
        y
    }

    fn with_floors_from(&self, values: &[T]) -> Self {
        Self { counts: self.counts.with_floors_from(values), ..self.clone() }
    }

    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        self.counts.rests_on_floor(&parameters[self.own()..])
    }
}

/// ln(e^a + e^b), and the share of e^b in the sum; −∞ is allowed for one of them.
fn add_logarithms(a: f64, b: f64) -> (f64, f64) {
    let larger = a.max(b);
    (larger + (-(b - a).abs()).exp().ln_1p(), (b - a).quick_sigmoid())
}

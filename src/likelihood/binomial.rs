//! Binomial distribution of the successes in a known number of trials.

use super::bernoulli_univariate::logit_of_mean;
use super::entries::{Entry, Entrywise, LANES, univariate_by_entries};
use super::poisson::{LARGEST_COUNT, is_count};
use super::start::{logit_bound, root_of_score};
use super::univariate::Univariate;
use crate::linalg::Elementary;
use crate::linalg::special::{ln_binomial, ln_factorial, ln_factorials};
use crate::{Error, Real, Result};
use rand::Rng;
use rand_distr::Distribution;

/// Binomial distribution of the number of successes in N trials, with the logit of a success as
/// predictor.
///
/// ```math
/// \ln p(x|y) = \ln\binom Nx + xy - N\ln(1+e^y)
/// ```
///
/// One trial is a Bernoulli variable. The expectation under a distribution of y needs quadrature.
/// Where variables differ in N, use [`Independent::of_each`](super::Independent::of_each).
///
/// ```
/// use elbo::likelihood::{Binomial, Univariate};
/// let density = Binomial::new(4)?.log_density(1.0f64, 0.0, &[]);
/// assert!((density - 0.25f64.ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binomial {
    trials: u64,
}

impl Binomial {
    /// The number of trials N.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless N is between 1 and 2⁵³.
    pub fn new(trials: u64) -> Result<Self> {
        if trials == 0 || trials as f64 > LARGEST_COUNT {
            let (name, value) = ("the number of trials", trials as f64);
            return Err(Error::InvalidParameter { name, value, must: "between 1 and 2⁵³" });
        }
        Ok(Self { trials })
    }

    /// The number of trials N.
    pub fn trials(&self) -> u64 {
        self.trials
    }
}

impl Entrywise<2, 0> for Binomial {
    fn slots(&self) -> [Option<usize>; 0] {
        []
    }

    fn constants(&self, _: impl Fn(usize) -> f64) -> [f64; 2] {
        [self.trials as f64, ln_factorial(self.trials as f64)]
    }

    #[inline(always)]
    fn of_x(x: &[f64; LANES], [trials, ln_all]: &[[f64; LANES]; 2]) -> [f64; LANES] {
        // Beyond the table of factorials their difference would cancel.
        if trials.iter().any(|&n| n >= 256.0) {
            return std::array::from_fn(|l| ln_binomial(trials[l], x[l]));
        }
        let mut failures = *trials;
        for l in 0..LANES {
            failures[l] = trials[l] - x[l];
        }
        let (of_x, of_failures) = (ln_factorials(x), ln_factorials(&failures));
        let mut values = *ln_all;
        for l in 0..LANES {
            values[l] = ln_all[l] - of_x[l] - of_failures[l];
        }
        values
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, ln_binomial: f64, [trials, _]: [f64; 2]) -> Entry<0> {
        let (softplus, sigmoid) = y.quick_softplus_and_sigmoid();
        Entry {
            density: ln_binomial + x * y - trials * softplus,
            d_output: x - trials * sigmoid,
            d_parameters: [],
        }
    }
}

impl<T: Real> Univariate<T> for Binomial {
    univariate_by_entries!(2, 0);

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        T::of(self.trials as f64 * y.as_f64().quick_sigmoid())
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        let share = y.as_f64().quick_sigmoid();
        match rand_distr::Binomial::new(self.trials, share) {
            Ok(binomial) => T::of(binomial.sample(rng) as f64),
            Err(_) => T::of((self.trials as f64 * share).round()),
        }
    }

    fn contains(&self, x: T) -> bool {
        is_count(x) && x.as_f64() <= self.trials as f64
    }

    fn support(&self) -> &'static str {
        "the counts from 0 to the number of trials"
    }

    /// The logit of the mean share, half a trial of each outcome added; with offsets the maximum
    /// likelihood.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        if !offsets.is_empty() {
            let bound = logit_bound(values.len().saturating_mul(self.trials as usize));
            return T::of(root_of_score(self, values, offsets, parameters, bound));
        }
        let total = values.iter().fold(0.0, |sum, x| sum + x.as_f64());
        T::of(logit_of_mean(total, self.trials as f64 * values.len() as f64))
    }
}

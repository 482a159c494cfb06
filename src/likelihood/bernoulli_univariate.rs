//! The Bernoulli distribution of one variable.

use super::Bernoulli;
use super::entries::{Entry, Entrywise, univariate_by_entries};
use super::start::{logit_bound, root_of_score};
use super::univariate::Univariate;
use crate::Real;
use crate::linalg::Elementary;
use rand::{Rng, RngExt};

/// The words for its support in an error.
pub(super) const UNIT_INTERVAL: &str = "[0, 1]";

/// ln(x̄/(1 − x̄)) of the mean of n values in [0, 1], half an observation of each end added.
pub(super) fn logit_of_mean(total: f64, n: f64) -> f64 {
    ((total + 0.5) / (n - total + 0.5)).ln()
}

impl Entrywise<0, 0> for Bernoulli {
    fn slots(&self) -> [Option<usize>; 0] {
        []
    }

    fn constants(&self, _: impl Fn(usize) -> f64) -> [f64; 0] {
        []
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, _: [f64; 0]) -> Entry<0> {
        let (softplus, sigmoid) = y.quick_softplus_and_sigmoid();
        Entry { density: x * y - softplus, d_output: x - sigmoid, d_parameters: [] }
    }
}

/// With the logit as predictor. The expectation under a distribution of y needs quadrature.
impl<T: Real> Univariate<T> for Bernoulli {
    univariate_by_entries!(0, 0);

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y.quick_sigmoid()
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        if rng.random::<f64>() < y.as_f64().quick_sigmoid() { T::one() } else { T::zero() }
    }

    fn contains(&self, x: T) -> bool {
        x >= T::zero() && x <= T::one()
    }

    fn support(&self) -> &'static str {
        UNIT_INTERVAL
    }

    /// The logit of the mean, half an observation of each value added; with offsets the maximum
    /// likelihood.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        if !offsets.is_empty() {
            let bound = logit_bound(values.len());
            return T::of(root_of_score(self, values, offsets, parameters, bound));
        }
        let total = values.iter().fold(0.0, |sum, x| sum + x.as_f64());
        T::of(logit_of_mean(total, values.len() as f64))
    }
}

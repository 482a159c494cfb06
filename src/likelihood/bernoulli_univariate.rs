//! The Bernoulli distribution of one variable.

use super::{Bernoulli, Univariate};
use crate::Real;
use rand::{Rng, RngExt};

impl<T: Real> Univariate<T> for Bernoulli {
    fn log_density(&self, x: T, y: T, _parameters: &[T]) -> T {
        x * y - y.softplus_and_sigmoid_from_exp(y.exp_neg_abs()).0
    }

    fn log_density_gradient(&self, x: T, y: T, _: &[T], _: &mut [T]) -> (T, T) {
        let (softplus, sigmoid) = y.softplus_and_sigmoid_from_exp(y.exp_neg_abs());
        (x * y - softplus, x - sigmoid)
    }

    fn mean(&self, y: T, _parameters: &[T]) -> T {
        y.quick_sigmoid()
    }

    fn sample(&self, y: T, _parameters: &[T], rng: &mut dyn Rng) -> T {
        if T::of(rng.random::<f64>()) < y.quick_sigmoid() { T::one() } else { T::zero() }
    }

    fn contains(&self, x: T) -> bool {
        x >= T::zero() && x <= T::one()
    }

    fn support(&self) -> &'static str {
        "[0, 1]"
    }

    /// The logit of the mean, away from 0 and 1 by half an observation.
    fn start(&self, values: &[T], offsets: &[T], _parameters: &mut [T]) -> T {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| v.as_f64()).sum::<f64>() / n;
        let mean = mean.clamp(0.5 / n.max(1.0), 1.0 - 0.5 / n.max(1.0));
        let offset = offsets.iter().map(|o| o.as_f64()).sum::<f64>() / n;
        T::of((mean / (1.0 - mean)).ln() - offset)
    }
}

//! The distribution of one variable given its predictor.

use super::entries::{Entries, sum_one_by_one};
use crate::Real;
use rand::Rng;

/// The distribution p(x|y; ξ) of one variable given its predictor y, an output of the decoder, and
/// parameters ξ of the variable itself, such as a dispersion.
///
/// [`Independent`](super::Independent) makes a likelihood of d variables of it. Implement the
/// log-density and its derivatives, the mean, the sampler and the support, to use the distribution
/// under every decoder, posterior and objective.
///
/// The parameters ξ are unconstrained real numbers: a positive parameter is stored as its
/// logarithm.
pub trait Univariate<T: Real>: Clone + std::fmt::Debug + PartialEq + Send + Sync {
    /// The number of parameters ξ of a variable.
    fn parameter_count(&self) -> usize {
        0
    }

    /// ln p(x|y; ξ) in nats, with every constant.
    fn log_density(&self, x: T, y: T, parameters: &[T]) -> T;

    /// ln p(x|y; ξ) and its derivative by y; the derivatives by ξ are written to `d_parameters`.
    fn log_density_gradient(&self, x: T, y: T, parameters: &[T], d_parameters: &mut [T]) -> (T, T);

    /// The expectation of ln p(x|y; ξ) over y ~ N(`mean`, `variance`), and its derivatives, where
    /// it has a closed form; `None`, the default, where it needs quadrature. The derivatives by ξ
    /// are written to `d_parameters`.
    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        parameters: &[T],
        d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        let _ = (x, mean, variance, parameters, d_parameters);
        None
    }

    /// E[x|y; ξ].
    fn mean(&self, y: T, parameters: &[T]) -> T;

    /// A sample of x.
    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T;

    /// Whether x can occur.
    fn contains(&self, x: T) -> bool;

    /// The values that can occur, in words, for an error.
    fn support(&self) -> &'static str;

    /// A predictor and parameters ξ for data without a latent variable, from which a fit starts:
    /// for a variable with the observed `values` (at least one, all in the support), of which value
    /// i has the known offset `offsets[i]` added to its predictor (empty for none). The parameters
    /// are written to `parameters`.
    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T;

    /// The distribution with floors that suit the observed values of its variable, such as a small
    /// share of their standard deviation, where the caller has set none; by default unchanged.
    fn with_floors_from(&self, values: &[T]) -> Self {
        let _ = values;
        self.clone()
    }

    /// Whether a parameter is at its declared floor.
    fn rests_on_floor(&self, parameters: &[T]) -> bool {
        let _ = parameters;
        false
    }

    /// The sum of the expectations of some entries with this distribution, which has no parameters,
    /// under normal predictors; `means` and `variances` are replaced by the derivatives by them, times
    /// `weight`, and are 0 at a missing entry. `None` where there is no loop for it.
    #[doc(hidden)]
    fn expected_log_densities(
        &self,
        x: &[T],
        means: &mut [T],
        variances: &mut [T],
        weight: T,
    ) -> Option<T> {
        let _ = (x, means, variances, weight);
        None
    }

    /// The number of constants of the loop over entries that depend on ξ alone.
    #[doc(hidden)]
    fn constant_count(&self) -> usize {
        0
    }

    /// Computes the constants of the loop over entries.
    #[doc(hidden)]
    fn constants(&self, parameters: &[T], constants: &mut [f64]) {
        let _ = (parameters, constants);
    }

    /// Whether variables with these distributions can be computed by one loop.
    #[doc(hidden)]
    fn shares_loop_with(&self, other: &Self) -> bool {
        self == other
    }

    /// The log-density of consecutive entries of one observation, with its weighted derivatives.
    #[doc(hidden)]
    fn sum_of_entries(&self, entries: Entries<'_, T>) -> f64 {
        sum_one_by_one(self, entries)
    }
}

/// An expectation E ln p(x|y) over y ~ N(m, v), in nats, and its derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedLogDensity<T> {
    /// The expectation.
    pub value: T,
    /// Its derivative by the mean m.
    pub d_mean: T,
    /// Its derivative by the variance v.
    pub d_variance: T,
}

//! A distribution of one variable that is chosen at run time.

use super::entries::Entries;
use super::{
    Bernoulli, Binomial, ContinuousBernoulli, ExpectedLogDensity, Gaussian, Laplace, LogNormal,
    NegativeBinomial, Ordinal, Poisson, StudentT, Univariate, ZeroInflated,
};
use crate::Real;
use rand::Rng;

/// Defines the enum, its conversions and its [`Univariate`] methods, which are those of the
/// variant.
macro_rules! dynamic_univariate {
    ($($(#[$doc:meta])* $name:ident($type:ty),)*) => {
        /// Any [`Univariate`] distribution of this crate, chosen at run time: a table with
        /// variables of several kinds is an [`Independent`](super::Independent) of these.
        ///
        /// ```
        /// use elbo::likelihood::{Bernoulli, DynUnivariate, Gaussian, Independent, Likelihood};
        /// use nalgebra::dmatrix;
        /// let kinds = vec![DynUnivariate::from(Gaussian::fixed(1.0)?), Bernoulli.into()];
        /// let mixed = Independent::<f64, _>::of_each(kinds)?;
        /// let (x, y) = (dmatrix![0.0; 1.0], dmatrix![0.0; 0.0]);
        /// let density = mixed.log_density(x.as_view(), y.as_view())[0];
        /// let expected = -0.5 * (2.0 * std::f64::consts::PI).ln() - 2f64.ln();
        /// assert!((density - expected).abs() < 1e-15);
        /// # Ok::<(), elbo::Error>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum DynUnivariate {
            $($(#[$doc])* $name($type),)*
        }

        $(impl From<$type> for DynUnivariate {
            fn from(distribution: $type) -> Self {
                Self::$name(distribution)
            }
        })*

        /// Calls a method of the variant's distribution.
        macro_rules! of_variant {
            ($self_:ident, $distribution:ident => $call:expr) => {
                match $self_ { $(Self::$name($distribution) => $call,)* }
            };
        }

        impl<T: Real> Univariate<T> for DynUnivariate {
            fn parameter_count(&self) -> usize {
                of_variant!(self, u => Univariate::<T>::parameter_count(u))
            }
            fn log_density(&self, x: T, y: T, parameters: &[T]) -> T {
                of_variant!(self, u => Univariate::log_density(u, x, y, parameters))
            }
            fn log_density_gradient(&self, x: T, y: T, parameters: &[T], d: &mut [T]) -> (T, T) {
                of_variant!(self, u => Univariate::log_density_gradient(u, x, y, parameters, d))
            }
            fn expected_log_density(
                &self,
                x: T,
                mean: T,
                variance: T,
                parameters: &[T],
                d_parameters: &mut [T],
            ) -> Option<ExpectedLogDensity<T>> {
                of_variant!(self, u => {
                    u.expected_log_density(x, mean, variance, parameters, d_parameters)
                })
            }
            fn expected_log_densities(
                &self,
                x: &[T],
                means: &mut [T],
                variances: &mut [T],
                weight: T,
            ) -> Option<T> {
                of_variant!(self, u => u.expected_log_densities(x, means, variances, weight))
            }
            fn mean(&self, y: T, parameters: &[T]) -> T {
                of_variant!(self, u => Univariate::mean(u, y, parameters))
            }
            fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
                of_variant!(self, u => Univariate::sample(u, y, parameters, rng))
            }
            fn contains(&self, x: T) -> bool {
                of_variant!(self, u => u.contains(x))
            }
            fn support(&self) -> &'static str {
                of_variant!(self, u => Univariate::<T>::support(u))
            }
            fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
                of_variant!(self, u => u.start(values, offsets, parameters))
            }
            fn with_floors_from(&self, values: &[T]) -> Self {
                of_variant!(self, u => u.with_floors_from(values).into())
            }
            fn rests_on_floor(&self, parameters: &[T]) -> bool {
                of_variant!(self, u => Univariate::rests_on_floor(u, parameters))
            }
            fn constant_count(&self) -> usize {
                of_variant!(self, u => Univariate::<T>::constant_count(u))
            }
            fn constants(&self, parameters: &[T], constants: &mut [f64]) {
                of_variant!(self, u => Univariate::constants(u, parameters, constants))
            }
            fn shares_loop_with(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$name(one), Self::$name(other)) => {
                        Univariate::<T>::shares_loop_with(one, other)
                    })*
                    _ => false,
                }
            }
            fn sum_of_entries(&self, entries: Entries<'_, T>) -> f64 {
                of_variant!(self, u => u.sum_of_entries(entries))
            }
        }
    };
}

dynamic_univariate! {
    /// Real numbers.
    Gaussian(Gaussian),
    /// Real numbers with outliers.
    StudentT(StudentT),
    /// Real numbers with heavy tails.
    Laplace(Laplace),
    /// Positive numbers.
    LogNormal(LogNormal),
    /// 0 and 1, or fractions of ones.
    Bernoulli(Bernoulli),
    /// Numbers in [0, 1].
    ContinuousBernoulli(ContinuousBernoulli),
    /// Successes in a known number of trials.
    Binomial(Binomial),
    /// Counts.
    Poisson(Poisson),
    /// Overdispersed counts.
    NegativeBinomial(NegativeBinomial),
    /// Counts with additional zeros.
    ZeroInflatedPoisson(ZeroInflated<Poisson>),
    /// Ordered categories.
    Ordinal(Ordinal),
}

//! The distributions that a column can have by its name on the command line.
//!
//! A run-time enum of the library can take the place of [`Distribution`]: only `parse` and the type
//! are used elsewhere.

use elbo::Real;
use elbo::likelihood::{Bernoulli, ExpectedLogDensity, Poisson, Univariate};
use rand::Rng;

/// The names that `parse` takes.
pub const NAMES: &str = "gaussian, gaussian_per_variable, bernoulli, poisson";

/// The distribution of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    Bernoulli,
    Poisson,
}

impl Distribution {
    /// The distribution of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bernoulli" => Self::Bernoulli,
            "poisson" => Self::Poisson,
            _ => return None,
        })
    }
}

/// Calls a method of the distribution.
macro_rules! each {
    ($self:ident, $distribution:ident => $call:expr) => {
        match $self {
            Self::Bernoulli => {
                let $distribution = &Bernoulli;
                $call
            }
            Self::Poisson => {
                let $distribution = &Poisson;
                $call
            }
        }
    };
}

impl<T: Real> Univariate<T> for Distribution {
    fn log_density(&self, x: T, y: T, parameters: &[T]) -> T {
        each!(self, d => Univariate::log_density(d, x, y, parameters))
    }

    fn log_density_gradient(&self, x: T, y: T, parameters: &[T], d_parameters: &mut [T]) -> (T, T) {
        each!(self, d => Univariate::log_density_gradient(d, x, y, parameters, d_parameters))
    }

    fn expected_log_density(
        &self,
        x: T,
        mean: T,
        variance: T,
        parameters: &[T],
        d_parameters: &mut [T],
    ) -> Option<ExpectedLogDensity<T>> {
        each!(self, d => d.expected_log_density(x, mean, variance, parameters, d_parameters))
    }

    fn mean(&self, y: T, parameters: &[T]) -> T {
        each!(self, d => Univariate::mean(d, y, parameters))
    }

    fn sample(&self, y: T, parameters: &[T], rng: &mut dyn Rng) -> T {
        each!(self, d => Univariate::sample(d, y, parameters, rng))
    }

    fn contains(&self, x: T) -> bool {
        each!(self, d => d.contains(x))
    }

    fn support(&self) -> &'static str {
        each!(self, d => Univariate::<T>::support(d))
    }

    fn start(&self, values: &[T], offsets: &[T], parameters: &mut [T]) -> T {
        each!(self, d => d.start(values, offsets, parameters))
    }
}

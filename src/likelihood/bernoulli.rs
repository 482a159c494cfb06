//! Binary variables, from logits.

use super::{Likelihood, OutputMean};
use crate::map::{Parameters, reshape};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, RngExt};

/// x_j|y_j ~ Bernoulli(sigmoid(y_j)), independent given the logits y; x in [0, 1], where a value between counts as a fraction of ones.
///
/// ```math
/// \log p(x|y) = \sum_j x_j y_j - \ln(1+e^{y_j})
/// ```
///
/// The logarithm is taken from the logits, so that nothing overflows and nothing is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bernoulli;

/// ln(1 + e^y) without overflow.
pub(crate) fn softplus<T: Real>(y: T) -> T {
    y.max(T::zero()) + (-y.abs()).exp().ln_1p()
}

/// 1/(1 + e^−y) without overflow.
pub(crate) fn sigmoid<T: Real>(y: T) -> T {
    let small = (-y.abs()).exp();
    (if y >= T::zero() { T::one() } else { small }) / (T::one() + small)
}

impl<T: Real> Parameters<T> for Bernoulli {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

impl<T: Real> OutputMean<T> for Bernoulli {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.map(sigmoid)
    }
}

impl<T: Real> Likelihood<T> for Bernoulli {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        let of_column = |(x, y): (nalgebra::DVectorView<'_, T>, nalgebra::DVectorView<'_, T>)| {
            x.iter().zip(y.iter()).fold(T::zero(), |sum, (&x, &y)| sum + x * y - softplus(y))
        };
        DVector::from_iterator(x.ncols(), x.column_iter().zip(output.column_iter()).map(of_column))
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        scale: T,
        d_output: &mut DMatrix<T>,
        _d_parameters: &mut [T],
    ) -> T {
        reshape(d_output, x.nrows(), x.ncols());
        let mut total = T::zero();
        for ((mut d_output, x), y) in d_output.column_iter_mut().zip(x.column_iter()).zip(output.column_iter()) {
            let mut own = T::zero();
            for ((d, &x), &y) in d_output.iter_mut().zip(x.iter()).zip(y.iter()) {
                // One exponential serves both the density and its derivative.
                let small = (-y.abs()).exp();
                let probability = (if y >= T::zero() { T::one() } else { small }) / (T::one() + small);
                own += x * y - y.max(T::zero()) - small.ln_1p();
                *d = scale * (x - probability);
            }
            total += own;
        }
        scale * total
    }

    fn sample<R: Rng + ?Sized>(&self, output: DMatrixView<'_, T>, rng: &mut R) -> DMatrix<T> {
        output.map(|y| if T::of(rng.random::<f64>()) < sigmoid(y) { T::one() } else { T::zero() })
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        for (column, observation) in x.values().column_iter().enumerate() {
            if let Some(row) = observation.iter().position(|&v| v < T::zero() || v > T::one()) {
                return Err(Error::OutsideSupport { row, column, value: observation[row].as_f64(), support: "[0, 1]" });
            }
        }
        Ok(())
    }
}

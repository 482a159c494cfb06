//! Likelihood of variables that are independent given one predictor each.

use super::{ConditionalMean, Likelihood, Univariate, Weights, is_missing};
use crate::data::expect;
use crate::linalg::reshape;
use crate::map::Parameters;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;
use std::ops::Range;

/// Likelihood of d variables that are independent given the decoder's output y, each with a
/// [`Univariate`] distribution and with parameters ξ_j of its own.
///
/// ```math
/// \log p(x|y) = \sum_j \ln p(x_j|y_j; ξ_j)
/// ```
///
/// The free parameters are the ξ_j, one variable after the other. An entry of x that is NaN is
/// missing: it is left out of the sum.
///
/// ```
/// use elbo::likelihood::{Independent, Likelihood, Poisson};
/// use nalgebra::dmatrix;
/// let counts = Independent::<f64, _>::new(Poisson, 2)?;
/// // ln p(3|e⁰) + ln p(1|e¹) = −1 − ln 3! + 1 − e
/// let expected = -(6.0f64.ln()) - 1.0f64.exp();
/// let found = counts.log_density(dmatrix![3.0; 1.0].as_view(), dmatrix![0.0; 1.0].as_view())[0];
/// assert!((found - expected).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Independent<T: Real, U> {
    // One for all variables, or one for each.
    distributions: Vec<U>,
    parameters: Vec<T>,
    // The parameters of variable j are those from ends[j − 1] to ends[j].
    ends: Vec<usize>,
}

impl<T: Real, U: Univariate<T>> Independent<T, U> {
    /// d variables with the same distribution; all parameters ξ are 0.
    ///
    /// # Errors
    /// [`Error::Empty`] for d = 0.
    pub fn new(distribution: U, data_dim: usize) -> Result<Self> {
        let count = distribution.parameter_count();
        Self::of(vec![distribution], (1..=data_dim).map(|j| j * count).collect())
    }

    /// One distribution for each variable; all parameters ξ are 0.
    ///
    /// # Errors
    /// [`Error::Empty`] without a distribution.
    pub fn of_each(distributions: Vec<U>) -> Result<Self> {
        let ends = distributions.iter().scan(0, |end, distribution| {
            *end += distribution.parameter_count();
            Some(*end)
        });
        let ends = ends.collect();
        Self::of(distributions, ends)
    }

    fn of(distributions: Vec<U>, ends: Vec<usize>) -> Result<Self> {
        let Some(&count) = ends.last() else {
            return Err(Error::Empty { rows: 0, columns: 1 });
        };
        Ok(Self { distributions, parameters: vec![T::zero(); count], ends })
    }

    /// The distribution of variable j.
    pub fn distribution(&self, j: usize) -> &U {
        if self.distributions.len() == 1 { &self.distributions[0] } else { &self.distributions[j] }
    }

    /// The parameters ξ_j of variable j.
    pub fn parameters_of(&self, j: usize) -> &[T] {
        &self.parameters[self.range(j)]
    }

    /// The places of the parameters of variable j in [`parameters`](Parameters::parameters).
    pub(crate) fn range(&self, j: usize) -> Range<usize> {
        (if j == 0 { 0 } else { self.ends[j - 1] })..self.ends[j]
    }

    /// The distribution of all variables, or one for each.
    #[cfg(feature = "serde")]
    pub(crate) fn distributions(&self) -> &[U] {
        &self.distributions
    }

    /// d variables with one distribution for all, or one for each.
    #[cfg(feature = "serde")]
    pub(crate) fn from_distributions(mut distributions: Vec<U>, data_dim: usize) -> Result<Self> {
        match distributions.pop() {
            Some(last) if distributions.is_empty() => Self::new(last, data_dim),
            last => {
                distributions.extend(last);
                Self::of_each(distributions)
            }
        }
    }

    /// The number d of variables.
    pub(crate) fn variables(&self) -> usize {
        self.ends.len()
    }
}

impl<T: Real, U> Parameters<T> for Independent<T, U> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }
}

impl<T: Real, U: Univariate<T>> ConditionalMean<T> for Independent<T, U> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        DMatrix::from_fn(output.nrows(), output.ncols(), |j, i| {
            self.distribution(j).mean(output[(j, i)], self.parameters_of(j))
        })
    }

    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        expect("variables of the likelihood", output_dim, self.variables())?;
        Ok(output_dim)
    }
}

impl<T: Real, U: Univariate<T>> Likelihood<T> for Independent<T, U> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        DVector::from_fn(x.ncols(), |i, _| {
            (0..x.nrows()).filter(|&j| !is_missing(x[(j, i)])).fold(T::zero(), |sum, j| {
                let (x, y) = (x[(j, i)], output[(j, i)]);
                sum + self.distribution(j).log_density(x, y, self.parameters_of(j))
            })
        })
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        reshape(d_output, x.nrows(), x.ncols());
        d_parameters.fill(T::zero());
        let mut total = T::zero();
        let mut own = vec![T::zero(); self.parameters.len()];
        for i in 0..x.ncols() {
            let weight = weights.of(i);
            for j in 0..x.nrows() {
                let value = x[(j, i)];
                if is_missing(value) {
                    d_output[(j, i)] = T::zero();
                    continue;
                }
                let range = self.range(j);
                let (density, slope) = self.distribution(j).log_density_gradient(
                    value,
                    output[(j, i)],
                    &self.parameters[range.clone()],
                    &mut own[range.clone()],
                );
                total += weight * density;
                d_output[(j, i)] = weight * slope;
                for (sum, &d) in d_parameters[range.clone()].iter_mut().zip(&own[range]) {
                    *sum += weight * d;
                }
            }
        }
        total
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        DMatrix::from_fn(output.nrows(), output.ncols(), |j, i| {
            self.distribution(j).sample(output[(j, i)], self.parameters_of(j), rng)
        })
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        for (column, observation) in x.values().column_iter().enumerate() {
            for (row, &value) in observation.iter().enumerate() {
                let distribution = self.distribution(row);
                if !(is_missing(value) || distribution.contains(value)) {
                    return Err(Error::OutsideSupport {
                        row,
                        column,
                        value: value.as_f64(),
                        support: distribution.support(),
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Poisson;
    use super::*;
    use crate::testing::check_likelihood;
    use nalgebra::dmatrix;
    use rand::{SeedableRng, rngs::StdRng};

    fn conforms<T: Real>() {
        let x = dmatrix![3.0, 0.0, 7.0; 1.0, 2.0, 0.0].map(T::of);
        let output = dmatrix![0.5, -1.0, 2.0; 0.1, 0.2, -0.5].map(T::of);
        let likelihood = Independent::new(Poisson, 2).unwrap();
        let x = Observations::new(x.as_view()).unwrap();
        check_likelihood(&likelihood, x, &output, &mut StdRng::seed_from_u64(1)).unwrap();
    }

    #[test]
    fn poisson_conforms() {
        conforms::<f64>();
        conforms::<f32>();
    }

    #[test]
    fn counts_are_checked() {
        let likelihood = Independent::<f64, _>::new(Poisson, 2).unwrap();
        for bad in [-1.0, 0.5, 1e17] {
            let x = dmatrix![1.0, 2.0; 3.0, bad];
            let error = likelihood.check_support(Observations::new(x.as_view()).unwrap());
            assert!(matches!(error, Err(Error::OutsideSupport { row: 1, column: 1, .. })));
        }
    }
}

//! Categories without an order.

use super::entries::{Gradient, finite, sum_over_observations};
use super::{ConditionalMean, Likelihood, Weights, is_missing};
use crate::data::expect;
use crate::linalg::vector::exp;
use crate::map::Parameters;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, RngExt};
use std::ops::Range;

/// Categorical likelihood: d variables with C_j categories 0, 1, …, C_j − 1 each, independent given
/// the decoder's output, which has C_j rows for variable j (Σ C_j in all), the unnormalised
/// log-probabilities.
///
/// ```math
/// \log p(x|y) = \sum_j y_{j,x_j} - \ln\sum_c e^{y_{j,c}}
/// ```
///
/// Every category has a row, so that none is a reference category: a constant added to the rows of
/// a variable changes nothing. For two categories it is the Bernoulli likelihood of the difference
/// of the rows. `mean` is the mean of the category numbers;
/// [`probabilities`](Self::probabilities) returns what is of use for categories without an order.
/// An entry of x that is NaN is missing: it is left out of the sum. The expectation under a
/// distribution of y needs a product rule (two rows matter for two categories) or samples.
///
/// ```
/// use elbo::likelihood::{Categorical, Likelihood};
/// use nalgebra::{dmatrix, dvector};
/// let colour = Categorical::new(vec![3])?;
/// let equal = dmatrix![0.5; 0.5; 0.5];
/// let density = colour.log_density(dmatrix![2.0].as_view(), equal.as_view())[0];
/// assert!((density + 3f64.ln()).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Categorical {
    // The rows of variable j end at ends[j].
    ends: Vec<usize>,
}

impl Categorical {
    /// The number C_j of categories of each variable.
    ///
    /// # Errors
    /// [`Error::Empty`] without a variable; [`Error::InvalidParameter`] unless each C_j is at least
    /// 2.
    pub fn new(categories: Vec<usize>) -> Result<Self> {
        if categories.is_empty() {
            return Err(Error::Empty { rows: 0, columns: 1 });
        }
        if let Some(&few) = categories.iter().find(|&&c| c < 2) {
            let (name, value) = ("the number of categories", few as f64);
            return Err(Error::InvalidParameter { name, value, must: "at least 2" });
        }
        let ends = categories.iter().scan(0, |end, c| {
            *end += c;
            Some(*end)
        });
        Ok(Self { ends: ends.collect() })
    }

    /// The rows of the decoder's output that belong to variable j.
    pub fn rows(&self, j: usize) -> Range<usize> {
        (if j == 0 { 0 } else { self.ends[j - 1] })..self.ends[j]
    }

    /// The probability of each category, in the shape of the output: one where the output has a
    /// logarithm.
    pub fn probabilities<T: Real>(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        let mut probabilities = output.into_owned();
        for mut column in probabilities.column_iter_mut() {
            for j in 0..self.ends.len() {
                let mut own = column.rows_range_mut(self.rows(j));
                let values: Vec<f64> = own.iter().map(|y| y.as_f64()).collect();
                let normaliser = log_sum(values.iter().copied());
                own.iter_mut().zip(values).for_each(|(p, y)| *p = T::of((y - normaliser).exp()));
            }
        }
        probabilities
    }

    /// The output from which a fit starts: the logarithms of the shares of the categories, half an
    /// observation of each added, less their mean over a variable's categories.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] unless x has d rows; [`Error::OutsideSupport`].
    pub fn start<T: Real>(&self, x: DMatrixView<'_, T>) -> Result<DVector<T>> {
        expect("variables of the likelihood", self.ends.len(), x.nrows())?;
        self.check_entries(x)?;
        let mut output = DVector::zeros(self.ends.last().copied().unwrap_or(0));
        for j in 0..x.nrows() {
            let rows = self.rows(j);
            let mut counts = vec![0.5; rows.len()];
            for x in x.row(j).iter().filter(|&&x| !is_missing(x)) {
                counts[category(*x)] += 1.0;
            }
            let mean = counts.iter().map(|c: &f64| c.ln()).sum::<f64>() / rows.len() as f64;
            for (row, count) in rows.zip(counts) {
                output[row] = T::of(count.ln() - mean);
            }
        }
        Ok(output)
    }

    /// Checks the support of the entries that are not missing.
    fn check_entries<T: Real>(&self, x: DMatrixView<'_, T>) -> Result<()> {
        for (column, observation) in x.column_iter().enumerate() {
            for (row, &x) in observation.iter().enumerate() {
                let categories = T::of_usize(self.rows(row).len());
                if !(is_missing(x) || x >= T::zero() && x < categories && x.floor() == x) {
                    let support = "the numbers of the categories, from 0";
                    return Err(Error::OutsideSupport { row, column, value: x.as_f64(), support });
                }
            }
        }
        Ok(())
    }

    /// The log-density of one observation.
    fn log_density_of<T: Real>(&self, x: &[T], y: &[T]) -> f64 {
        let entry = |(j, &x): (usize, &T)| {
            let own = &y[self.rows(j)];
            let c = category(x).min(own.len() - 1);
            own[c].as_f64() - log_sum(own.iter().map(|y| y.as_f64()))
        };
        x.iter().enumerate().filter(|(_, x)| !is_missing(**x)).map(entry).sum()
    }

    /// The log-density of one observation and its derivative.
    fn gradient_of<T: Real>(&self, x: &[T], y: &[T], gradient: Gradient<'_, T>) -> f64 {
        let (d_output, mut sum) = (gradient.d_output, 0.0);
        let largest_of = |own: &[T]| own.iter().fold(own[0], |a, &y| if y > a { y } else { a });
        for j in 0..x.len() {
            let largest = largest_of(&y[self.rows(j)]);
            for (to, &y) in d_output[self.rows(j)].iter_mut().zip(&y[self.rows(j)]) {
                *to = y - largest;
            }
        }
        // One vectorised loop over the rows of all variables.
        exp(d_output);
        for (j, &x) in x.iter().enumerate() {
            let (y, d_output) = (&y[self.rows(j)], &mut d_output[self.rows(j)]);
            if is_missing(x) {
                d_output.fill(T::zero());
                continue;
            }
            let c = category(x).min(y.len() - 1);
            let total: f64 = d_output.iter().map(|power| power.as_f64()).sum();
            sum += (y[c] - largest_of(y)).as_f64() - total.ln();
            let scale = -gradient.weight / total;
            for to in d_output.iter_mut() {
                *to = finite::<T>(scale * to.as_f64()).flushed();
            }
            d_output[c] += finite::<T>(gradient.weight);
        }
        sum
    }
}

/// The number of a category.
fn category<T: Real>(x: T) -> usize {
    x.as_f64().max(0.0) as usize
}

/// ln Σ e^y, without overflow.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|y| (y - largest).exp()).sum::<f64>().ln()
}

impl<T: Real> Parameters<T> for Categorical {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

impl<T: Real> ConditionalMean<T> for Categorical {
    /// The mean of the category numbers.
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        let probabilities = self.probabilities(output);
        DMatrix::from_fn(self.ends.len(), output.ncols(), |j, i| {
            let own = self.rows(j).map(|row| probabilities[(row, i)].as_f64());
            T::of(own.enumerate().map(|(c, p)| c as f64 * p).sum())
        })
    }

    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        let rows = self.ends.last().copied().unwrap_or(0);
        expect("rows of the decoder's output, one for each category", rows, output_dim)?;
        Ok(self.ends.len())
    }

    fn output_dim(&self, data_dim: usize) -> Result<usize> {
        expect("variables of the likelihood", self.ends.len(), data_dim)?;
        Ok(self.ends.last().copied().unwrap_or(0))
    }
}

impl<T: Real> Likelihood<T> for Categorical {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        DVector::from_fn(x.ncols(), |i, _| {
            let (x, y) = (x.column(i), output.column(i));
            finite(self.log_density_of(x.as_slice(), y.as_slice()))
        })
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        _d_parameters: &mut [T],
    ) -> T {
        let sums = sum_over_observations(
            output.shape(),
            weights,
            d_output,
            0,
            &|i, (): &mut (), gradient| {
                let (x, y) = (x.column(i), output.column(i));
                self.gradient_of(x.as_slice(), y.as_slice(), gradient)
            },
        );
        finite(sums.value)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        let probabilities = self.probabilities(output);
        DMatrix::from_fn(self.ends.len(), output.ncols(), |j, i| {
            let mut left = rng.random::<f64>();
            let rows = self.rows(j);
            let last = rows.len() - 1;
            let drawn = rows.take(last).position(|row| {
                left -= probabilities[(row, i)].as_f64();
                left < 0.0
            });
            T::of_usize(drawn.unwrap_or(last))
        })
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        self.check_entries(x.values())
    }
}

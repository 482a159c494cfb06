//! Likelihood of variables that are independent given one predictor each.

use super::entries::{Entries, finite, sum_over_observations};
use super::{ConditionalMean, Likelihood, Univariate, Weights, is_missing};
use crate::data::expect;
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
    // Runs of consecutive variables that one loop computes.
    runs: Vec<Run>,
}

/// Consecutive variables whose distributions share one loop over entries.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    variables: Range<usize>,
    parameters: Range<usize>,
    /// Their places in a list of the constants of all runs.
    constants: Range<usize>,
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
        let parameters = vec![T::zero(); count];
        let mut this = Self { distributions, parameters, ends, runs: Vec::new() };
        this.runs = this.runs();
        Ok(this)
    }

    fn runs(&self) -> Vec<Run> {
        let (d, mut runs) = (self.variables(), Vec::new());
        let (mut first, mut constants) = (0, 0);
        for j in 1..=d {
            let same = |j| self.distribution(first).shares_loop_with(self.distribution(j));
            if j < d && (self.distributions.len() == 1 || same(j)) {
                continue;
            }
            let count = (j - first) * self.distribution(first).constant_count();
            runs.push(Run {
                variables: first..j,
                parameters: self.range(first).start..self.ends[j - 1],
                constants: constants..constants + count,
            });
            (first, constants) = (j, constants + count);
        }
        runs
    }

    /// The constants of the loops: in each run the first of all its variables, then the second.
    fn constants(&self) -> Vec<f64> {
        let mut all = vec![0.0; self.runs.last().map_or(0, |run| run.constants.end)];
        for run in &self.runs {
            let (first, len) = (run.variables.start, run.variables.len());
            let count = self.distribution(first).constant_count();
            let mut own = vec![0.0; count];
            for j in run.variables.clone() {
                self.distribution(j).constants(self.parameters_of(j), &mut own);
                for (c, &constant) in own.iter().enumerate() {
                    all[run.constants.start + c * len + j - first] = constant;
                }
            }
        }
        all
    }

    /// The entries of an observation that belong to a run.
    fn entries<'a>(
        &'a self,
        run: &Run,
        (x, y): (&'a [T], &'a [T]),
        constants: &'a [f64],
    ) -> Entries<'a, T> {
        Entries {
            x: &x[run.variables.clone()],
            y: &y[run.variables.clone()],
            parameters: &self.parameters[run.parameters.clone()],
            constants: &constants[run.constants.clone()],
            gradient: None,
        }
    }

    /// Sets the parameters ξ_j to values from which a fit can start, and the floors that the caller
    /// has not set to ones that suit the data; returns the predictor of each variable (d).
    ///
    /// `x` is d×n, where NaN is a missing entry, and `offsets`, if there are any, are the known
    /// offsets of the predictors, d×n.
    ///
    /// ```
    /// use elbo::likelihood::{Independent, Poisson};
    /// use nalgebra::dmatrix;
    /// let mut counts = Independent::<f64, _>::new(Poisson, 1)?;
    /// let x = dmatrix![1.0, f64::NAN, 3.0];
    /// let predictors = counts.start(x.as_view(), None)?;
    /// assert!((predictors[0] - 2.0f64.ln()).abs() < 1e-15);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] unless x has d rows and the offsets have its shape;
    /// [`Error::OutsideSupport`]; [`Error::NeverObserved`] for a variable without an entry.
    pub fn start(
        &mut self,
        x: DMatrixView<'_, T>,
        offsets: Option<DMatrixView<'_, T>>,
    ) -> Result<DVector<T>> {
        expect("variables of the likelihood", self.variables(), x.nrows())?;
        if let Some(offsets) = &offsets {
            expect("rows of the offsets", x.nrows(), offsets.nrows())?;
            expect("columns of the offsets", x.ncols(), offsets.ncols())?;
        }
        self.check_entries(x)?;
        let mut predictors = DVector::zeros(x.nrows());
        let mut distributions = Vec::with_capacity(x.nrows());
        for j in 0..x.nrows() {
            let observed = || (0..x.ncols()).filter(|&i| !is_missing(x[(j, i)]));
            let values: Vec<T> = observed().map(|i| x[(j, i)]).collect();
            if values.is_empty() {
                return Err(Error::NeverObserved { variable: j, observations: x.ncols() });
            }
            let of_values: Vec<T> =
                offsets.iter().flat_map(|o| observed().map(|i| o[(j, i)])).collect();
            let distribution = self.distribution(j).with_floors_from(&values);
            let range = self.range(j);
            predictors[j] = distribution.start(&values, &of_values, &mut self.parameters[range]);
            distributions.push(distribution);
        }
        // One distribution remains one where the data have not made them differ.
        if self.distributions.len() == 1 && distributions.iter().all(|d| *d == distributions[0]) {
            distributions.truncate(1);
        }
        self.distributions = distributions;
        Ok(predictors)
    }

    /// Checks the support of the entries that are not missing.
    pub(crate) fn check_entries(&self, x: DMatrixView<'_, T>) -> Result<()> {
        for (column, observation) in x.column_iter().enumerate() {
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

impl<T: Real, U: Univariate<T>> Parameters<T> for Independent<T, U> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }

    fn rests_on_floor(&self) -> bool {
        (0..self.variables()).any(|j| self.distribution(j).rests_on_floor(self.parameters_of(j)))
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
        let constants = self.constants();
        DVector::from_fn(x.ncols(), |i, _| {
            let (x, y) = (x.column(i), output.column(i));
            let sum = self.runs.iter().fold(0.0, |sum, run| {
                let entries = self.entries(run, (x.as_slice(), y.as_slice()), &constants);
                sum + self.distribution(run.variables.start).sum_of_entries(entries)
            });
            finite(sum)
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
        let constants = self.constants();
        let count = self.parameters.len();
        let sums = sum_over_observations(x.shape(), weights, d_output, count, &|i, mut of| {
            let (x, y) = (x.column(i), output.column(i));
            let (x, y) = (x.as_slice(), y.as_slice());
            self.runs.iter().fold(0.0, |sum, run| {
                let gradient = of.part(&run.variables, &run.parameters);
                let entries =
                    Entries { gradient: Some(gradient), ..self.entries(run, (x, y), &constants) };
                sum + self.distribution(run.variables.start).sum_of_entries(entries)
            })
        });
        for run in &self.runs {
            let len = run.variables.len();
            let own = &sums.d_parameters[run.parameters.clone()];
            let count = own.len() / len;
            // The sums are in the order of the constants, the parameters in that of the variables.
            for (at, to) in d_parameters[run.parameters.clone()].iter_mut().enumerate() {
                *to = finite(own[at % count * len + at / count]);
            }
        }
        finite(sums.value)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        DMatrix::from_fn(output.nrows(), output.ncols(), |j, i| {
            self.distribution(j).sample(output[(j, i)], self.parameters_of(j), rng)
        })
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        self.check_entries(x.values())
    }
}

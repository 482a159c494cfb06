//! Likelihood of variables that are independent given one predictor each.

use super::entries::{Entries, Gradient, finite, sum_over_observations};
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
    // The variables by the loop that computes them.
    runs: Vec<Run>,
}

/// Variables whose distributions share one loop over entries.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    /// In increasing order.
    variables: Vec<usize>,
    /// The number of parameters of each.
    parameters: usize,
    /// The places of their constants, and of their parameters, in lists of all runs.
    constants: Range<usize>,
    sums: Range<usize>,
}

impl Run {
    /// The range of the variables, if they are consecutive.
    fn consecutive(&self) -> Option<Range<usize>> {
        let (first, len) = (self.variables[0], self.variables.len());
        (self.variables[len - 1] == first + len - 1).then_some(first..first + len)
    }
}

/// What depends on the parameters alone: the constants of all runs, and their parameters.
struct Prepared<T> {
    constants: Vec<f64>,
    parameters: Vec<T>,
}

/// The entries of one observation that belong to a run of variables that are not consecutive.
struct Gathered<T> {
    x: Vec<T>,
    y: Vec<T>,
    d_output: Vec<T>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { x: Vec::new(), y: Vec::new(), d_output: Vec::new() }
    }
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
        let mut runs: Vec<Run> = Vec::new();
        for j in 0..self.variables() {
            let own = self.distribution(j);
            let shares = |run: &&mut Run| {
                self.distributions.len() == 1
                    || self.distribution(run.variables[0]).shares_loop_with(own)
            };
            match runs.iter_mut().find(shares) {
                Some(run) => run.variables.push(j),
                None => runs.push(Run {
                    variables: vec![j],
                    parameters: own.parameter_count(),
                    constants: 0..0,
                    sums: 0..0,
                }),
            }
        }
        let (mut constants, mut sums) = (0, 0);
        for run in &mut runs {
            let len = run.variables.len();
            let count = len * self.distribution(run.variables[0]).constant_count();
            run.constants = constants..constants + count;
            run.sums = sums..sums + len * run.parameters;
            (constants, sums) = (run.constants.end, run.sums.end);
        }
        runs
    }

    /// The constants of the loops, in each run the first of all its variables, then the second; and
    /// the parameters, one variable after the other.
    fn prepared(&self) -> Prepared<T> {
        let mut constants = vec![0.0; self.runs.last().map_or(0, |run| run.constants.end)];
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for run in &self.runs {
            let count = run.constants.len() / run.variables.len();
            let mut own = vec![0.0; count];
            for (l, &j) in run.variables.iter().enumerate() {
                self.distribution(j).constants(self.parameters_of(j), &mut own);
                for (c, &constant) in own.iter().enumerate() {
                    constants[run.constants.start + c * run.variables.len() + l] = constant;
                }
                parameters.extend_from_slice(self.parameters_of(j));
            }
        }
        Prepared { constants, parameters }
    }

    /// The log-density of an observation, with its weighted derivatives if wanted.
    fn sum_of_runs(
        &self,
        (x, y): (&[T], &[T]),
        prepared: &Prepared<T>,
        buffers: &mut Gathered<T>,
        mut gradient: Option<Gradient<'_, T>>,
    ) -> f64 {
        let mut sum = 0.0;
        for run in &self.runs {
            let distribution = self.distribution(run.variables[0]);
            let entries = |x, y, gradient| Entries {
                x,
                y,
                parameters: &prepared.parameters[run.sums.clone()],
                constants: &prepared.constants[run.constants.clone()],
                gradient,
            };
            if let Some(all) = run.consecutive() {
                let (x, y) = (&x[all.clone()], &y[all.clone()]);
                let part = gradient.as_mut().map(|of| of.part(all, run.sums.clone()));
                sum += distribution.sum_of_entries(entries(x, y, part));
                continue;
            }
            let Gathered { x: own_x, y: own_y, d_output } = &mut *buffers;
            own_x.clear();
            own_x.extend(run.variables.iter().map(|&j| x[j]));
            own_y.clear();
            own_y.extend(run.variables.iter().map(|&j| y[j]));
            d_output.resize(run.variables.len(), T::zero());
            let part = gradient.as_mut().map(|of| Gradient {
                weight: of.weight,
                d_output,
                d_parameters: &mut of.d_parameters[run.sums.clone()],
                scratch: of.scratch,
            });
            sum += distribution.sum_of_entries(entries(own_x, own_y, part));
            if let Some(of) = &mut gradient {
                for (&j, &d) in run.variables.iter().zip(&buffers.d_output) {
                    of.d_output[j] = d;
                }
            }
        }
        sum
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

    /// The distribution of all variables, if they have the same one, without parameters.
    pub(crate) fn common(&self) -> Option<&U> {
        let first = self.distributions.first()?;
        let alike = self.parameters.is_empty() && self.distributions.iter().all(|d| d == first);
        alike.then_some(first)
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
        let (prepared, mut buffers) = (self.prepared(), Gathered::default());
        DVector::from_fn(x.ncols(), |i, _| {
            let (x, y) = (x.column(i), output.column(i));
            let both = (x.as_slice(), y.as_slice());
            finite(self.sum_of_runs(both, &prepared, &mut buffers, None))
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
        let (prepared, count) = (self.prepared(), self.parameters.len());
        let sums =
            sum_over_observations(x.shape(), weights, d_output, count, &|i, buffers, gradient| {
                let (x, y) = (x.column(i), output.column(i));
                let both = (x.as_slice(), y.as_slice());
                self.sum_of_runs(both, &prepared, buffers, Some(gradient))
            });
        for run in &self.runs {
            let own = &sums.d_parameters[run.sums.clone()];
            // The sums are in the order of the constants, the parameters in that of the variables.
            for (l, &j) in run.variables.iter().enumerate() {
                for (c, to) in d_parameters[self.range(j)].iter_mut().enumerate() {
                    *to = finite(own[c * run.variables.len() + l]);
                }
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

//! The product of two likelihoods of different variables.

use super::{ConditionalMean, Likelihood, Weights};
use crate::data::expect;
use crate::linalg::reshape;
use crate::map::Parameters;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;
use std::ops::Range;

/// The product of two likelihoods, each of some of the variables, such as Gaussian on these and
/// categorical on those; the variables are independent given the decoder's output.
///
/// ```math
/// \log p(x|y) = \log p_A(x_A|y_A) + \log p_B(x_B|y_B)
/// ```
///
/// The first rows of the decoder's output y are those of A, the others those of B. The parameters
/// are those of A, then those of B. A product of more factors is a product of products.
///
/// ```
/// use elbo::likelihood::{Bernoulli, IsotropicGaussian, Likelihood, Product};
/// use nalgebra::dmatrix;
/// // Variables 0 and 2 are real numbers, variable 1 is binary.
/// let noise = IsotropicGaussian::new(1.0)?;
/// let mixed = Product::new((noise, vec![0, 2]), (Bernoulli, vec![1]))?;
/// let (x, y) = (dmatrix![0.1f64; 1.0; -0.2], dmatrix![0.0; 0.0; 0.7]);
/// let density = mixed.log_density(x.as_view(), y.as_view())[0];
/// let of_reals =
///     noise.log_density(dmatrix![0.1; -0.2].as_view(), dmatrix![0.0; 0.0].as_view())[0];
/// let of_binary = Bernoulli.log_density(dmatrix![1.0].as_view(), dmatrix![0.7].as_view())[0];
/// assert!((density - (of_reals + of_binary)).abs() < 1e-15);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Product<T: Real, A, B> {
    // `parameters` is valid: the parameters of the factors themselves are those of the last `set`.
    first: A,
    second: B,
    first_part: Part,
    second_part: Part,
    parameters: Vec<T>,
}

/// What one factor takes of the data, the output and the parameters.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    variables: Vec<usize>,
    rows: Range<usize>,
    parameters: Range<usize>,
}

impl Part {
    /// The variables of the factor, in its order.
    fn select<T: Real>(&self, x: &DMatrixView<'_, T>) -> DMatrix<T> {
        x.select_rows(&self.variables)
    }

    /// Writes rows of the factor's variables to theirs in all.
    fn scatter<T: Real>(&self, own: &DMatrix<T>, all: &mut DMatrix<T>) {
        for (row, &variable) in self.variables.iter().enumerate() {
            all.row_mut(variable).copy_from(&own.row(row));
        }
    }

    /// The log-density of the factor and its derivatives, which are written to their places.
    fn gradient<T: Real>(
        &self,
        likelihood: &impl Likelihood<T>,
        (x, output): (&DMatrixView<'_, T>, &DMatrixView<'_, T>),
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        let mut own = DMatrix::zeros(0, 0);
        let output = output.rows(self.rows.start, self.rows.len());
        let d_parameters = &mut d_parameters[self.parameters.clone()];
        let x = self.select(x);
        let value =
            likelihood.log_density_gradient(x.as_view(), output, weights, &mut own, d_parameters);
        d_output.rows_mut(self.rows.start, self.rows.len()).copy_from(&own);
        value
    }
}

impl<T: Real, A: Likelihood<T>, B: Likelihood<T>> Product<T, A, B> {
    /// Two likelihoods, each with its variables (rows of x, counted from 0). Every variable belongs
    /// to one of them, in any order.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a variable that belongs to none or to both;
    /// [`Error::Empty`] for a factor without a variable; [`Error::DimensionMismatch`] where a
    /// likelihood does not fit its number of variables.
    pub fn new(
        (first, of_first): (A, Vec<usize>),
        (second, of_second): (B, Vec<usize>),
    ) -> Result<Self> {
        if of_first.is_empty() || of_second.is_empty() {
            return Err(Error::Empty { rows: 0, columns: 1 });
        }
        check_partition(&[of_first.as_slice(), &of_second].concat())?;
        let rows = first.output_dim(of_first.len())?;
        let all_rows = rows + second.output_dim(of_second.len())?;
        let parameters = [first.parameters(), second.parameters()].concat();
        let count = first.parameters().len();
        Ok(Self {
            first,
            second,
            first_part: Part { variables: of_first, rows: 0..rows, parameters: 0..count },
            second_part: Part {
                variables: of_second,
                rows: rows..all_rows,
                parameters: count..parameters.len(),
            },
            parameters,
        })
    }

    /// The first likelihood, with the current parameters.
    pub fn first(&self) -> A {
        let mut first = self.first.clone();
        first
            .parameters_mut()
            .copy_from_slice(&self.parameters[self.first_part.parameters.clone()]);
        first
    }

    /// The second likelihood, with the current parameters.
    pub fn second(&self) -> B {
        let mut second = self.second.clone();
        let own = self.second_part.parameters.clone();
        second.parameters_mut().copy_from_slice(&self.parameters[own]);
        second
    }

    /// The variables of the first likelihood, and those of the second.
    pub fn variables(&self) -> [&[usize]; 2] {
        [&self.first_part.variables, &self.second_part.variables]
    }

    fn dim(&self) -> usize {
        self.first_part.variables.len() + self.second_part.variables.len()
    }

    /// Replaces both factors.
    pub(crate) fn set(&mut self, first: A, second: B) {
        let parameters = [first.parameters(), second.parameters()].concat();
        (self.first, self.second, self.parameters) = (first, second, parameters);
    }
}

/// Returns an error unless the list contains each of the variables from 0 on once.
pub(super) fn check_partition(variables: &[usize]) -> Result<()> {
    let mut seen = vec![false; variables.len()];
    let fault = |variable: usize, must| Error::InvalidParameter {
        name: "a variable of a product of likelihoods",
        value: variable as f64,
        must,
    };
    for &variable in variables {
        match seen.get_mut(variable) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return Err(fault(variable, "a variable of one factor only")),
            None => return Err(fault(variable, "below the number of variables of all factors")),
        }
    }
    Ok(())
}

impl<T: Real, A: Likelihood<T>, B: Likelihood<T>> Parameters<T> for Product<T, A, B> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }

    /// Both factors are moved if each has such a step or no parameters; otherwise neither is.
    fn step_to_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        let each = entries / T::of_usize(self.dim());
        self.step_to_optimum_of_observed(d_parameters, &vec![each; self.dim()], weight)
    }

    fn step_to_optimum_of_observed(&mut self, d_parameters: &[T], counts: &[T], weight: T) -> bool {
        if d_parameters.len() != self.parameters.len() || counts.len() != self.dim() {
            return false;
        }
        let counts_of = |part: &Part| -> Vec<T> {
            part.variables.iter().map(|&variable| counts[variable]).collect()
        };
        let (mut first, mut second) = (self.first(), self.second());
        let (of_first, of_second) = d_parameters.split_at(self.first_part.parameters.len());
        let moved = |stepped: bool, parameters: &[T]| stepped || parameters.is_empty();
        let first_counts = counts_of(&self.first_part);
        let one = first.step_to_optimum_of_observed(of_first, &first_counts, weight);
        let second_counts = counts_of(&self.second_part);
        let other = second.step_to_optimum_of_observed(of_second, &second_counts, weight);
        if (one || other) && moved(one, of_first) && moved(other, of_second) {
            self.set(first, second);
            return true;
        }
        false
    }

    fn settle(&mut self) {
        let (mut first, mut second) = (self.first(), self.second());
        first.settle();
        second.settle();
        self.set(first, second);
    }

    fn rests_on_floor(&self) -> bool {
        self.first().rests_on_floor() || self.second().rests_on_floor()
    }
}

impl<T: Real, A: Likelihood<T>, B: Likelihood<T>> ConditionalMean<T> for Product<T, A, B> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        let mut all = DMatrix::zeros(self.dim(), output.ncols());
        let rows = |part: &Part| output.rows(part.rows.start, part.rows.len());
        self.first_part.scatter(&self.first().mean(rows(&self.first_part)), &mut all);
        self.second_part.scatter(&self.second().mean(rows(&self.second_part)), &mut all);
        all
    }

    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        let rows = self.second_part.rows.end;
        expect("rows of the decoder's output for both likelihoods", rows, output_dim)?;
        Ok(self.dim())
    }

    fn output_dim(&self, data_dim: usize) -> Result<usize> {
        expect("variables of both likelihoods", self.dim(), data_dim)?;
        Ok(self.second_part.rows.end)
    }
}

impl<T: Real, A: Likelihood<T>, B: Likelihood<T>> Likelihood<T> for Product<T, A, B> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        let rows = |part: &Part| output.rows(part.rows.start, part.rows.len());
        let of_first =
            self.first().log_density(self.first_part.select(&x).as_view(), rows(&self.first_part));
        let of_second = self
            .second()
            .log_density(self.second_part.select(&x).as_view(), rows(&self.second_part));
        of_first + of_second
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        reshape(d_output, output.nrows(), output.ncols());
        let (both, first, second) = ((&x, &output), self.first(), self.second());
        self.first_part.gradient(&first, both, weights, d_output, d_parameters)
            + self.second_part.gradient(&second, both, weights, d_output, d_parameters)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        let mut all = DMatrix::zeros(self.dim(), output.ncols());
        let rows = |part: &Part| output.rows(part.rows.start, part.rows.len());
        self.first_part.scatter(&self.first().sample(rows(&self.first_part), rng), &mut all);
        self.second_part.scatter(&self.second().sample(rows(&self.second_part), rng), &mut all);
        all
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        check_part(&self.first, &self.first_part, x.values())?;
        check_part(&self.second, &self.second_part, x.values())
    }
}

/// Checks the support of a factor; an error contains the row of the whole table.
fn check_part<T: Real>(
    likelihood: &impl Likelihood<T>,
    part: &Part,
    x: DMatrixView<'_, T>,
) -> Result<()> {
    let own = part.select(&x);
    likelihood
        .check_support(Observations::trusted(own.as_view(), own.ncols()))
        .map_err(|error| in_table(error, &part.variables))
}

/// An error about a part of the variables, with the variable's number in the whole table.
pub(super) fn in_table(error: Error, variables: &[usize]) -> Error {
    let of = |row: usize| variables.get(row).copied().unwrap_or(row);
    match error {
        Error::OutsideSupport { row, column, value, support } => {
            Error::OutsideSupport { row: of(row), column, value, support }
        }
        Error::NeverObserved { variable, observations } => {
            Error::NeverObserved { variable: of(variable), observations }
        }
        other => other,
    }
}

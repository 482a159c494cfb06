//! A likelihood that is chosen at run time.

use super::kind::category_count;
use super::product::{check_partition, in_table};
use super::start::scale_floor;
use super::{
    Bernoulli, Categorical, ConditionalMean, DiagonalGaussian, DynUnivariate, Independent,
    IsotropicGaussian, Likelihood, LikelihoodKind, Product, Weights, is_missing,
};
use crate::data::expect;
use crate::map::Parameters;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// Any likelihood of this crate, chosen at run time, such as by a schema that is read from a file.
///
/// ```
/// use elbo::likelihood::{DynLikelihood, Likelihood, LikelihoodKind};
/// use nalgebra::dmatrix;
/// let kinds = [LikelihoodKind::Poisson, "categorical".parse()?, LikelihoodKind::Poisson];
/// let x = dmatrix![3.0, 1.0, 2.0; 0.0, 2.0, 1.0; 0.0, 0.0, 4.0];
/// let mut likelihood = DynLikelihood::<f64>::for_data(&kinds, x.as_view())?;
/// // Two rows of the output for the counts, then three for the categories.
/// let output = likelihood.start(x.as_view())?;
/// assert_eq!(output.len(), 5);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DynLikelihood<T: Real> {
    /// Gaussian noise with one variance for all variables.
    IsotropicGaussian(IsotropicGaussian<T>),
    /// Gaussian noise with a variance for each variable.
    DiagonalGaussian(DiagonalGaussian<T>),
    /// Binary variables.
    Bernoulli(Bernoulli),
    /// Variables with one predictor each, of any kinds.
    Independent(Independent<T, DynUnivariate>),
    /// Categories without an order.
    Categorical(Categorical),
    /// Two groups of variables, each with a likelihood.
    Product(Box<Product<T, DynLikelihood<T>, DynLikelihood<T>>>),
}

/// Calls a method of the variant's likelihood.
macro_rules! of_variant {
    ($self_:ident, $likelihood:ident => $call:expr) => {
        match $self_ {
            Self::IsotropicGaussian($likelihood) => $call,
            Self::DiagonalGaussian($likelihood) => $call,
            Self::Bernoulli($likelihood) => $call,
            Self::Independent($likelihood) => $call,
            Self::Categorical($likelihood) => $call,
            Self::Product($likelihood) => {
                let $likelihood = &**$likelihood;
                $call
            }
        }
    };
}

/// [`of_variant`] for methods that change the likelihood.
macro_rules! of_variant_mut {
    ($self_:ident, $likelihood:ident => $call:expr) => {
        match $self_ {
            Self::IsotropicGaussian($likelihood) => $call,
            Self::DiagonalGaussian($likelihood) => $call,
            Self::Bernoulli($likelihood) => $call,
            Self::Independent($likelihood) => $call,
            Self::Categorical($likelihood) => $call,
            Self::Product($likelihood) => {
                let $likelihood = &mut **$likelihood;
                $call
            }
        }
    };
}

impl<T: Real> DynLikelihood<T> {
    /// The likelihood of a table x (d×n, NaN is a missing entry) by the kind of each variable (d),
    /// or of all (1). Numbers of categories, floors and parameters are taken from the data.
    /// Variables of kinds that need likelihoods of their own become a [`Product`].
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] unless there is one kind or d; [`Error::OutsideSupport`];
    /// [`Error::NeverObserved`] for a variable without an entry.
    pub fn for_data(kinds: &[LikelihoodKind], x: DMatrixView<'_, T>) -> Result<Self> {
        if x.is_empty() {
            return Err(Error::Empty { rows: x.nrows(), columns: x.ncols() });
        }
        if kinds.len() != 1 {
            expect("kinds of variables", x.nrows(), kinds.len())?;
        }
        let kind = |j: usize| if kinds.len() == 1 { kinds[0] } else { kinds[j] };
        let alone = |kind| matches!(kind, LikelihoodKind::Gaussian | LikelihoodKind::Categorical);
        let group = |wanted: LikelihoodKind| -> Vec<usize> {
            (0..x.nrows()).filter(|&j| kind(j) == wanted).collect()
        };
        let others: Vec<usize> = (0..x.nrows()).filter(|&j| !alone(kind(j))).collect();
        let mut parts = Vec::new();
        for variables in
            [others, group(LikelihoodKind::Gaussian), group(LikelihoodKind::Categorical)]
        {
            if let Some(&first) = variables.first() {
                let own = x.select_rows(&variables);
                let same = variables.iter().all(|&j| kind(j) == kind(first));
                let kinds: Vec<_> = variables.iter().map(|&j| kind(j)).collect();
                let likelihood =
                    Self::of_group(if same { &kinds[..1] } else { &kinds }, own.as_view())
                        .map_err(|error| in_table(error, &variables))?;
                parts.push((variables, likelihood));
            }
        }
        Self::product(parts)
    }

    /// Variables of one kind, or of kinds with one predictor each.
    fn of_group(kinds: &[LikelihoodKind], x: DMatrixView<'_, T>) -> Result<Self> {
        let observed =
            |j: usize| -> Vec<T> { x.row(j).iter().copied().filter(|x| !is_missing(*x)).collect() };
        let mut likelihood = match kinds {
            [LikelihoodKind::Gaussian] => {
                Self::IsotropicGaussian(IsotropicGaussian::new(T::one())?)
            }
            [LikelihoodKind::GaussianPerVariable] => {
                Self::DiagonalGaussian(DiagonalGaussian::new(DVector::repeat(x.nrows(), T::one()))?)
            }
            [LikelihoodKind::Bernoulli] => Self::Bernoulli(Bernoulli),
            [LikelihoodKind::Categorical] => {
                let counts = (0..x.nrows()).map(|j| category_count(&observed(j)));
                Self::Categorical(Categorical::new(counts.collect())?)
            }
            kinds => {
                let kind = |j: usize| kinds.get(j).copied().unwrap_or(kinds[0]);
                let of_each = (0..x.nrows())
                    .filter_map(|j| kind(j).univariate(&observed(j)).transpose())
                    .collect::<Result<_>>()?;
                Self::Independent(Independent::of_each(of_each)?)
            }
        };
        likelihood.start(x)?;
        Ok(likelihood)
    }

    /// The product of likelihoods, each with its variables (rows of x); every variable belongs to
    /// one. The rows of the output are those of the first likelihood, then those of the second, and
    /// so on.
    ///
    /// # Errors
    /// [`Error::Empty`] without a likelihood; as [`Product::new`].
    pub fn product(mut parts: Vec<(Vec<usize>, Self)>) -> Result<Self> {
        let all: Vec<usize> = parts.iter().flat_map(|(variables, _)| variables.clone()).collect();
        check_partition(&all)?;
        let Some((mut variables, mut likelihood)) = parts.pop() else {
            return Err(Error::Empty { rows: 0, columns: 1 });
        };
        if parts.is_empty() {
            likelihood.output_dim(variables.len())?;
            if let Some((at, &variable)) = variables.iter().enumerate().find(|(at, v)| at != *v) {
                let what = "a variable of a product of one likelihood, which are in their order";
                return Err(Error::DimensionMismatch { what, expected: at, actual: variable });
            }
        }
        // From the last on, each is multiplied with the product of those behind it, whose variables
        // are numbered from 0.
        while let Some((of_first, first)) = parts.pop() {
            let mut union = [of_first.as_slice(), &variables].concat();
            union.sort_unstable();
            let place = |of: &[usize]| -> Vec<usize> {
                of.iter().map(|v| union.partition_point(|other| other < v)).collect()
            };
            let product = Product::new((first, place(&of_first)), (likelihood, place(&variables)))?;
            likelihood = Self::Product(Box::new(product));
            variables = union;
        }
        Ok(likelihood)
    }

    /// Sets the parameters to values from which a fit can start, and returns such an output of the
    /// decoder, the same for all observations. `x` is d×n, where NaN is a missing entry.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::OutsideSupport`]; [`Error::NeverObserved`] for a
    /// variable without an entry.
    pub fn start(&mut self, x: DMatrixView<'_, T>) -> Result<DVector<T>> {
        match self {
            Self::IsotropicGaussian(noise) => {
                let moments = (0..x.nrows()).map(|j| moments(x, j)).collect::<Result<Vec<_>>>()?;
                let sum = moments.iter().map(|[_, variance, _]| variance).sum::<f64>();
                let floor = moments.iter().fold(f64::INFINITY, |least, [.., f]| least.min(*f));
                let variance = T::of(sum / moments.len() as f64);
                if noise.floor() == T::zero() {
                    *noise = noise.with_floor(T::of(floor))?;
                }
                noise.set_noise_variance(variance);
                Ok(DVector::from_iterator(moments.len(), moments.iter().map(|m| T::of(m[0]))))
            }
            Self::DiagonalGaussian(noise) => {
                expect("variables of the likelihood", noise.floors().len(), x.nrows())?;
                let moments = (0..x.nrows()).map(|j| moments(x, j)).collect::<Result<Vec<_>>>()?;
                let of = |c: usize| {
                    DVector::from_iterator(moments.len(), moments.iter().map(|m| T::of(m[c])))
                };
                if noise.floors().iter().all(|floor| *floor == T::zero()) {
                    *noise = noise.clone().with_floors(of(2))?;
                }
                super::GaussianNoise::set_variances(
                    noise,
                    &of(1),
                    &DVector::repeat(x.nrows(), T::one()),
                );
                Ok(of(0))
            }
            Self::Bernoulli(bernoulli) => Independent::new(*bernoulli, x.nrows())?.start(x, None),
            Self::Independent(independent) => independent.start(x, None),
            Self::Categorical(categorical) => categorical.start(x),
            Self::Product(product) => {
                let [of_first, of_second] = product.variables();
                expect("variables", of_first.len() + of_second.len(), x.nrows())?;
                let (mut first, mut second) = (product.first(), product.second());
                let start = |likelihood: &mut Self, variables: &[usize]| {
                    likelihood
                        .start(x.select_rows(variables).as_view())
                        .map_err(|error| in_table(error, variables))
                };
                let of_first = start(&mut first, of_first)?;
                let of_second = start(&mut second, of_second)?;
                product.set(first, second);
                let all = of_first.iter().chain(of_second.iter()).copied();
                Ok(DVector::from_iterator(of_first.len() + of_second.len(), all))
            }
        }
    }
}

/// Mean and variance of the observed entries of variable j, and the floor of its noise variance,
/// the square of a thousandth of its standard deviation.
fn moments<T: Real>(x: DMatrixView<'_, T>, j: usize) -> Result<[f64; 3]> {
    let values: Vec<f64> =
        x.row(j).iter().filter(|x| !is_missing(**x)).map(|x| x.as_f64()).collect();
    if values.is_empty() {
        return Err(Error::NeverObserved { variable: j, observations: x.ncols() });
    }
    let (mean, deviation) = super::start::mean_and_deviation(&values);
    let floor = scale_floor(values.iter().copied());
    Ok([mean, deviation * deviation, floor * floor])
}

impl<T: Real> Parameters<T> for DynLikelihood<T> {
    fn parameters(&self) -> &[T] {
        of_variant!(self, l => l.parameters())
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        of_variant_mut!(self, l => l.parameters_mut())
    }
    fn step_to_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        of_variant_mut!(self, l => l.step_to_optimum(d_parameters, entries, weight))
    }
    fn step_to_optimum_of_observed(&mut self, d_parameters: &[T], counts: &[T], weight: T) -> bool {
        of_variant_mut!(self, l => l.step_to_optimum_of_observed(d_parameters, counts, weight))
    }
    fn settle(&mut self) {
        of_variant_mut!(self, l => Parameters::<T>::settle(l));
    }
    fn rests_on_floor(&self) -> bool {
        of_variant!(self, l => Parameters::<T>::rests_on_floor(l))
    }
}

impl<T: Real> ConditionalMean<T> for DynLikelihood<T> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        of_variant!(self, l => ConditionalMean::mean(l, output))
    }
    fn is_identity(&self) -> bool {
        of_variant!(self, l => ConditionalMean::<T>::is_identity(l))
    }
    fn gaussian_variances(&self, data_dim: usize) -> Option<DVector<T>> {
        of_variant!(self, l => l.gaussian_variances(data_dim))
    }
    fn has_variance_of_each_variable(&self) -> bool {
        of_variant!(self, l => ConditionalMean::<T>::has_variance_of_each_variable(l))
    }
    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        of_variant!(self, l => ConditionalMean::<T>::data_dim(l, output_dim))
    }
    fn output_dim(&self, data_dim: usize) -> Result<usize> {
        of_variant!(self, l => ConditionalMean::<T>::output_dim(l, data_dim))
    }
}

impl<T: Real> Likelihood<T> for DynLikelihood<T> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        of_variant!(self, l => Likelihood::log_density(l, x, output))
    }
    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        of_variant!(self, l => {
            Likelihood::log_density_gradient(l, x, output, weights, d_output, d_parameters)
        })
    }
    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        of_variant!(self, l => Likelihood::sample(l, output, rng))
    }
    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        of_variant!(self, l => l.check_support(x))
    }
}

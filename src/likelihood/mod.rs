//! Likelihoods p(x|z): the density of an observation given the output of the decoder.
//!
//! From PCA to the variational autoencoder: [`Noiseless`] (the linear autoencoder has no density),
//! [`IsotropicGaussian`] (probabilistic PCA), [`DiagonalGaussian`] (factor analysis) and
//! [`Bernoulli`]. The two Gaussians implement [`GaussianNoise`]: with a linear decoder, the
//! marginal and the posterior are in closed form.
//!
//! [`Independent`] makes a likelihood of d variables of a [`Univariate`] distribution, which has
//! one predictor, an output of the decoder, and parameters of the variable itself:
//!
//! | distribution | x | predictor y | parameters of a variable | E over a Gaussian y |
//! |---|---|---|---|---|
//! | [`Gaussian`] | ℝ | mean | standard deviation | closed form |
//! | [`StudentT`] | ℝ | location | scale, degrees of freedom | quadrature |
//! | [`Laplace`] | ℝ | median | scale | closed form |
//! | [`LogNormal`] | x > 0 | mean of ln x | standard deviation of ln x | closed form |
//! | [`Bernoulli`] | \[0, 1\] | logit | | quadrature |
//! | [`ContinuousBernoulli`] | \[0, 1\] | logit of λ | | quadrature |
//! | [`Binomial`] | 0, …, N | logit | | quadrature |
//! | [`Poisson`] | 0, 1, … | ln of the mean | | closed form |
//! | [`NegativeBinomial`] | 0, 1, … | ln of the mean | size | quadrature |
//! | [`ZeroInflated`] | 0, 1, … | that of the counts | share of zeros | quadrature |
//! | [`Ordinal`] | 0, …, C − 1 | location | thresholds | quadrature |
//!
//! [`Categorical`] has one output row for each category. [`Product`] combines two likelihoods of
//! different variables, and [`DynLikelihood`] and [`DynUnivariate`] are chosen at run time, by the
//! names of [`LikelihoodKind`], which [`propose`] proposes for a column of a table.
//!
//! A likelihood is a normalised log-density, not a loss: it keeps every constant, and it is a sum
//! over the variables, not a mean.

mod bernoulli;
mod bernoulli_univariate;
mod binomial;
mod categorical;
mod continuous_bernoulli;
mod diagonal_gaussian;
mod dynamic;
mod dynamic_univariate;
mod entries;
mod gaussian;
mod gaussian_noise;
mod independent;
mod isotropic_gaussian;
mod kind;
mod laplace;
mod negative_binomial;
mod noiseless;
mod observed;
mod ordinal;
mod poisson;
mod positive;
mod product;
mod proposal;
mod start;
mod student_t;
mod univariate;
mod zero_inflated;

pub use bernoulli::Bernoulli;
pub use binomial::Binomial;
pub use categorical::Categorical;
pub use continuous_bernoulli::ContinuousBernoulli;
pub use diagonal_gaussian::DiagonalGaussian;
pub use dynamic::DynLikelihood;
pub use dynamic_univariate::DynUnivariate;
#[doc(hidden)]
pub use entries::Entries;
pub use gaussian::{Gaussian, LogNormal};
pub use gaussian_noise::GaussianNoise;
pub(crate) use gaussian_noise::log_two_pi_times;
pub use independent::Independent;
pub use isotropic_gaussian::{IsotropicGaussian, NoiseVariance};
pub(crate) use isotropic_gaussian::{check_share, check_variance};
pub use kind::LikelihoodKind;
pub use laplace::Laplace;
pub use negative_binomial::NegativeBinomial;
pub use noiseless::Noiseless;
pub use ordinal::Ordinal;
pub use poisson::Poisson;
pub use product::Product;
pub use proposal::{Proposal, propose};
pub use student_t::StudentT;
pub use univariate::{ExpectedLogDensity, Univariate};
pub use zero_inflated::ZeroInflated;

use crate::map::Parameters;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// Whether a number is NaN.
#[inline(always)]
fn is_nan<T: Real>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Whether an entry of x is missing: NaN.
#[inline(always)]
pub(crate) fn is_missing<T: Real>(x: T) -> bool {
    is_nan(x)
}

/// Weights w_i of the observations in a sum over them.
///
/// ```
/// use elbo::likelihood::Weights;
/// assert_eq!(Weights::Equal(0.5).sum(4), 2.0);
/// assert_eq!(Weights::Each(&[0.5, 2.0]).sum(2), 2.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weights<'a, T> {
    /// One weight for all: N/n for a mini-batch of n out of N observations.
    Equal(T),
    /// A weight for each observation.
    Each(&'a [T]),
}

impl<'a, T: Real> Weights<'a, T> {
    /// The sum of the weights of n observations.
    pub fn sum(self, n: usize) -> T {
        match self {
            Self::Equal(weight) => weight * T::of_usize(n),
            Self::Each(weights) => weights.iter().fold(T::zero(), |sum, &weight| sum + weight),
        }
    }

    /// The weight of observation `i`.
    pub fn of(self, i: usize) -> T {
        match self {
            Self::Equal(weight) => weight,
            Self::Each(weights) => weights[i],
        }
    }

    /// A factor that all weights share, and the weights without it: sums over equally weighted
    /// observations are multiplied once.
    pub(crate) fn common(self) -> (T, Option<&'a [T]>) {
        match self {
            Self::Equal(weight) => (weight, None),
            Self::Each(weights) => (T::one(), Some(weights)),
        }
    }
}

/// The conditional mean E[x|y] given the decoder's output y. It is all that a reconstruction needs,
/// and also exists where there is no density.
pub trait ConditionalMean<T: Real> {
    /// E[x|y] (d×n) for each column y of the decoder's output.
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T>;

    /// Whether the mean is the decoder's output itself, as it is for Gaussian noise.
    fn is_identity(&self) -> bool {
        false
    }

    /// The variance of each variable's noise (d), if it is Gaussian.
    fn gaussian_variances(&self, data_dim: usize) -> Option<DVector<T>> {
        let _ = data_dim;
        None
    }

    /// Whether each variable has a Gaussian noise variance of its own, as in factor analysis.
    fn has_variance_of_each_variable(&self) -> bool {
        false
    }

    /// The number d of variables under a decoder with this number of output rows; by default the
    /// same. A likelihood with several parameters for each variable has more rows than variables,
    /// such as 2d for a mean and a variance.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) where the likelihood does not
    /// fit such a decoder.
    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        Ok(output_dim)
    }

    /// The number of rows of the decoder's output for d variables; by default the smallest number
    /// from d on, at most 64d, that [`data_dim`](Self::data_dim) maps to d.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) where the likelihood does not
    /// fit d variables.
    fn output_dim(&self, data_dim: usize) -> Result<usize> {
        let fits = |rows: &usize| self.data_dim(*rows).is_ok_and(|d| d == data_dim);
        match (data_dim..=64 * data_dim).find(fits) {
            Some(rows) => Ok(rows),
            None => {
                let actual = self.data_dim(data_dim)?;
                let what = "variables of the likelihood";
                Err(crate::Error::DimensionMismatch { what, expected: data_dim, actual })
            }
        }
    }
}

/// A likelihood p(x_i | y_i): the density of an observation given the decoder's output y_i, which
/// is its mean or its logits (d×1), or all parameters of its distribution
/// ([`ConditionalMean::data_dim`]).
///
/// An entry of x that is NaN is missing: it is left out of the log-density with its constants, and
/// the derivative by the output is 0 there, as if the observation had no such variable. (For a
/// likelihood whose variables depend on each other given y, the log-density is that of the observed
/// ones.)
///
/// Implement the log-density, its derivative, the mean and the sampler to use log p(x|z), sampling
/// and the reparameterised evidence lower bound (ELBO) of every model with this likelihood.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a likelihood: a linear autoencoder has no density p(x|z)",
    label = "there is no log-likelihood without a density",
    note = "probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait Likelihood<T: Real>: ConditionalMean<T> + Parameters<T> + Clone {
    /// log p(x_i|y_i) in nats, one entry per observation, with every constant; x is d×n, where NaN
    /// is a missing entry, and y has the decoder's rows.
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T>;

    /// Returns Σ_i w_i log p(x_i|y_i) and computes its derivatives: `d_output` (the shape of y,
    /// overwritten) and `d_parameters` (overwritten).
    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T;

    /// A sample of x for each column of the decoder's output, d×n.
    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T>;

    /// Checks that the data are in the support of the likelihood.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`](crate::Error::OutsideSupport), with row, column and value of the
    /// first entry outside.
    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        let _ = x;
        Ok(())
    }
}

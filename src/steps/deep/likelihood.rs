//! What the builder of a variational autoencoder asks of its likelihood.

use super::builder::{DeepBuilder, DeepModel, Scales, moments_of_observed};
use super::fits::{DeepEncoder, initialize_gaussian};
use crate::likelihood::{
    Bernoulli, Categorical, ConditionalMean, DiagonalGaussian, DynLikelihood, Independent,
    IsotropicGaussian, Likelihood, Product, Univariate, is_missing,
};
use crate::map::Mlp;
use crate::posterior::PosteriorFamily;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrixView, DVector};
use rand::Rng;

/// A likelihood that a [`Vae`](crate::Vae) can be fitted with by its builder
/// ([`Vae::builder_with`](crate::Vae::builder_with)).
///
/// Implement [`start`](Self::start) for a likelihood of your own.
#[diagnostic::on_unimplemented(
    message = "the builder of `Vae` cannot initialise the likelihood `{Self}`",
    note = "implement `DeepLikelihood::start` for it, or build decoder and encoder and fit them \
            with `StochasticGradient`"
)]
pub trait DeepLikelihood<T: Real>: Likelihood<T> {
    /// The outputs of the decoder from which a fit to x starts, and the likelihood with its
    /// parameters at their start.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`] for data outside the support, and
    /// [`Error::DimensionMismatch`] for another number of variables.
    fn start(self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>>;

    /// Whether there is a linear model to start from, for the given likelihood or the default one.
    #[doc(hidden)]
    fn has_linear(given: Option<&Self>) -> bool {
        let _ = given;
        false
    }

    /// Checks that the data are in the support of the given likelihood, or of the default one.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`].
    #[doc(hidden)]
    fn check_data(given: Option<&Self>, x: Observations<'_, T>) -> Result<()> {
        given.map_or(Ok(()), |likelihood| likelihood.check_support(x))
    }

    /// The initial decoder, likelihood and encoder.
    ///
    /// # Errors
    /// Those of [`DeepBuilder::fit`].
    #[doc(hidden)]
    fn initialize<Q: PosteriorFamily<T>, S: DeepModel<T, Likelihood = Self>>(
        builder: &DeepBuilder<T, S>,
        x: Observations<'_, T>,
        scales: &Scales<T>,
        rng: &mut dyn Rng,
    ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
        // `builder` exists for default likelihoods only, and these override the method.
        let given = builder.likelihood.clone().ok_or(NO_LIKELIHOOD)?;
        initialize_given(given, builder, x, scales, rng)
    }
}

const NO_LIKELIHOOD: Error =
    Error::Unsupported { what: "a model without a likelihood", must: "`Vae::builder_with`" };

/// Random encoder and decoder, with the outputs at the start of the likelihood.
fn initialize_given<T, Q, L, S>(
    given: L,
    builder: &DeepBuilder<T, S>,
    x: Observations<'_, T>,
    scales: &Scales<T>,
    rng: &mut dyn Rng,
) -> Result<(Mlp<T>, L, DeepEncoder<T, Q>)>
where
    T: Real,
    Q: PosteriorFamily<T>,
    L: DeepLikelihood<T>,
    S: DeepModel<T>,
{
    let OutputStart { likelihood, means, scales: units } = given.start(x)?;
    // The encoder is initialised before the decoder: a seed determines the fit only in a fixed order
    // of the random numbers.
    let encoder = builder.random_encoder(scales, rng)?;
    Ok((builder.random_decoder((means, units), rng)?, likelihood, encoder))
}

/// A likelihood that the data alone determine, up to its parameters: the builder needs no instance
/// of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` must be given to the builder",
    note = "use `Vae::builder_with(likelihood, latent_dim)`"
)]
pub trait DefaultLikelihood {}

impl<T: Real> DefaultLikelihood for IsotropicGaussian<T> {}
impl<T: Real> DefaultLikelihood for DiagonalGaussian<T> {}
impl DefaultLikelihood for Bernoulli {}

/// The start of a deep fit: a likelihood, and outputs y = means + scales·f(z) of the decoder with
/// a random network f.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputStart<T: Real, L> {
    /// The likelihood, its parameters at their start.
    pub likelihood: L,
    /// The output at which the likelihood alone, without a latent variable, is about best; one entry
    /// for each row of the output.
    pub means: DVector<T>,
    /// The scale of each row of the output.
    pub scales: DVector<T>,
}

impl<T: Real> DeepLikelihood<T> for Bernoulli {
    fn start(self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        self.check_support(x)?;
        let zeros = DVector::zeros(x.data_dim());
        Ok(OutputStart { likelihood: self, scales: zeros.map(|_| T::one()), means: zeros })
    }

    fn check_data(_given: Option<&Self>, x: Observations<'_, T>) -> Result<()> {
        Self.check_support(x)
    }

    fn initialize<Q: PosteriorFamily<T>, S: DeepModel<T, Likelihood = Self>>(
        builder: &DeepBuilder<T, S>,
        _x: Observations<'_, T>,
        scales: &Scales<T>,
        mut rng: &mut dyn Rng,
    ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
        let encoder = builder.random_encoder(scales, rng)?;
        let decoder = builder.layers(builder.latent_dim, scales.mean.len(), true);
        Ok((decoder.build(&mut rng)?, Self, encoder))
    }
}

/// The scale of each variable's output: the standard deviation of the variable where the output is
/// its mean, and 1 where it is a logarithm or a logit.
fn output_scales<T: Real>(
    likelihood: &impl ConditionalMean<T>,
    means: &DVector<T>,
    x: DMatrixView<'_, T>,
) -> DVector<T> {
    let deviations = DVector::from_iterator(
        x.nrows(),
        x.row_iter().map(|row| {
            let observed = || row.iter().filter(|&&value| !is_missing(value)).map(|v| v.as_f64());
            let count = observed().count().max(1) as f64;
            let mean = observed().sum::<f64>() / count;
            T::of((observed().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt())
        }),
    );
    let moved = means + &deviations;
    let mean_of = |output: &DVector<T>| {
        likelihood.mean(DMatrixView::from_slice(output.as_slice(), output.len(), 1))
    };
    let (before, after) = (mean_of(means), mean_of(&moved));
    DVector::from_fn(means.len(), |j, _| {
        let change = after[j] - before[j];
        let identity = (change - deviations[j]).abs() <= T::of(1e-3) * deviations[j];
        if identity && deviations[j] > T::zero() { deviations[j] } else { T::one() }
    })
}

/// Every variable starts at its distribution without a latent variable.
impl<T: Real, U: Univariate<T>> DeepLikelihood<T> for Independent<T, U> {
    fn start(mut self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        let means = Independent::start(&mut self, x.values(), None)?;
        let scales = output_scales(&self, &means, x.values());
        Ok(OutputStart { likelihood: self, means, scales })
    }
}

/// Every category starts at its share.
impl<T: Real> DeepLikelihood<T> for Categorical {
    fn start(self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        let means = Categorical::start(&self, x.values())?;
        Ok(OutputStart { likelihood: self, scales: means.map(|_| T::one()), means })
    }
}

/// The starts of both likelihoods, one after the other.
impl<T: Real, A: DeepLikelihood<T>, B: DeepLikelihood<T>> DeepLikelihood<T> for Product<T, A, B> {
    fn start(mut self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        x.expect_dim(self.variables().iter().map(|own| own.len()).sum())?;
        let [one, other] = self.variables().map(|own| x.values().select_rows(own));
        let first = self.first().start(Observations::trusted(one.as_view(), x.len()))?;
        let second = self.second().start(Observations::trusted(other.as_view(), x.len()))?;
        self.set(first.likelihood, second.likelihood);
        let joined = |a: &DVector<T>, b: &DVector<T>| {
            DVector::from_iterator(a.len() + b.len(), a.iter().chain(b.iter()).copied())
        };
        let means = joined(&first.means, &second.means);
        Ok(OutputStart { likelihood: self, means, scales: joined(&first.scales, &second.scales) })
    }
}

/// The start of the likelihood that was chosen; for Gaussian noise of all variables that of the
/// linear model.
impl<T: Real> DeepLikelihood<T> for DynLikelihood<T> {
    fn start(mut self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        if let Self::Product(product) = self {
            let OutputStart { likelihood, means, scales } = product.start(x)?;
            return Ok(OutputStart {
                likelihood: Self::Product(Box::new(likelihood)),
                means,
                scales,
            });
        }
        let means = DynLikelihood::start(&mut self, x.values())?;
        let scales = match &self {
            Self::Categorical(_) => means.map(|_| T::one()),
            _ => output_scales(&self, &means, x.values()),
        };
        Ok(OutputStart { likelihood: self, means, scales })
    }

    fn has_linear(given: Option<&Self>) -> bool {
        matches!(given, Some(Self::IsotropicGaussian(_) | Self::DiagonalGaussian(_)))
    }

    fn initialize<Q: PosteriorFamily<T>, S: DeepModel<T, Likelihood = Self>>(
        builder: &DeepBuilder<T, S>,
        x: Observations<'_, T>,
        scales: &Scales<T>,
        rng: &mut dyn Rng,
    ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
        match builder.likelihood.clone() {
            Some(Self::IsotropicGaussian(_)) => {
                let (decoder, noise, encoder) = initialize_gaussian(builder, x, scales, rng)?;
                Ok((decoder, Self::IsotropicGaussian(noise), encoder))
            }
            Some(Self::DiagonalGaussian(_)) => {
                let (decoder, noise, encoder) = initialize_gaussian(builder, x, scales, rng)?;
                Ok((decoder, Self::DiagonalGaussian(noise), encoder))
            }
            Some(given) => initialize_given(given, builder, x, scales, rng),
            None => Err(NO_LIKELIHOOD),
        }
    }
}

/// [`DeepLikelihood`] of Gaussian noise: the outputs start at the means of the variables.
macro_rules! gaussian_deep_likelihood {
    ($noise:ident) => {
        impl<T: Real> DeepLikelihood<T> for $noise<T> {
            fn has_linear(given: Option<&Self>) -> bool {
                given.is_none()
            }

            fn start(self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
                let (means, variances) = moments_of_observed(x)?;
                Ok(OutputStart {
                    likelihood: self,
                    means: means.map(T::of),
                    scales: variances.map(|variance| T::of(variance.sqrt())),
                })
            }

            fn initialize<Q: PosteriorFamily<T>, S: DeepModel<T, Likelihood = Self>>(
                builder: &DeepBuilder<T, S>,
                x: Observations<'_, T>,
                scales: &Scales<T>,
                rng: &mut dyn Rng,
            ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
                match builder.likelihood.clone() {
                    None => initialize_gaussian(builder, x, scales, rng),
                    Some(given) => initialize_given(given, builder, x, scales, rng),
                }
            }
        }
    };
}
gaussian_deep_likelihood!(IsotropicGaussian);
gaussian_deep_likelihood!(DiagonalGaussian);

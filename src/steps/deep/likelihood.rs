//! What the builder of a variational autoencoder asks of its likelihood.

use super::builder::{DeepBuilder, DeepModel, Scales};
use super::fits::{DeepEncoder, initialize_gaussian};
use crate::likelihood::{
    Bernoulli, DiagonalGaussian, Independent, IsotropicGaussian, Likelihood, Univariate, is_missing,
};
use crate::map::{Mlp, Parameters};
use crate::posterior::PosteriorFamily;
use crate::{Error, Observations, Real, Result};
use nalgebra::DVector;
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

    /// Whether there is a linear model to start from if no likelihood is given.
    #[doc(hidden)]
    const HAS_LINEAR: bool = false;

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
        let given = builder.likelihood.clone().ok_or(Error::Unsupported {
            what: "a model without a likelihood",
            must: "`Vae::builder_with`",
        })?;
        initialize_given(given, builder, x, scales, rng)
    }
}

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

/// Every variable starts at its distribution without a latent variable; its output moves in units of
/// 1, those of a logarithm or a logit.
impl<T: Real, U: Univariate<T>> DeepLikelihood<T> for Independent<T, U> {
    fn start(mut self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
        x.expect_dim(self.variables())?;
        self.check_support(x)?;
        let mut means = DVector::zeros(x.data_dim());
        for (j, mean) in means.iter_mut().enumerate() {
            let values: Vec<T> =
                x.values().row(j).iter().copied().filter(|&value| !is_missing(value)).collect();
            if values.is_empty() {
                return Err(Error::NeverObserved { variable: j, observations: x.len() });
            }
            let range = self.range(j);
            let mut own = self.parameters_of(j).to_vec();
            *mean = self.distribution(j).start(&values, &[], &mut own);
            self.parameters_mut()[range].copy_from_slice(&own);
        }
        let scales = DVector::from_element(x.data_dim(), T::one());
        Ok(OutputStart { likelihood: self, means, scales })
    }
}

/// [`DeepLikelihood`] of Gaussian noise: the outputs start at the means of the variables.
macro_rules! gaussian_deep_likelihood {
    ($noise:ident) => {
        impl<T: Real> DeepLikelihood<T> for $noise<T> {
            const HAS_LINEAR: bool = true;

            fn start(self, x: Observations<'_, T>) -> Result<OutputStart<T, Self>> {
                let (mean, squares) = x.mean_and_squares(|mean| mean);
                let deviation = |square: f64| T::of((square / x.len() as f64).sqrt());
                Ok(OutputStart {
                    likelihood: self,
                    means: DVector::from_vec(mean).map(T::of),
                    scales: DVector::from_vec(squares).map(deviation),
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

//! Fits of the deep models: their initialisation, and the objective that is maximised.

use super::builder::{DeepBuilder, DeepInitialization, DeepModel, Scales};
use super::linear_solution::LinearSolution;
use super::noise::{DeepNoise, NoiseSettings};
use super::{DeepEncoderPpca, Vae};
use crate::fit::{Fitted, Observer, Preconditioner, StopReason, Trace};
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::{Bernoulli, DiagonalGaussian, IsotropicGaussian, Likelihood};
use crate::map::{Linear, Mlp};
use crate::model::{GenerativeModel, LinearGaussian};
use crate::objective::{DifferentiableObjective, Elbo};
use crate::posterior::PosteriorFamily;
use crate::steps::Model;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The gain of a step along the gradient, in nats per observation, below which the linear solution
/// counts as an optimum of a deep encoder as well.
// The rounding error of the gradient in single precision reaches 1e-6 on the tables of the tests.
const NEGLIGIBLE_GAIN: f64 = 1e-4;

type DeepEncoder<T, Q> = Amortized<GaussianEncoder<Mlp<T>, Q>>;

impl<T: Real, S> DeepBuilder<T, S> {
    /// A random encoder. The rows of its last layer that determine the scale of q are 0, so that
    /// this scale is that of the prior.
    fn random_encoder<Q: PosteriorFamily<T>>(
        &self,
        scales: &Scales<T>,
        mut rng: &mut dyn Rng,
    ) -> Result<DeepEncoder<T, Q>> {
        let map = self.layers(scales.mean.len(), Q::parameter_count(self.latent_dim), false);
        let map = map.input_standardization(scales.mean.clone(), scales.deviations.clone());
        let map = map.build(&mut rng)?.with_zero_outputs_from(self.latent_dim);
        Ok(Amortized::new(GaussianEncoder::new(map, self.latent_dim)?))
    }

    /// A random decoder, whose outputs have the mean and the scale of the variables, unless they
    /// are logits.
    fn random_decoder(
        &self,
        scales: &Scales<T>,
        logits: bool,
        mut rng: &mut dyn Rng,
    ) -> Result<Mlp<T>> {
        let layers = self.layers(self.latent_dim, scales.mean.len(), true);
        if logits {
            return layers.build(&mut rng);
        }
        layers.output_scale(scales.mean.clone(), scales.deviations.clone()).build(&mut rng)
    }

    fn noise_settings(&self) -> NoiseSettings<T> {
        NoiseSettings { noise: self.noise, floor: self.relative_floor }
    }
}

impl<T: Real, Q: PosteriorFamily<T>, L: DeepLikelihood<T>> DeepModel<T> for Vae<T, Q, L> {
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>> {
        // Before the scales, so that the error of data outside the support is returned first.
        L::check_data(x)?;
        let scales = builder.scales(x)?;
        let (decoder, likelihood, encoder) = L::initialize::<Q, _>(builder, x, &scales, rng)?;
        let model = GenerativeModel::new(decoder, likelihood);
        let objective = Elbo::reparameterized(builder.samples);
        let linear = L::HAS_LINEAR && builder.initialization == DeepInitialization::Linear;
        let fitter = builder.fitter_for(x, linear);
        let fitted = fitter.fit(&objective, model, encoder, x, rng, observer)?;
        Ok(fitted.map(|(model, inference)| Model::from_fitting_parts(model, inference)))
    }
}

/// A likelihood that the builder of a [`Vae`] can initialise.
#[diagnostic::on_unimplemented(
    message = "the builder of `Vae` cannot initialise the likelihood `{Self}`",
    note = "build decoder and encoder, and fit them with `StochasticGradient`"
)]
pub trait DeepLikelihood<T: Real>: Likelihood<T> {
    /// Whether there is a linear model with this likelihood to start from.
    #[doc(hidden)]
    const HAS_LINEAR: bool;

    /// Checks that the data are in the support of the likelihood.
    ///
    /// # Errors
    /// [`Error::OutsideSupport`](crate::Error::OutsideSupport).
    #[doc(hidden)]
    fn check_data(x: Observations<'_, T>) -> Result<()> {
        let _ = x;
        Ok(())
    }

    /// The initial decoder, likelihood and encoder.
    ///
    /// # Errors
    /// Those of [`DeepBuilder::fit`].
    #[doc(hidden)]
    fn initialize<Q: PosteriorFamily<T>, S>(
        builder: &DeepBuilder<T, S>,
        x: Observations<'_, T>,
        scales: &Scales<T>,
        rng: &mut dyn Rng,
    ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)>;
}

impl<T: Real> DeepLikelihood<T> for Bernoulli {
    const HAS_LINEAR: bool = false;

    fn check_data(x: Observations<'_, T>) -> Result<()> {
        Self.check_support(x)
    }

    fn initialize<Q: PosteriorFamily<T>, S>(
        builder: &DeepBuilder<T, S>,
        _x: Observations<'_, T>,
        scales: &Scales<T>,
        rng: &mut dyn Rng,
    ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
        // The encoder is initialised before the decoder: a seed determines the fit only in a fixed
        // order of the random numbers.
        let encoder = builder.random_encoder(scales, rng)?;
        Ok((builder.random_decoder(scales, true, rng)?, Self, encoder))
    }
}

/// [`DeepLikelihood`] of Gaussian noise.
macro_rules! gaussian_deep_likelihood {
    ($noise:ident) => {
        impl<T: Real> DeepLikelihood<T> for $noise<T> {
            const HAS_LINEAR: bool = true;

            fn initialize<Q: PosteriorFamily<T>, S>(
                builder: &DeepBuilder<T, S>,
                x: Observations<'_, T>,
                scales: &Scales<T>,
                rng: &mut dyn Rng,
            ) -> Result<(Mlp<T>, Self, DeepEncoder<T, Q>)> {
                initialize_gaussian(builder, x, scales, rng)
            }
        }
    };
}
gaussian_deep_likelihood!(IsotropicGaussian);
gaussian_deep_likelihood!(DiagonalGaussian);

fn initialize_gaussian<T: Real, Q: PosteriorFamily<T>, L: DeepNoise<T>, S>(
    builder: &DeepBuilder<T, S>,
    x: Observations<'_, T>,
    scales: &Scales<T>,
    rng: &mut dyn Rng,
) -> Result<(Mlp<T>, L, DeepEncoder<T, Q>)> {
    match builder.initialization {
        DeepInitialization::Linear => {
            let solution = LinearSolution::<L>::of::<T, Q, _>(builder, x, scales, rng)?;
            let encoder = solution.encoder(builder, scales, rng)?;
            Ok((solution.decoder(builder, scales, rng)?, solution.noise, encoder))
        }
        DeepInitialization::Random => {
            let noise = L::of_data(builder.noise_settings(), &scales.deviations)?;
            let encoder = builder.random_encoder(scales, rng)?;
            Ok((builder.random_decoder(scales, false, rng)?, noise, encoder))
        }
    }
}

impl<T: Real, Q: PosteriorFamily<T>> DeepModel<T> for DeepEncoderPpca<T, Q> {
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>> {
        let scales = builder.scales(x)?;
        let (decoder, noise, encoder, units) = match builder.initialization {
            DeepInitialization::Linear => {
                let solution = LinearSolution::<IsotropicGaussian<T>>::of::<T, Q, _>(
                    builder, x, &scales, rng,
                )?;
                let encoder = solution.encoder(builder, &scales, rng)?;
                let decoder = Linear::new(solution.loadings.map(T::of), scales.mean)?;
                (decoder, solution.noise, encoder, solution.output_units.map(T::of))
            }
            DeepInitialization::Random => {
                let noise =
                    IsotropicGaussian::of_data(builder.noise_settings(), &scales.deviations)?;
                let encoder = builder.random_encoder::<Q>(&scales, rng)?;
                let decoder = random_loadings(&scales, builder.latent_dim, rng)?;
                (decoder, noise, encoder, scales.deviations)
            }
        };
        let model = GenerativeModel::new(decoder, noise);
        let preconditioner = row_units(&model.decoder, &units);
        if builder.initialization == DeepInitialization::Linear
            && let Some(value) = optimum(&model, &encoder, x, &preconditioner, rng)?
        {
            let mut trace = Trace::new();
            trace.push(value);
            let model = Model::from_fitting_parts(model, encoder);
            return Ok(Fitted::new(model, trace, StopReason::Converged));
        }
        let objective = Elbo::reparameterized(builder.samples);
        let linear = builder.initialization == DeepInitialization::Linear;
        let fitter = builder.fitter_for(x, linear);
        let fitted = fitter.fit_preconditioned(
            &objective,
            model,
            encoder,
            x,
            &preconditioner,
            rng,
            observer,
        )?;
        Ok(fitted.map(|(model, inference)| Model::from_fitting_parts(model, inference)))
    }
}

/// Random loadings of the scale of the data: Σ_m w_jm² has the variance of variable j as
/// expectation. The bias is x̄, its optimum for a linear decoder.
fn random_loadings<T: Real>(
    scales: &Scales<T>,
    latent_dim: usize,
    rng: &mut dyn Rng,
) -> Result<Linear<T>> {
    let share = T::one() / T::of_usize(latent_dim).sqrt();
    let loadings = DMatrix::from_fn(scales.mean.len(), latent_dim, |j, _| {
        share * scales.deviations[j] * T::standard_normal(rng)
    });
    Linear::new(loadings, scales.mean.clone())
}

/// Loadings move in the units of their row, as if the data were standardised by them; those of
/// constant variables in 10⁻⁶ of the typical unit, since their own would be 0.
fn row_units<T: Real>(decoder: &Linear<T>, units: &DVector<T>) -> Preconditioner<T> {
    let typical = (units.norm_squared() / T::of_usize(units.len())).sqrt();
    Preconditioner::of_decoder_rows(decoder, units, T::of(1e-6) * typical)
}

/// J per observation if the linear solution is an optimum of the model with a deep encoder, `None`
/// if a gradient step can still raise it.
///
/// The exact posterior of a linear decoder with Gaussian noise is an affine function of x with a
/// constant covariance, so that no encoder is better than an affine one. J is in closed form here,
/// and so is its gradient.
fn optimum<T: Real, Q: PosteriorFamily<T>>(
    model: &LinearGaussian<T>,
    encoder: &DeepEncoder<T, Q>,
    x: Observations<'_, T>,
    preconditioner: &Preconditioner<T>,
    rng: &mut dyn Rng,
) -> Result<Option<f64>> {
    let objective = Elbo::closed_form();
    let (mut workspace, mut gradient) = Default::default();
    let value =
        objective.value_and_gradient(model, encoder, x, rng, &mut workspace, &mut gradient)?;
    let n = x.len() as f64;
    // Loadings move in their units, the other parameters in units of 1.
    let units = preconditioner.decoder.iter().map(|s| s.as_f64()).chain(std::iter::repeat(1.0));
    let squares = gradient.theta.iter().zip(units).map(|(g, s)| (s * g.as_f64() / n).powi(2));
    let others = gradient.phi.iter().map(|g| (g.as_f64() / n).powi(2));
    let gain = squares.chain(others).sum::<f64>();
    Ok((gain < NEGLIGIBLE_GAIN).then_some(value.as_f64() / n))
}

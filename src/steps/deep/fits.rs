//! Fits of the deep models: their initialisation, and the objective that is maximised.

use super::builder::{DeepBuilder, DeepInitialization, DeepModel, Scales};
use super::likelihood::DeepLikelihood;
use super::linear_solution::LinearSolution;
use super::noise::{DeepNoise, NoiseSettings};
use super::{DeepEncoderPpca, Vae};
use crate::data::expect;
use crate::fit::{
    Checkpoints, Fitted, FittedParts, Observer, Preconditioner, StochasticGradient, StopReason,
    Trace,
};
use crate::inference::{Amortized, DifferentiableInference, GaussianEncoder};
use crate::likelihood::{IsotropicGaussian, Likelihood};
use crate::map::{DifferentiableMap, Linear, Mlp};
use crate::model::{GenerativeModel, LinearGaussian};
use crate::objective::{Binarized, DifferentiableObjective, Elbo, SampledBound};
use crate::posterior::PosteriorFamily;
use crate::prior::{Prior, StandardNormal};
use crate::steps::Model;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The gain of a step along the gradient, in nats per observation, below which the linear solution
/// counts as an optimum of a deep encoder as well.
// The rounding error of the gradient in single precision reaches 1e-6 on the tables of the tests.
const NEGLIGIBLE_GAIN: f64 = 1e-4;

pub(super) type DeepEncoder<T, Q> = Amortized<GaussianEncoder<Mlp<T>, Q>>;

impl<T: Real, S: DeepModel<T>> DeepBuilder<T, S> {
    /// A random encoder. The rows of its last layer that determine the scale of q are 0, so that
    /// this scale is that of the prior.
    pub(super) fn random_encoder<Q: PosteriorFamily<T>>(
        &self,
        scales: &Scales<T>,
        mut rng: &mut dyn Rng,
    ) -> Result<DeepEncoder<T, Q>> {
        let map = self.layers(scales.mean.len(), Q::parameter_count(self.latent_dim), false);
        let map = map.input_standardization(scales.mean.clone(), scales.deviations.clone());
        let map = if scales.missing { map.missing_inputs() } else { map };
        let map = map.build(&mut rng)?.with_zero_outputs_from(self.latent_dim);
        Ok(Amortized::new(GaussianEncoder::new(map, self.latent_dim)?))
    }

    /// A random decoder, whose outputs have the given means and scales.
    pub(super) fn random_decoder(
        &self,
        (means, scales): (DVector<T>, DVector<T>),
        mut rng: &mut dyn Rng,
    ) -> Result<Mlp<T>> {
        self.layers(self.latent_dim, means.len(), true).output_scale(means, scales).build(&mut rng)
    }

    pub(super) fn noise_settings(&self, scales: &Scales<T>) -> NoiseSettings<T> {
        NoiseSettings { noise: self.noise, floor: self.relative_floor, missing: scales.missing }
    }
}

impl<T, Q, L, P> DeepModel<T> for Vae<T, Q, L, P>
where
    T: Real,
    Q: PosteriorFamily<T>,
    L: DeepLikelihood<T>,
    P: Prior<T>,
{
    type Likelihood = L;
    type Prior = P;

    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
        checkpoints: Option<Checkpoints<'_, T>>,
    ) -> Result<Fitted<Self>> {
        // Before the scales, so that the error of data outside the support is returned first.
        L::check_data(builder.likelihood.as_ref(), x)?;
        let scales = builder.scales(x)?;
        let (decoder, likelihood, encoder) = L::initialize::<Q, _>(builder, x, &scales, rng)?;
        let linear = L::has_linear(builder.likelihood.as_ref())
            && builder.initialization == DeepInitialization::Linear;
        let fitter = builder.fitter_for(x, linear);
        let model = GenerativeModel::with_prior(decoder, likelihood, builder.prior.clone());
        if let Some(latent_dim) = model.prior.latent_dim() {
            expect("latent dimension of the prior", builder.latent_dim, latent_dim)?;
        }
        let fitted = fit_parts(
            &fitter,
            &builder.bound(),
            (model, encoder),
            x,
            &Preconditioner::default(),
            rng,
            observer,
            checkpoints,
        )?;
        Ok(fitted.map(|(model, inference)| Model::from_fitting_parts(model, inference)))
    }
}

/// Decoder, noise and encoder of the settings' initialisation.
pub(super) fn initialize_gaussian<T, Q, L, S>(
    builder: &DeepBuilder<T, S>,
    x: Observations<'_, T>,
    scales: &Scales<T>,
    rng: &mut dyn Rng,
) -> Result<(Mlp<T>, L, DeepEncoder<T, Q>)>
where
    T: Real,
    Q: PosteriorFamily<T>,
    L: DeepNoise<T>,
    S: DeepModel<T>,
{
    match builder.initialization {
        DeepInitialization::Linear => {
            let solution = LinearSolution::<L>::of::<T, Q, _>(builder, x, scales, rng)?;
            let encoder = solution.encoder(builder, scales, rng)?;
            Ok((solution.decoder(builder, scales, rng)?, solution.noise, encoder))
        }
        DeepInitialization::Random => {
            let noise = L::of_data(builder.noise_settings(scales), &scales.deviations)?;
            let encoder = builder.random_encoder(scales, rng)?;
            let output = (scales.mean.clone(), scales.deviations.clone());
            Ok((builder.random_decoder(output, rng)?, noise, encoder))
        }
    }
}

impl<T: Real, Q: PosteriorFamily<T>> DeepModel<T> for DeepEncoderPpca<T, Q> {
    type Likelihood = IsotropicGaussian<T>;
    type Prior = StandardNormal;

    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
        checkpoints: Option<Checkpoints<'_, T>>,
    ) -> Result<Fitted<Self>> {
        let scales = builder.scales(x)?;
        let scales_missing = scales.missing;
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
                let noise = IsotropicGaussian::of_data(
                    builder.noise_settings(&scales),
                    &scales.deviations,
                )?;
                let encoder = builder.random_encoder::<Q>(&scales, rng)?;
                let decoder = random_loadings(&scales, builder.latent_dim, rng)?;
                (decoder, noise, encoder, scales.deviations)
            }
        };
        let model = GenerativeModel::new(decoder, noise);
        let preconditioner = row_units(&model.decoder, &units);
        if builder.initialization == DeepInitialization::Linear
            && !scales_missing
            && let Some(value) = optimum(&model, &encoder, x, &preconditioner, rng)?
        {
            let mut trace = Trace::new();
            trace.push(value);
            let model = Model::from_fitting_parts(model, encoder);
            return Ok(Fitted::new(model, trace, StopReason::Converged));
        }
        let linear = builder.initialization == DeepInitialization::Linear;
        let fitter = builder.fitter_for(x, linear);
        let fitted = fit_parts(
            &fitter,
            &builder.bound(),
            (model, encoder),
            x,
            &preconditioner,
            rng,
            observer,
            checkpoints,
        )?;
        Ok(fitted.map(|(model, inference)| Model::from_fitting_parts(model, inference)))
    }
}

/// Maximises J over the parts of a model, with checkpoints if they are asked for.
#[allow(clippy::too_many_arguments)] // those of the fitter
fn fit_parts<T, D, L, P, I>(
    fitter: &StochasticGradient,
    objective: &Binarized<SampledBound>,
    (model, inference): (GenerativeModel<D, L, P>, I),
    x: Observations<'_, T>,
    preconditioner: &Preconditioner<T>,
    rng: &mut dyn Rng,
    observer: &mut dyn Observer,
    checkpoints: Option<Checkpoints<'_, T>>,
) -> Result<FittedParts<D, L, P, I>>
where
    T: Real,
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    P: Prior<T>,
    I: DifferentiableInference<T>,
{
    match checkpoints {
        None => {
            fitter.fit_preconditioned(objective, model, inference, x, preconditioner, rng, observer)
        }
        Some(checkpoints) => fitter.fit_with_checkpoints(
            objective,
            model,
            inference,
            x,
            preconditioner,
            rng,
            observer,
            checkpoints,
        ),
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

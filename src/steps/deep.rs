//! Steps 5 and 6: deep encoders, with a linear decoder and with a deep one (the variational
//! autoencoder).

use super::Model;
use super::fit_methods::fit_methods;
use crate::data::{CompleteForm, check_latent_dim, resolution};
use crate::fit::{FitData, Fitted, Observer, Preconditioner, StochasticGradient};
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::{Bernoulli, IsotropicGaussian, Likelihood, NoiseVariance, check_share};
use crate::map::{Activation, Linear, Mlp, MlpBuilder};
use crate::objective::{Elbo, check_samples};
use crate::posterior::{Diagonal, Isotropic, PosteriorFamily};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Probabilistic PCA with a deep encoder: q(z_i) = q(z|φ(x_i)) with a multilayer perceptron φ.
///
/// The posterior family is isotropic by default, as in the lecture. The decoder is linear, so that
/// log p, the evidence lower bound (ELBO, J) and the inference gaps are exact.
///
/// ```
/// use elbo::{DeepEncoderPpca, fit::StochasticGradient};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = DeepEncoderPpca::<f64>::builder(1)
///     .hidden(&[8])
///     .fitter(StochasticGradient { epochs: 20, ..Default::default() });
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// assert!(model.elbo(&x)?.values().sum() <= model.log_likelihood(&x)?.sum());
/// # Ok::<(), elbo::Error>(())
/// ```
pub type DeepEncoderPpca<T = f64, Q = Isotropic<T>> =
    Model<T, Linear<T>, IsotropicGaussian<T>, Amortized<GaussianEncoder<Mlp<T>, Q>>>;

/// The variational autoencoder: a multilayer perceptron as the encoder and another as the decoder
/// ([Kingma & Welling 2014](https://arxiv.org/abs/1312.6114), [Rezende, Mohamed & Wierstra
/// 2014](https://arxiv.org/abs/1401.4082)).
///
/// Posteriors are diagonal and the noise is Gaussian by default; [`BinaryVae`] is for data in
/// \[0, 1\].
///
/// ```
/// use elbo::{Vae, fit::StochasticGradient};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = Vae::<f64>::builder(1)
///     .hidden(&[8])
///     .fitter(StochasticGradient { epochs: 20, ..Default::default() });
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// assert_eq!(model.reconstruct(&x)?.shape(), (3, 6));
/// assert_eq!(model.sample(5, &mut StdRng::seed_from_u64(2)).shape(), (3, 5));
/// # Ok::<(), elbo::Error>(())
/// ```
pub type Vae<T = f64, Q = Diagonal<T>, L = IsotropicGaussian<T>> =
    Model<T, Mlp<T>, L, Amortized<GaussianEncoder<Mlp<T>, Q>>>;

/// A [`Vae`] of binary variables, or of fractions in \[0, 1\].
pub type BinaryVae<T = f64, Q = Diagonal<T>> = Vae<T, Q, Bernoulli>;

impl<T: Real, Q: PosteriorFamily<T>> DeepEncoderPpca<T, Q> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> DeepBuilder<T, Self> {
        DeepBuilder::new(latent_dim)
    }
}

impl<T: Real, Q: PosteriorFamily<T>> Vae<T, Q> {
    /// Returns a builder with k latent dimensions and Gaussian noise.
    pub fn builder(latent_dim: usize) -> DeepBuilder<T, Self> {
        DeepBuilder::new(latent_dim)
    }
}

impl<T: Real, Q: PosteriorFamily<T>> BinaryVae<T, Q> {
    /// Returns a builder with k latent dimensions, for data in \[0, 1\].
    pub fn builder(latent_dim: usize) -> DeepBuilder<T, Self> {
        DeepBuilder::new(latent_dim)
    }
}

/// Builder of a fit of a model with a deep encoder.
///
/// The model takes data in their own units; they need not be standardised. The encoder's first
/// layer is a fixed affine map, which subtracts the mean of each variable and divides by its
/// standard deviation; the last layer of a deep decoder of Gaussian noise is its fixed inverse. The
/// loadings of a linear decoder are optimised in units of these standard deviations.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct DeepBuilder<T: Real, S> {
    latent_dim: usize,
    hidden: Vec<usize>,
    activation: Activation,
    noise: NoiseVariance<T>,
    relative_floor: f64,
    fitter: Option<StochasticGradient>,
    samples: usize,
    step: PhantomData<S>,
}

impl<T: Real, S> DeepBuilder<T, S> {
    fn new(latent_dim: usize) -> Self {
        Self {
            latent_dim,
            hidden: vec![64],
            activation: Activation::Silu,
            noise: NoiseVariance::Analytic,
            relative_floor: 1e-6,
            fitter: None,
            samples: 1,
            step: PhantomData,
        }
    }

    /// Sets the number of units of each hidden layer of the encoder; a deep decoder has them in
    /// reverse order. One layer of 64 units by default.
    pub fn hidden(self, units: &[usize]) -> Self {
        Self { hidden: units.to_vec(), ..self }
    }

    /// Sets the activation function of the hidden layers; [`Activation::Silu`] by default.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets how σ² of a Gaussian likelihood is found: its analytic optimum (default), learned by
    /// the gradient, or fixed.
    pub fn noise_variance(self, noise: NoiseVariance<T>) -> Self {
        Self { noise, ..self }
    }

    /// Sets the lower bound of a learned σ², as a share of the mean variance of the variables; 10⁻⁶
    /// by default. [`StopReason::Floor`](crate::fit::StopReason::Floor) reports an active bound.
    pub fn noise_floor(self, share: f64) -> Self {
        Self { relative_floor: share, ..self }
    }

    /// Sets the optimiser: epochs, batch size, learning rate and early stopping;
    /// [`StochasticGradient::of_steps`] with 12,000 steps by default.
    pub fn fitter(self, fitter: StochasticGradient) -> Self {
        Self { fitter: Some(fitter), ..self }
    }

    /// Sets the number of Monte Carlo samples of ε per observation and step, at least 1; 1 by
    /// default.
    pub fn samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Validates the settings for the data, and returns the mean and the standard deviation of each
    /// variable.
    fn scales(&self, x: Observations<'_, T>) -> Result<(DVector<T>, DVector<T>)> {
        if x.len() < 2 {
            return Err(Error::TooFewObservations { actual: x.len(), least: 2 });
        }
        check_latent_dim(self.latent_dim, x.len(), x.data_dim())?;
        check_samples(self.samples)?;
        // The fixed first layer divides by the standard deviations: constant data are rejected.
        let (mean, squares) = x.mean_and_squares(|mean| mean);
        let (mean, variances) =
            (DVector::from_vec(mean), DVector::from_vec(squares) / x.len() as f64);
        resolution(x.values(), &mean, variances.sum())?;
        Ok((mean.map(T::of), variances.map(|v| T::of(v.sqrt()))))
    }

    /// The optimiser that was set, or the default for the number of observations.
    fn fitter_for(&self, x: Observations<'_, T>) -> StochasticGradient {
        self.fitter.unwrap_or_else(|| StochasticGradient::of_steps(12_000, x.len()))
    }

    /// A perceptron with the hidden layers of the settings, in reverse order if `backwards`.
    fn layers(&self, inputs: usize, outputs: usize, backwards: bool) -> MlpBuilder<T> {
        let mut hidden = self.hidden.clone();
        // The decoder mirrors the encoder: the encoder's last hidden layer is its first.
        if backwards {
            hidden.reverse();
        }
        Mlp::builder(inputs, outputs).hidden(&hidden).activation(self.activation)
    }

    /// The initial encoder. The rows of its last layer that determine the scale of q are 0, so that
    /// this scale is that of the prior.
    fn encoder<Q: PosteriorFamily<T>>(
        &self,
        scales: &(DVector<T>, DVector<T>),
        rng: &mut dyn Rng,
    ) -> Result<Amortized<GaussianEncoder<Mlp<T>, Q>>> {
        let map = self.layers(scales.0.len(), Q::parameter_count(self.latent_dim), false);
        let map = map.input_standardization(scales.0.clone(), scales.1.clone()).build(rng)?;
        Ok(Amortized::new(GaussianEncoder::new(
            map.with_zero_outputs_from(self.latent_dim),
            self.latent_dim,
        )?))
    }

    /// The initial noise, at the mean variance of the variables, with its lower bound.
    fn noise(&self, deviations: &DVector<T>) -> Result<IsotropicGaussian<T>> {
        let total = deviations.norm_squared() / T::of_usize(deviations.len());
        check_share("the floor of the noise variance", self.relative_floor)?;
        let floor = T::of(self.relative_floor) * total;
        // In single precision the bound may underflow for data of very small scale, although the
        // variance itself does not.
        let limit = T::MIN_POSITIVE;
        if self.relative_floor > 0.0 && floor < limit {
            let (deviation, limit) = (total.sqrt().as_f64(), limit.as_f64() / self.relative_floor);
            return Err(Error::Underflow {
                what: "the standard deviation of the data",
                deviation,
                limit,
            });
        }
        Ok(match self.noise {
            NoiseVariance::Fixed(variance) => IsotropicGaussian::fixed(variance)?,
            NoiseVariance::Learned => IsotropicGaussian::new(total)?.with_floor(floor)?,
            NoiseVariance::Analytic => IsotropicGaussian::analytic(total)?.with_floor(floor)?,
        })
    }

    /// Initialises the deep encoder and decoder of a [`Vae`], and fits them. `fixed_output` adds
    /// the fixed last layer to the decoder, whose output for a Bernoulli likelihood is logits.
    fn fit_vae<Q: PosteriorFamily<T>, L: Likelihood<T>>(
        &self,
        x: Observations<'_, T>,
        (mean, deviations): (DVector<T>, DVector<T>),
        fixed_output: bool,
        likelihood: L,
        (rng, observer): (&mut dyn Rng, &mut dyn Observer),
    ) -> Result<Fitted<Vae<T, Q, L>>> {
        let scales = (mean, deviations);
        // The encoder is initialised before the decoder: a seed determines the fit only in a fixed
        // order of the random numbers.
        let encoder = self.encoder::<Q>(&scales, rng)?;
        let decoder = self.layers(self.latent_dim, x.data_dim(), true);
        let decoder = if fixed_output { decoder.output_scale(scales.0, scales.1) } else { decoder }
            .build(rng)?;
        let model = crate::model::GenerativeModel::new(decoder, likelihood);
        let fitted = self.fitter_for(x).fit(
            &Elbo::reparameterized(self.samples),
            model,
            encoder,
            x,
            rng,
            observer,
        )?;
        Ok(fitted.map(|(model, inference)| Model::from_fitting_parts(model, inference)))
    }
}

fit_methods!([T: Real, S: DeepModel<T>] T, DeepBuilder<T, S> => S);

impl<T: Real, S: DeepModel<T>, F: CompleteForm<T>> FitData<F> for DeepBuilder<T, S> {
    type Model = S;

    fn fit_form(&self, x: F, rng: &mut dyn Rng, observer: &mut dyn Observer) -> Result<Fitted<S>> {
        S::fit_deep(self, x.observations()?, rng, observer)
    }
}

/// A model that a [`DeepBuilder`] fits: [`DeepEncoderPpca`], [`Vae`] or [`BinaryVae`].
pub trait DeepModel<T: Real>: Sized {
    /// Maximises the ELBO from a random initialisation.
    ///
    /// # Errors
    /// Those of [`DeepBuilder::fit`].
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>>;
}

impl<T: Real, Q: PosteriorFamily<T>> DeepModel<T> for DeepEncoderPpca<T, Q> {
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>> {
        let scales = builder.scales(x)?;
        let encoder = builder.encoder::<Q>(&scales, rng)?;
        let (mean, deviations) = scales;
        let noise = builder.noise(&deviations)?;
        // Loadings of the scale of the data: Σ_m w_jm² has the variance of variable j as
        // expectation.
        let share = T::one() / T::of_usize(builder.latent_dim).sqrt();
        let loadings = DMatrix::from_fn(x.data_dim(), builder.latent_dim, |j, _| {
            share * deviations[j] * T::standard_normal(rng)
        });
        // The bias starts at x̄, its optimum for a linear decoder.
        let decoder = Linear::new(loadings, mean)?;
        // Rows move in units of their standard deviation, as if the data were standardised;
        // constant variables in 10⁻⁶ of the typical one, since their unit would be 0.
        let typical = (deviations.norm_squared() / T::of_usize(deviations.len())).sqrt();
        let preconditioner =
            Preconditioner::of_decoder_rows(&decoder, &deviations, T::of(1e-6) * typical);
        let model = crate::model::GenerativeModel::new(decoder, noise);
        let objective = Elbo::reparameterized(builder.samples);
        let fitted = builder.fitter_for(x).fit_preconditioned(
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

impl<T: Real, Q: PosteriorFamily<T>> DeepModel<T> for Vae<T, Q> {
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>> {
        let scales = builder.scales(x)?;
        let noise = builder.noise(&scales.1)?;
        builder.fit_vae(x, scales, true, noise, (rng, observer))
    }
}

impl<T: Real, Q: PosteriorFamily<T>> DeepModel<T> for BinaryVae<T, Q> {
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Self>> {
        // Before the scales, so that the error of data outside [0, 1] is returned first.
        Bernoulli.check_support(x)?;
        let scales = builder.scales(x)?;
        builder.fit_vae(x, scales, false, Bernoulli, (rng, observer))
    }
}

impl<T: Real, Q, L: Likelihood<T>> std::fmt::Display for Vae<T, Q, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (d, k) = (self.data_dim(), self.latent_dim());
        writeln!(f, "variational autoencoder: {d} variables, {k} latent dimensions")?;
        writeln!(f, "decoder layers: {:?}", self.generative.decoder.sizes())?;
        writeln!(f, "posterior: {}", super::short_name::<Q>())?;
        write!(f, "likelihood: {}", super::short_name::<L>())
    }
}

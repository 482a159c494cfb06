//! The builder of deep models.

use super::{DeepLikelihood, Vae};
use crate::data::{
    Data, Dense, IncompleteObservations, constant_but_for_rounding, resolution, resolution_of,
};
use crate::fit::{Checkpoints, FitData, Fitted, Observer, StochasticGradient};
use crate::likelihood::{NoiseVariance, check_share, is_missing};
use crate::map::{Activation, Mlp, MlpBuilder};
use crate::objective::{Binarized, SampledBound};
use crate::posterior::PosteriorFamily;
use crate::prior::Prior;
use crate::steps::fit_methods::fit_methods;
use crate::{Error, Observations, Real, Result};
use nalgebra::DVector;
use rand::Rng;

/// Builder of a fit of a model with a deep encoder.
///
/// The model takes data in their own units; they need not be standardised. The encoder's first
/// layer is a fixed affine map, which subtracts the mean of each variable and divides by its
/// standard deviation. The last layers of encoder and decoder are fixed scales: a posterior mean is
/// in units of its posterior standard deviation, and a mean of x in units of the noise. A training
/// step therefore costs or gains a like amount in every output, whatever the units of the data, and
/// a variable that is constant (but for rounding) is neither an input nor a free output.
///
/// The fit starts at the optimum of the [linear model](DeepInitialization) that the deep one
/// contains, and never ends below it.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct DeepBuilder<T: Real, S: DeepModel<T>> {
    pub(super) latent_dim: usize,
    pub(super) likelihood: Option<S::Likelihood>,
    pub(super) prior: S::Prior,
    pub(super) hidden: Vec<usize>,
    pub(super) decoder_hidden: Option<Vec<usize>>,
    pub(super) activation: Activation,
    pub(super) initialization: DeepInitialization,
    pub(super) noise: NoiseVariance<T>,
    pub(super) relative_floor: Option<f64>,
    pub(super) fitter: Option<StochasticGradient>,
    pub(super) objective: SampledBound,
    pub(super) binarize: bool,
}

/// Initialisation of a deep model with Gaussian noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeepInitialization {
    /// The linear model that the deep one contains, at its optimum: probabilistic PCA, or factor
    /// analysis where each variable has its own noise variance. Its maps are those of
    /// [skip connections](Mlp::with_skip_connection) of encoder and decoder, and the networks
    /// beside them are random but for a last layer of 0. Training starts at the linear model's J.
    #[default]
    Linear,
    /// Random weights, without skip connections. J starts far below that of the linear model, and
    /// nothing ensures that it ends above.
    Random,
}

/// Largest latent dimension where there are no more variables: a k×k matrix has 128 MiB then.
const LARGEST_LATENT_DIM: usize = 4096;

/// The means of the variables and their standard deviations; 0 for a variable that is constant but
/// for rounding.
pub struct Scales<T: Real> {
    pub(super) mean: DVector<T>,
    pub(super) deviations: DVector<T>,
    /// Whether entries are missing.
    pub(super) missing: bool,
}

/// The means and the mean squared deviations of the observed entries of each variable.
pub(super) fn moments_of_observed<T: Real>(
    x: Observations<'_, T>,
) -> Result<(DVector<f64>, DVector<f64>)> {
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for (variable, row) in x.values().row_iter().enumerate() {
        let observed = || row.iter().filter(|&&v| !is_missing(v)).map(|v| v.as_f64());
        let count = observed().count();
        if count == 0 {
            return Err(Error::NeverObserved { variable, observations: x.len() });
        }
        let mean = observed().sum::<f64>() / count as f64;
        means.push(mean);
        variances.push(observed().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count as f64);
    }
    Ok((DVector::from_vec(means), DVector::from_vec(variances)))
}

impl<T: Real, S: DeepModel<T>> DeepBuilder<T, S> {
    pub(super) fn new(
        latent_dim: usize,
        likelihood: Option<S::Likelihood>,
        prior: S::Prior,
    ) -> Self {
        Self {
            latent_dim,
            likelihood,
            prior,
            hidden: vec![64],
            decoder_hidden: None,
            activation: Activation::Silu,
            initialization: DeepInitialization::default(),
            noise: NoiseVariance::Analytic,
            relative_floor: None,
            fitter: None,
            objective: SampledBound::default(),
            binarize: false,
        }
    }

    /// Sets the number of units of each hidden layer of the encoder; a deep decoder has them in
    /// reverse order. One layer of 64 units by default.
    pub fn hidden(self, units: &[usize]) -> Self {
        Self { hidden: units.to_vec(), ..self }
    }

    /// Sets the number of units of each hidden layer of a deep decoder, in order from the code,
    /// where it is not to mirror the encoder.
    pub fn decoder_hidden(self, units: &[usize]) -> Self {
        Self { decoder_hidden: Some(units.to_vec()), ..self }
    }

    /// Sets the activation function of the hidden layers; [`Activation::Silu`] by default.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets the initialisation of a model with Gaussian noise: [`DeepInitialization::Linear`] by
    /// default. Other models start from random weights.
    pub fn initialization(self, initialization: DeepInitialization) -> Self {
        Self { initialization, ..self }
    }

    /// Sets how the noise variance of a Gaussian likelihood is found: its analytic optimum
    /// (default), learned by the gradient, or fixed. With a variance for each variable this is done
    /// for each.
    pub fn noise_variance(self, noise: NoiseVariance<T>) -> Self {
        Self { noise, ..self }
    }

    /// Sets the lower bound of a learned noise variance, as a share of the mean variance of the
    /// variables, or of the variable's own where each has a noise variance.
    /// [`StopReason::Floor`](crate::fit::StopReason::Floor) reports an active bound.
    ///
    /// The default is 10⁻⁶, or 10⁻³ of the noise variance of the linear model if that is less: one
    /// outlier can raise the mean variance so far that 10⁻⁶ of it is more than all noise.
    pub fn noise_floor(self, share: f64) -> Self {
        Self { relative_floor: Some(share), ..self }
    }

    /// Sets the optimiser: epochs, batch size, learning rate and early stopping;
    /// [`StochasticGradient::of_steps`] with 12,000 steps by default, with a fifth of the
    /// observations held out also where there are few.
    ///
    /// Without held-out observations ([`StochasticGradient::held_out`] = 0) the fit ends above the
    /// linear model on the data it was fitted to, and may be far below it on others.
    pub fn fitter(self, fitter: StochasticGradient) -> Self {
        Self { fitter: Some(fitter), ..self }
    }

    /// Sets the number of Monte Carlo samples of ε per observation and step, at least 1; 1 by
    /// default.
    pub fn samples(self, samples: usize) -> Self {
        Self { objective: self.objective.with_samples(samples), ..self }
    }

    /// Sets the bound that the fit maximises: the ELBO with one sample by default.
    pub fn objective(self, objective: SampledBound) -> Self {
        Self { objective, ..self }
    }

    /// Sets dynamic binarisation: in each evaluation of the bound, fractions in \[0, 1\] become binary
    /// data, drawn with their values as probabilities ([`Binarized`]). Off by default.
    pub fn dynamic_binarization(self, binarize: bool) -> Self {
        Self { binarize, ..self }
    }

    /// The objective of the fit.
    pub(super) fn bound(&self) -> Binarized<SampledBound> {
        Binarized { objective: self.objective, draw: self.binarize }
    }

    /// Validates the settings for the data, and returns the mean and the standard deviation of each
    /// variable.
    pub(super) fn scales(&self, x: Observations<'_, T>) -> Result<Scales<T>> {
        if x.len() < 2 {
            return Err(Error::TooFewObservations { actual: x.len(), least: 2 });
        }
        // A deep model may have more latent dimensions than there are variables or observations.
        let (latent_dim, largest) = (self.latent_dim, x.data_dim().max(LARGEST_LATENT_DIM));
        if !(1..=largest).contains(&latent_dim) {
            return Err(Error::LatentDim { latent_dim, smallest: 1, largest });
        }
        self.objective.check()?;
        self.relative_floor
            .map_or(Ok(()), |share| check_share("the floor of the noise variance", share))?;
        // The fixed first layer divides by the standard deviations: constant data are rejected.
        let missing = x.values().iter().any(|&value| is_missing(value));
        let (mean, variances) = if missing {
            let (mean, variances) = moments_of_observed(x)?;
            resolution_of(variances.sum(), &mean, x.len())?;
            (mean, variances)
        } else {
            let (mean, squares) = x.mean_and_squares(|mean| mean);
            let (mean, variances) =
                (DVector::from_vec(mean), DVector::from_vec(squares) / x.len() as f64);
            resolution(x.values(), &mean, variances.sum())?;
            (mean, variances)
        };
        let deviations = mean.zip_map(&variances, |mean, variance| {
            let constant = constant_but_for_rounding(mean, variance, T::EPSILON.as_f64());
            if constant { T::zero() } else { T::of(variance.sqrt()) }
        });
        Ok(Scales { mean: mean.map(T::of), deviations, missing })
    }

    /// The optimiser that was set, or the default for the number of observations.
    pub(super) fn fitter_for(&self, x: Observations<'_, T>, linear: bool) -> StochasticGradient {
        self.fitter.unwrap_or_else(|| {
            let fitter = StochasticGradient::of_steps(12_000, x.len());
            // A few observations cannot show that a deep model is better than the linear one, but
            // training fits them almost exactly. Without a linear model there is nothing to return
            // to.
            if linear && fitter.held_out == 0.0 {
                StochasticGradient { held_out: 0.2, ..fitter }
            } else {
                fitter
            }
        })
    }

    /// A perceptron with the hidden layers of the settings, in reverse order if `backwards`.
    pub(super) fn layers(&self, inputs: usize, outputs: usize, backwards: bool) -> MlpBuilder<T> {
        let mut hidden = self.hidden.clone();
        // The decoder mirrors the encoder: the encoder's last hidden layer is its first.
        if backwards {
            hidden.reverse();
            hidden = self.decoder_hidden.clone().unwrap_or(hidden);
        }
        Mlp::builder(inputs, outputs).hidden(&hidden).activation(self.activation)
    }
}

impl<T, Q, L, P> DeepBuilder<T, Vae<T, Q, L, P>>
where
    T: Real,
    Q: PosteriorFamily<T>,
    L: DeepLikelihood<T>,
    P: Prior<T>,
{
    /// Sets the prior, whose parameters the fit moves with those of the decoder; N(0, I) by default.
    ///
    /// ```
    /// use elbo::{Vae, fit::StochasticGradient, prior::MixturePrior};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// let x = nalgebra::DMatrix::from_fn(3, 40, |j, i| (j + 1) as f64 * (i % 4) as f64);
    /// let fitter = StochasticGradient { epochs: 20, ..Default::default() };
    /// let model = Vae::<f64>::builder(2)
    ///     .hidden(&[8])
    ///     .fitter(fitter)
    ///     .prior(MixturePrior::random(4, 2, rng)?)
    ///     .fit(&x, rng)?
    ///     .model;
    /// assert_eq!(model.generative_model().prior.components(), 4);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn prior<R: Prior<T>>(self, prior: R) -> DeepBuilder<T, Vae<T, Q, L, R>> {
        DeepBuilder {
            latent_dim: self.latent_dim,
            likelihood: self.likelihood,
            prior,
            hidden: self.hidden,
            decoder_hidden: self.decoder_hidden,
            activation: self.activation,
            initialization: self.initialization,
            noise: self.noise,
            relative_floor: self.relative_floor,
            fitter: self.fitter,
            objective: self.objective,
            binarize: self.binarize,
        }
    }
}

fit_methods!([T: Real, S: DeepModel<T>] T, DeepBuilder<T, S> => S);

impl<T: Real, S: DeepModel<T>> DeepBuilder<T, S> {
    /// [`fit_with_observer`](Self::fit_with_observer) with checkpoints, from which a fit that was
    /// interrupted continues to the same bits; see [`StochasticGradient::fit_with_checkpoints`].
    ///
    /// # Errors
    /// As [`fit`](Self::fit), and [`Error::CheckpointMismatch`].
    pub fn fit_with_checkpoints<X, R>(
        &self,
        x: X,
        mut rng: &mut R,
        observer: &mut dyn Observer,
        checkpoints: Checkpoints<'_, T>,
    ) -> Result<Fitted<S>>
    where
        X: Data<T>,
        X::Form: DeepForm<T>,
        R: Rng + ?Sized,
    {
        x.into_form()?
            .with_observations(|x| S::fit_deep(self, x, &mut rng, observer, Some(checkpoints)))
    }
}

/// A form of data that deep models are fitted to.
#[diagnostic::on_unimplemented(
    message = "a deep model cannot be fitted to data of the form `{Self}`",
    note = "it is fitted to data in memory: `&x`, or `Incomplete(&x)`"
)]
pub trait DeepForm<T: Real>: Sized {
    /// Calls `work` with the observations; NaN marks a missing entry.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and of `work`.
    #[doc(hidden)]
    fn with_observations<V>(self, work: impl FnOnce(Observations<'_, T>) -> Result<V>)
    -> Result<V>;
}

impl<T: Real> DeepForm<T> for Dense<'_, T> {
    fn with_observations<V>(
        self,
        work: impl FnOnce(Observations<'_, T>) -> Result<V>,
    ) -> Result<V> {
        work(self.validate()?)
    }
}

/// Entries that are missing are left out of log p(x|z), and the encoder reads 0 (in standardised
/// units) and an indicator in their place.
impl<T: Real> DeepForm<T> for IncompleteObservations<'_, T> {
    fn with_observations<V>(
        self,
        work: impl FnOnce(Observations<'_, T>) -> Result<V>,
    ) -> Result<V> {
        if let Some(complete) = self.complete() {
            return work(complete);
        }
        let marked = self.marked();
        work(Observations::trusted(marked.as_view(), self.len()))
    }
}

impl<T: Real, S: DeepModel<T>, F: DeepForm<T>> FitData<F> for DeepBuilder<T, S> {
    type Model = S;

    fn fit_form(&self, x: F, rng: &mut dyn Rng, observer: &mut dyn Observer) -> Result<Fitted<S>> {
        x.with_observations(|x| S::fit_deep(self, x, rng, observer, None))
    }
}

/// A model that a [`DeepBuilder`] fits: [`DeepEncoderPpca`](crate::DeepEncoderPpca),
/// [`Vae`](crate::Vae) or [`BinaryVae`](crate::BinaryVae).
pub trait DeepModel<T: Real>: Sized {
    /// The likelihood p(x|z).
    type Likelihood: Clone;
    /// The prior π(z).
    type Prior: Clone;

    /// Maximises the ELBO from the builder's initialisation, or from a checkpoint.
    ///
    /// # Errors
    /// Those of [`DeepBuilder::fit`].
    fn fit_deep(
        builder: &DeepBuilder<T, Self>,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
        checkpoints: Option<Checkpoints<'_, T>>,
    ) -> Result<Fitted<Self>>;
}

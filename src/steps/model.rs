//! The model type of the whole progression, and the methods that any of its components allow.

use super::apply::{EncodeOf, LogLikelihoodOf, TransformOf};
use crate::data::{Data, expect};
use crate::inference::{Inference, OutOfSample, PerPoint};
use crate::likelihood::{ConditionalMean, Likelihood};
use crate::model::{Decoder, ExpectedLogLikelihood, GenerativeModel, ProbabilisticModel};
use crate::objective::{Elbo, ElboTerms};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily};
use crate::prior::{Prior, StandardNormal};
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// A latent-variable model: a decoder and a likelihood (θ), and an inference (Q).
///
/// Every model of the progression is an alias of this type with other components: [`Ppca`] is
/// `Model<T, Linear<T>, IsotropicGaussian<T>, Exact>`, [`Vae`] has multilayer perceptrons as
/// decoder and encoder. The methods depend on the components; a method that the components do not
/// allow does not compile, and the compiler says why.
///
/// [`Ppca`]: crate::Ppca
/// [`Vae`]: crate::Vae
#[derive(Debug, Clone, PartialEq)]
pub struct Model<T: Real, D, L, I, P = StandardNormal> {
    pub(crate) generative: GenerativeModel<D, L, P>,
    pub(crate) inference: I,
    scalar: PhantomData<T>,
}

impl<T: Real, D, L, I, P> Model<T, D, L, I, P> {
    /// A model whose components are known to fit each other.
    pub(crate) fn from_fitting_parts(generative: GenerativeModel<D, L, P>, inference: I) -> Self {
        Self { generative, inference, scalar: PhantomData }
    }

    /// θ: the decoder and the likelihood.
    pub fn generative_model(&self) -> &GenerativeModel<D, L, P> {
        &self.generative
    }

    /// The decoder.
    pub fn decoder(&self) -> &D {
        &self.generative.decoder
    }

    /// The likelihood p(x|z), given the output of the decoder.
    pub fn likelihood(&self) -> &L {
        &self.generative.likelihood
    }

    /// Q: the inference.
    pub fn inference(&self) -> &I {
        &self.inference
    }

    /// θ and Q by value, for a fit that goes on from them.
    pub fn into_parts(self) -> (GenerativeModel<D, L, P>, I) {
        (self.generative, self.inference)
    }
}

impl<T: Real, D, L, I> Model<T, D, L, I>
where
    D: Decoder<T>,
    L: ConditionalMean<T>,
    I: Inference<T, GenerativeModel<D, L>>,
{
    /// Builds a model from a decoder, a likelihood and an inference.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when they do not fit each
    /// other.
    ///
    /// ```
    /// use elbo::{Model, inference::Exact, likelihood::DiagonalGaussian, map::Linear};
    /// use nalgebra::{dmatrix, dvector};
    /// let decoder = Linear::new(dmatrix![1.0; 2.0; 0.5], dvector![0.0, 0.0, 0.0])?;
    /// let noise = DiagonalGaussian::new(dvector![0.1, 0.2, 0.3])?;
    /// let model: elbo::FactorAnalysis = Model::new(decoder.clone(), noise, Exact)?;
    /// assert_eq!((model.data_dim(), model.latent_dim()), (3, 1));
    /// let two_variables = DiagonalGaussian::new(dvector![0.1, 0.2])?;
    /// assert!(Model::<f64, _, _, _>::new(decoder, two_variables, Exact).is_err());
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn new(decoder: D, likelihood: L, inference: I) -> Result<Self> {
        Self::from_parts(GenerativeModel::new(decoder, likelihood), inference)
    }
}

impl<T: Real, D, L, I, P> Model<T, D, L, I, P>
where
    D: Decoder<T>,
    L: ConditionalMean<T>,
    I: Inference<T, GenerativeModel<D, L, P>>,
    P: Prior<T>,
{
    /// Builds a model from θ and Q, for example those that a fit returned.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when they do not fit each
    /// other.
    pub fn from_parts(generative: GenerativeModel<D, L, P>, inference: I) -> Result<Self> {
        let decoder = &generative.decoder;
        let variables = generative.likelihood.data_dim(decoder.observed_dim())?;
        if let Some(latent_dim) = inference.fixed_latent_dim() {
            expect("latent dimension of the inference", decoder.latent_dim(), latent_dim)?;
        }
        if let Some(latent_dim) = generative.prior.latent_dim() {
            expect("latent dimension of the prior", decoder.latent_dim(), latent_dim)?;
        }
        if let Some(data_dim) = inference.fixed_data_dim() {
            expect("variables of the encoder", variables, data_dim)?;
        }
        Ok(Self::from_fitting_parts(generative, inference))
    }
}

impl<T: Real, D: Decoder<T>, L, I, P> Model<T, D, L, I, P> {
    /// The latent dimension k.
    pub fn latent_dim(&self) -> usize {
        self.generative.decoder.latent_dim()
    }

    /// The number d of variables.
    pub fn data_dim(&self) -> usize
    where
        L: ConditionalMean<T>,
    {
        let rows = self.generative.decoder.observed_dim();
        // The constructors have checked that decoder and likelihood fit each other.
        self.generative.likelihood.data_dim(rows).unwrap_or(rows)
    }

    /// The output of the decoder for codes z (k×n): the mean of x (d×n) for Gaussian noise, the
    /// logits for a Bernoulli likelihood. [`Self::inverse_transform`] is the mean for both.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) unless z has k rows;
    /// [`Error::Empty`](crate::Error::Empty) and [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn decoder_output(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        expect("rows of z", self.latent_dim(), z.nrows())?;
        crate::linalg::check_finite(z.as_view())?;
        Ok(self.generative.decoder.decode(z.as_view()))
    }

    /// The posterior q(z_i) of each observation: for incomplete data, given the observed entries.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn encode<X: Data<T>>(&self, x: X) -> Result<<Self as EncodeOf<T, X::Form>>::Posterior>
    where
        Self: EncodeOf<T, X::Form>,
    {
        self.encode_form(x.into_form()?)
    }

    /// The codes of the data, k×n: the means of q(z_i).
    ///
    /// Serves complete data and sources in every model that encodes new observations, incomplete
    /// and sparse data in the linear-Gaussian models with the exact posterior.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn transform<X: Data<T>>(&self, x: X) -> Result<DMatrix<T>>
    where
        Self: TransformOf<T, X::Form>,
    {
        self.transform_form(x.into_form()?)
    }

    /// The log-likelihood log p(x_i) in nats, one entry an observation, in closed form; O(n·d·k).
    ///
    /// Available for a linear decoder with Gaussian noise, for complete and incomplete data (then
    /// of the observed entries; 0 where an observation has none), sparse data and sources.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn log_likelihood<X: Data<T>>(&self, x: X) -> Result<DVector<T>>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        self.log_likelihood_form(x.into_form()?)
    }

    /// The mean log-likelihood in nats per observation.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn score<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let values = self.log_likelihood(x)?;
        Ok(values.iter().map(|v| v.as_f64()).sum::<f64>() / values.len() as f64)
    }

    /// n samples of x from the model, d×n.
    ///
    /// Available for models with a likelihood.
    pub fn sample<R: Rng + ?Sized>(&self, n: usize, rng: &mut R) -> DMatrix<T>
    where
        L: Likelihood<T>,
        P: Prior<T>,
    {
        self.sample_with_codes(n, rng).1
    }

    /// n samples of codes z ~ π(z) (k×n) and of observations x ~ p(x|z) (d×n).
    ///
    /// Available for models with a likelihood.
    pub fn sample_with_codes<R: Rng + ?Sized>(
        &self,
        n: usize,
        mut rng: &mut R,
    ) -> (DMatrix<T>, DMatrix<T>)
    where
        L: Likelihood<T>,
        P: Prior<T>,
    {
        self.generative.sample(n, &mut rng)
    }
}

impl<T: Real, D: Decoder<T>, L: ConditionalMean<T>, I, P> Model<T, D, L, I, P> {
    /// The mean of p(x|z) for codes z (k×n), d×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) unless z has k rows;
    /// [`Error::Empty`](crate::Error::Empty) and [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        Ok(self.generative.likelihood.mean(self.decoder_output(z)?.as_view()))
    }

    /// The mean of p(x|z) at the code of each observation, d×n.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn reconstruct<X: Data<T>>(&self, x: X) -> Result<DMatrix<T>>
    where
        Self: TransformOf<T, X::Form>,
    {
        let codes = self.transform(x)?;
        Ok(self
            .generative
            .likelihood
            .mean(self.generative.decoder.decode(codes.as_view()).as_view()))
    }

    /// The squared reconstruction error ‖x_i − x'_i‖² of each observation, in the units of x
    /// squared.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn reconstruction_error<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>>
    where
        I: OutOfSample<T, GenerativeModel<D, L, P>>,
    {
        let x = x.into_observations()?;
        let codes = self.encode_form(crate::data::Dense::from(x))?;
        let residuals = residuals(&self.generative, codes.mean(), x.values());
        Ok(DVector::from_iterator(x.len(), residuals.column_iter().map(|r| r.norm_squared())))
    }
}

/// x − E[x|z], d×n: by the decoder where its output is the mean, so that a large common mean
/// cancels before the product is rounded.
fn residuals<T: Real, D: Decoder<T>, L: ConditionalMean<T>, P>(
    model: &GenerativeModel<D, L, P>,
    z: DMatrixView<'_, T>,
    x: DMatrixView<'_, T>,
) -> DMatrix<T> {
    if model.likelihood.is_identity() {
        model.decoder.residuals(z, x)
    } else {
        x - model.likelihood.mean(model.decoder.decode(z).as_view())
    }
}

impl<T: Real, D: Decoder<T>, L, Q: PosteriorFamily<T>, P> Model<T, D, L, PerPoint<Q>, P> {
    /// The codes of the observations of the fit, k×n: the means of the fitted table.
    pub fn codes(&self) -> DMatrixView<'_, T> {
        self.inference.posterior.mean()
    }
}

// The bounds stand on the methods and not on the block: only then does the compiler report which
// capability is missing.
impl<T: Real, D: Decoder<T>, L, I, P> Model<T, D, L, I, P> {
    /// The two terms of the evidence lower bound (ELBO) in closed form, one entry an observation.
    ///
    /// Available for a linear decoder with Gaussian noise, and with
    /// [`Independent`](crate::likelihood::Independent) variables, for which a one-dimensional
    /// quadrature to 1e-10 counts as a closed form; [`Self::estimate_elbo`] serves every decoder.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch); a table serves only the
    /// observations that it was fitted to.
    pub fn elbo<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<ElboTerms<T>>
    where
        L: Likelihood<T>,
        I: Inference<T, GenerativeModel<D, L, P>>,
        I::Posterior: GaussianPosterior<T>,
        GenerativeModel<D, L, P>: ExpectedLogLikelihood<T, I::Posterior>,
    {
        let x = x.into_observations()?;
        x.expect_dim(self.data_dim())?;
        let q = self.inference.infer(&self.generative, x)?;
        Elbo::closed_form().terms(&self.generative, &q, x)
    }

    /// The two terms of the ELBO, one entry an observation; the expected log-likelihood is the mean
    /// over `samples` Monte Carlo samples by the reparameterisation trick.
    ///
    /// # Errors
    /// As [`Self::elbo`]; [`Error::InvalidParameter`](crate::Error::InvalidParameter) for 0
    /// samples.
    pub fn estimate_elbo<'a, R: Rng + ?Sized>(
        &self,
        samples: usize,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<ElboTerms<T>>
    where
        L: Likelihood<T>,
        P: Prior<T>,
        I: Inference<T, GenerativeModel<D, L, P>>,
        I::Posterior: GaussianPosterior<T>,
    {
        let x = x.into_observations()?;
        x.expect_dim(self.data_dim())?;
        crate::objective::check_samples(samples)?;
        let q = self.inference.infer(&self.generative, x)?;
        Elbo::reparameterized(samples).terms(&self.generative, &q, x, &mut rng)
    }
}

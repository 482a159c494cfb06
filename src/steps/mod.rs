//! The progression as a table of types: each step swaps what sits in one slot of the step before
//! it.
//!
//! | step | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`LinearAutoencoder`] | `Linear` | `Noiseless` | `Amortized<PointEncoder<Linear>>` | closed form, or gradient |
//! | [`Ppca`] | `Linear` | **`IsotropicGaussian`** | **`Exact`** | closed form, EM, parameter-expanded EM |
//! | [`VariationalPpca`] | `Linear` | `IsotropicGaussian` | **`PerPoint<Q>`** | variational EM |
//! | [`AmortizedPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized<GaussianEncoder<Linear, Q>>`** | gradient |
//! | [`DeepEncoderPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized<GaussianEncoder<Mlp, Q>>`** | reparameterised gradient |
//! | [`Vae`] | **`Mlp`** | `IsotropicGaussian`, `Bernoulli` | `Amortized<GaussianEncoder<Mlp, Q>>` | reparameterised gradient |
//!
//! Beside the progression, the same model with noise of another shape:
//!
//! | step | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`FactorAnalysis`] | `Linear` | **`DiagonalGaussian`** | `Exact` | ascent of the profile likelihood, EM |

mod amortized_ppca;
mod deep;
mod dyn_model;
mod factor_analysis;
mod incomplete;
mod linear_autoencoder;
mod pca;
mod ppca;
mod sparse;
mod streams;
mod variational_ppca;

pub use amortized_ppca::{AmortizedPpca, AmortizedPpcaBuilder};
pub use deep::{BinaryVae, DeepBuilder, DeepEncoderPpca, DeepModel, Vae};
pub use dyn_model::{Budget, DynFit, DynModel, ModelKind};
pub use factor_analysis::{FactorAnalysis, FactorAnalysisBuilder};
pub use linear_autoencoder::{LinearAutoencoder, LinearAutoencoderBuilder};
pub use pca::{OutlierDistances, Pca};
pub use ppca::{EmFitter, Ppca, PpcaBuilder};
pub use variational_ppca::{VariationalPpca, VariationalPpcaBuilder};

use crate::inference::{Exact, Inference, OutOfSample};
use crate::likelihood::{ConditionalMean, GaussianNoise, Likelihood};
use crate::linalg::{matrix_product, product_tr_left};
use crate::map::Linear;
use crate::model::{
    Decoder, ExpectedLogLikelihood, GenerativeModel, LinearGaussian, MarginalLikelihood,
    ProbabilisticModel,
};
use crate::objective::{Elbo, ElboTerms};
use crate::posterior::{GaussianPosterior, Posterior};
use crate::rotation::Rotation;
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};
use rand::Rng;
use std::marker::PhantomData;

/// A step of the progression: θ (a decoder and a likelihood) and Q (an inference), with the verbs
/// that these allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<T: Real, D, L, I> {
    /// θ.
    pub model: GenerativeModel<D, L>,
    /// Q.
    pub inference: I,
    scalar: PhantomData<T>,
}

impl<T: Real, D, L, I> Step<T, D, L, I> {
    /// A step from its slots.
    pub fn from_slots(decoder: D, likelihood: L, inference: I) -> Self {
        Self::from_parts(GenerativeModel::new(decoder, likelihood), inference)
    }

    /// A step from θ and Q.
    pub fn from_parts(model: GenerativeModel<D, L>, inference: I) -> Self {
        Self { model, inference, scalar: PhantomData }
    }
}

impl<T: Real, D: Decoder<T>, L, I> Step<T, D, L, I> {
    /// The latent dimension k.
    pub fn latent_dim(&self) -> usize {
        self.model.decoder.latent_dim()
    }

    /// The dimension d of an observation.
    pub fn data_dim(&self) -> usize {
        self.model.decoder.observed_dim()
    }

    /// Decodes codes z (k×n) into d×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when z has not k rows;
    /// [`Error::Empty`](crate::Error::Empty) and [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn decode(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        crate::data::expect("rows of z", self.latent_dim(), z.nrows())?;
        crate::linalg::check_finite(z.as_view())?;
        Ok(self.model.decoder.decode(z.as_view()))
    }

    /// q(z_i) for each observation of `x`, seen before or not.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn encode<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<I::Posterior>
    where
        I: OutOfSample<T, GenerativeModel<D, L>>,
    {
        let x = x.into_observations()?;
        x.expect_dim(self.data_dim())?;
        self.inference.infer(&self.model, x)
    }

    /// The codes of `x`, k×n: the means of q.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn transform<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>>
    where
        I: OutOfSample<T, GenerativeModel<D, L>>,
    {
        match x.unchecked() {
            Some(values) => self.inference.codes_of_unvalidated(&self.model, values),
            None => Ok(self.encode(x)?.into_mean()),
        }
    }
}

impl<T: Real, D: Decoder<T>, L: ConditionalMean<T>, I> Step<T, D, L, I> {
    /// The mean of p(x|z) at the mean code of each observation, d×n.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn reconstruct<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>>
    where
        I: OutOfSample<T, GenerativeModel<D, L>>,
    {
        let codes = self.encode(x)?;
        Ok(self.model.likelihood.mean(self.model.decoder.decode(codes.mean()).as_view()))
    }
}

// The bounds stand on the methods and not on the block: only so does the compiler say, in our
// words, what is missing.
impl<T: Real, D: Decoder<T>, L, I> Step<T, D, L, I> {
    /// Draws n codes z ~ π (k×n) and observations x ~ p(x|z) (d×n).
    pub fn sample<R: Rng + ?Sized>(&self, n: usize, mut rng: &mut R) -> (DMatrix<T>, DMatrix<T>)
    where
        L: Likelihood<T>,
    {
        self.model.sample(n, &mut rng)
    }

    /// log p(x_i) in nats, one entry an observation, in closed form; O(n·d·k).
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn log_likelihood<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>>
    where
        L: Likelihood<T>,
        GenerativeModel<D, L>: MarginalLikelihood<T>,
    {
        self.model.log_likelihood(x.into_observations()?)
    }
}

/// The verbs of every step with a linear decoder and Gaussian noise of any shape.
impl<T: Real, N: GaussianNoise<T>, I> Step<T, Linear<T>, N, I> {
    /// W, d×k.
    pub fn loadings(&self) -> DMatrixView<'_, T> {
        self.model.loadings()
    }

    /// μ, d×1.
    pub fn mean(&self) -> DVectorView<'_, T> {
        self.model.mean()
    }

    /// (x−μ)ᵗC⁻¹(x−μ), the squared Mahalanobis distance of each observation under the model's
    /// covariance C = WWᵗ + noise; χ² with d degrees of freedom for data from the model. O(n·d·k).
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn squared_distances<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>> {
        self.model.squared_distances(x.into_observations()?)
    }

    /// ‖x − E[x|z]‖² at the mean code of each observation, in the units of x squared.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn reconstruction_error<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>>
    where
        I: OutOfSample<T, LinearGaussian<T, N>>,
    {
        let x = x.into_observations()?;
        let residuals = Decoder::residuals(&self.model.decoder, self.encode(x)?.mean(), x.values());
        Ok(DVector::from_iterator(x.len(), residuals.column_iter().map(|r| r.norm_squared())))
    }
}

impl<T: Real, N: GaussianNoise<T>> Step<T, Linear<T>, N, Exact> {
    /// The same model with z turned by an orthogonal rotation, such as
    /// [`Varimax`](crate::rotation::Varimax) finds: W R in the place of W. The likelihood does not
    /// change; the codes follow.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension);
    /// [`Error::InvalidParameter`](crate::Error::Setting) for a rotation that is oblique, under
    /// which the prior of z would no longer be N(0, I).
    pub fn rotated(&self, rotation: &Rotation<T>) -> Result<Self> {
        let turn = &rotation.rotation;
        crate::data::expect("rows of the rotation", self.latent_dim(), turn.nrows())?;
        let error = (product_tr_left(turn, turn) - DMatrix::identity(turn.ncols(), turn.ncols()))
            .amax()
            .as_f64();
        if error > T::EPSILON.as_f64() * 1000.0 {
            return Err(crate::Error::InvalidParameter {
                name: "the rotation's distance from orthogonal",
                value: error,
                must: "0, but for rounding",
            });
        }
        let mut decoder =
            Linear::new(matrix_product(self.loadings(), turn), self.mean().into_owned())?;
        if self.model.decoder.bias_is_fixed() {
            decoder = decoder.with_fixed_bias();
        }
        Ok(Self::from_slots(decoder, self.model.likelihood.clone(), Exact))
    }
}

// The bounds stand on the methods here as well.
impl<T: Real, D: Decoder<T>, L, I> Step<T, D, L, I> {
    /// The two terms of J, one entry an observation, the first as a mean over `samples` draws of z
    /// by the reparameterisation trick: for any decoder.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension); a table serves only the observations
    /// that it was fitted to. [`Error::InvalidParameter`](crate::Error::Setting) for 0 draws.
    pub fn estimate_elbo<'a, R: Rng + ?Sized>(
        &self,
        samples: usize,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<ElboTerms<T>>
    where
        L: Likelihood<T>,
        I: Inference<T, GenerativeModel<D, L>>,
        I::Posterior: GaussianPosterior<T>,
    {
        let x = x.into_observations()?;
        x.expect_dim(self.data_dim())?;
        crate::objective::check_draws(samples)?;
        let q = self.inference.infer(&self.model, x)?;
        Elbo::reparameterized(samples).terms(&self.model, &q, x, &mut rng)
    }

    /// The two terms of J, one entry an observation, in closed form.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::Dimension); a table serves only the observations
    /// that it was fitted to.
    pub fn elbo<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<ElboTerms<T>>
    where
        L: GaussianNoise<T>,
        I: Inference<T, GenerativeModel<D, L>>,
        I::Posterior: GaussianPosterior<T>,
        GenerativeModel<D, L>: ExpectedLogLikelihood<T, I::Posterior>,
    {
        let x = x.into_observations()?;
        x.expect_dim(self.data_dim())?;
        let q = self.inference.infer(&self.model, x)?;
        Elbo::closed_form().terms(&self.model, &q, x)
    }
}

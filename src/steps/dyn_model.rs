//! Models chosen by name at run time, as trait objects.

use super::{AmortizedPpca, DeepEncoderPpca, LinearAutoencoder, Model, Ppca, Vae, VariationalPpca};
use crate::data::Centering;
use crate::diagnostics::{GapEstimation, ImportanceSampling, InferenceGapSummary, KlProjection};
use crate::fit::{
    AffineScaleHead, AutoencoderDescent, ExpectationMaximization, Fitted, LocalRefinement, PxEm,
    StochasticGradient, SubspaceFamily,
};
use crate::inference::Inference;
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::{LinearGaussian, ProbabilisticModel};
use crate::posterior::{Diagonal, Full, GaussianPosterior, Isotropic, Posterior, PosteriorFamily};
use crate::{IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Computing budget of a model without a closed-form optimum or a closed-form likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Budget {
    /// Few epochs, samples and refinement steps.
    Fast,
    /// The defaults of the models.
    #[default]
    Full,
}

impl Budget {
    /// The optimiser with a number of steps that does not depend on the number of observations: a
    /// small table has few batches per epoch, and gets more epochs.
    fn fitter(self, observations: usize) -> StochasticGradient {
        let steps = match self {
            Self::Fast => 2_000,
            Self::Full => 12_000,
        };
        let fitter = StochasticGradient::of_steps(steps, observations);
        // As the builders' default: few observations cannot show that a deep model is better than
        // the linear one that it starts from.
        let held_out = if fitter.held_out == 0.0 { 0.2 } else { fitter.held_out };
        StochasticGradient { held_out, ..fitter }
    }

    /// The settings for estimating the inference gaps of a deep decoder, and the number of
    /// observations on which they are estimated.
    fn estimation(self) -> (GapEstimation, usize) {
        let (points, steps, samples) = match self {
            Self::Fast => (100, 60, 200),
            Self::Full => (300, 150, 1_000),
        };
        let refine = LocalRefinement { steps, samples: 16, ..LocalRefinement::default() };
        (
            GapEstimation {
                refine,
                importance: ImportanceSampling { samples, ..Default::default() },
                samples: 0,
            },
            points,
        )
    }
}

/// A model of the progression with its fitting algorithm, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// [`LinearAutoencoder`] about the mean, in closed form.
    LinearAutoencoder,
    /// [`LinearAutoencoder`] with the mean fixed at 0, as in the lecture.
    LinearAutoencoderUncentered,
    /// [`LinearAutoencoder`] about the mean, by gradient descent.
    LinearAutoencoderGradient,
    /// [`Ppca`] in closed form.
    PpcaMl,
    /// [`Ppca`] by plain EM.
    PpcaEm,
    /// [`Ppca`] by parameter-expanded EM.
    PpcaPxEm,
    /// [`VariationalPpca`] with full covariances.
    VemFull,
    /// [`VariationalPpca`] with diagonal covariances.
    VemDiagonal,
    /// [`VariationalPpca`] with isotropic covariances, as in the lecture.
    VemIsotropic,
    /// [`AmortizedPpca`] with full posterior covariances.
    AmortizedLinearFull,
    /// [`AmortizedPpca`] with diagonal posterior covariances.
    AmortizedLinearDiagonal,
    /// [`AmortizedPpca`] with isotropic posterior covariances.
    AmortizedLinearIsotropic,
    /// [`DeepEncoderPpca`] with isotropic posterior covariances, as in the lecture.
    DeepEncoder,
    /// [`Vae`] with isotropic posterior covariances, as in the lecture, and Gaussian noise.
    Vae,
}

impl ModelKind {
    /// All kinds in the order of the progression.
    pub const ALL: [Self; 14] = [
        Self::LinearAutoencoder,
        Self::LinearAutoencoderUncentered,
        Self::LinearAutoencoderGradient,
        Self::PpcaMl,
        Self::PpcaEm,
        Self::PpcaPxEm,
        Self::VemFull,
        Self::VemDiagonal,
        Self::VemIsotropic,
        Self::AmortizedLinearFull,
        Self::AmortizedLinearDiagonal,
        Self::AmortizedLinearIsotropic,
        Self::DeepEncoder,
        Self::Vae,
    ];

    /// The name in `snake_case`, such as `ppca_ml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinearAutoencoder => "linear_autoencoder",
            Self::LinearAutoencoderUncentered => "linear_autoencoder_uncentered",
            Self::LinearAutoencoderGradient => "linear_autoencoder_gradient",
            Self::PpcaMl => "ppca_ml",
            Self::PpcaEm => "ppca_em",
            Self::PpcaPxEm => "ppca_px_em",
            Self::VemFull => "vem_full",
            Self::VemDiagonal => "vem_diagonal",
            Self::VemIsotropic => "vem_isotropic",
            Self::AmortizedLinearFull => "amortized_linear_full",
            Self::AmortizedLinearDiagonal => "amortized_linear_diagonal",
            Self::AmortizedLinearIsotropic => "amortized_linear_isotropic",
            Self::DeepEncoder => "deep_encoder",
            Self::Vae => "vae",
        }
    }

    /// Fits this model with k latent dimensions and its default settings.
    ///
    /// # Errors
    /// Those of the `fit` method of the model's builder.
    pub fn fit<'a, T: Real>(
        self,
        latent_dim: usize,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<DynFit<T>> {
        let x = x.into_observations()?;
        self.fit_with(Budget::Full, latent_dim, x, rng)
    }

    /// [`Self::fit`] with a computing budget for the deep models; the linear ones do not depend on
    /// it.
    ///
    /// # Errors
    /// Those of the `fit` method of the model's builder.
    ///
    /// ```
    /// use elbo::{Observations, steps::ModelKind};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::dmatrix![
    ///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
    ///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
    ///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
    /// let observations = Observations::new(x.as_view())?;
    /// for kind in ModelKind::ALL {
    ///     let fit = kind.fit(1, &x, &mut StdRng::seed_from_u64(1))?;
    ///     assert_eq!(fit.model.codes(observations)?.shape(), (1, 6), "{}", kind.name());
    /// }
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn fit_with<'a, T: Real>(
        self,
        budget: Budget,
        latent_dim: usize,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<DynFit<T>> {
        let x = x.into_observations()?;
        let autoencoder = LinearAutoencoder::builder(latent_dim);
        let ppca = Ppca::builder(latent_dim);
        Ok(match self {
            Self::LinearAutoencoder => DynFit::new_dyn(autoencoder.fit(x, rng)?),
            Self::LinearAutoencoderUncentered => {
                DynFit::new_dyn(autoencoder.centering(Centering::None).fit(x, rng)?)
            }
            Self::LinearAutoencoderGradient => {
                DynFit::new_dyn(autoencoder.fitter(AutoencoderDescent::default()).fit(x, rng)?)
            }
            Self::PpcaMl => DynFit::new_dyn(ppca.fit(x, rng)?),
            Self::PpcaEm => {
                DynFit::new_dyn(ppca.fitter(ExpectationMaximization::default()).fit(x, rng)?)
            }
            Self::PpcaPxEm => DynFit::new_dyn(ppca.fitter(PxEm::default()).fit(x, rng)?),
            Self::VemFull => variational::<T, Full<T>>(latent_dim, x, rng)?,
            Self::VemDiagonal => variational::<T, Diagonal<T>>(latent_dim, x, rng)?,
            Self::VemIsotropic => variational::<T, Isotropic<T>>(latent_dim, x, rng)?,
            Self::AmortizedLinearFull => amortized::<T, Full<T>>(latent_dim, x, rng)?,
            Self::AmortizedLinearDiagonal => amortized::<T, Diagonal<T>>(latent_dim, x, rng)?,
            Self::AmortizedLinearIsotropic => amortized::<T, Isotropic<T>>(latent_dim, x, rng)?,
            Self::DeepEncoder => DynFit::new_dyn(
                DeepEncoderPpca::<T>::builder(latent_dim)
                    .fitter(budget.fitter(x.len()))
                    .fit(x, rng)?,
            ),
            Self::Vae => DynFit::new_dyn(
                Vae::<T, Isotropic<T>>::builder(latent_dim)
                    .fitter(budget.fitter(x.len()))
                    .fit(x, rng)?,
            ),
        })
    }
}

impl std::str::FromStr for ModelKind {
    type Err = crate::Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == name)
            .ok_or_else(|| crate::Error::UnknownModelKind { name: name.into() })
    }
}

/// Fits [`VariationalPpca`] with the posterior family Q.
fn variational<
    T: Real,
    Q: SubspaceFamily<T> + KlProjection<T> + std::fmt::Debug + Send + Sync + 'static,
>(
    k: usize,
    x: Observations<'_, T>,
    rng: &mut dyn Rng,
) -> Result<DynFit<T>> {
    Ok(DynFit::new_dyn(VariationalPpca::<T, Q>::builder(k).fit(x, rng)?))
}

/// Fits [`AmortizedPpca`] with the posterior family Q.
fn amortized<
    T: Real,
    Q: AffineScaleHead<T> + KlProjection<T> + std::fmt::Debug + Send + Sync + 'static,
>(
    k: usize,
    x: Observations<'_, T>,
    rng: &mut dyn Rng,
) -> Result<DynFit<T>> {
    Ok(DynFit::new_dyn(AmortizedPpca::<T, Q>::builder(k).fit(x, rng)?))
}

/// A fitted model whose type is known only at run time.
pub type DynFit<T> = Fitted<Box<dyn DynModel<T>>>;

impl<T: Real> DynFit<T> {
    fn new_dyn(fitted: Fitted<impl DynModel<T> + 'static>) -> Self {
        fitted.map(|model| Box::new(model) as Box<dyn DynModel<T>>)
    }
}

/// Object-safe interface of the models of the progression.
///
/// A quantity that a model does not have is `None`, such as the noise variance of an autoencoder.
pub trait DynModel<T: Real>: std::fmt::Debug + std::fmt::Display + Send + Sync {
    /// The codes (means of q), k×n: of the observations of the fit, and of any others if the model
    /// has an encoder or an exact posterior.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch), also for another number of
    /// observations than that of the fit if q is a table (`PerPoint`).
    fn codes(&self, x: Observations<'_, T>) -> Result<DMatrix<T>>;

    /// The mean of p(x|z) for codes z (k×n), d×n.
    ///
    /// # Errors
    /// As [`Model::inverse_transform`].
    fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>>;

    /// The inference gaps, with log p and the evidence lower bound (ELBO, J): exact for a linear
    /// decoder, estimated with the given budget for a deep one; `None` without a likelihood.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    fn gaps(
        &self,
        x: Observations<'_, T>,
        budget: Budget,
        rng: &mut dyn Rng,
    ) -> Result<Option<InferenceGapSummary>>;

    /// The noise variance σ²; `None` without a likelihood.
    fn noise_variance(&self) -> Option<T>;

    /// The variances of x along the principal components of a linear decoder with noise, the k
    /// largest eigenvalues of WWᵗ + σ²I; `None` for other models.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    fn explained_variance(&self) -> Result<Option<DVector<T>>>;

    /// n samples of x, d×n; `None` without a likelihood.
    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Option<DMatrix<T>>;
}

impl<T: Real> DynModel<T> for LinearAutoencoder<T> {
    fn codes(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        self.transform(x)
    }

    fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        Model::inverse_transform(self, z)
    }

    fn gaps(
        &self,
        _x: Observations<'_, T>,
        _budget: Budget,
        _rng: &mut dyn Rng,
    ) -> Result<Option<InferenceGapSummary>> {
        Ok(None)
    }

    fn noise_variance(&self) -> Option<T> {
        None
    }

    fn explained_variance(&self) -> Result<Option<DVector<T>>> {
        Ok(None)
    }

    fn sample(&self, _n: usize, _rng: &mut dyn Rng) -> Option<DMatrix<T>> {
        None
    }
}

impl<T: Real, I> DynModel<T> for Model<T, Linear<T>, IsotropicGaussian<T>, I>
where
    I: Inference<T, LinearGaussian<T>> + std::fmt::Debug + Send + Sync,
    I::Posterior: KlProjection<T> + GaussianPosterior<T>,
{
    fn codes(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        x.expect_dim(self.data_dim())?;
        Ok(self.inference.infer(&self.generative, x)?.mean().into_owned())
    }

    fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        Model::inverse_transform(self, z)
    }

    fn gaps(
        &self,
        x: Observations<'_, T>,
        _budget: Budget,
        _rng: &mut dyn Rng,
    ) -> Result<Option<InferenceGapSummary>> {
        InferenceGapSummary::exact(&self.generative, &self.inference, x).map(Some)
    }

    fn noise_variance(&self) -> Option<T> {
        Some(self.generative.noise_variance())
    }

    // `Model::…` names the inherent method: `self.…` would do as well, but reads as a recursion.
    fn explained_variance(&self) -> Result<Option<DVector<T>>> {
        Model::explained_variance(self).map(Some)
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Option<DMatrix<T>> {
        Some(self.generative.sample(n, rng).1)
    }
}

impl<T: Real, Q: PosteriorFamily<T> + std::fmt::Debug + Send + Sync> DynModel<T> for Vae<T, Q> {
    fn codes(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        self.transform(x)
    }

    fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        Model::inverse_transform(self, z)
    }

    /// The ELBO is estimated on all observations; the gaps on 300 sampled without replacement, or
    /// 100 with [`Budget::Fast`].
    fn gaps(
        &self,
        x: Observations<'_, T>,
        budget: Budget,
        rng: &mut dyn Rng,
    ) -> Result<Option<InferenceGapSummary>> {
        x.expect_dim(self.data_dim())?;
        let (estimation, points) = budget.estimation();
        // A sample and not the first observations: data are often sorted.
        let chosen = rand::seq::index::sample(rng, x.len(), points.min(x.len())).into_vec();
        let part = x.values().select_columns(&chosen);
        // Data of their own and not a mini-batch: means over the sample, without a scale N/n.
        let part = Observations::trusted(part.as_view(), chosen.len());
        let looked_at = estimation.estimate(
            &self.generative,
            &self.inference.infer(&self.generative, part)?,
            part,
            rng,
        )?;
        // Nothing to extend: the sample is the data.
        if part.len() == x.len() {
            return Ok(Some(looked_at.summary()));
        }
        // The ELBO of all observations is cheap: only the optimal q of each one is expensive.
        let q = self.inference.infer(&self.generative, x)?;
        Ok(Some(estimation.extend(&looked_at, &self.generative, &q, x, rng)?))
    }

    fn noise_variance(&self) -> Option<T> {
        Some(self.generative.likelihood.noise_variance())
    }

    fn explained_variance(&self) -> Result<Option<DVector<T>>> {
        Ok(None)
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Option<DMatrix<T>> {
        Some(self.generative.sample(n, rng).1)
    }
}

//! The inference gap log p − J and its two terms: the approximation gap of the family and the
//! amortisation gap of the encoder.

use crate::inference::Inference;
use crate::model::{ExactPosterior, ExpectedLogLikelihood, MarginalLikelihood};
use crate::objective::Elbo;
use crate::posterior::{
    Diagonal, Full, GaussianPosterior, Isotropic, Posterior, PosteriorFamily, SharedCovariance,
};
use crate::{IntoObservations, Real, Result};
use nalgebra::DMatrixView;

/// The mean of log p(x), of the evidence lower bound (ELBO) J and of their gaps, in nats per
/// observation.
///
/// ```math
/// \log p(x) - J = \underbrace{\log p(x) - \max_{q\in\mathcal Q}J}_{\text{approximation gap}}
/// + \underbrace{\max_{q\in\mathcal Q}J - J}_{\text{amortisation gap}}
/// ```
///
/// ([Cremer, Li & Duvenaud 2018](https://arxiv.org/abs/1801.03558)).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct InferenceGapSummary {
    /// The mean log-likelihood log p(x_i).
    pub log_likelihood: f64,
    /// The standard error of [`Self::log_likelihood`]; 0 where it is exact. Where the mean over all
    /// data is estimated from a sample of the observations, it includes the error of that sampling.
    pub log_likelihood_standard_error: f64,
    /// The mean ELBO J_i.
    pub elbo: f64,
    /// The mean expected log-likelihood E_q log p(x_i|z_i).
    pub reconstruction: f64,
    /// The mean divergence KL(q_i ‖ π) from the prior.
    pub kl: f64,
    /// The approximation gap: log p minus J at the optimal q of the family.
    pub approximation: f64,
    /// The amortisation gap: J at the optimal q of the family minus J.
    pub amortization: f64,
    /// The size of the Monte Carlo estimate behind the gaps; `None` where they are exact, from all
    /// the data.
    pub basis: Option<EstimateBasis>,
}

/// The size and quality of a Monte Carlo estimate of the gaps.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EstimateBasis {
    /// The number of evaluated observations.
    pub observations: usize,
    /// The importance samples for each observation.
    pub samples: usize,
    /// The smallest [effective sample size](super::ImportanceEstimate::effective_samples) over the
    /// observations.
    pub smallest_effective_samples: f64,
}

impl InferenceGapSummary {
    /// The total inference gap, log p − J = KL(q ‖ p(z|x)).
    pub fn total(&self) -> f64 {
        self.log_likelihood - self.elbo
    }
}

/// A posterior type with a KL projection of given exact Gaussian posteriors.
pub trait KlProjection<T: Real>: GaussianPosterior<T> + Sized {
    /// The q_i of the family that minimise KL(q_i ‖ N(m_i, (RᵗR)⁻¹)). `own` is the posterior whose
    /// gap is measured.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite).
    fn best_member(
        own: &Self,
        mean: DMatrixView<'_, T>,
        precision_root: DMatrixView<'_, f64>,
    ) -> Result<Self>;
}

macro_rules! best_member_of_family {
    ($($family:ident),*) => {$(
        impl<T: Real> KlProjection<T> for $family<T> {
            fn best_member(_own: &Self, mean: DMatrixView<'_, T>, precision_root: DMatrixView<'_, f64>) -> Result<Self> {
                Self::nearest(mean.into_owned(), precision_root)
            }
        }
    )*};
}
best_member_of_family!(Isotropic, Diagonal, Full);

/// The exact posterior is its own KL projection.
impl<T: Real> KlProjection<T> for SharedCovariance<T> {
    fn best_member(
        own: &Self,
        _mean: DMatrixView<'_, T>,
        _precision_root: DMatrixView<'_, f64>,
    ) -> Result<Self> {
        Ok(own.clone())
    }
}

impl InferenceGapSummary {
    /// The inference gaps of a model with a closed-form posterior: exact means over the data.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    ///
    /// ```
    /// use elbo::{VariationalPpca, diagnostics::InferenceGapSummary};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::dmatrix![
    /// 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
    /// 2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.8;
    /// 9.0, 2.0, 7.0, 1.0, 8.0, 3.0, 6.0, 2.0];
    /// let builder = VariationalPpca::<f64>::builder(2);
    /// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
    /// let gaps = InferenceGapSummary::exact(model.generative_model(), model.inference(), &x)?;
    /// // An isotropic q has an approximation gap. Each q_i is optimal in its family, so that there is
    /// // no amortisation gap.
    /// assert!(gaps.approximation > 0.0 && gaps.amortization.abs() < 1e-9);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn exact<'a, T, M, I>(
        model: &M,
        inference: &I,
        x: impl IntoObservations<'a, T>,
    ) -> Result<Self>
    where
        T: Real,
        M: ExactPosterior<T> + MarginalLikelihood<T> + ExpectedLogLikelihood<T, I::Posterior>,
        I: Inference<T, M>,
        I::Posterior: KlProjection<T>,
    {
        let x = x.into_observations()?;
        let parts = |q: &I::Posterior| -> Result<(f64, f64)> {
            let terms = Elbo::closed_form().terms(model, q, x)?;
            Ok((mean(terms.reconstruction.iter()), -mean(terms.negative_kl.iter())))
        };
        let q = inference.infer(model, x)?;
        let (exact, root) = (model.posterior(x)?, model.posterior_precision_root()?);
        // J at the optimal q splits log p − J: what remains up to log p is the approximation gap,
        // the rest the amortisation gap.
        let (of_best, best_kl) =
            parts(&I::Posterior::best_member(&q, exact.mean(), root.as_view())?)?;
        let (reconstruction, kl) = parts(&q)?;
        let (elbo, of_best) = (reconstruction - kl, of_best - best_kl);
        let log_likelihood = mean(model.log_likelihood(x)?.iter());
        Ok(InferenceGapSummary {
            log_likelihood,
            log_likelihood_standard_error: 0.0,
            elbo,
            reconstruction,
            kl,
            approximation: log_likelihood - of_best,
            amortization: of_best - elbo,
            basis: None,
        })
    }
}

/// The mean of the values, in double precision.
pub(crate) fn mean<'a, T: Real>(values: impl ExactSizeIterator<Item = &'a T>) -> f64 {
    // A sum over n observations in f32 would lose digits that the gaps, as differences, need.
    let n = values.len() as f64;
    values.map(|v| v.as_f64()).sum::<f64>() / n
}

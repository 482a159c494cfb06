//! log p − J, and its two parts: what the family cannot express, and what the encoder does not
//! reach.

use crate::inference::Inference;
use crate::model::{ExactPosterior, ExpectedLogLikelihood, MarginalLikelihood};
use crate::objective::Elbo;
use crate::posterior::{
    Diagonal, Full, GaussianPosterior, Isotropic, Posterior, PosteriorFamily, SharedCovariance,
};
use crate::{Observations, Real, Result};
use nalgebra::DMatrixView;

/// log p(x) and J with its parts, in nats per observation (means over the data).
///
/// ```math
/// \log p(x) - J = \underbrace{\log p(x) - \max_{q\in\mathcal Q}J}_{\text{approximation gap}} + \underbrace{\max_{q\in\mathcal Q}J - J}_{\text{amortisation gap}}
/// ```
///
/// ([Cremer, Li & Duvenaud 2018](https://arxiv.org/abs/1801.03558)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InferenceGapSummary {
    /// The mean of log p(x_i).
    pub log_likelihood: f64,
    /// The standard error of [`Self::log_likelihood`], the choice of the observations that were
    /// looked at included; 0 where it is exact.
    pub log_likelihood_standard_error: f64,
    /// The mean of J_i.
    pub elbo: f64,
    /// The mean of E_q log p(x_i|z_i).
    pub reconstruction: f64,
    /// The mean of KL(q_i ‖ π).
    pub kl: f64,
    /// What the best member of the family leaves.
    pub approximation: f64,
    /// What the inference leaves beside the best member.
    pub amortization: f64,
    /// What the gaps are estimated from; `None` where they are exact, of all the data.
    pub basis: Option<EstimateBasis>,
}

/// What estimated gaps rest on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EstimateBasis {
    /// The observations that were looked at.
    pub observations: usize,
    /// The draws for each of them.
    pub samples: usize,
    /// The smallest [number of draws of equal weight](super::ImportanceEstimate::effective_samples)
    /// that the draws of one of them are worth.
    pub smallest_effective_samples: f64,
}

impl InferenceGapSummary {
    /// log p − J = KL(q ‖ p(z|x)).
    pub fn total(&self) -> f64 {
        self.log_likelihood - self.elbo
    }
}

/// A posterior with a best member of its family for given exact Gaussian posteriors.
pub trait KlProjection<T: Real>: GaussianPosterior<T> + Sized {
    /// The member nearest to N(m_i, (RᵗR)⁻¹), whose own distribution is `own`.
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

/// The exact posterior is its own best member.
impl<T: Real> KlProjection<T> for SharedCovariance<T> {
    fn best_member(
        own: &Self,
        _mean: DMatrixView<'_, T>,
        _precision_root: DMatrixView<'_, f64>,
    ) -> Result<Self> {
        Ok(own.clone())
    }
}

/// The gaps of a model with a closed-form posterior, exactly.
///
/// # Errors
/// [`Error::DimensionMismatch`](crate::Error::Dimension).
///
/// ```
/// use elbo::{VariationalPpca, diagnostics::inference_gap_summary};
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = DMatrix::from_fn(4, 40, |j, i| {
///     ((1 + j) as f64 * 0.3 * i as f64).sin() * (4 - j) as f64
/// });
/// let fit = VariationalPpca::<f64>::builder(2).fit(&x, &mut StdRng::seed_from_u64(1))?;
/// let gaps = inference_gap_summary(
///     &fit.model.model,
///     &fit.model.inference,
///     elbo::IntoObservations::into_observations(&x)?,
/// )?;
/// assert!(gaps.approximation > 0.0 && gaps.amortization.abs() < 1e-9); // an isotropic q costs; a table reaches its best member
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn inference_gap_summary<T, M, I>(
    model: &M,
    inference: &I,
    x: Observations<'_, T>,
) -> Result<InferenceGapSummary>
where
    T: Real,
    M: ExactPosterior<T> + MarginalLikelihood<T> + ExpectedLogLikelihood<T, I::Posterior>,
    I: Inference<T, M>,
    I::Posterior: KlProjection<T>,
{
    let parts = |q: &I::Posterior| -> Result<(f64, f64)> {
        let terms = Elbo::closed_form().terms(model, q, x)?;
        Ok((mean(terms.reconstruction.iter()), -mean(terms.negative_kl.iter())))
    };
    let q = inference.infer(model, x)?;
    let (exact, root) = (model.posterior(x)?, model.posterior_precision_root()?);
    let (of_best, best_kl) = parts(&I::Posterior::best_member(&q, exact.mean(), root.as_view())?)?;
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

/// The mean in double precision.
pub(crate) fn mean<'a, T: Real>(values: impl ExactSizeIterator<Item = &'a T>) -> f64 {
    let n = values.len() as f64;
    values.map(|v| v.as_f64()).sum::<f64>() / n
}

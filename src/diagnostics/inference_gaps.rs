//! log p(x) − J for each observation: exact where the posterior is a formula, estimated with
//! standard errors where it is not.

use super::{
    EstimateBasis, Estimates, ImportanceEstimate, ImportanceSampling, InferenceGapSummary,
    KlProjection,
};
use crate::fit::LocalRefinement;
use crate::likelihood::Likelihood;
use crate::linalg::vector::fill_standard_normal;
use crate::linalg::{matrix_product, r_factor, squared_norms};
use crate::map::DifferentiableMap;
use crate::model::{Decoder, ExactPosterior, GenerativeModel, ProbabilisticModel};
use crate::objective::{log_deviations, log_weights};
use crate::posterior::{Full, GaussianPosterior, Posterior, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The gap log p(x_i) − J_i = KL(q_i ‖ p(z_i|x_i)) of each observation in nats, in two parts;
/// [`InferenceGapSummary`] are their means.
///
/// ```math
/// \log p - J = \underbrace{\log p - J(q^*)}_{\text{approximation}} + \underbrace{J(q^*) - J(q)}_{\text{amortisation}}
/// ```
///
/// q* is the best member of the family for that observation: the first part is what the family
/// cannot say, the second what the inference did not find.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceGaps {
    /// log p − J.
    pub total: Estimates,
    /// log p − J(q*).
    pub approximation: Estimates,
    /// J(q*) − J.
    pub amortization: Estimates,
}

/// KL(q_i ‖ p(z_i|x_i)) in nats for a model whose posterior is a formula, one entry an observation:
/// log p(x_i) − J_i without the cancellation.
///
/// ```math
/// \mathrm{KL}_i = \tfrac12\left(\operatorname{tr}\Lambda\Sigma_i + (m_i-m_i^*)^\top\Lambda(m_i-m_i^*) - k - \ln|\Lambda| - \ln|\Sigma_i|\right)
/// ```
///
/// # Errors
/// [`Error::DimensionMismatch`](crate::Error::Dimension); those of the model's posterior.
pub fn kl_to_exact<T, M, Q>(model: &M, q: &Q, x: Observations<'_, T>) -> Result<DVector<T>>
where
    T: Real,
    M: ExactPosterior<T>,
    Q: GaussianPosterior<T>,
{
    let exact = model.posterior(x)?;
    crate::data::expect("observations of q", x.len(), q.len())?;
    crate::data::expect("latent dimensions of q", exact.latent_dim(), q.latent_dim())?;
    let k = q.latent_dim();
    let root = model.posterior_precision_root()?;
    let triangular = r_factor(root.as_view())?;
    let half_log_precision = triangular.diagonal().iter().fold(0.0, |sum, r| sum + r.abs().ln());
    let offsets = matrix_product(&triangular, &(q.mean() - exact.mean()).map(|v| v.as_f64()));
    let traces = q.trace_with(root.as_view());
    // ln|Σ| = tr Σ + ‖m‖² − k − 2 KL(q‖π): every posterior has these, and none need show its
    // factor.
    let own_traces = q.trace_with(DMatrix::identity(k, k).as_view());
    let kl = q.kl_to_prior();
    let (count, squares) = (k as f64, squared_norms(&q.mean().into_owned()));
    Ok(DVector::from_fn(x.len(), |i, _| {
        let log_determinant = own_traces[i].as_f64() + squares[i] - count - 2.0 * kl[i].as_f64();
        let twice = traces[i].as_f64() + offsets.column(i).norm_squared()
            - count
            - 2.0 * half_log_precision
            - log_determinant;
        T::of(twice / 2.0)
    }))
}

/// The gaps of q under a model whose posterior is a formula: exact.
///
/// ```
/// use elbo::{
///     Observations,
///     diagnostics::inference_gaps,
///     inference::{EStep, PerPoint},
///     model::LinearGaussian,
///     posterior::Diagonal,
/// };
/// use nalgebra::{dmatrix, dvector};
/// let model = LinearGaussian::from_parameters(
///     dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
///     dvector![0.0, 0.0, 0.0],
///     0.7,
/// )?;
/// let x = dmatrix![1.0, 2.0; 0.0, 1.0; 1.0, -1.0];
/// let x = Observations::new(x.as_view())?;
/// let mut table = PerPoint::<Diagonal<f64>>::at_prior(2, 2);
/// let before = inference_gaps(&model, &table.posterior, x)?;
/// table.maximize(&model, x)?;
/// let after = inference_gaps(&model, &table.posterior, x)?;
/// assert!(before.amortization.mean() > 0.0 && after.amortization.mean().abs() < 1e-12);
/// assert_eq!(before.approximation, after.approximation);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// As [`kl_to_exact`].
pub fn inference_gaps<T, M, Q>(model: &M, q: &Q, x: Observations<'_, T>) -> Result<InferenceGaps>
where
    T: Real,
    M: ExactPosterior<T>,
    Q: KlProjection<T>,
{
    let total = kl_to_exact(model, q, x)?;
    let (exact, root) = (model.posterior(x)?, model.posterior_precision_root()?);
    let best = Q::best_member(q, exact.mean(), root.as_view())?;
    let approximation = kl_to_exact(model, &best, x)?;
    let figures =
        |values: &DVector<T>| Estimates::exact(values.iter().map(|v| v.as_f64()).collect());
    Ok(InferenceGaps {
        amortization: figures(&(&total - &approximation)),
        approximation: figures(&approximation),
        total: figures(&total),
    })
}

/// How the gaps of a model without closed forms are estimated.
///
/// For each observation: the best member of the family by [`LocalRefinement`], log p(x) by
/// [`ImportanceSampling`] from a refined [`Full`] q, and J of q and of q* from the same draws.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GapEstimation {
    /// How the best members are found, of the family and among all Gaussians.
    pub refine: LocalRefinement,
    /// How log p(x) is estimated.
    pub importance: ImportanceSampling,
    /// Draws for J of q and of q*; 0 means as many as the importance samples.
    pub samples: usize,
}

/// The gaps with what they are the differences of; in nats for each observation, with standard
/// errors.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceGapEstimates<Q> {
    /// The gaps.
    pub gaps: InferenceGaps,
    /// log p(x_i), with the effective number of draws.
    pub importance: ImportanceEstimate,
    /// J_i of the q that was given.
    pub elbo: Estimates,
    /// J_i of the best member.
    pub best_elbo: Estimates,
    /// The best members that were found.
    pub best: Q,
    kl: f64, // the mean of KL(q_i ‖ π)
}

impl<Q> InferenceGapEstimates<Q> {
    /// The means over the observations that were looked at.
    pub fn summary(&self) -> InferenceGapSummary {
        let log_likelihood = &self.importance.log_likelihood;
        InferenceGapSummary {
            log_likelihood: log_likelihood.mean(),
            log_likelihood_standard_error: log_likelihood.monte_carlo_error(),
            elbo: self.elbo.mean(),
            reconstruction: self.elbo.mean() + self.kl,
            kl: self.kl,
            approximation: self.gaps.approximation.mean(),
            amortization: self.gaps.amortization.mean(),
            basis: Some(EstimateBasis {
                observations: self.importance.effective_samples.len(),
                samples: self.importance.samples,
                smallest_effective_samples: self
                    .importance
                    .effective_samples
                    .iter()
                    .copied()
                    .fold(f64::INFINITY, f64::min),
            }),
        }
    }
}

impl GapEstimation {
    /// J and its parts of all observations, with the gaps of those that were looked at: log p is J
    /// and the mean gap. J differs far more from one observation to the next than the gap does.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub(crate) fn extend<T, M, Q>(
        &self,
        looked_at: &InferenceGapEstimates<Q>,
        model: &M,
        q: &Q,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<InferenceGapSummary>
    where
        T: Real,
        M: ProbabilisticModel<T>,
        Q: GaussianPosterior<T>,
    {
        let (summary, gap) = (looked_at.summary(), &looked_at.gaps.total);
        let share = gap.values().len() as f64 / x.len() as f64;
        // As many draws in all as those that were looked at had.
        let samples = (self.draws() as f64 * share).ceil() as usize;
        let ([bound], _) = bounds(model, [q], x, samples.max(2), rng)?;
        let (elbo, kl) = (bound.mean(), q.kl_to_prior_sum().as_f64() / x.len() as f64);
        let of_rows = (1.0 - share).max(0.0) * gap.standard_error().powi(2)
            + share * gap.monte_carlo_error().powi(2);
        Ok(InferenceGapSummary {
            log_likelihood: elbo + gap.mean(),
            log_likelihood_standard_error: (of_rows + bound.monte_carlo_error().powi(2)).sqrt(),
            elbo,
            reconstruction: elbo + kl,
            kl,
            ..summary
        })
    }

    /// Draws for J.
    fn draws(&self) -> usize {
        if self.samples == 0 { self.importance.samples } else { self.samples.max(2) }
    }

    /// Estimates the gaps of q; give it as many observations as you have the time for, drawn at
    /// random, and read the [standard errors](Figures::standard_error).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension),
    /// [`Error::InvalidParameter`](crate::Error::Setting),
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite).
    pub fn estimate<T, D, L, Q>(
        &self,
        model: &GenerativeModel<D, L>,
        q: &Q,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<InferenceGapEstimates<Q>>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        Q: PosteriorFamily<T>,
    {
        let samples = self.draws();
        let mut best = self.refine.refine(model, q.clone(), x, rng)?;
        // What is better on the few draws of the refinement need not be so on others. The draws
        // that decide here are not those that measure.
        let (_, gain) = bounds(model, [q, &best], x, samples, rng)?;
        for (i, &gain) in gain.values().iter().enumerate() {
            let gained = gain >= 0.0;
            if !gained {
                best.parameters_mut().set_column(i, &q.parameters().column(i));
            }
        }
        let widest = self.refine.refine(model, Full::of_moments(&best)?, x, rng)?;
        let importance = self.importance.log_likelihood(model, &widest, x, rng)?;
        let ([elbo, best_elbo], gain) = bounds(model, [q, &best], x, samples, rng)?;
        let less = |bound: &Estimates| {
            let (log_p, errors) =
                (importance.log_likelihood.values(), importance.log_likelihood.errors());
            let values =
                log_p.iter().zip(bound.values()).map(|(log_p, bound)| log_p - bound).collect();
            Estimates::estimated(
                values,
                errors.iter().zip(bound.errors()).map(|(a, b)| a.hypot(*b)).collect(),
            )
        };
        let gaps = InferenceGaps {
            total: less(&elbo),
            approximation: less(&best_elbo),
            amortization: gain,
        };
        let kl = q.kl_to_prior_sum().as_f64() / x.len() as f64;
        Ok(InferenceGapEstimates { gaps, importance, elbo, best_elbo, best, kl })
    }
}

/// J_i of each posterior, and that of the last less that of the first, from the same draws.
///
/// A draw is worth ln p(x, z) − ln q(z) and not ln p(x|z) − KL(q‖π): under the exact posterior
/// every draw is then log p(x).
fn bounds<T, M, Q, R, const C: usize>(
    model: &M,
    posteriors: [&Q; C],
    x: Observations<'_, T>,
    samples: usize,
    rng: &mut R,
) -> Result<([Estimates; C], Estimates)>
where
    T: Real,
    M: ProbabilisticModel<T>,
    Q: GaussianPosterior<T>,
    R: Rng + ?Sized,
{
    let (n, k) = (x.len(), model.decoder().latent_dim());
    let (mut z, mut noise) = (DMatrix::zeros(k, n), DMatrix::zeros(k, n));
    let posteriors = posteriors.map(|q| (q, log_deviations(q)));
    let (mut moments, mut difference) = ([(); C].map(|()| Moments::new(n)), Moments::new(n));
    for _ in 0..samples {
        fill_standard_normal(noise.as_mut_slice(), rng);
        let mut drawn = Vec::with_capacity(C);
        for ((q, log_deviations), moments) in posteriors.iter().zip(&mut moments) {
            q.transform(noise.as_view(), &mut z);
            let bound =
                log_weights(&model.log_density_given(x, z.as_view())?, &z, &noise, log_deviations);
            moments.add(&bound);
            drawn.push(bound);
        }
        difference.add(&(&drawn[C - 1] - &drawn[0]));
    }
    Ok((moments.map(Moments::figures), difference.figures()))
}

/// Running mean and sum of squared deviations of each entry.
struct Moments {
    count: f64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(n: usize) -> Self {
        Self { count: 0.0, means: vec![0.0; n], squares: vec![0.0; n] }
    }

    fn add<T: Real>(&mut self, values: &DVector<T>) {
        self.count += 1.0;
        for ((mean, square), value) in
            self.means.iter_mut().zip(&mut self.squares).zip(values.iter())
        {
            let deviation = value.as_f64() - *mean;
            *mean += deviation / self.count;
            *square += deviation * (value.as_f64() - *mean);
        }
    }

    fn figures(self) -> Estimates {
        let count = self.count;
        let errors = self
            .squares
            .iter()
            .map(|square| (square / (count - 1.0).max(1.0) / count).sqrt())
            .collect();
        Estimates::estimated(self.means, errors)
    }
}

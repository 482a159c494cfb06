//! Inference gaps log p(x) − J of each observation: exact where the posterior is in closed form,
//! otherwise estimated with standard errors.

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
use crate::objective::{half_log_determinants, log_density_with_prior, log_weights};
use crate::posterior::{Full, GaussianPosterior, Posterior, PosteriorFamily};
use crate::prior::Prior;
use crate::{IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The inference gap log p(x_i) − J_i = KL(q_i ‖ p(z_i|x_i)) of each observation in nats, as the
/// sum of the approximation gap and the amortisation gap; [`InferenceGapSummary`] holds the means.
///
/// ```math
/// \log p - J = \underbrace{\log p - J(q^*)}_{\text{approximation}}
/// + \underbrace{J(q^*) - J(q)}_{\text{amortisation}}
/// ```
///
/// q* is the optimal q in the family for that observation: the first term is the approximation gap,
/// the second the amortisation gap ([Cremer, Li & Duvenaud
/// 2018](https://arxiv.org/abs/1801.03558)).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InferenceGaps {
    /// The total gap log p − J.
    pub total: Estimates,
    /// The approximation gap log p − J(q*).
    pub approximation: Estimates,
    /// The amortisation gap J(q*) − J.
    pub amortization: Estimates,
}

/// KL(q_i ‖ p(z_i|x_i)) in nats for a model with a closed-form posterior, one entry per
/// observation. It equals log p(x_i) − J_i, but is computed without the cancellation of that
/// difference.
///
/// ```math
/// \mathrm{KL}_i = \tfrac12\left(\operatorname{tr}\Lambda\Sigma_i
/// + (m_i-m_i^*)^\top\Lambda(m_i-m_i^*) - k - \ln|\Lambda| - \ln|\Sigma_i|\right)
/// ```
///
/// # Errors
/// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch); those of the model's posterior.
pub fn kl_to_exact<'a, T, M, Q>(
    model: &M,
    q: &Q,
    x: impl IntoObservations<'a, T>,
) -> Result<DVector<T>>
where
    T: Real,
    M: ExactPosterior<T>,
    Q: GaussianPosterior<T>,
{
    let x = x.into_observations()?;
    let exact = model.posterior(x)?;
    crate::data::expect("observations of q", x.len(), q.len())?;
    crate::data::expect("latent dimensions of q", exact.latent_dim(), q.latent_dim())?;
    let k = q.latent_dim();
    let root = model.posterior_precision_root()?;
    // Λ = RᵗR for a square-root factor R, which may have more than k rows. Its triangular QR factor
    // has the same square RᵗR; ½ ln|Λ| is the sum of the logarithms of that factor's diagonal, up
    // to the signs, which QR leaves open.
    let triangular = r_factor(root.as_view())?;
    let half_log_precision = triangular.diagonal().iter().fold(0.0, |sum, r| sum + r.abs().ln());
    let offsets = matrix_product(&triangular, &(q.mean() - exact.mean()).map(|v| v.as_f64()));
    let traces = q.trace_with(root.as_view());
    // ln|Σ| = tr Σ + ‖m‖² − k − 2 KL(q‖π): every Gaussian posterior has these, whereas a factor of
    // Σ is not part of the trait.
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

impl InferenceGaps {
    /// The inference gaps of q under a model with a closed-form posterior: exact values.
    ///
    /// ```
    /// use elbo::{
    ///     Observations,
    ///     diagnostics::InferenceGaps,
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
    /// let before = InferenceGaps::exact(&model, &table.posterior, x)?;
    /// table.maximize(&model, x)?;
    /// let after = InferenceGaps::exact(&model, &table.posterior, x)?;
    /// assert!(before.amortization.mean() > 0.0 && after.amortization.mean().abs() < 1e-12);
    /// assert_eq!(before.approximation, after.approximation);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`kl_to_exact`].
    pub fn exact<'a, T, M, Q>(model: &M, q: &Q, x: impl IntoObservations<'a, T>) -> Result<Self>
    where
        T: Real,
        M: ExactPosterior<T>,
        Q: KlProjection<T>,
    {
        let x = x.into_observations()?;
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
}

/// Settings for estimating the inference gaps of a model without closed forms.
///
/// For each observation, the optimal q of the family is found by [`LocalRefinement`], log p(x) by
/// [`ImportanceSampling`] from a refined [`Full`] q, and J of q and of q* from the same Monte Carlo
/// samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GapEstimation {
    /// Search for the optimal q, in the family and among all Gaussians.
    pub refine: LocalRefinement,
    /// Importance sampling of log p(x).
    pub importance: ImportanceSampling,
    /// Monte Carlo samples for J of q and of q*; 0 means as many as the importance samples.
    pub samples: usize,
}

/// Estimated inference gaps, with the estimates of log p(x) and of the ELBO from which they are
/// computed; nats per observation, with standard errors.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InferenceGapEstimates<Q> {
    /// The inference gaps.
    pub gaps: InferenceGaps,
    /// log p(x_i), with the effective sample sizes.
    pub importance: ImportanceEstimate,
    /// The ELBO J_i of the given q.
    pub elbo: Estimates,
    /// The ELBO J_i of the optimal q.
    pub best_elbo: Estimates,
    /// The optimal q of the family, as found by the search.
    pub best: Q,
    // The mean of KL(q_i ‖ π).
    kl: f64,
}

impl<Q> InferenceGapEstimates<Q> {
    /// The means over the evaluated observations.
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
    /// The ELBO and its terms for all observations, with the gaps of a sample of them: log p is
    /// estimated as J of all plus the mean gap of the sample. J varies far more between
    /// observations than the gap does, so that this control variate reduces the standard error.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
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
        // The same total number of samples as for the sample of observations.
        let samples = (self.draws() as f64 * share).ceil() as usize;
        let ([bound], _) = bounds(model, [q], x, samples.max(2), rng)?;
        let (elbo, kl) = (bound.mean(), q.kl_to_prior_sum().as_f64() / x.len() as f64);
        // Finite population correction: the observations outside the sample contribute the sampling
        // error of the mean gap, those in it only their Monte Carlo error.
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

    /// The number of Monte Carlo samples for J.
    fn draws(&self) -> usize {
        if self.samples == 0 { self.importance.samples } else { self.samples.max(2) }
    }

    /// Estimates the inference gaps of q. Pass a random sample of the observations, as large as
    /// time allows, and check the [standard errors](Estimates::standard_error).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch),
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter),
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite).
    pub fn estimate<'a, T, D, L, P, Q>(
        &self,
        model: &GenerativeModel<D, L, P>,
        q: &Q,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<InferenceGapEstimates<Q>>
    where
        T: Real,
        D: DifferentiableMap<T>,
        L: Likelihood<T>,
        P: Prior<T>,
        Q: PosteriorFamily<T>,
    {
        let x = x.into_observations()?;
        let samples = self.draws();
        let mut best = self.refine.refine(model, q.clone(), x, rng)?;
        // An improvement on the few samples of the refinement may be overfitted to them: it is
        // accepted only where it holds on other samples. The samples that decide are not those that
        // measure, which would bias the gap.
        let (_, gain) = bounds(model, [q, &best], x, samples, rng)?;
        for (i, &gain) in gain.values().iter().enumerate() {
            let gained = gain >= 0.0;
            if !gained {
                best.parameters_mut().set_column(i, &q.parameters().column(i));
            }
        }
        // The proposal of the importance sampling is the optimal full Gaussian, initialised with
        // the optimum of the family.
        let widest = self.refine.refine(model, Full::from_moments(&best)?, x, rng)?;
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

/// The ELBO J_i of each posterior, and the difference of the last and the first, from the same
/// Monte Carlo samples.
///
/// Each sample contributes ln p(x, z) − ln q(z), not ln p(x|z) − KL(q‖π): under the exact posterior
/// every sample then equals log p(x), so that the estimate has no variance.
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
    let posteriors = posteriors.map(|q| (q, half_log_determinants(q)));
    let (mut moments, mut difference) = ([(); C].map(|()| Moments::new(n)), Moments::new(n));
    for _ in 0..samples {
        fill_standard_normal(noise.as_mut_slice(), rng);
        let mut drawn = Vec::with_capacity(C);
        for ((q, half_log_determinants), moments) in posteriors.iter().zip(&mut moments) {
            q.transform(noise.as_view(), &mut z);
            let bound = log_weights(
                &log_density_with_prior(model, x, z.as_view())?,
                &z,
                &noise,
                half_log_determinants,
            );
            moments.add(&bound);
            drawn.push(bound);
        }
        // Common random numbers: the errors of both estimates are correlated, and largely cancel in
        // the difference.
        difference.add(&(&drawn[C - 1] - &drawn[0]));
    }
    Ok((moments.map(Moments::figures), difference.figures()))
}

/// Running mean and sum of squared deviations from it, of each entry.
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
            // Welford's update: stable where the mean is large beside the variance.
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

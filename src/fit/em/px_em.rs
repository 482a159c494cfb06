//! Parameter-expanded EM (PX-EM) for PPCA: the fixed points of EM in far fewer iterations.

use super::aligned::{AlignedModel, Span, likelihood_optimum, log_likelihood, random_loadings};
use crate::Result;
use crate::data::ScatterFactor;
use crate::fit::{Fitted, Observer, RemainingGain, StopReason, Trace};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{Operand, gemm, matrix_product, product_tr_right, thin_qr};
use nalgebra::DMatrix;
use rand::Rng;

/// Parameter-expanded EM ([Liu, Rubin & Wu 1998](https://doi.org/10.1093/biomet/85.4.755)): the
/// M-step also estimates the covariance of the prior, which is then absorbed into W: W ← W
/// chol(mean E zzᵗ).
///
/// Under plain EM the mean of E zzᵗ converges to I at a rate given by the smallest signal-to-noise
/// ratio; with the expansion it gets there in one step. The log-likelihood never falls.
///
/// With A a square-root factor of S = AAᵗ, W = Q diag(s) and m = diag(s/(s²+σ²)) QᵗA, the second
/// moment C = mmᵗ + diag(σ²/(s²+σ²)) of the E-step has the square-root factor [mᵗ;
/// diag(σ/√(s²+σ²))] = ZR (QR). The expanded M-step is then W ← A Z₁, σ² ← (‖A − W Z₁ᵗ‖² + ‖W
/// Z₂ᵗ‖²)/d: C is never formed, and nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PxEm {
    /// Maximum number of iterations.
    pub max_iterations: usize,
    /// Tolerance on the estimated remaining gain of log p, in nats per observation.
    pub tolerance: f64,
}

impl Default for PxEm {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7 }
    }
}

impl PxEm {
    /// Maximises the likelihood of a model with k latent dimensions, from random loadings and the
    /// given noise.
    ///
    /// # Errors
    /// Errors of the matrix decompositions.
    pub(crate) fn fit(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        start: IsotropicGaussian<f64>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<AlignedModel>> {
        let (root, d) = (moment.coordinates(), moment.data_dim());
        let (r, k) = (root.ncols(), latent_dim);
        let mut model =
            AlignedModel::from_loadings(&random_loadings(moment, latent_dim, rng), start)?;
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(self.tolerance);
        let stop = loop {
            let (variances, noise_variance) =
                (model.variances(), model.likelihood.noise_variance());
            let span = Span::along(root, &model.directions);
            let value = log_likelihood(d, &variances, noise_variance, &span);
            trace.push(value);
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            // Before the fit ends as converged, a better model is looked for in a larger space;
            // without one, or at the limit, it ends.
            if rule.update(value) {
                match escape(root, d, &span, value + self.tolerance, model.likelihood)? {
                    Some(better) if trace.len() <= self.max_iterations => {
                        model = better;
                        rule = RemainingGain::below(self.tolerance);
                        continue;
                    }
                    _ => break StopReason::Converged,
                }
            }
            if trace.len() > self.max_iterations {
                break StopReason::IterationLimit;
            }
            // E-step: a square-root factor of the mean of E zzᵗ.
            let mut moments = DMatrix::zeros(r + k, k);
            for j in 0..k {
                let shrinkage = model.singular_values[j] / variances[j];
                for i in 0..r {
                    moments[(i, j)] = shrinkage * span.inside[(j, i)];
                }
                moments[(r + j, j)] = (noise_variance / variances[j]).sqrt();
            }
            let (basis, _) = thin_qr(moments.as_view())?;
            let (of_means, of_spread) = (basis.rows(0, r), basis.rows(r, k));
            // M-step with the expansion absorbed: W_EM = A mᵗC⁻¹ = A Z₁R⁻ᵗ, and times the Cholesky
            // factor Rᵗ of C it is A Z₁. R cancels and is not needed.
            let loadings = matrix_product(root, of_means);
            let mut residual = root.clone();
            gemm(-1.0, &loadings, Operand::from(&of_means).transposed(), 1.0, &mut residual);
            let spread = product_tr_right(&loadings, of_spread);
            let mut likelihood = model.likelihood;
            likelihood
                .set_noise_variance((residual.norm_squared() + spread.norm_squared()) / d as f64);
            model = AlignedModel::from_loadings(&loadings, likelihood)?;
        };
        Ok(Fitted::new(model, trace, stop))
    }
}

/// Returns a model with a log-likelihood per observation above `least` from the span of W and its
/// gradient, or `None`. There is one if EM had only slowed down near a saddle.
fn escape(
    root: &DMatrix<f64>,
    data_dim: usize,
    span: &Span,
    least: f64,
    likelihood: IsotropicGaussian<f64>,
) -> Result<Option<AlignedModel>> {
    let Some(ahead) = Span::ritz(root, &span.directions)?.look_ahead(root)? else {
        return Ok(None);
    };
    let mut likelihood = likelihood;
    let (variances, noise_variance) = likelihood_optimum(&ahead.variances, ahead.outside, data_dim);
    likelihood.set_noise_variance(noise_variance);
    let noise_variance = likelihood.noise_variance();
    // A fixed σ² or a floor may lie above the variance that the unconstrained optimum gives a
    // direction.
    let variances = variances.map(|m| m.max(noise_variance));
    if log_likelihood(data_dim, &variances, noise_variance, &ahead) <= least {
        return Ok(None);
    }
    let singular_values = variances.map(|m| (m - noise_variance).sqrt());
    Ok(Some(AlignedModel { directions: ahead.directions, singular_values, likelihood }))
}

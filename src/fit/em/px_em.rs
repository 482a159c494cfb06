//! Parameter-expanded EM: the fixed points of EM, thousands of iterations sooner.

use super::aligned::{AlignedModel, Span, likelihood_optimum, log_likelihood, random_loadings};
use crate::Result;
use crate::data::ScatterFactor;
use crate::fit::{Fitted, RemainingGain, StopReason, Trace};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{Operand, gemm, matrix_product, product_tr_right, thin_qr};
use nalgebra::DMatrix;
use rand::Rng;

/// EM with the prior's covariance set free and folded back into W after each M-step: W ← W
/// chol(mean E zzᵗ).
///
/// Plain EM lets E zzᵗ reach I at the pace of the smallest signal-to-noise ratio; the expansion
/// gets there in one step. J never falls ([Liu, Rubin & Wu
/// 1998](https://doi.org/10.1093/biomet/85.4.755)).
///
/// With A a square root of S, Q diag(s) = W and m = diag(s/(s²+σ²)) QᵗA, the E-step's moments C =
/// mmᵗ + diag(σ²/(s²+σ²)) have the square root [mᵗ; diag(σ/√(s²+σ²))] = ZL, and the expanded M-step
/// is W ← A Z₁, σ² ← (‖A − W Z₁ᵗ‖² + ‖W Z₂ᵗ‖²)/d: no C is formed, and nothing cancels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PxEm {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
}

impl Default for PxEm {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7 }
    }
}

impl PxEm {
    /// Raises the likelihood of a model with k latent dimensions from a random start.
    ///
    /// # Errors
    /// Those of the decompositions.
    pub(crate) fn fit(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        start: IsotropicGaussian<f64>,
        rng: &mut dyn Rng,
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
            // E-step: a square root of the mean of E zzᵗ.
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
            // M-step, with the expansion folded in.
            let loadings = matrix_product(root, of_means);
            let mut residual = root.clone();
            gemm(-1.0, &loadings, Operand::from(&of_means).transposed(), 1.0, &mut residual);
            let spread = product_tr_right(&loadings, of_spread);
            let mut likelihood = model.likelihood;
            likelihood
                .set_noise_variance((residual.norm_squared() + spread.norm_squared()) / d as f64);
            model = AlignedModel::from_loadings(&loadings, likelihood)?;
        };
        Ok(Fitted { model, trace, stop })
    }
}

/// A model with more than `least` log p per observation in the span of W and of its gradient: there
/// is one where EM had only slowed down at a saddle.
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
    let variances = variances.map(|m| m.max(noise_variance));
    if log_likelihood(data_dim, &variances, noise_variance, &ahead) <= least {
        return Ok(None);
    }
    let singular_values = variances.map(|m| (m - noise_variance).sqrt());
    Ok(Some(AlignedModel { directions: ahead.directions, singular_values, likelihood }))
}

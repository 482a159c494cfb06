//! Accelerated variational EM for a linear decoder: the E- and M-step move the span of W, and
//! everything inside the span is solved exactly.

use super::aligned::{
    ALIVE, AlignedModel, Span, likelihood_optimum, log_likelihood, random_loadings,
};
use crate::data::ScatterFactor;
use crate::fit::{Fitted, RemainingGain, StopReason, Trace};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{product_tr_right, thin_qr};
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use crate::{Real, Result};
use nalgebra::DVector;
use rand::Rng;

/// Coordinate ascent on the J of variational EM in other coordinates: the span of W by an E- and
/// M-step, then W = QT and σ² within it at once.
///
/// For a given span Q the maximum of J over T (k×k), σ² and all q_i of the family is a formula in
/// the Ritz values b_j of S in that span: for a diagonal or full q it is the PPCA optimum of the
/// span; for the lecture's isotropic q, m_j = s_j² + σ² = √b_j · mean √b. The M-step moves the span
/// to that of SW. Both raise J, so J never falls; what plain alternation needs tens of thousands of
/// iterations for (the size and the rotation of W inside its span) is here exact in each one.
///
/// Every eighth iteration, and before each stop, the best span within that of W and of its gradient
/// together is looked at: a random start may lie near a saddle, where J seems to have converged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubspaceVem {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
}

impl Default for SubspaceVem {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7 }
    }
}

/// A posterior family for which J has a closed-form maximum over everything but the span of W.
pub trait SubspaceFamily<T: Real>: PosteriorFamily<T> {
    /// The maximisers m_j = s_j² + σ² (in the order of the Ritz values, which fall) and σ², given
    /// the Ritz values b_j and the variance outside the span.
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64);

    /// log p − J in nats per observation at the best q_i, for a W with orthogonal columns.
    fn aligned_gap(variances: &DVector<f64>) -> f64;
}

impl<T: Real> SubspaceFamily<T> for Full<T> {
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64) {
        likelihood_optimum(ritz, outside, data_dim)
    }

    fn aligned_gap(_variances: &DVector<f64>) -> f64 {
        0.0
    }
}

/// With orthogonal columns of W the exact posterior is diagonal itself.
impl<T: Real> SubspaceFamily<T> for Diagonal<T> {
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64) {
        likelihood_optimum(ritz, outside, data_dim)
    }

    fn aligned_gap(_variances: &DVector<f64>) -> f64 {
        0.0
    }
}

impl<T: Real> SubspaceFamily<T> for Isotropic<T> {
    /// J = −½[(d−k) ln σ² + k ln(mean m) + Σ b_j/m_j + outside/σ² + …], so m_j = √(b_j·mean m)
    /// where that exceeds σ²; the directions C where it does not have m_j = σ², and then (d−k) +
    /// |C|σ²/mean m = (outside + Σ_C b)/σ².
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64) {
        let k = ritz.len() as f64;
        let free = (data_dim - ritz.len()) as f64;
        let mut noise = outside / free;
        let mut average = (ritz.iter().map(|b| b.sqrt()).sum::<f64>() / k).powi(2);
        // Roots and ratios only: a product of two variances may leave the range of the numbers.
        let root = |b: f64, average: f64| b.sqrt() * average.sqrt();
        for _ in 0..200 {
            let (average_before, noise_before) = (average, noise);
            average = ritz.iter().map(|&b| root(b, average).max(noise)).sum::<f64>() / k;
            let given_up = || ritz.iter().filter(|&&b| root(b, average) <= noise);
            let (count, rest) = (given_up().count() as f64, outside + given_up().sum::<f64>());
            noise = 2.0 * rest / (free + (free * free + 4.0 * count * (rest / average)).sqrt());
            let moved = (average / average_before).ln().abs() + (noise / noise_before).ln().abs();
            if moved <= 4.0 * f64::EPSILON {
                break;
            }
        }
        (ritz.map(|b| root(b, average).max(noise * ALIVE)), noise)
    }

    fn aligned_gap(variances: &DVector<f64>) -> f64 {
        let mean = variances.mean();
        0.5 * variances.iter().map(|v| (mean / v).ln()).sum::<f64>()
    }
}

impl SubspaceVem {
    /// How often the look-ahead is made.
    const LOOK_AHEAD_EVERY: usize = 8;

    /// Raises J of a model with k latent dimensions from a random start.
    ///
    /// # Errors
    /// [`Error::LatentDim`](crate::Error::LatentDim),
    /// [`Error::Unbounded`](crate::Error::Unbounded), and those of the decompositions.
    pub(crate) fn fit<T: Real, Q: SubspaceFamily<T>>(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<AlignedModel>> {
        moment.check_noise_remains(latent_dim)?;
        let (root, d) = (moment.coordinates(), moment.data_dim());
        let optimum = |span: &Span| {
            let (variances, noise) = Q::span_optimum(&span.variances, span.outside, d);
            let value = log_likelihood(d, &variances, noise, span) - Q::aligned_gap(&variances);
            (value, variances, noise)
        };
        let start = thin_qr(random_loadings(moment, latent_dim, rng).as_view())?.0;
        let mut span = Span::ritz(root, &start)?;
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(self.tolerance);
        loop {
            let (value, variances, noise_variance) = optimum(&span);
            trace.push(value);
            let mut converged = rule.update(value);
            let limit = trace.len() > self.max_iterations;
            if (converged || trace.len().is_multiple_of(Self::LOOK_AHEAD_EVERY))
                && let Some(ahead) = span.look_ahead(root)?
            {
                let gain = optimum(&ahead).0 - value;
                if gain > self.tolerance {
                    converged = false;
                    rule = RemainingGain::below(self.tolerance);
                }
                if gain > 0.0 && !converged && !limit {
                    span = ahead;
                    continue;
                }
            }
            if converged || limit {
                let singular_values = variances.map(|m| (m - noise_variance).max(0.0).sqrt());
                let likelihood = IsotropicGaussian::new(noise_variance)?;
                let model =
                    AlignedModel { directions: span.directions, singular_values, likelihood };
                return Ok(Fitted {
                    model,
                    trace,
                    stop: if converged {
                        StopReason::Converged
                    } else {
                        StopReason::IterationLimit
                    },
                });
            }
            // The span of the M-step: SW, without the large factor between A and its projection.
            let moved = product_tr_right(root, &span.right);
            span = Span::ritz(root, &thin_qr(moved.as_view())?.0)?;
        }
    }
}

//! Accelerated variational EM for a linear decoder: E- and M-step move the span of W, and all
//! parameters within the span are set to their closed-form optimum.

use super::aligned::{
    AlignedModel, MIN_VARIANCE_RATIO, Span, likelihood_optimum, log_likelihood, random_loadings,
};
use crate::data::ScatterFactor;
use crate::fit::{Fitted, Observer, RemainingGain, StopReason, Trace};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{product_tr_right, thin_qr};
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use crate::{Real, Result};
use nalgebra::DVector;
use rand::Rng;

/// Coordinate ascent on the evidence lower bound (ELBO) J of variational EM in other coordinates:
/// the span of W by one E- and M-step, then W = QT and σ² within this span in closed form.
///
/// For a given span Q the maximum of J over T (k×k), σ² and all q_i of the family has a closed form
/// in the Ritz values b_j of S in that span: for a diagonal or full q it is the PPCA optimum of the
/// span; for an isotropic q, m_j = s_j² + σ² = √b_j · mean √b. The M-step moves the span to that of
/// SW. Both raise J, so J never falls. Plain alternation needs tens of thousands of iterations for
/// the size and the rotation of W within its span; here these are exact in each iteration.
///
/// Every eighth iteration, and before each stop, the best span within the span of W and its
/// gradient is evaluated as well: a random initialisation may lie near a saddle, where J seems to
/// have converged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubspaceVem {
    /// Maximum number of iterations.
    pub max_iterations: usize,
    /// Tolerance on the estimated remaining gain of J, in nats per observation.
    pub tolerance: f64,
}

impl Default for SubspaceVem {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7 }
    }
}

/// Posterior family for which J has a closed-form maximum over all parameters except the span of W.
pub trait SubspaceFamily<T: Real>: PosteriorFamily<T> {
    /// Returns the maximisers m_j = s_j² + σ² (in the order of the Ritz values, which decrease) and
    /// σ², given the Ritz values b_j and the sum of the variances outside the span.
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64);

    /// Returns log p − J in nats per observation at the optimal q_i, for a W with orthogonal
    /// columns.
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

/// If the columns of W are orthogonal, the exact posterior is diagonal, so that the gap is 0.
impl<T: Real> SubspaceFamily<T> for Diagonal<T> {
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64) {
        likelihood_optimum(ritz, outside, data_dim)
    }

    fn aligned_gap(_variances: &DVector<f64>) -> f64 {
        0.0
    }
}

impl<T: Real> SubspaceFamily<T> for Isotropic<T> {
    /// J = −½[(d−k) ln σ² + k ln(mean m) + Σ b_j/m_j + outside/σ² + …], so that m_j = √(b_j·mean m)
    /// where that exceeds σ². For the other directions, C, m_j = σ², and σ² solves
    /// (d−k) + |C|σ²/mean m = (outside + Σ_C b)/σ².
    fn span_optimum(ritz: &DVector<f64>, outside: f64, data_dim: usize) -> (DVector<f64>, f64) {
        let k = ritz.len() as f64;
        let free = (data_dim - ritz.len()) as f64;
        // Initial values: the solution without any direction at the noise level, m_j = √b_j · mean
        // √b. Then mean m, C and σ² are iterated to their common fixed point.
        let mut noise = outside / free;
        let mut average = (ritz.iter().map(|b| b.sqrt()).sum::<f64>() / k).powi(2);
        // Only square roots and ratios: a product of two variances overflows or underflows long
        // before the variances do.
        let root = |b: f64, average: f64| b.sqrt() * average.sqrt();
        for _ in 0..200 {
            let (average_before, noise_before) = (average, noise);
            average = ritz.iter().map(|&b| root(b, average).max(noise)).sum::<f64>() / k;
            let given_up = || ritz.iter().filter(|&&b| root(b, average) <= noise);
            let (count, rest) = (given_up().count() as f64, outside + given_up().sum::<f64>());
            // The positive root of the quadratic equation for σ² above, in the form that does not
            // cancel.
            noise = 2.0 * rest / (free + (free * free + 4.0 * count * (rest / average)).sqrt());
            let moved = (average / average_before).ln().abs() + (noise / noise_before).ln().abs();
            if moved <= 4.0 * f64::EPSILON {
                break;
            }
        }
        (ritz.map(|b| root(b, average).max(noise * MIN_VARIANCE_RATIO)), noise)
    }

    fn aligned_gap(variances: &DVector<f64>) -> f64 {
        // The exact posterior has the precisions v_j/σ², the isotropic optimum their mean: the gap
        // is ½ Σ ln(mean v/v_j).
        let mean = variances.mean();
        0.5 * variances.iter().map(|v| (mean / v).ln()).sum::<f64>()
    }
}

impl SubspaceVem {
    /// Number of iterations between two look-aheads.
    // A look-ahead works on up to 2k columns and costs more than an iteration; every eighth bounds
    // its share of the time.
    const LOOK_AHEAD_EVERY: usize = 8;

    /// Maximises J of a model with k latent dimensions, from a random initialisation.
    ///
    /// # Errors
    /// [`Error::LatentDim`](crate::Error::LatentDim),
    /// [`Error::Unbounded`](crate::Error::Unbounded), and errors of the matrix decompositions.
    pub(crate) fn fit<T: Real, Q: SubspaceFamily<T>>(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
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
            let interrupted = trace.interrupted(observer);
            let mut converged = rule.update(value) && !interrupted;
            let limit = trace.len() > self.max_iterations || interrupted;
            if (converged || trace.len().is_multiple_of(Self::LOOK_AHEAD_EVERY))
                && let Some(ahead) = span.look_ahead(root)?
            {
                let gain = optimum(&ahead).0 - value;
                // A gain above the tolerance contradicts the convergence test, which starts again;
                // a smaller one is taken too, unless the fit ends here.
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
                let stop = match (interrupted, converged) {
                    (true, _) => StopReason::Interrupted,
                    (false, true) => StopReason::Converged,
                    (false, false) => StopReason::IterationLimit,
                };
                return Ok(Fitted::new(model, trace, stop));
            }
            // The M-step moves the span to that of SW. A Rᵗ has the same span as SQ = A Rᵗ
            // diag(√b); without the factors √b_j the lengths of its columns spread over half as
            // many orders of magnitude.
            let moved = product_tr_right(root, &span.right);
            span = Span::ritz(root, &thin_qr(moved.as_view())?.0)?;
        }
    }
}

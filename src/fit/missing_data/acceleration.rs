//! Anderson acceleration (Walker & Ni 2011) of the EM fixed-point iteration on W, μ and the
//! logarithms of the noise variances.

use super::maximization::Theta;
use crate::likelihood::GaussianNoise;
use nalgebra::{DMatrix, DVector};
use std::collections::VecDeque;

/// Number of earlier steps in the least-squares problem (the depth m of Anderson acceleration).
// A step more costs m inner products of d×(k+1) numbers, little beside a pass over the data; but
// old steps describe the EM map at points that are ever further away.
const MEMORY: usize = 8;

/// Smallest ridge of the least-squares problem, as a fraction of the trace of its Gram matrix.
// The Gram matrix squares the condition number of the step differences: what is below 1e-12 of its
// trace is near its rounding error.
const LEAST_RIDGE: f64 = 1e-12;

/// Upper bound on the factor by which an EM step is lengthened while steps grow.
const LONGEST: f64 = 1e4;

/// Difference of two models: of [W μ] and, for each variable, of the logarithm of its noise
/// variance, whether or not the variables share one.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) augmented: DMatrix<f64>,
    pub(crate) log_noise: DVector<f64>,
}

impl Step {
    pub(crate) fn between<N: GaussianNoise<f64>>(from: &Theta<N>, to: &Theta<N>) -> Self {
        let log_noise = from.variances().zip_map(&to.variances(), |from, to| to.ln() - from.ln());
        Self { augmented: &to.augmented - &from.augmented, log_noise }
    }

    pub(crate) fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.augmented.zip_apply(&other.augmented, |a, b| *a += factor * b);
        self.log_noise.axpy(factor, &other.log_noise, 1.0);
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.augmented *= factor;
        self.log_noise *= factor;
    }

    fn rotate(&mut self, rotation: &DMatrix<f64>) {
        let k = rotation.nrows();
        let rotated = self.augmented.columns(0, k) * rotation;
        self.augmented.columns_mut(0, k).copy_from(&rotated);
    }

    /// Returns the model `factor` times this step away from `theta`, or `None` if it is not finite.
    pub(crate) fn applied_to<N: GaussianNoise<f64>>(
        &self,
        theta: &Theta<N>,
        factor: f64,
    ) -> Option<Theta<N>> {
        let mut moved = theta.clone();
        moved.augmented.zip_apply(&self.augmented, |a, b| *a += factor * b);
        // ln ψ keeps every variance positive. The clamp bounds an extrapolation to a factor of e³ =
        // 20 in a variance.
        let changed = theta.variances().zip_map(&self.log_noise, |variance, log| {
            variance * (factor * log).clamp(-3.0, 3.0).exp()
        });
        moved.noise.set_variances(&changed, &DVector::from_element(changed.len(), 1.0));
        let finite = moved.augmented.iter().all(|v| v.is_finite())
            && moved.variances().iter().all(|&v| v > 0.0 && v.is_finite());
        finite.then_some(moved)
    }
}

/// Inner product of differences: the complete-data Fisher information of EM about W, μ and the
/// noise, in nats per observed entry.
pub(crate) struct Metric {
    /// Fraction of all observed entries that belongs to each variable.
    shares: DVector<f64>,
    /// `shares` divided by the noise variance of each variable.
    precisions: DVector<f64>,
}

impl Metric {
    pub(crate) fn at<N: GaussianNoise<f64>>(theta: &Theta<N>, shares: &DVector<f64>) -> Self {
        Self { shares: shares.clone(), precisions: shares.component_div(&theta.variances()) }
    }

    pub(crate) fn inner(&self, a: &Step, b: &Step) -> f64 {
        // With E[z̃z̃ᵗ] = I, which parameter expansion approaches, the information is 1/ψ_j per
        // entry about w_j and μ_j, and ½ about ln ψ_j.
        let columns = a.augmented.column_iter().zip(b.augmented.column_iter());
        let of_columns = columns.map(|(a, b)| {
            a.iter()
                .zip(b.iter())
                .zip(self.precisions.iter())
                .map(|((a, b), w)| w * (a * b))
                .sum::<f64>()
        });
        let of_noise = a
            .log_noise
            .iter()
            .zip(b.log_noise.iter())
            .zip(self.shares.iter())
            .map(|((a, b), w)| w * (a * b));
        of_columns.sum::<f64>() + 0.5 * of_noise.sum::<f64>()
    }
}

/// Proposed next point, and the estimated remaining gain of J up to the maximum.
pub(crate) struct Proposal<N> {
    pub(crate) theta: Theta<N>,
    /// In nats per observed entry.
    pub(crate) remaining: f64,
}

/// Anderson acceleration: the history of points and EM steps.
///
/// Where successive EM steps shrink, the least-squares extrapolation approximates their limit.
/// Where they grow, on the way out of a saddle, the extrapolated point would be the saddle: such
/// pairs are left out, and the EM step is lengthened instead, with a factor that doubles each time
/// that J rises.
pub(crate) struct Acceleration<N> {
    last: Option<(Theta<N>, Step)>,
    ridge: f64,
    length: f64,
    /// Differences of successive points, and of the EM steps at them.
    changes: VecDeque<(Step, Step)>,
}

impl<N: GaussianNoise<f64>> Acceleration<N> {
    pub(crate) fn new() -> Self {
        Self { last: None, ridge: LEAST_RIDGE, length: 1.0, changes: VecDeque::new() }
    }

    /// Records that the last proposal raised J: a smaller ridge and longer steps.
    pub(crate) fn accept(&mut self) {
        self.ridge = (self.ridge / 10.0).max(LEAST_RIDGE);
        self.length = (2.0 * self.length).min(LONGEST);
    }

    /// Records that the last proposal was rejected: the next one stays closer to the EM step (a
    /// larger ridge), and the older half of the history is dropped.
    pub(crate) fn reject(&mut self) {
        // The ridge grows faster than it falls: a rejection costs a pass over the data, a cautious
        // proposal only part of a gain.
        self.ridge = (self.ridge * 1e3).min(1e-3);
        self.length = (0.25 * self.length).max(1.0);
        self.changes.drain(..self.changes.len() / 2);
    }

    /// Applies the rotation W ← WR to the history.
    pub(crate) fn rotate(&mut self, rotation: &DMatrix<f64>) {
        if let Some((theta, step)) = &mut self.last {
            theta.rotate(rotation);
            step.rotate(rotation);
        }
        for (point, step) in &mut self.changes {
            point.rotate(rotation);
            step.rotate(rotation);
        }
    }

    /// Records a point and its EM step; returns a proposal for the next point, `None` without any
    /// history.
    pub(crate) fn propose(
        &mut self,
        metric: &Metric,
        theta: &Theta<N>,
        next: &Theta<N>,
    ) -> Option<Proposal<N>> {
        let step = Step::between(theta, next);
        let mut grows = false;
        if let Some((before, earlier)) = self.last.take() {
            let (point, mut change) = (Step::between(&before, theta), step.clone());
            change.add_scaled(-1.0, &earlier);
            // For a linear map with Jacobian M the change of the step is (M − I)·point: the inner
            // product is negative where M contracts, and positive along an eigenvalue above 1.
            grows = metric.inner(&point, &change) >= 0.0;
            if !grows {
                self.changes.push_back((point, change));
                if self.changes.len() > MEMORY {
                    self.changes.pop_front();
                }
            }
        }
        self.last = Some((theta.clone(), step.clone()));
        if grows {
            let theta = step.applied_to(theta, 2.0 * self.length)?;
            return Some(Proposal { theta, remaining: f64::INFINITY });
        }
        if self.changes.is_empty() {
            return None;
        }
        // EM steps by (information)⁻¹·gradient, so that ½⟨step, onward⟩ is ½ gᵗδ, the gain of a
        // quadratic J on the way δ to its maximum.
        let remaining = 0.5 * metric.inner(&step, &self.onward(metric, &step, LEAST_RIDGE)?);
        let theta = self.onward(metric, &step, self.ridge)?.applied_to(theta, 1.0)?;
        // A negative estimate means that the quadratic model does not hold.
        let remaining = if remaining > 0.0 { remaining } else { f64::INFINITY };
        Some(Proposal { theta, remaining })
    }

    /// Returns the displacement from here to the point at which the EM step would vanish, in the
    /// least-squares sense.
    fn onward(&self, metric: &Metric, step: &Step, ridge: f64) -> Option<Step> {
        let m = self.changes.len();
        // Least squares min ‖step − Σ_a w_a change_a‖ by its m×m normal equations, with the ridge
        // that covers their rounding; onward = step − Σ_a w_a (point_a + change_a).
        let mut gram = DMatrix::from_fn(m, m, |a, b| {
            if b <= a { metric.inner(&self.changes[a].1, &self.changes[b].1) } else { 0.0 }
        });
        gram.fill_upper_triangle_with_lower_triangle();
        let ridge = ridge * gram.trace();
        (0..m).for_each(|a| gram[(a, a)] += ridge);
        let right = DVector::from_fn(m, |a, _| metric.inner(&self.changes[a].1, step));
        let weights = gram.cholesky()?.solve(&right);
        let mut onward = step.clone();
        for ((point, change), &weight) in self.changes.iter().zip(weights.iter()) {
            onward.add_scaled(-weight, point);
            onward.add_scaled(-weight, change);
        }
        Some(onward)
    }
}

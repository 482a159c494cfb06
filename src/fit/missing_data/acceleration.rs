//! Anderson's acceleration of a fixed-point iteration on W, μ and the logarithms of the noise
//! variances.

use super::maximization::Theta;
use crate::likelihood::GaussianNoise;
use nalgebra::{DMatrix, DVector};
use std::collections::VecDeque;

/// How many earlier steps are remembered.
const MEMORY: usize = 8;

/// The least that is added to the diagonal of the least squares, in parts of its trace.
const LEAST_RIDGE: f64 = 1e-12;

/// The longest step along EM's own, in its lengths.
const LONGEST: f64 = 1e4;

/// A difference of two models; of the noise, in the logarithm of each variable's variance, whether
/// or not they share one.
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

    /// The model `factor` steps on, if it is one.
    pub(crate) fn taken_from<N: GaussianNoise<f64>>(
        &self,
        theta: &Theta<N>,
        factor: f64,
    ) -> Option<Theta<N>> {
        let mut moved = theta.clone();
        moved.augmented.zip_apply(&self.augmented, |a, b| *a += factor * b);
        let changed = theta.variances().zip_map(&self.log_noise, |variance, log| {
            variance * (factor * log).clamp(-3.0, 3.0).exp()
        });
        moved.noise.set_variances(&changed, &DVector::from_element(changed.len(), 1.0));
        let finite = moved.augmented.iter().all(|v| v.is_finite())
            && moved.variances().iter().all(|&v| v > 0.0 && v.is_finite());
        finite.then_some(moved)
    }
}

/// The inner product of differences: EM's own information about W, μ and the noise, per observed
/// entry and in nats.
pub(crate) struct Metric {
    /// The share of the observed entries that are of each variable.
    shares: DVector<f64>,
    /// The same over its noise variance.
    precisions: DVector<f64>,
}

impl Metric {
    pub(crate) fn at<N: GaussianNoise<f64>>(theta: &Theta<N>, shares: &DVector<f64>) -> Self {
        Self { shares: shares.clone(), precisions: shares.component_div(&theta.variances()) }
    }

    pub(crate) fn inner(&self, a: &Step, b: &Step) -> f64 {
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

/// Where the next point is expected, and what J is expected to gain on the way to the maximum.
pub(crate) struct Proposal<N> {
    pub(crate) theta: Theta<N>,
    /// Per observed entry, in nats.
    pub(crate) remaining: f64,
}

/// The last points and the steps that EM took from them.
///
/// Along what EM's steps shrink, Anderson's least squares find where they end. Along what they
/// grow, on the way out of a saddle, that point would be the saddle: such pairs are left out, and
/// the step of EM is lengthened instead, twice as far each time that J rises.
pub(crate) struct Acceleration<N> {
    last: Option<(Theta<N>, Step)>,
    ridge: f64,
    length: f64,
    /// What the points and the steps changed by.
    changes: VecDeque<(Step, Step)>,
}

impl<N: GaussianNoise<f64>> Acceleration<N> {
    pub(crate) fn new() -> Self {
        Self { last: None, ridge: LEAST_RIDGE, length: 1.0, changes: VecDeque::new() }
    }

    /// The last proposal raised J.
    pub(crate) fn accept(&mut self) {
        self.ridge = (self.ridge / 10.0).max(LEAST_RIDGE);
        self.length = (2.0 * self.length).min(LONGEST);
    }

    /// The last proposal was taken back: the next one keeps closer to EM, and the older half of the
    /// steps is forgotten.
    pub(crate) fn reject(&mut self) {
        self.ridge = (self.ridge * 1e3).min(1e-3);
        self.length = (0.25 * self.length).max(1.0);
        self.changes.drain(..self.changes.len() / 2);
    }

    /// Follows the model through W ← WR.
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

    /// Takes a point and where EM goes from it; proposes where to go instead.
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
            let theta = step.taken_from(theta, 2.0 * self.length)?;
            return Some(Proposal { theta, remaining: f64::INFINITY });
        }
        if self.changes.is_empty() {
            return None;
        }
        let remaining = 0.5 * metric.inner(&step, &self.onward(metric, &step, LEAST_RIDGE)?);
        let theta = self.onward(metric, &step, self.ridge)?.taken_from(theta, 1.0)?;
        // Nothing to be gained where EM goes: the quadratic model does not hold.
        let remaining = if remaining > 0.0 { remaining } else { f64::INFINITY };
        Some(Proposal { theta, remaining })
    }

    /// From here to where the steps would vanish.
    fn onward(&self, metric: &Metric, step: &Step, ridge: f64) -> Option<Step> {
        let m = self.changes.len();
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

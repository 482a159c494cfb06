//! Anderson's acceleration of a fixed-point iteration on W, μ and ln σ².

use super::maximization::Theta;
use nalgebra::{DMatrix, DVector};
use std::collections::VecDeque;

/// How many earlier steps are remembered.
const MEMORY: usize = 6;

/// The least that is added to the diagonal of the least squares.
const LEAST_RIDGE: f64 = 1e-12;

/// A difference of two models.
#[derive(Debug, Clone)]
struct Step {
    augmented: DMatrix<f64>,
    log_noise: f64,
}

impl Step {
    fn between(from: &Theta, to: &Theta) -> Self {
        Self { augmented: &to.augmented - &from.augmented, log_noise: to.noise.noise_variance().ln() - from.noise.noise_variance().ln() }
    }

    fn less(&self, other: &Self) -> Self {
        Self { augmented: &self.augmented - &other.augmented, log_noise: self.log_noise - other.log_noise }
    }

    fn rotate(&mut self, rotation: &DMatrix<f64>) {
        let k = rotation.nrows();
        let rotated = self.augmented.columns(0, k) * rotation;
        self.augmented.columns_mut(0, k).copy_from(&rotated);
    }
}

/// Where the next point is expected, and what J is expected to gain on the way to the maximum.
pub(crate) struct Proposal {
    pub(crate) theta: Theta,
    /// Per observed entry, in nats.
    pub(crate) remaining: f64,
}

/// The last points and the steps that EM took from them.
///
/// The inner product is EM's own information: 1/σ² for each entry of W and μ, ½ for ln σ² (each per observed entry, times 1/d for the first).
pub(crate) struct Acceleration {
    last: Option<(Theta, Step)>,
    /// What is added to the diagonal of the least squares, in parts of its trace: more after a step that was taken back.
    ridge: f64,
    /// What the points and the steps changed by.
    changes: VecDeque<(Step, Step)>,
}

impl Acceleration {
    pub(crate) fn new() -> Self {
        Self { last: None, ridge: LEAST_RIDGE, changes: VecDeque::new() }
    }

    /// The last proposal raised J.
    pub(crate) fn accept(&mut self) {
        self.ridge = (self.ridge / 10.0).max(LEAST_RIDGE);
    }

    /// The last proposal was taken back: the next one keeps closer to EM, and the older half of the steps is forgotten.
    pub(crate) fn reject(&mut self) {
        self.ridge = (self.ridge * 1e3).min(1.0);
        self.changes.drain(..self.changes.len() / 2);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
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
    pub(crate) fn propose(&mut self, theta: &Theta, next: &Theta) -> Option<Proposal> {
        let step = Step::between(theta, next);
        if let Some((before, earlier)) = self.last.take() {
            self.changes.push_back((Step::between(&before, theta), step.less(&earlier)));
            if self.changes.len() > MEMORY {
                self.changes.pop_front();
            }
        }
        self.last = Some((theta.clone(), step.clone()));
        if self.changes.is_empty() {
            return None;
        }
        let (d, noise) = (theta.augmented.nrows() as f64, theta.noise.noise_variance());
        let inner = |a: &Step, b: &Step| a.augmented.dot(&b.augmented) / (noise * d) + 0.5 * a.log_noise * b.log_noise;
        let m = self.changes.len();
        let mut gram = DMatrix::from_fn(m, m, |a, b| if b <= a { inner(&self.changes[a].1, &self.changes[b].1) } else { 0.0 });
        gram.fill_upper_triangle_with_lower_triangle();
        let ridge = self.ridge * gram.trace();
        (0..m).for_each(|a| gram[(a, a)] += ridge);
        let right = DVector::from_fn(m, |a, _| inner(&self.changes[a].1, &step));
        let weights = gram.cholesky()?.solve(&right);
        let mut onward = step.clone();
        for ((point, change), &weight) in self.changes.iter().zip(weights.iter()) {
            onward.augmented -= (&point.augmented + &change.augmented) * weight;
            onward.log_noise -= (point.log_noise + change.log_noise) * weight;
        }
        let mut proposed = theta.clone();
        proposed.augmented += &onward.augmented;
        if !proposed.noise.is_fixed() {
            proposed.noise.set_noise_variance(noise * onward.log_noise.clamp(-5.0, 5.0).exp());
        }
        let finite = proposed.augmented.iter().all(|v| v.is_finite()) && onward.log_noise.is_finite();
        finite.then(|| Proposal { theta: proposed, remaining: 0.5 * inner(&step, &onward) })
    }
}

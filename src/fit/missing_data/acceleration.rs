//! Anderson acceleration of the EM fixed-point iteration on W, μ and the logarithms of the noise
//! variances.[^1]
//!
//! Legend: θ a model, F the EM map, f(θ) = F(θ) − θ the EM step (the residual of the fixed-point
//! equation), M the Jacobian of F; ⟨·,·⟩ the inner product of [`Metric`].
//!
//! Each iteration keeps a secant pair (s_a, y_a): s_a is the difference of two successive models,
//! y_a that of the EM steps at them, so that y_a = (M − I) s_a for a linear F. The next model is
//!
//! θ + f − Σ_a w_a (s_a + y_a), where w minimises ‖f − Σ_a w_a y_a‖² (plus a ridge):
//!
//! for a linear F and secant pairs that span the space it is the fixed point. The caller evaluates
//! J there and reports the outcome with [`Acceleration::accept`] or [`Acceleration::reject`].
//!
//! [^1]: D. G. Anderson, Iterative procedures for nonlinear integral equations, J. ACM 12 (1965);
//! H. F. Walker and P. Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal.
//! 49 (2011). For EM with a safeguard of the same kind see N. C. Henderson and R. Varadhan, Damped
//! Anderson acceleration with restarts and monotonicity control, J. Comput. Graph. Stat. 28 (2019).

use super::maximization::Theta;
use crate::likelihood::GaussianNoise;
use nalgebra::{DMatrix, DVector};
use std::collections::VecDeque;

/// Number of earlier steps in the least-squares problem (the depth m of Anderson acceleration).
// A step more costs m inner products of d×(k+1) numbers, little beside a pass over the data; but
// old steps describe the EM map at points that are ever further away.
const DEPTH: usize = 8;

/// Smallest ridge of the least-squares problem, as a fraction of the trace of its Gram matrix.
// The Gram matrix squares the condition number of the step differences: what is below 1e-12 of its
// trace is near its rounding error.
const MIN_RIDGE: f64 = 1e-12;

/// Largest ridge, as a fraction of the same trace.
const MAX_RIDGE: f64 = 1e-3;

/// Bounds on the factor by which an EM step is lengthened while steps grow.
// At least 2: a growing step is not near its limit. The upper bound keeps the number of rejections
// after a long ascent small; each of them takes back two doublings.
const MIN_STEP_FACTOR: f64 = 2.0;
const MAX_STEP_FACTOR: f64 = 2e4;

/// Difference of two models: of [W μ] and, for each variable, of the logarithm of its noise
/// variance, whether or not the variables share one.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) augmented: DMatrix<f64>,
    pub(crate) log_noise: DVector<f64>,
}

impl Step {
    /// Returns `to` − `from`.
    pub(crate) fn between<N: GaussianNoise<f64>>(from: &Theta<N>, to: &Theta<N>) -> Self {
        let log_noise = from.variances().zip_map(&to.variances(), |from, to| to.ln() - from.ln());
        Self { augmented: &to.augmented - &from.augmented, log_noise }
    }

    /// Adds `factor` times another difference.
    pub(crate) fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.augmented.zip_apply(&other.augmented, |a, b| *a += factor * b);
        self.log_noise.axpy(factor, &other.log_noise, 1.0);
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.augmented *= factor;
        self.log_noise *= factor;
    }

    /// Applies the rotation W ← WR to the difference.
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
    /// Returns the metric at a model, for the `shares` of the variables in the observed entries.
    pub(crate) fn at<N: GaussianNoise<f64>>(theta: &Theta<N>, shares: &DVector<f64>) -> Self {
        Self { shares: shares.clone(), precisions: shares.component_div(&theta.variances()) }
    }

    /// Returns ⟨a, b⟩.
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

/// Proposed next model, and the estimated remaining gain of J up to the maximum.
pub(crate) struct Proposal<N> {
    pub(crate) theta: Theta<N>,
    /// In nats per observed entry; infinity where there is no estimate.
    pub(crate) remaining_gain: f64,
}

/// A model, and the EM step at it.
struct Iterate<N> {
    theta: Theta<N>,
    em_step: Step,
}

/// Differences between two successive iterates.
struct SecantPair {
    /// Difference of the models, s_a.
    displacement: Step,
    /// Difference of the EM steps at them, y_a.
    change_of_step: Step,
}

/// Anderson acceleration: the last iterate and the secant pairs before it.
///
/// Where successive EM steps shrink, the least-squares extrapolation approximates their limit.
/// Where they grow, on the way out of a saddle, the extrapolated point would be the saddle: such
/// pairs are left out, and the EM step is lengthened instead, with a factor that doubles each time
/// that J rises.
pub(crate) struct Acceleration<N> {
    previous: Option<Iterate<N>>,
    /// Ridge of the least-squares problem, between [`MIN_RIDGE`] and [`MAX_RIDGE`].
    ridge: f64,
    /// Factor by which the next growing EM step is lengthened, between [`MIN_STEP_FACTOR`] and
    /// [`MAX_STEP_FACTOR`].
    step_factor: f64,
    /// At most [`DEPTH`] secant pairs, the oldest first.
    secants: VecDeque<SecantPair>,
}

impl<N: GaussianNoise<f64>> Acceleration<N> {
    /// Returns an acceleration without any history.
    pub(crate) fn new() -> Self {
        Self {
            previous: None,
            ridge: MIN_RIDGE,
            step_factor: MIN_STEP_FACTOR,
            secants: VecDeque::new(),
        }
    }

    /// Records that the last proposal raised J: a smaller ridge and longer steps.
    pub(crate) fn accept(&mut self) {
        self.ridge = (self.ridge / 10.0).max(MIN_RIDGE);
        self.step_factor = (2.0 * self.step_factor).min(MAX_STEP_FACTOR);
    }

    /// Records that the last proposal was rejected: the next one stays closer to the EM step (a
    /// larger ridge), and the older half of the history is dropped.
    pub(crate) fn reject(&mut self) {
        // The ridge grows faster than it falls: a rejection costs a pass over the data, a cautious
        // proposal only part of a gain.
        self.ridge = (self.ridge * 1e3).min(MAX_RIDGE);
        self.step_factor = (0.25 * self.step_factor).max(MIN_STEP_FACTOR);
        self.secants.drain(..self.secants.len() / 2);
    }

    /// Applies the rotation W ← WR to the history.
    pub(crate) fn rotate(&mut self, rotation: &DMatrix<f64>) {
        if let Some(previous) = &mut self.previous {
            previous.theta.rotate(rotation);
            previous.em_step.rotate(rotation);
        }
        for secant in &mut self.secants {
            secant.displacement.rotate(rotation);
            secant.change_of_step.rotate(rotation);
        }
    }

    /// Records a model and its image under the EM map; returns a proposal for the next model,
    /// `None` without any history.
    pub(crate) fn propose(
        &mut self,
        metric: &Metric,
        theta: &Theta<N>,
        next: &Theta<N>,
    ) -> Option<Proposal<N>> {
        let step = Step::between(theta, next);
        if self.record(metric, theta, &step) {
            // J is not concave along a growing step: no quadratic model bounds what remains.
            let theta = step.applied_to(theta, self.step_factor)?;
            return Some(Proposal { theta, remaining_gain: f64::INFINITY });
        }
        if self.secants.is_empty() {
            return None;
        }
        // EM steps by (information)⁻¹·gradient, so that ½⟨step, δ⟩ is ½ gᵗδ, the gain of a
        // quadratic J on the way δ to its maximum. The estimate takes the smallest ridge: a ridge
        // after rejections shortens δ, and would report less than what remains.
        let to_limit = self.anderson_step(metric, &step, MIN_RIDGE)?;
        let remaining_gain = 0.5 * metric.inner(&step, &to_limit);
        let theta = self.anderson_step(metric, &step, self.ridge)?.applied_to(theta, 1.0)?;
        // A negative estimate means that the quadratic model does not hold.
        let remaining_gain = if remaining_gain > 0.0 { remaining_gain } else { f64::INFINITY };
        Some(Proposal { theta, remaining_gain })
    }

    /// Records a model and the EM step at it; returns whether the EM steps grow.
    fn record(&mut self, metric: &Metric, theta: &Theta<N>, step: &Step) -> bool {
        let current = Iterate { theta: theta.clone(), em_step: step.clone() };
        let Some(previous) = self.previous.replace(current) else { return false };
        let displacement = Step::between(&previous.theta, theta);
        let mut change_of_step = step.clone();
        change_of_step.add_scaled(-1.0, &previous.em_step);
        // For a linear map with Jacobian M the change of the step is (M − I)·displacement: the
        // inner product is negative where M contracts, and positive along an eigenvalue above 1.
        let grows = metric.inner(&displacement, &change_of_step) >= 0.0;
        if !grows {
            self.secants.push_back(SecantPair { displacement, change_of_step });
            if self.secants.len() > DEPTH {
                self.secants.pop_front();
            }
        }
        grows
    }

    /// Returns the displacement from here to the model at which the EM step would vanish, in the
    /// least-squares sense; `None` if the Gram matrix is not positive definite.
    fn anderson_step(&self, metric: &Metric, step: &Step, ridge: f64) -> Option<Step> {
        let m = self.secants.len();
        let change = |a: usize| &self.secants[a].change_of_step;
        // Least squares by the m×m normal equations: a QR factorisation would need the d(k+1)×m
        // matrix in the metric, and the ridge covers the rounding of the Gram matrix.
        let mut gram =
            DMatrix::from_fn(
                m,
                m,
                |a, b| {
                    if b <= a { metric.inner(change(a), change(b)) } else { 0.0 }
                },
            );
        gram.fill_upper_triangle_with_lower_triangle();
        let ridge = ridge * gram.trace();
        (0..m).for_each(|a| gram[(a, a)] += ridge);
        let right = DVector::from_fn(m, |a, _| metric.inner(change(a), step));
        let weights = gram.cholesky()?.solve(&right);
        let mut displacement = step.clone();
        for (secant, &weight) in self.secants.iter().zip(weights.iter()) {
            displacement.add_scaled(-weight, &secant.displacement);
            displacement.add_scaled(-weight, &secant.change_of_step);
        }
        Some(displacement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::IsotropicGaussian;

    /// A model with one variable per entry of the mean, no loadings and the noise variance 1: the
    /// metric is Euclidean up to the factor 1/d.
    fn model(mean: &[f64]) -> Theta<IsotropicGaussian<f64>> {
        let noise = IsotropicGaussian::fixed(1.0).unwrap();
        Theta::new(DMatrix::zeros(mean.len(), 1), &DVector::from_column_slice(mean), noise)
    }

    fn metric(theta: &Theta<IsotropicGaussian<f64>>) -> Metric {
        let d = theta.augmented.nrows();
        Metric::at(theta, &DVector::from_element(d, 1.0 / d as f64))
    }

    /// A linear map of the mean with the fixed point 0, with one eigenvalue per variable.
    fn map(
        theta: &Theta<IsotropicGaussian<f64>>,
        eigenvalues: &[f64],
    ) -> Theta<IsotropicGaussian<f64>> {
        let mean = theta.mean();
        model(&mean.iter().zip(eigenvalues).map(|(x, l)| l * x).collect::<Vec<_>>())
    }

    #[test]
    fn a_linear_map_of_three_variables_takes_three_secants() {
        let eigenvalues = [0.99, 0.7, -0.3];
        let mut theta = model(&[1.0, 2.0, -1.0]);
        let mut acceleration = Acceleration::new();
        assert!(
            acceleration.propose(&metric(&theta), &theta, &map(&theta, &eigenvalues)).is_none()
        );
        theta = map(&theta, &eigenvalues);
        for secants in 1..=3 {
            let next = map(&theta, &eigenvalues);
            let proposal = acceleration.propose(&metric(&theta), &theta, &next).unwrap();
            assert_eq!(acceleration.secants.len(), secants);
            acceleration.accept();
            theta = proposal.theta;
        }
        // The ridge leaves 0.002 along the slowest direction, for which EM alone would need some
        // six hundred iterations.
        assert!(theta.mean().amax() < 1e-2, "{}", theta.mean());
    }

    #[test]
    fn the_remaining_gain_is_that_of_a_quadratic_objective() {
        // J = −½ (1 − λ) x² has the gradient step f = −(1 − λ) x and the remaining gain ½ (1 − λ)
        // x².
        let (lambda, x) = (0.9, 2.0);
        let mut acceleration = Acceleration::new();
        let (first, second) = (model(&[x / lambda]), model(&[x]));
        acceleration.propose(&metric(&first), &first, &second);
        let third = model(&[lambda * x]);
        let proposal = acceleration.propose(&metric(&second), &second, &third).unwrap();
        assert!((proposal.remaining_gain - 0.5 * (1.0 - lambda) * x * x).abs() < 1e-9);
        assert!(proposal.theta.mean()[0].abs() < 1e-9);
    }

    #[test]
    fn steps_off_a_saddle_double_with_each_acceptance() {
        // An eigenvalue of 1.1: extrapolation to the fixed point would lead back to the saddle 0.
        let eigenvalues = [1.1];
        let mut theta = model(&[1e-6]);
        let mut acceleration = Acceleration::new();
        assert!(
            acceleration.propose(&metric(&theta), &theta, &map(&theta, &eigenvalues)).is_none()
        );
        theta = map(&theta, &eigenvalues);
        for factor in [2.0, 4.0, 8.0, 16.0] {
            let next = map(&theta, &eigenvalues);
            let proposal = acceleration.propose(&metric(&theta), &theta, &next).unwrap();
            let step = next.mean()[0] - theta.mean()[0];
            let moved = proposal.theta.mean()[0] - theta.mean()[0];
            assert!((moved - factor * step).abs() < 1e-9 * moved, "{factor}");
            assert_eq!(proposal.remaining_gain, f64::INFINITY);
            assert!(acceleration.secants.is_empty());
            acceleration.accept();
            theta = proposal.theta;
        }
        // A rejection takes back two doublings.
        acceleration.reject();
        let next = map(&theta, &eigenvalues);
        let proposal = acceleration.propose(&metric(&theta), &theta, &next).unwrap();
        let ratio = (proposal.theta.mean()[0] - theta.mean()[0]) / (0.1 * theta.mean()[0]);
        assert!((ratio - 8.0).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn the_step_factor_and_the_ridge_are_bounded() {
        let mut acceleration = Acceleration::<IsotropicGaussian<f64>>::new();
        (0..50).for_each(|_| acceleration.accept());
        assert_eq!((acceleration.step_factor, acceleration.ridge), (MAX_STEP_FACTOR, MIN_RIDGE));
        (0..50).for_each(|_| acceleration.reject());
        assert_eq!((acceleration.step_factor, acceleration.ridge), (MIN_STEP_FACTOR, MAX_RIDGE));
    }

    #[test]
    fn a_rejection_drops_the_older_half_and_stays_closer_to_em() {
        let eigenvalues = [0.95, 0.9, 0.8, 0.6, 0.5, 0.4];
        let mut theta = model(&[1.0; 6]);
        let mut acceleration = Acceleration::new();
        for _ in 0..=DEPTH + 3 {
            let next = map(&theta, &eigenvalues);
            acceleration.propose(&metric(&theta), &theta, &next);
            theta = next;
        }
        assert_eq!(acceleration.secants.len(), DEPTH);
        let newest = acceleration.secants[DEPTH - 1].displacement.augmented.clone();
        acceleration.reject();
        assert_eq!(acceleration.secants.len(), DEPTH / 2);
        assert_eq!(acceleration.secants[DEPTH / 2 - 1].displacement.augmented, newest);
        // A larger ridge shrinks the weights: the displacement tends to the EM step itself.
        let step = Step::between(&theta, &map(&theta, &eigenvalues));
        let distance = |ridge: f64| {
            let mut rest = acceleration.anderson_step(&metric(&theta), &step, ridge).unwrap();
            rest.add_scaled(-1.0, &step);
            rest.augmented.norm()
        };
        assert!(distance(1e6) < 1e-3 * distance(MIN_RIDGE));
        assert!(distance(1e-3) < distance(MIN_RIDGE));
    }

    #[test]
    fn a_rotation_of_the_history_rotates_the_proposal() {
        let (c, s) = (0.6, 0.8);
        let rotation = DMatrix::from_row_slice(2, 2, &[c, -s, s, c]);
        let noise = IsotropicGaussian::fixed(1.0).unwrap();
        let at = |scale: f64| {
            let loadings = DMatrix::from_fn(3, 2, |j, a| scale.powi((j + a + 1) as i32));
            Theta::new(loadings, &DVector::zeros(3), noise)
        };
        let (first, mut second, mut third) = (at(0.9), at(0.8), at(0.75));
        let propose = |acceleration: &mut Acceleration<_>, theta: &_, next: &_| {
            acceleration.propose(&metric(theta), theta, next).unwrap().theta.augmented
        };
        let (mut plain, mut rotated) = (Acceleration::new(), Acceleration::new());
        for acceleration in [&mut plain, &mut rotated] {
            assert!(acceleration.propose(&metric(&first), &first, &second).is_none());
        }
        let mut expected = propose(&mut plain, &second, &third).columns(0, 2) * &rotation;
        rotated.rotate(&rotation);
        second.rotate(&rotation);
        third.rotate(&rotation);
        expected -= propose(&mut rotated, &second, &third).columns(0, 2);
        assert!(expected.amax() < 1e-12);
    }
}

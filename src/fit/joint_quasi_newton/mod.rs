//! Amortised inference for a linear-Gaussian model: joint quasi-Newton ascent of J(θ, φ) in θ and
//! φ.

mod head;
mod point;

pub use head::AffineScaleHead;
pub(crate) use point::JointPoint;

use super::autoencoder_descent::{AutoencoderDescent, random_factors};
use super::quasi_newton::{History, Tangent};
use super::{Fitted, Observer, StopReason, Trace};
use crate::data::ScatterFactor;
use crate::{Error, Real, Result};
use point::{Evaluation, Preconditioner};
use rand::Rng;

/// Joint quasi-Newton (L-BFGS) ascent of the evidence lower bound (ELBO) J of a linear decoder and
/// an affine encoder, from a random initialisation.
///
/// θ = (W, σ²) and φ = (V, the scale of q) move together along one direction; neither is set to its
/// optimum given the other. The initial inverse Hessian is made of the Gauss–Newton block of each
/// (k×k; in the metric of S for V) and of the curvature along the symmetry z → Tz, along which only
/// the prior makes J vary.
///
/// For centred data the derivatives of J with respect to all biases and to the weights of the
/// encoder's variance map are 0 while these weights are 0, which is their initial value. They stay
/// there, and the rest is a function of S alone: the fit runs on a square-root factor of S
/// ([`ScatterFactor`]).
///
/// The first phase minimises the squared error of the two maps, the limit of −J for small noise;
/// after it σ² and the scale of q move as well. From time to time W, V and the scale of q are set
/// to the optimum that leaves WV unchanged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JointQuasiNewton {
    /// Maximum number of iterations of the second phase.
    pub max_iterations: usize,
    /// Tolerance on the remaining gain of J under the current quadratic model, in nats per
    /// observation.
    pub tolerance: f64,
}

impl Default for JointQuasiNewton {
    fn default() -> Self {
        Self { max_iterations: 12_000, tolerance: 1e-6 }
    }
}

impl JointQuasiNewton {
    // Number of consecutive iterations for which the convergence test must hold: one good line
    // search may make a single gain small.
    const IN_A_ROW: usize = 5;

    /// Maximises J of a model with k latent dimensions and an encoder head of family `Q`.
    ///
    /// # Errors
    /// [`Error::LatentDim`], [`Error::Unbounded`], [`Error::Offset`], and errors of the matrix decompositions.
    pub(crate) fn fit<T: Real, Q: AffineScaleHead<T>>(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<JointPoint>> {
        moment.check_encoder(latent_dim)?;
        let root = moment.coordinates();
        let d = moment.data_dim();
        // A share of 1e-4 of the squared error is enough: the second phase refines both maps.
        let first = AutoencoderDescent { tolerance: 1e-4, ..AutoencoderDescent::default() };
        let factors =
            first.descend(moment, random_factors(moment, latent_dim, rng), &mut ())?.model;
        let mut at = JointPoint::from_factors::<T, Q>(factors, root, d)?;
        let mut now = Evaluation::of::<T, Q>(&at, root, d);
        if !now.value.is_finite() {
            return Err(Error::NotPositiveDefinite { size: latent_dim });
        }
        // 20 pairs, the upper end of the usual range (Nocedal & Wright 2006, section 7.2): a pair
        // takes 2(d + r)k numbers, little beside the products with A of an evaluation.
        let mut history = History::new(20);
        let mut trace = Trace::new();
        trace.push(-now.value);
        let mut held = 0;
        for iteration in 0..self.max_iterations {
            // Balancing solves in closed form for what the ascent resolves slowly, the symmetry z →
            // Tz. It clears the L-BFGS memory, and is therefore done less often later on.
            if iteration == 3
                || (iteration > 0 && iteration % if iteration < 100 { 10 } else { 40 } == 0)
            {
                let balanced = at.balanced::<T, Q>()?;
                let there = Evaluation::of::<T, Q>(&balanced, root, d);
                if there.value < now.value {
                    (at, now) = (balanced, there);
                    history.clear();
                }
            }
            let preconditioner = Preconditioner::at::<T, Q>(&at, &now, d)?;
            let newton = |g: &JointPoint| preconditioner.apply::<T, Q>(g);
            let decrement = now.gradient.dot(&newton(&now.gradient));
            let (mut direction, mut slope) = history.downhill(&now.gradient, newton);
            // A step that changes a variance by more than e⁴ is outside of any region in which the
            // quadratic model holds.
            let longest = direction.largest_log_change();
            if longest > 4.0 {
                direction.scale(4.0 / longest);
                slope *= 4.0 / longest;
            }
            // The predicted gain is below the rounding error of J: further steps would follow
            // noise.
            if -slope < 1e-15 * now.value.abs().max(1.0) {
                return Ok(Fitted::new(at, trace, StopReason::Converged));
            }
            // Without pairs the direction has no reliable length: two blocks that move together
            // overshoot by up to a factor of two.
            let first_length = if history.is_empty() { 0.5 } else { 1.0 };
            let evaluate = |length: f64| {
                let mut next = at.clone();
                next.add_scaled(length, &direction);
                let there = Evaluation::of::<T, Q>(&next, root, d);
                let next_slope = there.gradient.dot(&direction);
                (next, there, next_slope)
            };
            let Some((length, next, there)) =
                line_search(now.value, slope, first_length, longest.min(4.0), evaluate)
            else {
                if history.is_empty() {
                    return Ok(Fitted::new(at, trace, StopReason::Converged));
                }
                history.clear();
                continue;
            };
            let mut change = there.gradient.clone();
            change.add_scaled(-1.0, &now.gradient);
            direction.scale(length);
            // A curvature that small beside the decrease along the step is rounding.
            history.push(direction, change, 1e-10 * length * slope.abs());
            let gain = now.value - there.value;
            (at, now) = (next, there);
            trace.push(-now.value);
            if trace.interrupted(observer) {
                return Ok(Fitted::new(at, trace, StopReason::Interrupted));
            }
            // Three tests: the decrement of the preconditioner, that of the quasi-Newton direction,
            // and the gain that was made. ½ of a decrement is the gain that it predicts.
            let small = decrement < 2.0 * self.tolerance
                && -slope < 2.0 * self.tolerance
                && gain < self.tolerance;
            held = if small { held + 1 } else { 0 };
            if held >= Self::IN_A_ROW {
                return Ok(Fitted::new(at, trace, StopReason::Converged));
            }
        }
        Ok(Fitted::new(at, trace, StopReason::IterationLimit))
    }
}

/// Returns a step length that satisfies the strong Wolfe conditions to within rounding (Nocedal &
/// Wright 2006, section 3.5), with the point and its evaluation; the best bracketed point if 30
/// evaluations are not enough, and `None` if none was found.
fn line_search(
    value: f64,
    slope: f64,
    first: f64,
    longest: f64,
    evaluate: impl Fn(f64) -> (JointPoint, Evaluation, f64),
) -> Option<(f64, JointPoint, Evaluation)> {
    // Near the optimum differences of −J are rounding: a rise within it is not an overshoot.
    let rounding = 1e-13 * value.abs().max(1.0);
    let (mut low, mut low_value, mut low_slope) = (0.0, value, slope);
    let (mut high, mut high_slope) = (f64::INFINITY, f64::NAN);
    let mut length = first;
    let mut best: Option<(f64, JointPoint, Evaluation)> = None;
    for _ in 0..30 {
        let (next, there, next_slope) = evaluate(length);
        let finite = there.value.is_finite();
        // Sufficient decrease with c₁ = 1e-4, and curvature with c₂ = 0.5, stricter than the usual
        // 0.9 of quasi-Newton methods.
        let too_high = !finite
            || there.value > value + 1e-4 * length * slope + rounding
            || (there.value > low_value + rounding && low > 0.0);
        if too_high {
            (high, high_slope) = (length, if finite { next_slope } else { f64::INFINITY });
        } else if next_slope.abs() <= 0.5 * slope.abs() {
            return Some((length, next, there));
        } else if next_slope >= 0.0 {
            (high, high_slope) = (length, next_slope);
            best = Some((length, next, there));
        } else {
            (low, low_value, low_slope) = (length, there.value, next_slope);
            best = Some((length, next, there));
        }
        // No bracket yet: extrapolate. A bracket: the zero of the secant through the two slopes,
        // kept away from the ends by a tenth of the width, or bisection if there are no two slopes
        // of opposite sign.
        length = if high.is_infinite() {
            if longest * length > 8.0 && best.is_some() {
                break;
            }
            2.5 * length
        } else {
            let width = high - low;
            let secant = low + width * -low_slope / (high_slope - low_slope);
            let guess = if high_slope.is_finite() && high_slope > 0.0 && low_slope < 0.0 {
                secant
            } else {
                low + 0.5 * width
            };
            guess.clamp(low + 0.1 * width, high - 0.1 * width)
        };
    }
    best
}

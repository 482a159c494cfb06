//! Amortised inference of a linear-Gaussian model: θ and φ together up the gradient of J(θ, φ).

mod head;
mod point;

pub use head::AffineScaleHead;
pub(crate) use point::JointPoint;

use super::autoencoder_descent::{AutoencoderDescent, random_factors};
use super::quasi_newton::{History, Tangent};
use super::{Fitted, StopReason, Trace};
use crate::data::ScatterFactor;
use crate::{Error, Real, Result};
use point::{Evaluation, Preconditioner};
use rand::Rng;

/// Joint quasi-Newton ascent on the J of a linear decoder and an affine encoder, from a random
/// start.
///
/// θ = (W, σ²) and φ = (V, the scale of q) move together along one direction; none is set to its
/// optimum given the other. The initial inverse Hessian is the Gauss–Newton block of each (k×k, and
/// the metric of S for V), and that of the symmetry z → Tz, along which J is flat but for the
/// prior.
///
/// On data about their mean the derivative of J by the encoder's variance map and by all biases is
/// 0 as long as the map's weights are 0, where it starts: they stay there, and the rest is a
/// function of S alone. It is run on a square root of S ([`ScatterFactor`]).
///
/// The first phase takes the limit of small noise of the same J, which is the squared error of the
/// two maps; from there σ² and the scale of q move as well. From time to time W, V and the scale of
/// q are changed to the best that leaves WV as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JointQuasiNewton {
    /// The most iterations of the second phase.
    pub max_iterations: usize,
    /// The gain of J that may remain by the quadratic model at hand, in nats per observation.
    pub tolerance: f64,
}

impl Default for JointQuasiNewton {
    fn default() -> Self {
        Self { max_iterations: 12_000, tolerance: 1e-6 }
    }
}

impl JointQuasiNewton {
    const IN_A_ROW: usize = 5;

    /// Raises J of a model with k latent dimensions and a head of family `Q`.
    ///
    /// # Errors
    /// [`Error::LatentDim`], [`Error::Unbounded`], and those of the decompositions.
    pub(crate) fn fit<T: Real, Q: AffineScaleHead<T>>(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<JointPoint>> {
        moment.check_noise_remains(latent_dim)?;
        let root = moment.coordinates();
        let d = moment.data_dim();
        let first = AutoencoderDescent { tolerance: 1e-4, ..AutoencoderDescent::default() };
        let factors = first.descend(moment, random_factors(moment, latent_dim, rng))?.model;
        let mut at = JointPoint::from_factors::<T, Q>(factors, root, d)?;
        let mut now = Evaluation::of::<T, Q>(&at, root, d);
        if !now.value.is_finite() {
            return Err(Error::NotPositiveDefinite { size: latent_dim });
        }
        let mut history = History::new(20);
        let mut trace = Trace::new();
        trace.push(-now.value);
        let mut held = 0;
        for iteration in 0..self.max_iterations {
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
            let longest = direction.largest_log_change();
            if longest > 4.0 {
                direction.scale(4.0 / longest);
                slope *= 4.0 / longest;
            }
            if -slope < 1e-15 * now.value.abs().max(1.0) {
                return Ok(Fitted { model: at, trace, stop: StopReason::Converged });
            }
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
                    return Ok(Fitted { model: at, trace, stop: StopReason::Converged });
                }
                history.clear();
                continue;
            };
            let mut change = there.gradient.clone();
            change.add_scaled(-1.0, &now.gradient);
            direction.scale(length);
            history.push(direction, change, 1e-10 * length * slope.abs());
            let gain = now.value - there.value;
            (at, now) = (next, there);
            trace.push(-now.value);
            let small = decrement < 2.0 * self.tolerance
                && -slope < 2.0 * self.tolerance
                && gain < self.tolerance;
            held = if small { held + 1 } else { 0 };
            if held >= Self::IN_A_ROW {
                return Ok(Fitted { model: at, trace, stop: StopReason::Converged });
            }
        }
        Ok(Fitted { model: at, trace, stop: StopReason::IterationLimit })
    }
}

/// A length along the direction with enough descent and not too steep a slope (the strong Wolfe
/// conditions, to within rounding).
fn line_search(
    value: f64,
    slope: f64,
    first: f64,
    longest: f64,
    evaluate: impl Fn(f64) -> (JointPoint, Evaluation, f64),
) -> Option<(f64, JointPoint, Evaluation)> {
    let rounding = 1e-13 * value.abs().max(1.0);
    let (mut low, mut low_value, mut low_slope) = (0.0, value, slope);
    let (mut high, mut high_slope) = (f64::INFINITY, f64::NAN);
    let mut length = first;
    let mut best: Option<(f64, JointPoint, Evaluation)> = None;
    for _ in 0..30 {
        let (next, there, next_slope) = evaluate(length);
        let finite = there.value.is_finite();
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

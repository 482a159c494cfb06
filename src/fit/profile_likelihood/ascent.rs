//! Projected quasi-Newton ascent of the profile likelihood from one initialisation, with
//! ln ψ_j ≥ ln floor.
//!
//! An iteration divides the variables into *bound* ones, at or near the floor with a gradient that
//! points below it, and *free* ones. The free ones move along the L-BFGS direction, the bound ones
//! to the floor, and the line search follows the projection of that arc onto the bounds. For short
//! steps the projection of such an arc always is a direction of descent
//! ([Bertsekas 1982](https://doi.org/10.1137/0320018)), so that a point where no step helps is
//! stationary up to rounding.

use super::super::quasi_newton::{History, Tangent};
use super::super::{Observer, StopReason, Trace};
use super::profile::{Correlations, Curvature, Profile};
use crate::Result;
use nalgebra::DVector;

impl Tangent for DVector<f64> {
    fn dot(&self, other: &Self) -> f64 {
        nalgebra::Matrix::dot(self, other)
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.axpy(factor, other, 1.0);
    }
    fn scale(&mut self, factor: f64) {
        *self *= factor;
    }
}

/// Largest distance from ln floor, in ln ψ, at which a variable can be bound.
// Without it a variable just above the floor would shorten or bend the arc again and again.
const NEAR_FLOOR: f64 = 0.05;

/// Longest step of one ln ψ_j: a factor of 20 in a variance.
const LONGEST: f64 = 3.0;

/// Number of consecutive small gains that count as convergence.
const IN_A_ROW: usize = 2;

/// A point of the ascent: its profile, the trace up to there, and why the ascent ended.
pub(super) struct Ascended {
    pub(super) profile: Profile,
    pub(super) trace: Trace,
    pub(super) stop: StopReason,
}

/// Limits of one ascent.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_iterations: usize,
    /// Tolerance on the remaining gain of J, in nats per observation.
    pub(super) tolerance: f64,
    /// ln floor.
    pub(super) floor: f64,
}

/// The free and the bound variables at a point.
#[derive(PartialEq)]
struct Sets {
    free: Vec<usize>,
    bound: Vec<usize>,
}

impl Sets {
    fn at(profile: &Profile, floor: f64) -> Self {
        let (bound, free) = (0..profile.gradient.len()).partition(|&j| {
            profile.log_variances[j] <= floor + NEAR_FLOOR && profile.gradient[j] > 0.0
        });
        Self { free, bound }
    }

    /// Sets the entries of the bound variables to 0.
    fn mask(&self, mut v: DVector<f64>) -> DVector<f64> {
        self.bound.iter().for_each(|&j| v[j] = 0.0);
        v
    }
}

/// Maximises the profile likelihood from `start`.
pub(super) fn ascend(
    correlations: &Correlations<'_>,
    start: DVector<f64>,
    limits: Limits,
    observer: &mut dyn Observer,
) -> Result<Ascended> {
    let floor = limits.floor;
    let mut at = correlations.profile(start)?;
    let mut trace = Trace::new();
    // 10 pairs are 20d numbers, nothing beside the eigendecomposition of each evaluation.
    let mut history = History::new(10);
    let mut sets = Sets { free: Vec::new(), bound: Vec::new() };
    let mut held = 0;
    let stop = loop {
        trace.push(at.objective());
        if trace.interrupted(observer) {
            break StopReason::Interrupted;
        }
        if held >= IN_A_ROW {
            break StopReason::Converged;
        }
        if trace.len() > limits.max_iterations {
            break StopReason::IterationLimit;
        }
        // The pairs belong to one set of free variables, and are cleared when it changes.
        let now = Sets::at(&at, floor);
        if now != sets {
            history.clear();
            sets = now;
        }
        let gradient = sets.mask(at.gradient.clone());
        let curvature = Curvature::of(&at, &sets.free);
        // The decrement predicts a gain of ½ of itself in the value −2J, of ¼ in J; what the bound
        // variables gain on their way to the floor is of first order.
        let decrement = nalgebra::Matrix::dot(&gradient, &curvature.solve(&gradient));
        let to_floor: f64 =
            sets.bound.iter().map(|&j| at.gradient[j] * (at.log_variances[j] - floor)).sum();
        let predicted = 0.25 * decrement + 0.5 * to_floor;
        let Some(next) = step(correlations, &at, &sets, &curvature, &mut history, floor)? else {
            // No step along any of the directions lowers the value: the gradient is 0, or as small
            // as the rounding error of the value lets it become.
            let resolved = limits.tolerance.max(at.rounding().sqrt());
            break if predicted <= resolved { StopReason::Converged } else { StopReason::Diverged };
        };
        let gain = 0.5 * (at.value - next.value);
        held = if predicted.max(gain) < limits.tolerance { held + 1 } else { 0 };
        let moved = sets.mask(&next.log_variances - &at.log_variances);
        let change = sets.mask(&next.gradient - &at.gradient);
        history.push(moved, change, 1e-14);
        at = next;
    };
    Ok(Ascended { profile: at, trace, stop })
}

/// Returns the next point: along the L-BFGS direction, or where that fails along the direction of
/// the approximate Hessian, or of its diagonal. `None` if none of them lowers the value.
fn step(
    correlations: &Correlations<'_>,
    at: &Profile,
    sets: &Sets,
    curvature: &Curvature,
    history: &mut History<DVector<f64>>,
    floor: f64,
) -> Result<Option<Profile>> {
    let gradient = sets.mask(at.gradient.clone());
    let mut directions: Vec<DVector<f64>> = Vec::with_capacity(3);
    if !history.is_empty() {
        directions.push(history.descent(&gradient, |g| curvature.solve(g)));
    }
    directions.push(-curvature.solve(&gradient));
    directions.push(-curvature.solve_diagonal(&gradient));
    for direction in directions {
        let mut direction = sets.mask(direction);
        sets.bound.iter().for_each(|&j| direction[j] = floor - at.log_variances[j]);
        if let Some(next) = line_search(correlations, at, direction, floor)? {
            return Ok(Some(next));
        }
        history.clear();
    }
    Ok(None)
}

/// Backtracking line search on the projection arc: returns the first point along a direction,
/// halved as often as necessary and projected onto ψ_j ≥ floor, that lowers the value enough
/// (Armijo condition).
fn line_search(
    correlations: &Correlations<'_>,
    at: &Profile,
    mut direction: DVector<f64>,
    floor: f64,
) -> Result<Option<Profile>> {
    // Each entry is bounded by itself, as one variable near its floor must not shorten the step of
    // all others. If the bounded direction is not one of descent, the whole is scaled.
    let bounded = direction.map(|d| d.clamp(-LONGEST, LONGEST));
    if nalgebra::Matrix::dot(&bounded, &at.gradient) < 0.0 {
        direction = bounded;
    } else {
        direction *= (LONGEST / direction.amax()).min(1.0);
    }
    // 40 halvings bring a step of 3 in ln ψ down to 3e-12.
    for _ in 0..40 {
        let moved = (&at.log_variances + &direction).map(|l| l.max(floor));
        let expected = nalgebra::Matrix::dot(&(&moved - &at.log_variances), &at.gradient);
        // A long projected step may lead uphill, because the projection bends the direction; a
        // shorter one leads downhill.
        if expected < 0.0 {
            let next = correlations.profile(moved)?;
            if next.value.is_finite() && next.value <= at.value + 1e-4 * expected + at.rounding() {
                return Ok((next.value < at.value).then_some(next));
            }
        }
        direction *= 0.5;
    }
    Ok(None)
}

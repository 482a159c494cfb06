//! Quasi-Newton ascent of J over θ and φ at once, or over φ alone.

use super::problem::{Gradient, Problem, Theta, symmetric};
use super::shape::Shape;
use crate::fit::quasi_newton::{History, Tangent};
use crate::fit::{Observer, StopReason, Trace};
use crate::likelihood::Univariate;
use crate::linalg::parallel::map_blocks;
use nalgebra::{DMatrix, DVector};

/// Settings of the ascent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// Gain of J, in nats per observation, below which a window of iterations ends the ascent.
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: usize,
}

/// A point, a step or a gradient: θ and φ.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) theta: Theta,
    pub(crate) phi: DMatrix<f64>,
}

impl Point {
    fn slices(&self) -> [&[f64]; 4] {
        let [loadings, intercepts, xi] = self.theta.slices();
        [loadings, intercepts, xi, self.phi.as_slice()]
    }

    fn slices_mut(&mut self) -> [&mut [f64]; 4] {
        let [loadings, intercepts, xi] = self.theta.slices_mut();
        [loadings, intercepts, xi, self.phi.as_mut_slice()]
    }
}

impl Tangent for Point {
    fn dot(&self, other: &Self) -> f64 {
        let pairs = self.slices().into_iter().zip(other.slices());
        pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>()).sum()
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        for (to, from) in self.slices_mut().into_iter().zip(other.slices()) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
        }
    }
    fn scale(&mut self, factor: f64) {
        self.slices_mut().into_iter().flatten().for_each(|v| *v *= factor);
    }
}

/// Pairs of steps and gradient changes that are kept.
const MEMORY: usize = 30;
/// Iterations whose common gain is compared with the tolerance.
const WINDOW: usize = 10;
/// Smallest curvature of a variable or observation beside the prior's, which is 1.
const LEAST: f64 = 1e-8;

/// The block-diagonal inverse curvature: a block for each variable and each observation.
pub(super) struct Preconditioner {
    variables: Vec<DMatrix<f64>>,
    parameters: Vec<f64>,
    observations: Vec<DMatrix<f64>>,
    factors: Vec<DMatrix<f64>>,
    weights: Vec<f64>,
    shape: Shape,
}

/// The Cholesky factor of a positive semidefinite matrix with a small multiple of the identity.
fn root(mut matrix: DMatrix<f64>) -> DMatrix<f64> {
    let size = matrix.nrows();
    let ridge = LEAST * (matrix.trace() / size.max(1) as f64 + 1.0);
    for a in 0..size {
        matrix[(a, a)] += ridge;
    }
    let deviations = matrix.diagonal().map(|v| v.abs().sqrt());
    matrix.cholesky().map_or_else(|| DMatrix::from_diagonal(&deviations), |c| c.unpack())
}

/// Solves LLᵗx = b in place.
fn solve(factor: &DMatrix<f64>, b: &mut DVector<f64>) {
    factor.solve_lower_triangular_mut(b);
    factor.tr_solve_lower_triangular_mut(b);
}

impl Preconditioner {
    pub(super) fn new<U: Univariate<f64>>(
        problem: &Problem<'_, U>,
        point: &Point,
        gradient: &Gradient,
        frozen: bool,
    ) -> Self {
        let k = problem.latent_dim;
        let curvature = problem.curvature(&point.theta, &point.phi);
        let inverse = problem
            .prior_moments(&point.phi)
            .1
            .cholesky()
            .map_or_else(|| DMatrix::identity(k, k), |c| c.inverse());
        let n = problem.table.len();
        let work = n.saturating_mul(k * k * k + 1);
        let weights = problem.table.weights.clone();
        let observations = map_blocks(n, work, |i| {
            let own = symmetric(k, curvature.observations.column(i).as_slice());
            root(own + &inverse * weights[i])
        });
        let factors = (0..n)
            .map(|i| {
                let mut factor = DMatrix::zeros(k, k);
                problem.shape.factor_into(point.phi.column(i).as_slice(), &mut factor);
                factor
            })
            .collect();
        let (mut variables, mut parameters) = (Vec::new(), Vec::new());
        if !frozen {
            variables = (0..problem.data_dim())
                .map(|j| root(symmetric(k + 1, curvature.variables.column(j).as_slice())))
                .collect();
            let second = problem.second_by_parameters(&point.theta, &point.phi, gradient);
            let least = 1e-3 * problem.table.total_weight;
            parameters = second.into_iter().map(|s| 1.0 / s.abs().max(least)).collect();
        }
        Self { variables, parameters, observations, factors, weights, shape: problem.shape }
    }

    /// The part for θ.
    pub(super) fn of_theta(self) -> Self {
        Self { observations: Vec::new(), factors: Vec::new(), weights: Vec::new(), ..self }
    }

    /// The product of the inverse curvature and a gradient.
    pub(super) fn apply(&self, gradient: &Point) -> Point {
        let mut step = gradient.clone();
        let k = step.theta.loadings.ncols();
        for (j, factor) in self.variables.iter().enumerate() {
            let mut own = DVector::zeros(k + 1);
            own.rows_mut(0, k).copy_from(&gradient.theta.loadings.row(j).transpose());
            own[k] = gradient.theta.intercepts[j];
            solve(factor, &mut own);
            step.theta.loadings.row_mut(j).copy_from(&own.rows(0, k).transpose());
            step.theta.intercepts[j] = own[k];
        }
        for (step, inverse) in step.theta.xi.iter_mut().zip(&self.parameters) {
            *step *= inverse;
        }
        let k = self.observations.first().map_or(0, DMatrix::nrows);
        for (i, factor) in self.observations.iter().enumerate() {
            let mut column = step.phi.column_mut(i);
            let mut own = column.rows(0, k).into_owned();
            solve(factor, &mut own);
            column.rows_mut(0, k).copy_from(&own);
            let weight = self.weights[i];
            match self.shape {
                // ∂²J/∂l² = −½ for each dimension at the optimum.
                Shape::Isotropic => column[k] *= 2.0 / (weight * k.max(1) as f64),
                Shape::Diagonal => {
                    column.rows_mut(k, k).iter_mut().for_each(|v| *v *= 2.0 / weight);
                }
                Shape::Full => relative_step(&self.factors[i], weight, column.as_mut_slice()),
            }
        }
        step
    }
}

/// The step of L in coordinates L(I + M), in which −∂²J is 1 for the entries of M below the diagonal
/// and 2 on it where LLᵗ is the inverse curvature.
fn relative_step(factor: &DMatrix<f64>, weight: f64, phi: &mut [f64]) {
    let k = factor.nrows();
    let mut gradient = DMatrix::zeros(k, k);
    let mut below = 2 * k;
    for a in 0..k {
        // l = 2 ln L_aa, so that ∂/∂L_aa = (2/L_aa) ∂/∂l.
        gradient[(a, a)] = 2.0 * phi[k + a] / factor[(a, a)];
        for row in a + 1..k {
            gradient[(row, a)] = phi[below];
            below += 1;
        }
    }
    let mut relative = factor.tr_mul(&gradient).lower_triangle();
    for a in 0..k {
        relative[(a, a)] *= 0.5;
    }
    let step = factor * relative / weight;
    let mut below = 2 * k;
    for a in 0..k {
        phi[k + a] = 2.0 * step[(a, a)] / factor[(a, a)];
        for row in a + 1..k {
            phi[below] = step[(row, a)];
            below += 1;
        }
    }
}

/// The result of an ascent.
pub(crate) struct Ascended {
    pub(crate) point: Point,
    pub(crate) trace: Trace,
    pub(crate) stop: StopReason,
}

/// Ascends J from a point at which it is finite; with `frozen`, θ does not move.
pub(crate) fn ascend<U: Univariate<f64>>(
    problem: &Problem<'_, U>,
    start: Point,
    frozen: bool,
    settings: Settings,
    observer: &mut dyn Observer,
) -> Ascended {
    let total = problem.table.total_weight;
    let (mut value, mut descent) = downhill(problem, &start, frozen);
    let mut point = start;
    let mut trace = Trace::new();
    let mut history = History::new(MEMORY);
    trace.push(-value / total);
    let mut preconditioner = None;
    let mut refreshed = 0;
    let mut renewed = false;
    let mut stop = StopReason::IterationLimit;
    for iteration in 0..settings.max_iterations {
        if preconditioner.is_none() || refresh_at(iteration, refreshed) {
            let gradient = gradient_of(value, &descent);
            preconditioner = Some(Preconditioner::new(problem, &point, &gradient, frozen));
            refreshed = iteration;
        }
        let Some(inverse) = &preconditioner else { break };
        let (direction, slope) = history.downhill(&descent, |v| masked(inverse.apply(v), frozen));
        let noise = 1e-13 * value.abs();
        let found = search(problem, &point, value, (&direction, slope), frozen);
        let Some((next, next_value, next_descent)) = found else {
            // No step lowers −J: at the optimum, but for rounding; or the memory misleads.
            if renewed || -slope < settings.tolerance * total + noise {
                stop = StopReason::Converged;
                break;
            }
            history.clear();
            preconditioner = None;
            renewed = true;
            continue;
        };
        let mut change = next_descent.clone();
        change.add_scaled(-1.0, &descent);
        let mut step = next.clone();
        step.add_scaled(-1.0, &point);
        let least = 1e-14 * step.dot(&step).sqrt() * change.dot(&change).sqrt();
        history.push(step, change, least);
        (point, value, descent) = (next, next_value, next_descent);
        renewed = false;
        trace.push(-value / total);
        if trace.interrupted(observer) {
            stop = StopReason::Interrupted;
            break;
        }
        let values = trace.values();
        if values.len() > WINDOW {
            let gain = values[values.len() - 1] - values[values.len() - 1 - WINDOW];
            if gain < settings.tolerance + noise / total {
                stop = StopReason::Converged;
                break;
            }
        }
    }
    Ascended { point, trace, stop }
}

/// Whether the curvature is computed anew: often at first, then every twenty iterations.
fn refresh_at(iteration: usize, last: usize) -> bool {
    matches!(iteration, 3 | 8 | 15) || iteration - last >= 20
}

fn masked(mut step: Point, frozen: bool) -> Point {
    if frozen {
        step.theta.slices_mut().into_iter().flatten().for_each(|v| *v = 0.0);
    }
    step
}

/// −J and its gradient.
fn downhill<U: Univariate<f64>>(
    problem: &Problem<'_, U>,
    point: &Point,
    frozen: bool,
) -> (f64, Point) {
    let Gradient { value, theta, phi } = problem.evaluate(&point.theta, &point.phi);
    let mut gradient = masked(Point { theta, phi }, frozen);
    gradient.scale(-1.0);
    (-value, gradient)
}

fn gradient_of(value: f64, descent: &Point) -> Gradient {
    let mut ascent = descent.clone();
    ascent.scale(-1.0);
    Gradient { value: -value, theta: ascent.theta, phi: ascent.phi }
}

/// Backtracks along a direction until −J falls by a share of what its slope promises.
fn search<U: Univariate<f64>>(
    problem: &Problem<'_, U>,
    point: &Point,
    value: f64,
    (direction, slope): (&Point, f64),
    frozen: bool,
) -> Option<(Point, f64, Point)> {
    const SUFFICIENT: f64 = 1e-4;
    if slope >= 0.0 || slope.is_nan() {
        return None;
    }
    let mut length = 1.0;
    for _ in 0..40 {
        let mut next = point.clone();
        next.add_scaled(length, direction);
        let (next_value, next_descent) = downhill(problem, &next, frozen);
        let finite = next_value.is_finite() && next_descent.dot(&next_descent).is_finite();
        if finite && next_value <= value + SUFFICIENT * length * slope {
            return (next_value < value).then_some((next, next_value, next_descent));
        }
        // The minimum of the parabola through both values and the slope.
        let excess = next_value - value - length * slope;
        let best = -0.5 * length * length * slope / excess;
        length = if finite && excess > 0.0 {
            best.clamp(0.1 * length, 0.5 * length)
        } else {
            0.25 * length
        };
    }
    None
}

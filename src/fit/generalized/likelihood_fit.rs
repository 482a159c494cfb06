//! Maximum likelihood by quadrature, for k ≤ 2: log p(x), its gradient by Fisher's identity, and
//! the observed information.

use super::ascent::{Point, Preconditioner, Settings};
use super::marginal::{Marginal, Place, integrate};
use super::problem::{Gradient, Problem, Theta};
use crate::fit::quasi_newton::{History, Tangent};
use crate::fit::{Observer, StopReason, Trace};
use crate::likelihood::Univariate;
use crate::linalg::parallel::map_blocks;
use nalgebra::DMatrix;

/// Σ w_i log p(x_i) and its gradient by θ, with the places of the lattices.
pub(crate) struct LogLikelihood {
    pub(crate) value: f64,
    pub(crate) gradient: Theta,
    pub(crate) places: Vec<Place>,
    /// log p(x_i) and its estimated error, of each distinct observation.
    pub(crate) each: Vec<(f64, f64)>,
}

/// Observations whose gradients are summed together.
const GROUP: usize = 64;

impl<U: Univariate<f64>> Problem<'_, U> {
    /// The lattices at the moments of q.
    pub(crate) fn places(&self, phi: &DMatrix<f64>) -> Vec<Place> {
        let k = self.latent_dim;
        let place = |phi: nalgebra::DVectorView<'_, f64>| {
            let mut factor = DMatrix::zeros(k, k);
            self.shape.factor_into(phi.as_slice(), &mut factor);
            Place { mean: phi.rows(0, k).into_owned(), factor }
        };
        phi.column_iter().map(place).collect()
    }

    /// log p(x_i) of all distinct observations, and unless θ is not to move the gradient by it:
    /// Fisher's identity, ∂ log p(x) = E[∂ log p(x|z) | x].
    pub(crate) fn log_likelihood(
        &self,
        theta: &Theta,
        places: &[Place],
        with_gradient: bool,
    ) -> LogLikelihood {
        let (d, k, n) = (self.data_dim(), self.latent_dim, self.table.len());
        let nodes = if k == 2 { 2025 } else { 81 };
        let work = n.saturating_mul(d).saturating_mul(32 * nodes);
        let groups = map_blocks(n.div_ceil(GROUP), work, |group| {
            let mut sum = Theta::zeros(d, k, theta.xi.len());
            let observations = group * GROUP..n.min((group + 1) * GROUP);
            let found: Vec<(f64, f64, Place)> = observations
                .map(|i| {
                    let (x, base) = self.observation(theta, i);
                    let marginal = integrate(
                        |nodes| self.log_densities(theta, (&x, &base), nodes),
                        places[i].clone(),
                    );
                    if with_gradient {
                        self.add_score(theta, (i, &x, &base), &marginal, &mut sum);
                    }
                    (marginal.value, marginal.error, marginal.place)
                })
                .collect();
            (sum, found)
        });
        let mut result = LogLikelihood {
            value: 0.0,
            gradient: Theta::zeros(d, k, theta.xi.len()),
            places: Vec::with_capacity(n),
            each: Vec::with_capacity(n),
        };
        for (gradient, found) in groups {
            result.gradient.add(&gradient);
            for (value, error, place) in found {
                result.value += self.table.weights[result.each.len()] * value;
                result.each.push((value, error));
                result.places.push(place);
            }
        }
        result
    }

    /// The values of one observation, and its predictors at z = 0.
    fn observation(&self, theta: &Theta, i: usize) -> (Vec<f64>, Vec<f64>) {
        let mut x = vec![0.0; self.data_dim()];
        let mut base = theta.intercepts.as_slice().to_vec();
        self.table.values_into(i, &mut x);
        self.table.add_offsets(i, &mut base);
        (x, base)
    }

    /// ln p(x|z) at each node.
    fn log_densities(
        &self,
        theta: &Theta,
        (x, base): (&[f64], &[f64]),
        nodes: &DMatrix<f64>,
    ) -> Vec<f64> {
        let density = |z: nalgebra::DVectorView<'_, f64>| -> f64 {
            let mut total = 0.0;
            for (j, &x) in x.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
                let y = base[j] + predictor(theta, j, z.as_slice());
                let xi = &theta.xi[self.likelihood.range(j)];
                total += self.likelihood.distribution(j).log_density(x, y, xi);
            }
            total
        };
        nodes.column_iter().map(density).collect()
    }

    /// Adds the weighted posterior mean of the derivative of ln p(x|z) by θ.
    fn add_score(
        &self,
        theta: &Theta,
        (i, x, base): (usize, &[f64], &[f64]),
        marginal: &Marginal,
        sum: &mut Theta,
    ) {
        let mut scratch = theta.xi.clone();
        for (z, share) in marginal.nodes.column_iter().zip(&marginal.shares) {
            // Far out the posterior has no share.
            if *share < 1e-18 {
                continue;
            }
            let weight = share * self.table.weights[i];
            for (j, &x) in x.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
                let y = base[j] + predictor(theta, j, z.as_slice());
                let places = self.likelihood.range(j);
                let distribution = self.likelihood.distribution(j);
                let (xi, own) = (&theta.xi[places.clone()], &mut scratch[places.clone()]);
                let (_, slope) = distribution.log_density_gradient(x, y, xi, own);
                sum.intercepts[j] += weight * slope;
                for (a, z) in z.iter().enumerate() {
                    sum.loadings[(j, a)] += weight * slope * z;
                }
                for place in places {
                    sum.xi[place] += weight * scratch[place];
                }
            }
        }
    }

    /// Maximises Σ w_i log p(x_i) over θ from the maximum of J.
    pub(crate) fn maximize_likelihood(
        &self,
        start: &Point,
        settings: Settings,
        observer: &mut dyn Observer,
    ) -> (Theta, Trace, StopReason) {
        const MEMORY: usize = 20;
        const WINDOW: usize = 4;
        let total = self.table.total_weight;
        let at_start: Gradient = self.evaluate(&start.theta, &start.phi);
        let inverse = Preconditioner::new(self, start, &at_start, false).of_theta();
        let point_of = |theta: Theta| Point { theta, phi: DMatrix::zeros(0, 0) };
        let mut theta = start.theta.clone();
        let mut found = self.log_likelihood(&theta, &self.places(&start.phi), true);
        let mut trace = Trace::new();
        trace.push(found.value / total);
        let mut history: History<Point> = History::new(MEMORY);
        let mut stop = StopReason::IterationLimit;
        for _ in 0..settings.max_iterations {
            let mut descent = point_of(found.gradient.clone());
            descent.scale(-1.0);
            let (direction, slope) = history.downhill(&descent, |v| inverse.apply(v));
            let Some((next, next_found)) = self.longer(&theta, &found, (&direction, slope)) else {
                stop = StopReason::Converged;
                break;
            };
            let mut step = point_of(next.clone());
            step.add_scaled(-1.0, &point_of(theta));
            let mut change = descent;
            change.scale(-1.0);
            change.add_scaled(-1.0, &point_of(next_found.gradient.clone()));
            let least = 1e-14 * step.dot(&step).sqrt() * change.dot(&change).sqrt();
            history.push(step, change, least);
            (theta, found) = (next, next_found);
            trace.push(found.value / total);
            if trace.interrupted(observer) {
                stop = StopReason::Interrupted;
                break;
            }
            let values = trace.values();
            if values.len() > WINDOW {
                let gain = values[values.len() - 1] - values[values.len() - 1 - WINDOW];
                if gain < settings.tolerance {
                    stop = StopReason::Converged;
                    break;
                }
            }
        }
        (theta, trace, stop)
    }

    /// Backtracks along a direction until log p rises by a share of what its slope promises.
    fn longer(
        &self,
        theta: &Theta,
        found: &LogLikelihood,
        (direction, slope): (&Point, f64),
    ) -> Option<(Theta, LogLikelihood)> {
        if slope >= 0.0 || slope.is_nan() {
            return None;
        }
        let mut length = 1.0;
        for _ in 0..30 {
            let mut next = Point { theta: theta.clone(), phi: DMatrix::zeros(0, 0) };
            next.add_scaled(length, direction);
            let there = self.log_likelihood(&next.theta, &found.places, true);
            if there.value.is_finite() && there.value >= found.value - 1e-4 * length * slope {
                return (there.value > found.value).then_some((next.theta, there));
            }
            length *= 0.4;
        }
        None
    }

    /// The observed information −∂² log p/∂θ∂θᵗ, by central differences of the gradient, in the order
    /// loadings, intercepts, ξ.
    pub(crate) fn information(&self, theta: &Theta, places: &[Place]) -> DMatrix<f64> {
        let count: usize = theta.slices().iter().map(|s| s.len()).sum();
        let flat = |theta: &Theta| -> Vec<f64> { theta.slices().concat() };
        let mut information = DMatrix::zeros(count, count);
        for p in 0..count {
            let moved = |sign: f64| {
                let mut moved = theta.clone();
                let mut step = 0.0;
                if let Some(value) = moved.slices_mut().into_iter().flatten().nth(p) {
                    step = 1e-4 * (1.0 + value.abs());
                    *value += sign * step;
                }
                (flat(&self.log_likelihood(&moved, places, true).gradient), step)
            };
            let ((up, step), (down, _)) = (moved(1.0), moved(-1.0));
            for (q, (up, down)) in up.iter().zip(&down).enumerate() {
                information[(q, p)] = (down - up) / (2.0 * step);
            }
        }
        (&information + information.transpose()) * 0.5
    }
}

/// w_jᵗz.
fn predictor(theta: &Theta, j: usize, z: &[f64]) -> f64 {
    z.iter().enumerate().map(|(a, z)| theta.loadings[(j, a)] * z).sum()
}

//! The expectation of a log-density over a normal predictor, in closed form or by quadrature.

use crate::likelihood::{ExpectedLogDensity, Univariate};

/// Step of the coarsest lattice, in standard deviations of the predictor.
const COARSE: f64 = 0.9;
/// Halvings of the lattice before the result is taken as it is.
const HALVINGS: usize = 8;
/// Largest difference between the last two lattices, in nats.
// The error of the trapezoidal rule falls like A exp(−c/h) at least: that of the finer lattice is
// the square of the difference over the amplitude A, and below 1e-10 for A above 1e-4.
const DIFFERENCE: f64 = 1e-7;
/// The lattice ends where a node contributes less than this share, and not before [`LEAST_REACH`].
const NEGLIGIBLE: f64 = 1e-14;
const LEAST_REACH: f64 = 6.0;
/// The lattice ends here in any case: the weight is below the smallest number.
const REACH: f64 = 38.0;
/// Variances below this one have a derivative that is a difference quotient of this step squared.
const SMALL_VARIANCE: f64 = 1e-10;

/// E ln p(x|y; ξ) over y ~ N(mean, variance) and its derivatives, in nats; those by ξ are written to
/// `d_parameters`, and `scratch` has their number.
///
/// Where the distribution has no closed form, the trapezoidal rule over y is used: for an analytic
/// integrand that vanishes at both ends it converges faster than any power of the step, and its
/// lattices are nested, so that the difference of the last two of them bounds the error. The step
/// is halved until it is about 1e-10. The derivatives are those of the sum: exact.
#[inline]
pub(crate) fn expectation<U: Univariate<f64>>(
    distribution: &U,
    x: f64,
    (mean, variance): (f64, f64),
    parameters: &[f64],
    d_parameters: &mut [f64],
    scratch: &mut [f64],
) -> ExpectedLogDensity<f64> {
    let closed = distribution.expected_log_density(x, mean, variance, parameters, d_parameters);
    if let Some(closed) = closed {
        return closed;
    }
    d_parameters.fill(0.0);
    let deviation = variance.max(0.0).sqrt();
    let mut lattice = Lattice {
        density: |y: f64, scratch: &mut [f64]| {
            distribution.log_density_gradient(x, y, parameters, scratch)
        },
        mean,
        deviation,
        sums: Sums::default(),
        d_parameters: &mut *d_parameters,
        scratch,
    };
    lattice.node(0.0);
    let reach = lattice.extend(COARSE);
    let mut step = COARSE;
    for _ in 0..HALVINGS {
        let before = lattice.sums.value / lattice.sums.weight;
        lattice.refine(0.5 * step, reach);
        step *= 0.5;
        let value = lattice.sums.value / lattice.sums.weight;
        let close = (value - before).abs() <= DIFFERENCE * (1.0 + value.abs()).sqrt();
        if close || !value.is_finite() {
            break;
        }
    }
    let Sums { weight, value, slope, moment } = lattice.sums;
    let d_variance = if variance < SMALL_VARIANCE {
        let step = SMALL_VARIANCE.sqrt();
        let slope = |y: f64, scratch: &mut [f64]| {
            distribution.log_density_gradient(x, y, parameters, scratch).1
        };
        (slope(mean + step, scratch) - slope(mean - step, scratch)) / (4.0 * step)
    } else {
        0.5 * moment / (weight * deviation)
    };
    d_parameters.iter_mut().for_each(|d| *d /= weight);
    ExpectedLogDensity { value: value / weight, d_mean: slope / weight, d_variance }
}

/// Sums over the nodes, with the weights e^{−z²/2}.
#[derive(Default)]
struct Sums {
    weight: f64,
    value: f64,
    slope: f64,
    moment: f64,
}

/// A symmetric lattice of nodes y = mean + z·deviation.
struct Lattice<'a, F> {
    density: F,
    mean: f64,
    deviation: f64,
    sums: Sums,
    d_parameters: &'a mut [f64],
    scratch: &'a mut [f64],
}

impl<F: FnMut(f64, &mut [f64]) -> (f64, f64)> Lattice<'_, F> {
    /// Adds a node; returns its contribution.
    fn node(&mut self, z: f64) -> f64 {
        let (value, slope) = (self.density)(self.mean + z * self.deviation, self.scratch);
        let weight = (-0.5 * z * z).exp();
        self.sums.weight += weight;
        self.sums.value += weight * value;
        self.sums.slope += weight * slope;
        self.sums.moment += weight * slope * z;
        for (sum, d) in self.d_parameters.iter_mut().zip(self.scratch.iter()) {
            *sum += weight * d;
        }
        weight * value.abs()
    }

    /// Adds the pairs ±step, ±2 step, … as far as they contribute; returns the last.
    fn extend(&mut self, step: f64) -> f64 {
        let mut z = step;
        loop {
            let pair = self.node(z) + self.node(-z);
            let small = pair <= NEGLIGIBLE * (1.0 + self.sums.value.abs());
            if (z >= LEAST_REACH && small) || z > REACH || pair.is_nan() {
                return z;
            }
            z += step;
        }
    }

    /// Adds the nodes ±step, ±3 step, … up to `reach`: those between the nodes of step 2·step.
    fn refine(&mut self, step: f64, reach: f64) {
        let mut index = 1.0;
        while index * step < reach {
            self.node(index * step);
            self.node(-index * step);
            index += 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::{Bernoulli, Poisson};

    /// Simpson's rule with 20,001 nodes.
    fn reference<U: Univariate<f64>>(u: &U, x: f64, mean: f64, variance: f64) -> f64 {
        let (step, count) = (20.0 / 20_000.0, 20_001);
        let mut sum = 0.0;
        for q in 0..count {
            let z = -10.0 + step * q as f64;
            let simpson = if q == 0 || q == count - 1 { 1.0 } else { 2.0 + 2.0 * (q % 2) as f64 };
            let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
            sum += simpson * density * u.log_density(x, mean + z * variance.sqrt(), &[]);
        }
        sum * step / 3.0
    }

    #[test]
    fn quadrature_is_exact_to_1e_10() {
        for mean in [-30.0, -4.0, -0.3, 0.0, 1.0, 7.0] {
            for variance in [0.0, 1e-12, 1e-6, 0.01, 0.5, 1.0, 4.0, 30.0, 400.0] {
                for x in [0.0, 1.0] {
                    let found = expectation(&Bernoulli, x, (mean, variance), &[], &mut [], &mut []);
                    let right = reference(&Bernoulli, x, mean, variance);
                    let error = (found.value - right).abs() / (1.0 + right.abs());
                    assert!(error < 1e-10, "{mean} {variance} {x}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_the_value() {
        for (mean, variance) in [(-3.0, 0.2), (0.4, 1.0), (2.0, 9.0)] {
            let at = |mean, variance| {
                expectation(&Bernoulli, 1.0, (mean, variance), &[], &mut [], &mut [])
            };
            let (found, step) = (at(mean, variance), 1e-5);
            let d_mean = at(mean + step, variance).value - at(mean - step, variance).value;
            let d_variance = at(mean, variance + step).value - at(mean, variance - step).value;
            assert!((found.d_mean - d_mean / (2.0 * step)).abs() < 1e-8);
            assert!((found.d_variance - d_variance / (2.0 * step)).abs() < 1e-8);
        }
        // Without a variance: half of the second derivative.
        let found = expectation(&Bernoulli, 1.0, (0.0, 0.0), &[], &mut [], &mut []);
        assert!((found.d_variance + 0.125).abs() < 1e-8);
    }

    #[test]
    fn a_closed_form_is_used() {
        let found = expectation(&Poisson, 2.0, (0.3, 0.5), &[], &mut [], &mut []);
        assert!((found.value - reference(&Poisson, 2.0, 0.3, 0.5)).abs() < 1e-10);
    }
}

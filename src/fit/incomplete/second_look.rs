//! A second opinion before a fit ends: is there a direction along which EM would leave?
//!
//! At a saddle EM stands as still as at a maximum, and near one it moves so slowly that any extrapolation takes it for the end. But what a step
//! of EM makes of a small displacement tells them apart: it shrinks about a maximum, and grows along the way out of a saddle.

use super::acceleration::{Metric, Step};
use super::expectation::Expectation;
use super::maximization::{Theta, expand, maximize};
use crate::data::Mean;
use crate::linalg::{SymmetricEigen, symmetric_eigen};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};

/// Displacements that are tried, one after the other, in the Krylov space that they span (Arnoldi's method); more as long as the growth that they
/// have found is above the figure beside them, so that what has not come to light may well be above 1.
const DISPLACEMENTS: [(usize, f64); 4] = [(4, 0.0), (6, 0.4), (10, 0.6), (30, 0.9)];

/// How long a displacement is, in the metric of the step.
const SMALL: f64 = 1e-4;

/// At most about so many observations are asked, or four for each variable: what they say is tried on all.
const SAMPLE: usize = 1024;

/// How far to go along a growing direction.
pub(super) const LENGTHS: [f64; 6] = [0.3, -0.3, 0.1, -0.1, 0.03, -0.03];

/// What the displacements told.
pub(super) enum Outlook {
    /// Every one shrinks, the slowest by this factor.
    Shrinks(f64),
    /// One grows: its direction, of unit length.
    Grows(Box<Step>),
}

/// The direction along which a step of EM grows most, or how slowly it shrinks.
///
/// # Errors
/// Those of the decompositions.
pub(super) fn outlook<T: Real>(expectation: &Expectation<'_, T>, theta: &Theta, mean: Mean, metric: &Metric) -> Result<Outlook> {
    let mut sample = expectation.sample(SAMPLE.max(4 * theta.augmented.nrows()));
    let mut of_em = |theta: &Theta| -> Result<Theta> {
        let statistics = sample.take(&theta.parameters())?;
        let mut next = theta.clone();
        maximize(&mut next, &statistics, mean);
        expand(&mut next, &statistics, mean)?;
        Ok(next)
    };
    let here = of_em(theta)?;
    let gauge = Gauge::at(theta)?;
    let free = theta.augmented.len();
    let mut displacement = any_step(theta, mean);
    let (mut basis, mut images): (Vec<Step>, Vec<Step>) = (Vec::new(), Vec::new());
    let mut growth = DMatrix::zeros(0, 0);
    let mut found = None;
    while basis.len() < free && DISPLACEMENTS.iter().any(|&(count, above)| basis.len() < count && most(&found) >= above) {
        gauge.remove(&mut displacement);
        let before = metric.inner(&displacement, &displacement).sqrt();
        for _ in 0..2 {
            for other in &basis {
                let share = metric.inner(&displacement, other);
                displacement.add_scaled(-share, other);
            }
        }
        let length = metric.inner(&displacement, &displacement).sqrt();
        if !(length > 1e-6 * before && length.is_finite()) {
            break;
        }
        displacement.scale(1.0 / length);
        let Some(displaced) = displacement.taken_from(theta, SMALL) else { break };
        let mut image = Step::between(&here, &of_em(&displaced)?);
        image.scale(1.0 / SMALL);
        basis.push(std::mem::replace(&mut displacement, image.clone()));
        images.push(image);
        let last = basis.len() - 1;
        growth = growth.resize(last + 1, last + 1, 0.0);
        for place in 0..=last {
            growth[(place, last)] = metric.inner(&basis[place], &images[last]);
            growth[(last, place)] = metric.inner(&basis[last], &images[place]);
        }
        found = Some(symmetric_eigen(((&growth + growth.transpose()) * 0.5).as_view())?);
    }
    let Some(eigen) = found else { return Ok(Outlook::Shrinks(0.0)) };
    let strongest = eigen.values.imax();
    if eigen.values[strongest] <= 1.0 + 1e-4 {
        return Ok(Outlook::Shrinks(eigen.values[strongest].max(0.0)));
    }
    let mut direction = basis[0].clone();
    direction.scale(0.0);
    for (step, &share) in basis.iter().zip(eigen.vectors.column(strongest).iter()) {
        direction.add_scaled(share, step);
    }
    Ok(Outlook::Grows(Box::new(direction)))
}

/// The strongest growth that was found; of nothing, more than any.
fn most(found: &Option<SymmetricEigen<f64>>) -> f64 {
    found.as_ref().map_or(f64::INFINITY, |eigen| eigen.values.max())
}

/// A displacement that is orthogonal to nothing in particular, at the scale of the loadings; the same for every fit of such a shape.
fn any_step(theta: &Theta, mean: Mean) -> Step {
    let k = theta.latent_dim();
    let noise = theta.noise.noise_variance().sqrt();
    let mut augmented =
        theta.augmented.map_with_location(|j, a, _| noise * (1.0 + (j * (2 * a + 3)) as f64 * 0.754_877_666_246_692_8).sin());
    if mean == Mean::Zero {
        augmented.column_mut(k).fill(0.0);
    }
    let log_noise = if theta.noise.is_fixed() { 0.0 } else { 0.1 };
    Step { augmented, log_noise }
}

/// The rotations of z, which J does not see: WA for a skew A.
struct Gauge {
    /// W turned so that its columns are orthogonal, and the turn.
    loadings: DMatrix<f64>,
    rotation: DMatrix<f64>,
    squares: DVector<f64>,
}

impl Gauge {
    fn at(theta: &Theta) -> Result<Self> {
        let eigen = symmetric_eigen(theta.loadings().tr_mul(&theta.loadings()).as_view())?;
        let loadings = theta.loadings() * &eigen.vectors;
        Ok(Self { loadings, rotation: eigen.vectors, squares: eigen.values })
    }

    /// Takes away the nearest rotation: A_ab = (Wᵗv − vᵗW)_ab/(‖w_a‖² + ‖w_b‖²).
    fn remove(&self, step: &mut Step) {
        let k = self.squares.len();
        let turned = step.augmented.columns(0, k) * &self.rotation;
        let products = self.loadings.tr_mul(&turned);
        let skew = DMatrix::from_fn(k, k, |a, b| {
            let size = self.squares[a] + self.squares[b];
            if size > 0.0 { (products[(a, b)] - products[(b, a)]) / size } else { 0.0 }
        });
        let left = (turned - &self.loadings * skew) * self.rotation.transpose();
        step.augmented.columns_mut(0, k).copy_from(&left);
    }
}

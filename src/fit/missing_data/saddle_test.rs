//! A second opinion before a fit ends: is there a direction along which EM would leave?
//!
//! At a saddle EM stands as still as at a maximum, and near one it moves so slowly that any
//! extrapolation takes it for the end. But what a step of EM makes of a small displacement tells
//! them apart: it shrinks about a maximum, and grows along the way out of a saddle.

use super::acceleration::{Metric, Step};
use super::expectation::Expectation;
use super::maximization::{Theta, expand, maximize};
use crate::data::Centering;
use crate::likelihood::GaussianNoise;
use crate::linalg::{SymmetricEigen, symmetric_eigen};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};

/// Displacements that are tried, one after the other, in the Krylov space that they span (Arnoldi's
/// method); more as long as the growth that they have found is above the figure beside them, so
/// that what has not come to light may well be above 1.
const DISPLACEMENTS: [(usize, f64); 4] = [(4, 0.0), (6, 0.4), (10, 0.6), (30, 0.9)];

/// How long a displacement is, in the metric of the step.
const SMALL: f64 = 1e-4;

/// At most about so many observations are asked, or four for each variable: what they say is tried
/// on all.
const SAMPLE: usize = 1024;

/// How many steps of EM say where it would end.
const LINEAR: usize = 20;

/// How far to go along a growing direction.
pub(super) const LENGTHS: [f64; 6] = [0.3, -0.3, 0.1, -0.1, 0.03, -0.03];

/// What the displacements told.
pub(super) enum Outlook {
    /// Every one shrinks, the slowest by this factor.
    Shrinks(f64),
    /// One grows: its direction, of unit length.
    Grows(Box<Step>),
}

/// What a step of EM makes of displacements from a model, in the Krylov space of one of them.
struct Displaced<'m, N> {
    theta: &'m Theta<N>,
    metric: &'m Metric,
    gauge: Gauge,
    /// Orthonormal in the metric.
    basis: Vec<Step>,
    /// The inner products of the basis with what EM makes of it.
    growth: DMatrix<f64>,
    next: Step,
}

impl<'m, N: GaussianNoise<f64>> Displaced<'m, N> {
    fn new(theta: &'m Theta<N>, metric: &'m Metric, first: Step) -> Result<Self> {
        Ok(Self {
            theta,
            metric,
            gauge: Gauge::at(theta)?,
            basis: Vec::new(),
            growth: DMatrix::zeros(0, 0),
            next: first,
        })
    }

    /// One displacement more, if it is one: `here` is what EM makes of the model itself.
    fn extend(
        &mut self,
        here: &Theta<N>,
        mut of_em: impl FnMut(&Theta<N>) -> Result<Theta<N>>,
    ) -> Result<bool> {
        let (metric, mut displacement) = (self.metric, self.next.clone());
        self.gauge.remove(&mut displacement);
        let before = metric.inner(&displacement, &displacement).sqrt();
        for _ in 0..2 {
            for other in &self.basis {
                let share = metric.inner(&displacement, other);
                displacement.add_scaled(-share, other);
            }
        }
        let length = metric.inner(&displacement, &displacement).sqrt();
        if !(length > 1e-6 * before && length.is_finite()) {
            return Ok(false);
        }
        displacement.scale(1.0 / length);
        let Some(displaced) = displacement.taken_from(self.theta, SMALL) else { return Ok(false) };
        let mut image = Step::between(here, &of_em(&displaced)?);
        image.scale(1.0 / SMALL);
        self.basis.push(displacement);
        let size = self.basis.len();
        self.growth.resize_mut(size, size, 0.0);
        for (place, step) in self.basis.iter().enumerate() {
            self.growth[(place, size - 1)] = metric.inner(step, &image);
        }
        if size > 1 {
            // What EM made of those before the last lies in the space that was spanned already.
            self.growth[(size - 1, size - 2)] = metric.inner(&self.basis[size - 1], &self.next);
        }
        self.next = image;
        Ok(true)
    }

    /// Σ_a c_a v_a.
    fn combined(&self, coefficients: &[f64]) -> Step {
        let mut sum = self.next.clone();
        sum.scale(0.0);
        self.basis.iter().zip(coefficients).for_each(|(step, &share)| sum.add_scaled(share, step));
        sum
    }
}

/// A step of expanded EM on a sample.
fn step_of<T: Real, N: GaussianNoise<f64>>(
    sample: &mut Expectation<'_, T>,
    theta: &Theta<N>,
    mean: Centering,
) -> Result<Theta<N>> {
    let statistics = sample.take(&theta.parameters())?;
    let mut next = theta.clone();
    maximize(&mut next, &statistics, mean);
    expand(&mut next, &statistics, mean)?;
    Ok(next)
}

fn sample_of<'x, T: Real, N: GaussianNoise<f64>>(
    expectation: &Expectation<'x, T>,
    theta: &Theta<N>,
) -> Expectation<'x, T> {
    expectation.sample(SAMPLE.max(4 * theta.augmented.nrows()))
}

/// The direction along which a step of EM grows most, or how slowly it shrinks.
///
/// # Errors
/// Those of the decompositions.
pub(super) fn outlook<T: Real, N: GaussianNoise<f64>>(
    expectation: &Expectation<'_, T>,
    theta: &Theta<N>,
    mean: Centering,
    metric: &Metric,
) -> Result<Outlook> {
    let mut sample = sample_of(expectation, theta);
    let here = step_of(&mut sample, theta, mean)?;
    let mut displaced = Displaced::new(theta, metric, any_step(theta, &here, mean))?;
    let mut found = None;
    let free = theta.augmented.len();
    while displaced.basis.len() < free
        && DISPLACEMENTS
            .iter()
            .any(|&(count, above)| displaced.basis.len() < count && most(&found) >= above)
    {
        if !displaced.extend(&here, |theta| step_of(&mut sample, theta, mean))? {
            break;
        }
        found = Some(symmetric_eigen(
            ((&displaced.growth + displaced.growth.transpose()) * 0.5).as_view(),
        )?);
    }
    let Some(eigen) = found else { return Ok(Outlook::Shrinks(0.0)) };
    let strongest = eigen.values.imax();
    if eigen.values[strongest] <= 1.0 + 1e-4 {
        return Ok(Outlook::Shrinks(eigen.values[strongest].max(0.0)));
    }
    let coefficients: Vec<f64> = eigen.vectors.column(strongest).iter().copied().collect();
    Ok(Outlook::Grows(Box::new(displaced.combined(&coefficients))))
}

/// Where the steps of EM would end if each were a linear map of the one before, M: (I − M)⁻¹ times
/// the step, in the Krylov space of the step.
///
/// # Errors
/// Those of the decompositions.
pub(super) fn end_of_steps<T: Real, N: GaussianNoise<f64>>(
    expectation: &Expectation<'_, T>,
    theta: &Theta<N>,
    step: &Step,
    mean: Centering,
    metric: &Metric,
) -> Result<Option<Step>> {
    let mut sample = sample_of(expectation, theta);
    let here = step_of(&mut sample, theta, mean)?;
    let mut displaced = Displaced::new(theta, metric, step.clone())?;
    while displaced.basis.len() < LINEAR
        && displaced.extend(&here, |theta| step_of(&mut sample, theta, mean))?
    {}
    let size = displaced.basis.len();
    if size == 0 {
        return Ok(Some(displaced.combined(&[])));
    }
    let right =
        DVector::from_iterator(size, displaced.basis.iter().map(|other| metric.inner(step, other)));
    let solved = (DMatrix::identity(size, size) - &displaced.growth).lu().solve(&right);
    Ok(solved
        .filter(|solved| solved.iter().all(|v| v.is_finite()))
        .map(|solved| displaced.combined(solved.as_slice())))
}

/// The strongest growth that was found; of nothing, more than any.
fn most(found: &Option<SymmetricEigen<f64>>) -> f64 {
    found.as_ref().map_or(f64::INFINITY, |eigen| eigen.values.max())
}

/// A displacement that is orthogonal to nothing in particular, at the scale of the loadings; the
/// same for every fit of such a shape. A variance that a step of EM leaves to the last bit is fixed
/// or held by its floor, and stays where it is.
fn any_step<N: GaussianNoise<f64>>(theta: &Theta<N>, next: &Theta<N>, mean: Centering) -> Step {
    let k = theta.latent_dim();
    let (noise, moved) = (theta.variances(), next.variances());
    let mut augmented = theta.augmented.map_with_location(|j, a, _| {
        noise[j].sqrt() * (1.0 + (j * (2 * a + 3)) as f64 * 0.754_877_666_246_692_8).sin()
    });
    if mean == Centering::None {
        augmented.column_mut(k).fill(0.0);
    }
    let log_noise = noise.zip_map(&moved, |now, next| if now == next { 0.0 } else { 0.1 });
    Step { augmented, log_noise }
}

/// The rotations of z, which J does not see: WA for a skew A.
struct Gauge {
    /// D⁻¹ of each variable.
    scales: DVector<f64>,
    /// D⁻¹W turned so that its columns are orthogonal, and the turn.
    loadings: DMatrix<f64>,
    rotation: DMatrix<f64>,
    squares: DVector<f64>,
}

impl Gauge {
    fn at<N: GaussianNoise<f64>>(theta: &Theta<N>) -> Result<Self> {
        let common = theta.noise.common_variance();
        let scales = theta.variances().map(|variance| (common / variance).sqrt());
        let loadings = theta.equalized_loadings();
        let eigen = symmetric_eigen(loadings.tr_mul(&loadings).as_view())?;
        let loadings = loadings * &eigen.vectors;
        Ok(Self { scales, loadings, rotation: eigen.vectors, squares: eigen.values })
    }

    /// Takes away the nearest rotation: A_ab = (Wᵗv − vᵗW)_ab/(‖w_a‖² + ‖w_b‖²).
    fn remove(&self, step: &mut Step) {
        let k = self.squares.len();
        let mut turned = step.augmented.columns(0, k) * &self.rotation;
        turned.column_iter_mut().for_each(|mut column| column.component_mul_assign(&self.scales));
        let products = self.loadings.tr_mul(&turned);
        let skew = DMatrix::from_fn(k, k, |a, b| {
            let size = self.squares[a] + self.squares[b];
            if size > 0.0 { (products[(a, b)] - products[(b, a)]) / size } else { 0.0 }
        });
        let mut left = (turned - &self.loadings * skew) * self.rotation.transpose();
        left.column_iter_mut().for_each(|mut column| column.component_div_assign(&self.scales));
        step.augmented.columns_mut(0, k).copy_from(&left);
    }
}

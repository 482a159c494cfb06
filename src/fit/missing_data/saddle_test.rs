//! Saddle test before convergence is declared: the Arnoldi method with finite differences on the
//! Jacobian of the EM map.
//!
//! EM steps vanish at a saddle point as they do at a maximum, and near one they are so small that
//! any extrapolation reports convergence. The Jacobian M of the EM map distinguishes them: all its
//! eigenvalues are below 1 at a maximum, and one is above 1 along the way out of a saddle. M is
//! self-adjoint in the metric of the complete-data information (Dempster, Laird & Rubin 1977), so
//! that its eigenvalues are real.

use super::acceleration::{Metric, Step};
use super::expectation::Expectation;
use super::maximization::{Theta, expand, maximize};
use crate::data::Centering;
use crate::likelihood::GaussianNoise;
use crate::linalg::{SymmetricEigen, symmetric_eigen};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};

/// Schedule (m, θ) of Krylov dimensions: the Arnoldi basis is extended to m vectors only while the
/// largest Ritz value is at least θ, that is, while an eigenvalue above 1 may still be hidden.
// Extremal eigenvalues converge first in a Krylov space (Saad 2011). Each vector costs one EM step
// on the subsample; the thresholds weigh this cost against the risk of missing an eigenvalue above
// 1.
const KRYLOV_SCHEDULE: [(usize, f64); 4] = [(4, 0.0), (6, 0.4), (10, 0.6), (30, 0.9)];

/// Length of a finite-difference perturbation, in the metric.
// The truncation error of a one-sided difference is of this order; rounding adds about 1e-16/1e-4.
const SMALL: f64 = 1e-4;

/// Size of the subsample that M is estimated on: about max(1024, 4d) observations. An ascent
/// direction found on it is verified on all data.
const SAMPLE: usize = 1024;

/// Krylov dimension of the extrapolation of EM steps to their limit.
const LINEAR: usize = 20;

/// Step lengths along an ascent direction, in the metric.
pub(super) const LENGTHS: [f64; 6] = [0.3, -0.3, 0.1, -0.1, 0.03, -0.03];

/// Result of the eigenvalue estimate.
pub(super) enum Outlook {
    /// No eigenvalue above 1: the largest Ritz value.
    Shrinks(f64),
    /// An eigenvalue above 1: its direction, of unit length in the metric.
    Grows(Box<Step>),
}

/// Arnoldi process for the Jacobian of the EM map at a model.
struct Displaced<'m, N> {
    theta: &'m Theta<N>,
    metric: &'m Metric,
    gauge: Gauge,
    /// Krylov basis, orthonormal in the metric.
    basis: Vec<Step>,
    /// Projection of the Jacobian onto the basis, ⟨v_a, M v_b⟩ (upper Hessenberg).
    growth: DMatrix<f64>,
    // The next Krylov vector, before orthogonalisation.
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

    /// Extends the basis by one vector; returns `false` if the Krylov space is exhausted or the
    /// perturbed model is not finite. `here` is the image of the model under the EM map.
    fn extend(
        &mut self,
        here: &Theta<N>,
        mut of_em: impl FnMut(&Theta<N>) -> Result<Theta<N>>,
    ) -> Result<bool> {
        let (metric, mut displacement) = (self.metric, self.next.clone());
        // Rotations of z are eigenvectors of M with eigenvalue exactly 1, and would hide what is
        // sought.
        self.gauge.remove(&mut displacement);
        let before = metric.inner(&displacement, &displacement).sqrt();
        // Gram–Schmidt twice: once loses orthogonality where the vector lies almost in the span
        // ("twice is enough", Parlett; Golub & Van Loan).
        for _ in 0..2 {
            for other in &self.basis {
                let share = metric.inner(&displacement, other);
                displacement.add_scaled(-share, other);
            }
        }
        let length = metric.inner(&displacement, &displacement).sqrt();
        // A vector this close to the span is made of finite-difference errors.
        if !(length > 1e-6 * before && length.is_finite()) {
            return Ok(false);
        }
        displacement.scale(1.0 / length);
        let Some(displaced) = displacement.applied_to(self.theta, SMALL) else { return Ok(false) };
        let mut image = Step::between(here, &of_em(&displaced)?);
        image.scale(1.0 / SMALL);
        self.basis.push(displacement);
        let size = self.basis.len();
        self.growth.resize_mut(size, size, 0.0);
        for (place, step) in self.basis.iter().enumerate() {
            self.growth[(place, size - 1)] = metric.inner(step, &image);
        }
        if size > 1 {
            // The images of all earlier vectors lie in the span of the basis up to this vector:
            // ⟨v_a, M v_b⟩ = 0 for a > b + 1, and only the subdiagonal entry is left to compute.
            self.growth[(size - 1, size - 2)] = metric.inner(&self.basis[size - 1], &self.next);
        }
        self.next = image;
        Ok(true)
    }

    /// Returns Σ_a c_a v_a.
    fn combined(&self, coefficients: &[f64]) -> Step {
        let mut sum = self.next.clone();
        sum.scale(0.0);
        self.basis.iter().zip(coefficients).for_each(|(step, &share)| sum.add_scaled(share, step));
        sum
    }
}

/// Returns the model after one parameter-expanded EM step on a subsample.
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

/// Estimates the largest eigenvalue of the Jacobian of the EM map; returns its direction if it is
/// above 1.
///
/// # Errors
/// Errors of the matrix decompositions.
pub(super) fn outlook<T: Real, N: GaussianNoise<f64>>(
    expectation: &Expectation<'_, T>,
    theta: &Theta<N>,
    mean: Centering,
    metric: &Metric,
) -> Result<Outlook> {
    let mut sample = sample_of(expectation, theta);
    let here = step_of(&mut sample, theta, mean)?;
    let mut displaced = Displaced::new(theta, metric, starting_vector(theta, &here, mean))?;
    let mut found = None;
    let free = theta.augmented.len();
    while displaced.basis.len() < free
        && KRYLOV_SCHEDULE
            .iter()
            .any(|&(count, above)| displaced.basis.len() < count && most(&found) >= above)
    {
        if !displaced.extend(&here, |theta| step_of(&mut sample, theta, mean))? {
            break;
        }
        // Symmetrised: M is self-adjoint in the metric up to finite-difference errors.
        found = Some(symmetric_eigen(
            ((&displaced.growth + displaced.growth.transpose()) * 0.5).as_view(),
        )?);
    }
    let Some(eigen) = found else { return Ok(Outlook::Shrinks(0.0)) };
    let strongest = eigen.values.imax();
    // A Ritz value above 1 by less than the finite-difference error is not evidence of a saddle.
    if eigen.values[strongest] <= 1.0 + 1e-4 {
        return Ok(Outlook::Shrinks(eigen.values[strongest].max(0.0)));
    }
    let coefficients: Vec<f64> = eigen.vectors.column(strongest).iter().copied().collect();
    Ok(Outlook::Grows(Box::new(displaced.combined(&coefficients))))
}

/// Extrapolates EM steps to their limit under a linear model: returns (I − M)⁻¹ times the step, in
/// the Krylov space of the step; `None` if the system is singular.
///
/// # Errors
/// Errors of the matrix decompositions.
pub(super) fn extrapolate_limit<T: Real, N: GaussianNoise<f64>>(
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
    // A step of 0 has no Krylov space, and its own limit.
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

/// Returns the largest Ritz value so far; infinity before the first.
fn most(found: &Option<SymmetricEigen<f64>>) -> f64 {
    found.as_ref().map_or(f64::INFINITY, |eigen| eigen.values.max())
}

/// Returns a deterministic starting vector with components in all directions, at the scale of the
/// noise. A variance that an EM step leaves unchanged to the last bit is fixed or at its floor, and
/// is not perturbed.
fn starting_vector<N: GaussianNoise<f64>>(
    theta: &Theta<N>,
    next: &Theta<N>,
    mean: Centering,
) -> Step {
    let k = theta.latent_dim();
    let (noise, moved) = (theta.variances(), next.variances());
    // Sines of multiples of an irrational number (1/ρ of the plastic number ρ) in place of random
    // numbers: the test is reproducible without a generator.
    let mut augmented = theta.augmented.map_with_location(|j, a, _| {
        noise[j].sqrt() * (1.0 + (j * (2 * a + 3)) as f64 * 0.754_877_666_246_692_8).sin()
    });
    if mean == Centering::None {
        augmented.column_mut(k).fill(0.0);
    }
    let log_noise = noise.zip_map(&moved, |now, next| if now == next { 0.0 } else { 0.1 });
    Step { augmented, log_noise }
}

/// Projector that removes from a step the rotations of z, under which J is invariant: the tangent
/// directions WA for a skew-symmetric A.
struct Gauge {
    /// D⁻¹, one entry per variable.
    scales: DVector<f64>,
    /// D⁻¹W rotated so that its columns are orthogonal, and the rotation.
    loadings: DMatrix<f64>,
    rotation: DMatrix<f64>,
    // Squared lengths of the columns of `loadings`.
    squares: DVector<f64>,
}

impl Gauge {
    fn at<N: GaussianNoise<f64>>(theta: &Theta<N>) -> Result<Self> {
        let common = theta.noise.common_variance();
        let scales = theta.variances().map(|variance| (common / variance).sqrt());
        let loadings = theta.scaled_loadings();
        let eigen = symmetric_eigen(loadings.tr_mul(&loadings).as_view())?;
        let loadings = loadings * &eigen.vectors;
        Ok(Self { scales, loadings, rotation: eigen.vectors, squares: eigen.values })
    }

    /// Subtracts the nearest rotation: A_ab = (Wᵗv − vᵗW)_ab/(‖w_a‖² + ‖w_b‖²).
    fn remove(&self, step: &mut Step) {
        let k = self.squares.len();
        // "Nearest" in the Euclidean norm of D⁻¹x, in which the noise is isotropic: with orthogonal
        // columns of W the least-squares problem for the skew A decouples into the entries above.
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

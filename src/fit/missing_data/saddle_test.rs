//! Saddle test before convergence is declared: the Arnoldi method with finite differences on the
//! Jacobian of the EM map.
//!
//! EM steps vanish at a saddle point as they do at a maximum, and near one they are so small that
//! any extrapolation reports convergence. The Jacobian M of the EM map F distinguishes them: all
//! its eigenvalues are below 1 at a maximum, and one is above 1 along the way out of a saddle. At a
//! stationary point of EM, M is I minus the observed information in the metric of the complete-data
//! information (Dempster, Laird & Rubin 1977), and self-adjoint in that metric, so that its
//! eigenvalues are real.
//!
//! M is never formed. The Arnoldi method[^1] needs only products Mv, and a product is a directional
//! derivative: (F(θ + hv) − F(θ))/h, the change of one EM step under a perturbation, for about the
//! cost of one E-step. M is estimated on a subsample, because only its direction of ascent is used,
//! and that is verified on all data.
//!
//! 1. Start from a vector v_1 with components in all directions ([`stability`]), or from the EM
//!    step ([`extrapolate_limit`]).
//! 2. Remove from v the rotations of z ([`Gauge`]), orthogonalise it against v_1 … v_{m−1}, and
//!    scale it to unit length.
//! 3. Multiply: Mv by a finite difference. It is the next Krylov vector, and its inner products
//!    with the basis are a column of H = ⟨v_a, M v_b⟩, the projection of M.
//! 4. [`stability`]: the eigenvalues of H (Ritz values) approximate those of M, the extremal ones
//!    first. Where the largest exceeds 1, its Ritz vector is the direction of ascent.
//! 5. [`extrapolate_limit`]: solve (I − H) c = ⟨v, step⟩. Near the limit θ* of EM the map is
//!    linear, θ* − θ = (I − M)⁻¹ step, and Σ_a c_a v_a approximates it (the method of full
//!    orthogonalisation).
//!
//! [^1]: W. E. Arnoldi, The principle of minimized iterations in the solution of the matrix
//! eigenvalue problem, Quart. Appl. Math. 9 (1951); Y. Saad, Numerical Methods for Large Eigenvalue
//! Problems (2011), chapter 6, and Iterative Methods for Sparse Linear Systems (2003), chapter 6.
//! For products by finite differences: D. A. Knoll and D. E. Keyes, Jacobian-free Newton–Krylov
//! methods, J. Comput. Phys. 193 (2004).

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
const PERTURBATION: f64 = 1e-4;

/// Excess over 1 from which a Ritz value is evidence of a saddle.
// Finite differences determine a Ritz value to about their perturbation.
const LEAST_EXCESS: f64 = PERTURBATION;

/// Remainder of a Krylov vector after orthogonalisation, as a fraction of its length, at which the
/// Krylov space counts as exhausted.
// A vector this close to the span of the basis is made of finite-difference errors.
const LEAST_REMAINDER: f64 = 1e-6;

/// Size of the subsample that M is estimated on: about max(1024, 4d) observations. An ascent
/// direction found on it is verified on all data.
const SAMPLE: usize = 1024;

/// Krylov dimension of the extrapolation of EM steps to their limit.
const EXTRAPOLATION_DIM: usize = 20;

/// Step lengths along an ascent direction, in the metric.
pub(super) const LENGTHS: [f64; 6] = [0.3, -0.3, 0.1, -0.1, 0.03, -0.03];

/// Stability of the EM map at a model, by the largest eigenvalue of its Jacobian.
pub(super) enum Stability {
    /// No eigenvalue above 1: the largest Ritz value, at least 0.
    Contracting(f64),
    /// An eigenvalue above 1: its direction, of unit length in the metric.
    Ascent(Box<Step>),
}

/// Arnoldi process for the Jacobian M of the EM map at a model.
struct Arnoldi<'m, N> {
    theta: &'m Theta<N>,
    /// Image of `theta` under the EM map.
    image: &'m Theta<N>,
    metric: &'m Metric,
    gauge: Gauge,
    /// Krylov basis v_1 … v_m, orthonormal in the metric.
    basis: Vec<Step>,
    /// Projection of M onto the basis, H = ⟨v_a, M v_b⟩ (m×m, upper Hessenberg).
    projection: DMatrix<f64>,
    /// The next Krylov vector, before orthogonalisation.
    next: Step,
}

impl<'m, N: GaussianNoise<f64>> Arnoldi<'m, N> {
    /// Returns a process without a basis that starts from the direction `first`.
    ///
    /// # Errors
    /// Errors of the eigendecomposition.
    fn new(
        theta: &'m Theta<N>,
        image: &'m Theta<N>,
        metric: &'m Metric,
        first: Step,
    ) -> Result<Self> {
        let gauge = Gauge::at(theta)?;
        let projection = DMatrix::zeros(0, 0);
        Ok(Self { theta, image, metric, gauge, basis: Vec::new(), projection, next: first })
    }

    /// Extends the basis by one vector; returns `false` if the Krylov space is exhausted or the
    /// perturbed model is not finite.
    ///
    /// # Errors
    /// Errors of `em_map`.
    fn extend(&mut self, em_map: impl FnOnce(&Theta<N>) -> Result<Theta<N>>) -> Result<bool> {
        let Some(vector) = self.orthonormalized(self.next.clone()) else { return Ok(false) };
        let Some(perturbed) = vector.applied_to(self.theta, PERTURBATION) else {
            return Ok(false);
        };
        let mut product = Step::between(self.image, &em_map(&perturbed)?);
        product.scale(1.0 / PERTURBATION);
        self.basis.push(vector);
        self.project(&product);
        self.next = product;
        Ok(true)
    }

    /// Returns the part of a step that is orthogonal to the basis and to the rotations of z, at
    /// unit length; `None` if hardly anything of the step is left.
    fn orthonormalized(&self, mut vector: Step) -> Option<Step> {
        let metric = self.metric;
        // Rotations of z are eigenvectors of M with eigenvalue exactly 1, and would hide what is
        // sought.
        self.gauge.remove(&mut vector);
        let before = metric.inner(&vector, &vector).sqrt();
        // Gram–Schmidt twice: once loses orthogonality where the vector lies almost in the span
        // ("twice is enough", Parlett; Golub & Van Loan).
        for _ in 0..2 {
            for other in &self.basis {
                let share = metric.inner(&vector, other);
                vector.add_scaled(-share, other);
            }
        }
        let length = metric.inner(&vector, &vector).sqrt();
        // NaN fails the comparison, too.
        if !(length > LEAST_REMAINDER * before && length.is_finite()) {
            return None;
        }
        vector.scale(1.0 / length);
        Some(vector)
    }

    /// Adds to the projection the row and the column of the last basis vector, whose product with M
    /// is given.
    fn project(&mut self, product: &Step) {
        let size = self.basis.len();
        self.projection.resize_mut(size, size, 0.0);
        for (row, vector) in self.basis.iter().enumerate() {
            self.projection[(row, size - 1)] = self.metric.inner(vector, product);
        }
        if size > 1 {
            // The products with all earlier vectors lie in the span of the basis up to this vector:
            // ⟨v_a, M v_b⟩ = 0 for a > b + 1, and only the subdiagonal entry is left to compute.
            // `next` is still the product with the vector before.
            self.projection[(size - 1, size - 2)] =
                self.metric.inner(&self.basis[size - 1], &self.next);
        }
    }

    /// Returns Σ_a c_a v_a.
    fn combined(&self, coefficients: &[f64]) -> Step {
        let mut sum = self.next.clone();
        sum.scale(0.0);
        self.basis.iter().zip(coefficients).for_each(|(step, &share)| sum.add_scaled(share, step));
        sum
    }

    /// Extends the basis by the schedule, and returns the Ritz pairs; `None` without any basis
    /// vector.
    ///
    /// # Errors
    /// Those of `em_map` and of the eigendecomposition.
    fn ritz_pairs(
        &mut self,
        mut em_map: impl FnMut(&Theta<N>) -> Result<Theta<N>>,
    ) -> Result<Option<SymmetricEigen<f64>>> {
        let mut ritz = None;
        let free = self.theta.augmented.len();
        while self.basis.len() < free && wants_more(self.basis.len(), largest_ritz_value(&ritz)) {
            if !self.extend(&mut em_map)? {
                break;
            }
            // Symmetrised: M is self-adjoint in the metric up to finite-difference errors.
            let symmetric = (&self.projection + self.projection.transpose()) * 0.5;
            ritz = Some(symmetric_eigen(symmetric.as_view())?);
        }
        Ok(ritz)
    }

    /// Returns the verdict of the Ritz pairs.
    fn stability(&self, ritz: &SymmetricEigen<f64>) -> Stability {
        let largest = ritz.values.imax();
        let value = ritz.values[largest];
        if value <= 1.0 + LEAST_EXCESS {
            return Stability::Contracting(value.max(0.0));
        }
        let coefficients: Vec<f64> = ritz.vectors.column(largest).iter().copied().collect();
        Stability::Ascent(Box::new(self.combined(&coefficients)))
    }

    /// Returns the solution of (I − M) v = `step` in the Krylov space; `None` if I − H is singular.
    fn solution(&self, step: &Step) -> Option<Step> {
        let size = self.basis.len();
        // A step of 0 has no Krylov space, and its own limit.
        if size == 0 {
            return Some(self.combined(&[]));
        }
        let right = DVector::from_iterator(
            size,
            self.basis.iter().map(|other| self.metric.inner(step, other)),
        );
        let solved = (DMatrix::identity(size, size) - &self.projection).lu().solve(&right)?;
        solved.iter().all(|v| v.is_finite()).then(|| self.combined(solved.as_slice()))
    }
}

/// Whether the schedule extends a basis of `size` vectors with this largest Ritz value.
fn wants_more(size: usize, largest_ritz_value: f64) -> bool {
    KRYLOV_SCHEDULE.iter().any(|&(count, least)| size < count && largest_ritz_value >= least)
}

/// Returns the largest Ritz value so far; infinity before the first.
fn largest_ritz_value(ritz: &Option<SymmetricEigen<f64>>) -> f64 {
    ritz.as_ref().map_or(f64::INFINITY, |ritz| ritz.values.max())
}

/// The EM map on a subsample of the data: one parameter-expanded EM step.
struct SampledEm<'x, T: Real> {
    expectation: Expectation<'x, T>,
    mean: Centering,
}

impl<'x, T: Real> SampledEm<'x, T> {
    fn new(all: &Expectation<'x, T>, data_dim: usize, mean: Centering) -> Self {
        Self { expectation: all.sample(SAMPLE.max(4 * data_dim)), mean }
    }

    /// Returns the image of a model.
    fn map<N: GaussianNoise<f64>>(&mut self, theta: &Theta<N>) -> Result<Theta<N>> {
        let statistics = self.expectation.take(&theta.parameters())?;
        let mut next = theta.clone();
        maximize(&mut next, &statistics, self.mean);
        expand(&mut next, &statistics, self.mean)?;
        Ok(next)
    }
}

/// Estimates the largest eigenvalue of the Jacobian of the EM map; returns its direction if it is
/// above 1.
///
/// # Errors
/// Errors of the matrix decompositions.
pub(super) fn stability<T: Real, N: GaussianNoise<f64>>(
    expectation: &Expectation<'_, T>,
    theta: &Theta<N>,
    mean: Centering,
    metric: &Metric,
) -> Result<Stability> {
    let mut em = SampledEm::new(expectation, theta.augmented.nrows(), mean);
    let image = em.map(theta)?;
    let first = starting_vector(theta, &image, mean);
    let mut arnoldi = Arnoldi::new(theta, &image, metric, first)?;
    let ritz = arnoldi.ritz_pairs(|theta| em.map(theta))?;
    Ok(ritz.map_or(Stability::Contracting(0.0), |ritz| arnoldi.stability(&ritz)))
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
    let mut em = SampledEm::new(expectation, theta.augmented.nrows(), mean);
    let image = em.map(theta)?;
    let mut arnoldi = Arnoldi::new(theta, &image, metric, step.clone())?;
    while arnoldi.basis.len() < EXTRAPOLATION_DIM && arnoldi.extend(|theta| em.map(theta))? {}
    Ok(arnoldi.solution(step))
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
    /// D⁻¹W rotated so that its columns are orthogonal.
    loadings: DMatrix<f64>,
    /// The rotation that makes them orthogonal.
    rotation: DMatrix<f64>,
    /// Squared lengths of the columns of `loadings`.
    squares: DVector<f64>,
}

impl Gauge {
    /// Returns the projector at a model.
    ///
    /// # Errors
    /// Errors of the eigendecomposition.
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
        let mut rotated = step.augmented.columns(0, k) * &self.rotation;
        rotated.column_iter_mut().for_each(|mut column| column.component_mul_assign(&self.scales));
        let products = self.loadings.tr_mul(&rotated);
        let skew = DMatrix::from_fn(k, k, |a, b| {
            let size = self.squares[a] + self.squares[b];
            if size > 0.0 { (products[(a, b)] - products[(b, a)]) / size } else { 0.0 }
        });
        let mut left = (rotated - &self.loadings * skew) * self.rotation.transpose();
        left.column_iter_mut().for_each(|mut column| column.component_div_assign(&self.scales));
        step.augmented.columns_mut(0, k).copy_from(&left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::likelihood::IsotropicGaussian;

    type Model = Theta<IsotropicGaussian<f64>>;

    /// A model with one loading column, which the maps below keep, and the noise variance 1.
    fn model(mean: DVector<f64>) -> Model {
        let loadings = DMatrix::from_fn(mean.len(), 1, |j, _| 1.0 + j as f64);
        Theta::new(loadings, &mean, IsotropicGaussian::fixed(1.0).unwrap())
    }

    fn metric(theta: &Model) -> Metric {
        let d = theta.augmented.nrows();
        Metric::at(theta, &DVector::from_element(d, 1.0 / d as f64))
    }

    /// A linear map of the mean with one eigenvalue per variable, and the fixed point 0; the
    /// loadings of the image are those of `model`.
    fn map(theta: &Model, eigenvalues: &[f64]) -> Result<Model> {
        Ok(model(theta.mean().component_mul(&DVector::from_column_slice(eigenvalues))))
    }

    /// A step of the mean alone.
    fn of_mean(mean: &[f64]) -> Step {
        let d = mean.len();
        let augmented = DMatrix::from_fn(d, 2, |j, a| if a == 1 { mean[j] } else { 0.0 });
        Step { augmented, log_noise: DVector::zeros(d) }
    }

    #[test]
    fn the_basis_is_orthonormal_and_the_projection_is_that_of_the_map() {
        let eigenvalues = [0.9, 0.5, 0.2, -0.4, 0.1];
        let theta = model(DVector::zeros(5));
        let (image, metric) = (map(&theta, &eigenvalues).unwrap(), metric(&theta));
        let mut arnoldi = Arnoldi::new(&theta, &image, &metric, of_mean(&[1.0; 5])).unwrap();
        for size in 1..=5 {
            assert!(arnoldi.extend(|theta| map(theta, &eigenvalues)).unwrap(), "{size}");
        }
        // The space of the means is exhausted after five vectors.
        assert!(!arnoldi.extend(|theta| map(theta, &eigenvalues)).unwrap());
        let gram =
            DMatrix::from_fn(5, 5, |a, b| metric.inner(&arnoldi.basis[a], &arnoldi.basis[b]));
        assert!((gram - DMatrix::identity(5, 5)).amax() < 1e-10);
        assert!((0..5).all(|b| (b + 2..5).all(|a| arnoldi.projection[(a, b)] == 0.0)));
        let symmetric = (&arnoldi.projection + arnoldi.projection.transpose()) * 0.5;
        let mut found: Vec<f64> =
            symmetric_eigen(symmetric.as_view()).unwrap().values.iter().copied().collect();
        found.sort_by(|a, b| b.total_cmp(a));
        let mut expected = eigenvalues;
        expected.sort_by(|a, b| b.total_cmp(a));
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?}");
    }

    #[test]
    fn an_eigenvalue_above_one_is_found_with_its_direction() {
        let stability = |eigenvalues: &[f64]| {
            let theta = model(DVector::zeros(eigenvalues.len()));
            let (image, metric) = (map(&theta, eigenvalues).unwrap(), metric(&theta));
            let first = starting_vector(&theta, &image, Centering::Mean);
            let mut arnoldi = Arnoldi::new(&theta, &image, &metric, first).unwrap();
            let ritz = arnoldi.ritz_pairs(|theta| map(theta, eigenvalues)).unwrap().unwrap();
            arnoldi.stability(&ritz)
        };
        match stability(&[0.3, 1.2, 0.5, 0.1, 0.2, 0.4]) {
            Stability::Ascent(step) => {
                let along = step.augmented[(1, 1)].abs();
                assert!(along > 0.999 * step.augmented.norm(), "{}", step.augmented);
            }
            Stability::Contracting(value) => panic!("{value}"),
        }
        match stability(&[0.3, 0.95, 0.5, 0.1, 0.2, 0.4]) {
            Stability::Contracting(value) => assert!((value - 0.95).abs() < 1e-3, "{value}"),
            Stability::Ascent(step) => panic!("{}", step.augmented),
        }
        // Above 1 by less than the finite differences resolve.
        assert!(matches!(stability(&[0.5, 1.0 + 1e-5, 0.2]), Stability::Contracting(_)));
    }

    #[test]
    fn the_schedule_extends_the_basis_while_an_eigenvalue_may_be_hidden() {
        assert!(wants_more(0, f64::INFINITY));
        assert!(wants_more(3, 0.1) && !wants_more(4, 0.1));
        assert!(wants_more(9, 0.7) && !wants_more(10, 0.7));
        assert!(wants_more(29, 1.5) && !wants_more(30, 1.5));
        // A negative largest Ritz value needs no further vector.
        assert!(!wants_more(1, -0.1));
    }

    #[test]
    fn steps_are_extrapolated_to_the_fixed_point_of_a_linear_map() {
        let eigenvalues = [0.999, 0.9, 0.5, -0.5];
        let here = DVector::from_column_slice(&[1.0, -2.0, 0.5, 3.0]);
        let theta = model(here.clone());
        let (image, metric) = (map(&theta, &eigenvalues).unwrap(), metric(&theta));
        let step = Step::between(&theta, &image);
        let mut arnoldi = Arnoldi::new(&theta, &image, &metric, step.clone()).unwrap();
        while arnoldi.extend(|theta| map(theta, &eigenvalues)).unwrap() {}
        let to_limit = arnoldi.solution(&step).unwrap();
        assert!((to_limit.augmented.column(1) + here).amax() < 1e-4, "{}", to_limit.augmented);
    }

    #[test]
    fn a_step_of_zero_is_its_own_limit() {
        let theta = model(DVector::zeros(3));
        let metric = metric(&theta);
        let mut arnoldi = Arnoldi::new(&theta, &theta, &metric, of_mean(&[0.0; 3])).unwrap();
        assert!(!arnoldi.extend(|_| unreachable!()).unwrap());
        assert_eq!(arnoldi.solution(&of_mean(&[0.0; 3])).unwrap().augmented.amax(), 0.0);
    }

    #[test]
    fn the_gauge_removes_rotations_and_nothing_else() {
        let loadings = DMatrix::from_row_slice(3, 2, &[1.0, 0.3, -0.5, 2.0, 0.7, 0.1]);
        let noise = IsotropicGaussian::fixed(0.5).unwrap();
        let theta = Theta::new(loadings.clone(), &DVector::zeros(3), noise);
        let gauge = Gauge::at(&theta).unwrap();
        let skew = DMatrix::from_row_slice(2, 2, &[0.0, 1.0, -1.0, 0.0]);
        let mut rotation = of_mean(&[1.0, 2.0, 3.0]);
        rotation.augmented = (&loadings * skew).insert_column(2, 0.0);
        rotation.augmented.set_column(2, &DVector::from_column_slice(&[1.0, 2.0, 3.0]));
        gauge.remove(&mut rotation);
        assert!(rotation.augmented.columns(0, 2).amax() < 1e-14);
        assert_eq!(rotation.augmented[(2, 2)], 3.0);
        // W itself (a change of scale) is orthogonal to every WA.
        let mut scale = Step::between(&theta, &theta);
        scale.augmented = loadings.clone().insert_column(2, 0.0);
        gauge.remove(&mut scale);
        assert!((scale.augmented.columns(0, 2) - loadings).amax() < 1e-14);
    }
}

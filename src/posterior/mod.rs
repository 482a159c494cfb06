//! What q(z_i) is: a point, or a Gaussian with an isotropic, a diagonal or a full covariance.
//!
//! In the order of the progression: [`Point`] (the autoencoder's), [`SharedCovariance`] (the exact
//! posterior of a linear-Gaussian model: one covariance for all observations),
//! [`PatternCovariance`] (the same given what was observed of each: one covariance for each pattern
//! of holes), then the parametrised families [`Isotropic`] (the lecture's), [`Diagonal`] and
//! [`Full`]. A family stands on one matrix of free parameters φ, a column an observation: the table
//! of variational EM, or the output of an encoder's map.

/// What every family does alike with its `latent_dim` and `parameters`.
macro_rules! phi_accessors {
    () => {
        fn from_parameters(latent_dim: usize, parameters: DMatrix<T>) -> Result<Self> {
            crate::data::expect(
                "rows of φ",
                Self::parameter_count(latent_dim),
                parameters.nrows(),
            )?;
            Ok(Self { latent_dim, parameters })
        }

        fn at_prior(latent_dim: usize, n: usize) -> Self {
            Self { latent_dim, parameters: DMatrix::zeros(Self::parameter_count(latent_dim), n) }
        }

        fn into_parameters(self) -> DMatrix<T> {
            self.parameters
        }

        fn parameters(&self) -> &DMatrix<T> {
            &self.parameters
        }

        fn parameters_mut(&mut self) -> &mut DMatrix<T> {
            &mut self.parameters
        }
    };
}

mod diagonal;
mod full;
mod isotropic;
mod pattern_covariance;
mod point;
mod shared_covariance;

pub use diagonal::Diagonal;
pub use full::Full;
pub use isotropic::Isotropic;
pub use pattern_covariance::PatternCovariance;
pub use point::Point;
pub use shared_covariance::SharedCovariance;

use crate::linalg::vector::sum_in_lanes;
use crate::linalg::{cholesky_lower, solve_cholesky};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};
use std::hint::select_unpredictable as choose;

/// What an inference returns: one distribution over z for each of n observations.
///
/// You give the means; you get everything that needs no more than a code for each observation.
#[allow(clippy::len_without_is_empty)] // an inference is never about no observation
pub trait Posterior<T: Real> {
    /// The means, k×n.
    fn mean(&self) -> DMatrixView<'_, T>;

    /// The means alone, k×n; override it where they need not be copied.
    fn into_mean(self) -> DMatrix<T>
    where
        Self: Sized,
    {
        self.mean().into_owned()
    }

    /// The latent dimension k.
    fn latent_dim(&self) -> usize {
        self.mean().nrows()
    }

    /// The number n of observations.
    fn len(&self) -> usize {
        self.mean().ncols()
    }
}

/// A Gaussian posterior q(z_i) = N(m_i, Σ_i): it has a divergence from the prior N(0, I), and it
/// can be sampled by the reparameterisation z = m + Lε.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Gaussian posterior: it has no density, so no Kullback-Leibler divergence and no evidence lower bound",
    label = "a point code has no density"
)]
pub trait GaussianPosterior<T: Real>: Posterior<T> {
    /// KL(q(z_i) ‖ N(0, I)) in nats, one entry an observation, every constant kept:
    ///
    /// ```math
    /// \mathrm{KL}_i = \tfrac12\left(\operatorname{tr}\Sigma_i + \lVert m_i\rVert^2 - k - \ln\lvert\Sigma_i\rvert\right)
    /// ```
    ///
    /// It is minus the E_q log π/q of the lecture.
    fn kl_to_prior(&self) -> DVector<T>;

    /// Σ_i KL(q(z_i) ‖ N(0, I)) in nats; override it where it can be had without a vector.
    fn kl_to_prior_sum(&self) -> T {
        self.kl_to_prior().sum()
    }

    /// Σ_i, the k×k covariance for observation `i`.
    fn covariance(&self, i: usize) -> DMatrix<T>;

    /// tr(RᵗR Σ_i) = ‖R L_i‖² for a matrix R with k columns, one entry an observation.
    ///
    /// It takes the root R and not RᵗR, because a sum of squares cannot cancel; and R in double
    /// precision, because R L_i can.
    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T>;

    /// Σ over all observations of the covariances, k×k.
    fn covariance_sum(&self) -> DMatrix<T>;

    /// z_i = m_i + L_i ε_i, with L_i L_iᵗ = Σ_i; ε and z are k×n. The factor is the standard
    /// deviation, not the variance.
    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>);
}

/// A Gaussian family with free parameters φ_i, a column an observation: what variational EM
/// tabulates and an encoder emits.
///
/// Rows 0..k of φ are the mean; the rest is the scale, with φ = 0 for the prior N(0, I), on the
/// logarithm where it must be positive. Log-variances are held within ±[`log_variance_bound`];
/// beyond it the derivative is 0.
pub trait PosteriorFamily<T: Real>: GaussianPosterior<T> + Clone + Sized {
    /// Rows of φ for a latent dimension k; no more than a `usize` holds, whatever k is.
    fn parameter_count(latent_dim: usize) -> usize;

    /// The members with the given φ ([`parameter_count`](Self::parameter_count)×n).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when the rows do not fit k.
    fn from_parameters(latent_dim: usize, parameters: DMatrix<T>) -> Result<Self>;

    /// N(0, I) for each of n observations.
    fn at_prior(latent_dim: usize, n: usize) -> Self;

    /// Gives φ away.
    fn into_parameters(self) -> DMatrix<T>;

    /// φ.
    fn parameters(&self) -> &DMatrix<T>;

    /// φ, to be moved.
    fn parameters_mut(&mut self) -> &mut DMatrix<T>;

    /// Adds −scale·∂KL_i/∂φ_i to `d` (the shape of φ).
    fn add_negative_kl_gradient(&self, scale: T, d: &mut DMatrix<T>);

    /// Adds −½·scale·∂tr(RᵗR Σ_i)/∂φ_i to `d`: the part of the expected log-likelihood that the
    /// covariance bears.
    fn add_negative_half_trace_gradient(
        &self,
        root: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    );

    /// Carries ∂/∂z (k×n) back through `z = m + Lε` and adds it to `d`.
    fn add_transform_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        d: &mut DMatrix<T>,
    );

    /// d ← ∂/∂z (k×n) carried back through `z = m + Lε`, less scale·∂KL_i/∂φ_i: the derivative of
    /// the bound by φ for one draw. Returns Σ_i KL_i in nats.
    ///
    /// Override it where one pass does what three do; `d` has the shape of φ, and what it holds is
    /// not read.
    fn bound_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    ) -> T {
        d.as_mut_slice().fill(T::zero());
        self.add_transform_gradient(noise, d_z, d);
        self.add_negative_kl_gradient(scale, d);
        self.kl_to_prior_sum()
    }

    /// Adds −scale·∂ ln q_i(z_i)/∂z_i = scale·Σ_i⁻¹(z_i − m_i) to `d_z` (k×n).
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) where Σ_i has no inverse
    /// in the arithmetic.
    fn add_negative_score(
        &self,
        z: DMatrixView<'_, T>,
        scale: T,
        d_z: &mut DMatrix<T>,
    ) -> Result<()> {
        for i in 0..self.len() {
            let factor = cholesky_lower(self.covariance(i).as_view())?;
            let mut score = (z.column(i) - self.mean().column(i)) * scale;
            solve_cholesky(&factor, DMatrixViewMut::from_slice(score.as_mut_slice(), z.nrows(), 1));
            let mut d_z = d_z.column_mut(i);
            d_z += score;
        }
        Ok(())
    }

    /// The members of the family that are nearest, by KL(q‖p), to p = N(m_i, (RᵗR)⁻¹): the best q_i
    /// where p(z_i|x_i) is one.
    ///
    /// The means are k×n; R is any matrix with k columns whose RᵗR is the precision common to all
    /// observations, as it is under a linear-Gaussian model.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite).
    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self>;

    /// The size in which each entry of φ moves by nature (the shape of φ): a standard deviation for
    /// a mean, 1 for a logarithm.
    ///
    /// An optimiser that takes steps in these sizes does not mind the scale of the posterior.
    fn parameter_scales(&self) -> DMatrix<T> {
        let k = self.latent_dim();
        let mut scales = DMatrix::from_element(self.parameters().nrows(), self.len(), T::one());
        for i in 0..self.len() {
            let deviations = self.covariance(i).diagonal().map(|v| v.sqrt());
            scales.column_mut(i).rows_mut(0, k).copy_from(&deviations);
        }
        scales
    }
}

/// What log-variances are held within, ±: 0.45 ln of the largest number, so that a variance and its
/// square stay finite (40 in `f32`, 319 in `f64`).
pub fn log_variance_bound<T: Real>() -> T {
    T::of(0.45) * T::MAX.ln()
}

/// The log-variance within its bound, and whether the bound is what holds it.
#[inline]
pub(crate) fn bounded<T: Real>(log_variance: T) -> (T, bool) {
    let bound = log_variance_bound();
    let within = log_variance.abs() <= bound;
    // A branch here would keep the caller's loop from becoming vectors.
    (choose(within, log_variance, choose(log_variance > bound, bound, -bound)), !within)
}

/// Σ (e^l − 1 − l) over log-variances l: twice what they bear of the KL.
#[inline(always)]
pub(crate) fn excess<T: Real>(log_variances: &[T]) -> T {
    sum_in_lanes(log_variances, |l| {
        let l = bounded(l).0;
        l.quick_exp_m1() - l
    })
}

/// The sum of squares.
#[inline(always)]
pub(crate) fn square_sum<T: Real>(values: &[T]) -> T {
    sum_in_lanes(values, |value| value * value)
}

/// ½‖m_i‖², the part of the KL that each family's mean bears.
pub(crate) fn half_squared_norms<T: Real>(mean: DMatrixView<'_, T>) -> DVector<T> {
    DVector::from_iterator(mean.ncols(), mean.column_iter().map(|m| T::of(0.5) * m.norm_squared()))
}

/// Adds −scale·m_i to the mean's rows of `d`: the mean's part of the gradient of −KL.
pub(crate) fn add_mean_kl_gradient<T: Real>(
    mean: DMatrixView<'_, T>,
    scale: T,
    d: &mut DMatrix<T>,
) {
    add_to_means(mean, -scale, d);
}

/// Adds a multiple of k×n numbers to the mean's rows of `d`.
pub(crate) fn add_to_means<T: Real>(from: DMatrixView<'_, T>, scale: T, d: &mut DMatrix<T>) {
    let rows = d.nrows().max(1);
    for (d, from) in d.as_mut_slice().chunks_exact_mut(rows).zip(from.column_iter()) {
        for (d, &from) in d.iter_mut().zip(from.data.into_slice()) {
            *d += scale * from;
        }
    }
}

//! Posterior distributions q(z_i): a point, or a Gaussian with isotropic, diagonal or full
//! covariance.
//!
//! From PCA to the variational autoencoder: [`Point`] (the code of an autoencoder),
//! [`SharedCovariance`] (the exact posterior of a linear-Gaussian model: one covariance for all
//! observations), [`PatternCovariance`] (the exact posterior given incomplete data: one covariance
//! for each pattern of missing values), then the variational families [`Isotropic`], [`Diagonal`]
//! and [`Full`]. A variational family is parametrised by one matrix φ of free parameters, one
//! column per observation. In variational EM, φ holds the local variational parameters; in
//! amortised inference it is the output of the encoder.

/// The [`PosteriorFamily`] methods that are alike in all families with fields `latent_dim` and
/// `parameters`.
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

/// A distribution over z for each of n observations: the result of inference.
///
/// Implement the means to use every method that needs no more than a code for each observation.
#[allow(clippy::len_without_is_empty)] // data are never empty
pub trait Posterior<T: Real> {
    /// The means, k×n.
    fn mean(&self) -> DMatrixView<'_, T>;

    /// Returns the means, k×n, by value; override it where no copy is needed.
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

/// A Gaussian posterior q(z_i) = N(m_i, Σ_i), which has a KL divergence from the prior N(0, I) and
/// can be sampled by the reparameterisation z = m + Lε.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Gaussian posterior: it has no density, so no \
               Kullback-Leibler divergence and no evidence lower bound",
    label = "a point code has no density"
)]
pub trait GaussianPosterior<T: Real>: Posterior<T> {
    /// KL(q(z_i) ‖ N(0, I)) in nats, one entry per observation, with every constant:
    ///
    /// ```math
    /// \mathrm{KL}_i = \tfrac12\left(\operatorname{tr}\Sigma_i + \lVert m_i\rVert^2 - k
    /// - \ln\lvert\Sigma_i\rvert\right)
    /// ```
    ///
    /// It equals −E_{q_i} log π/q_i.
    fn kl_to_prior(&self) -> DVector<T>;

    /// Σ_i KL(q(z_i) ‖ N(0, I)) in nats; override it where the sum needs no vector of n values.
    fn kl_to_prior_sum(&self) -> T {
        self.kl_to_prior().sum()
    }

    /// Σ_i, the k×k covariance for observation `i`.
    fn covariance(&self, i: usize) -> DMatrix<T>;

    /// tr(RᵗR Σ_i) = ‖R L_i‖² for a matrix R with k columns, one entry per observation.
    ///
    /// The argument is the square-root factor R, not RᵗR, because a sum of squares cannot cancel. R
    /// is in double precision, because the entries of R L_i can.
    fn trace_with(&self, root: DMatrixView<'_, f64>) -> DVector<T>;

    /// The sum of the covariances over all observations, k×k.
    fn covariance_sum(&self) -> DMatrix<T>;

    /// Computes z_i = m_i + L_i ε_i with L_i L_iᵗ = Σ_i; ε and z are k×n. L_i is a square-root
    /// factor of the covariance: a standard deviation, not a variance.
    fn transform(&self, noise: DMatrixView<'_, T>, z: &mut DMatrix<T>);
}

/// A variational family: Gaussians with free parameters φ_i, one column per observation.
/// Variational EM optimises φ itself; an encoder computes φ from x.
///
/// Rows 0..k of φ are the mean. The other rows are the scale, on the logarithm where it must be
/// positive, so that φ = 0 is the prior N(0, I). Log-variances are clamped to
/// ±[`log_variance_bound`]; beyond it their derivative is 0.
pub trait PosteriorFamily<T: Real>: GaussianPosterior<T> + Clone + Sized {
    /// The number of rows of φ for a latent dimension k; it saturates at `usize::MAX`.
    fn parameter_count(latent_dim: usize) -> usize;

    /// The Gaussians with the given φ ([`parameter_count`](Self::parameter_count)×n).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when φ does not have the
    /// number of rows for k.
    fn from_parameters(latent_dim: usize, parameters: DMatrix<T>) -> Result<Self>;

    /// N(0, I) for each of n observations.
    fn at_prior(latent_dim: usize, n: usize) -> Self;

    /// Returns φ by value.
    fn into_parameters(self) -> DMatrix<T>;

    /// The free parameters φ.
    fn parameters(&self) -> &DMatrix<T>;

    /// The free parameters φ, mutable.
    fn parameters_mut(&mut self) -> &mut DMatrix<T>;

    /// Adds −scale·∂KL_i/∂φ_i to `d` (the shape of φ).
    fn add_negative_kl_gradient(&self, scale: T, d: &mut DMatrix<T>);

    /// Adds −½·scale·∂tr(RᵗR Σ_i)/∂φ_i to `d`: the gradient of the term of the expected
    /// log-likelihood that depends on the covariance.
    fn add_negative_half_trace_gradient(
        &self,
        root: DMatrixView<'_, T>,
        scale: T,
        d: &mut DMatrix<T>,
    );

    /// Backpropagates ∂/∂z (k×n) through `z = m + Lε` and adds the result to `d`.
    fn add_transform_gradient(
        &self,
        noise: DMatrixView<'_, T>,
        d_z: DMatrixView<'_, T>,
        d: &mut DMatrix<T>,
    );

    /// Computes the gradient of the ELBO by φ for one Monte Carlo sample: `d` is ∂/∂z (k×n)
    /// backpropagated through `z = m + Lε`, minus scale·∂KL_i/∂φ_i. Returns Σ_i KL_i in nats.
    ///
    /// Override it where one pass can replace three. `d` has the shape of φ; its contents are
    /// overwritten, not read.
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
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) where Σ_i is numerically
    /// singular.
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

    /// The KL projection of p = N(m_i, (RᵗR)⁻¹) onto the family: the q_i that minimise KL(q‖p),
    /// which are optimal where p(z_i|x_i) = p.
    ///
    /// The means are k×n. R is any matrix with k columns whose RᵗR is the precision, common to all
    /// observations as it is under a linear-Gaussian model.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite).
    fn nearest(mean: DMatrix<T>, precision_root: DMatrixView<'_, f64>) -> Result<Self>;

    /// The typical step size of each entry of φ (the shape of φ): a standard deviation for a mean,
    /// 1 for a logarithm.
    ///
    /// An optimiser that scales its steps by these is invariant to the scale of the posterior.
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

/// The bound on the absolute value of a log-variance: 0.45 ln of the largest number, so that a
/// variance and its square stay finite (40 in `f32`, 319 in `f64`).
#[doc(hidden)]
pub fn log_variance_bound<T: Real>() -> T {
    T::of(0.45) * T::MAX.ln()
}

/// The log-variance clamped to its bound, and whether it was clamped.
#[inline]
pub(crate) fn bounded<T: Real>(log_variance: T) -> (T, bool) {
    let bound = log_variance_bound();
    let within = log_variance.abs() <= bound;
    // Selects instead of branches: a branch in the body keeps LLVM from vectorising the caller's
    // loop.
    (choose(within, log_variance, choose(log_variance > bound, bound, -bound)), !within)
}

/// Σ (e^l − 1 − l) over log-variances l: twice their contribution to the KL.
#[inline(always)]
pub(crate) fn excess<T: Real>(log_variances: &[T]) -> T {
    sum_in_lanes(log_variances, |l| {
        let l = bounded(l).0;
        // e^l − 1 in one function: near the prior (l ≈ 0) the subtraction of 1 would cancel.
        l.quick_exp_m1() - l
    })
}

/// The sum of squares of the entries.
#[inline(always)]
pub(crate) fn square_sum<T: Real>(values: &[T]) -> T {
    sum_in_lanes(values, |value| value * value)
}

/// ½‖m_i‖², the contribution of the mean to the KL, one entry per observation.
pub(crate) fn half_squared_norms<T: Real>(mean: DMatrixView<'_, T>) -> DVector<T> {
    DVector::from_iterator(mean.ncols(), mean.column_iter().map(|m| T::of(0.5) * m.norm_squared()))
}

/// Adds −scale·m_i to the mean's rows of `d`: the gradient of −KL by the mean.
pub(crate) fn add_mean_kl_gradient<T: Real>(
    mean: DMatrixView<'_, T>,
    scale: T,
    d: &mut DMatrix<T>,
) {
    add_to_means(mean, -scale, d);
}

/// Adds scale·`from` (k×n) to the mean's rows of `d`.
pub(crate) fn add_to_means<T: Real>(from: DMatrixView<'_, T>, scale: T, d: &mut DMatrix<T>) {
    // `chunks_exact_mut` does not accept 0. `zip` ends with the k rows of `from`: the rows of the
    // scale stay as they are.
    let rows = d.nrows().max(1);
    for (d, from) in d.as_mut_slice().chunks_exact_mut(rows).zip(from.column_iter()) {
        for (d, &from) in d.iter_mut().zip(from.data.into_slice()) {
            *d += scale * from;
        }
    }
}

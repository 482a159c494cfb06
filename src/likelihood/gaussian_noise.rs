//! The trait of Gaussian noise models with which a linear decoder has closed forms.

use super::{IsotropicGaussian, Likelihood};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Gaussian noise with diagonal covariance, x|y ~ N(y, D c D) with a diagonal matrix D and a scalar
/// c, with which a linear decoder has closed forms.
///
/// Implement multiplication of rows by D⁻¹, c, ln|D²| and the M-step of the variances to use log
/// p(x), the exact posterior, the expected log-likelihood and EM of
/// [`LinearGaussian`](crate::model::LinearGaussian) with your noise. In x̃ = D⁻¹x the noise is
/// isotropic, so that every closed form of probabilistic PCA applies.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Gaussian noise: the integral over z is only tractable for a \
               linear decoder with Gaussian noise",
    note = "`IsotropicGaussian` makes probabilistic PCA, `DiagonalGaussian` factor analysis",
    note = "a linear autoencoder has no density p(x|z): probabilistic PCA is the linear \
            autoencoder with one: use `Ppca`"
)]
pub trait GaussianNoise<T: Real>: Likelihood<T> + Sync {
    /// The noise variance of each variable, d×1.
    fn variances(&self, data_dim: usize) -> DVector<T>;

    /// c, the noise variance of D⁻¹x.
    fn common_variance(&self) -> T;

    /// ln|D²|. The log-density of x is that of D⁻¹x minus half of it.
    fn scale_log_determinant(&self) -> T;

    /// Multiplies a matrix with d rows by D⁻¹ in place.
    fn divide_by_scales(&self, rows: &mut DMatrix<T>);

    /// Whether the variances are fixed.
    fn is_fixed(&self) -> bool;

    /// Whether all variables share one variance. The M-step then needs only the total of the
    /// squares.
    fn is_shared(&self) -> bool;

    /// Sets the variances to the maximiser of the expected log-likelihood (the M-step), bounded
    /// below by a floor; fixed variances do not change.
    ///
    /// `squares` is Σ E(x_j − y_j)² and `counts` the number of entries in that sum: one of each per
    /// variable (d), or, where all variables [share one variance](Self::is_shared), in total.
    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>);
}

impl<T: Real> GaussianNoise<T> for IsotropicGaussian<T> {
    fn variances(&self, data_dim: usize) -> DVector<T> {
        DVector::from_element(data_dim, self.noise_variance())
    }

    fn common_variance(&self) -> T {
        self.noise_variance()
    }

    fn scale_log_determinant(&self) -> T {
        T::zero()
    }

    fn divide_by_scales(&self, _rows: &mut DMatrix<T>) {}

    fn is_fixed(&self) -> bool {
        IsotropicGaussian::is_fixed(self)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>) {
        // The sums serve both conventions: one entry per variable, or one in total.
        self.set_noise_variance(squares.sum() / counts.sum());
    }
}

/// Converts a variance to another precision. A variance above the largest number of `U` becomes
/// that number; one below its smallest normal number is an error, because it would lose digits.
pub(crate) fn narrow_variance<T: Real, U: Real>(variance: T) -> Result<U> {
    let (variance, limit) = (variance.as_f64(), U::MIN_POSITIVE.as_f64());
    if variance >= limit {
        return Ok(U::of(variance.min(U::MAX.as_f64())));
    }
    Err(Error::Underflow {
        what: "the standard deviation of the noise",
        deviation: variance.sqrt(),
        limit,
    })
}

/// ln 2πv, also where 2πv overflows.
pub(crate) fn log_two_pi_times<T: Real>(variance: T) -> T {
    let product = T::two_pi() * variance;
    if product <= T::MAX { product.ln() } else { T::two_pi().ln() + variance.ln() }
}

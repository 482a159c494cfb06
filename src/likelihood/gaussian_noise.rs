//! The shape of Gaussian noise, as a capability.

use super::{IsotropicGaussian, Likelihood};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Gaussian noise under which a linear decoder keeps its closed forms: x|y ~ N(y, D c D) with a
/// diagonal D, and one number c.
///
/// You give D⁻¹ as it acts on rows, c, ln|D²| and the M-step of the variances; you get log p(x),
/// the exact posterior, the expected log-likelihood and EM of
/// [`LinearGaussian`](crate::model::LinearGaussian) with your noise. In x̃ = D⁻¹x the noise is
/// isotropic, and every closed form of probabilistic PCA holds as it stands.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not Gaussian noise: the integral over z is only tractable for a linear decoder with Gaussian noise",
    note = "`IsotropicGaussian` makes probabilistic PCA, `DiagonalGaussian` factor analysis",
    note = "a linear autoencoder has no density p(x|z): probabilistic PCA is the linear autoencoder with one: use `Ppca`"
)]
pub trait GaussianNoise<T: Real>: Likelihood<T> + Sync {
    /// The variance of each variable's noise, d×1.
    fn variances(&self, data_dim: usize) -> DVector<T>;

    /// c, the variance of the noise that is left in D⁻¹x.
    fn common_variance(&self) -> T;

    /// ln|D²|: what the log-density of x has less than that of D⁻¹x, twice.
    fn log_scales(&self) -> T;

    /// Overwrites a matrix with d rows by D⁻¹ times it.
    fn equalize(&self, rows: &mut DMatrix<T>);

    /// Whether no fit may change the variances.
    fn is_fixed(&self) -> bool;

    /// Whether all variables share one variance, so that the M-step asks for the total of the
    /// squares alone.
    fn is_shared(&self) -> bool;

    /// The M-step: the variances that maximise the expected log-likelihood, given Σ E(x_j − y_j)²
    /// and the number of the entries that it is a sum over, for each variable (d) or, where [one
    /// variance](Self::is_shared) serves all, in total; at or above a declared floor, and unmoved
    /// if fixed.
    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>);
}

impl<T: Real> GaussianNoise<T> for IsotropicGaussian<T> {
    fn variances(&self, data_dim: usize) -> DVector<T> {
        DVector::from_element(data_dim, self.noise_variance())
    }

    fn common_variance(&self) -> T {
        self.noise_variance()
    }

    fn log_scales(&self) -> T {
        T::zero()
    }

    fn equalize(&self, _rows: &mut DMatrix<T>) {}

    fn is_fixed(&self) -> bool {
        IsotropicGaussian::is_fixed(self)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>) {
        self.set_noise_variance(squares.sum() / counts.sum());
    }
}

/// A variance in another precision, in which it must not lose digits; one beyond what that
/// precision holds is its largest number.
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

/// ln 2πv, also where 2πv is beyond the largest number.
pub(crate) fn log_two_pi_times<T: Real>(variance: T) -> T {
    let product = T::two_pi() * variance;
    if product <= T::MAX { product.ln() } else { T::two_pi().ln() + variance.ln() }
}

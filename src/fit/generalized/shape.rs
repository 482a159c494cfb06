//! The covariance of q(z_i) as an optimiser sees it: the rows of φ_i below the mean.

use crate::Real;
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use nalgebra::DMatrix;

/// Which covariances a posterior family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// s_i I; φ_i is the mean and ln s_i.
    Isotropic,
    /// Diagonal; φ_i is the mean and the logarithms of the variances.
    Diagonal,
    /// L_i L_iᵗ; φ_i is the mean, the 2 ln L_jj, and L_i below its diagonal, column by column.
    Full,
}

/// Posterior families for which the variances of linear predictors have closed forms.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a posterior family of this crate",
    label = "the variances of the linear predictors are known for these families only",
    note = "use `posterior::Isotropic`, `posterior::Diagonal` or `posterior::Full`"
)]
pub trait PredictorFamily<T: Real>: PosteriorFamily<T> {
    /// Which covariances the family has.
    const SHAPE: Shape;
}

impl<T: Real> PredictorFamily<T> for Isotropic<T> {
    const SHAPE: Shape = Shape::Isotropic;
}
impl<T: Real> PredictorFamily<T> for Diagonal<T> {
    const SHAPE: Shape = Shape::Diagonal;
}
impl<T: Real> PredictorFamily<T> for Full<T> {
    const SHAPE: Shape = Shape::Full;
}

/// Largest absolute value of a log-variance.
const LARGEST_LOG: f64 = 300.0;

/// e^l, finite and positive.
pub(super) fn exp(l: f64) -> f64 {
    l.clamp(-LARGEST_LOG, LARGEST_LOG).exp()
}

impl Shape {
    /// The number of rows of φ.
    pub(crate) fn rows(self, k: usize) -> usize {
        match self {
            Self::Isotropic => k + 1,
            Self::Diagonal => 2 * k,
            Self::Full => 2 * k + k * k.saturating_sub(1) / 2,
        }
    }

    /// L_i (k×k) from φ_i, a square-root factor of the covariance.
    pub(super) fn factor_into(self, phi: &[f64], factor: &mut DMatrix<f64>) {
        let k = factor.nrows();
        factor.fill(0.0);
        match self {
            Self::Isotropic => factor.fill_diagonal(exp(0.5 * phi[k])),
            Self::Diagonal => (0..k).for_each(|a| factor[(a, a)] = exp(0.5 * phi[k + a])),
            Self::Full => {
                let mut below = 2 * k;
                for a in 0..k {
                    factor[(a, a)] = exp(0.5 * phi[k + a]);
                    for row in a + 1..k {
                        factor[(row, a)] = phi[below];
                        below += 1;
                    }
                }
            }
        }
    }

    /// Writes the scale rows of φ_i for a lower triangular factor with a positive diagonal: for
    /// isotropic covariances that of the mean variance.
    pub(crate) fn write_factor(self, factor: &DMatrix<f64>, phi: &mut [f64]) {
        let k = factor.nrows();
        match self {
            Self::Isotropic => phi[k] = (factor.norm_squared() / k as f64).ln(),
            Self::Diagonal => {
                (0..k).for_each(|a| phi[k + a] = factor.row(a).norm_squared().ln());
            }
            Self::Full => {
                let mut below = 2 * k;
                for a in 0..k {
                    phi[k + a] = 2.0 * factor[(a, a)].ln();
                    for row in a + 1..k {
                        phi[below] = factor[(row, a)];
                        below += 1;
                    }
                }
            }
        }
    }

    /// Adds to `d` the derivatives by the scale rows of φ_i, from those by L_i (its lower triangle).
    pub(super) fn add_factor_gradient(
        self,
        factor: &DMatrix<f64>,
        d_factor: &DMatrix<f64>,
        d: &mut [f64],
    ) {
        let k = factor.nrows();
        // ∂L_aa/∂l = ½ L_aa for a log-variance l.
        let along = |a: usize| 0.5 * factor[(a, a)] * d_factor[(a, a)];
        match self {
            Self::Isotropic => d[k] += (0..k).map(along).sum::<f64>(),
            Self::Diagonal => (0..k).for_each(|a| d[k + a] += along(a)),
            Self::Full => {
                let mut below = 2 * k;
                for a in 0..k {
                    d[k + a] += along(a);
                    for row in a + 1..k {
                        d[below] += d_factor[(row, a)];
                        below += 1;
                    }
                }
            }
        }
    }

    /// The covariance of this shape that is closest to a precision Λ in the sense of KL(q‖p),
    /// written to the scale rows of φ_i.
    pub(super) fn write_precision(self, precision: &DMatrix<f64>, phi: &mut [f64]) {
        let k = precision.nrows();
        match self {
            Self::Isotropic => phi[k] = -(precision.trace() / k as f64).ln(),
            Self::Diagonal => (0..k).for_each(|a| phi[k + a] = -precision[(a, a)].ln()),
            Self::Full => {
                let covariance = precision.clone().cholesky().map(|c| c.inverse());
                let factor = covariance.and_then(|c| c.cholesky()).map(|c| c.l());
                let diagonal =
                    || DMatrix::from_diagonal(&precision.diagonal().map(|v| v.powf(-0.5)));
                self.write_factor(&factor.unwrap_or_else(diagonal), phi);
            }
        }
    }

    /// The nearest matrix of this shape to a second moment: itself, its diagonal, or its mean
    /// variance.
    pub(super) fn project(self, moment: DMatrix<f64>) -> DMatrix<f64> {
        let k = moment.nrows();
        match self {
            Self::Isotropic => {
                DMatrix::from_diagonal_element(k, k, moment.trace() / k.max(1) as f64)
            }
            Self::Diagonal => DMatrix::from_diagonal(&moment.diagonal()),
            Self::Full => moment,
        }
    }
}

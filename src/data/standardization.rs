//! Standardisation of variables, and its inverse.

use super::{constant_but_for_rounding, expect};
use crate::linalg::check_finite;
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Centring and scaling of each variable to mean 0 and variance 1 (divisor n), with its inverse.
///
/// ```math
/// \tilde x_j = (x_j - \mu_j) / s_j
/// ```
///
/// A variable that is constant, or constant but for rounding (a standard deviation within 16
/// roundings of the mean in `f64`, within one in `f32`), is centred and not scaled: s_j = 1, and the
/// values of the fit become 0. A variable of scale 10⁻²⁰ about 0 is scaled like any other.
///
/// The mean is kept to the precision of two numbers of type `T`: beside a large offset, the
/// standardised data have the mean 0 and the variance 1 that the entries determine.
///
/// ```
/// use elbo::data::Standardization;
/// let x = nalgebra::dmatrix![1.0_f64, 2.0, 3.0; 100.0, 300.0, 200.0; 5.0, 5.0, 5.0];
/// let standardization = Standardization::fit(&x)?;
/// let z = standardization.transform(&x)?;
/// assert!((z.row(0).norm_squared() / 3.0 - 1.0).abs() < 1e-12);
/// assert_eq!(z.row(2).amax(), 0.0);
/// assert!((standardization.inverse_transform(&z)? - x).amax() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Standardization<T: Real = f64> {
    pub(crate) mean: DVector<T>,
    /// What rounding to `T` has taken from the mean.
    pub(crate) mean_rest: DVector<T>,
    pub(crate) scale: DVector<T>,
    /// The deviation up to which a value of a constant variable is rounding; 0 for the others.
    pub(crate) rounding: DVector<T>,
}

impl<T: Real> Standardization<T> {
    /// Estimates the mean and the standard deviation of each variable.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new).
    pub fn fit<'a>(x: impl IntoObservations<'a, T>) -> Result<Self> {
        let x = x.into_observations()?;
        let (mean, squares) = x.mean_and_squares(|mean| mean);
        let (d, n, epsilon) = (x.data_dim(), x.len() as f64, T::EPSILON.as_f64());
        let constant = |j: usize| constant_but_for_rounding(mean[j], squares[j] / n, epsilon);
        // The root of a sum of squares bounds each deviation in it; the factor is for its rounding.
        let bound = |j: usize| (1.0 + epsilon) * squares[j].sqrt();
        Ok(Self {
            mean: DVector::from_fn(d, |j, _| T::of(mean[j])),
            mean_rest: DVector::from_fn(d, |j, _| T::of(mean[j] - T::of(mean[j]).as_f64())),
            scale: DVector::from_fn(d, |j, _| {
                if constant(j) { T::one() } else { T::of((squares[j] / n).sqrt()) }
            }),
            rounding: DVector::from_fn(d, |j, _| {
                if constant(j) { T::of(bound(j) + epsilon * mean[j].abs()) } else { T::zero() }
            }),
        })
    }

    /// The mean of each variable, d×1.
    pub fn mean(&self) -> &DVector<T> {
        &self.mean
    }

    /// The scale of each variable, d×1: its standard deviation, 1 for a constant variable.
    pub fn scale(&self) -> &DVector<T> {
        &self.scale
    }

    /// The standardised data, d×n.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn transform<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_observations()?;
        x.expect_dim(self.mean.len())?;
        let mut z = x.values().into_owned();
        for mut column in z.column_iter_mut() {
            for (j, value) in column.iter_mut().enumerate() {
                let deviation = (*value - self.mean[j]) - self.mean_rest[j];
                let rounding = deviation.abs() <= self.rounding[j];
                *value = if rounding { T::zero() } else { deviation / self.scale[j] };
            }
        }
        Ok(z)
    }

    /// The data in their own units again, d×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch), and
    /// [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn inverse_transform(&self, z: &DMatrix<T>) -> Result<DMatrix<T>> {
        expect("rows of the standardised data", self.mean.len(), z.nrows())?;
        check_finite(z.as_view())?;
        let mut x = z.clone();
        for mut column in x.column_iter_mut() {
            column.component_mul_assign(&self.scale);
            column += &self.mean_rest;
            column += &self.mean;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of a row in double precision.
    fn moments_of<T: Real>(z: &DMatrix<T>, row: usize) -> (f64, f64) {
        let n = z.ncols() as f64;
        let mean = z.row(row).iter().map(|v| v.as_f64()).sum::<f64>() / n;
        (mean, z.row(row).iter().map(|v| (v.as_f64() - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn constants_but_for_rounding_become_zero_and_small_scales_one() {
        let x = DMatrix::from_row_slice(
            3,
            4,
            &[
                0.3,
                0.300_000_000_000_000_04,
                0.3,
                0.3, //
                99.999_999_999_999_99,
                100.0,
                100.000_000_000_000_03,
                100.0, //
                1e-20,
                -2e-20,
                3e-20,
                -1e-20,
            ],
        );
        let standardization = Standardization::fit(&x).unwrap();
        let z = standardization.transform(&x).unwrap();
        assert_eq!(z.rows(0, 2).amax(), 0.0);
        assert_eq!(standardization.scale().as_slice()[..2], [1.0, 1.0]);
        let (mean, variance) = moments_of(&z, 2);
        assert!(mean.abs() < 1e-15 && (variance - 1.0).abs() < 1e-14);
        let back = standardization.inverse_transform(&z).unwrap();
        assert!((&back - &x).rows(0, 2).amax() < 1e-13);
        assert!((back - &x).row(2).amax() < 1e-34);
        // Another value of a variable that was constant is a deviation.
        let z = standardization.transform(&nalgebra::dmatrix![1.3; 100.0; 0.0]).unwrap();
        assert!((z[0] - 1.0_f64).abs() < 1e-15 && z[1] == 0.0);
    }

    #[test]
    fn single_precision_beside_an_offset() {
        let x = nalgebra::dmatrix![0.0f32, 0.5, 1.5, 1.5, 2.0, 3.0].add_scalar(4_194_304.0);
        let standardization = Standardization::fit(&x).unwrap();
        let z = standardization.transform(&x).unwrap();
        let (mean, variance) = moments_of(&z, 0);
        assert!(mean.abs() < 1e-7 && (variance - 1.0).abs() < 1e-6, "{mean:e} {variance}");
        assert_eq!(standardization.inverse_transform(&z).unwrap(), x);
    }
}

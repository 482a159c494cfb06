//! Standardisation of variables, and its inverse.

use super::expect;
use crate::linalg::check_finite;
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Centring and scaling of each variable to mean 0 and variance 1 (divisor n), with its inverse.
///
/// ```math
/// \tilde x_j = (x_j - \mu_j) / s_j
/// ```
///
/// A variable that is constant, or constant but for rounding, is centred and not scaled: s_j = 1.
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
    mean: DVector<T>,
    scale: DVector<T>,
}

impl<T: Real> Standardization<T> {
    /// Estimates the mean and the standard deviation of each variable.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new).
    pub fn fit<'a>(x: impl IntoObservations<'a, T>) -> Result<Self> {
        let x = x.into_observations()?;
        let (mean, squares) = x.mean_and_squares(|mean| mean);
        let n = x.len() as f64;
        let scale = squares.iter().zip(&mean).map(|(&square, &mean)| {
            let variance = square / n;
            // Rounding of the data about a mean leaves up to an ulp of it as a deviation.
            let rounding = (4.0 * T::EPSILON.as_f64() * mean).powi(2);
            if variance > rounding { T::of(variance.sqrt()) } else { T::one() }
        });
        let scale = DVector::from_iterator(x.data_dim(), scale);
        Ok(Self { mean: DVector::from_vec(mean).map(T::of), scale })
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
            column -= &self.mean;
            column.component_div_assign(&self.scale);
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
            column += &self.mean;
        }
        Ok(x)
    }
}

//! Gaussian noise with a variance for each variable: factor analysis's.

use super::gaussian_noise::{log_two_pi_times, narrow_variance};
use super::isotropic_gaussian::{check_floor, check_variance};
use super::{ConditionalMean, GaussianNoise, Likelihood};
use crate::linalg::reshape;
use crate::map::Parameters;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// x|y ~ N(y, diag(ψ_1, …, ψ_d)).
///
/// ```math
/// \log p(x|y) = -\tfrac12\sum_j\left(\ln 2\pi\psi_j + \frac{(x_j-y_j)^2}{\psi_j}\right)
/// ```
///
/// Its free parameters are the ln ψ_j, unless ψ is fixed; a learned ψ_j is held at or above a
/// declared floor of its own.
///
/// ```
/// use elbo::likelihood::{DiagonalGaussian, Likelihood};
/// use nalgebra::{dmatrix, dvector};
/// let noise = DiagonalGaussian::new(dvector![1.0, 4.0])?;
/// let at_the_mean =
///     noise.log_density(dmatrix![0.0; 3.0].as_view(), dmatrix![0.0; 3.0].as_view())[0];
/// assert!(
///     (at_the_mean + (2.0 * std::f64::consts::PI).ln() + 0.5 * 4.0f64.ln()).abs() < 1e-15
/// );
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalGaussian<T: Real> {
    // As given, for as long as their logarithms have not been moved: nobody's ψ is rounded on the
    // way through.
    given: DVector<T>,
    log_variances: DVector<T>,
    floors: DVector<T>,
    fixed: bool,
}

impl<T: Real> DiagonalGaussian<T> {
    /// Noise with variances ψ (d), which a fit may change.
    ///
    /// # Errors
    /// [`Error::Empty`] without any; [`Error::InvalidParameter`] unless each ψ_j is positive and
    /// finite.
    pub fn new(noise_variances: DVector<T>) -> Result<Self> {
        if noise_variances.is_empty() {
            return Err(Error::Empty { rows: 0, columns: 1 });
        }
        for &variance in noise_variances.iter() {
            check_variance("a noise variance", variance)?;
        }
        let floors = DVector::zeros(noise_variances.len());
        Ok(Self {
            log_variances: noise_variances.map(|v| v.ln()),
            given: noise_variances,
            floors,
            fixed: false,
        })
    }

    /// Noise whose variances no fit changes.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn fixed(noise_variances: DVector<T>) -> Result<Self> {
        Ok(Self { fixed: true, ..Self::new(noise_variances)? })
    }

    /// The same noise, no ψ_j ever learned to be below its floor (d entries; 0 for none).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for another number of floors; [`Error::InvalidParameter`] for
    /// one that is negative or not finite.
    pub fn with_floors(self, floors: DVector<T>) -> Result<Self> {
        crate::data::expect("floors of the noise variances", self.given.len(), floors.len())?;
        for &floor in floors.iter() {
            check_floor("a floor of a noise variance", floor)?;
        }
        Ok(Self { floors, ..self })
    }

    #[cfg(feature = "serde")]
    pub(crate) fn form(&self) -> crate::saved::NoisesForm<T> {
        let all = |v: &DVector<T>| v.iter().copied().collect();
        let (given, log_variances, floors) =
            (all(&self.given), all(&self.log_variances), all(&self.floors));
        crate::saved::NoisesForm { given, log_variances, floors, fixed: self.fixed }
    }

    /// The way back: every number is checked.
    #[cfg(feature = "serde")]
    pub(crate) fn of_form(form: crate::saved::NoisesForm<T>) -> Result<Self> {
        crate::data::expect(
            "saved logarithms of the noise variances",
            form.given.len(),
            form.log_variances.len(),
        )?;
        for log_variance in &form.log_variances {
            check_variance("a saved noise variance", log_variance.exp())?;
        }
        let noise = Self::new(DVector::from_vec(form.given))?
            .with_floors(DVector::from_vec(form.floors))?;
        Ok(Self {
            log_variances: DVector::from_vec(form.log_variances),
            fixed: form.fixed,
            ..noise
        })
    }

    /// ψ, d×1.
    pub fn noise_variances(&self) -> DVector<T> {
        DVector::from_fn(self.given.len(), |j, _| self.variance(j))
    }

    /// The smallest ψ_j that a fit may reach (d); 0 where none was declared.
    pub fn floors(&self) -> &DVector<T> {
        &self.floors
    }

    /// The variables whose floor, and not the data, says what ψ_j is: Heywood cases, in the words
    /// of factor analysis. A ψ_j within a thousandth of its floor counts: an ascent that comes so
    /// near cannot tell the rest.
    pub fn at_floor(&self) -> Vec<usize> {
        let near = T::of(1.001);
        (0..self.given.len())
            .filter(|&j| !self.fixed && self.variance(j) <= near * self.floors[j])
            .collect()
    }

    fn variance(&self, j: usize) -> T {
        let variance = if self.log_variances[j] == self.given[j].ln() {
            self.given[j]
        } else {
            self.log_variances[j].exp()
        };
        if self.fixed { variance } else { variance.max(self.floors[j]) }
    }

    fn is_at_floor(&self, j: usize) -> bool {
        !self.fixed && self.variance(j) <= self.floors[j]
    }

    /// The same noise in another precision.
    pub(crate) fn narrow<U: Real>(&self) -> Result<DiagonalGaussian<U>> {
        let variances = self.noise_variances();
        let given: Vec<U> =
            variances.iter().map(|&variance| narrow_variance(variance)).collect::<Result<_>>()?;
        let given = DVector::from_vec(given);
        let floors = self.floors.map(|f| U::of(f.as_f64()));
        Ok(DiagonalGaussian {
            log_variances: given.map(|v| v.ln()),
            given,
            floors,
            fixed: self.fixed,
        })
    }
}

impl<T: Real> Parameters<T> for DiagonalGaussian<T> {
    fn parameters(&self) -> &[T] {
        if self.fixed { &[] } else { self.log_variances.as_slice() }
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        if self.fixed { &mut [] } else { self.log_variances.as_mut_slice() }
    }
}

impl<T: Real> ConditionalMean<T> for DiagonalGaussian<T> {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.into_owned()
    }
}

impl<T: Real> Likelihood<T> for DiagonalGaussian<T> {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        let variances = self.noise_variances();
        let precisions = variances.map(|v| T::one() / v);
        let half = T::of(0.5);
        let constant =
            -half * variances.iter().fold(T::zero(), |sum, &v| sum + log_two_pi_times(v));
        let of_column = |(x, y): (nalgebra::DVectorView<'_, T>, nalgebra::DVectorView<'_, T>)| {
            let errors = x.iter().zip(y.iter()).zip(precisions.iter());
            constant
                - half * errors.fold(T::zero(), |sum, ((&x, &y), &p)| sum + (x - y) * (x - y) * p)
        };
        DVector::from_iterator(x.ncols(), x.column_iter().zip(output.column_iter()).map(of_column))
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        scale: T,
        d_output: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        let (d, n) = x.shape();
        reshape(d_output, d, n);
        let variances = self.noise_variances();
        let weights = variances.map(|v| scale / v);
        let (half, count) = (T::of(0.5), T::of_usize(n));
        // scale·Σ_i e_ij²/ψ_j for each variable.
        let mut squares = DVector::zeros(d);
        for ((mut d_output, x), y) in
            d_output.column_iter_mut().zip(x.column_iter()).zip(output.column_iter())
        {
            for j in 0..d {
                let error = x[j] - y[j];
                d_output[j] = weights[j] * error;
                squares[j] += weights[j] * error * error;
            }
        }
        for (j, d_log_variance) in d_parameters.iter_mut().enumerate() {
            let derivative = half * (squares[j] - scale * count);
            *d_log_variance =
                if self.is_at_floor(j) && derivative < T::zero() { T::zero() } else { derivative };
        }
        let constant = variances.iter().fold(T::zero(), |sum, &v| sum + log_two_pi_times(v));
        -half * (scale * count * constant + squares.sum())
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        let deviations = self.noise_variances().map(|v| v.sqrt());
        let mut drawn = output.into_owned();
        for mut column in drawn.column_iter_mut() {
            column.zip_apply(&deviations, |x: &mut T, deviation| {
                *x += deviation * T::standard_normal(rng)
            });
        }
        drawn
    }
}

impl<T: Real> GaussianNoise<T> for DiagonalGaussian<T> {
    fn variances(&self, _data_dim: usize) -> DVector<T> {
        self.noise_variances()
    }

    fn common_variance(&self) -> T {
        T::one()
    }

    fn log_scales(&self) -> T {
        (0..self.given.len()).fold(T::zero(), |sum, j| sum + self.variance(j).ln())
    }

    fn equalize(&self, rows: &mut DMatrix<T>) {
        let scales = self.noise_variances().map(|v| T::one() / v.sqrt());
        for mut column in rows.column_iter_mut() {
            column.component_mul_assign(&scales);
        }
    }

    fn is_fixed(&self) -> bool {
        self.fixed
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn set_variances(&mut self, squares: &DVector<T>, counts: &DVector<T>) {
        if !self.fixed {
            self.given = squares
                .component_div(counts)
                .zip_map(&self.floors, |square, floor| square.max(floor));
            self.log_variances = self.given.map(|v| v.ln());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::dvector;

    #[test]
    fn refuses_what_is_no_variance() {
        assert!(DiagonalGaussian::<f64>::new(dvector![]).is_err());
        assert!(DiagonalGaussian::new(dvector![1.0, 0.0]).is_err());
        assert!(DiagonalGaussian::new(dvector![1.0, f64::NAN]).is_err());
        let noise = DiagonalGaussian::new(dvector![1.0, 2.0]).unwrap();
        assert!(noise.clone().with_floors(dvector![0.1]).is_err());
        assert!(noise.with_floors(dvector![0.1, -1.0]).is_err());
    }

    #[test]
    fn tells_which_variances_are_at_their_floor() {
        let mut noise = DiagonalGaussian::new(dvector![1.0, 2.0, 0.1])
            .unwrap()
            .with_floors(dvector![1e-3, 1e-3, 0.0])
            .unwrap();
        noise.set_variances(&dvector![0.0, 1.0, 0.75], &dvector![1.0, 2.0, 3.0]);
        assert_eq!(noise.noise_variances(), dvector![1e-3, 0.5, 0.25]);
        assert_eq!(noise.at_floor(), [0]);
        let single = noise.narrow::<f32>().unwrap();
        assert_eq!(single.at_floor(), [0]);
        let small = DiagonalGaussian::new(dvector![1.0, 1e-40]).unwrap();
        assert!(
            matches!(small.narrow::<f32>(), Err(Error::Underflow { deviation, .. }) if (deviation / 1e-20 - 1.0).abs() < 1e-9)
        );
        let mut fixed = DiagonalGaussian::fixed(dvector![1.0]).unwrap();
        fixed.set_variances(&dvector![3.0], &dvector![1.0]);
        assert_eq!(fixed.noise_variances()[0], 1.0);
        assert!(fixed.parameters().is_empty());
    }
}

//! A Gaussian prior with free mean and covariance.

use super::Prior;
use crate::likelihood::Weights;
use crate::map::Parameters;
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// The prior N(a, LLᵗ) with a free mean a and a free covariance, by its Cholesky factor L.
///
/// The free parameters are a, then the columns of L from the diagonal on, with the logarithm of
/// each diagonal entry in its place: with all of them 0 the prior is N(0, I). A model with the
/// decoder z ↦ f(z) and this prior equals one with f(a + Lz) and N(0, I): under a linear decoder it
/// is redundant.
///
/// ```
/// use elbo::prior::{GaussianPrior, Prior};
/// let prior = GaussianPrior::<f64>::new(2);
/// let at_0 = prior.log_density(nalgebra::dmatrix![0.0; 0.0].as_view())[0];
/// assert!((at_0 + (2.0 * std::f64::consts::PI).ln()).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianPrior<T: Real> {
    latent_dim: usize,
    parameters: Vec<T>,
}

impl<T: Real> GaussianPrior<T> {
    /// N(0, I) in k dimensions, from which a fit starts.
    pub fn new(latent_dim: usize) -> Self {
        let count = latent_dim + latent_dim * (latent_dim + 1) / 2;
        Self { latent_dim, parameters: vec![T::zero(); count] }
    }

    /// N(mean, factor·factorᵗ) with a lower triangular factor, whose diagonal is positive.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch);
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) for a diagonal entry that is
    /// not positive.
    pub fn from_factor(mean: &DVector<T>, factor: &DMatrix<T>) -> Result<Self> {
        let k = mean.len();
        crate::data::expect("rows of the factor", k, factor.nrows())?;
        crate::data::expect("columns of the factor", k, factor.ncols())?;
        let mut parameters = mean.as_slice().to_vec();
        for j in 0..k {
            let diagonal = factor[(j, j)];
            if !(diagonal > T::zero() && diagonal.is_finite()) {
                return Err(crate::Error::NotPositiveDefinite { size: k });
            }
            parameters.push(diagonal.ln());
            parameters.extend((j + 1..k).map(|i| factor[(i, j)]));
        }
        Ok(Self { latent_dim: k, parameters })
    }

    /// The mean a, k×1.
    pub fn mean(&self) -> DVector<T> {
        DVector::from_column_slice(&self.parameters[..self.latent_dim])
    }

    /// The Cholesky factor L of the covariance, k×k, lower triangular.
    pub fn factor(&self) -> DMatrix<T> {
        let k = self.latent_dim;
        let mut factor = DMatrix::zeros(k, k);
        let mut rest = self.parameters[k..].iter();
        for j in 0..k {
            for i in j..k {
                let value = rest.next().copied().unwrap_or(T::zero());
                factor[(i, j)] = if i == j { value.exp() } else { value };
            }
        }
        factor
    }

    /// L⁻¹(z − a), k×n.
    fn standardized(&self, z: DMatrixView<'_, T>, factor: &DMatrix<T>) -> DMatrix<T> {
        let mean = self.mean();
        let mut deviations = z.into_owned();
        deviations.column_iter_mut().for_each(|mut column| column -= &mean);
        // The diagonal is an exponential: an underflow to 0 is the only failure, and its densities
        // are not finite, which a fit rejects.
        factor.solve_lower_triangular_mut(&mut deviations);
        deviations
    }

    fn log_densities(&self, standardized: &DMatrix<T>, factor: &DMatrix<T>) -> DVector<T> {
        let log_determinant = factor.diagonal().iter().fold(T::zero(), |sum, l| sum + l.ln());
        super::standard_log_density(standardized.as_view()).map(|value| value - log_determinant)
    }
}

impl<T: Real> Parameters<T> for GaussianPrior<T> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }
}

impl<T: Real> Prior<T> for GaussianPrior<T> {
    fn latent_dim(&self) -> Option<usize> {
        Some(self.latent_dim)
    }

    fn log_density(&self, z: DMatrixView<'_, T>) -> DVector<T> {
        let factor = self.factor();
        self.log_densities(&self.standardized(z, &factor), &factor)
    }

    fn add_log_density_gradient(
        &self,
        z: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_z: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        let (k, factor) = (self.latent_dim, self.factor());
        let standardized = self.standardized(z, &factor);
        let densities = self.log_densities(&standardized, &factor);
        // With u = L⁻¹(z − a), ∂ ln π/∂z = −L⁻ᵗu =: −s, ∂/∂a = s and ∂/∂L = tril(s uᵗ) − diag(1/L).
        let mut scores = standardized.clone();
        factor.tr_solve_lower_triangular_mut(&mut scores);
        let mut sum = T::zero();
        d_parameters.fill(T::zero());
        for (i, mut d_z) in d_z.column_iter_mut().enumerate() {
            let (weight, s, u) = (weights.of(i), scores.column(i), standardized.column(i));
            sum += weight * densities[i];
            d_z.axpy(-weight, &s, T::one());
            let (d_mean, mut rest) = d_parameters.split_at_mut(k);
            d_mean.iter_mut().zip(s.iter()).for_each(|(d, &s)| *d += weight * s);
            for j in 0..k {
                // The diagonal is stored as a logarithm, whose derivative has the factor L_jj.
                rest[0] += weight * (s[j] * u[j] * factor[(j, j)] - T::one());
                for row in j + 1..k {
                    rest[row - j] += weight * s[row] * u[j];
                }
                rest = &mut rest[k - j..];
            }
        }
        sum
    }

    fn sample(&self, latent_dim: usize, n: usize, rng: &mut dyn Rng) -> DMatrix<T> {
        let (mean, factor) = (self.mean(), self.factor());
        let noise = DMatrix::from_fn(latent_dim, n, |_, _| T::standard_normal(rng));
        let mut z = factor * noise;
        z.column_iter_mut().for_each(|mut column| column += &mean);
        z
    }
}

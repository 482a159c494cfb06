//! Principal components as they are usually asked for: scores, whitening, loadings, explained
//! variance, distances.

use super::Step;
use crate::data::{Centering, Incoming, expect};
use crate::fit::closed_form::{Principal, orient};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::{check_finite, gemm, matrix_product, product_tr_left};
use crate::map::Linear;
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Principal components of data: mean, directions, and the variances along them.
///
/// It is step 1 and step 2a without their parametrisation: the span is the linear autoencoder's,
/// and [`Ppca`](super::Ppca) at the maximum of the likelihood has the same directions and
/// variances. Unlike a model with noise it may have as many directions as the data have rank.
///
/// ```
/// use elbo::Pca;
/// use nalgebra::DMatrix;
/// let x = DMatrix::from_fn(3, 50, |j, i| {
///     let t = i as f64 * 0.7;
///     [t.sin(), 2.0 * t.sin() + 0.1 * t.cos(), 0.2 * (3.0 * t).cos()][j]
/// });
/// let pca = Pca::fit(2, &x)?;
/// let z = pca.whiten(&x)?; // 2×50, each row with mean 0 and variance 1
/// assert!((z.row(0).norm_squared() / 50.0 - 1.0).abs() < 1e-12);
/// assert!((pca.unwhiten(&z)? - pca.reconstruct(&x)?).amax() < 1e-12);
/// assert!(pca.explained_variance_ratio().sum() > 0.99);
/// assert!(pca.distances(&x)?.outside.max() < 0.1); // nothing far from the plane
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pca<T: Real = f64> {
    mean: DVector<T>,
    directions: DMatrix<T>,
    variances: DVector<T>,
    outside: T,
    observations: usize,
}

/// How far each observation is from the centre, in the two parts of the space.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDistances<T: Real> {
    /// Σ_j z_j²/λ_j, the squared Mahalanobis distance within the span of the directions, without a
    /// unit: Hotelling's T², χ² with k degrees of freedom for Gaussian data.
    pub inside: DVector<T>,
    /// ‖x − x'‖², the squared distance from that span, in the units of x squared: the
    /// reconstruction error, called Q or SPE in process monitoring.
    pub outside: DVector<T>,
}

impl<T: Real> Pca<T> {
    /// The k leading components about the mean of the data, k up to the rank.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::LatentDim`] unless 1 ≤ k ≤ rank;
    /// [`Error::ZeroVariance`]; [`Error::TooFewObservations`] for n = 1; [`Error::Underflow`] where
    /// the squares of the deviations fall below the smallest number.
    pub fn fit<'a>(latent_dim: usize, x: impl IntoObservations<'a, T>) -> Result<Self> {
        Self::fit_about(latent_dim, Centering::Mean, x)
    }

    /// The same about a chosen mean.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_about<'a>(
        latent_dim: usize,
        mean: Centering,
        x: impl IntoObservations<'a, T>,
    ) -> Result<Self> {
        let principal = Principal::of(x, mean, latent_dim, crate::linalg::Solver::Auto)?;
        let rank = principal.resolved();
        if latent_dim > rank {
            return Err(Error::LatentDim { latent_dim, smallest: 1, largest: rank });
        }
        Ok(Self {
            mean: principal.mean.map(T::of),
            directions: principal.directions.map(T::of),
            variances: principal.variances.map(T::of),
            outside: T::of(principal.outside),
            observations: principal.weight as usize,
        })
    }

    /// The directions, d×k: orthonormal, in the order of falling variance, the entry of largest
    /// size in each positive.
    pub fn directions(&self) -> &DMatrix<T> {
        &self.directions
    }

    /// The mean, d×1.
    pub fn mean(&self) -> &DVector<T> {
        &self.mean
    }

    /// λ_j, the variance along each direction with divisor n (maximum likelihood), k×1.
    pub fn explained_variance(&self) -> &DVector<T> {
        &self.variances
    }

    /// The variance along each direction with divisor n − 1 (unbiased about an estimated mean),
    /// k×1.
    pub fn explained_variance_unbiased(&self) -> DVector<T> {
        &self.variances
            * (T::of_usize(self.observations) / T::of_usize(self.observations.max(2) - 1))
    }

    /// Each direction's share of the total variance of all d variables, k×1; the divisor cancels.
    pub fn explained_variance_ratio(&self) -> DVector<T> {
        &self.variances / (self.variances.sum() + self.outside)
    }

    /// The standard deviation along each direction times the direction, U diag(√λ), d×k: the
    /// covariance of each variable with each whitened score.
    pub fn loadings(&self) -> DMatrix<T> {
        let mut loadings = self.directions.clone();
        for (mut column, variance) in loadings.column_iter_mut().zip(self.variances.iter()) {
            column *= variance.sqrt();
        }
        loadings
    }

    fn deviations(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        x.expect_dim(self.mean.len())?;
        let mut deviations = x.values().into_owned();
        deviations.column_iter_mut().for_each(|mut column| column -= &self.mean);
        Ok(deviations)
    }

    /// The scores Uᵗ(x − μ), k×n: uncorrelated over the data of the fit, with variances λ_j.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn transform<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = match x.unchecked() {
            Some(values) => Incoming::unchecked(values),
            None => x.into_observations()?.into(),
        };
        x.deviations_mapped(self.mean.as_view(), &self.directions.transpose())
    }

    /// x' = Uz + μ for scores z (k×n), d×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::Empty`], [`Error::NotFinite`].
    pub fn inverse_transform(&self, scores: &DMatrix<T>) -> Result<DMatrix<T>> {
        expect("rows of the scores", self.variances.len(), scores.nrows())?;
        check_finite(scores.as_view())?;
        let mut x = matrix_product(&self.directions, scores);
        x.column_iter_mut().for_each(|mut column| column += &self.mean);
        Ok(x)
    }

    /// The orthogonal projection of x on the span of the directions about the mean, d×n.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn reconstruct<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        self.inverse_transform(&self.transform(x)?)
    }

    /// The scores over their standard deviations, diag(1/√λ) Uᵗ(x − μ), k×n: covariance I (divisor
    /// n) over the data of the fit.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn whiten<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let mut scores = self.transform(x)?;
        let scales = self.variances.map(|v| T::one() / v.sqrt());
        scores.column_iter_mut().for_each(|mut column| column.component_mul_assign(&scales));
        Ok(scores)
    }

    /// The inverse of [`Self::whiten`] on the span: U diag(√λ) z + μ, d×n.
    ///
    /// # Errors
    /// As [`Self::inverse_transform`].
    pub fn unwhiten(&self, whitened: &DMatrix<T>) -> Result<DMatrix<T>> {
        expect("rows of the whitened scores", self.variances.len(), whitened.nrows())?;
        let scales = self.variances.map(|v| v.sqrt());
        let mut scores = whitened.clone();
        scores.column_iter_mut().for_each(|mut column| column.component_mul_assign(&scales));
        self.inverse_transform(&scores)
    }

    /// How far each observation is from the centre within the span of the directions, and from that
    /// span: two measures of an outlier.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn distances<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<OutlierDistances<T>> {
        let mut residuals = self.deviations(x.into_observations()?)?;
        let scores = product_tr_left(&self.directions, &residuals);
        gemm(-T::one(), &self.directions, &scores, T::one(), &mut residuals);
        let of_scores = |z: nalgebra::DVectorView<'_, T>| {
            z.iter().zip(self.variances.iter()).fold(T::zero(), |sum, (&z, &v)| sum + z * z / v)
        };
        let inside = DVector::from_iterator(scores.ncols(), scores.column_iter().map(of_scores));
        let outside = DVector::from_iterator(
            residuals.ncols(),
            residuals.column_iter().map(|r| r.norm_squared()),
        );
        Ok(OutlierDistances { inside, outside })
    }
}

impl<T: Real, I> Step<T, Linear<T>, IsotropicGaussian<T>, I> {
    /// The model's principal components, with variances s_j² + σ² along them: whitening, scores and
    /// distances of the model.
    ///
    /// `observations` is the number n that the model was fitted to; it enters
    /// [`Pca::explained_variance_unbiased`] only.
    ///
    /// # Errors
    /// Those of the singular value decomposition.
    pub fn pca(&self, observations: usize) -> Result<Pca<T>> {
        let factor = self.model.factor()?;
        let variances = factor.variances().map(T::of);
        let mut directions = factor.directions;
        orient(&mut directions);
        let outside = T::of_usize(self.data_dim() - self.latent_dim()) * self.noise_variance();
        Ok(Pca { mean: self.mean().into_owned(), directions, variances, outside, observations })
    }
}

//! Methods of the models with a linear decoder and Gaussian noise.

use super::apply::LogLikelihoodOf;
use super::{Model, OutlierDistances, Pca};
use crate::data::{Data, IntoIncompleteObservations, expect};
use crate::inference::{Exact, Inference};
use crate::likelihood::{ConditionalMean, GaussianNoise, IsotropicGaussian};
use crate::linalg::{fix_directions, matrix_product, product_tr_left, product_tr_right};
use crate::map::Linear;
use crate::model::{ConditionalMoments, GenerativeModel, LinearGaussian};
use crate::rotation::Rotation;
use crate::{Error, IntoObservations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};
use rand::Rng;

/// Methods of every model with a linear decoder and Gaussian noise of any shape.
impl<T: Real, N: GaussianNoise<T>, I> Model<T, Linear<T>, N, I> {
    /// The loadings W, d×k.
    pub fn loadings(&self) -> DMatrixView<'_, T> {
        self.generative.loadings()
    }

    /// The mean μ, d×1.
    pub fn mean(&self) -> DVectorView<'_, T> {
        self.generative.mean()
    }

    /// The covariance of x under the model, C = WWᵗ + noise, d×d.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![3.0; 1.0], dvector![0.0, 0.0], 0.5)?;
    /// assert_eq!(model.covariance(), dmatrix![9.5, 3.0; 3.0, 1.5]);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn covariance(&self) -> DMatrix<T> {
        let mut covariance = product_tr_right(self.loadings(), self.loadings());
        let noise = self.generative.likelihood.variances(self.data_dim());
        for j in 0..self.data_dim() {
            covariance[(j, j)] += noise[j];
        }
        covariance
    }

    /// The precision of x under the model, C⁻¹, d×d, without the inversion of a d×d matrix. For
    /// noise of covariance σ²D² and D⁻¹W = Q diag(s) Vᵗ,
    ///
    /// ```math
    /// C^{-1} = \tfrac1{\sigma^2} D^{-1}
    /// \Big(I - Q\,\mathrm{diag}\big(\tfrac{s_j^2}{s_j^2+\sigma^2}\big)\,Q^\top\Big) D^{-1}
    /// ```
    ///
    /// ```
    /// use nalgebra::{DMatrix, dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![3.0; 1.0], dvector![0.0, 0.0], 0.5)?;
    /// let identity: DMatrix<f64> = model.covariance() * model.precision()?;
    /// assert!((identity - DMatrix::identity(2, 2)).norm() < 1e-14);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFinite`] for loadings that are not finite.
    pub fn precision(&self) -> Result<DMatrix<T>> {
        let factor = self.generative.factor_f64()?;
        let variance = self.generative.likelihood.common_variance().as_f64();
        // s²/(s² + σ²) in this form is accurate for small and for large s.
        let mut shrunk = factor.directions.clone();
        for (mut column, s) in shrunk.column_iter_mut().zip(factor.singular_values.iter()) {
            column *= s * s / (s * s + variance);
        }
        let d = self.data_dim();
        let mut precision = DMatrix::identity(d, d) - product_tr_right(&shrunk, &factor.directions);
        precision /= variance;
        // D⁻¹ from both sides: rows, then, as the matrix is symmetric, rows of the transpose.
        let scale = |m: DMatrix<f64>| {
            let mut rows = m.map(T::of);
            self.generative.likelihood.divide_by_scales(&mut rows);
            rows.map(|v| v.as_f64())
        };
        let half = scale(precision).transpose();
        Ok(scale(half).map(T::of))
    }

    /// The squared Mahalanobis distance (x−μ)ᵗC⁻¹(x−μ) of each observation under the model's
    /// covariance C; χ² with d degrees of freedom for data from the model. O(n·d·k).
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and [`Error::DimensionMismatch`].
    pub fn squared_mahalanobis<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>> {
        self.generative.squared_distances(x.into_observations()?)
    }

    /// The number of free parameters: W up to a rotation, dk − k(k−1)/2, and the variances of the
    /// noise that are not fixed, together at most the d(d+1)/2 entries of a covariance; and the
    /// mean (d) unless it is fixed at 0.
    pub fn parameter_count(&self) -> usize {
        let (d, k) = (self.data_dim(), self.latent_dim());
        let noise =
            match (self.generative.likelihood.is_fixed(), self.generative.likelihood.is_shared()) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => d,
            };
        // A mean that was fixed at 0 (`Centering::None`) has not been estimated.
        let mean = if self.generative.decoder.bias_is_fixed() { 0 } else { d };
        covariance_parameters(d, k, noise) + mean
    }

    /// The Bayesian information criterion −2 log p(X) + m ln n with m =
    /// [`parameter_count`](Self::parameter_count): smaller is better.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn bic<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let values = self.log_likelihood(x)?;
        let total: f64 = values.iter().map(|v| v.as_f64()).sum();
        Ok(self.parameter_count() as f64 * (values.len() as f64).ln() - 2.0 * total)
    }

    /// The Akaike information criterion −2 log p(X) + 2m with m =
    /// [`parameter_count`](Self::parameter_count): smaller is better.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn aic<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let total: f64 = self.log_likelihood(x)?.iter().map(|v| v.as_f64()).sum();
        Ok(2.0 * self.parameter_count() as f64 - 2.0 * total)
    }

    /// The mean and the variance of each missing entry, given the observed entries of its
    /// observation. A variance that overflows `T` is replaced by the largest finite number.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let missing = model.conditional(&dmatrix![3.0; f64::NAN])?;
    /// assert!((missing.mean[(1, 0)] - (5.0 + 2.0 * 1.5_f64)).abs() < 1e-14);
    /// assert!((missing.variance[(1, 0)] - (1.0 + 4.0 * 0.5)).abs() < 1e-14);
    /// assert_eq!(missing.variance[(0, 0)], 0.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new), and
    /// [`Error::DimensionMismatch`].
    pub fn conditional<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<ConditionalMoments<T>> {
        self.generative.conditional(x)
    }

    /// The completed table, d×n: each missing entry is replaced by its mean given the observed
    /// entries of its observation; observed entries are kept bit for bit.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let completed = model.impute(&dmatrix![3.0; f64::NAN])?;
    /// assert!(completed[(0, 0)] == 3.0 && (completed[(1, 0)] - 8.0_f64).abs() < 1e-14);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::conditional`].
    pub fn impute<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        self.generative.impute(x)
    }

    /// `count` completed tables (multiple imputation): the missing entries of an observation are
    /// sampled jointly from their distribution given the observed ones. The parameters are taken as
    /// known; their own uncertainty is not part of the variance.
    ///
    /// ```
    /// use nalgebra::{dmatrix, dvector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let model = elbo::Ppca::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 5.0], 1.0)?;
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// let tables = model.impute_multiple(5, &dmatrix![3.0; f64::NAN], rng)?;
    /// assert!(tables.len() == 5 && tables[0][(1, 0)] != tables[1][(1, 0)]);
    /// assert_eq!(tables[4][(0, 0)], 3.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::conditional`].
    pub fn impute_multiple<'a, R: Rng + ?Sized>(
        &self,
        count: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Vec<DMatrix<T>>> {
        self.generative.impute_multiple(count, x, &mut rng)
    }
}

impl<T: Real, N: GaussianNoise<T>> Model<T, Linear<T>, N, Exact> {
    /// The model after an orthogonal rotation of the latent space, such as
    /// [`Varimax`](crate::rotation::Varimax) finds: loadings W R in place of W, with the same
    /// likelihood.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`]; [`Error::InvalidParameter`] for an oblique rotation, under
    /// which the prior of z would no longer be N(0, I).
    pub fn rotated(&self, rotation: &Rotation<T>) -> Result<Self> {
        let rotation = &rotation.rotation;
        expect("rows of the rotation", self.latent_dim(), rotation.nrows())?;
        // 1000 ε allows for the rounding of a rotation that was found iteratively.
        let identity = DMatrix::identity(rotation.ncols(), rotation.ncols());
        let error = (product_tr_left(rotation, rotation) - identity).amax().as_f64();
        if error > T::EPSILON.as_f64() * 1000.0 {
            return Err(Error::InvalidParameter {
                name: "the rotation's distance from orthogonal",
                value: error,
                must: "0, but for rounding",
            });
        }
        let loadings = matrix_product(self.loadings(), rotation);
        let mut decoder = Linear::new(loadings, self.mean().into_owned())?;
        if self.generative.decoder.bias_is_fixed() {
            decoder = decoder.with_fixed_bias();
        }
        let generative = LinearGaussian::new(decoder, self.generative.likelihood.clone());
        Ok(Self::from_fitting_parts(generative, Exact))
    }
}

/// Methods of every model with a linear decoder and isotropic Gaussian noise.
impl<T: Real, I> Model<T, Linear<T>, IsotropicGaussian<T>, I> {
    /// The noise variance σ².
    pub fn noise_variance(&self) -> T {
        self.generative.noise_variance()
    }

    /// The principal components, d×k: the left singular vectors of W, orthonormal and in order of
    /// decreasing variance. The first large entry of each (within 10⁻³ of the largest) is positive.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for loadings that are not finite.
    pub fn components(&self) -> Result<DMatrix<T>> {
        // In double precision also for `f32`: which variances are equal is decided there.
        let factor = self.generative.factor_f64()?;
        let variances = factor.variances();
        let mut directions = factor.directions.map(T::of);
        fix_directions(&mut directions, variances.iter().copied());
        Ok(directions)
    }

    /// The variance of x along each principal component under the model, s_j² + σ² (k). At the
    /// maximum of the likelihood it is the eigenvalue λ_j of the covariance with divisor n.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for loadings that are not finite.
    pub fn explained_variance(&self) -> Result<DVector<T>> {
        Ok(self.generative.factor_f64()?.variances().map(T::of))
    }

    /// [`Self::explained_variance`] over the total variance tr(WWᵗ + σ²I) of the model, which is
    /// that of the data at the maximum of the likelihood.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for loadings that are not finite.
    pub fn explained_variance_ratio(&self) -> Result<DVector<T>> {
        let variances = self.generative.factor_f64()?.variances();
        // In units of the largest variance, since the sum of the variances may overflow.
        let unit = variances.max();
        let outside =
            (self.data_dim() - self.latent_dim()) as f64 * (self.noise_variance().as_f64() / unit);
        let shares = variances / unit;
        let total = shares.sum() + outside;
        Ok(shares.map(|share| T::of(share / total)))
    }

    /// The orthogonal projection of x on the span of W about the mean, d×n: the reconstruction by a
    /// linear autoencoder. [`Self::reconstruct`] uses the posterior mean and is shrunk towards μ.
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new), and [`Error::DimensionMismatch`].
    pub fn orthogonal_projection<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_observations()?;
        let deviations = self.generative.deviations(x)?;
        let directions = self.generative.factor()?.directions;
        let codes = product_tr_left(directions.as_view(), deviations.as_view());
        let mut projected = matrix_product(directions.as_view(), codes.as_view());
        let mean = self.mean();
        projected.column_iter_mut().for_each(|mut column| column += &mean);
        Ok(projected)
    }

    /// The principal components of the model as a [`Pca`], with variances s_j² + σ² along them.
    ///
    /// `observations` is the number n of the fit; only
    /// [`Pca::explained_variance_unbiased`] depends on it.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for loadings that are not finite.
    pub fn pca(&self, observations: usize) -> Result<Pca<T>> {
        let variances = self.generative.factor()?.variances().map(T::of);
        let outside = T::of_usize(self.data_dim() - self.latent_dim()) * self.noise_variance();
        let components = self.components()?;
        Ok(Pca::from_parts(self.mean().into_owned(), components, variances, outside, observations))
    }

    /// The whitened scores of x along the principal components of the model, k×n: zero mean and
    /// identity covariance for data from the model.
    ///
    /// # Errors
    /// As [`Pca::whiten`].
    pub fn whiten<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        // Whitening does not depend on the number of observations.
        self.pca(1)?.whiten(x)
    }

    /// The score distance (Hotelling's T²) and the orthogonal distance (SPE) of each observation.
    ///
    /// # Errors
    /// As [`Pca::outlier_distances`].
    pub fn outlier_distances<'a>(
        &self,
        x: impl IntoObservations<'a, T>,
    ) -> Result<OutlierDistances<T>> {
        self.pca(1)?.outlier_distances(x)
    }
}

/// The number of variables with a loading that is not 0.
pub(super) fn loaded<T: Real>(loadings: DMatrixView<'_, T>) -> usize {
    loadings.row_iter().filter(|row| row.iter().any(|w| *w != T::zero())).count()
}

/// The number of free parameters of the covariance WWᵗ + Ψ of d variables with this number of noise
/// variances: never more than a covariance has entries.
pub(crate) fn covariance_parameters(d: usize, k: usize, noise_variances: usize) -> usize {
    (d * k + noise_variances - k * k.saturating_sub(1) / 2).min(d * (d + 1) / 2)
}

impl<T: Real, L: ConditionalMean<T>, I> std::fmt::Display for Model<T, Linear<T>, L, I>
where
    I: Inference<T, GenerativeModel<Linear<T>, L>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (d, k) = (self.data_dim(), self.latent_dim());
        writeln!(f, "linear decoder: {d} variables, {k} latent dimensions")?;
        write!(f, "posterior: {}", super::short_name::<I::Posterior>())?;
        let Some(variances) = self.generative.likelihood.gaussian_variances(d) else {
            return Ok(());
        };
        let noise: f64 = variances.iter().map(|v| v.as_f64()).sum();
        let (least, largest) = (variances.min().as_f64(), variances.max().as_f64());
        if least == largest {
            write!(f, "\nnoise variance: {least:.6}")?;
        } else {
            write!(f, "\nnoise variances: {least:.6} to {largest:.6}")?;
        }
        let explained: f64 = self.decoder().weights().iter().map(|w| w.as_f64().powi(2)).sum();
        if (explained + noise).is_finite() && explained + noise > 0.0 {
            let share = 100.0 * explained / (explained + noise);
            write!(f, "\nvariance explained by the latent variables: {share:.2} %")?;
        }
        let degrees = self.generative.likelihood.has_variance_of_each_variable().then(|| {
            super::factor_analysis::degrees_of_freedom(loaded(self.decoder().weights()), k)
        });
        if let Some(degrees) = degrees.filter(|&degrees| degrees < 0) {
            write!(
                f,
                "\ndegrees of freedom: {degrees}: too many factors for the variables, so that the \
                 noise variances and loadings are not determined"
            )?;
        }
        Ok(())
    }
}

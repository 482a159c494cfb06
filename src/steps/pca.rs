//! Principal component analysis: scores, whitening, loadings, explained variance and outlier
//! distances.

use super::apply::TransformOf;
use crate::data::{Centering, Data, Dense, Moments, Source, SparseObservations, Weighted, expect};
use crate::fit::closed_form::Principal;
use crate::fit::{FitData, Fitted, Observer, Solver, unused_generator};
use crate::linalg::{check_finite, gemm, matrix_product, product_tr_left};
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Principal component analysis: the mean, the principal components and the variances along them.
///
/// The components span the subspace of the linear autoencoder (step 1), and are, with their
/// variances, those of [`Ppca`](super::Ppca) at the maximum of the likelihood. Unlike in a model
/// with noise, k may reach the rank of the data.
///
/// ```
/// use elbo::Pca;
/// let x = nalgebra::dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let pca = Pca::fit(2, &x)?.model;
/// let z = pca.whiten(&x)?; // 2×6, each row with mean 0 and variance 1
/// assert!((z.row(0).norm_squared() / 6.0 - 1.0).abs() < 1e-12);
/// assert!((pca.unwhiten(&z)? - pca.reconstruct(&x)?).amax() < 1e-12);
/// assert!(pca.explained_variance_ratio().sum() > 0.99);
/// assert!(pca.outlier_distances(&x)?.squared_prediction_error.max() < 0.1);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pca<T: Real = f64> {
    pub(crate) mean: DVector<T>,
    /// What rounding to `T` has taken from the mean: 0 in double precision.
    pub(crate) mean_rest: DVector<T>,
    pub(crate) components: DMatrix<T>,
    pub(crate) variances: DVector<T>,
    /// The sum of the variances of the components that were left out.
    pub(crate) outside: T,
    pub(crate) observations: usize,
}

/// The score distance and the orthogonal distance of each observation
/// ([Hubert et al. 2005](https://doi.org/10.1198/004017004000000563)).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OutlierDistances<T: Real> {
    /// Hotelling's T² = Σ_j z_j²/λ_j, the squared Mahalanobis distance within the span of the
    /// components (the squared score distance); χ² with k degrees of freedom for Gaussian data.
    pub t_squared: DVector<T>,
    /// The squared prediction error ‖x − x'‖² (SPE, Q; the squared orthogonal distance), in the
    /// units of x squared.
    pub squared_prediction_error: DVector<T>,
}

/// Builder of a fit of [`Pca`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PcaBuilder<T> {
    latent_dim: usize,
    centering: Centering,
    solver: Solver,
    scalar: PhantomData<T>,
}

impl<T: Real> PcaBuilder<T> {
    /// Sets the mean: estimated (default), or fixed at 0.
    pub fn centering(self, centering: Centering) -> Self {
        Self { centering, ..self }
    }

    /// Sets the algorithm; by default [`Solver::Auto`] selects it by the shape of the data.
    pub fn fitter(self, solver: Solver) -> Self {
        Self { solver, ..self }
    }

    /// Fits the model to data of any [form](Data) but incomplete data; no fit draws random numbers.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::LatentDim`] unless 1 ≤ k ≤ rank;
    /// [`Error::ZeroVariance`]; [`Error::TooFewObservations`] for n = 1; [`Error::Underflow`] where
    /// squares of centred data underflow; [`Error::Unsupported`] for a solver that does not serve
    /// the form.
    pub fn fit<X: Data<T>>(&self, x: X) -> Result<Fitted<Pca<T>>>
    where
        Self: FitData<X::Form, Model = Pca<T>>,
    {
        self.fit_form(x.into_form()?, &mut unused_generator(), &mut ())
    }

    /// Builds the model from principal components, if k does not exceed their numerical rank.
    fn assemble(&self, principal: Principal) -> Result<Fitted<Pca<T>>> {
        // Directions within rounding of variance 0 are arbitrary, and cannot be whitened.
        let rank = principal.resolved(&principal.rounding::<T>());
        if self.latent_dim > rank {
            let latent_dim = self.latent_dim;
            return Err(Error::LatentDim { latent_dim, smallest: 1, largest: rank });
        }
        let report = principal.route;
        let model = Pca {
            mean: principal.mean.map(T::of),
            mean_rest: principal.mean.map(|mean| T::of(mean - T::of(mean).as_f64())),
            components: principal.directions.map(T::of),
            variances: principal.variances.map(T::of),
            outside: T::of(principal.outside),
            // n, or Σw rounded down for weighted data.
            observations: principal.weight as usize,
        };
        Ok(Fitted::closed_form(model, report))
    }

    /// Fits the model to the moments of the data.
    fn fit_moments(&self, moments: &Moments) -> Result<Fitted<Pca<T>>> {
        let moment = moments.scatter_factor(self.centering)?;
        let (weight, k) = (moments.weight(), self.latent_dim);
        self.assemble(Principal::of_root(&moment, weight, k, self.solver)?)
    }
}

/// Implements a fit to one form of data.
macro_rules! fits {
    ($form:ty, |$builder:ident, $data:ident| $fit:expr) => {
        impl<'a, T: Real> FitData<$form> for PcaBuilder<T> {
            type Model = Pca<T>;

            fn fit_form(
                &self,
                $data: $form,
                _rng: &mut dyn Rng,
                _observer: &mut dyn Observer,
            ) -> Result<Fitted<Pca<T>>> {
                let $builder = self;
                $fit
            }
        }
    };
}
fits!(Dense<'a, T>, |builder, x| {
    builder.assemble(Principal::of(x, builder.centering, builder.latent_dim, builder.solver)?)
});
fits!(Weighted<'a, Dense<'a, T>, T>, |builder, x| {
    let data = x.data.validate()?;
    let mut moments = Moments::new(data.data_dim());
    moments.update_weighted(data, x.weights)?;
    builder.fit_moments(&moments)
});
fits!(&'a mut dyn Source<T>, |builder, x| {
    let (centering, k) = (builder.centering, builder.latent_dim);
    builder.assemble(Principal::of_source(x, centering, k, builder.solver)?)
});
fits!(SparseObservations<'a, T>, |builder, x| {
    let (centering, k) = (builder.centering, builder.latent_dim);
    builder.assemble(Principal::of_sparse(x, centering, k, builder.solver)?)
});
fits!(&'a Moments, |builder, x| builder.fit_moments(x));

impl<T: Real> Pca<T> {
    /// Fits the k leading principal components about the mean of the data; k may reach the rank.
    ///
    /// # Errors
    /// As [`PcaBuilder::fit`].
    pub fn fit<X: Data<T>>(latent_dim: usize, x: X) -> Result<Fitted<Self>>
    where
        PcaBuilder<T>: FitData<X::Form, Model = Self>,
    {
        Self::builder(latent_dim).fit(x)
    }

    /// Returns a builder with k components.
    pub fn builder(latent_dim: usize) -> PcaBuilder<T> {
        let (centering, solver) = (Centering::Mean, Solver::Auto);
        PcaBuilder { latent_dim, centering, solver, scalar: PhantomData }
    }

    /// Builds a model from its parts.
    pub(super) fn from_parts(
        mean: DVector<T>,
        components: DMatrix<T>,
        variances: DVector<T>,
        outside: T,
        observations: usize,
    ) -> Self {
        let mean_rest = mean.map(|_| T::zero());
        Self { mean, mean_rest, components, variances, outside, observations }
    }

    /// The number k of components.
    pub fn latent_dim(&self) -> usize {
        self.components.ncols()
    }

    /// The number d of variables.
    pub fn data_dim(&self) -> usize {
        self.components.nrows()
    }

    /// The covariance of x that the components and the mean variance outside them imply,
    /// U(Λ − σ²I)Uᵗ + σ²I, d×d: that of [`Ppca`](super::Ppca) at the maximum of the likelihood.
    pub fn covariance(&self) -> DMatrix<T> {
        let (d, k) = (self.data_dim(), self.latent_dim());
        // For k = d nothing is outside, and the divisor 1 avoids 0/0.
        let noise = self.outside / T::of_usize((d - k).max(1));
        let mut scaled = self.components.clone();
        for (mut column, &variance) in scaled.column_iter_mut().zip(self.variances.iter()) {
            column *= variance - noise;
        }
        let mut covariance = matrix_product(&scaled, &self.components.transpose());
        (0..d).for_each(|j| covariance[(j, j)] += noise);
        covariance
    }

    /// The principal components, d×k: orthonormal columns in order of decreasing variance. The
    /// first large entry of each (within 10⁻³ of the largest one) is positive, and components of
    /// equal variance are the basis of their subspace that is closest to the variables' axes, so that
    /// the result depends on the data and not on the algorithm or the order of the observations.
    pub fn components(&self) -> &DMatrix<T> {
        &self.components
    }

    /// The mean, d×1.
    pub fn mean(&self) -> &DVector<T> {
        &self.mean
    }

    /// λ_j, the variance along each direction with divisor n (maximum likelihood), k×1.
    pub fn explained_variance(&self) -> DVector<T> {
        self.variances.clone()
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
        let mut loadings = self.components.clone();
        for (mut column, variance) in loadings.column_iter_mut().zip(self.variances.iter()) {
            column *= variance.sqrt();
        }
        loadings
    }

    /// The centred data x − μ, d×n.
    fn deviations(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        x.expect_dim(self.mean.len())?;
        let mut deviations = x.values().into_owned();
        deviations.column_iter_mut().for_each(|mut column| {
            column -= &self.mean;
            column -= &self.mean_rest;
        });
        Ok(deviations)
    }

    /// The scores Uᵗ(x − μ), k×n: uncorrelated over the data of the fit, with variances λ_j.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn transform<X: Data<T>>(&self, x: X) -> Result<DMatrix<T>>
    where
        Self: TransformOf<T, X::Form>,
    {
        self.transform_form(x.into_form()?)
    }

    /// The reconstruction x' = Uz + μ of scores z (k×n), d×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::Empty`], [`Error::NotFinite`].
    pub fn inverse_transform(&self, scores: &DMatrix<T>) -> Result<DMatrix<T>> {
        expect("rows of the scores", self.variances.len(), scores.nrows())?;
        check_finite(scores.as_view())?;
        let mut x = matrix_product(&self.components, scores);
        x.column_iter_mut().for_each(|mut column| {
            column += &self.mean_rest;
            column += &self.mean;
        });
        Ok(x)
    }

    /// The orthogonal projection of x on the span of the components about the mean, d×n.
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
        // No division by 0: `assemble` rejects k above the numerical rank.
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

    /// The score distance (Hotelling's T²) and the orthogonal distance (SPE) of each observation.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn outlier_distances<'a>(
        &self,
        x: impl IntoObservations<'a, T>,
    ) -> Result<OutlierDistances<T>> {
        let mut residuals = self.deviations(x.into_observations()?)?;
        // The residual itself, not ‖x − μ‖² − ‖z‖²: near the span the difference would cancel.
        let scores = product_tr_left(&self.components, &residuals);
        gemm(-T::one(), &self.components, &scores, T::one(), &mut residuals);
        let t_squared = |z: nalgebra::DVectorView<'_, T>| {
            z.iter().zip(self.variances.iter()).fold(T::zero(), |sum, (&z, &v)| sum + z * z / v)
        };
        Ok(OutlierDistances {
            t_squared: DVector::from_iterator(scores.ncols(), scores.column_iter().map(t_squared)),
            squared_prediction_error: DVector::from_iterator(
                residuals.ncols(),
                residuals.column_iter().map(|r| r.norm_squared()),
            ),
        })
    }

    /// The squared reconstruction error ‖x_i − x'_i‖² of each observation, in squared units of x.
    ///
    /// # Errors
    /// As [`Self::outlier_distances`].
    pub fn reconstruction_error<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>> {
        Ok(self.outlier_distances(x)?.squared_prediction_error)
    }
}

impl<'a, T: Real> TransformOf<T, Dense<'a, T>> for Pca<T> {
    // Validation, centring and the product in one pass over the data.
    fn transform_form(&self, x: Dense<'a, T>) -> Result<DMatrix<T>> {
        let mut scores = x.deviations_mapped(self.mean.as_view(), &self.components.transpose())?;
        // The scores about the mean and not about the mean that `T` stores, which for `f32` beside
        // an offset is another one.
        if self.mean_rest.iter().any(|rest| *rest != T::zero()) {
            let rest = product_tr_left(&self.components, &self.mean_rest);
            scores.column_iter_mut().for_each(|mut column| column -= &rest);
        }
        Ok(scores)
    }
}

impl<T: Real> std::fmt::Display for Pca<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (d, k) = (self.data_dim(), self.latent_dim());
        write!(f, "PCA: {d} variables, {k} components; explained variance")?;
        for (variance, ratio) in self.variances.iter().zip(self.explained_variance_ratio().iter()) {
            write!(f, " {:.6} ({:.2} %)", variance.as_f64(), 100.0 * ratio.as_f64())?;
        }
        Ok(())
    }
}

//! Bayesian PCA with automatic relevance determination (ARD).

use super::relevance::largest_relevant;
use super::{ArdPosterior, Spectrum};
use crate::data::Centering;
use crate::fit::closed_form::Principal;
use crate::inference::Exact;
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, IntoObservations, Ppca, Real, Result};

/// Bayesian PCA with automatic relevance determination (ARD; Bishop 1999), at the optimum of its
/// evidence lower bound (ELBO): columns of W that the data do not support are pruned, the others
/// shrunk.
///
/// ```
/// use elbo::selection::BayesianPpca;
/// use nalgebra::dmatrix;
/// // Marks of 16 pupils in six subjects: three of numbers, then three of languages.
/// let x = dmatrix![
///     8.9_f64, 4.4, 7.5, 4.6, 3.6, 7.6, 3.6, 6.7, 8.4, 8.6, 3.4, 8.3, 4.9, 8.7, 3.4, 5.6;
///     8.6, 4.6, 7.2, 4.5, 4.7, 7.4, 4.1, 7.3, 7.0, 9.3, 4.3, 8.1, 4.7, 7.9, 4.1, 6.3;
///     7.0, 4.7, 7.0, 5.2, 4.5, 6.8, 5.3, 6.9, 6.5, 7.8, 4.6, 7.1, 5.7, 7.3, 4.7, 5.7;
///     4.4, 6.4, 7.0, 5.3, 6.0, 7.3, 6.8, 5.9, 8.2, 4.9, 7.7, 5.5, 6.6, 6.5, 6.6, 8.2;
///     4.4, 6.4, 7.7, 4.7, 6.2, 7.0, 6.6, 5.3, 8.6, 5.1, 8.1, 5.4, 6.9, 6.1, 5.2, 8.2;
///     4.6, 6.3, 6.0, 5.8, 6.1, 6.0, 6.8, 5.9, 7.9, 5.3, 7.3, 5.9, 6.5, 6.3, 6.0, 7.1];
/// let fit = BayesianPpca::fit(&x)?; // k is not given
/// assert_eq!(fit.model.latent_dim(), 2);
/// assert_eq!(fit.model.transform(&x)?.shape(), (2, 16));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BayesianPpca<T: Real = f64> {
    /// Probabilistic PCA with the posterior mean of W as loadings, and the noise variance σ².
    pub model: Ppca<T>,
    /// The variational posterior: the precision of each direction, and the ELBO.
    pub relevance: ArdPosterior,
}

impl<T: Real> BayesianPpca<T> {
    /// Fits the model about an estimated mean; the latent dimension is determined by the fit.
    ///
    /// # Errors
    /// [`Error::NoSignal`] if no direction can be distinguished from isotropic noise; those of
    /// [`Selection::ppca`](super::Selection::ppca).
    pub fn fit<'a>(x: impl IntoObservations<'a, T>) -> Result<Self> {
        Self::builder().fit(x)
    }

    /// Returns a builder to set the mean and the largest latent dimension; its `fit` needs no
    /// generator.
    pub fn builder() -> BayesianPpcaBuilder {
        BayesianPpcaBuilder { mean: Centering::Mean, largest: usize::MAX }
    }
}

/// Builder of a fit of [`BayesianPpca`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BayesianPpcaBuilder {
    mean: Centering,
    largest: usize,
}

impl BayesianPpcaBuilder {
    /// Sets the mean: estimated (default; integrated out), or fixed at 0.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// Sets the largest number of latent dimensions that are kept; no limit by default.
    pub fn largest_latent_dim(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// Fits the model: the global optimum of the ELBO, from the eigenvalues of the covariance.
    ///
    /// # Errors
    /// As [`BayesianPpca::fit`].
    pub fn fit<'a, T: Real>(&self, x: impl IntoObservations<'a, T>) -> Result<BayesianPpca<T>> {
        let x = x.into_observations()?;
        let (spectrum, relevance) = Spectrum::of(x, self.mean)?.best_span(|spectrum| {
            let largest = self.largest.min(spectrum.largest_latent_dim());
            let relevance = ArdPosterior::of(spectrum, largest);
            let latent_dim = relevance.latent_dim();
            // A limit that the caller set is not the edge of what the data allow.
            let edge = largest_relevant(spectrum).min(spectrum.largest_latent_dim());
            Ok((relevance, latent_dim, edge))
        })?;
        if relevance.latent_dim() == 0 {
            return Err(Error::NoSignal {
                noise_variance: relevance.noise_variance,
                largest: spectrum.eigenvalues()[0],
            });
        }
        let principal = Principal::of(
            x.into(),
            self.mean,
            relevance.latent_dim(),
            crate::linalg::Solver::Auto,
        )?;
        // At the optimum the columns of W lie along the principal directions (Nakajima et al.
        // 2015): only their norms are shrunk.
        let mut loadings = principal.directions;
        for (mut column, &norm) in loadings.column_iter_mut().zip(&relevance.loading_norms) {
            column *= norm;
        }
        let noise = IsotropicGaussian::new(relevance.noise_variance)?.narrow()?;
        let model =
            LinearGaussian::new(Linear::about(&loadings, &principal.mean, self.mean)?, noise);
        Ok(BayesianPpca { model: Ppca::from_fitting_parts(model, Exact), relevance })
    }
}

//! Probabilistic PCA that prunes its own latent dimensions.

use super::{ArdPosterior, Spectrum};
use crate::data::Centering;
use crate::fit::closed_form::Principal;
use crate::inference::Exact;
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, IntoObservations, Ppca, Real, Result};

/// Bayesian PCA (Bishop 1999) at the optimum of its variational bound: columns of W that the data
/// do not support are pruned, the rest shrunk.
///
/// ```
/// use elbo::Ppca;
/// use elbo::selection::BayesianPpca;
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let loadings = DMatrix::from_fn(8, 2, |i, j| ((3 * i + 5 * j) as f64).sin());
/// let truth = Ppca::from_parameters(loadings, nalgebra::DVector::zeros(8), 0.1)?;
/// let x = truth.sample(100, &mut StdRng::seed_from_u64(1));
/// let fit = BayesianPpca::fit(&x)?; // k is not given
/// assert_eq!(fit.model.latent_dim(), 2);
/// assert_eq!(fit.model.transform(&x)?.shape(), (2, 100));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BayesianPpca<T: Real = f64> {
    /// Probabilistic PCA with the posterior mean of W, and σ².
    pub model: Ppca<T>,
    /// The relevance of each direction, and the bound.
    pub relevance: ArdPosterior,
}

impl<T: Real> BayesianPpca<T> {
    /// The optimum over all k, about an estimated mean.
    ///
    /// # Errors
    /// [`Error::NoSignal`] when no direction stands out of isotropic noise; those of
    /// [`choose_latent_dim`](super::choose_latent_dim).
    pub fn fit<'a>(x: impl IntoObservations<'a, T>) -> Result<Self> {
        Self::builder().fit(x)
    }

    /// The same with more to say.
    pub fn builder() -> BayesianPpcaBuilder {
        BayesianPpcaBuilder { mean: Centering::Mean, largest: usize::MAX }
    }
}

/// What can be said of a fit of [`BayesianPpca`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BayesianPpcaBuilder {
    mean: Centering,
    largest: usize,
}

impl BayesianPpcaBuilder {
    /// The mean: estimated (default; integrated out), or fixed at 0.
    pub fn centering(self, centering: Centering) -> Self {
        Self { mean: centering, ..self }
    }

    /// The most latent dimensions that are kept.
    pub fn largest_latent_dim(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// The optimum of the variational bound.
    ///
    /// # Errors
    /// As [`BayesianPpca::fit`].
    pub fn fit<'a, T: Real>(&self, x: impl IntoObservations<'a, T>) -> Result<BayesianPpca<T>> {
        let x = x.into_observations()?;
        let spectrum = Spectrum::of(x, self.mean)?;
        let relevance =
            ArdPosterior::of(&spectrum, self.largest.min(spectrum.largest_latent_dim()));
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

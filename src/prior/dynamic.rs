//! A prior that is chosen at run time.

use super::{GaussianPrior, MixturePrior, Prior, StandardNormal};
use crate::Real;
use crate::likelihood::Weights;
use crate::map::Parameters;
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// Any prior of this crate, chosen at run time: one type for all of them, so that a fit is compiled
/// once.
///
/// ```
/// use elbo::prior::{DynPrior, GaussianPrior, Prior};
/// let prior = DynPrior::<f64>::from(GaussianPrior::new(2));
/// assert_eq!((prior.latent_dim(), prior.is_standard()), (Some(2), false));
/// assert!(Prior::<f64>::is_standard(&DynPrior::<f64>::default()));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum DynPrior<T: Real> {
    /// N(0, I).
    #[default]
    StandardNormal,
    /// A Gaussian with free mean and covariance.
    Gaussian(GaussianPrior<T>),
    /// A mixture of Gaussians.
    Mixture(MixturePrior<T>),
}

impl<T: Real> From<GaussianPrior<T>> for DynPrior<T> {
    fn from(prior: GaussianPrior<T>) -> Self {
        Self::Gaussian(prior)
    }
}

impl<T: Real> From<MixturePrior<T>> for DynPrior<T> {
    fn from(prior: MixturePrior<T>) -> Self {
        Self::Mixture(prior)
    }
}

/// Calls a method of the variant's prior.
macro_rules! of_variant {
    ($self_:ident, $prior:ident => $call:expr) => {
        match $self_ {
            Self::StandardNormal => {
                let $prior = &StandardNormal;
                $call
            }
            Self::Gaussian($prior) => $call,
            Self::Mixture($prior) => $call,
        }
    };
}

impl<T: Real> Parameters<T> for DynPrior<T> {
    fn parameters(&self) -> &[T] {
        of_variant!(self, prior => prior.parameters())
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        match self {
            Self::StandardNormal => &mut [],
            Self::Gaussian(prior) => prior.parameters_mut(),
            Self::Mixture(prior) => prior.parameters_mut(),
        }
    }
}

impl<T: Real> Prior<T> for DynPrior<T> {
    fn latent_dim(&self) -> Option<usize> {
        of_variant!(self, prior => Prior::<T>::latent_dim(prior))
    }

    fn log_density(&self, z: DMatrixView<'_, T>) -> DVector<T> {
        of_variant!(self, prior => prior.log_density(z))
    }

    fn add_log_density_gradient(
        &self,
        z: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_z: &mut DMatrix<T>,
        d_parameters: &mut [T],
    ) -> T {
        of_variant!(self, prior => prior.add_log_density_gradient(z, weights, d_z, d_parameters))
    }

    fn sample(&self, latent_dim: usize, n: usize, rng: &mut dyn Rng) -> DMatrix<T> {
        of_variant!(self, prior => prior.sample(latent_dim, n, rng))
    }

    fn is_standard(&self) -> bool {
        matches!(self, Self::StandardNormal)
    }
}

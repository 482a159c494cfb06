//! The prior of the progression.

use super::{Prior, standard_log_density};
use crate::Real;
use crate::likelihood::Weights;
use crate::map::Parameters;
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// The prior N(0, I), without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StandardNormal;

impl<T: Real> Parameters<T> for StandardNormal {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

impl<T: Real> Prior<T> for StandardNormal {
    fn latent_dim(&self) -> Option<usize> {
        None
    }

    fn log_density(&self, z: DMatrixView<'_, T>) -> DVector<T> {
        standard_log_density(z)
    }

    fn add_log_density_gradient(
        &self,
        z: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_z: &mut DMatrix<T>,
        _d_parameters: &mut [T],
    ) -> T {
        let densities = standard_log_density(z);
        let mut sum = T::zero();
        for (i, (mut d_z, z)) in d_z.column_iter_mut().zip(z.column_iter()).enumerate() {
            d_z.axpy(-weights.of(i), &z, T::one());
            sum += weights.of(i) * densities[i];
        }
        sum
    }

    fn sample(&self, latent_dim: usize, n: usize, rng: &mut dyn Rng) -> DMatrix<T> {
        DMatrix::from_fn(latent_dim, n, |_, _| T::standard_normal(rng))
    }

    fn is_standard(&self) -> bool {
        true
    }
}

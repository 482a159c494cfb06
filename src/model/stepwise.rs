//! Operations on residual statistics for stepwise (online) EM, which averages statistics over
//! batches while the model changes.

use super::linear_gaussian::ResidualStatistics;
use crate::linalg::{matrix_product, product_tr_right, solve_lower};
use crate::{Real, Result};
use nalgebra::DMatrix;

impl<T: Real> ResidualStatistics<T> {
    /// Divides the statistics by the number of observations.
    pub(crate) fn per_observation(mut self) -> Self {
        let count = self.count;
        self.scale(T::one() / count);
        self
    }

    /// Multiplies the statistics by `factor`, as if each observation occurred `factor` times.
    pub(crate) fn scale(&mut self, factor: T) {
        self.count *= factor;
        self.squared_residuals *= factor;
        self.residual_products *= factor;
        self.mean_products *= factor;
        self.covariances *= factor;
    }

    /// Updates the statistics to a model whose [W μ] has changed by Δ, for the same q: the
    /// residuals become e − Δ[m; 1].
    pub(crate) fn apply_change(&mut self, change: &DMatrix<T>) {
        // Σ (e − Δm̃)_j² = Σ e_j² + Δ_j·(Δ Σm̃m̃ᵗ − 2 Σ e m̃ᵗ)_j: no observation is needed.
        let explained = matrix_product(change, &self.mean_products);
        let along = &explained - &self.residual_products * T::of(2.0);
        for (j, square) in self.squared_residuals.iter_mut().enumerate() {
            // Rounding may leave a tiny negative number where a variable is fitted exactly.
            *square = (*square + along.row(j).dot(&change.row(j))).max(T::zero());
        }
        self.residual_products -= explained;
    }

    /// The mean of z over all observations, and a Cholesky factor L (k×k, lower) of its covariance;
    /// without `centred`, 0 and the factor of the second moment.
    pub(crate) fn prior_factor(&self, centred: bool) -> Result<(DMatrix<T>, DMatrix<T>)> {
        let k = self.covariances.nrows();
        let mut second = self.mean_second_moment();
        let mut mean = DMatrix::zeros(k, 1);
        if centred {
            mean.copy_from(&(self.mean_products.view((0, k), (k, 1)) / self.count));
            second -= product_tr_right(&mean, &mean);
        }
        Ok((mean, crate::linalg::cholesky_lower(second.as_view())?))
    }

    /// Transforms the statistics to the coordinates z' = L⁻¹(z − m̄). The residuals do not change.
    pub(crate) fn change_coordinates(&mut self, mean: &DMatrix<T>, factor: &DMatrix<T>) {
        let k = factor.nrows();
        // [L⁻¹, −L⁻¹m̄; 0, 1] maps [m; 1] to [m'; 1].
        let mut whiten = DMatrix::<T>::identity(k + 1, k + 1);
        whiten.view_mut((0, k), (k, 1)).copy_from(&-mean);
        solve_lower(factor, whiten.view_mut((0, 0), (k, k + 1)));
        self.residual_products = product_tr_right(&self.residual_products, &whiten);
        self.mean_products =
            product_tr_right(&matrix_product(&whiten, &self.mean_products), &whiten);
        let inverse = whiten.view((0, 0), (k, k)).into_owned();
        self.covariances = product_tr_right(&matrix_product(&inverse, &self.covariances), &inverse);
    }
}

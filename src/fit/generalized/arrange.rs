//! What J leaves open: location and scale of z, rotation, order and signs of the latent dimensions.

use super::ascent::Point;
use super::problem::Problem;
use super::shape::Shape;
use crate::Result;
use crate::likelihood::Univariate;
use crate::linalg::{first_large, r_factor, thin_svd};
use nalgebra::DMatrix;

impl<U: Univariate<f64>> Problem<'_, U> {
    /// Brings a point to the standard prior, without a change of J, and fixes rotation, order and
    /// signs: for isotropic and full covariances WᵗW becomes diagonal, for diagonal ones only the
    /// order and the signs are free. ‖w_a‖ falls, and the first large entry of each column of W is
    /// positive.
    pub(super) fn arrange(&self, point: &mut Point) -> Result<()> {
        self.standardize(point);
        if self.latent_dim == 0 {
            return Ok(());
        }
        let rotation = match self.shape {
            Shape::Diagonal => ordered(&point.theta.loadings),
            Shape::Isotropic | Shape::Full => {
                let svd = thin_svd(point.theta.loadings.as_view())?;
                let k = self.latent_dim;
                // With fewer variables than dimensions the decomposition has fewer columns.
                if svd.v.ncols() == k { svd.v } else { DMatrix::identity(k, k) }
            }
        };
        self.rotate(point, &rotation)?;
        let signs = DMatrix::from_diagonal(&nalgebra::DVector::from_fn(self.latent_dim, |a, _| {
            let column = point.theta.loadings.column(a);
            let large = first_large(column.as_slice());
            if large.is_some_and(|j| column[j] < 0.0) { -1.0 } else { 1.0 }
        }));
        self.rotate(point, &signs)
    }

    /// Makes WᵗW diagonal, with falling entries, and fixes the signs, where no q depends on it.
    pub(super) fn rotate_loadings(&self, theta: &mut super::problem::Theta) -> Result<()> {
        let svd = thin_svd(theta.loadings.as_view())?.with_fixed_signs();
        if svd.v.ncols() == self.latent_dim {
            theta.loadings = &theta.loadings * &svd.v;
        }
        Ok(())
    }

    /// With z = a + Rz' the prior N(a, RRᵗ) of the point becomes N(0, I) of z'.
    fn standardize(&self, point: &mut Point) {
        let k = self.latent_dim;
        let (mean, covariance) = self.prior_moments(&point.phi);
        let Some(cholesky) = covariance.cholesky() else { return };
        let root = cholesky.unpack();
        point.theta.intercepts += &point.theta.loadings * &mean;
        point.theta.loadings = &point.theta.loadings * &root;
        let mut factor = DMatrix::zeros(k, k);
        for mut phi in point.phi.column_iter_mut() {
            self.shape.factor_into(phi.as_slice(), &mut factor);
            let mut deviation = phi.rows(0, k) - &mean;
            root.solve_lower_triangular_mut(&mut deviation);
            phi.rows_mut(0, k).copy_from(&deviation);
            root.solve_lower_triangular_mut(&mut factor);
            self.shape.write_factor(&factor, phi.as_mut_slice());
        }
    }

    /// Replaces z by Rᵗz for an orthogonal R (for diagonal covariances a signed permutation).
    fn rotate(&self, point: &mut Point, rotation: &DMatrix<f64>) -> Result<()> {
        let k = self.latent_dim;
        point.theta.loadings = &point.theta.loadings * rotation;
        let mut factor = DMatrix::zeros(k, k);
        for mut phi in point.phi.column_iter_mut() {
            self.shape.factor_into(phi.as_slice(), &mut factor);
            let mean = rotation.tr_mul(&phi.rows(0, k));
            phi.rows_mut(0, k).copy_from(&mean);
            if self.shape == Shape::Isotropic {
                continue;
            }
            // The lower factor of RᵗL(RᵗL)ᵗ is the transpose of the triangular factor of LᵗR.
            let mut lower = r_factor(factor.tr_mul(rotation).as_view())?.transpose();
            for mut column in lower.column_iter_mut() {
                let at = column.iter().position(|v| *v != 0.0);
                if at.is_some_and(|at| column[at] < 0.0) {
                    column.neg_mut();
                }
            }
            self.shape.write_factor(&lower, phi.as_mut_slice());
        }
        Ok(())
    }
}

/// The permutation that orders columns by falling length.
fn ordered(loadings: &DMatrix<f64>) -> DMatrix<f64> {
    let k = loadings.ncols();
    let lengths: Vec<f64> = loadings.column_iter().map(|w| w.norm_squared()).collect();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| lengths[b].total_cmp(&lengths[a]));
    DMatrix::from_fn(k, k, |row, column| f64::from(u8::from(order[column] == row)))
}

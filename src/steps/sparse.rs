//! The closed forms and the verbs of steps 1 and 2 for sparse observations: about the mean, without
//! making them dense.

use super::linear_autoencoder::{LinearAutoencoder, LinearAutoencoderBuilder};
use super::ppca::{Ppca, PpcaBuilder};
use crate::data::{Centering, SparseObservations, check_latent_dim, resolution_of};
use crate::fit::Solved;
use crate::fit::closed_form::{Principal, SolverReport};
use crate::linalg::{Solver, matrix_product};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

impl Principal {
    /// By products with the table and its transpose, the mean taken out of them as they are formed.
    fn of_sparse<T: Real>(
        x: SparseObservations<'_, T>,
        mean: Centering,
        latent_dim: usize,
        solver: Solver,
    ) -> Result<Self> {
        let n = x.len() as f64;
        let centre = x.centre(mean)?;
        check_latent_dim(latent_dim, x.len(), x.data_dim())?;
        let total = x.squared_deviations(&centre) / n;
        resolution_of(total, &centre, x.len())?;
        let mut passes = 2;
        let found = solver.leading_of(x.data_dim(), latent_dim, |v, mut out| {
            passes += 1;
            out.copy_from(&(x.scatter_product(v, &centre) / n));
            Ok(())
        })?;
        let (along, _) = x.projections(&found.vectors, &centre);
        let variances =
            DVector::from_iterator(latent_dim, along.row_iter().map(|row| row.norm_squared() / n));
        let outside = (total - variances.sum()).max(0.0);
        // What is left of the total after a subtraction in double precision.
        let tolerance = 1e-12 * total;
        let route =
            SolverReport { solver: found.solver, passes: passes + 1, accuracy: found.accuracy };
        Ok(Self {
            directions: found.vectors,
            variances,
            outside,
            mean: centre,
            weight: n,
            tolerance,
            route,
        })
    }
}

/// The ways that see the data by products alone.
fn check_solver(solver: Solver) -> Result<()> {
    match solver {
        Solver::Auto | Solver::Krylov | Solver::Randomized { .. } => Ok(()),
        _ => Err(Error::Unsupported {
            what: "sparse observations",
            must: "Solver::Auto, Krylov or Randomized",
        }),
    }
}

impl<T: Real> PpcaBuilder<T> {
    /// The maximum of the likelihood of sparse observations: as [`Self::fit`] of [the dense
    /// table](SparseObservations::to_dense), in time in proportion to the stored entries and O((n +
    /// d)k) memory.
    ///
    /// A variance outside the k directions that is less than 1e-12 of the total is taken for none.
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::Unsupported`] for a [`Solver`] that forms a matrix or wants the
    /// whole table.
    pub fn fit_sparse(&self, x: SparseObservations<'_, T>) -> Result<Solved<Ppca<T>>> {
        self.check_settings()?;
        check_solver(self.solver)?;
        let principal = Principal::of_sparse(x, self.mean, self.latent_dim, self.solver)?;
        let route = principal.route;
        Ok(Solved { model: self.assemble_principal(principal)?, route })
    }
}

impl<T: Real> LinearAutoencoderBuilder<T> {
    /// The minimum of the squared error of sparse observations: as [`Self::fit`] of [the dense
    /// table](SparseObservations::to_dense).
    ///
    /// ```
    /// use elbo::{LinearAutoencoder, data::SparseObservations};
    /// let (offsets, rows, values) =
    ///     ([0, 2, 3, 5, 7], [0, 2, 1, 0, 1, 1, 2], [2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 2.0]);
    /// let x = SparseObservations::from_csc(3, 4, &offsets, &rows, &values)?;
    /// let model = LinearAutoencoder::<f64>::builder(1).fit_sparse(x)?;
    /// let error = model.squared_error(&x.to_dense())?;
    /// assert!((model.squared_error_sparse(x)? - error).abs() < 1e-12 * error);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::Unsupported`] for a [`Solver`] that forms a matrix or wants the
    /// whole table.
    pub fn fit_sparse(&self, x: SparseObservations<'_, T>) -> Result<Solved<LinearAutoencoder<T>>> {
        self.check_settings()?;
        check_solver(self.solver)?;
        let principal = Principal::of_sparse(x, self.mean, self.latent_dim, self.solver)?;
        let route = principal.route;
        Ok(Solved { model: self.assemble_principal(principal)?, route })
    }
}

fn expect_dim<T: Real>(x: SparseObservations<'_, T>, expected: usize) -> Result<()> {
    crate::data::expect("variables of an observation", expected, x.data_dim())
}

impl<T: Real> Ppca<T> {
    /// log p(x_i) in nats of sparse observations, one entry each; in double precision throughout.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn log_likelihood_sparse(&self, x: SparseObservations<'_, T>) -> Result<DVector<T>> {
        expect_dim(x, self.data_dim())?;
        let factor = self.model.wide_factor()?;
        let (along, squares) = x.projections(&factor.directions, &self.model.wide_mean());
        let outside = along
            .column_iter()
            .zip(&squares)
            .map(|(y, square)| (square - y.norm_squared()).max(0.0));
        let densities = factor.log_density_of(&along, outside.collect());
        Ok(densities.map(T::of))
    }

    /// The codes E(z|x_i) of sparse observations, k×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn transform_sparse(&self, x: SparseObservations<'_, T>) -> Result<DMatrix<T>> {
        expect_dim(x, self.data_dim())?;
        let factor = self.model.wide_factor()?;
        let (along, _) = x.projections(&factor.directions, &self.model.wide_mean());
        Ok(factor.codes_of(along).map(T::of))
    }

    /// Σ_i ‖x_i − P(x_i)‖² of sparse observations, P the orthogonal projection on the span of W
    /// about the mean.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn squared_error_sparse(&self, x: SparseObservations<'_, T>) -> Result<T> {
        expect_dim(x, self.data_dim())?;
        let (mean, factor) = (self.model.wide_mean(), self.model.wide_factor()?);
        let (along, _) = x.projections(&factor.directions, &mean);
        Ok(T::of((x.squared_deviations(&mean) - along.norm_squared()).max(0.0)))
    }
}

impl<T: Real> LinearAutoencoder<T> {
    /// The codes Ux of sparse observations, k×n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn transform_sparse(&self, x: SparseObservations<'_, T>) -> Result<DMatrix<T>> {
        Ok(self.wide_codes(x)?.map(T::of))
    }

    fn wide_codes(&self, x: SparseObservations<'_, T>) -> Result<DMatrix<f64>> {
        expect_dim(x, self.data_dim())?;
        let encoder = &self.inference.encoder.map;
        let weights = encoder.weights().transpose().map(|v| v.as_f64());
        let (mut codes, _) = x.projections(&weights, &DVector::zeros(x.data_dim()));
        codes.column_iter_mut().for_each(|mut code| {
            code.iter_mut().zip(encoder.bias().iter()).for_each(|(z, b)| *z += b.as_f64())
        });
        Ok(codes)
    }

    /// Σ_i ‖x_i − x'_i‖² of sparse observations: with b the bias of W, Σ‖x_i − b‖² − 2 Σ z_iᵗWᵗ(x_i
    /// − b) + Σ‖Wz_i‖².
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn squared_error_sparse(&self, x: SparseObservations<'_, T>) -> Result<T> {
        let codes = self.wide_codes(x)?;
        let decoder = self.decoder_weights().map(|v| v.as_f64());
        let bias = self.model.decoder.bias().map(|v| v.as_f64());
        let (along, _) = x.projections(&decoder, &bias);
        let inner = matrix_product(&(decoder.transpose() * &decoder), &codes);
        let error = x.squared_deviations(&bias) - 2.0 * codes.dot(&along) + codes.dot(&inner);
        Ok(T::of(error.max(0.0)))
    }
}

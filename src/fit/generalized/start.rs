//! Initialisations: from the residuals of a model without a latent variable, and random ones.

use super::ascent::Point;
use super::expectation::expectation;
use super::problem::{Prior, Problem, Theta, symmetric};
use crate::likelihood::Univariate;
use crate::linalg::{orthonormalize, thin_svd};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Passes of the subspace iteration.
const PASSES: usize = 8;
/// Directions beside k in the subspace iteration.
const SPARE: usize = 4;
/// Residuals beyond so many units of the predictor count as so many.
const LARGEST_RESIDUAL: f64 = 3.0;
/// Numbers that are held while the values of variables are collected.
const HELD: usize = 1 << 22;

/// The model without a latent variable, and what its residuals say about one.
pub(super) struct Residuals {
    /// θ without loadings.
    pub(super) null: Theta,
    /// Mean curvature −∂² ln p/∂y² of each variable.
    curvature: DVector<f64>,
    /// The leading directions of the residuals, d×k: a first guess of the loadings.
    pub(super) loadings: DMatrix<f64>,
}

impl<U: Univariate<f64>> Problem<'_, U> {
    /// Intercepts and parameters of the variables by their own starts, then the leading directions
    /// of the residuals of this model by subspace iteration.
    pub(super) fn residuals(&self, width: usize) -> Result<Residuals> {
        let (d, k) = (self.data_dim(), self.latent_dim);
        let null = self.null_model()?;
        let mut curvature = DVector::<f64>::zeros(d);
        self.for_each_score(&null, |_, _, curvatures| {
            for column in curvatures.column_iter() {
                curvature += column;
            }
        });
        curvature /= self.table.total_weight;
        curvature.iter_mut().for_each(|c| *c = c.max(1e-10));
        let width = width.min(d).min(self.table.len());
        if k == 0 || width == 0 {
            return Ok(Residuals { null, curvature, loadings: DMatrix::zeros(d, k) });
        }
        let mut basis = orthonormalize(crate::linalg::pseudo_random::<f64>(d, width).as_view())?;
        for _ in 0..PASSES {
            basis = orthonormalize(self.residual_products(&null, &curvature, &basis).0.as_view())?;
        }
        let coordinates = self.residual_products(&null, &curvature, &basis).1;
        let svd = thin_svd(coordinates.as_view())?;
        let directions = &basis * &svd.u;
        let mut loadings = DMatrix::zeros(d, k);
        for a in 0..k.min(width) {
            // In units of the noise of the score: what exceeds 1 is signal.
            let variance = svd.singular_values[a].powi(2) / self.table.total_weight;
            let signal = (variance - 1.0).max(0.1 * variance).max(1e-3);
            for j in 0..d {
                loadings[(j, a)] = directions[(j, a)] * (signal / curvature[j]).sqrt();
            }
        }
        Ok(Residuals { null, curvature, loadings })
    }

    /// θ of the model without a latent variable, by the start of each distribution.
    fn null_model(&self) -> Result<Theta> {
        let (d, n) = (self.data_dim(), self.table.len());
        let parameters = (0..d).map(|j| self.likelihood.range(j).len()).sum();
        let mut null = Theta::zeros(d, self.latent_dim, parameters);
        let at_once = (HELD / n.max(1)).clamp(1, d);
        let (mut column, mut offset) = (vec![0.0; d], vec![0.0; d]);
        for first in (0..d).step_by(at_once) {
            let count = at_once.min(d - first);
            let (mut values, mut offsets) = (vec![Vec::new(); count], vec![Vec::new(); count]);
            for i in 0..n {
                self.table.values_into(i, &mut column);
                offset.fill(0.0);
                self.table.add_offsets(i, &mut offset);
                // A merged observation counts as often as it occurred, up to a bound.
                let copies = (self.table.weights[i].round() as usize).clamp(1, 1000);
                for j in 0..count {
                    if !column[first + j].is_nan() {
                        values[j].extend(std::iter::repeat_n(column[first + j], copies));
                        if self.table.has_offset {
                            offsets[j].extend(std::iter::repeat_n(offset[first + j], copies));
                        }
                    }
                }
            }
            for j in 0..count {
                let places = self.likelihood.range(first + j);
                let distribution = self.likelihood.distribution(first + j);
                let parameters = &mut null.xi[places];
                // As where observations of weight 0 are the only ones with a value.
                if values[j].is_empty() {
                    return Err(Error::NeverObserved { variable: first + j, observations: n });
                }
                let start = distribution.start(&values[j], &offsets[j], parameters);
                self.check_interior(first + j, &values[j], start, parameters)?;
                null.intercepts[first + j] = start;
            }
        }
        Ok(null)
    }

    /// Returns an error for a variable with one value whose likelihood rises for ever along its
    /// predictor.
    fn check_interior(&self, j: usize, values: &[f64], start: f64, xi: &[f64]) -> Result<()> {
        let Some(&value) = values.first() else { return Ok(()) };
        if values.iter().any(|v| *v != value) {
            return Ok(());
        }
        let mut scratch = xi.to_vec();
        let distribution = self.likelihood.distribution(j);
        let mut slope = |y: f64| distribution.log_density_gradient(value, y, xi, &mut scratch).1;
        const FAR: f64 = 25.0;
        if slope(start - FAR) <= 0.0 || slope(start + FAR) >= 0.0 {
            return Err(Error::NoFiniteIntercept { variable: j, value });
        }
        Ok(())
    }

    /// Calls `f` with the first observation, the weighted derivatives of ln p by the predictors, and
    /// the weighted curvatures, block by block.
    fn for_each_score(&self, null: &Theta, mut f: impl FnMut(usize, &DMatrix<f64>, &DMatrix<f64>)) {
        /// A variance at which second derivatives are smoothed a little.
        const VARIANCE: f64 = 0.01;
        let (d, n) = (self.data_dim(), self.table.len());
        let block = ((1 << 14) / d).clamp(8, 1024);
        let mut scratch = null.xi.clone();
        let mut own = null.xi.clone();
        for first in (0..n).step_by(block) {
            let count = block.min(n - first);
            let mut x = DMatrix::zeros(d, count);
            let mut y = DMatrix::from_fn(d, count, |j, _| null.intercepts[j]);
            self.table.values_into(first, x.as_mut_slice());
            self.table.add_offsets(first, y.as_mut_slice());
            for i in 0..count {
                let weight = self.table.weights[first + i];
                for j in 0..d {
                    if x[(j, i)].is_nan() {
                        (x[(j, i)], y[(j, i)]) = (0.0, 0.0);
                        continue;
                    }
                    let places = self.likelihood.range(j);
                    let found = expectation(
                        self.likelihood.distribution(j),
                        x[(j, i)],
                        (y[(j, i)], VARIANCE),
                        &null.xi[places.clone()],
                        &mut own[places.clone()],
                        &mut scratch[places],
                    );
                    x[(j, i)] = weight * found.d_mean;
                    y[(j, i)] = weight * (-2.0 * found.d_variance).max(0.0);
                }
            }
            f(first, &x, &y);
        }
    }

    /// R RᵗQ (d×r) and QᵗR (r×n) for the residuals R, the derivatives in units of their noise, and
    /// a basis Q.
    fn residual_products(
        &self,
        null: &Theta,
        curvature: &DVector<f64>,
        basis: &DMatrix<f64>,
    ) -> (DMatrix<f64>, DMatrix<f64>) {
        let mut product = DMatrix::zeros(basis.nrows(), basis.ncols());
        let mut coordinates = DMatrix::zeros(basis.ncols(), self.table.len());
        self.for_each_score(null, |first, scores, _| {
            let mut residuals = scores.clone();
            for (i, mut column) in residuals.column_iter_mut().enumerate() {
                // Scores are weighted; √w is the weight of a residual in a sum of squares.
                let weight = self.table.weights[first + i];
                for (r, c) in column.iter_mut().zip(curvature.iter()) {
                    let predictor = (*r / (weight * c)).clamp(-LARGEST_RESIDUAL, LARGEST_RESIDUAL);
                    *r = predictor * (c * weight).sqrt();
                }
            }
            let own = basis.tr_mul(&residuals);
            product.gemm(1.0, &residuals, &own.transpose(), 1.0);
            coordinates.columns_mut(first, residuals.ncols()).copy_from(&own);
        });
        (product, coordinates)
    }

    /// The point of the first initialisation.
    pub(super) fn data_start(&self, residuals: &Residuals) -> Result<Point> {
        let mut theta = residuals.null.clone();
        theta.loadings = residuals.loadings.clone();
        self.with_posterior(theta)
    }

    /// A point with random loadings of the size of those of the first initialisation.
    pub(super) fn random_start(&self, residuals: &Residuals, rng: &mut dyn Rng) -> Result<Point> {
        let mut theta = residuals.null.clone();
        let (d, k) = (self.data_dim(), self.latent_dim);
        let in_noise = |j: usize| residuals.loadings.row(j).norm_squared() * residuals.curvature[j];
        let mean = (0..d).map(in_noise).sum::<f64>() / (d * k.max(1)) as f64;
        for j in 0..d {
            let scale = (mean / residuals.curvature[j]).sqrt().min(LARGEST_RESIDUAL);
            for a in 0..k {
                theta.loadings[(j, a)] = scale * f64::standard_normal(rng);
            }
        }
        self.with_posterior(theta)
    }

    /// A point with this θ and the q_i of a few steps from the prior; loadings are halved until J is
    /// finite.
    fn with_posterior(&self, mut theta: Theta) -> Result<Point> {
        for _ in 0..60 {
            let phi = self.posterior_from_prior(&theta);
            let gradient = self.evaluate(&theta, &phi);
            let finite = gradient.phi.iter().chain(gradient.theta.loadings.iter());
            if gradient.value.is_finite() && finite.copied().all(f64::is_finite) {
                return Ok(Point { theta, phi });
            }
            theta.loadings *= 0.5;
        }
        let phi = self.posterior_from_prior(&theta);
        let value = self.evaluate(&theta, &phi).value / self.table.total_weight;
        Err(Error::ObjectiveAtStart { value })
    }

    /// φ after a few damped Newton steps of the means from the prior, with the covariances that
    /// belong to the curvature there.
    pub(super) fn posterior_from_prior(&self, theta: &Theta) -> DMatrix<f64> {
        const STEPS: usize = 4;
        const LONGEST: f64 = 2.0;
        let (k, n) = (self.latent_dim, self.table.len());
        let mut phi = DMatrix::zeros(self.shape.rows(k), n);
        let standard = Problem { prior: Prior::Standard, ..self.reborrow() };
        // From q of variance 1 the means would be pulled by e^{½v}: begin with the curvature at 0.
        let mut narrow = DMatrix::identity(k, k) * 1e4;
        for i in 0..n {
            self.shape.write_precision(&narrow, phi.column_mut(i).as_mut_slice());
        }
        for _ in 0..STEPS {
            let gradient = standard.evaluate(theta, &phi);
            let curvature = standard.curvature(theta, &phi);
            for i in 0..n {
                let weight = self.table.weights[i];
                narrow = symmetric(k, curvature.observations.column(i).as_slice()) / weight
                    + DMatrix::identity(k, k);
                let mut column = phi.column_mut(i);
                let mut step = gradient.phi.column(i).rows(0, k) / weight;
                if let Some(cholesky) = narrow.clone().cholesky() {
                    cholesky.solve_mut(&mut step);
                }
                let length = step.norm();
                if length.is_finite() {
                    let scale = (LONGEST / length).min(1.0);
                    column.rows_mut(0, k).axpy(scale, &step, 1.0);
                    self.shape.write_precision(&narrow, column.as_mut_slice());
                }
            }
        }
        phi
    }

    pub(super) fn reborrow(&self) -> Problem<'_, U> {
        Problem {
            table: self.table,
            likelihood: self.likelihood,
            shape: self.shape,
            latent_dim: self.latent_dim,
            prior: self.prior,
        }
    }
}

/// The number of directions of the subspace iteration.
pub(super) fn width(latent_dim: usize) -> usize {
    latent_dim + SPARE
}

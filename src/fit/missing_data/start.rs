//! Where a fit with holes starts.

use super::MissingDataRequest;
use super::maximization::Theta;
use super::observed::Observed;
use crate::likelihood::{GaussianNoise, IsotropicGaussian};
use crate::linalg::parallel::map_blocks;
use crate::linalg::{
    Operand, gemm, leading_eigenpairs, matrix_product, product_tr_left, symmetric_eigen, thin_qr,
    thin_svd,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// A shape of noise for which a fit with holes knows where to start.
pub(crate) trait Shape: GaussianNoise<f64> {
    /// Where a fit starts when nobody says otherwise, with this noise.
    ///
    /// # Errors
    /// Those of the decompositions.
    fn start<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Result<Theta<Self>>;

    /// Random loadings, at the scale of each variable.
    fn random_start<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Theta<Self>;

    /// Noise that may be better than where EM creeps to from here to `next`: variances at the floor
    /// that they only ever approach.
    fn lowered(theta: &Theta<Self>, next: &Theta<Self>) -> Vec<Self>;
}

impl Shape for IsotropicGaussian<f64> {
    fn start<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Result<Theta<Self>> {
        if data.mean.len() <= ALL_CORRELATIONS {
            data.correlation_start(request.latent_dim, *self)
        } else {
            data.principal_start(request.latent_dim, *self, rng)
        }
    }

    fn random_start<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Theta<Self> {
        Theta::new(data.random_loadings(request.latent_dim, rng), &data.mean, *self)
    }

    fn lowered(_theta: &Theta<Self>, _next: &Theta<Self>) -> Vec<Self> {
        Vec::new()
    }
}

/// How often the random start is multiplied by the covariance of what was observed.
const POWERS: usize = 2;

/// The largest weight that an entry of a seldom observed variable gets.
const LARGEST_WEIGHT: f64 = 4.0;

/// Up to so many variables, all their correlations are estimated for the start.
pub(super) const ALL_CORRELATIONS: usize = 256;

/// The least eigenvalue that the estimated correlations are taken to have.
pub(super) const LEAST_CORRELATION: f64 = 0.01;

impl<T: Real> Observed<'_, T> {
    /// All correlations, each estimated from the observations that have both entries; 0 beside a
    /// variable that does not vary. Not positive definite.
    pub(super) fn correlations(&self, deviations: &DVector<f64>) -> DMatrix<f64> {
        let (d, n) = (self.mean.len(), self.patterns.order.len() as f64);
        let weight = self
            .weights
            .as_ref()
            .map_or(n, |weights| self.patterns.order.iter().map(|&column| weights[column]).sum());
        let products = self.sum(d, |r, sum| gemm(1.0, r, Operand::from(&r).transposed(), 1.0, sum));
        DMatrix::from_fn(d, d, |j, l| {
            let scale = deviations[j] * deviations[l];
            let pairs = self.counts[j] * self.counts[l] / weight;
            match j == l {
                true => 1.0,
                false if scale > 0.0 => {
                    (products[(j, l)] / (scale * pairs.max(weight / n))).clamp(-0.99, 0.99)
                }
                false => 0.0,
            }
        })
    }

    /// The maximum for complete data of a covariance that is estimated pair by pair, made positive
    /// definite in the units of each variable, so that weak variables keep their correlations
    /// beside strong ones.
    fn correlation_start(
        &self,
        latent_dim: usize,
        noise: IsotropicGaussian<f64>,
    ) -> Result<Theta<IsotropicGaussian<f64>>> {
        let d = self.mean.len();
        let deviations = self.variances.map(|v| if v > self.tolerance { v.sqrt() } else { 0.0 });
        let correlations = self.correlations(&deviations);
        // Variables on one scale need no such care. Where the estimate leaves hardly a variance for
        // the noise, the start has the least share of the last one: EM came down from there in as
        // many steps as from the other start (0.6 and 0.4 % of it in what was tried).
        if deviations.min() > 1e-2 * deviations.max() {
            let covariance =
                DMatrix::from_fn(d, d, |j, l| deviations[j] * deviations[l] * correlations[(j, l)]);
            let leading = leading_eigenpairs(covariance.as_view(), latent_dim)?;
            let outside =
                (covariance.trace() - leading.values.sum()) / (d - latent_dim).max(1) as f64;
            let last = leading.values[latent_dim - 1];
            if d > latent_dim && outside > 0.0 && outside < last {
                return Ok(self.theta(
                    leading.vectors,
                    leading.values.as_slice(),
                    outside.max(LEAST_CORRELATION * last),
                    noise,
                ));
            }
        }
        let eigen = symmetric_eigen(correlations.as_view())?;
        let mut root = eigen.vectors;
        for (mut column, &value) in root.column_iter_mut().zip(eigen.values.iter()) {
            column.component_mul_assign(&deviations);
            column *= value.max(LEAST_CORRELATION).sqrt();
        }
        let svd = thin_svd(root.as_view())?;
        let variances = svd.singular_values.map(|s| s * s);
        let outside =
            variances.iter().skip(latent_dim).sum::<f64>() / (d - latent_dim).max(1) as f64;
        let outside = if outside > self.tolerance { outside } else { self.smallest_variance() };
        Ok(self.theta(
            svd.u.columns(0, latent_dim).into_owned(),
            variances.as_slice(),
            outside,
            noise,
        ))
    }

    /// The model with these variances along these directions and σ² = `outside`.
    fn theta(
        &self,
        mut loadings: DMatrix<f64>,
        variances: &[f64],
        outside: f64,
        mut noise: IsotropicGaussian<f64>,
    ) -> Theta<IsotropicGaussian<f64>> {
        noise.set_noise_variance(outside);
        let least = noise.noise_variance();
        for (mut column, &variance) in loadings.column_iter_mut().zip(variances) {
            // Not quite 0: loadings of nothing would stay so.
            column *= (variance - least).max(0.1 * least).sqrt();
        }
        Theta::new(loadings, &self.mean, noise)
    }

    fn principal_start(
        &self,
        latent_dim: usize,
        mut noise: IsotropicGaussian<f64>,
        rng: &mut dyn Rng,
    ) -> Result<Theta<IsotropicGaussian<f64>>> {
        let (mut loadings, variances) =
            self.components(latent_dim, &DVector::from_element(self.mean.len(), 1.0), rng)?;
        let kept: f64 = variances.iter().map(|variance| variance.max(0.0)).sum();
        let left = (self.variances.sum() - kept) / (self.mean.len() - latent_dim).max(1) as f64;
        noise.set_noise_variance(left.max(self.smallest_variance()));
        for (mut column, variance) in loadings.column_iter_mut().zip(variances.iter()) {
            // At least as strong as the noise: loadings near 0 would take long to grow.
            column *= (variance - noise.noise_variance()).max(noise.noise_variance()).sqrt();
        }
        Ok(Theta::new(loadings, &self.mean, noise))
    }

    /// About the principal directions, and the variances along them, of Σ_i r_i r_iᵗ/n, r_ij =
    /// (x_ij − μ_j)/(the share observed of j) and 0 in a hole, less what these weights add to its
    /// diagonal: an unbiased covariance when entries are missing at random. It is taken in the
    /// given units of the variables; the directions are random ones, multiplied by it.
    ///
    /// # Errors
    /// Those of the decompositions.
    pub(super) fn components(
        &self,
        latent_dim: usize,
        units: &DVector<f64>,
        rng: &mut dyn Rng,
    ) -> Result<(DMatrix<f64>, DVector<f64>)> {
        let d = self.mean.len();
        let weight = self.patterns.order.iter().map(|&column| self.weight(column)).sum::<f64>();
        let variances = self.variances.zip_map(units, |variance, unit| variance / (unit * unit));
        let weights = self.counts.map(|count| (weight / count).min(LARGEST_WEIGHT));
        let excess = DVector::from_fn(d, |j, _| {
            (weights[j] * weights[j] * self.counts[j] / weight - 1.0) * variances[j]
        });
        let weights = weights.component_div(units);
        let multiply = |q: &DMatrix<f64>| {
            let mut weighted = q.clone();
            weighted.column_iter_mut().for_each(|mut column| column.component_mul_assign(&weights));
            let mut product = self
                .sum(q.ncols(), |r, sum| gemm(1.0, r, &product_tr_left(r, &weighted), 1.0, sum));
            for (mut column, q) in product.column_iter_mut().zip(q.column_iter()) {
                column.component_mul_assign(&weights);
                column /= weight;
                column -= excess.component_mul(&q);
            }
            product
        };
        let width = (latent_dim + 4).min(d);
        let mut q = thin_qr(
            DMatrix::from_fn(d, width, |j, _| variances[j].sqrt() * f64::standard_normal(rng))
                .as_view(),
        )?
        .0;
        for _ in 0..POWERS {
            q = thin_qr(multiply(&q).as_view())?.0;
        }
        let ritz = product_tr_left(&q, &multiply(&q));
        let eigen = symmetric_eigen(((&ritz + ritz.transpose()) * 0.5).as_view())?;
        let order = &descending(&eigen.values)[..latent_dim];
        let directions = matrix_product(&q, &eigen.vectors.select_columns(order));
        Ok((
            directions,
            DVector::from_iterator(latent_dim, order.iter().map(|&place| eigen.values[place])),
        ))
    }

    /// What `add` sums up, d×width, over the deviations of blocks of observations (0 in a hole),
    /// each times the root of its weight.
    fn sum(
        &self,
        width: usize,
        add: impl Fn(DMatrixView<'_, f64>, &mut DMatrix<f64>) + Sync,
    ) -> DMatrix<f64> {
        const ROWS: usize = 256;
        let (x, patterns) = (&self.x, &self.patterns);
        let (d, n) = (self.mean.len(), patterns.order.len());
        let pieces = n.div_ceil(ROWS);
        let count = pieces.min(32);
        let sums = map_blocks(count, 2 * n * d * width, |part| {
            let mut sum = DMatrix::zeros(d, width);
            let mut deviations = DMatrix::zeros(d, ROWS);
            for piece in part * pieces / count..(part + 1) * pieces / count {
                let own = &patterns.order[piece * ROWS..n.min((piece + 1) * ROWS)];
                for (&column, out) in own.iter().zip(deviations.as_mut_slice().chunks_exact_mut(d))
                {
                    x.deviations_into(column, self.mean.as_slice(), out, None);
                    if self.weights.is_some() {
                        let root = self.weight(column).sqrt();
                        out.iter_mut().for_each(|deviation| *deviation *= root);
                    }
                }
                add(deviations.columns(0, own.len()), &mut sum);
            }
            sum
        });
        sums.into_iter().fold(DMatrix::zeros(d, width), |sum, part| sum + part)
    }
}

/// The places of the values in falling order.
pub(crate) fn descending(values: &DVector<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

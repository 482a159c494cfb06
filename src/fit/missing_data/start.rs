//! Initialisation of fits with missing values.

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

/// Noise model (isotropic or diagonal) with an initialisation for incomplete data.
pub(crate) trait NoiseInitialization: GaussianNoise<f64> {
    /// Returns the default initialisation, estimated from the data, with noise of this kind.
    ///
    /// # Errors
    /// Errors of the matrix decompositions.
    fn initialize<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Result<Theta<Self>>;

    /// Returns a random initialisation: random loadings, at the scale of each variable.
    fn initialize_randomly<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Theta<Self>;

    /// Returns candidates for the noise that may be better than the limit of EM from `theta` to
    /// `next`: with variances set to the floor that EM approaches only sublinearly.
    fn noise_at_floor(theta: &Theta<Self>, next: &Theta<Self>) -> Vec<Self>;
}

impl NoiseInitialization for IsotropicGaussian<f64> {
    fn initialize<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Result<Theta<Self>> {
        if data.mean.len() <= ALL_CORRELATIONS {
            data.initialize_from_correlations(request.latent_dim, *self)
        } else {
            data.initialize_from_components(request.latent_dim, *self, rng)
        }
    }

    fn initialize_randomly<T: Real>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        rng: &mut dyn Rng,
    ) -> Theta<Self> {
        Theta::new(data.random_loadings(request.latent_dim, rng), &data.mean, *self)
    }

    fn noise_at_floor(_theta: &Theta<Self>, _next: &Theta<Self>) -> Vec<Self> {
        Vec::new()
    }
}

/// Number of power iterations with the estimated covariance.
// Only an initialisation: EM corrects what two iterations leave.
const POWERS: usize = 2;

/// Upper bound on the inverse-probability weight of an entry of a variable that is rarely observed.
// Unbounded weights would make the estimate unbiased, but dominated by the few entries of such a
// variable.
const LARGEST_WEIGHT: f64 = 4.0;

/// Number of variables up to which all pairwise correlations are estimated for the initialisation.
// All pairs cost O(nd²) and an O(d³) eigendecomposition, an iteration of EM O(ndk²).
pub(super) const ALL_CORRELATIONS: usize = 256;

/// Lower bound on the eigenvalues of the estimated correlation matrix.
// Estimated pair by pair, the matrix may be indefinite; a bound of 1 % of a variable's variance
// also keeps the initial noise away from 0.
pub(super) const LEAST_CORRELATION: f64 = 0.01;

impl<T: Real> Observed<'_, T> {
    /// Returns all correlations, each from the observations that have both entries, divided by the
    /// number of them that is expected if entries are missing independently; 0 beside a variable
    /// that does not vary. The matrix need not be positive definite.
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
                    // At least one observation of average weight in the divisor; the clamp keeps a
                    // pair with few common entries from a correlation of 1, which would leave no
                    // noise.
                    (products[(j, l)] / (scale * pairs.max(weight / n))).clamp(-0.99, 0.99)
                }
                false => 0.0,
            }
        })
    }

    /// Returns the complete-data optimum for a covariance that is estimated pair by pair and made
    /// positive definite in units of each variable, so that variables of small variance keep their
    /// correlations beside large ones.
    fn initialize_from_correlations(
        &self,
        latent_dim: usize,
        noise: IsotropicGaussian<f64>,
    ) -> Result<Theta<IsotropicGaussian<f64>>> {
        let d = self.mean.len();
        let deviations = self.variances.map(|v| if v > self.tolerance { v.sqrt() } else { 0.0 });
        let correlations = self.correlations(&deviations);
        // Variables on similar scales do not need the correction: the leading eigenpairs of the
        // covariance are enough. If they leave almost no variance for the noise (0.6 % and 0.4 % of
        // the last eigenvalue in the cases tried), σ² starts at LEAST_CORRELATION of that
        // eigenvalue; EM needed as many iterations from there as from the slower initialisation
        // below.
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
        // The correlations are bounded away from singular, scaled back, and decomposed as a factor:
        // weak directions keep their accuracy.
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

    /// Returns the model with these variances along these directions and σ² = `outside`.
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
            // Not 0: loadings of exactly 0 are a fixed point of EM.
            column *= (variance - least).max(0.1 * least).sqrt();
        }
        Theta::new(loadings, &self.mean, noise)
    }

    fn initialize_from_components(
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
            // At least as strong as the noise: small loadings take many EM iterations to grow.
            column *= (variance - noise.noise_variance()).max(noise.noise_variance()).sqrt();
        }
        Ok(Theta::new(loadings, &self.mean, noise))
    }

    /// Estimates the principal directions, and the variances along them, of Σ_i r_i r_iᵗ/n with
    /// r_ij = (x_ij − μ_j)/(observed fraction of j), 0 if missing, minus what these weights add to
    /// the diagonal: an unbiased estimate of the covariance if entries are missing at random (up to
    /// the bound on the weights). It is taken in the given units of the variables, by power
    /// iteration from random directions; the d×d matrix is not formed.
    ///
    /// # Errors
    /// Errors of the matrix decompositions.
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
        // Randomised subspace iteration with four directions more than needed (Halko, Martinsson &
        // Tropp 2011).
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

    /// Returns the d×width sum that `add` accumulates over blocks of centred observations (0 if
    /// missing), each times the square root of its weight.
    fn sum(
        &self,
        width: usize,
        add: impl Fn(DMatrixView<'_, f64>, &mut DMatrix<f64>) + Sync,
    ) -> DMatrix<f64> {
        // Fixed blocks and at most 32 partial sums, reduced in order: bit-identical for any number
        // of threads, in bounded memory.
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

/// Returns the indices that sort the values in decreasing order; ties in order of index.
pub(crate) fn descending(values: &DVector<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

//! Where a fit with holes starts, and what it refuses.

use super::maximization::Theta;
use crate::data::{IncompleteObservations, Mean, Patterns, check_latent_dim};
use crate::likelihood::IsotropicGaussian;
use crate::linalg::parallel::map_blocks;
use crate::linalg::vector::vectorized;
use crate::linalg::{Operand, gemm, leading_eigenpairs, matrix_product, product_tr_left, symmetric_eigen, thin_qr, thin_svd};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::Rng;

/// The mean and the variance of what was observed of each variable.
pub(crate) struct Marginals {
    pub(crate) mean: DVector<f64>,
    pub(crate) variances: DVector<f64>,
    /// The variance that cannot be told from none.
    pub(crate) tolerance: f64,
}

impl Marginals {
    /// # Errors
    /// [`Error::NeverObserved`], [`Error::TooFewObservations`], [`Error::Constant`].
    pub(crate) fn of<T: Real>(x: &IncompleteObservations<'_, T>, patterns: &Patterns, mean: Mean) -> Result<Self> {
        let (d, n) = (x.data_dim(), patterns.order.len());
        if let Some(variable) = patterns.observed.iter().position(|&count| count == 0) {
            return Err(Error::NeverObserved { variable, observations: x.len() });
        }
        if mean == Mean::Estimated && n < 2 {
            return Err(Error::TooFewObservations { actual: n, least: 2 });
        }
        let counts = &patterns.observed;
        let pass = |about: &DVector<f64>| {
            const ROWS: usize = 1024;
            let pieces = map_blocks(n.div_ceil(ROWS), 4 * n * d, |piece| {
                let (mut values, mut sums, mut squares) = (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
                for &column in &patterns.order[piece * ROWS..n.min((piece + 1) * ROWS)] {
                    x.deviations_into(column, about.as_slice(), &mut values, None);
                    vectorized(
                        #[inline(always)]
                        || {
                            for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(&values) {
                                *sum += value;
                                *square += value * value;
                            }
                        },
                    );
                }
                (DVector::from_vec(sums), DVector::from_vec(squares))
            });
            pieces.into_iter().fold((DVector::zeros(d), DVector::zeros(d)), |(sum, square), (s, q)| (sum + s, square + q))
        };
        let zero = DVector::zeros(d);
        // The second pass over the deviations mends the first mean, which is rounded when it is large beside the spread.
        let (means, variances) = match mean {
            Mean::Zero => {
                let squares = pass(&zero).1;
                (zero, DVector::from_fn(d, |j, _| squares[j] / counts[j] as f64))
            }
            Mean::Estimated => {
                let (sums, _) = pass(&zero);
                let first = DVector::from_fn(d, |j, _| sums[j] / counts[j] as f64);
                let (rest, squares) = pass(&first);
                let shift = DVector::from_fn(d, |j, _| rest[j] / counts[j] as f64);
                let variances = DVector::from_fn(d, |j, _| (squares[j] / counts[j] as f64 - shift[j] * shift[j]).max(0.0));
                (first + shift, variances)
            }
        };
        let total = variances.sum();
        let tolerance = 256.0 * f64::EPSILON * f64::EPSILON * (total + means.norm_squared());
        if total <= tolerance {
            return Err(Error::Constant { variables: d, observations: n });
        }
        Ok(Self { mean: means, variances, tolerance })
    }

    /// The smallest variance of a variable that varies.
    pub(crate) fn smallest_variance(&self) -> f64 {
        self.variances.iter().filter(|&&v| v > self.tolerance).fold(self.variances.max(), |smallest, &v| smallest.min(v))
    }

    /// Random loadings, at the scale of each variable.
    pub(crate) fn random_start<R: Rng + ?Sized>(&self, latent_dim: usize, noise: IsotropicGaussian<f64>, rng: &mut R) -> Theta {
        let loadings = DMatrix::from_fn(self.mean.len(), latent_dim, |j, _| self.variances[j].sqrt() * f64::standard_normal(rng));
        Theta::new(loadings, &self.mean, noise)
    }
}

/// How often the random start is multiplied by the covariance of what was observed.
const POWERS: usize = 2;

/// The largest weight that an entry of a seldom observed variable gets.
const LARGEST_WEIGHT: f64 = 4.0;

/// Up to so many variables, all their correlations are estimated for the start.
const ALL_CORRELATIONS: usize = 256;

/// The least eigenvalue that the estimated correlations are taken to have.
const LEAST_CORRELATION: f64 = 0.01;

impl Marginals {
    /// Where a fit starts when nobody says otherwise.
    ///
    /// # Errors
    /// Those of the decompositions.
    pub(crate) fn start<T: Real, R: Rng + ?Sized>(
        &self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        latent_dim: usize,
        noise: IsotropicGaussian<f64>,
        rng: &mut R,
    ) -> Result<Theta> {
        if self.mean.len() <= ALL_CORRELATIONS {
            self.correlation_start(x, patterns, latent_dim, noise)
        } else {
            self.principal_start(x, patterns, latent_dim, noise, rng)
        }
    }

    /// The maximum for complete data of a covariance that is estimated pair by pair, made positive definite in the units of each variable, so that
    /// weak variables keep their correlations beside strong ones.
    fn correlation_start<T: Real>(
        &self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        latent_dim: usize,
        noise: IsotropicGaussian<f64>,
    ) -> Result<Theta> {
        let (d, n) = (self.mean.len(), patterns.order.len() as f64);
        let products = self.sum(x, patterns, d, |r, sum| gemm(1.0, r, Operand::from(&r).transposed(), 1.0, sum));
        let deviations = self.variances.map(|v| if v > self.tolerance { v.sqrt() } else { 0.0 });
        let correlations = DMatrix::from_fn(d, d, |j, l| {
            let scale = deviations[j] * deviations[l];
            let pairs = patterns.observed[j] as f64 * patterns.observed[l] as f64 / n;
            match j == l {
                true => 1.0,
                false if scale > 0.0 => (products[(j, l)] / (scale * pairs.max(1.0))).clamp(-0.99, 0.99),
                false => 0.0,
            }
        });
        // Variables on one scale need no such care, as long as what was estimated leaves a variance for the noise.
        if deviations.min() > 1e-2 * deviations.max() {
            let covariance = DMatrix::from_fn(d, d, |j, l| deviations[j] * deviations[l] * correlations[(j, l)]);
            let leading = leading_eigenpairs(covariance.as_view(), latent_dim)?;
            let outside = (covariance.trace() - leading.values.sum()) / (d - latent_dim).max(1) as f64;
            if d > latent_dim && outside > LEAST_CORRELATION * leading.values[latent_dim - 1] && outside < leading.values[latent_dim - 1] {
                return Ok(self.theta(leading.vectors, leading.values.as_slice(), outside, noise));
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
        let outside = variances.iter().skip(latent_dim).sum::<f64>() / (d - latent_dim).max(1) as f64;
        let outside = if outside > self.tolerance { outside } else { self.smallest_variance() };
        Ok(self.theta(svd.u.columns(0, latent_dim).into_owned(), variances.as_slice(), outside, noise))
    }

    /// The model with these variances along these directions and σ² = `outside`.
    fn theta(&self, mut loadings: DMatrix<f64>, variances: &[f64], outside: f64, mut noise: IsotropicGaussian<f64>) -> Theta {
        noise.set_noise_variance(outside);
        let least = noise.noise_variance();
        for (mut column, &variance) in loadings.column_iter_mut().zip(variances) {
            // Not quite 0: loadings of nothing would stay so.
            column *= (variance - least).max(0.1 * least).sqrt();
        }
        Theta::new(loadings, &self.mean, noise)
    }

    /// A start near the principal directions of Σ_i r_i r_iᵗ/n, r_ij = (x_ij − μ_j)/(the share observed of j) and 0 in a hole, less what the weights
    /// add to its diagonal: an unbiased covariance when entries are missing at random. The directions are random ones, multiplied by it.
    ///
    /// # Errors
    /// Those of the decompositions.
    fn principal_start<T: Real, R: Rng + ?Sized>(
        &self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        latent_dim: usize,
        mut noise: IsotropicGaussian<f64>,
        rng: &mut R,
    ) -> Result<Theta> {
        let (d, n) = (self.mean.len(), patterns.order.len());
        let share = |j: usize| patterns.observed[j] as f64 / n as f64;
        let weights = DVector::from_fn(d, |j, _| (1.0 / share(j)).min(LARGEST_WEIGHT));
        let excess = DVector::from_fn(d, |j, _| (weights[j] * weights[j] * share(j) - 1.0) * self.variances[j]);
        let multiply = |q: &DMatrix<f64>| {
            let mut weighted = q.clone();
            weighted.column_iter_mut().for_each(|mut column| column.component_mul_assign(&weights));
            let mut product = self.multiply(x, patterns, &weighted);
            for (mut column, q) in product.column_iter_mut().zip(q.column_iter()) {
                column.component_mul_assign(&weights);
                column /= n as f64;
                column -= excess.component_mul(&q);
            }
            product
        };
        let width = (latent_dim + 4).min(d);
        let mut q = thin_qr(DMatrix::from_fn(d, width, |j, _| self.variances[j].sqrt() * f64::standard_normal(rng)).as_view())?.0;
        for _ in 0..POWERS {
            q = thin_qr(multiply(&q).as_view())?.0;
        }
        let ritz = product_tr_left(&q, &multiply(&q));
        let eigen = symmetric_eigen(((&ritz + ritz.transpose()) * 0.5).as_view())?;
        let order = descending(&eigen.values);
        let kept: f64 = order.iter().take(latent_dim).map(|&place| eigen.values[place].max(0.0)).sum();
        let left = (self.variances.sum() - kept) / (d - latent_dim).max(1) as f64;
        noise.set_noise_variance(left.max(self.smallest_variance()));
        let mut loadings = matrix_product(&q, &eigen.vectors.select_columns(&order[..latent_dim]));
        for (mut column, &place) in loadings.column_iter_mut().zip(&order) {
            // At least as strong as the noise: loadings near 0 would take long to grow.
            column *= (eigen.values[place] - noise.noise_variance()).max(noise.noise_variance()).sqrt();
        }
        Ok(Theta::new(loadings, &self.mean, noise))
    }

    /// Σ_i r_i r_iᵗ Q.
    fn multiply<T: Real>(&self, x: &IncompleteObservations<'_, T>, patterns: &Patterns, q: &DMatrix<f64>) -> DMatrix<f64> {
        self.sum(x, patterns, q.ncols(), |r, sum| gemm(1.0, r, &product_tr_left(r, q), 1.0, sum))
    }

    /// What `add` sums up, d×width, over the deviations of blocks of observations (0 in a hole).
    fn sum<T: Real>(
        &self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        width: usize,
        add: impl Fn(DMatrixView<'_, f64>, &mut DMatrix<f64>) + Sync,
    ) -> DMatrix<f64> {
        const ROWS: usize = 256;
        let (d, n) = (self.mean.len(), patterns.order.len());
        let pieces = n.div_ceil(ROWS);
        let count = pieces.min(32);
        let sums = map_blocks(count, 2 * n * d * width, |part| {
            let mut sum = DMatrix::zeros(d, width);
            let mut deviations = DMatrix::zeros(d, ROWS);
            for piece in part * pieces / count..(part + 1) * pieces / count {
                let own = &patterns.order[piece * ROWS..n.min((piece + 1) * ROWS)];
                for (&column, out) in own.iter().zip(deviations.as_mut_slice().chunks_exact_mut(d)) {
                    x.deviations_into(column, self.mean.as_slice(), out, None);
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

/// Refuses a latent dimension that the observed entries cannot bear: any table of so few entries is met without noise.
///
/// An observation of which k entries or fewer are seen is met whatever W is; the others leave |o_i| − k residuals each, for the (d − k)(k + 1)
/// parameters of an affine space of dimension k.
///
/// # Errors
/// [`Error::LatentDim`], [`Error::TooFewEntries`].
pub(crate) fn check_noise_remains<T: Real>(
    x: &IncompleteObservations<'_, T>,
    patterns: &Patterns,
    latent_dim: usize,
    mean: Mean,
) -> Result<()> {
    let d = x.data_dim();
    check_latent_dim(latent_dim, patterns.order.len(), d)?;
    let mut values = vec![0.0; d];
    let mut entries = 0;
    for group in patterns.starts.windows(2) {
        x.column_into(patterns.order[group[0]], &mut values);
        let observed = values.iter().filter(|value| !value.is_nan()).count();
        entries += (group[1] - group[0]) * observed.saturating_sub(latent_dim);
    }
    let parameters = (d - latent_dim) * (latent_dim + usize::from(mean == Mean::Estimated));
    if entries > parameters { Ok(()) } else { Err(Error::TooFewEntries { latent_dim, entries, parameters }) }
}

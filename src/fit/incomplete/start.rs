//! Where a fit with holes starts, and what it refuses.

use super::maximization::Theta;
use crate::data::{IncompleteObservations, Mean, Patterns, check_latent_dim};
use crate::likelihood::IsotropicGaussian;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The mean and the variance of what was observed of each variable.
pub(crate) struct Marginals {
    pub(crate) mean: DVector<f64>,
    variances: DVector<f64>,
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
        let mut values = vec![0.0; d];
        let mut means: DVector<f64> = DVector::zeros(d);
        let mut squares: DVector<f64> = DVector::zeros(d);
        let counts = &patterns.observed;
        // The second pass over the deviations mends the first mean, which is rounded when it is large beside the spread.
        for _ in 0..if mean == Mean::Estimated { 2 } else { 0 } {
            let mut sums: DVector<f64> = DVector::zeros(d);
            for &column in &patterns.order {
                x.column_into(column, &mut values);
                for ((sum, value), mean) in sums.iter_mut().zip(&values).zip(means.iter()) {
                    *sum += if value.is_nan() { 0.0 } else { value - mean };
                }
            }
            means.iter_mut().zip(sums.iter()).zip(counts).for_each(|((mean, sum), &count)| *mean += sum / count as f64);
        }
        for &column in &patterns.order {
            x.column_into(column, &mut values);
            for ((square, value), mean) in squares.iter_mut().zip(&values).zip(means.iter()) {
                *square += if value.is_nan() { 0.0 } else { (value - mean) * (value - mean) };
            }
        }
        let variances = DVector::from_fn(d, |j, _| squares[j] / counts[j] as f64);
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

//! Data with holes and what is known of them before a fit: patterns, weights, marginals; and what
//! is refused.

use crate::data::{Centering, IncompleteObservations, Patterns, check_latent_dim, expect};
use crate::linalg::parallel::map_blocks;
use crate::linalg::vector::vectorized;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The square of what a deviation may be off by, as a share of what it is a deviation from.
pub(super) const ROUNDING: f64 = 256.0 * f64::EPSILON * f64::EPSILON;

/// Data with holes as every fit of them takes them: their patterns, and the mean and the variance
/// of what was observed of each variable.
pub(crate) struct Observed<'a, T: Real> {
    pub(crate) x: IncompleteObservations<'a, T>,
    pub(crate) patterns: Patterns,
    /// A weight for each column of x, the largest of which is 1.
    pub(crate) weights: Option<Vec<f64>>,
    /// Σ_i w_i, over all columns of x: n without weights.
    pub(crate) total: f64,
    /// Σ_i w_i o_ij of each variable.
    pub(crate) counts: DVector<f64>,
    pub(crate) mean: DVector<f64>,
    pub(crate) variances: DVector<f64>,
    /// The variance that cannot be told from none.
    pub(crate) tolerance: f64,
}

/// The weights over the largest of them.
///
/// # Errors
/// [`Error::DimensionMismatch`], [`Error::InvalidWeight`], [`Error::TooFewObservations`] where all
/// are 0.
pub(crate) fn check_weights<T: Real>(weights: &[T], observations: usize) -> Result<Vec<f64>> {
    expect("weights", observations, weights.len())?;
    let weights: Vec<f64> = weights.iter().map(|w| w.as_f64()).collect();
    if let Some(observation) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        return Err(Error::InvalidWeight { observation, value: weights[observation] });
    }
    let largest = weights.iter().fold(0.0, |a: f64, &b| a.max(b));
    if largest == 0.0 {
        return Err(Error::TooFewObservations { actual: 0, least: 1 });
    }
    Ok(weights.iter().map(|w| w / largest).collect())
}

impl<'a, T: Real> Observed<'a, T> {
    /// # Errors
    /// [`Error::NeverObserved`], [`Error::TooFewObservations`]; those of the weights.
    pub(crate) fn of(
        x: IncompleteObservations<'a, T>,
        weights: Option<&[T]>,
        mean: Centering,
    ) -> Result<Self> {
        let weights = weights.map(|weights| check_weights(weights, x.len())).transpose()?;
        let patterns = Patterns::of(&x, weights.as_deref());
        let weight = |column: usize| weights.as_ref().map_or(1.0, |weights| weights[column]);
        let (d, n) = (x.data_dim(), patterns.order.len());
        if let Some(variable) = patterns.observed.iter().position(|&count| count == 0) {
            return Err(Error::NeverObserved { variable, observations: x.len() });
        }
        if mean == Centering::Mean && n < 2 {
            return Err(Error::TooFewObservations { actual: n, least: 2 });
        }
        let counts = match &weights {
            None => DVector::from_iterator(d, patterns.observed.iter().map(|&count| count as f64)),
            Some(_) => {
                let (mut counts, mut values) = (DVector::zeros(d), vec![0.0; d]);
                for &column in &patterns.order {
                    x.column_into(column, &mut values);
                    let seen = counts.iter_mut().zip(&values).filter(|(_, value)| !value.is_nan());
                    seen.for_each(|(count, _)| *count += weight(column));
                }
                counts
            }
        };
        let pass = |about: &DVector<f64>| {
            const ROWS: usize = 1024;
            let pieces = map_blocks(n.div_ceil(ROWS), 4 * n * d, |piece| {
                let (mut values, mut sums, mut squares) =
                    (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
                for &column in &patterns.order[piece * ROWS..n.min((piece + 1) * ROWS)] {
                    x.deviations_into(column, about.as_slice(), &mut values, None);
                    let weight = weight(column);
                    vectorized(
                        #[inline(always)]
                        || {
                            for ((sum, square), value) in
                                sums.iter_mut().zip(&mut squares).zip(&values)
                            {
                                *sum += weight * value;
                                *square += weight * (value * value);
                            }
                        },
                    );
                }
                (DVector::from_vec(sums), DVector::from_vec(squares))
            });
            pieces
                .into_iter()
                .fold((DVector::zeros(d), DVector::zeros(d)), |(sum, square), (s, q)| {
                    (sum + s, square + q)
                })
        };
        let zero = DVector::zeros(d);
        // The second pass over the deviations mends the first mean, which is rounded when it is
        // large beside the spread.
        let (means, variances) = match mean {
            Centering::None => {
                let squares = pass(&zero).1;
                (zero, squares.component_div(&counts))
            }
            Centering::Mean => {
                let (sums, _) = pass(&zero);
                let first = sums.component_div(&counts);
                let (rest, squares) = pass(&first);
                let shift = rest.component_div(&counts);
                let variances = DVector::from_fn(d, |j, _| {
                    (squares[j] / counts[j] - shift[j] * shift[j]).max(0.0)
                });
                (first + shift, variances)
            }
        };
        let tolerance = ROUNDING * (variances.sum() + means.norm_squared());
        let total = weights.as_ref().map_or(x.len() as f64, |weights| weights.iter().sum());
        Ok(Self { x, patterns, weights, total, counts, mean: means, variances, tolerance })
    }

    pub(super) fn weight(&self, column: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[column])
    }

    /// The share of the observed entries that are of each variable.
    pub(super) fn shares(&self) -> DVector<f64> {
        &self.counts / self.counts.sum()
    }

    /// # Errors
    /// [`Error::ZeroVariance`] where all of the data is one observation.
    pub(crate) fn check_varies(&self) -> Result<()> {
        let (variables, observations) = (self.mean.len(), self.patterns.order.len());
        if self.variances.sum() > self.tolerance {
            Ok(())
        } else {
            Err(Error::ZeroVariance { variables, observations })
        }
    }

    /// The smallest variance of a variable that varies.
    pub(crate) fn smallest_variance(&self) -> f64 {
        self.variances
            .iter()
            .filter(|&&v| v > self.tolerance)
            .fold(self.variances.max(), |smallest, &v| smallest.min(v))
    }

    /// Random loadings, at the scale of each variable.
    pub(super) fn random_loadings(&self, latent_dim: usize, rng: &mut dyn Rng) -> DMatrix<f64> {
        DMatrix::from_fn(self.mean.len(), latent_dim, |j, _| {
            self.variances[j].sqrt() * f64::standard_normal(rng)
        })
    }

    /// Refuses a latent dimension that the observed entries cannot bear: any table of so few
    /// entries is met without noise.
    ///
    /// An observation of which k entries or fewer are seen is met whatever W is; the others leave
    /// |o_i| − k residuals each, for the (d − k)(k + 1) parameters of an affine space of dimension
    /// k.
    ///
    /// # Errors
    /// [`Error::LatentDim`], [`Error::TooFewEntries`].
    pub(crate) fn check_noise_remains(&self, latent_dim: usize, mean: Centering) -> Result<()> {
        let (patterns, d) = (&self.patterns, self.mean.len());
        check_latent_dim(latent_dim, patterns.order.len(), d)?;
        let groups = patterns.starts.windows(2).zip(&patterns.entries);
        let entries: usize = groups
            .map(|(group, &observed)| (group[1] - group[0]) * observed.saturating_sub(latent_dim))
            .sum();
        let parameters = (d - latent_dim) * (latent_dim + usize::from(mean == Centering::Mean));
        if entries > parameters {
            Ok(())
        } else {
            Err(Error::TooFewEntries { latent_dim, entries, parameters })
        }
    }
}

//! Incomplete data prepared for a fit: missingness patterns, weights, marginal means and variances,
//! and validation.

use crate::data::{Centering, IncompleteObservations, Patterns, check_latent_dim, expect};
use crate::linalg::parallel::map_blocks;
use crate::linalg::vector::vectorized;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Relative rounding error of a centred value, squared: (16 ε)² of the value that it is centred
/// from.
pub(super) const ROUNDING: f64 = 256.0 * f64::EPSILON * f64::EPSILON;

/// Incomplete data as all fits use them: the missingness patterns, and the mean and variance of the
/// observed entries of each variable.
pub(crate) struct Observed<'a, T: Real> {
    pub(crate) x: IncompleteObservations<'a, T>,
    pub(crate) patterns: Patterns,
    /// Weights of the columns of x, scaled so that the largest is 1.
    pub(crate) weights: Option<Vec<f64>>,
    /// Σ_i w_i over all columns of x; n without weights.
    pub(crate) total: f64,
    /// Σ_i w_i o_ij of each variable.
    pub(crate) counts: DVector<f64>,
    pub(crate) mean: DVector<f64>,
    pub(crate) variances: DVector<f64>,
    /// Variance that cannot be distinguished from 0.
    pub(crate) tolerance: f64,
}

/// Validates the weights and returns them divided by the largest.
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
    // Only ratios of weights matter to a fit; scaled, their sums neither overflow nor underflow.
    Ok(weights.iter().map(|w| w / largest).collect())
}

impl<'a, T: Real> Observed<'a, T> {
    /// Validates the weights, groups the observations by missingness pattern, and computes means
    /// and variances of the observed entries.
    ///
    /// # Errors
    /// [`Error::NeverObserved`], [`Error::TooFewObservations`]; those of [`check_weights`].
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
            // Fixed blocks, reduced in order: results do not depend on the number of threads.
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
        // Two passes (Chan, Golub & LeVeque): the second, over data centred at the first mean,
        // corrects the rounding of that mean, which is large if the mean is large beside the
        // standard deviation.
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

    /// Returns the fraction of all observed entries that belongs to each variable.
    pub(super) fn shares(&self) -> DVector<f64> {
        &self.counts / self.counts.sum()
    }

    /// Checks that the observed entries vary.
    ///
    /// # Errors
    /// [`Error::ZeroVariance`] if no variable varies.
    pub(crate) fn check_varies(&self) -> Result<()> {
        let (variables, observations) = (self.mean.len(), self.patterns.order.len());
        if self.variances.sum() > self.tolerance {
            Ok(())
        } else {
            Err(Error::ZeroVariance { variables, observations })
        }
    }

    /// Returns the smallest variance among the variables that vary.
    pub(crate) fn smallest_variance(&self) -> f64 {
        self.variances
            .iter()
            .filter(|&&v| v > self.tolerance)
            .fold(self.variances.max(), |smallest, &v| smallest.min(v))
    }

    /// Returns random loadings, d×k, at the scale of each variable.
    pub(super) fn random_loadings(&self, latent_dim: usize, rng: &mut dyn Rng) -> DMatrix<f64> {
        DMatrix::from_fn(self.mean.len(), latent_dim, |j, _| {
            self.variances[j].sqrt() * f64::standard_normal(rng)
        })
    }

    /// Checks that the observed entries determine a positive noise variance for this latent
    /// dimension; with too few entries a model without noise fits them exactly, and the likelihood
    /// is unbounded.
    ///
    /// An observation with k observed entries or fewer is fitted exactly whatever W is. The others
    /// leave |o_i| − k residual degrees of freedom each, for the (d − k)(k + 1) parameters of an
    /// affine subspace of dimension k, or (d − k)k of a linear one if the mean is fixed at 0.
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

//! Linear-Gaussian models of incomplete data: likelihood, posterior and imputation, given the
//! observed entries.

use super::{Block, Parameters};
use crate::data::{IncompleteObservations, IntoIncompleteObservations, Patterns};
use crate::likelihood::GaussianNoise;
use crate::linalg::matrix_product;
use crate::linalg::parallel::map_blocks;
use crate::model::LinearGaussian;
use crate::posterior::PatternCovariance;
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// The conditional distribution N(mean, variance) of each missing entry, given the observed entries
/// of its observation.
///
/// These are marginals: the missing entries of one observation are correlated, and
/// [`impute_multiple`](crate::Ppca::impute_multiple) samples them jointly.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConditionalMoments<T: Real> {
    /// E[x_ij | x_o], d×n; observed entries are kept bit for bit.
    pub mean: DMatrix<T>,
    /// Var[x_ij | x_o], d×n; 0 for observed entries.
    pub variance: DMatrix<T>,
}

/// The posteriors p(z_i|x_o) of all observations, one covariance per group of a missingness
/// pattern.
struct Inferred {
    codes: DMatrix<f64>, // k×n
    log_likelihoods: Vec<f64>,
    /// The square-root factor σL⁻ᵗ of the posterior covariance of each group, side by side
    /// (k × k·groups); the last one is that of the prior, I.
    factors: DMatrix<f64>,
    log_determinants: Vec<f64>,
    /// The group of each observation; that of the prior for one without observed entries.
    group_of: Vec<usize>,
}

impl<T: Real, N: GaussianNoise<T>> LinearGaussian<T, N> {
    /// The posteriors of all observations, with the factors of their covariances if `with_factors`.
    fn infer_incomplete(
        &self,
        x: &IncompleteObservations<'_, T>,
        with_factors: bool,
    ) -> Result<(Parameters, Inferred)> {
        let (d, k) = self.loadings().shape();
        x.expect_dim(d)?;
        let parameters = Parameters::of(self);
        let patterns = Patterns::of(x, None);
        let blocks = patterns.blocks(Block::rows_for(d));
        let groups = patterns.groups();
        // The cost of M_o is d·k(k+1)/2 per observation, that of its right-hand side d·k.
        let work = patterns.order.len() * d * k * (k + 3) / 2;
        let parts = map_blocks(blocks.len(), work, |at| -> Result<_> {
            let mut block = Block::new(d, k);
            block.infer(x, &patterns, blocks[at].clone(), &parameters)?;
            let factors = if with_factors {
                (0..block.groups).map(|group| block.inverse_factor(group)).collect()
            } else {
                Vec::new()
            };
            let log_determinants: Vec<f64> =
                (0..block.groups).map(|group| block.log_determinant(group)).collect();
            Ok((
                block.codes()[..block.rows * k].to_vec(),
                block.log_likelihoods,
                block.group_of,
                factors,
                log_determinants,
            ))
        });
        // Observations without an entry are in no block: they keep z = 0, log p = 0 and the prior.
        let mut inferred = Inferred {
            codes: DMatrix::zeros(k, x.len()),
            log_likelihoods: vec![0.0; x.len()],
            factors: DMatrix::zeros(k, if with_factors { k * (groups + 1) } else { 0 }),
            log_determinants: vec![0.0; groups + 1],
            group_of: vec![groups; x.len()],
        };
        let (mut row, mut group) = (0, 0);
        // log|σ²M⁻¹| = k ln σ² − log|M|.
        let logarithm = k as f64 * parameters.noise_variance.ln();
        // The blocks have the observations in the order of the patterns: back to that of the data.
        for part in parts {
            let (codes, log_likelihoods, group_of, factors, log_determinants) = part?;
            let rows = group_of.len();
            for (place, (&own, &value)) in group_of.iter().zip(&log_likelihoods).enumerate() {
                let column = patterns.order[row + place];
                inferred.log_likelihoods[column] = value;
                inferred.group_of[column] = group + own;
                (0..k).for_each(|a| inferred.codes[(a, column)] = codes[a * rows + place]);
            }
            for (place, factor) in factors.iter().enumerate() {
                let scaled = factor.transpose() * parameters.noise_variance.sqrt();
                inferred.factors.columns_mut((group + place) * k, k).copy_from(&scaled);
            }
            for (place, value) in log_determinants.iter().enumerate() {
                inferred.log_determinants[group + place] = logarithm - value;
            }
            row += rows;
            group += log_determinants.len();
        }
        if with_factors {
            inferred.factors.columns_mut(groups * k, k).fill_with_identity();
        }
        Ok((parameters, inferred))
    }

    /// The observed-data log-likelihood log p(x_o) of each observation, in nats; 0 without an
    /// observed entry. O(n·d·k²).
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`], and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub(crate) fn log_likelihood_observed<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DVector<T>> {
        let (_, inferred) = self.infer_incomplete(&x.into_incomplete()?, false)?;
        Ok(DVector::from_iterator(
            inferred.log_likelihoods.len(),
            inferred.log_likelihoods.iter().map(|&v| T::of(v)),
        ))
    }

    /// The posterior p(z_i|x_o) of each observation; the prior without an observed entry.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub(crate) fn posterior_given_observed<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<PatternCovariance<T>> {
        let (_, inferred) = self.infer_incomplete(&x.into_incomplete()?, true)?;
        let log_determinants = inferred.log_determinants.iter().map(|&v| T::of(v)).collect();
        Ok(PatternCovariance::new(
            inferred.codes.map(T::of),
            inferred.factors.map(T::of),
            log_determinants,
            inferred.group_of,
        ))
    }

    /// The mean and the variance of each missing entry, given the observed entries. A variance that
    /// overflows `T` is replaced by the largest finite number.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub(crate) fn conditional<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<ConditionalMoments<T>> {
        let x = x.into_incomplete()?;
        let (parameters, inferred) = self.infer_incomplete(&x, true)?;
        let k = parameters.loadings.ncols();
        let mean = completed(&x, &parameters, &inferred.codes, |_, value| value);
        let mut variance = DMatrix::zeros(x.data_dim(), x.len());
        for (i, mut column) in variance.column_iter_mut().enumerate() {
            let factor = inferred.factors.columns(inferred.group_of[i] * k, k);
            // Var[x_j|x_o] = ψ_j + w_jᵗ Cov[z|x_o] w_j: a sum of squares by the factor, without
            // cancellation.
            for (j, out) in column.iter_mut().enumerate().filter(|&(j, _)| x.get(j, i).is_none()) {
                let value = parameters.variances[j]
                    + factor.tr_mul(&parameters.loadings.row(j).transpose()).norm_squared();
                *out = T::of(value.min(T::MAX.as_f64()));
            }
        }
        Ok(ConditionalMoments { mean, variance })
    }

    /// The completed table, d×n: each missing entry is replaced by its mean given the observed
    /// entries, which are kept bit for bit.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub(crate) fn impute<'a>(
        &self,
        x: impl IntoIncompleteObservations<'a, T>,
    ) -> Result<DMatrix<T>> {
        let x = x.into_incomplete()?;
        let (parameters, inferred) = self.infer_incomplete(&x, false)?;
        Ok(completed(&x, &parameters, &inferred.codes, |_, value| value))
    }

    /// `count` completed tables (multiple imputation): the missing entries of each observation are
    /// sampled jointly from their distribution given the observed entries.
    ///
    /// The parameters are taken as known; their own uncertainty is not part of the variance.
    ///
    /// # Errors
    /// As [`Self::log_likelihood_observed`].
    pub(crate) fn impute_multiple<'a>(
        &self,
        count: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<Vec<DMatrix<T>>> {
        let x = x.into_incomplete()?;
        let (parameters, inferred) = self.infer_incomplete(&x, true)?;
        let k = parameters.loadings.ncols();
        let deviations = parameters.variances.map(f64::sqrt);
        let has_missing: Vec<bool> =
            (0..x.len()).map(|i| (0..x.data_dim()).any(|j| x.get(j, i).is_none())).collect();
        // First z from p(z|x_o), then each missing entry from p(x_j|z): together a sample from the
        // joint conditional distribution.
        let draw = |rng: &mut dyn Rng| {
            let mut codes = inferred.codes.clone();
            for (i, mut code) in
                codes.column_iter_mut().enumerate().filter(|&(i, _)| has_missing[i])
            {
                let noise = DVector::from_fn(k, |_, _| f64::standard_normal(rng));
                code += inferred.factors.columns(inferred.group_of[i] * k, k) * noise;
            }
            completed(&x, &parameters, &codes, |j, value| {
                value + deviations[j] * f64::standard_normal(rng)
            })
        };
        Ok((0..count).map(|_| draw(rng)).collect())
    }
}

/// The completed table: observed entries as they are, and f(j, μ_j + w_jᵗz) for missing ones.
fn completed<T: Real>(
    x: &IncompleteObservations<'_, T>,
    parameters: &Parameters,
    codes: &DMatrix<f64>,
    mut f: impl FnMut(usize, f64) -> f64,
) -> DMatrix<T> {
    let fitted = matrix_product(&parameters.loadings, codes);
    DMatrix::from_fn(x.data_dim(), x.len(), |j, i| {
        x.get(j, i).unwrap_or_else(|| T::of(f(j, fitted[(j, i)] + parameters.mean[j])))
    })
}

//! What a linear-Gaussian model says of observations with holes, given what was observed.

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

/// The distribution of the entries that are missing, given those that were observed: N(mean,
/// variance), entry by entry.
///
/// The missing entries of one observation depend on each other;
/// [`impute_multiple`](crate::Ppca::impute_multiple) draws them together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConditionalMoments<T: Real> {
    /// E[x_ij | x_o], d×n; an observed entry is itself, bit for bit.
    pub mean: DMatrix<T>,
    /// Var[x_ij | x_o], d×n; 0 where the entry was observed.
    pub variance: DMatrix<T>,
}

/// All observations' posteriors, in the order of the patterns.
struct Inferred {
    codes: DMatrix<f64>, // k×n
    log_likelihoods: Vec<f64>,
    /// σL⁻ᵗ of each group side by side; the prior's stands last.
    factors: DMatrix<f64>,
    log_determinants: Vec<f64>,
    group_of: Vec<usize>,
}

impl<T: Real, N: GaussianNoise<T>> LinearGaussian<T, N> {
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
        let mut inferred = Inferred {
            codes: DMatrix::zeros(k, x.len()),
            log_likelihoods: vec![0.0; x.len()],
            factors: DMatrix::zeros(k, if with_factors { k * (groups + 1) } else { 0 }),
            log_determinants: vec![0.0; groups + 1],
            group_of: vec![groups; x.len()],
        };
        let (mut row, mut group) = (0, 0);
        let logarithm = k as f64 * parameters.noise_variance.ln();
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

    /// log p(x_o) of the observed entries of each observation, in nats; 0 where nothing was
    /// observed. O(n·d·k²).
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

    /// p(z_i|x_o) of each observation; the prior where nothing was observed.
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

    /// The mean and the variance of each missing entry, given the observed ones; a variance beyond
    /// the largest number of the precision is that number.
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
            for (j, out) in column.iter_mut().enumerate().filter(|&(j, _)| x.get(j, i).is_none()) {
                let value = parameters.variances[j]
                    + factor.tr_mul(&parameters.loadings.row(j).transpose()).norm_squared();
                *out = T::of(value.min(T::MAX.as_f64()));
            }
        }
        Ok(ConditionalMoments { mean, variance })
    }

    /// The table with each missing entry at its mean given the observed ones; these are kept bit
    /// for bit.
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

    /// `count` completed tables, the missing entries of each observation drawn together from their
    /// distribution given the observed ones.
    ///
    /// The parameters are taken as known: what their own uncertainty adds to the spread is left
    /// out.
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
        let with_holes: Vec<bool> =
            (0..x.len()).map(|i| (0..x.data_dim()).any(|j| x.get(j, i).is_none())).collect();
        let draw = |rng: &mut dyn Rng| {
            let mut codes = inferred.codes.clone();
            for (i, mut code) in codes.column_iter_mut().enumerate().filter(|&(i, _)| with_holes[i])
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

/// The observed entries, and f(j, μ_j + w_jᵗz) in the holes.
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

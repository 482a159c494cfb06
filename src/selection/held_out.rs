//! Cross-validated log-likelihood for all k at once, with one decomposition per fold.
//!
//! The observations are scored within the span of all of them: a constant, a copy or a total has no
//! density of its own (see [`Spectrum`]).

use super::spectrum::varying;
use super::{Selection, Spectrum};
use crate::data::{Centering, centre_and_resolution};
use crate::linalg::{gemm, principal_components, product_tr_left};
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// The fit of a fold's training part for all k: principal directions, variances and the residual
/// variance after each k.
struct Fold {
    directions: DMatrix<f64>,
    variances: DVector<f64>,
    // Σ_{j>k} λ_j for k = 0 to the largest.
    outside: Vec<f64>,
    mean: DVector<f64>,
}

impl Fold {
    /// Decomposes the covariance of the observations `training`.
    fn of<T: Real>(x: Observations<'_, T>, training: &[usize], mean: Centering) -> Result<Self> {
        let columns = x.values().select_columns(training);
        let x = Observations::new(columns.as_view())?;
        let (mean, tolerance) = centre_and_resolution(x, mean)?;
        let wide = columns.map(|v| v.as_f64());
        let found = principal_components(wide.as_view(), Some(&mean), x.data_dim().min(x.len()))?;
        let mut outside = vec![found.residual_variance];
        // Summed from the smallest variance up, so that small ones are not lost beside large ones.
        for &variance in found.variances.iter().rev() {
            outside.push(outside[outside.len() - 1] + variance);
        }
        outside.reverse();
        // Only k whose residual variance exceeds the rounding error: the noise variance must be
        // positive.
        outside.truncate(outside.iter().take_while(|&&v| v > tolerance).count().min(x.data_dim()));
        Ok(Self { directions: found.vectors, variances: found.variances, outside, mean })
    }

    /// Adds the log-likelihood of the held-out observations to the score of each k.
    fn score<T: Real>(&self, x: Observations<'_, T>, held_out: &[usize], scores: &mut [f64]) {
        let (d, largest) = (self.mean.len(), scores.len() - 1);
        let mut deviations = x.values().select_columns(held_out).map(|v| v.as_f64());
        deviations.column_iter_mut().for_each(|mut column| column -= &self.mean);
        let leading = self.directions.columns(0, largest).into_owned();
        let projections = product_tr_left(&leading, &deviations);
        // Means over the held-out part: of each squared projection, and of the squared distance
        // from the span of all directions. The distance is that of the residual itself: a
        // difference of squared norms would cancel.
        let count = held_out.len() as f64;
        let squares: Vec<f64> =
            projections.row_iter().map(|row| row.norm_squared() / count).collect();
        gemm(-1.0, &leading, &projections, 1.0, &mut deviations);
        let beyond = deviations.norm_squared() / count;
        // −2 ln p of one k follows from that of k − 1: direction k moves from the noise to the
        // model.
        let (mut logarithms, mut distances) = (0.0, 0.0);
        let mut rest = beyond + squares.iter().sum::<f64>();
        for (k, score) in scores.iter_mut().enumerate() {
            if k > 0 {
                let (variance, square) = (self.variances[k - 1], squares[k - 1]);
                logarithms += variance.ln();
                distances += square / variance;
                rest = beyond + squares[k..].iter().sum::<f64>();
            }
            // The maximum-likelihood noise variance of the training part (Tipping & Bishop 1999).
            let noise = self.outside[k] / (d - k) as f64;
            let dims = d as f64 * std::f64::consts::TAU.ln();
            *score -= 0.5
                * count
                * (dims + logarithms + (d - k) as f64 * noise.ln() + distances + rest / noise);
        }
    }
}

/// Chooses k by cross-validation.
pub(crate) fn choose<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
    folds: usize,
) -> Result<Selection> {
    let (spectrum, mut selection) = Spectrum::of(x, mean)?.best_span(|spectrum| {
        let scores = match span_coordinates(x, mean, spectrum)? {
            Some(inside) => scores(Observations::new(inside.as_view())?, mean, folds),
            None => scores(x, mean, folds),
        }?;
        let largest = scores.len().saturating_sub(1);
        let selection = Selection::from_scores(scores);
        let latent_dim = selection.latent_dim;
        Ok((selection, latent_dim, largest))
    })?;
    (selection.redundant, selection.near_identities) = spectrum.left_out();
    Ok(selection)
}

/// The centred observations in coordinates of the span, dims×n; `None` if that is the whole space.
fn span_coordinates<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
    spectrum: &Spectrum,
) -> Result<Option<DMatrix<f64>>> {
    let dims = spectrum.dims();
    if dims == x.data_dim() {
        return Ok(None);
    }
    let (about, _) = centre_and_resolution(x, mean)?;
    let mut wide = x.values().map(|v| v.as_f64());
    wide.column_iter_mut().for_each(|mut column| column -= &about);
    if dims > spectrum.rank() {
        // Fewer observations than variables: the constant ones are left out.
        return Ok(Some(wide.select_rows(&varying(x, mean))));
    }
    let span = principal_components(wide.as_view(), None, dims)?;
    Ok(Some(product_tr_left(&span.vectors, &wide)))
}

/// The total held-out log-likelihood of each k for which every fold has residual variance.
fn scores<T: Real>(
    x: Observations<'_, T>,
    mean: Centering,
    folds: usize,
) -> Result<Vec<(usize, f64)>> {
    let n = x.len();
    if folds < 2 || folds > n {
        return Err(Error::InvalidParameter {
            name: "the number of folds",
            value: folds as f64,
            must: "at least 2, and at most the observations",
        });
    }
    // Fold i mod `folds`, without shuffling: deterministic without a generator.
    let split =
        |fold: usize| -> (Vec<usize>, Vec<usize>) { (0..n).partition(|i| i % folds == fold) };
    let fitted: Result<Vec<(Fold, Vec<usize>)>> = (0..folds)
        .map(|fold| {
            let (held_out, training) = split(fold);
            Ok((Fold::of(x, &training, mean)?, held_out))
        })
        .collect();
    let fitted = fitted?;
    let count = fitted.iter().map(|(fold, _)| fold.outside.len()).min().unwrap_or(0);
    let mut totals = vec![0.0; count];
    if count > 0 {
        fitted.iter().for_each(|(fold, held_out)| fold.score(x, held_out, &mut totals));
    }
    Ok(totals.into_iter().enumerate().collect())
}

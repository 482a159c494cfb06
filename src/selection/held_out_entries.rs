//! Choice of k for imputation, by the error at observed entries that are hidden from the fits.

use super::Selection;
use crate::data::{IncompleteObservations, IntoIncompleteObservations, expect};
use crate::{Error, Real, Result};
use nalgebra::DMatrix;
use rand::{Rng, RngExt};

/// Number of tables with hidden entries, and the share of the observed entries that each hides.
const TABLES: usize = 5;
const HIDDEN: f64 = 0.1;

/// Number of observed entries below which each is hidden once, by itself.
const FEW_ENTRIES: usize = 50;

/// Number of successive k without an improvement that end the search.
const WITHOUT_IMPROVEMENT: usize = 3;

/// Smallest number of observed entries that a variable keeps.
const KEPT: usize = 2;

/// An observed entry: its variable and its observation.
type Entry = (usize, usize);

impl Selection {
    /// Chooses k for the imputation of incomplete data: observed entries are hidden, and `complete`
    /// imputes them for each k.
    ///
    /// Five tables hide a tenth of the observed entries each, at random; of fewer than 50 entries
    /// each is hidden once by itself. The score of k is −√(mean of ((x̂ − x)/s_j)²) over the hidden
    /// entries, s_j the standard deviation of the variable's observed entries; constant variables
    /// are not scored. k = 0, the mean of each variable, is always scored first: a model that is
    /// not better than it is not chosen.
    ///
    /// `complete(k, table)` returns the completed table; NaN marks its missing entries. The
    /// candidates are scored in their order. The search ends after three k without an improvement,
    /// or at the first k that the entries cannot determine.
    ///
    /// ```
    /// use elbo::{Ppca, data::Incomplete, selection::Selection};
    /// use nalgebra::{DMatrix, DVector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// let loadings = DMatrix::from_fn(6, 2, |j, m| ((j + 1) as f64 * (m + 1) as f64).sin());
    /// let mut x = Ppca::from_parameters(loadings, DVector::zeros(6), 0.01)?.sample(60, rng);
    /// for i in 0..60 {
    ///     x[(i % 6, i)] = f64::NAN;
    /// }
    /// let fits = &mut StdRng::seed_from_u64(0);
    /// let selection = Selection::held_out_entries(&x, 1..=4, rng, |k, table| {
    ///     Ppca::builder(k).fit(Incomplete(table), fits)?.model.impute(table)
    /// })?;
    /// assert_eq!(selection.latent_dim, 2);
    /// let (k, error_of_means) = selection.scores[0];
    /// assert!(k == 0 && error_of_means < -0.9); // about one standard deviation
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`](crate::data::IncompleteObservations::new);
    /// [`Error::DimensionMismatch`] if a completed table has another shape; those of `complete`
    /// other than that the entries do not determine k.
    #[doc(alias = "cross-validation")]
    pub fn held_out_entries<'a, T: Real, R: Rng + ?Sized>(
        x: impl IntoIncompleteObservations<'a, T>,
        latent_dims: impl IntoIterator<Item = usize>,
        rng: &mut R,
        mut complete: impl FnMut(usize, &DMatrix<T>) -> Result<DMatrix<T>>,
    ) -> Result<Self> {
        let x = x.into_incomplete()?;
        let deviations = deviations(&x);
        let tables = hide(&x, &deviations, rng);
        if tables.is_empty() {
            return Ok(Self::from_scores(vec![(0, f64::NAN)]));
        }
        let mut scores = vec![(0, score(&x, &tables, &deviations, |table| Ok(of_means(table)))?)];
        let (mut best, mut since) = (scores[0].1, 0);
        for k in latent_dims.into_iter().filter(|&k| k > 0) {
            match score(&x, &tables, &deviations, |table| complete(k, table)) {
                Ok(found) => {
                    scores.push((k, found));
                    since = if found > best { 0 } else { since + 1 };
                    best = best.max(found);
                }
                Err(
                    Error::TooFewEntries { .. }
                    | Error::NoiseVanished { .. }
                    | Error::Unbounded { .. }
                    | Error::LatentDim { .. },
                ) => break,
                Err(error) => return Err(error),
            }
            if since == WITHOUT_IMPROVEMENT {
                break;
            }
        }
        Ok(Self::from_scores(scores))
    }
}

/// The standard deviation of the observed entries of each variable; 0 if it is within the rounding
/// of their mean.
fn deviations<T: Real>(x: &IncompleteObservations<'_, T>) -> Vec<f64> {
    let of = |j: usize| {
        let values = || (0..x.len()).filter_map(move |i| x.get(j, i)).map(|v| v.as_f64());
        let count = values().count().max(1) as f64;
        let mean = values().map(|v| v / count).sum::<f64>();
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let rounding = 256.0 * T::EPSILON.as_f64().powi(2) * mean * mean;
        if variance > rounding { variance.sqrt() } else { 0.0 }
    };
    (0..x.data_dim()).map(of).collect()
}

/// Tables with hidden entries, and these entries.
fn hide<T: Real, R: Rng + ?Sized>(
    x: &IncompleteObservations<'_, T>,
    deviations: &[f64],
    rng: &mut R,
) -> Vec<(DMatrix<T>, Vec<Entry>)> {
    let mut entries: Vec<Entry> = (0..x.len())
        .flat_map(|i| (0..x.data_dim()).map(move |j| (j, i)))
        .filter(|&(j, i)| deviations[j] > 0.0 && x.get(j, i).is_some())
        .collect();
    for last in (1..entries.len()).rev() {
        entries.swap(last, rng.random_range(0..=last));
    }
    let (tables, hidden) = if entries.len() < FEW_ENTRIES {
        (entries.len(), 1)
    } else {
        (TABLES, (entries.len() as f64 * HIDDEN) as usize)
    };
    let table = |number: usize| {
        let mut table =
            DMatrix::from_fn(x.data_dim(), x.len(), |j, i| x.get(j, i).unwrap_or(T::of(f64::NAN)));
        let mut seen: Vec<usize> = x.observed_of_variables();
        let mut taken = Vec::new();
        for &(j, i) in &entries[number * hidden..(number + 1) * hidden] {
            let others = (0..x.data_dim()).any(|l| l != j && !table[(l, i)].as_f64().is_nan());
            if seen[j] > KEPT && others {
                table[(j, i)] = T::of(f64::NAN);
                seen[j] -= 1;
                taken.push((j, i));
            }
        }
        (table, taken)
    };
    (0..tables).map(table).filter(|(_, taken)| !taken.is_empty()).collect()
}

/// Each missing entry replaced by the mean of its variable.
fn of_means<T: Real>(table: &DMatrix<T>) -> DMatrix<T> {
    let mut completed = table.clone();
    for mut row in completed.row_iter_mut() {
        let seen = || row.iter().map(|v| v.as_f64()).filter(|v| !v.is_nan());
        let count = seen().count().max(1) as f64;
        let mean = T::of(seen().map(|v| v / count).sum());
        row.iter_mut().filter(|v| v.as_f64().is_nan()).for_each(|v| *v = mean);
    }
    completed
}

/// −√ of the mean squared error at the hidden entries of all tables, in standard deviations.
fn score<T: Real>(
    x: &IncompleteObservations<'_, T>,
    tables: &[(DMatrix<T>, Vec<Entry>)],
    deviations: &[f64],
    mut complete: impl FnMut(&DMatrix<T>) -> Result<DMatrix<T>>,
) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for (table, hidden) in tables {
        let completed = complete(table)?;
        expect("variables of a completed table", x.data_dim(), completed.nrows())?;
        expect("observations of a completed table", x.len(), completed.ncols())?;
        for &(j, i) in hidden {
            let value = x.get(j, i).map_or(f64::NAN, |v| v.as_f64());
            sum += ((completed[(j, i)].as_f64() - value) / deviations[j]).powi(2);
            count += 1;
        }
    }
    Ok(-(sum / count as f64).sqrt())
}

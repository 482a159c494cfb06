//! Choice of k for incomplete data, by the likelihood of the observed entries.

use super::{Criterion, Selection};
use crate::data::{IncompleteObservations, IntoIncompleteObservations};
use crate::inference::Exact;
use crate::likelihood::GaussianNoise;
use crate::map::Linear;
use crate::steps::{LogLikelihoodOf, Model, covariance_parameters};
use crate::{Error, FactorAnalysis, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl Selection {
    /// Chooses among given k for probabilistic PCA of incomplete data, about an estimated mean.
    ///
    /// The candidates are scored in their order. The first k that the observed entries cannot
    /// determine (too few entries, or an unbounded likelihood) ends the scores.
    ///
    /// ```
    /// use elbo::selection::{Criterion, Selection};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// // Marks of 16 pupils in six subjects: three of numbers, then three of languages.
    /// let mut x = dmatrix![
    ///     8.9, 4.4, 7.5, 4.6, 3.6, 7.6, 3.6, 6.7, 8.4, 8.6, 3.4, 8.3, 4.9, 8.7, 3.4, 5.6;
    ///     8.6, 4.6, 7.2, 4.5, 4.7, 7.4, 4.1, 7.3, 7.0, 9.3, 4.3, 8.1, 4.7, 7.9, 4.1, 6.3;
    ///     7.0, 4.7, 7.0, 5.2, 4.5, 6.8, 5.3, 6.9, 6.5, 7.8, 4.6, 7.1, 5.7, 7.3, 4.7, 5.7;
    ///     4.4, 6.4, 7.0, 5.3, 6.0, 7.3, 6.8, 5.9, 8.2, 4.9, 7.7, 5.5, 6.6, 6.5, 6.6, 8.2;
    ///     4.4, 6.4, 7.7, 4.7, 6.2, 7.0, 6.6, 5.3, 8.6, 5.1, 8.1, 5.4, 6.9, 6.1, 5.2, 8.2;
    ///     4.6, 6.3, 6.0, 5.8, 6.1, 6.0, 6.8, 5.9, 7.9, 5.3, 7.3, 5.9, 6.5, 6.3, 6.0, 7.1];
    /// // Each pupil missed the examination in one subject.
    /// for i in 0..16 {
    ///     x[(i % 6, i)] = f64::NAN;
    /// }
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// for criterion in [Criterion::Bic, Criterion::HeldOut { folds: 3 }] {
    ///     assert_eq!(Selection::incomplete_ppca(&x, 1..=3, criterion, rng)?.latent_dim, 2);
    /// }
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`PpcaBuilder::fit`](crate::steps::PpcaBuilder::fit) for the
    /// first k; [`Error::InvalidParameter`] for fewer than 2 folds, or more than observations.
    pub fn incomplete_ppca<'a, T: Real, R: Rng + ?Sized>(
        x: impl IntoIncompleteObservations<'a, T>,
        latent_dims: impl IntoIterator<Item = usize>,
        criterion: Criterion,
        mut rng: &mut R,
    ) -> Result<Self> {
        choose(x.into_incomplete()?, latent_dims, criterion, 1, |k, x| {
            Ok(Ppca::builder(k).fit(x, &mut rng)?.model)
        })
    }

    /// Chooses among given numbers of factors for [`FactorAnalysis`] of complete or incomplete
    /// data, about an estimated mean.
    ///
    /// The candidates are scored in their order; the first k that the observed entries cannot
    /// determine ends the scores.
    ///
    /// ```
    /// use elbo::FactorAnalysis;
    /// use elbo::selection::{Criterion, Selection};
    /// use nalgebra::{DVector, dmatrix, dvector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// // Two groups of four variables, each with a factor of its own and with different noise.
    /// let loadings = dmatrix![
    ///     1.0, 0.0; 1.2, 0.0; 0.8, 0.0; 1.0, 0.0;
    ///     0.0, 1.0; 0.0, 1.2; 0.0, 0.8; 0.0, 1.0];
    /// let noise = dvector![0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2];
    /// let truth = FactorAnalysis::from_parameters(loadings, DVector::zeros(8), noise)?;
    /// let mut x = truth.sample(300, rng);
    /// for i in 0..300 {
    ///     x[(i % 8, i)] = f64::NAN; // one missing value in each observation
    /// }
    /// assert_eq!(Selection::factor_analysis(&x, 1..=4, Criterion::Bic, rng)?.latent_dim, 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`FactorAnalysisBuilder::fit`](crate::steps::FactorAnalysisBuilder::fit) for the
    /// first k; [`Error::InvalidParameter`] for fewer than 2 folds, or more than observations.
    pub fn factor_analysis<'a, T: Real, R: Rng + ?Sized>(
        x: impl IntoIncompleteObservations<'a, T>,
        latent_dims: impl IntoIterator<Item = usize>,
        criterion: Criterion,
        mut rng: &mut R,
    ) -> Result<Self> {
        let x = x.into_incomplete()?;
        choose(x, latent_dims, criterion, x.data_dim(), |k, x| {
            Ok(FactorAnalysis::builder(k).fit(x, &mut rng)?.model)
        })
    }
}

/// Chooses k by a fit of any linear-Gaussian model, whose noise has `noise_variances` parameters.
fn choose<T: Real, N: GaussianNoise<T>>(
    x: IncompleteObservations<'_, T>,
    latent_dims: impl IntoIterator<Item = usize>,
    criterion: Criterion,
    noise_variances: usize,
    mut fit: impl FnMut(usize, IncompleteObservations<'_, T>) -> Result<Model<T, Linear<T>, N, Exact>>,
) -> Result<Selection> {
    let total = |model: &Model<T, Linear<T>, N, Exact>, x| -> Result<f64> {
        let values: DVector<T> = model.log_likelihood_form(x)?;
        Ok(values.iter().map(|v| v.as_f64()).sum())
    };
    let folds = match criterion {
        Criterion::Bic => Vec::new(),
        Criterion::HeldOut { folds } => parts(&x, folds)?,
        Criterion::Laplace | Criterion::Ard => {
            return Err(Error::Unsupported {
                what: "the number of latent dimensions of this model and data",
                must: "Criterion::Bic or Criterion::HeldOut",
            });
        }
    };
    let mut scores = Vec::new();
    for k in latent_dims {
        let score = match criterion {
            Criterion::Bic => {
                fit(k, x).and_then(|model| Ok(total(&model, x)? - penalty(&x, k, noise_variances)))
            }
            _ => folds
                .iter()
                .map(|(training, held_out)| {
                    total(&fit(k, training.into_incomplete()?)?, held_out.into_incomplete()?)
                })
                .sum(),
        };
        match score {
            // A larger k needs more entries than the one that failed: the loop ends. For the first
            // k there is nothing to return but the error.
            Ok(score) => scores.push((k, score)),
            Err(
                Error::TooFewEntries { .. }
                | Error::NoiseVanished { .. }
                | Error::Unbounded { .. }
                | Error::LatentDim { .. },
            ) if !scores.is_empty() => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Selection::from_scores(scores))
}

/// The penalty ½m ln n of BIC; the m parameters are W up to a rotation, the mean and the noise
/// variances.
fn penalty<T: Real>(x: &IncompleteObservations<'_, T>, k: usize, noise_variances: usize) -> f64 {
    // Observations without an observed entry do not change the likelihood, and are not counted.
    let (d, n) = (x.data_dim(), x.len() - x.without_entries());
    let parameters = covariance_parameters(d, k, noise_variances) + d;
    0.5 * parameters as f64 * (n as f64).ln()
}

/// The training part and the held-out part of each fold, NaN where an entry is missing.
type Parts<T> = Vec<(DMatrix<T>, DMatrix<T>)>;

/// Splits the observations into the parts of each fold.
fn parts<T: Real>(x: &IncompleteObservations<'_, T>, folds: usize) -> Result<Parts<T>> {
    let (d, n) = (x.data_dim(), x.len());
    if folds < 2 || folds > n {
        return Err(Error::InvalidParameter {
            name: "the number of folds",
            value: folds as f64,
            must: "at least 2, and at most the observations",
        });
    }
    // Copies of the folds, in which NaN marks the missing values of a mask as well.
    let of = |columns: Vec<usize>| {
        DMatrix::from_fn(d, columns.len(), |j, i| x.get(j, columns[i]).unwrap_or(T::of(f64::NAN)))
    };
    let part = |fold: usize| {
        let (held_out, training) = (0..n).partition(|i| i % folds == fold);
        (of(training), of(held_out))
    };
    Ok((0..folds).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand::{SeedableRng, rngs::StdRng};

    fn table(seed: u64) -> DMatrix<f64> {
        let rng = &mut StdRng::seed_from_u64(seed);
        let loadings = DMatrix::from_fn(7, 2, |_, _| f64::standard_normal(rng));
        Ppca::from_parameters(loadings, DVector::from_element(7, 3.0), 0.3).unwrap().sample(90, rng)
    }

    #[test]
    fn nothing_missing_scores_as_complete_data_do() {
        let (x, rng) = (table(1), &mut StdRng::seed_from_u64(0));
        for (criterion, complete) in [
            (Criterion::Bic, Criterion::Bic),
            (Criterion::HeldOut { folds: 4 }, Criterion::HeldOut { folds: 4 }),
        ] {
            let found = Selection::incomplete_ppca(&x, 1..=3, criterion, rng).unwrap();
            let expected = Selection::ppca(&x, complete).unwrap();
            assert_eq!(found.latent_dim, expected.latent_dim, "{criterion:?}");
            for (k, score) in found.scores {
                let (_, other) = expected.scores.iter().find(|(other, _)| *other == k).unwrap();
                assert!((score - other).abs() < 1e-2, "{criterion:?} {k}: {score} {other}");
            }
        }
    }

    #[test]
    fn the_number_of_factors_by_what_fits_of_factor_analysis_say() {
        let rng = &mut StdRng::seed_from_u64(3);
        let loadings = DMatrix::from_fn(7, 2, |_, _| f64::standard_normal(rng));
        let noise = DVector::from_fn(7, |j, _| 0.1 * (j + 1) as f64);
        let mut x = FactorAnalysis::from_parameters(loadings, DVector::from_element(7, 3.0), noise)
            .unwrap()
            .sample(200, rng);
        let bic = |x: &DMatrix<f64>, k: usize, total: f64| {
            total - 0.5 * (7 * k - k * (k - 1) / 2 + 14) as f64 * (x.ncols() as f64).ln()
        };
        let whole = Selection::factor_analysis(&x, 1..=3, Criterion::Bic, rng).unwrap();
        for &(k, score) in &whole.scores {
            let expected = bic(
                &x,
                k,
                FactorAnalysis::fit(k, &x).unwrap().model.log_likelihood(&x).unwrap().sum(),
            );
            assert!((score - expected).abs() < 1e-2, "{k}: {score} {expected}");
        }
        for i in 0..200 {
            x[(i % 7, i)] = f64::NAN;
        }
        for criterion in [Criterion::Bic, Criterion::HeldOut { folds: 4 }] {
            // One factor fewer than variables is the most that can be fitted.
            let found = Selection::factor_analysis(&x, 1..=9, criterion, rng).unwrap();
            assert_eq!(found.latent_dim, 2, "{criterion:?}: {:?}", found.scores);
            assert!(
                found.scores.len() < 8 && found.scores.iter().all(|(_, score)| score.is_finite())
            );
        }
        assert!(matches!(
            Selection::factor_analysis(&x, 7..=7, Criterion::Bic, rng),
            Err(Error::TooFewEntries { .. } | Error::Unbounded { .. })
        ));
        let none = Selection::factor_analysis(&x, 1..=2, Criterion::HeldOut { folds: 1 }, rng);
        assert!(matches!(none, Err(Error::InvalidParameter { .. })));
    }

    #[test]
    fn what_the_entries_cannot_bear_ends_the_list_and_bad_settings_are_refused() {
        let rng = &mut StdRng::seed_from_u64(0);
        let mut x = table(2);
        for i in 0..90 {
            for j in 0..7 {
                if (i + 3 * j) % 2 == 0 {
                    x[(j, i)] = f64::NAN;
                }
            }
        }
        let found = Selection::incomplete_ppca(&x, 1..=7, Criterion::Bic, rng).unwrap();
        assert!(found.scores.len() < 7 && found.scores.iter().all(|(_, score)| score.is_finite()));
        let single =
            Selection::incomplete_ppca(&x.map(|v| v as f32), 1..=2, Criterion::Bic, rng).unwrap();
        assert!((single.scores[0].1 - found.scores[0].1).abs() < 1e-2);
        for folds in [0, 1, 91] {
            let refused = Selection::incomplete_ppca(&x, 1..=2, Criterion::HeldOut { folds }, rng);
            assert!(matches!(refused, Err(Error::InvalidParameter { .. })), "{folds}");
        }
        assert!(matches!(
            Selection::incomplete_ppca(&x, 9..=9, Criterion::Bic, rng),
            Err(Error::LatentDim { .. })
        ));
    }
}

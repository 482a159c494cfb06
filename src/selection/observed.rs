//! The choice of k where entries are missing: scores of the observed ones.

use super::Selection;
use crate::data::{IncompleteObservations, IntoIncompleteObservations};
use crate::inference::Exact;
use crate::likelihood::GaussianNoise;
use crate::map::Linear;
use crate::steps::{LogLikelihoodOf, Model};
use crate::{Error, FactorAnalysis, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// By what k is chosen where entries are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ObservedCriterion {
    /// −½BIC of the observed entries: Σ_i log p(x_{i,o}) − ½m ln n, with the n observations that
    /// have an entry and m = dk − k(k−1)/2 + d + 1 parameters; m = dk − k(k−1)/2 + 2d for factor
    /// analysis.
    #[default]
    Bic,
    /// Total log-likelihood of the observed entries of held-out observations: observation i is held
    /// out in fold i mod `folds`.
    HeldOut {
        /// How many times the model is fitted for each k, at least 2.
        folds: usize,
    },
}

/// Scores each of some k for probabilistic PCA of data with holes, in their order, about an
/// estimated mean.
///
/// The first k that the observed entries cannot bear (the likelihood of a fit is unbounded, or
/// there are too few entries) ends the list.
///
/// ```
/// use elbo::Ppca;
/// use elbo::selection::{ObservedCriterion, choose_latent_dim_observed};
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let rng = &mut StdRng::seed_from_u64(1);
/// let loadings = DMatrix::from_fn(8, 2, |i, j| ((3 * i + 5 * j) as f64).sin());
/// let mut x =
///     Ppca::from_parameters(loadings, nalgebra::DVector::zeros(8), 0.1)?.sample(150, rng);
/// for i in 0..150 {
///     x[(i % 8, i)] = f64::NAN;
/// }
/// for criterion in [ObservedCriterion::Bic, ObservedCriterion::HeldOut { folds: 3 }] {
///     assert_eq!(choose_latent_dim_observed(&x, 1..=4, criterion, rng)?.latent_dim, 2);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// Those of [`PpcaBuilder::fit_incomplete`](crate::steps::PpcaBuilder::fit_incomplete) for the
/// first k; [`Error::InvalidParameter`] for fewer than 2 folds, or more than observations.
pub fn choose_latent_dim_observed<'a, T: Real, R: Rng + ?Sized>(
    x: impl IntoIncompleteObservations<'a, T>,
    latent_dims: impl IntoIterator<Item = usize>,
    criterion: ObservedCriterion,
    mut rng: &mut R,
) -> Result<Selection> {
    choose(x.into_incomplete()?, latent_dims, criterion, 1, |k, x| {
        Ok(Ppca::builder(k).fit(x, &mut rng)?.model)
    })
}

/// Scores each of some numbers of factors for [`FactorAnalysis`] of data with holes or without, in
/// their order, about an estimated mean.
///
/// The first k that the observed entries cannot bear ends the list.
///
/// ```
/// use elbo::FactorAnalysis;
/// use elbo::selection::{ObservedCriterion, choose_factors};
/// use nalgebra::{DMatrix, DVector};
/// use rand::{SeedableRng, rngs::StdRng};
/// let rng = &mut StdRng::seed_from_u64(1);
/// let loadings = DMatrix::from_fn(8, 2, |i, j| ((3 * i + 5 * j) as f64).sin());
/// let noise = DVector::from_fn(8, |i, _| 0.1 + 0.1 * i as f64);
/// let mut x =
///     FactorAnalysis::from_parameters(loadings, DVector::zeros(8), noise)?.sample(300, rng);
/// for i in 0..300 {
///     x[(i % 8, i)] = f64::NAN;
/// }
/// for criterion in [ObservedCriterion::Bic, ObservedCriterion::HeldOut { folds: 3 }] {
///     assert_eq!(choose_factors(&x, 1..=4, criterion, rng)?.latent_dim, 2);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// Those of
/// [`FactorAnalysisBuilder::fit_incomplete`](crate::steps::FactorAnalysisBuilder::fit_incomplete)
/// for the first k; [`Error::InvalidParameter`] for fewer than 2 folds, or more than observations.
pub fn choose_factors<'a, T: Real, R: Rng + ?Sized>(
    x: impl IntoIncompleteObservations<'a, T>,
    latent_dims: impl IntoIterator<Item = usize>,
    criterion: ObservedCriterion,
    mut rng: &mut R,
) -> Result<Selection> {
    let x = x.into_incomplete()?;
    choose(x, latent_dims, criterion, x.data_dim(), |k, x| {
        Ok(FactorAnalysis::builder(k).fit(x, &mut rng)?.model)
    })
}

/// The same for any shape of noise, of so many variances, and a fit.
fn choose<T: Real, N: GaussianNoise<T>>(
    x: IncompleteObservations<'_, T>,
    latent_dims: impl IntoIterator<Item = usize>,
    criterion: ObservedCriterion,
    noise_variances: usize,
    mut fit: impl FnMut(usize, IncompleteObservations<'_, T>) -> Result<Model<T, Linear<T>, N, Exact>>,
) -> Result<Selection> {
    let total = |model: &Model<T, Linear<T>, N, Exact>, x| -> Result<f64> {
        let values: DVector<T> = model.log_likelihood_form(x)?;
        Ok(values.iter().map(|v| v.as_f64()).sum())
    };
    let folds = match criterion {
        ObservedCriterion::Bic => Vec::new(),
        ObservedCriterion::HeldOut { folds } => parts(&x, folds)?,
    };
    let mut scores = Vec::new();
    for k in latent_dims {
        let score = match criterion {
            ObservedCriterion::Bic => {
                fit(k, x).and_then(|model| Ok(total(&model, x)? - penalty(&x, k, noise_variances)))
            }
            ObservedCriterion::HeldOut { .. } => folds
                .iter()
                .map(|(training, held_out)| {
                    total(&fit(k, training.into_incomplete()?)?, held_out.into_incomplete()?)
                })
                .sum(),
        };
        match score {
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
    Ok(Selection::of(scores))
}

/// ½m ln n: W up to a rotation, the mean, and the variances of the noise.
fn penalty<T: Real>(x: &IncompleteObservations<'_, T>, k: usize, noise_variances: usize) -> f64 {
    let (d, n) = (x.data_dim(), x.len() - x.without_entries());
    let parameters = d * k - k * k.saturating_sub(1) / 2 + d + noise_variances;
    0.5 * parameters as f64 * (n as f64).ln()
}

/// The training part and the held-out part of each fold, NaN where an entry is missing.
type Parts<T> = Vec<(DMatrix<T>, DMatrix<T>)>;

fn parts<T: Real>(x: &IncompleteObservations<'_, T>, folds: usize) -> Result<Parts<T>> {
    let (d, n) = (x.data_dim(), x.len());
    if folds < 2 || folds > n {
        return Err(Error::InvalidParameter {
            name: "the number of folds",
            value: folds as f64,
            must: "at least 2, and at most the observations",
        });
    }
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
    use crate::selection::{Criterion, choose_latent_dim};
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
            (ObservedCriterion::Bic, Criterion::Bic),
            (ObservedCriterion::HeldOut { folds: 4 }, Criterion::HeldOut { folds: 4 }),
        ] {
            let found = choose_latent_dim_observed(&x, 1..=3, criterion, rng).unwrap();
            let expected = choose_latent_dim(&x, complete).unwrap();
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
        let whole = choose_factors(&x, 1..=3, ObservedCriterion::Bic, rng).unwrap();
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
        for criterion in [ObservedCriterion::Bic, ObservedCriterion::HeldOut { folds: 4 }] {
            // One factor fewer than variables is the most that can be fitted.
            let found = choose_factors(&x, 1..=9, criterion, rng).unwrap();
            assert_eq!(found.latent_dim, 2, "{criterion:?}: {:?}", found.scores);
            assert!(
                found.scores.len() < 8 && found.scores.iter().all(|(_, score)| score.is_finite())
            );
        }
        assert!(matches!(
            choose_factors(&x, 7..=7, ObservedCriterion::Bic, rng),
            Err(Error::TooFewEntries { .. } | Error::Unbounded { .. })
        ));
        let none = choose_factors(&x, 1..=2, ObservedCriterion::HeldOut { folds: 1 }, rng);
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
        let found = choose_latent_dim_observed(&x, 1..=7, ObservedCriterion::Bic, rng).unwrap();
        assert!(found.scores.len() < 7 && found.scores.iter().all(|(_, score)| score.is_finite()));
        let single =
            choose_latent_dim_observed(&x.map(|v| v as f32), 1..=2, ObservedCriterion::Bic, rng)
                .unwrap();
        assert!((single.scores[0].1 - found.scores[0].1).abs() < 1e-2);
        for folds in [0, 1, 91] {
            let refused =
                choose_latent_dim_observed(&x, 1..=2, ObservedCriterion::HeldOut { folds }, rng);
            assert!(matches!(refused, Err(Error::InvalidParameter { .. })), "{folds}");
        }
        assert!(matches!(
            choose_latent_dim_observed(&x, 9..=9, ObservedCriterion::Bic, rng),
            Err(Error::LatentDim { .. })
        ));
    }
}

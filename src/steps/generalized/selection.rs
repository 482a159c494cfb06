//! The number of latent dimensions under another likelihood.

use super::{GeneralizedPpca, GeneralizedPpcaBuilder};
use crate::data::{Data, Weighted};
use crate::fit::{FitData, PredictorFamily, PredictorForm};
use crate::likelihood::Univariate;
use crate::map::Parameters;
use crate::selection::{Criterion, Selection};
use crate::{Error, Real, Result};
use rand::Rng;
use std::ops::RangeInclusive;

/// Candidates beyond the best one that are tried before the search ends.
const BEYOND: usize = 2;

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>>
    GeneralizedPpcaBuilder<T, U, Q>
{
    /// Scores each number of latent dimensions in `candidates` by [`Criterion::Bic`], J − ½m ln n
    /// with the m parameters of θ, or by [`Criterion::HeldOut`], J of observations that were left
    /// out of the fit. The search ends where two more dimensions have not raised the score.
    ///
    /// J in the place of log p lowers both scores by the gap of the q_i, which grows with k: the
    /// choice is on the side of fewer dimensions.
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::Unsupported`] for another criterion, which needs Gaussian noise.
    ///
    /// ```
    /// use elbo::{likelihood::Poisson, selection::Criterion, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = dmatrix![
    ///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0;
    ///     2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
    /// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
    /// let rng = &mut StdRng::seed_from_u64(0);
    /// let selection = builder.select(1..=2, Criterion::Bic, &counts, rng)?;
    /// assert_eq!(selection.scores.len(), 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn select<X: Data<T>, R: Rng + ?Sized>(
        &self,
        candidates: RangeInclusive<usize>,
        criterion: Criterion,
        x: X,
        mut rng: &mut R,
    ) -> Result<Selection>
    where
        X::Form: PredictorForm<T>,
    {
        let form = x.into_form()?;
        let mut scores: Vec<(usize, f64)> = Vec::new();
        for latent_dim in candidates {
            let builder = self.clone().with_latent_dim(latent_dim);
            let score = match criterion {
                Criterion::Bic => builder.bic_of(form, &mut rng)?,
                Criterion::HeldOut { folds } => builder.held_out_of(form, folds, &mut rng)?,
                _ => {
                    return Err(Error::Unsupported {
                        what: "the choice of k by this criterion under a likelihood of its own",
                        must: "`Criterion::Bic` or `Criterion::HeldOut`",
                    });
                }
            };
            scores.push((latent_dim, score));
            let best = Selection::from_scores(scores.clone()).latent_dim;
            if latent_dim >= best + BEYOND {
                break;
            }
        }
        Ok(Selection::from_scores(scores))
    }

    /// J − ½m ln n of a fit.
    fn bic_of<F: PredictorForm<T>>(&self, form: F, rng: &mut dyn Rng) -> Result<f64> {
        let (d, n) = form.shape();
        let fitted = self.fit_form(form, rng, &mut ())?;
        let weight: f64 = (0..n).map(|i| form.weight(i)).sum();
        let k = self.latent_dim();
        let own = fitted.model.likelihood().parameters().len();
        let parameters = d * (k + 1) - k * k.saturating_sub(1) / 2 + own;
        let value = fitted.trace.last().unwrap_or(f64::NEG_INFINITY) * weight;
        Ok(value - 0.5 * parameters as f64 * weight.ln())
    }

    /// Σ J of the observations of each fold under the fit to all others: observation i is left out
    /// in fold i mod `folds`.
    fn held_out_of<F: PredictorForm<T>>(
        &self,
        form: F,
        folds: usize,
        rng: &mut dyn Rng,
    ) -> Result<f64> {
        let n = form.shape().1;
        if !(2..=n).contains(&folds) {
            return Err(Error::InvalidParameter {
                name: "the number of folds",
                value: folds as f64,
                must: "at least 2 and at most the number of observations",
            });
        }
        let mut total = 0.0;
        for fold in 0..folds {
            let left_out = |i: usize| i % folds == fold;
            let weights: Vec<T> =
                (0..n).map(|i| if left_out(i) { T::zero() } else { T::one() }).collect();
            let data = Weighted { data: form, weights: &weights };
            let model: GeneralizedPpca<T, U, Q> = self.fit_form(data, rng, &mut ())?.model;
            let values = model.elbo_of_form(form)?.values();
            let own = (0..n).filter(|&i| left_out(i));
            total += own.map(|i| form.weight(i) * values[i].as_f64()).sum::<f64>();
        }
        Ok(total)
    }
}

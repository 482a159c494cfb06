//! Choice of the number k of latent dimensions: a score of each k, and the best k.
//!
//! | criterion | score of k | cost after the eigenvalues |
//! |---|---|---|
//! | [`Criterion::Laplace`] | Minka's approximation of log p(X\|k) | O(d²) |
//! | [`Criterion::Bic`] | maximised log-likelihood less ½·parameters·ln n | O(d) |
//! | [`Criterion::Ard`] | lower bound of log p(X), automatic relevance determination | O(d·k) |
//! | [`Criterion::HeldOut`] | cross-validated log-likelihood | one decomposition per fold |
//!
//! All but the last are functions of the eigenvalues of the covariance. Two rules of thumb are
//! [`Selection::variance_share`] and [`Selection::parallel_analysis`].
//!
//! All score within the span of the variables: a constant, a copy, a total or a second unit of a
//! variable does not change the choice. Directions whose variance is smaller by orders of magnitude
//! than that of all others, such as the rounding of a total, are left out as near-identities if the
//! choice would be the largest k with them, and is an interior one without. [`Selection`] reports
//! what was left out, and [`Selection::at_edge`] whether the largest k that was tried is the best:
//! then the model fits ever better with k, and the data do not say where to stop.
//!
//! [`BayesianPpca`] is the model of automatic relevance determination (ARD). For incomplete data,
//! [`Selection::incomplete_ppca`] scores the likelihood of the observed entries, by BIC or
//! cross-validation; [`Selection::factor_analysis`] does so for factor analysis.

mod bayesian;
mod held_out;
mod held_out_entries;
mod observed;
mod relevance;
mod rules;
mod spectrum;

pub use bayesian::{BayesianPpca, BayesianPpcaBuilder};
#[doc(hidden)] // a field of `BayesianPpca`
pub use relevance::ArdPosterior;
#[doc(hidden)] // the eigenvalues behind a selection
pub use spectrum::Spectrum;

use crate::data::Centering;
use crate::{IntoObservations, Real, Result};

/// Criterion for choosing the number k of latent dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Criterion {
    /// Minka's Laplace approximation of the evidence log p(X|k)[^1] (`n_components="mle"` of
    /// scikit-learn); n < d is allowed.
    ///
    /// [^1]: T. Minka, Automatic choice of dimensionality for PCA, NIPS 2000: the final
    /// approximation.
    #[default]
    #[doc(alias = "Minka")]
    #[doc(alias = "MLE")]
    #[doc(alias = "evidence")]
    Laplace,
    /// The Bayesian information criterion as −½BIC = log p(X) − ½m ln n, with m = dk − k(k−1)/2 + 1
    /// free parameters beside the mean: larger is better.
    #[doc(alias = "Schwarz")]
    Bic,
    /// Cross-validation: the total log-likelihood of held-out observations. Observation i is held
    /// out in fold i mod `folds`; data whose order has that period must be shuffled before.
    #[doc(alias = "cross-validation")]
    HeldOut {
        /// The number of folds, at least 2.
        folds: usize,
    },
    /// Automatic relevance determination (ARD): the evidence lower bound (ELBO) of [`BayesianPpca`]
    /// with at most k directions. It is constant from the k on beyond which all directions are
    /// pruned.
    #[doc(alias = "ARD")]
    #[doc(alias = "automatic relevance determination")]
    Ard,
}

/// Scores of the candidate k, and the best k.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Selection {
    /// The k with the best score; of equal scores the first. It is 0 if no direction can be
    /// distinguished from isotropic noise, or if no score is finite.
    pub latent_dim: usize,
    /// Each k with its score in nats; larger is better. Scores are comparable within one criterion
    /// only.
    pub scores: Vec<(usize, f64)>,
    /// The number of dimensions without variance that were left out: constant variables, copies,
    /// and other exact identities between variables.
    pub redundant: usize,
    /// The number of dimensions that were left out because their variance is smaller by orders of
    /// magnitude than that of all others: near-identities, such as a rounded total.
    pub near_identities: usize,
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} latent dimensions", self.latent_dim)?;
        if let (Some(least), Some(largest)) =
            (self.scores.iter().map(|s| s.0).min(), self.scores.iter().map(|s| s.0).max())
        {
            write!(f, ", of {least} to {largest}")?;
        }
        if self.redundant > 0 {
            write!(f, "; {} dimensions without variance left out", self.redundant)?;
        }
        if self.near_identities > 0 {
            write!(f, "; {} near-identities left out", self.near_identities)?;
        }
        if self.at_edge() {
            write!(
                f,
                "; the largest that was tried is the best: the data do not say where to stop"
            )?;
        }
        Ok(())
    }
}

impl Selection {
    /// Selects the best of the given pairs of k and score; larger is better. Scores that are not
    /// finite are never the best.
    ///
    /// ```
    /// use elbo::selection::Selection;
    /// let selection = Selection::from_scores(vec![(1, -3.0), (2, -1.0), (3, -1.0)]);
    /// assert_eq!(selection.latent_dim, 2);
    /// ```
    pub fn from_scores(scores: Vec<(usize, f64)>) -> Self {
        let finite = scores.iter().filter(|(_, score)| score.is_finite());
        let best = finite.fold(None, |best: Option<(usize, f64)>, &(k, score)| match best {
            // `<=` keeps the first of equal scores: the smallest k, if k increases.
            Some((_, highest)) if score <= highest => best,
            _ => Some((k, score)),
        });
        let latent_dim = best.map_or(0, |(k, _)| k);
        Self { latent_dim, scores, redundant: 0, near_identities: 0 }
    }

    /// Whether the largest of several k that were tried is the best one: a larger k might be
    /// better, or the model does not describe the data, so that every dimension improves it.
    ///
    /// ```
    /// use elbo::selection::Selection;
    /// assert!(Selection::from_scores(vec![(1, -3.0), (2, -1.0)]).at_edge());
    /// assert!(!Selection::from_scores(vec![(1, -1.0), (2, -3.0)]).at_edge());
    /// ```
    pub fn at_edge(&self) -> bool {
        let largest = self.scores.iter().map(|&(k, _)| k).max();
        self.scores.len() > 1 && largest == Some(self.latent_dim)
    }

    /// Chooses k for probabilistic PCA of `x` (d×n) about an estimated mean: scores each k from 0
    /// to one below the rank.
    ///
    /// ```
    /// use elbo::selection::{Criterion, Selection};
    /// use nalgebra::dmatrix;
    /// // Marks of 16 pupils in six subjects: three of numbers, then three of languages.
    /// let x = dmatrix![
    ///     8.9_f64, 4.4, 7.5, 4.6, 3.6, 7.6, 3.6, 6.7, 8.4, 8.6, 3.4, 8.3, 4.9, 8.7, 3.4, 5.6;
    ///     8.6, 4.6, 7.2, 4.5, 4.7, 7.4, 4.1, 7.3, 7.0, 9.3, 4.3, 8.1, 4.7, 7.9, 4.1, 6.3;
    ///     7.0, 4.7, 7.0, 5.2, 4.5, 6.8, 5.3, 6.9, 6.5, 7.8, 4.6, 7.1, 5.7, 7.3, 4.7, 5.7;
    ///     4.4, 6.4, 7.0, 5.3, 6.0, 7.3, 6.8, 5.9, 8.2, 4.9, 7.7, 5.5, 6.6, 6.5, 6.6, 8.2;
    ///     4.4, 6.4, 7.7, 4.7, 6.2, 7.0, 6.6, 5.3, 8.6, 5.1, 8.1, 5.4, 6.9, 6.1, 5.2, 8.2;
    ///     4.6, 6.3, 6.0, 5.8, 6.1, 6.0, 6.8, 5.9, 7.9, 5.3, 7.3, 5.9, 6.5, 6.3, 6.0, 7.1];
    /// for criterion in
    ///     [Criterion::Laplace, Criterion::Bic, Criterion::Ard, Criterion::HeldOut { folds: 4 }]
    /// {
    ///     assert_eq!(Selection::ppca(&x, criterion)?.latent_dim, 2);
    /// }
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Observations::new`](crate::Observations::new);
    /// [`Error::ZeroVariance`](crate::Error::ZeroVariance);
    /// [`Error::Underflow`](crate::Error::Underflow);
    /// [`Error::TooFewObservations`](crate::Error::TooFewObservations) for fewer than 3
    /// observations, or fewer than 2 in a fold's training part;
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for fewer than 2 folds, or more
    /// folds than observations.
    #[doc(alias = "n_components")]
    pub fn ppca<'a, T: Real>(
        x: impl IntoObservations<'a, T>,
        criterion: Criterion,
    ) -> Result<Self> {
        Self::ppca_about(x, Centering::Mean, criterion)
    }

    /// [`Self::ppca`] about an estimated mean or about 0.
    ///
    /// # Errors
    /// As [`Self::ppca`].
    pub fn ppca_about<'a, T: Real>(
        x: impl IntoObservations<'a, T>,
        mean: Centering,
        criterion: Criterion,
    ) -> Result<Self> {
        let x = x.into_observations()?;
        match criterion {
            // The only criterion that needs the observations, and not their eigenvalues alone.
            Criterion::HeldOut { folds } => held_out::choose(x, mean, folds),
            _ => Spectrum::of(x, mean)?.choose(criterion),
        }
    }

    /// Chooses among given k by a score that the caller computes: for other models, and other
    /// criteria.
    ///
    /// ```
    /// use elbo::{Ppca, selection::Selection};
    /// use nalgebra::dmatrix;
    /// // Marks of 16 pupils in six subjects: three of numbers, then three of languages.
    /// let x = dmatrix![
    ///     8.9_f64, 4.4, 7.5, 4.6, 3.6, 7.6, 3.6, 6.7, 8.4, 8.6, 3.4, 8.3, 4.9, 8.7, 3.4, 5.6;
    ///     8.6, 4.6, 7.2, 4.5, 4.7, 7.4, 4.1, 7.3, 7.0, 9.3, 4.3, 8.1, 4.7, 7.9, 4.1, 6.3;
    ///     7.0, 4.7, 7.0, 5.2, 4.5, 6.8, 5.3, 6.9, 6.5, 7.8, 4.6, 7.1, 5.7, 7.3, 4.7, 5.7;
    ///     4.4, 6.4, 7.0, 5.3, 6.0, 7.3, 6.8, 5.9, 8.2, 4.9, 7.7, 5.5, 6.6, 6.5, 6.6, 8.2;
    ///     4.4, 6.4, 7.7, 4.7, 6.2, 7.0, 6.6, 5.3, 8.6, 5.1, 8.1, 5.4, 6.9, 6.1, 5.2, 8.2;
    ///     4.6, 6.3, 6.0, 5.8, 6.1, 6.0, 6.8, 5.9, 7.9, 5.3, 7.3, 5.9, 6.5, 6.3, 6.0, 7.1];
    /// // The Akaike information criterion, of which smaller is better.
    /// let selection = Selection::by_score(1..=4, |k| Ok(-Ppca::fit(k, &x)?.model.aic(&x)?))?;
    /// assert_eq!(selection.latent_dim, 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `score`.
    pub fn by_score(
        latent_dims: impl IntoIterator<Item = usize>,
        mut score: impl FnMut(usize) -> Result<f64>,
    ) -> Result<Self> {
        let scores: Result<Vec<_>> = latent_dims.into_iter().map(|k| Ok((k, score(k)?))).collect();
        scores.map(Self::from_scores)
    }
}

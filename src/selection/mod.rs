//! How many latent dimensions: scores of each k, and the k that is best.
//!
//! | criterion | what is scored | cost after the eigenvalues |
//! |---|---|---|
//! | [`Criterion::Laplace`] | Minka's approximation of log p(X\|k) | O(d²) |
//! | [`Criterion::Bic`] | maximised likelihood less ½·parameters·ln n | O(d) |
//! | [`Criterion::Ard`] | the variational bound on log p(X), in which directions prune themselves | O(d·k) |
//! | [`Criterion::HeldOut`] | log-likelihood of observations that a fit has not seen | one decomposition a fold |
//!
//! All but the last see nothing of the data but the eigenvalues of their covariance.
//! [`BayesianPpca`] is the model that the third one fits. Where entries are missing,
//! [`choose_latent_dim_observed`] scores what was observed: by BIC, or held-out. [`choose_factors`]
//! does so for factor analysis.

mod bayesian;
mod held_out;
mod observed;
mod relevance;
mod spectrum;

pub use bayesian::{BayesianPpca, BayesianPpcaBuilder};
pub use observed::{ObservedCriterion, choose_factors, choose_latent_dim_observed};
pub use relevance::ArdPosterior;
pub use spectrum::Spectrum;

use crate::data::Centering;
use crate::{IntoObservations, Real, Result};

/// By what k is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Criterion {
    /// Minka's Laplace approximation of the evidence[^1]; fewer observations than variables are no
    /// difficulty.
    ///
    /// [^1]: T. Minka, Automatic choice of dimensionality for PCA, NIPS 2000: the final
    /// approximation.
    #[default]
    Laplace,
    /// The Bayesian information criterion as −½BIC = log p(X) − ½m ln n, with m = dk − k(k−1)/2 + 1
    /// free parameters beside the mean: larger is better.
    Bic,
    /// Total log-likelihood of held-out observations: observation i is held out in fold i mod
    /// `folds`. Shuffle data whose order has that period.
    HeldOut {
        /// How many times the model is fitted, at least 2.
        folds: usize,
    },
    /// Automatic relevance determination: the variational bound of [`BayesianPpca`] with at most k
    /// directions; it no longer rises once the others prune themselves.
    Ard,
}

/// What a criterion says of each k.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Selection {
    /// The k with the best score; the smallest of equal ones. It is 0 where nothing stands out of
    /// isotropic noise, and no model should be fitted.
    pub latent_dim: usize,
    /// Each k with its score in nats, larger is better; comparable within one criterion only.
    pub scores: Vec<(usize, f64)>,
}

impl Selection {
    /// The selection among given scores, larger is better; scores that are not finite are never the
    /// best.
    ///
    /// ```
    /// let selection = elbo::selection::Selection::of(vec![(1, -3.0), (2, -1.0), (3, -1.0)]);
    /// assert_eq!(selection.latent_dim, 2);
    /// ```
    pub fn of(scores: Vec<(usize, f64)>) -> Self {
        let finite = scores.iter().filter(|(_, score)| score.is_finite());
        let best = finite.fold(None, |best: Option<(usize, f64)>, &(k, score)| match best {
            Some((_, highest)) if score <= highest => best,
            _ => Some((k, score)),
        });
        Self { latent_dim: best.map_or(0, |(k, _)| k), scores }
    }
}

/// Scores each k from 0 to one below the rank for probabilistic PCA of `x` (an observation a
/// column), about an estimated mean.
///
/// ```
/// use elbo::Ppca;
/// use elbo::selection::{Criterion, choose_latent_dim};
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let loadings = DMatrix::from_fn(8, 2, |i, j| ((3 * i + 5 * j) as f64).sin());
/// let truth = Ppca::from_parameters(loadings, nalgebra::DVector::zeros(8), 0.1)?;
/// let x = truth.sample(100, &mut StdRng::seed_from_u64(1));
/// for criterion in
///     [Criterion::Laplace, Criterion::Bic, Criterion::Ard, Criterion::HeldOut { folds: 5 }]
/// {
///     assert_eq!(choose_latent_dim(&x, criterion)?.latent_dim, 2);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// Those of [`Observations::new`](crate::Observations::new);
/// [`Error::ZeroVariance`](crate::Error::ZeroVariance); [`Error::Underflow`](crate::Error::Underflow);
/// [`Error::TooFewObservations`](crate::Error::TooFewObservations) for fewer than 3 observations,
/// or fewer than 2 in a fold's training part; [`Error::InvalidParameter`](crate::Error::InvalidParameter)
/// for fewer than 2 folds, or more than observations.
pub fn choose_latent_dim<'a, T: Real>(
    x: impl IntoObservations<'a, T>,
    criterion: Criterion,
) -> Result<Selection> {
    choose_latent_dim_about(x, Centering::Mean, criterion)
}

/// The same about a chosen mean.
///
/// # Errors
/// As [`choose_latent_dim`].
pub fn choose_latent_dim_about<'a, T: Real>(
    x: impl IntoObservations<'a, T>,
    mean: Centering,
    criterion: Criterion,
) -> Result<Selection> {
    let x = x.into_observations()?;
    match criterion {
        Criterion::HeldOut { folds } => held_out::scores(x, mean, folds).map(Selection::of),
        _ => Spectrum::of(x, mean)?.choose(criterion),
    }
}

/// Scores each of some k by a function of the caller's: another model than probabilistic PCA, a
/// criterion of one's own.
///
/// ```
/// use elbo::{FactorAnalysis, selection::choose_latent_dim_by};
/// use nalgebra::DMatrix;
/// # use rand::{SeedableRng, rngs::StdRng};
/// # let truth = FactorAnalysis::from_parameters(DMatrix::from_fn(6, 1, |i, _| 1.0 + 0.2 * i as f64), nalgebra::DVector::zeros(6), nalgebra::DVector::from_element(6, 0.5))?;
/// # let x = truth.sample(200, &mut StdRng::seed_from_u64(1));
/// let selection = choose_latent_dim_by(1..=3, |k| {
///     Ok(-FactorAnalysis::fit(k, &x)?.model.bic(&x)?)
/// })?;
/// assert_eq!(selection.latent_dim, 1);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// Those of `score`.
pub fn choose_latent_dim_by(
    latent_dims: impl IntoIterator<Item = usize>,
    mut score: impl FnMut(usize) -> Result<f64>,
) -> Result<Selection> {
    let scores: Result<Vec<_>> = latent_dims.into_iter().map(|k| Ok((k, score(k)?))).collect();
    scores.map(Selection::of)
}

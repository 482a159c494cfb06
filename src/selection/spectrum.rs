//! Eigenvalues of the covariance, and the selection criteria that depend on them alone.
//!
//! Legend: λ_1 ≥ … ≥ λ_d eigenvalues of the covariance S (divisor n), k latent dimensions, d the
//! dimension of the span of the variables, v_k the mean of the eigenvalues after the k-th.
//!
//! A constant, a copy of a variable, or a total adds a variable but no dimension: the criteria score
//! within the span, where the eigenvalue of 0 that it adds is not part of v_k.

use super::relevance::{ArdPosterior, largest_relevant};
use super::{Criterion, Selection};
use crate::data::{Centering, centre_and_resolution};
use crate::linalg::covariance_spectrum;
use crate::{Error, Observations, Real, Result};
use std::f64::consts::{PI, TAU};

/// The eigenvalues of the covariance of n observations of d variables. They determine the
/// likelihood and the evidence of probabilistic PCA.
///
/// ```
/// use elbo::selection::{Criterion, Selection, Spectrum};
/// // Ten observations of fifteen variables: nine eigenvalues that are not 0.
/// let spectrum = Spectrum::from_eigenvalues(
///     &[9.0, 8.0, 5.0, 4.0, 2.0, 0.2, 0.12, 0.09, 0.05],
///     15,
///     10,
/// )?;
/// let selection = spectrum.choose(Criterion::Laplace)?;
/// assert_eq!(selection.latent_dim, 5);
/// assert_eq!(selection.scores.len(), 9); // k = 0 to 8
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    // d of them, zeros included, in decreasing order.
    eigenvalues: Vec<f64>,
    observations: usize,
    mean: Centering,
    tolerance: f64,
    /// The dimension of the span: eigenvalues beyond it are 0, or left out.
    dims: usize,
    /// Trailing eigenvalues that are left out, although they are not 0.
    near_identities: usize,
}

/// Ratio of two successive eigenvalues below which the smaller one, and those after it, may be
/// near-identities between the variables.
// The rounding of a total to one decimal of unit variables leaves 5·10⁻⁴ of the noise, a unit that
// is a thousand times larger 2·10⁻⁶. The trailing eigenvalues of measured tables that were tried
// fall by a factor of 0.016 at most.
const GAP: f64 = 2e-3;

impl Spectrum {
    /// The eigenvalues of the covariance of the data, centred on their mean or not centred.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] for fewer than 3 observations; [`Error::ZeroVariance`] when no
    /// variable varies; those of the decomposition.
    pub fn of<T: Real>(x: Observations<'_, T>, mean: Centering) -> Result<Self> {
        let (about, tolerance) = centre_and_resolution(x, mean)?;
        let found = covariance_spectrum(x.values(), Some(&about.map(T::of)))?;
        let eigenvalues: Vec<f64> = found.iter().map(|v| v.as_f64()).collect();
        // The rounding error of a zero eigenvalue for data in precision `T` is relative to the
        // largest eigenvalue.
        let rounding = tolerance.max(eigenvalues[0] * T::EPSILON.as_f64().powi(2) * 256.0);
        Self::checked(eigenvalues, x.len(), mean, rounding, varying(x, mean).len())
    }

    /// The spectrum from given eigenvalues (divisor n) in any order, for `data_dim` variables with
    /// an estimated mean. Eigenvalues of 0 may be omitted.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for more eigenvalues than variables;
    /// [`Error::InvalidParameter`] for one that is negative or not finite;
    /// [`Error::TooFewObservations`] for fewer than 3 observations; [`Error::ZeroVariance`] when
    /// all are 0.
    pub fn from_eigenvalues(
        eigenvalues: &[f64],
        data_dim: usize,
        observations: usize,
    ) -> Result<Self> {
        if eigenvalues.len() > data_dim {
            return Err(Error::DimensionMismatch {
                what: "eigenvalues, at most the variables",
                expected: data_dim,
                actual: eigenvalues.len(),
            });
        }
        if let Some(&value) = eigenvalues.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
            return Err(Error::InvalidParameter {
                name: "an eigenvalue",
                value,
                must: "at least 0 and finite",
            });
        }
        let mut all = eigenvalues.to_vec();
        all.resize(data_dim, 0.0);
        all.sort_by(|a, b| b.total_cmp(a));
        let tolerance = all.first().copied().unwrap_or(0.0) * 256.0 * f64::EPSILON * f64::EPSILON;
        Self::checked(all, observations, Centering::Mean, tolerance, data_dim)
    }

    /// Sets eigenvalues within `tolerance` of 0 to 0, and validates the rest; `varying` is the number
    /// of variables that are not constant.
    fn checked(
        mut eigenvalues: Vec<f64>,
        observations: usize,
        mean: Centering,
        tolerance: f64,
        varying: usize,
    ) -> Result<Self> {
        if observations < 3 {
            return Err(Error::TooFewObservations { actual: observations, least: 3 });
        }
        let spread = observations - usize::from(mean == Centering::Mean);
        for (j, value) in eigenvalues.iter_mut().enumerate() {
            // The covariance of n observations has at most rank n, or n − 1 about their mean.
            if j >= spread || *value <= tolerance {
                *value = 0.0;
            }
        }
        if eigenvalues.first().is_none_or(|&v| v == 0.0) {
            return Err(Error::ZeroVariance { variables: eigenvalues.len(), observations });
        }
        let rank = eigenvalues.iter().take_while(|&&v| v > 0.0).count();
        // With fewer observations than variables the rank is that of the observations, and says
        // nothing about the variables.
        let dims = if spread >= varying { rank } else { varying };
        Ok(Self { eigenvalues, observations, mean, tolerance, dims, near_identities: 0 })
    }

    /// The eigenvalues λ_1 ≥ … ≥ λ_d, with divisor n.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// The number of eigenvalues that are not 0.
    pub fn rank(&self) -> usize {
        self.eigenvalues.iter().take_while(|&&v| v > 0.0).count()
    }

    /// The largest k with residual variance for the noise.
    pub fn largest_latent_dim(&self) -> usize {
        self.rank().min(self.dims) - 1
    }

    /// The dimension of the span that is scored.
    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// The eigenvalues within the span.
    pub(crate) fn within_span(&self) -> &[f64] {
        &self.eigenvalues[..self.dims]
    }

    /// The number of dimensions that are left out: those without variance, and near-identities.
    pub(crate) fn left_out(&self) -> (usize, usize) {
        (self.eigenvalues.len() - self.dims - self.near_identities, self.near_identities)
    }

    /// The spectra without trailing eigenvalues that lie below a gap, the largest number first: at
    /// most half of the span, and none if there are fewer observations than variables.
    pub(crate) fn without_near_identities(&self) -> Vec<Self> {
        let rank = self.rank();
        if self.dims != rank {
            return Vec::new();
        }
        let below_gap = |&trailing: &usize| {
            let first = rank - trailing;
            self.eigenvalues[first] < GAP * self.eigenvalues[first - 1]
        };
        let without = |trailing: usize| Self {
            dims: rank - trailing,
            near_identities: trailing,
            ..self.clone()
        };
        (1..=rank / 2).rev().filter(below_gap).map(without).collect()
    }

    /// The spectrum itself, or that without near-identities if a choice says so: `choose` is the k
    /// that it chooses for a spectrum and the largest that it tries.
    ///
    /// A model whose noise has the variance of a near-identity, such as the rounding of a total,
    /// takes every other direction for a signal: the choice is the largest k. Where the choice
    /// without the directions below a gap is an interior one, they are taken for near-identities.
    pub(crate) fn best_span<C>(
        self,
        mut choose: impl FnMut(&Self) -> Result<(C, usize, usize)>,
    ) -> Result<(Self, C)> {
        let (choice, latent_dim, largest) = choose(&self)?;
        if latent_dim < largest || largest == 0 {
            return Ok((self, choice));
        }
        for reduced in self.without_near_identities() {
            let (choice, latent_dim, largest) = choose(&reduced)?;
            if (1..largest).contains(&latent_dim) {
                return Ok((reduced, choice));
            }
        }
        Ok((self, choice))
    }

    /// The number n of observations, less one if the mean is estimated.
    pub(crate) fn effective_observations(&self) -> usize {
        self.observations - usize::from(self.mean == Centering::Mean)
    }

    /// The number n of observations.
    pub(crate) fn observations(&self) -> usize {
        self.observations
    }

    /// Scores each k from 0 to [`Self::largest_latent_dim`] by a criterion.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for [`Criterion::HeldOut`], which needs the observations
    /// themselves.
    pub fn choose(&self, criterion: Criterion) -> Result<Selection> {
        let (spectrum, mut selection) = self.clone().best_span(|spectrum| {
            let selection = spectrum.choose_within_span(criterion)?;
            let largest = match criterion {
                Criterion::Ard => largest_relevant(spectrum).min(spectrum.largest_latent_dim()),
                _ => spectrum.largest_latent_dim(),
            };
            let latent_dim = selection.latent_dim;
            Ok((selection, latent_dim, largest))
        })?;
        (selection.redundant, selection.near_identities) = spectrum.left_out();
        Ok(selection)
    }

    /// [`Self::choose`] with every eigenvalue of the span.
    fn choose_within_span(&self, criterion: Criterion) -> Result<Selection> {
        let values = match criterion {
            Criterion::Laplace => self.laplace_evidence(),
            Criterion::Bic => self.bic(),
            Criterion::Ard => {
                let largest = largest_relevant(self).min(self.largest_latent_dim());
                let mut scores = ArdPosterior::bounds(self, largest);
                // With more than the largest number of relevant directions the optimum does not
                // change.
                let last = scores[largest];
                scores.resize(self.largest_latent_dim() + 1, last);
                // The directions that the model itself keeps: the scores of neighbouring k may
                // differ by less than the search for σ² resolves.
                let latent_dim = ArdPosterior::of(self, largest).latent_dim();
                let scores = scores.into_iter().enumerate().collect();
                return Ok(Selection { latent_dim, ..Selection::from_scores(scores) });
            }
            Criterion::HeldOut { folds } => {
                return Err(Error::InvalidParameter {
                    name: "the number of folds",
                    value: folds as f64,
                    must: "used with observations, not eigenvalues",
                });
            }
        };
        Ok(Selection::from_scores(values.into_iter().enumerate().collect()))
    }

    /// The noise variances v_k for k = 0 to the largest.
    fn noise_variances(&self) -> Vec<f64> {
        let d = self.dims;
        // Summed from the smallest eigenvalue up, so that small ones are not lost beside large
        // ones.
        let mut noise: Vec<f64> = self
            .within_span()
            .iter()
            .rev()
            .scan(0.0, |sum, v| {
                *sum += v;
                Some(*sum)
            })
            .collect();
        noise.reverse();
        noise.truncate(self.largest_latent_dim() + 1);
        noise.iter().enumerate().map(|(k, sum)| sum / (d - k) as f64).collect()
    }

    /// The maximised log-likelihood of each k up to a term that does not depend on k: −½n(Σ_{j≤k}
    /// ln λ_j + (d−k) ln v_k).
    fn fits(&self, noise: &[f64]) -> Vec<f64> {
        let (n, d) = (self.observations as f64, self.dims);
        let mut logarithms = 0.0;
        let fit = |(k, v): (usize, &f64)| {
            if k > 0 {
                logarithms += self.eigenvalues[k - 1].ln();
            }
            -0.5 * n * (logarithms + (d - k) as f64 * v.ln())
        };
        noise.iter().enumerate().map(fit).collect()
    }

    /// The Bayesian information criterion as a score: the maximised log p(X) minus ½ ln n for each
    /// free parameter.
    fn bic(&self) -> Vec<f64> {
        let (n, d) = (self.observations as f64, self.dims as f64);
        let mean = if self.mean == Centering::Mean { d } else { 0.0 };
        let noise = self.noise_variances();
        let penalised = |(k, fit): (usize, f64)| {
            let k = k as f64;
            // W up to a rotation has dk − ½k(k − 1) parameters; σ² and the mean are the others.
            let parameters = d * k - 0.5 * k * (k - 1.0) + 1.0 + mean;
            fit - 0.5 * n * d * (TAU.ln() + 1.0) - 0.5 * parameters * n.ln()
        };
        self.fits(&noise).into_iter().enumerate().map(penalised).collect()
    }

    /// Laplace approximation of the log-evidence of each k (Minka 2000):
    ///
    /// ```math
    /// \ln p(X|k) \approx \ln p(U) - \tfrac n2\sum_{j\le k}\ln\lambda_j
    /// - \tfrac{n(d-k)}2\ln v_k + \tfrac{m+k}2\ln2\pi - \tfrac12\ln|A| - \tfrac k2\ln n
    /// ```
    ///
    /// with m = dk − k(k+1)/2 and A_ij = n(1/λ̂_j − 1/λ̂_i)(λ_i − λ_j), i ≤ k, i < j ≤ d, where
    /// λ̂_j is λ_j for j ≤ k and v_k for j > k.
    fn laplace_evidence(&self) -> Vec<f64> {
        let (n, d) = (self.observations as f64, self.dims);
        let (values, noise) = (self.within_span(), self.noise_variances());
        let rank = self.rank().min(d);
        let log_gammas = log_gamma_halves(d);
        // For two equal eigenvalues the direction within their plane is undetermined, and its
        // Laplace approximation diverges: the posterior of the angle is uniform. The angle then
        // counts as half a turn, π.
        let half_turn = (2.0 / (PI * n)).sqrt();
        let gap = |i: usize, j: usize| {
            let difference = values[i] - values[j];
            if difference > 1e-10 * values[i] { difference } else { half_turn * values[i] }
        };
        // Running sums over pairs with i ≤ k: of ln(λ_i − λ_j) for all j > i, and of ln(1/λ_j −
        // 1/λ_i) for j ≤ k. Each k adds O(d) terms, O(d²) in all.
        let (mut log_gaps, mut log_inverse_gaps, mut log_prior) = (0.0, 0.0, 0.0);
        let mut scores = Vec::with_capacity(noise.len());
        for (k, (&v, fit)) in noise.iter().zip(self.fits(&noise)).enumerate() {
            if k > 0 {
                let i = k - 1;
                log_gaps += (k..rank).map(|j| gap(i, j).ln()).sum::<f64>()
                    + (d - rank) as f64 * values[i].ln();
                log_inverse_gaps +=
                    (0..i).map(|h| gap(h, i).ln() - values[h].ln() - values[i].ln()).sum::<f64>();
                // ln p(U) of the uniform prior over orthonormal frames, by one factor for each
                // column: Γ(s/2) π^(−s/2) / 2 with s = d − i.
                let size = d - i;
                log_prior += log_gammas[size - 1] - 0.5 * size as f64 * PI.ln() - 2f64.ln();
            }
            let dims = k as f64;
            let pairs = d as f64 * dims - 0.5 * dims * (dims + 1.0);
            let against_noise: f64 = (0..k)
                .map(|i| {
                    if values[i] > v * (1.0 + 1e-10) {
                        (1.0 / v - 1.0 / values[i]).ln()
                    } else {
                        (half_turn / v).ln()
                    }
                })
                .sum();
            let log_determinant =
                pairs * n.ln() + log_gaps + log_inverse_gaps + (d - k) as f64 * against_noise;
            scores.push(
                log_prior + fit + 0.5 * (pairs + dims) * TAU.ln()
                    - 0.5 * log_determinant
                    - 0.5 * dims * n.ln(),
            );
        }
        scores
    }

    /// The variance at or below which an eigenvalue was set to 0.
    pub fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

/// The indices of the variables that vary about their mean, or are not 0 about 0; a variance within
/// the rounding of the mean is none.
pub(crate) fn varying<T: Real>(x: Observations<'_, T>, mean: Centering) -> Vec<usize> {
    let (means, variances) = (x.mean(), x.variances());
    let rounding = 256.0 * T::EPSILON.as_f64().powi(2);
    let varies = |&j: &usize| {
        let (mean_square, variance) = (means[j].as_f64().powi(2), variances[j].as_f64());
        match mean {
            Centering::Mean => variance > rounding * mean_square,
            Centering::None => variance + mean_square > 0.0,
        }
    };
    (0..x.data_dim()).filter(varies).collect()
}

/// The values ln Γ(m/2) for m = 1, …, count.
fn log_gamma_halves(count: usize) -> Vec<f64> {
    let mut values = vec![0.5 * PI.ln(), 0.0];
    // Γ(m/2) = (m/2 − 1) Γ(m/2 − 1), from Γ(½) = √π and Γ(1) = 1.
    for m in 3..=count {
        let half = 0.5 * (m - 2) as f64;
        values.push(values[m - 3] + half.ln());
    }
    values.truncate(count);
    values
}

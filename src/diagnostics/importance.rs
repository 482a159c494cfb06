//! Importance sampling of log p(x_i), for models without a closed form.

use super::Estimates;
use crate::data::expect;
use crate::model::{Decoder, ProbabilisticModel};
use crate::objective::log_density_with_prior;
use crate::posterior::{Full, GaussianPosterior, Posterior};
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

/// Settings of an importance-sampling estimate of log p(x_i) = ln E_r [p(x_i|z) π(z)/r(z)] with a
/// proposal r_i derived from q_i.
///
/// r_i is a defensive mixture of the prior, with weight α, and of q_i with its covariance
/// multiplied by a factor. The prior bounds every importance weight by max p(x|z)/α, so that the
/// variance of the weights is finite for any q. Without it, a q whose variance in one direction is
/// less than half that of the posterior gives weights of infinite variance, and the estimated
/// standard error is then meaningless. The sample is stratified: each component of the mixture gets
/// its share of the samples, not a random number of them. The estimate of p is unbiased; that of
/// log p has a negative bias of about half its squared standard error.
///
/// The closer q is to the posterior, the more accurate the estimate: refine a [`Full`] q first
/// ([`LocalRefinement`](crate::fit::LocalRefinement)).
///
/// ```
/// use elbo::{
///     Observations,
///     diagnostics::ImportanceSampling,
///     model::{ExactPosterior, LinearGaussian, MarginalLikelihood},
/// };
/// use nalgebra::{dmatrix, dvector};
/// use rand::{SeedableRng, rngs::StdRng};
/// let model = LinearGaussian::from_parameters(
///     dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
///     dvector![0.0, 0.0, 0.0],
///     0.7,
/// )?;
/// let x = dmatrix![1.0, 2.0; 0.0, 1.0; 1.0, -1.0];
/// let x = Observations::new(x.as_view())?;
/// let sampling = ImportanceSampling { samples: 1000, ..Default::default() };
/// let estimate = sampling.log_likelihood(
///     &model,
///     &model.posterior(x)?,
///     x,
///     &mut StdRng::seed_from_u64(1),
/// )?;
/// let exact = model.log_likelihood(x)?;
/// for i in 0..2 {
///     let (value, error) =
///         (estimate.log_likelihood.values()[i], estimate.log_likelihood.errors()[i]);
///     assert!((value - exact[i]).abs() < 4.0 * error && error < 0.02);
/// }
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportanceSampling {
    /// Importance samples for each observation; at least 2.
    pub samples: usize,
    /// The factor by which q_i's covariance is multiplied; values of at least 1 are sensible.
    pub widening: f64,
    /// The weight α of the prior in the mixture; at least 0 and below 1.
    pub prior_weight: f64,
}

impl Default for ImportanceSampling {
    fn default() -> Self {
        Self { samples: 1_000, widening: 1.3, prior_weight: 0.05 }
    }
}

/// Importance-sampling estimates of log p(x_i), with their standard errors and effective sample
/// sizes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImportanceEstimate {
    /// log p(x_i) in nats, with its standard error (of the logarithm, by the delta method). Where
    /// every weight underflows, the estimate is −∞ with a standard error of ∞.
    pub log_likelihood: Estimates,
    /// The effective sample size (Σw)²/Σw² of each observation: the number of samples of equal
    /// weight with the same variance.
    pub effective_samples: Vec<f64>,
    /// The importance samples for each observation.
    pub samples: usize,
}

/// Samples that are decoded in one batch, which bounds the memory.
const COLUMNS: usize = 1024;

/// 2⁶⁴ divided by the golden ratio, an odd number: multiples of it are well-separated seeds, and no
/// two observations share one (Weyl sequence).
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

impl ImportanceSampling {
    /// Estimates log p(x_i) with proposals derived from `q`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for settings outside their range; [`Error::DimensionMismatch`];
    /// [`Error::NotPositiveDefinite`] when a covariance of q is not positive definite.
    pub fn log_likelihood<'a, T, M, Q>(
        &self,
        model: &M,
        q: &Q,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
    ) -> Result<ImportanceEstimate>
    where
        T: Real,
        M: ProbabilisticModel<T>,
        Q: GaussianPosterior<T>,
    {
        let x = x.into_observations()?;
        self.check()?;
        expect("observations of q", x.len(), q.len())?;
        expect("latent dimensions of q", model.decoder().latent_dim(), q.latent_dim())?;
        let proposal = Full::from_moments(q)?;
        let seed = rng.random::<u64>();
        let (mut values, mut errors, mut effective) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..x.len() {
            // One generator per observation: its samples do not depend on the number of
            // observations before it.
            let mut own =
                Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add((i as u64).wrapping_mul(ODD)));
            let log_weights = self.log_weights(model, &proposal, x, i, &mut own)?;
            let (value, error, worth) = summarize(&log_weights);
            values.push(value);
            errors.push(error);
            effective.push(worth);
        }
        let log_likelihood = Estimates::estimated(values, errors);
        Ok(ImportanceEstimate {
            log_likelihood,
            effective_samples: effective,
            samples: self.samples,
        })
    }

    /// Returns an error for settings outside their range.
    fn check(&self) -> Result<()> {
        if self.samples < 2 {
            return Err(Error::InvalidParameter {
                name: "the number of importance samples",
                value: self.samples as f64,
                must: "at least 2",
            });
        }
        if !(self.widening > 0.0 && self.widening.is_finite()) {
            return Err(Error::InvalidParameter {
                name: "the widening of the proposal",
                value: self.widening,
                must: "positive and finite",
            });
        }
        if !(0.0..1.0).contains(&self.prior_weight) {
            return Err(Error::InvalidParameter {
                name: "the prior's part of the proposal",
                value: self.prior_weight,
                must: "at least 0 and below 1",
            });
        }
        Ok(())
    }

    /// The log-weights ln p(x|z) + ln π(z) − ln r(z) of the samples for observation `i`.
    fn log_weights<T, M>(
        &self,
        model: &M,
        q: &Full<T>,
        x: Observations<'_, T>,
        i: usize,
        rng: &mut dyn Rng,
    ) -> Result<Vec<f64>>
    where
        T: Real,
        M: ProbabilisticModel<T>,
    {
        let k = q.latent_dim();
        // A covariance multiplied by `widening` has its Cholesky factor multiplied by √widening.
        let factor = q.factor(i) * T::of(self.widening.sqrt());
        let log_determinant: f64 = factor.diagonal().iter().map(|l| l.as_f64().ln()).sum();
        let mean = q.mean().column(i).into_owned();
        let from_prior = (self.prior_weight * self.samples as f64).round() as usize;
        // The mixture density has the shares that are sampled, after rounding to whole samples: the
        // weights are then consistent with the samples.
        let share = from_prior as f64 / self.samples as f64;
        let mut log_weights = Vec::with_capacity(self.samples);
        let mut z = DMatrix::zeros(k, COLUMNS.min(self.samples));
        let values = x.values();
        let repeated = DMatrix::from_fn(x.data_dim(), z.ncols(), |row, _| values[(row, i)]);
        for start in (0..self.samples).step_by(COLUMNS) {
            let count = COLUMNS.min(self.samples - start);
            let mut proposed = Vec::with_capacity(count);
            for (j, mut z) in z.column_iter_mut().enumerate().take(count) {
                z.iter_mut().for_each(|e| *e = T::standard_normal(rng));
                // Both components need ln q(z), from ε = L⁻¹(z − m). For a sample from q, ε is
                // given; for one from the prior, a triangular system is solved.
                let noise = if start + j < from_prior {
                    let mut noise = &z - &mean;
                    if !factor.solve_lower_triangular_mut(&mut noise) {
                        return Err(Error::NotPositiveDefinite { size: k });
                    }
                    noise
                } else {
                    let noise = z.clone_owned();
                    z.copy_from(&mean);
                    z.gemv(T::one(), &factor, &noise, T::one());
                    noise
                };
                // The constants −½k ln 2π of π and of r are equal and cancel.
                let of_prior = -0.5 * squares(z.iter());
                let of_gaussian = -0.5 * squares(noise.iter()) - log_determinant;
                proposed.push(
                    of_prior
                        - log_sum_exp(&[share.ln() + of_prior, (1.0 - share).ln() + of_gaussian]),
                );
            }
            let x = Observations::trusted(repeated.columns(0, count), count);
            let densities = log_density_with_prior(model, x, z.columns(0, count))?;
            log_weights.extend(
                densities.iter().zip(proposed).map(|(density, ratio)| density.as_f64() + ratio),
            );
        }
        Ok(log_weights)
    }
}

/// The sum of squares, in double precision.
fn squares<'a, T: Real>(values: impl Iterator<Item = &'a T>) -> f64 {
    values.map(|v| v.as_f64() * v.as_f64()).sum()
}

/// ln Σ exp(v), scaled by the largest term so that it cannot overflow; −∞ for terms of 0 only.
fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    if largest == f64::NEG_INFINITY {
        largest
    } else {
        largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
    }
}

/// The logarithm of the mean weight, its standard error by the delta method, and the effective
/// sample size.
fn summarize(log_weights: &[f64]) -> (f64, f64, f64) {
    let n = log_weights.len() as f64;
    let largest = log_weights.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    if !largest.is_finite() {
        // Every weight is 0 in this precision: the estimate of p(x) is 0, and says nothing about
        // its error.
        return (largest, f64::INFINITY, 0.0);
    }
    let weights = || log_weights.iter().map(|l| (l - largest).exp());
    let (sum, square) = weights().fold((0.0, 0.0), |(sum, square), w| (sum + w, square + w * w));
    let mean = sum / n;
    // Centred on the mean, so that equal weights have a variance of exactly 0.
    let variance = weights().map(|w| (w - mean) * (w - mean)).sum::<f64>() / (n - 1.0);
    (largest + mean.ln(), (variance / n).sqrt() / mean, sum * sum / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_are_worth_their_number_and_have_no_error() {
        let (value, error, worth) = summarize(&[-1000.0; 50]);
        assert_eq!((value, error, worth), (-1000.0, 0.0, 50.0));
    }

    #[test]
    fn the_largest_weight_does_not_overflow() {
        let (value, _, worth) = summarize(&[5000.0, 0.0, 0.0, 0.0]);
        assert!((value - (5000.0 - 4f64.ln())).abs() < 1e-9);
        assert!((worth - 1.0).abs() < 1e-12);
    }

    #[test]
    fn weights_that_are_all_zero_give_minus_infinity_and_no_nan() {
        let none = summarize(&[f64::NEG_INFINITY; 3]);
        assert_eq!(none, (f64::NEG_INFINITY, f64::INFINITY, 0.0));
        let (known, error, _) = summarize(&[-1.0, -1.5]);
        for rows in [vec![none.0, none.0], vec![known, none.0], vec![none.0]] {
            let errors = rows.iter().map(|&v| if v == known { error } else { none.1 }).collect();
            let both = Estimates::estimated(rows, errors);
            assert_eq!(both.mean(), f64::NEG_INFINITY);
            assert_eq!((both.monte_carlo_error(), both.standard_error()), (none.1, none.1));
        }
    }
}

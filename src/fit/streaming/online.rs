//! Online probabilistic PCA by stepwise EM, one block of observations at a time, in O(d·k + block)
//! memory.

use crate::data::Source;
use crate::fit::unused_generator;
use crate::inference::Exact;
use crate::linalg::matrix_product;
use crate::model::{ExactPosterior, LinearGaussian, MStep, ResidualStatistics};
use crate::steps::{Ppca, PpcaBuilder};
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::DMatrix;

/// Online PPCA by stepwise EM[^1]: each block updates a running mean of the sufficient statistics
/// of the E-step, and an M-step follows.
///
/// ```math
/// \bar s \leftarrow (1-\gamma_t)\,\bar s + \gamma_t\, s(x_t; \theta),\qquad
/// \theta \leftarrow \arg\max E_{\bar s}\log p(x, z|\theta),\qquad \gamma_t = (n_t/N_t)^\alpha
/// ```
///
/// Block t holds n_t observations, and N_t observations came up to and including it. The statistics
/// are those of residuals, transformed whenever θ moves, so that neither a large mean nor a small
/// σ² is the difference of two large numbers. After each step z is standardised to mean 0 and
/// covariance I (parameter expansion), without which the last digits take thousands of passes. The
/// sums are in double precision. Nothing is random: equal blocks in equal order give bit-identical
/// results.
///
/// The first block initialises the model by the closed form, so that it must hold more than k
/// observations of full rank. Repeated passes over the same data converge to the maximum of their
/// likelihood; where d² numbers fit in memory, [`Moments`](crate::data::Moments) get there in one
/// pass.
///
/// If k exceeds the number of true dimensions, the superfluous directions compete with others of
/// nearly the same variance, and EM of any kind converges to the best of them at a rate given by
/// the ratio of two neighbouring eigenvalues: 100 passes end 10⁻³ to 10⁻² nats per observation
/// below the maximum (8 variables, 3 true dimensions, k = 5: 2.6·10⁻³; with an
/// [exponent](Self::exponent) of 0.6, 4·10⁻⁴). No step size changes that. Data that can be read
/// again are better fitted as a [`Source`] by [`PpcaBuilder`] with
/// [`Solver::Krylov`](crate::fit::Solver::Krylov), which is at the maximum after 3 passes in this
/// example, in O(d·k + block) memory too.
///
/// ```
/// use elbo::Ppca;
/// use nalgebra::DMatrix;
/// let wave = |j: usize, i: usize| ((1 + j) as f64 * 0.7 * i as f64).sin();
/// let x = DMatrix::from_fn(6, 300, |j, i| 3.0 * wave(j % 2, i) + 0.5 * wave(j + 3, i * i));
/// let mut online = Ppca::<f64>::builder(2).online();
/// for _pass in 0..20 {
///     for start in (0..300).step_by(50) {
///         online.partial_fit(x.columns(start, 50))?;
///     }
/// }
/// let (best, found) = (
///     Ppca::fit(2, &x)?.model.score(&x)?,
///     online.model()?.score(&x)?,
/// );
/// assert!(best - found < 1e-3);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [^1]: O. Cappé and E. Moulines, [On-line expectation-maximization algorithm for latent data
/// models](https://doi.org/10.1111/j.1467-9868.2009.00698.x), JRSS B 71 (2009), equation (13).
#[derive(Debug, Clone)]
pub struct OnlineEm<T: Real> {
    setting: PpcaBuilder<T>,
    exponent: f64,
    min_step_size: f64,
    seen: f64,
    state: Option<State>,
}

// The model, and the running mean of the statistics about this model.
type State = (LinearGaussian<f64>, ResidualStatistics<f64>);

impl<T: Real> PpcaBuilder<T> {
    /// Returns an online fit with these settings, which takes the data block by block, in O(d·k +
    /// block) memory.
    pub fn online(self) -> OnlineEm<T> {
        OnlineEm { setting: self, exponent: 0.8, min_step_size: 0.0, seen: 0.0, state: None }
    }
}

impl<T: Real> OnlineEm<T> {
    /// Sets the exponent α of the step size, above 0.5 and at most 1: the larger, the longer early
    /// blocks keep their weight; 0.8 by default.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] outside (0.5, 1].
    pub fn exponent(self, exponent: f64) -> Result<Self> {
        if !(exponent > 0.5 && exponent <= 1.0) {
            return Err(Error::InvalidParameter {
                name: "the exponent of the step size",
                value: exponent,
                must: "above 0.5 and at most 1",
            });
        }
        Ok(Self { exponent, ..self })
    }

    /// Sets a lower bound on the step size γ, 0 by default. With it the model follows data whose
    /// distribution drifts, and does not converge.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] outside [0, 1).
    pub fn min_step_size(self, min_step_size: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&min_step_size) {
            return Err(Error::InvalidParameter {
                name: "the least step size",
                value: min_step_size,
                must: "at least 0 and below 1",
            });
        }
        Ok(Self { min_step_size, ..self })
    }

    /// Updates the model with one block of observations. After an error the model is unchanged.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::DimensionMismatch`]; for the first block those of
    /// [`Ppca::fit`]; [`Error::NoiseVanished`].
    pub fn partial_fit<'a>(&mut self, x: impl IntoObservations<'a, T>) -> Result<()> {
        let x = x.into_observations()?;
        let wide = x.values().map(|v| v.as_f64());
        let block = Observations::trusted(wide.as_view(), wide.ncols());
        let seen = self.seen + block.len() as f64;
        self.state = Some(match &self.state {
            None => {
                let (model, _) =
                    self.setting.wide().fit(block, &mut unused_generator())?.model.into_parts();
                let statistics = Self::statistics(&model, block)?;
                (model, statistics)
            }
            Some((model, statistics)) => {
                // γ_t = (n_t/N_t)^α: the step grows with the size of the block, and falls as 1/t^α
                // for blocks of equal size; α > ½ makes Σγ² finite, which convergence needs.
                let step = (block.len() as f64 / seen).powf(self.exponent).max(self.min_step_size);
                Self::moved(model.clone(), statistics.clone(), block, step)?
            }
        });
        self.seen = seen;
        Ok(())
    }

    /// Updates the model with each block of a source, from its beginning to its end.
    ///
    /// # Errors
    /// As [`Self::partial_fit`], and those of reading.
    pub fn fit_pass(&mut self, source: &mut dyn Source<T>) -> Result<()> {
        source.pass(&mut |x| self.partial_fit(x))
    }

    /// Runs one iteration of batch EM over a whole source: the statistics of all blocks under one
    /// model, then one M-step. The likelihood never falls, and converges to the maximum itself; use
    /// it to finish once block-wise steps have brought the model near.
    ///
    /// # Errors
    /// As [`Self::partial_fit`], and those of reading; [`Error::TooFewObservations`] before the
    /// first [`Self::partial_fit`], and for an empty source.
    pub fn exact_pass(&mut self, source: &mut dyn Source<T>) -> Result<()> {
        let least = self.setting.least_observations();
        let unstarted = Error::TooFewObservations { actual: 0, least };
        let Some((model, _)) = &self.state else { return Err(unstarted) };
        let mut sum: Option<ResidualStatistics<f64>> = None;
        source.pass(&mut |x| {
            let wide = x.values().map(|v| v.as_f64());
            let mut own =
                Self::statistics(model, Observations::trusted(wide.as_view(), wide.ncols()))?;
            own.scale(x.len() as f64);
            match &mut sum {
                Some(sum) => *sum += own,
                None => sum = Some(own),
            }
            Ok(())
        })?;
        let Some(sum) = sum else { return Err(unstarted) };
        self.seen += sum.count();
        self.state = Some(Self::maximized(model.clone(), sum.per_observation())?);
        Ok(())
    }

    fn statistics(
        model: &LinearGaussian<f64>,
        x: Observations<'_, f64>,
    ) -> Result<ResidualStatistics<f64>> {
        x.expect_dim(model.mean().len())?;
        Ok(model.statistics(x, &model.posterior(x)?)?.per_observation())
    }

    fn moved(
        model: LinearGaussian<f64>,
        mut statistics: ResidualStatistics<f64>,
        x: Observations<'_, f64>,
        step: f64,
    ) -> Result<State> {
        let mut own = Self::statistics(&model, x)?;
        own.scale(step);
        statistics.scale(1.0 - step);
        statistics += own;
        Self::maximized(model, statistics)
    }

    /// Runs the M-step, then standardises z to mean 0 and covariance I.
    fn maximized(
        mut model: LinearGaussian<f64>,
        mut statistics: ResidualStatistics<f64>,
    ) -> Result<State> {
        let before = model.decoder.augmented_mut().clone();
        MStep::<f64, crate::posterior::SharedCovariance<f64>>::maximize(&mut model, &statistics)?;
        let change = model.decoder.augmented_mut().clone() - before;
        // The running mean holds statistics of residuals about the old model: they are transformed
        // to the new one, as the data are gone.
        statistics.apply_change(&change);
        let noise_variance = model.noise_variance();
        let k = model.loadings().ncols();
        // A subnormal σ² lacks digits: the likelihood of these data is unbounded.
        if !(noise_variance > f64::MIN_POSITIVE && noise_variance.is_finite()) {
            return Err(Error::NoiseVanished { latent_dim: k, noise_variance });
        }
        let (mean, factor) = statistics.prior_factor(!model.decoder.bias_is_fixed())?;
        let loadings = model.loadings().into_owned();
        // W(z − m̄) + (μ + W m̄) with z − m̄ = L z′: W ← WL and μ ← μ + W m̄ leave p(x) unchanged;
        // the parameter expansion is that the prior of z′ is N(0, I) again.
        let shift = matrix_product(&loadings, &mean);
        let turned: DMatrix<f64> = matrix_product(&loadings, &factor);
        let parameters = model.decoder.augmented_mut();
        parameters.columns_mut(0, k).copy_from(&turned);
        let mut bias = parameters.column_mut(k);
        bias += shift.column(0);
        statistics.change_coordinates(&mean, &factor);
        Ok((model, statistics))
    }

    /// Returns the current model, in the precision of the data.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] before the first block.
    pub fn model(&self) -> Result<Ppca<T>> {
        let Some((model, _)) = &self.state else {
            return Err(Error::TooFewObservations {
                actual: 0,
                least: self.setting.least_observations(),
            });
        };
        self.setting.narrow(model).map(|model| Ppca::from_fitting_parts(model, Exact))
    }

    /// Returns the number of observations so far; an observation that came in several passes counts
    /// each time.
    pub fn observations_seen(&self) -> f64 {
        self.seen
    }
}

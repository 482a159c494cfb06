//! EM for linear-Gaussian models with missing values: maximises the likelihood of the observed
//! entries, with parameter expansion (PX-EM) and Anderson acceleration.

mod acceleration;
mod ascent;
mod expectation;
mod factor_completion;
mod factor_start;
mod maximization;
mod observed;
mod saddle_test;
mod start;

use super::{Fitted, Observer, StopReason};
use crate::data::{Centering, check_latent_dim};
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, Real, Result};
use ascent::Ascent;
use expectation::Expectation;
use maximization::{Theta, expand, maximize};
pub(crate) use observed::{Observed, check_weights};
use rand::Rng;
use start::NoiseInitialization;

/// Acceleration of [`MissingDataEm`]; J never falls under any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmAcceleration {
    /// Plain EM.
    Plain,
    /// Parameter-expanded EM (Liu, Rubin & Wu 1998): the mean and covariance of the prior are
    /// estimated too, and absorbed into the model.
    Expanded,
    /// Parameter-expanded EM with Anderson acceleration (Walker & Ni 2011) over the last steps; an
    /// extrapolation that lowers J is undone.
    #[default]
    Accelerated,
}

/// Exact EM for missing values (missing at random): maximises the likelihood of the observed
/// entries, with one posterior covariance per missingness pattern. The mean μ is estimated with the
/// other parameters.
///
/// The E-step of a block of observations is two matrix products and one factorisation per pattern,
/// n·d·k² multiplications in all; what depends on the pattern alone is computed once for the
/// observations that share it. The fit ends when the estimated remaining gain is below the
/// tolerance and a saddle test confirms it: finite differences of the EM map distinguish a maximum
/// from a saddle point or a very slow ascent.
///
/// ```
/// use elbo::data::Incomplete;
/// use elbo::fit::{EmAcceleration, MissingDataEm};
/// use elbo::Ppca;
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = DMatrix::from_fn(3, 40, |j, i| {
///     if (i + j) % 7 == 0 {
///         f64::NAN
///     } else {
///         (i as f64).sin() * (j + 1) as f64 + 0.1 * ((3 * i + j) as f64).cos()
///     }
/// });
/// let plain = MissingDataEm { scheme: EmAcceleration::Plain, ..MissingDataEm::default() };
/// let (builder, data) = (Ppca::builder(1), Incomplete(&x));
/// let slow = builder.missing_data_fitter(plain).fit(data, &mut StdRng::seed_from_u64(0))?;
/// let fast = builder.fit(data, &mut StdRng::seed_from_u64(0))?;
/// assert!(
///     (slow.trace.last().unwrap() - fast.trace.last().unwrap()).abs() < 1e-5
///         && fast.iterations() < slow.iterations()
/// );
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MissingDataEm {
    /// Maximum number of iterations.
    pub max_iterations: usize,
    /// Tolerance on the estimated remaining gain of J, in nats per observation.
    pub tolerance: f64,
    /// Acceleration scheme.
    pub scheme: EmAcceleration,
}

impl Default for MissingDataEm {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7, scheme: EmAcceleration::Accelerated }
    }
}

/// Settings of the model to be fitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingDataRequest {
    pub(crate) latent_dim: usize,
    pub(crate) mean: Centering,
    /// Number of initialisations: one estimated from the data, and the random restarts.
    pub(crate) initializations: usize,
    /// Whether the noise variance can reach 0: it is neither fixed nor bounded by a floor.
    pub(crate) may_vanish: bool,
}

impl MissingDataEm {
    /// Runs EM from each initialisation and returns the best fit; the noise has the shape
    /// (isotropic or diagonal) of `noise`.
    pub(crate) fn fit<T: Real, N: NoiseInitialization>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        noise: &N,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<LinearGaussian<f64, N>>> {
        let latent_dim = request.latent_dim;
        check_latent_dim(latent_dim, data.patterns.order.len(), data.mean.len())?;
        let mut ascent = Ascent::new(data, request, noise.is_shared(), *self);
        let mut best: Option<Fitted<Theta<N>>> = None;
        let mut values = Vec::new();
        for restart in 0..request.initializations.max(1) {
            // The first initialisation is estimated from the data, the restarts are random.
            let initial = match restart {
                0 => noise.initialize(data, request, rng)?,
                _ => noise.initialize_randomly(data, request, rng),
            };
            let found = ascent.run(initial, observer)?;
            let value = found.trace.last().unwrap_or(f64::NEG_INFINITY);
            values.push(value);
            // Among equal optima the first is kept.
            if best.as_ref().and_then(|best| best.trace.last()).is_none_or(|best| value > best) {
                best = Some(found);
            }
            if best.as_ref().is_some_and(|best| best.stop == StopReason::Interrupted) {
                break;
            }
        }
        let Some(mut best) = best else { return Err(Error::ObjectiveAtStart { value: f64::NAN }) };
        if request.initializations > 1 {
            best.trace.set_starts(values);
        }
        let Fitted { model: theta, trace, stop, .. } = best;
        let decoder = Linear::about(&theta.loadings().into_owned(), &theta.mean(), request.mean)?;
        Ok(Fitted::new(LinearGaussian::new(decoder, theta.noise), trace, stop))
    }
}

/// Single steps of parameter-expanded EM on the weighted likelihood Σ_i w_i ln p(x_o), for
/// mixtures, which alternate them with their own E-step.
pub(crate) struct WeightedEm<'x, T: Real>(Expectation<'x, T>);

impl<'x, T: Real> WeightedEm<'x, T> {
    pub(crate) fn new(data: &'x Observed<'x, T>, latent_dim: usize) -> Self {
        Self(Expectation::new(data.x, &data.patterns, None, latent_dim, false))
    }

    /// Returns a model whose weighted likelihood is not lower. `weights` has one entry per column
    /// of the data, not all 0.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`] if the covariance of a posterior cannot be computed in double
    /// precision.
    pub(crate) fn step(
        &mut self,
        model: &LinearGaussian<f64>,
        weights: &[f64],
    ) -> Result<LinearGaussian<f64>> {
        let mut theta =
            Theta::new(model.loadings().into_owned(), &model.mean().into_owned(), model.likelihood);
        let statistics = self.0.take_weighted(&theta.parameters(), Some(weights))?;
        maximize(&mut theta, &statistics, Centering::Mean);
        expand(&mut theta, &statistics, Centering::Mean)?;
        Ok(LinearGaussian::new(
            Linear::new(theta.loadings().into_owned(), theta.mean())?,
            theta.noise,
        ))
    }
}

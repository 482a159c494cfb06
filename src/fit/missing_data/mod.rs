//! Linear-Gaussian models of data with holes: the likelihood of the observed entries, raised by EM,
//! expanded and accelerated.

mod acceleration;
mod ascent;
mod expectation;
mod factor_start;
mod maximization;
mod observed;
mod saddle_test;
mod start;

use super::Fitted;
use crate::data::{Centering, check_latent_dim};
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, Real, Result};
use ascent::Ascent;
use expectation::Expectation;
use maximization::{Theta, expand, maximize};
pub(crate) use observed::{Observed, check_weights};
use rand::Rng;
use start::Shape;

/// How [`MissingDataEm`] goes from one model to the next; J never falls in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmAcceleration {
    /// EM.
    Plain,
    /// EM with the mean and the covariance of the prior set free and folded back into the model.
    Expanded,
    /// The same, extrapolated from the last steps (Anderson's acceleration); an extrapolation that
    /// lowers J is taken back.
    #[default]
    Accelerated,
}

/// EM on the likelihood of the observed entries, exact: a posterior for each pattern of holes, and
/// a mean that moves.
///
/// The E-step of a block of observations is two matrix products beside the factors of its patterns,
/// n·d·k² multiplications in all; what depends on a pattern alone is computed once for the
/// observations that share it. It ends when the gain that remains is estimated to be below the
/// tolerance, and a second look agrees: what a step of EM makes of small displacements tells a
/// maximum from a saddle, or from a very slow ascent.
///
/// ```
/// use elbo::{
///     Ppca,
///     fit::{EmAcceleration, MissingDataEm},
/// };
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
/// let slow =
///     Ppca::builder(1).fit_incomplete_by(&plain, &x, &mut StdRng::seed_from_u64(0))?;
/// let fast = Ppca::builder(1).fit_incomplete(&x, &mut StdRng::seed_from_u64(0))?;
/// assert!(
///     (slow.trace.last().unwrap() - fast.trace.last().unwrap()).abs() < 1e-5
///         && fast.iterations() < slow.iterations()
/// );
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MissingDataEm {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
    /// How it goes from one model to the next.
    pub scheme: EmAcceleration,
}

impl Default for MissingDataEm {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7, scheme: EmAcceleration::Accelerated }
    }
}

/// What the model is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingDataRequest {
    pub(crate) latent_dim: usize,
    pub(crate) mean: Centering,
    pub(crate) starts: usize,
    /// Whether the noise has nothing that keeps it from 0.
    pub(crate) may_vanish: bool,
}

impl MissingDataEm {
    /// The best of some ascents, with noise of the shape of `noise`.
    pub(crate) fn fit<T: Real, N: Shape>(
        &self,
        data: &Observed<'_, T>,
        request: &MissingDataRequest,
        noise: &N,
        rng: &mut dyn Rng,
    ) -> Result<Fitted<LinearGaussian<f64, N>>> {
        let latent_dim = request.latent_dim;
        check_latent_dim(latent_dim, data.patterns.order.len(), data.mean.len())?;
        let mut ascent = Ascent {
            expectation: Expectation::new(
                data.x,
                &data.patterns,
                data.weights.as_deref(),
                latent_dim,
                !noise.is_shared(),
            ),
            mean: request.mean,
            shares: data.shares(),
            observations: data.total,
            vanishing: request.may_vanish.then_some(data.tolerance),
        };
        let mut best: Option<Fitted<Theta<N>>> = None;
        let mut values = Vec::new();
        for turn in 0..request.starts.max(1) {
            let start = match turn == 0 {
                true => noise.start(data, request, rng)?,
                false => noise.random_start(data, request, rng),
            };
            let found = ascent.rise(self, start)?;
            let value = found.trace.last().unwrap_or(f64::NEG_INFINITY);
            values.push(value);
            if best.as_ref().and_then(|best| best.trace.last()).is_none_or(|best| value > best) {
                best = Some(found);
            }
        }
        let Some(mut best) = best else { return Err(Error::ObjectiveAtStart { value: f64::NAN }) };
        if request.starts > 1 {
            best.trace.set_starts(values);
        }
        let Fitted { model: theta, trace, stop } = best;
        let decoder = Linear::about(&theta.loadings().into_owned(), &theta.mean(), request.mean)?;
        Ok(Fitted { model: LinearGaussian::new(decoder, theta.noise), trace, stop })
    }
}

/// Steps of expanded EM on the weighted likelihood Σ_i w_i ln p(x_o), for what needs one step at a
/// time.
pub(crate) struct WeightedEm<'x, T: Real>(Expectation<'x, T>);

impl<'x, T: Real> WeightedEm<'x, T> {
    pub(crate) fn new(data: &'x Observed<'x, T>, latent_dim: usize) -> Self {
        Self(Expectation::new(data.x, &data.patterns, None, latent_dim, false))
    }

    /// A model with a weighted likelihood that is no lower; a weight for each column of the data,
    /// not all 0.
    ///
    /// # Errors
    /// When a posterior is out of reach of the arithmetic.
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

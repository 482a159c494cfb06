//! Probabilistic PCA of data with holes: the likelihood of the observed entries, raised by EM, expanded and accelerated.

mod acceleration;
mod expectation;
mod maximization;
mod second_look;
mod start;

use super::{Fitted, RemainingGain, Stop, Trace};
use crate::data::{IncompleteObservations, Mean, Patterns};
use crate::likelihood::IsotropicGaussian;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, Real, Result};
use acceleration::{Acceleration, Metric};
use expectation::{Expectation, Statistics};
use maximization::{Theta, expand, maximize};
use nalgebra::DVector;
use rand::Rng;
use second_look::better_direction;
use start::{Marginals, check_noise_remains};

/// How [`IncompleteEm`] goes from one model to the next; J never falls in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// EM.
    Plain,
    /// EM with the mean and the covariance of the prior set free and folded back into the model.
    Expanded,
    /// The same, extrapolated from the last steps (Anderson's acceleration); an extrapolation that lowers J is taken back.
    #[default]
    Accelerated,
}

/// EM on the likelihood of the observed entries, exact: a posterior for each pattern of holes, and a mean that moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IncompleteEm {
    /// The most iterations that are made.
    pub max_iterations: usize,
    /// The gain of J that may remain, in nats per observation.
    pub tolerance: f64,
    /// How it goes from one model to the next.
    pub scheme: Scheme,
}

impl Default for IncompleteEm {
    fn default() -> Self {
        Self { max_iterations: 10_000, tolerance: 1e-7, scheme: Scheme::Accelerated }
    }
}

/// What the model is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IncompleteRequest {
    pub(crate) latent_dim: usize,
    pub(crate) mean: Mean,
    pub(crate) fixed: Option<f64>,
    pub(crate) floor: Option<f64>,
    pub(crate) starts: usize,
}

impl IncompleteEm {
    pub(crate) fn fit<T: Real, R: Rng + ?Sized>(
        &self,
        x: IncompleteObservations<'_, T>,
        request: &IncompleteRequest,
        rng: &mut R,
    ) -> Result<Fitted<LinearGaussian<T>>> {
        let patterns = Patterns::of(&x);
        let marginals = Marginals::of(&x, &patterns, request.mean)?;
        let noise = match (request.fixed, request.floor) {
            (Some(variance), _) => IsotropicGaussian::fixed(variance)?,
            (None, Some(floor)) => IsotropicGaussian::new(marginals.smallest_variance().max(floor))?.with_floor(floor),
            (None, None) => {
                check_noise_remains(&x, &patterns, request.latent_dim, request.mean)?;
                IsotropicGaussian::new(marginals.smallest_variance())?
            }
        };
        crate::data::check_latent_dim(request.latent_dim, patterns.order.len(), x.data_dim())?;
        let observations = x.len() as f64;
        let shares = DVector::from_iterator(x.data_dim(), patterns.observed.iter().map(|&count| count as f64 / x.observed() as f64));
        let mut ascent = Ascent {
            shares,
            expectation: Expectation::new(x, patterns, request.latent_dim),
            mean: request.mean,
            observed: x.observed(),
            observations,
            tolerance: marginals.tolerance,
        };
        let mut best: Option<Fitted<Theta>> = None;
        let mut values = Vec::new();
        for turn in 0..request.starts.max(1) {
            let start = match turn == 0 && std::env::var("RND").is_err() {
                true => marginals.principal_start(&x, &ascent.expectation.patterns, request.latent_dim, noise, rng)?,
                false => marginals.random_start(request.latent_dim, noise, rng),
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
        let stop = if theta.noise.is_at_floor() { Stop::Floor } else { stop };
        Ok(Fitted { model: LinearGaussian::new(decoder, theta.noise.cast()), trace, stop })
    }
}

/// The data beside what does not change while the model moves.
struct Ascent<'x, T: Real> {
    expectation: Expectation<'x, T>,
    mean: Mean,
    observed: usize,
    shares: DVector<f64>,
    observations: f64,
    tolerance: f64,
}

impl<T: Real> Ascent<'_, T> {
    fn evaluate(&mut self, theta: &Theta) -> Result<(f64, Statistics)> {
        let statistics = self.expectation.take(&theta.parameters())?;
        Ok((statistics.log_likelihood / self.observations, statistics))
    }

    fn rise(&mut self, settings: &IncompleteEm, mut theta: Theta) -> Result<Fitted<Theta>> {
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(settings.tolerance);
        let mut acceleration = Acceleration::new();
        let mut near = 0;
        let (mut value, mut statistics) = self.evaluate(&theta)?;
        trace.push(value);
        rule.update(value);
        let stop = loop {
            if trace.len() > settings.max_iterations {
                break Stop::IterationLimit;
            }
            let mut next = theta.clone();
            maximize(&mut next, &statistics, self.mean, self.observed);
            if settings.scheme != Scheme::Plain {
                expand(&mut next, &statistics, self.mean, self.expectation.rows())?;
            }
            let noise_variance = next.noise.noise_variance();
            if !next.noise.is_fixed() && next.noise.floor() == 0.0 && noise_variance <= self.tolerance {
                return Err(Error::NoiseVanished { latent_dim: theta.latent_dim(), noise_variance });
            }
            if settings.scheme != Scheme::Plain
                && let Some(rotation) = theta.straightening()?
            {
                theta.rotate(&rotation);
                next.rotate(&rotation);
                acceleration.rotate(&rotation);
            }
            let proposal = if settings.scheme == Scheme::Accelerated { acceleration.propose(&Metric::at(&theta, &self.shares), &theta, &next) } else { None };
            let mut moved = None;
            if let Some(proposal) = proposal {
                let remaining = proposal.remaining * self.observed as f64 / self.observations;
                near = if remaining < settings.tolerance { near + 1 } else { 0 };
                if near >= 3 || remaining < 0.02 * settings.tolerance {
                    match self.second_look(&theta, value + settings.tolerance)? {
                        Some(better) => {
                            (theta, value, statistics) = better;
                            trace.push(value);
                            acceleration.clear();
                            near = 0;
                            continue;
                        }
                        None => break Stop::Converged,
                    }
                }
                match self.evaluate(&proposal.theta) {
                    Ok((proposed, its)) if proposed >= value => {
                        moved = Some((proposal.theta, proposed, its));
                        acceleration.accept();
                    }
                    _ => {
                        acceleration.reject();
                        trace.reject();
                    }
                }
                if std::env::var("DBG").is_ok() {
                    eprintln!("  rem {remaining:e} {}", moved.is_some());
                }
            }
            let (new, new_value, its) = match moved {
                Some(moved) => moved,
                None => {
                    let (new_value, its) = self.evaluate(&next)?;
                    (next, new_value, its)
                }
            };
            if new_value < value - 1e-9 * value.abs().max(1.0) {
                break Stop::Diverged;
            }
            if std::env::var("DBG").is_ok() {
                eprintln!("{} {new_value:.10} {:e} {:e}", trace.len(), new_value - value, new.noise.noise_variance());
            }
            (theta, value, statistics) = (new, new_value, its);
            trace.push(value);
            if settings.scheme != Scheme::Accelerated && rule.update(value) {
                let Some(better) = self.second_look(&theta, value + settings.tolerance)? else { break Stop::Converged };
                (theta, value, statistics) = better;
                trace.push(value);
                rule = RemainingGain::below(settings.tolerance);
            }
        };
        Ok(Fitted { model: theta, trace, stop })
    }

    /// A model with more than `least` beyond the saddle that the fit may stand at.
    fn second_look(&mut self, theta: &Theta, least: f64) -> Result<Option<(Theta, f64, Statistics)>> {
        let Some(better) = better_direction(&self.expectation, theta)? else { return Ok(None) };
        let (value, statistics) = self.evaluate(&better)?;
        if std::env::var("DBG").is_ok() {
            eprintln!("look {value} against {least}");
        }
        Ok((value > least).then_some((better, value, statistics)))
    }
}

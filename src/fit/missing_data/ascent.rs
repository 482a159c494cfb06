//! From a start to a maximum: a step of EM, where to go beyond it, and when to stop.

use super::acceleration::{Acceleration, Metric, Step};
use super::expectation::{Expectation, Statistics};
use super::maximization::{Theta, expand, maximize};
use super::saddle_test::{LENGTHS, Outlook, end_of_steps, outlook};
use super::start::Shape;
use super::{EmAcceleration, MissingDataEm};
use crate::data::Centering;
use crate::fit::{Fitted, RemainingGain, StopReason, Trace};
use crate::{Error, Real, Result};
use nalgebra::DVector;

/// The remaining gain is small beyond doubt below this share of the tolerance; above it, it must be
/// below the tolerance three times running.
const BEYOND_DOUBT: f64 = 0.02;

/// How often a second look may say that the fit is only slow: where rounding hides what remains, it
/// would say so for ever.
const MOST_LOOKS: usize = 10;

/// How many steps the loadings are given to follow noise that was put at its floor.
const STEPS_AT_FLOOR: usize = 4;

/// Where J falls, its digits are lost; noise within so many times of none has lost them, and is on
/// its way to 0.
const NEAR_NONE: f64 = 1e4;

/// A model, J per observation, and what the next M-step needs.
type Location<N> = (Theta<N>, f64, Statistics);

/// The data beside what does not change while the model moves.
pub(super) struct Ascent<'x, T: Real> {
    pub(super) expectation: Expectation<'x, T>,
    pub(super) mean: Centering,
    /// The share of the observed entries that are of each variable.
    pub(super) shares: DVector<f64>,
    pub(super) observations: f64,
    /// The noise variance that cannot be told from none, where no floor keeps it from there.
    pub(super) vanishing: Option<f64>,
}

/// How sure it is that little remains to be gained.
struct Patience {
    tolerance: f64,
    near: usize,
    still: usize,
    rule: RemainingGain,
}

impl Patience {
    fn new(tolerance: f64) -> Self {
        Self { tolerance, near: 0, still: 0, rule: RemainingGain::below(tolerance) }
    }

    /// What the acceleration expects to gain.
    fn expects(&mut self, remaining: f64) -> bool {
        self.near = if remaining < self.tolerance { self.near + 1 } else { 0 };
        self.near >= 3 || remaining < BEYOND_DOUBT * self.tolerance
    }

    /// What was gained.
    fn gained(&mut self, value: f64, gain: f64, scheme: EmAcceleration) -> bool {
        // Gains of this size may be rounding; were they not, and shrank they slowly, little would
        // remain all the same.
        let rounding = (64.0 * f64::EPSILON * value.abs().max(1.0)).max(1e-3 * self.tolerance);
        self.still = if gain <= rounding { self.still + 1 } else { 0 };
        self.still >= 3 || (self.rule.update(value) && scheme != EmAcceleration::Accelerated)
    }
}

impl<T: Real> Ascent<'_, T> {
    fn at<N: Shape>(&mut self, theta: Theta<N>) -> Result<Location<N>> {
        let statistics = self.expectation.take(&theta.parameters())?;
        Ok((theta, statistics.log_likelihood / self.observations, statistics))
    }

    /// Where a step of EM goes.
    fn step<N: Shape>(
        &self,
        theta: &Theta<N>,
        statistics: &Statistics,
        scheme: EmAcceleration,
    ) -> Result<Theta<N>> {
        let mut next = theta.clone();
        maximize(&mut next, statistics, self.mean);
        if scheme != EmAcceleration::Plain {
            expand(&mut next, statistics, self.mean)?;
        }
        let noise_variance = next.variances().max();
        if self.vanishing.is_some_and(|least| noise_variance <= least) {
            Err(Error::NoiseVanished { latent_dim: theta.latent_dim(), noise_variance })
        } else {
            Ok(next)
        }
    }

    pub(super) fn rise<N: Shape>(
        &mut self,
        settings: &MissingDataEm,
        start: Theta<N>,
    ) -> Result<Fitted<Theta<N>>> {
        let scheme = settings.scheme;
        let mut trace = Trace::new();
        let mut patience = Patience::new(settings.tolerance);
        let mut acceleration = Acceleration::new();
        let mut place = self.at(start)?;
        if !place.1.is_finite() {
            return Err(Error::ObjectiveAtStart { value: place.1 });
        }
        trace.push(place.1);
        patience.gained(place.1, f64::INFINITY, scheme);
        let (mut enough, mut looks) = (false, 0);
        let stop = loop {
            if trace.len() > settings.max_iterations {
                break StopReason::IterationLimit;
            }
            let mut next = self.step(&place.0, &place.2, scheme)?;
            if scheme != EmAcceleration::Plain
                && let Some(rotation) = place.0.straightening()?
            {
                place.0.rotate(&rotation);
                next.rotate(&rotation);
                acceleration.rotate(&rotation);
                // The statistics hold what stands in the old coordinates, and are not read again.
            }
            let metric = Metric::at(&place.0, &self.shares);
            let proposal = match scheme {
                EmAcceleration::Accelerated => acceleration.propose(&metric, &place.0, &next),
                EmAcceleration::Plain | EmAcceleration::Expanded => None,
            };
            let per_observation = self.expectation.observed() / self.observations;
            enough |= proposal
                .as_ref()
                .is_some_and(|proposal| patience.expects(proposal.remaining * per_observation));
            if enough {
                let look = match self.at_the_floor(&place, &next, scheme) {
                    Some(better) => Look::Better(Box::new(better)),
                    None => self.saddle_test(&place, &next, &metric, settings.tolerance)?,
                };
                match look {
                    Look::End => break StopReason::Converged,
                    Look::Slow if looks < MOST_LOOKS => looks += 1,
                    Look::Slow => break StopReason::Converged,
                    Look::Better(better) => {
                        place = *better;
                        trace.push(place.1);
                        acceleration = Acceleration::new();
                        (patience, enough) = (Patience::new(settings.tolerance), false);
                        continue;
                    }
                }
                patience = Patience::new(settings.tolerance);
            }
            let mut moved = None;
            if let Some(proposal) = proposal {
                match self.at(proposal.theta) {
                    Ok(proposed) if proposed.1 >= place.1 => {
                        moved = Some(proposed);
                        acceleration.accept();
                    }
                    _ => {
                        acceleration.reject();
                        trace.reject();
                    }
                }
            }
            let moved = match moved {
                Some(moved) => moved,
                None => self.at(next)?,
            };
            let gain = moved.1 - place.1;
            // EM cannot lower J but by rounding.
            if gain.is_nan() || gain < -1e-9 * place.1.abs().max(1.0) {
                let noise_variance = place.0.variances().max();
                if self.vanishing.is_some_and(|least| noise_variance <= NEAR_NONE * least) {
                    return Err(Error::NoiseVanished {
                        latent_dim: place.0.latent_dim(),
                        noise_variance,
                    });
                }
                break StopReason::Diverged;
            }
            place = moved;
            trace.push(place.1);
            enough = patience.gained(place.1, gain, scheme);
        };
        Ok(Fitted { model: place.0, trace, stop })
    }

    /// The first of the models with noise at a floor that EM only creeps to, if a few steps from
    /// there it is no worse than this one.
    fn at_the_floor<N: Shape>(
        &mut self,
        place: &Location<N>,
        next: &Theta<N>,
        scheme: EmAcceleration,
    ) -> Option<Location<N>> {
        for noise in N::lowered(&place.0, next) {
            let mut found = self.at(Theta { noise, ..place.0.clone() }).ok()?;
            for _ in 0..STEPS_AT_FLOOR {
                if found.1 >= place.1 {
                    return Some(found);
                }
                let after = self.step(&found.0, &found.2, scheme).ok()?;
                found = self.at(after).ok()?;
            }
        }
        None
    }

    /// Whether the fit stands at a saddle, or moves so slowly that it only seems to have arrived.
    fn saddle_test<N: Shape>(
        &mut self,
        place: &Location<N>,
        next: &Theta<N>,
        metric: &Metric,
        tolerance: f64,
    ) -> Result<Look<N>> {
        let (theta, value, _) = place;
        let (step, per_observation) =
            (Step::between(theta, next), self.expectation.observed() / self.observations);
        match outlook(&self.expectation, theta, self.mean, metric)? {
            Outlook::Shrinks(factor) => {
                // Were the whole step along the slowest direction, this would be what remains.
                let remaining = 0.5 * metric.inner(&step, &step) / (1.0 - factor).max(1e-6);
                if remaining * per_observation <= 10.0 * tolerance {
                    return Ok(Look::End);
                }
            }
            Outlook::Grows(direction) => {
                for length in LENGTHS {
                    if let Some(better) = direction.taken_from(theta, length)
                        && let Ok(found) = self.at(better)
                        && found.1 > value + tolerance
                    {
                        return Ok(Look::Better(Box::new(found)));
                    }
                }
            }
        }
        // The steps are small, but shrink slowly, or what seemed to grow was one that turns: where
        // would they end?
        let Some(onward) = end_of_steps(&self.expectation, theta, &step, self.mean, metric)? else {
            return Ok(Look::Slow);
        };
        for part in [1.0, 0.25] {
            if let Some(moved) = onward.taken_from(theta, part)
                && let Ok(found) = self.at(moved)
                && found.1 > value + tolerance
            {
                return Ok(Look::Better(Box::new(found)));
            }
        }
        let remaining = 0.5 * metric.inner(&step, &onward) * per_observation;
        Ok(if (0.0..=tolerance).contains(&remaining) { Look::End } else { Look::Slow })
    }
}

/// What a second look found.
enum Look<N> {
    End,
    Slow,
    Better(Box<Location<N>>),
}

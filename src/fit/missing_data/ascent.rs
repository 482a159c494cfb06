//! EM ascent from one initialisation: EM step, acceleration, convergence and saddle tests.

use super::acceleration::{Acceleration, Metric, Step};
use super::expectation::{Expectation, Statistics};
use super::maximization::{Theta, expand, maximize};
use super::saddle_test::{LENGTHS, Outlook, extrapolate_limit, outlook};
use super::start::Shape;
use super::{EmAcceleration, MissingDataEm};
use crate::data::Centering;
use crate::fit::{Fitted, Observer, RemainingGain, StopReason, Trace};
use crate::{Error, Real, Result};
use nalgebra::DVector;

/// Fraction of the tolerance below which one estimate of the remaining gain is enough; between this
/// and the tolerance, three in a row are required.
const CERTAIN_FRACTION: f64 = 0.02;

/// Bound on the number of "slow convergence" verdicts of the saddle test in one ascent; below the
/// rounding error of J the test would return that verdict indefinitely.
const MAX_SLOW_VERDICTS: usize = 10;

/// Number of models that are compared after a noise variance was set to its floor: the first, and
/// those after 1, 2 and 3 EM steps in which the loadings adapt.
const STEPS_AT_FLOOR: usize = 4;

/// If J falls while σ² is within this factor of the resolution of the data, the fall is
/// cancellation and σ² tends to 0: the likelihood is reported as unbounded.
const CANCELLATION_FACTOR: f64 = 1e4;

/// A model, its J per observation, and its E-step statistics for the next M-step.
type Location<N> = (Theta<N>, f64, Statistics);

/// The data, and what stays constant during an ascent.
pub(super) struct Ascent<'x, T: Real> {
    pub(super) expectation: Expectation<'x, T>,
    pub(super) mean: Centering,
    /// Fraction of all observed entries that belongs to each variable.
    pub(super) shares: DVector<f64>,
    pub(super) observations: f64,
    /// Noise variance that cannot be distinguished from 0; `None` if the noise is fixed or has a
    /// floor.
    pub(super) vanishing: Option<f64>,
}

/// Convergence test: counts consecutive iterations with a small estimated or realised gain.
struct Patience {
    tolerance: f64,
    // Consecutive estimates below the tolerance, and consecutive gains within rounding.
    near: usize,
    still: usize,
    rule: RemainingGain,
}

impl Patience {
    fn new(tolerance: f64) -> Self {
        Self { tolerance, near: 0, still: 0, rule: RemainingGain::below(tolerance) }
    }

    /// Records the remaining gain that the acceleration estimates; returns whether it counts as
    /// small.
    fn expects(&mut self, remaining: f64) -> bool {
        self.near = if remaining < self.tolerance { self.near + 1 } else { 0 };
        self.near >= 3 || remaining < CERTAIN_FRACTION * self.tolerance
    }

    /// Records the gain of an iteration; returns whether little remains.
    fn gained(&mut self, value: f64, gain: f64, scheme: EmAcceleration) -> bool {
        // Gains of this size may be rounding errors of J (about 64 ε |J|), or are at most a
        // thousandth of the tolerance; three in a row lead to the saddle test, which also covers a
        // slow ascent.
        let rounding = (64.0 * f64::EPSILON * value.abs().max(1.0)).max(1e-3 * self.tolerance);
        self.still = if gain <= rounding { self.still + 1 } else { 0 };
        // Aitken extrapolation assumes a geometric tail, which the accelerated iteration does not
        // have: its own quadratic model estimates the remaining gain instead.
        self.still >= 3 || (self.rule.update(value) && scheme != EmAcceleration::Accelerated)
    }
}

impl<T: Real> Ascent<'_, T> {
    fn at<N: Shape>(&mut self, theta: Theta<N>) -> Result<Location<N>> {
        let statistics = self.expectation.take(&theta.parameters())?;
        Ok((theta, statistics.log_likelihood / self.observations, statistics))
    }

    /// Returns the model after one (expanded) EM step.
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
        observer: &mut dyn Observer,
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
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            if trace.len() > settings.max_iterations {
                break StopReason::IterationLimit;
            }
            let mut next = self.step(&place.0, &place.2, scheme)?;
            if scheme != EmAcceleration::Plain
                && let Some(rotation) = place.0.orthogonalizing_rotation()?
            {
                // J is invariant under a rotation of z; after this one the columns of D⁻¹W are
                // orthogonal. The history of the acceleration must stay in the coordinates of the
                // model.
                place.0.rotate(&rotation);
                next.rotate(&rotation);
                acceleration.rotate(&rotation);
                // The statistics are still those of the old coordinates, but are not read again
                // before the next E-step.
            }
            // Metric at the current model: lengths of steps are comparable over variables of any
            // scale.
            let metric = Metric::at(&place.0, &self.shares);
            let proposal = match scheme {
                EmAcceleration::Accelerated => acceleration.propose(&metric, &place.0, &next),
                EmAcceleration::Plain | EmAcceleration::Expanded => None,
            };
            // The metric counts nats per observed entry, the tolerance nats per observation.
            let per_observation = self.expectation.observed() / self.observations;
            enough |= proposal
                .as_ref()
                .is_some_and(|proposal| patience.expects(proposal.remaining * per_observation));
            // Before the fit ends: try noise at its floor, then the saddle test. A better model
            // restarts all tests and the acceleration, whose history leads to the old point.
            if enough {
                let look = match self.at_the_floor(&place, &next, scheme) {
                    Some(better) => Look::Better(Box::new(better)),
                    None => self.saddle_test(&place, &next, &metric, settings.tolerance)?,
                };
                match look {
                    Look::End => break StopReason::Converged,
                    Look::Slow if looks < MAX_SLOW_VERDICTS => looks += 1,
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
                    // Safeguard: an extrapolation is taken only if J does not fall. Otherwise the
                    // plain EM step is taken, whose E-step costs a second pass over the data.
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
            // EM lowers J only by rounding. A larger fall means that J has lost its digits.
            if gain.is_nan() || gain < -1e-9 * place.1.abs().max(1.0) {
                let noise_variance = place.0.variances().max();
                if self.vanishing.is_some_and(|least| noise_variance <= CANCELLATION_FACTOR * least)
                {
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
        Ok(Fitted::new(place.0, trace, stop))
    }

    /// Returns a model with noise at a floor that EM only approaches sublinearly, if within a few
    /// EM steps from there J is at least the present one.
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

    /// Saddle test: determines whether the fit is at a maximum, at a saddle point, or converging
    /// too slowly for its step length to show it.
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
                // Upper bound on the remaining gain: the whole step is assumed to lie along the
                // slowest direction, with the factor 1/(1 − λ) of a geometric series. At most ten
                // tolerances count as converged.
                let remaining = 0.5 * metric.inner(&step, &step) / (1.0 - factor).max(1e-6);
                if remaining * per_observation <= 10.0 * tolerance {
                    return Ok(Look::End);
                }
            }
            Outlook::Grows(direction) => {
                // The direction comes from a subsample and a linearisation: each length is checked
                // on J of all data, in both senses, the longest first.
                for length in LENGTHS {
                    if let Some(better) = direction.applied_to(theta, length)
                        && let Ok(found) = self.at(better)
                        && found.1 > value + tolerance
                    {
                        return Ok(Look::Better(Box::new(found)));
                    }
                }
            }
        }
        // The steps are small but shrink slowly, or the growing direction did not raise J:
        // extrapolate the steps to their limit.
        let Some(onward) = extrapolate_limit(&self.expectation, theta, &step, self.mean, metric)?
        else {
            return Ok(Look::Slow);
        };
        // The whole way, then a quarter of it, if the linear model does not hold that far.
        for part in [1.0, 0.25] {
            if let Some(moved) = onward.applied_to(theta, part)
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

/// Verdict of the saddle test.
enum Look<N> {
    // Converged.
    End,
    // Converging slowly; no better model was found.
    Slow,
    // A model to go on from: with J higher by more than the tolerance, or with noise at its floor
    // and J not lower.
    Better(Box<Location<N>>),
}

//! EM ascent from one initialisation: EM steps, acceleration, convergence and saddle tests.
//!
//! Legend: θ the model at the current location, F the EM map, J the log-likelihood of the observed
//! entries per observation.
//!
//! One iteration ([`Ascent::iterate`]):
//!
//! 1. Candidates: F(θ), and with acceleration an extrapolation and its estimate of the remaining
//!    gain ([`Ascent::candidates`]).
//! 2. Convergence: where the last gains or that estimate are small ([`ConvergenceTest`]), noise at
//!    its floor and the saddle test decide ([`Ascent::verdict`]). The fit ends, or continues from
//!    here, or restarts from a better model.
//! 3. Move: to the extrapolation if J does not fall there, otherwise to F(θ) ([`Ascent::advance`]).
//! 4. Record: the gain of J, for the trace and the next convergence test; a fall of J ends the fit
//!    ([`Ascent::record`]).
//!
//! [`AscentState`] is all that changes between iterations; [`Ascent`] holds the data.

use super::acceleration::{Acceleration, Metric, Proposal, Step};
use super::expectation::{Expectation, Statistics};
use super::maximization::{Theta, expand, maximize};
use super::saddle_test::{LENGTHS, Stability, extrapolate_limit, stability};
use super::start::NoiseInitialization;
use super::{EmAcceleration, MissingDataEm, MissingDataRequest, Observed};
use crate::data::Centering;
use crate::fit::{Fitted, Observer, RemainingGain, StopReason, Trace};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Fraction of the tolerance below which one estimate of the remaining gain is enough; between this
/// and the tolerance, [`IN_A_ROW`] are required.
const CERTAIN_FRACTION: f64 = 0.02;

/// Number of consecutive small estimates, or of negligible gains, that lead to the saddle test.
// One may be accidental. Three as in `RemainingGain`.
const IN_A_ROW: usize = 3;

/// Bound on the number of "slow convergence" verdicts of the saddle test in one ascent; below the
/// rounding error of J the test would return that verdict indefinitely.
const MAX_SLOW_VERDICTS: usize = 10;

// Bound on the EM steps after a ψ_j is set to its floor, in which the other parameters follow. With
// 12 a Heywood case of 60 observations of 6 variables stayed 35 % above its floor, at an objective
// 7e-8 nats below that at the floor.
const STEPS_AT_FLOOR: usize = 64;

/// If J falls while σ² is within this factor of the resolution of the data, the fall is
/// cancellation and σ² tends to 0: the likelihood is reported as unbounded.
const CANCELLATION_FACTOR: f64 = 1e4;

/// Relative fall of J that is attributed to rounding.
// EM lowers J only by rounding: a larger fall means that J has lost its digits.
const ROUNDING_FALL: f64 = 1e-9;

/// A bound on the remaining gain of at most so many tolerances counts as converged.
// The bound attributes the whole step to the slowest direction, and is far larger than the gain
// where most of the step lies along faster ones.
const BOUND_TOLERANCES: f64 = 10.0;

/// A model, its J per observation, and its E-step statistics for the next M-step.
struct Location<N> {
    theta: Theta<N>,
    value: f64,
    statistics: Statistics,
}

/// The data, and what stays constant during an ascent.
pub(super) struct Ascent<'x, T: Real> {
    expectation: Expectation<'x, T>,
    mean: Centering,
    /// Fraction of all observed entries that belongs to each variable.
    shares: DVector<f64>,
    /// Number of observations, or the sum of their weights.
    observations: f64,
    /// Noise variance that cannot be distinguished from 0; `None` if the noise is fixed or has a
    /// floor.
    vanishing: Option<f64>,
    /// Acceleration, tolerance and limit on the number of iterations.
    settings: MissingDataEm,
}

/// State of an ascent between two iterations.
struct AscentState<N> {
    location: Location<N>,
    trace: Trace,
    acceleration: Acceleration<N>,
    convergence: ConvergenceTest,
    /// Number of "slow convergence" verdicts so far.
    slow_verdicts: usize,
}

impl<N: NoiseInitialization> AscentState<N> {
    /// Returns the state before the first iteration.
    ///
    /// # Errors
    /// [`Error::ObjectiveAtStart`] if J is not finite.
    fn new(location: Location<N>, settings: &MissingDataEm) -> Result<Self> {
        let value = location.value;
        if !value.is_finite() {
            return Err(Error::ObjectiveAtStart { value });
        }
        let mut trace = Trace::new();
        trace.push(value);
        let mut convergence = ConvergenceTest::new(settings);
        convergence.record_gain(value, f64::INFINITY);
        Ok(Self {
            location,
            trace,
            acceleration: Acceleration::new(),
            convergence,
            slow_verdicts: 0,
        })
    }

    /// Restarts the ascent from a better model that is not an EM step away: all tests and the
    /// acceleration, whose history leads to the old model.
    fn restart_from(&mut self, location: Location<N>) {
        self.trace.push(location.value);
        self.location = location;
        self.acceleration = Acceleration::new();
        self.convergence.restart();
    }

    /// Applies the rotation W ← WR to the current model and the history of the acceleration, which
    /// must stay in the coordinates of the model.
    // The statistics keep the old coordinates, but are not read again before the next E-step.
    fn rotate(&mut self, rotation: &DMatrix<f64>) {
        self.location.theta.rotate(rotation);
        self.acceleration.rotate(rotation);
    }
}

/// Candidates for the next model.
struct Candidates<N> {
    em_step: Theta<N>,
    /// Extrapolation by the acceleration, if it has any history.
    proposal: Option<Proposal<N>>,
    /// Metric at the current model.
    metric: Metric,
}

/// Convergence test: counts consecutive iterations with a small estimated or realised gain.
struct ConvergenceTest {
    tolerance: f64,
    /// Whether successive gains form a geometric series, which Aitken extrapolation assumes.
    geometric_gains: bool,
    aitken: RemainingGain,
    /// Consecutive estimates of the remaining gain below the tolerance.
    small_estimates: usize,
    /// Consecutive gains within rounding.
    negligible_gains: usize,
    /// Whether the last gains or estimates are small enough for the saddle test.
    met: bool,
}

impl ConvergenceTest {
    fn new(settings: &MissingDataEm) -> Self {
        let tolerance = settings.tolerance;
        Self {
            tolerance,
            // The accelerated iteration has no geometric tail: its own quadratic model estimates
            // the remaining gain instead.
            geometric_gains: settings.scheme != EmAcceleration::Accelerated,
            aitken: RemainingGain::below(tolerance),
            small_estimates: 0,
            negligible_gains: 0,
            met: false,
        }
    }

    /// Forgets all gains and estimates.
    fn restart(&mut self) {
        self.aitken = RemainingGain::below(self.tolerance);
        (self.small_estimates, self.negligible_gains) = (0, 0);
        self.met = false;
    }

    /// Records the remaining gain that the acceleration estimates, in nats per observation.
    fn record_estimate(&mut self, remaining: f64) {
        self.small_estimates =
            if remaining < self.tolerance { self.small_estimates + 1 } else { 0 };
        self.met |=
            self.small_estimates >= IN_A_ROW || remaining < CERTAIN_FRACTION * self.tolerance;
    }

    /// Records the gain of an iteration that ended at J = `value`.
    fn record_gain(&mut self, value: f64, gain: f64) {
        // Gains of this size may be rounding errors of J (about 64 ε |J|), or are at most a
        // thousandth of the tolerance; three in a row lead to the saddle test, which also covers a
        // slow ascent.
        let rounding = (64.0 * f64::EPSILON * value.abs().max(1.0)).max(1e-3 * self.tolerance);
        self.negligible_gains = if gain <= rounding { self.negligible_gains + 1 } else { 0 };
        // The update comes first: it must record every value.
        let aitken_converged = self.aitken.update(value) && self.geometric_gains;
        self.met = self.negligible_gains >= IN_A_ROW || aitken_converged;
    }
}

/// Verdict of the saddle test.
enum SaddleVerdict<N> {
    /// The fit has converged.
    Converged,
    /// Converging slowly; no better model was found.
    Slow,
    /// A model to go on from: with J higher by more than the tolerance, or with noise at its floor
    /// and J not lower.
    Better(Box<Location<N>>),
}

impl<'x, T: Real> Ascent<'x, T> {
    /// Returns the ascent of a fit; `shared_noise` if all variables have one noise variance.
    pub(super) fn new(
        data: &'x Observed<'_, T>,
        request: &MissingDataRequest,
        shared_noise: bool,
        settings: MissingDataEm,
    ) -> Self {
        let weights = data.weights.as_deref();
        Self {
            expectation: Expectation::new(
                data.x,
                &data.patterns,
                weights,
                request.latent_dim,
                !shared_noise,
            ),
            mean: request.mean,
            shares: data.shares(),
            observations: data.total,
            vanishing: request.may_vanish.then_some(data.tolerance),
            settings,
        }
    }

    /// Runs EM from an initialisation until it converges, or the observer or the iteration limit
    /// ends it.
    ///
    /// # Errors
    /// [`Error::ObjectiveAtStart`]; [`Error::NoiseVanished`] if the noise variance tends to 0;
    /// errors of the matrix decompositions.
    pub(super) fn run<N: NoiseInitialization>(
        &mut self,
        initial: Theta<N>,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Theta<N>>> {
        let mut state = AscentState::new(self.evaluate(initial)?, &self.settings)?;
        let stop = loop {
            if state.trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            // The trace has one entry more than there were iterations.
            if state.trace.len() > self.settings.max_iterations {
                break StopReason::IterationLimit;
            }
            if let Some(stop) = self.iterate(&mut state)? {
                break stop;
            }
        };
        Ok(Fitted::new(state.location.theta, state.trace, stop))
    }

    /// Runs one iteration; returns the reason if the fit ends with it.
    fn iterate<N: NoiseInitialization>(
        &mut self,
        state: &mut AscentState<N>,
    ) -> Result<Option<StopReason>> {
        let candidates = self.candidates(state)?;
        if let Some(proposal) = &candidates.proposal {
            // The metric counts nats per observed entry, the tolerance nats per observation.
            let per_observation = self.entries_per_observation();
            state.convergence.record_estimate(proposal.remaining_gain * per_observation);
        }
        if state.convergence.met {
            match self.verdict(&state.location, &candidates)? {
                SaddleVerdict::Converged => return Ok(Some(StopReason::Converged)),
                SaddleVerdict::Slow if state.slow_verdicts == MAX_SLOW_VERDICTS => {
                    return Ok(Some(StopReason::Converged));
                }
                SaddleVerdict::Slow => {
                    state.slow_verdicts += 1;
                    state.convergence.restart();
                }
                SaddleVerdict::Better(better) => {
                    state.restart_from(*better);
                    return Ok(None);
                }
            }
        }
        let moved = self.advance(state, candidates)?;
        self.record(state, moved)
    }

    /// Returns the model with its J and the statistics of its E-step.
    fn evaluate<N: NoiseInitialization>(&mut self, theta: Theta<N>) -> Result<Location<N>> {
        let statistics = self.expectation.take(&theta.parameters())?;
        Ok(Location { theta, value: statistics.log_likelihood / self.observations, statistics })
    }

    /// Returns the model after one (expanded) EM step.
    fn em_step<N: NoiseInitialization>(&self, from: &Location<N>) -> Result<Theta<N>> {
        let mut next = from.theta.clone();
        maximize(&mut next, &from.statistics, self.mean);
        if self.settings.scheme != EmAcceleration::Plain {
            expand(&mut next, &from.statistics, self.mean)?;
        }
        self.check_noise(&next, 1.0)?;
        Ok(next)
    }

    /// Checks that the noise variance is above `factor` times the value that cannot be
    /// distinguished from 0.
    fn check_noise<N: NoiseInitialization>(&self, theta: &Theta<N>, factor: f64) -> Result<()> {
        let noise_variance = theta.variances().max();
        if self.vanishing.is_some_and(|least| noise_variance <= factor * least) {
            return Err(Error::NoiseVanished { latent_dim: theta.latent_dim(), noise_variance });
        }
        Ok(())
    }

    /// Returns the candidates for the next model. With parameter expansion, the current model is
    /// first rotated to orthogonal columns of D⁻¹W where they are far from it.
    fn candidates<N: NoiseInitialization>(
        &self,
        state: &mut AscentState<N>,
    ) -> Result<Candidates<N>> {
        let mut em_step = self.em_step(&state.location)?;
        // J is invariant under a rotation of z. Plain EM keeps the coordinates of its
        // initialisation.
        if self.settings.scheme != EmAcceleration::Plain
            && let Some(rotation) = state.location.theta.orthogonalizing_rotation()?
        {
            state.rotate(&rotation);
            em_step.rotate(&rotation);
        }
        let theta = &state.location.theta;
        // Metric at the current model: lengths of steps are comparable over variables of any
        // scale.
        let metric = Metric::at(theta, &self.shares);
        let proposal = match self.settings.scheme {
            EmAcceleration::Accelerated => state.acceleration.propose(&metric, theta, &em_step),
            EmAcceleration::Plain | EmAcceleration::Expanded => None,
        };
        Ok(Candidates { em_step, proposal, metric })
    }

    /// Evaluates the next model: the extrapolation if J does not fall there, otherwise the EM step.
    fn advance<N: NoiseInitialization>(
        &mut self,
        state: &mut AscentState<N>,
        candidates: Candidates<N>,
    ) -> Result<Location<N>> {
        if let Some(proposal) = candidates.proposal {
            match self.evaluate(proposal.theta) {
                Ok(proposed) if proposed.value >= state.location.value => {
                    state.acceleration.accept();
                    return Ok(proposed);
                }
                // Also where J cannot be computed. The EM step costs a second pass over the data.
                _ => {
                    state.acceleration.reject();
                    state.trace.reject();
                }
            }
        }
        self.evaluate(candidates.em_step)
    }

    /// Moves to the next model and records its gain; if J has fallen, returns the reason to stop at
    /// the model before.
    ///
    /// # Errors
    /// [`Error::NoiseVanished`] if J has fallen because the noise variance tends to 0.
    fn record<N: NoiseInitialization>(
        &self,
        state: &mut AscentState<N>,
        moved: Location<N>,
    ) -> Result<Option<StopReason>> {
        let before = state.location.value;
        let gain = moved.value - before;
        if gain.is_nan() || gain < -ROUNDING_FALL * before.abs().max(1.0) {
            self.check_noise(&state.location.theta, CANCELLATION_FACTOR)?;
            return Ok(Some(StopReason::Diverged));
        }
        state.trace.push(moved.value);
        state.convergence.record_gain(moved.value, gain);
        state.location = moved;
        Ok(None)
    }

    /// Returns the verdict that ends or continues a fit whose gains are small: noise at its floor
    /// is tried first, then the saddle test is made.
    fn verdict<N: NoiseInitialization>(
        &mut self,
        location: &Location<N>,
        candidates: &Candidates<N>,
    ) -> Result<SaddleVerdict<N>> {
        match self.at_noise_floor(location, &candidates.em_step) {
            Some(better) => Ok(SaddleVerdict::Better(Box::new(better))),
            None => self.saddle_test(location, &candidates.em_step, &candidates.metric),
        }
    }

    /// Returns a model with noise at a floor that EM only approaches sublinearly, if within a few
    /// EM steps from there J is at least the present one.
    fn at_noise_floor<N: NoiseInitialization>(
        &mut self,
        location: &Location<N>,
        em_step: &Theta<N>,
    ) -> Option<Location<N>> {
        for noise in N::noise_at_floor(&location.theta, em_step) {
            let mut found = self.evaluate(Theta { noise, ..location.theta.clone() }).ok()?;
            for left in (0..=STEPS_AT_FLOOR).rev() {
                if found.value >= location.value {
                    return Some(found);
                }
                let next = self.em_step(&found).ok()?;
                let next = self.evaluate(next).ok()?;
                // Gains of EM shrink: this many of the present size are the most that can come.
                let reachable = next.value + left as f64 * (next.value - found.value);
                if reachable < location.value {
                    break;
                }
                found = next;
            }
        }
        None
    }

    /// Saddle test: determines whether the fit is at a maximum, at a saddle point, or converging
    /// too slowly for its step length to show it.
    fn saddle_test<N: NoiseInitialization>(
        &mut self,
        location: &Location<N>,
        em_step: &Theta<N>,
        metric: &Metric,
    ) -> Result<SaddleVerdict<N>> {
        let (theta, tolerance) = (&location.theta, self.settings.tolerance);
        let step = Step::between(theta, em_step);
        let per_observation = self.entries_per_observation();
        match stability(&self.expectation, theta, self.mean, metric)? {
            Stability::Contracting(factor) => {
                // Upper bound on the remaining gain: the whole step is assumed to lie along the
                // slowest direction, with the factor 1/(1 − λ) of a geometric series.
                let bound = 0.5 * metric.inner(&step, &step) / (1.0 - factor).max(1e-6);
                if bound * per_observation <= BOUND_TOLERANCES * tolerance {
                    return Ok(SaddleVerdict::Converged);
                }
            }
            Stability::Ascent(direction) => {
                // The direction comes from a subsample and a linearisation: each length is checked
                // on J of all data, in both senses, the longest first.
                if let Some(better) = self.better_along(location, &direction, &LENGTHS) {
                    return Ok(SaddleVerdict::Better(Box::new(better)));
                }
            }
        }
        // The steps are small but shrink slowly, or the growing direction did not raise J:
        // extrapolate the steps to their limit.
        let Some(to_limit) = extrapolate_limit(&self.expectation, theta, &step, self.mean, metric)?
        else {
            return Ok(SaddleVerdict::Slow);
        };
        // The whole way, then a quarter of it, if the linear model does not hold that far.
        if let Some(better) = self.better_along(location, &to_limit, &[1.0, 0.25]) {
            return Ok(SaddleVerdict::Better(Box::new(better)));
        }
        let remaining = 0.5 * metric.inner(&step, &to_limit) * per_observation;
        Ok(match (0.0..=tolerance).contains(&remaining) {
            true => SaddleVerdict::Converged,
            false => SaddleVerdict::Slow,
        })
    }

    /// Returns the first model at one of these multiples of a step where J is higher by more than
    /// the tolerance.
    fn better_along<N: NoiseInitialization>(
        &mut self,
        location: &Location<N>,
        step: &Step,
        factors: &[f64],
    ) -> Option<Location<N>> {
        let least = location.value + self.settings.tolerance;
        // A model where J cannot be computed is passed over: the next factor is shorter.
        factors
            .iter()
            .filter_map(|&factor| step.applied_to(&location.theta, factor))
            .filter_map(|theta| self.evaluate(theta).ok())
            .find(|found| found.value > least)
    }

    /// Returns the average number of observed entries of an observation.
    fn entries_per_observation(&self) -> f64 {
        self.expectation.observed() / self.observations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IncompleteObservations;
    use crate::likelihood::{DiagonalGaussian, IsotropicGaussian};
    use crate::linalg::testing::random;
    use std::ops::ControlFlow;

    /// 6×120 data with two factors, a noise variance of about 0.01, and a fifth of the entries
    /// missing.
    fn table() -> DMatrix<f64> {
        let mut x =
            random::<f64>(6, 2, 1) * random::<f64>(2, 120, 2) + 0.2 * random::<f64>(6, 120, 3);
        x.zip_apply(&random::<f64>(6, 120, 4), |x, r| {
            if r < -0.6 {
                *x = f64::NAN;
            }
        });
        x
    }

    fn settings(scheme: EmAcceleration) -> MissingDataEm {
        MissingDataEm { scheme, ..MissingDataEm::default() }
    }

    fn request(latent_dim: usize) -> MissingDataRequest {
        MissingDataRequest {
            latent_dim,
            mean: Centering::Mean,
            initializations: 1,
            may_vanish: true,
        }
    }

    fn observed(x: &DMatrix<f64>) -> Observed<'_, f64> {
        let x = IncompleteObservations::new(x.as_view()).unwrap();
        Observed::of(x, None, Centering::Mean).unwrap()
    }

    /// A model without any factor, a saddle point of J: EM leaves loadings of 0 at 0.
    fn without_factors(data: &Observed<'_, f64>, k: usize) -> Theta<IsotropicGaussian<f64>> {
        let noise = IsotropicGaussian::new(data.variances.mean()).unwrap();
        Theta::new(DMatrix::zeros(data.mean.len(), k), &data.mean, noise)
    }

    #[test]
    fn an_estimate_far_below_the_tolerance_suffices_and_others_must_repeat() {
        let mut test = ConvergenceTest::new(&settings(EmAcceleration::Accelerated));
        test.record_estimate(0.9e-7);
        test.record_estimate(0.9e-7);
        assert!(!test.met);
        test.record_estimate(2e-7);
        test.record_estimate(0.9e-7);
        test.record_estimate(0.9e-7);
        assert!(!test.met);
        test.record_estimate(0.9e-7);
        assert!(test.met);
        test.restart();
        assert!(!test.met);
        test.record_estimate(1e-9);
        assert!(test.met);
        // The gain of an iteration replaces the estimate before it.
        test.record_gain(-1.0, 1.0);
        assert!(!test.met);
    }

    #[test]
    fn three_negligible_gains_meet_the_test() {
        let mut test = ConvergenceTest::new(&settings(EmAcceleration::Accelerated));
        for (gain, met) in [(1e-11, false), (1e-11, false), (1e-3, false)].into_iter().chain([
            (0.0, false),
            (-1e-12, false),
            (1e-11, true),
        ]) {
            test.record_gain(-1.0, gain);
            assert_eq!(test.met, met, "{gain}");
        }
    }

    #[test]
    fn aitken_extrapolation_applies_to_em_without_acceleration_only() {
        for (scheme, expected) in
            [(EmAcceleration::Expanded, true), (EmAcceleration::Accelerated, false)]
        {
            let mut test = ConvergenceTest::new(&settings(scheme));
            // Gains of 0.5^t: at t = 26 the remaining gain is below the tolerance, and the gain
            // itself is far above a thousandth of it.
            let mut value = -1.0;
            let met = (0..30).any(|t| {
                let gain = 0.5_f64.powi(t);
                value += gain;
                test.record_gain(value, gain);
                test.met
            });
            assert_eq!(met, expected);
        }
    }

    #[test]
    fn the_saddle_without_factors_is_left() {
        let x = table();
        let data = observed(&x);
        for scheme in [EmAcceleration::Plain, EmAcceleration::Accelerated] {
            let mut ascent = Ascent::new(&data, &request(2), true, settings(scheme));
            let saddle = ascent.evaluate(without_factors(&data, 2)).unwrap();
            let em_step = ascent.em_step(&saddle).unwrap();
            assert_eq!(em_step.loadings().amax(), 0.0);
            let metric = Metric::at(&saddle.theta, &ascent.shares);
            match ascent.saddle_test(&saddle, &em_step, &metric).unwrap() {
                SaddleVerdict::Better(better) => assert!(better.value > saddle.value),
                _ => panic!("{scheme:?}"),
            }
            let fitted = ascent.run(saddle.theta, &mut ()).unwrap();
            assert_eq!(fitted.stop, StopReason::Converged);
            // Both factors were found, and J did not fall.
            assert!(fitted.model.noise.noise_variance() < 0.1 * data.variances.mean());
            assert!(fitted.trace.values().windows(2).all(|pair| pair[1] >= pair[0] - 1e-12));
        }
    }

    #[test]
    fn at_the_maximum_the_verdict_is_convergence() {
        let x = table();
        let data = observed(&x);
        let mut ascent =
            Ascent::new(&data, &request(2), true, settings(EmAcceleration::Accelerated));
        let fitted = ascent.run(without_factors(&data, 2), &mut ()).unwrap();
        let maximum = ascent.evaluate(fitted.model).unwrap();
        let em_step = ascent.em_step(&maximum).unwrap();
        let metric = Metric::at(&maximum.theta, &ascent.shares);
        let verdict = ascent.saddle_test(&maximum, &em_step, &metric).unwrap();
        assert!(matches!(verdict, SaddleVerdict::Converged));
    }

    #[test]
    fn an_extrapolation_that_lowers_the_objective_is_replaced_by_the_em_step() {
        let x = table();
        let data = observed(&x);
        let accelerated = settings(EmAcceleration::Accelerated);
        let mut ascent = Ascent::new(&data, &request(1), true, accelerated);
        let mut initial = without_factors(&data, 1);
        initial.augmented.column_mut(0).fill(0.5);
        let mut state =
            AscentState::new(ascent.evaluate(initial).unwrap(), &ascent.settings).unwrap();
        let em_step = ascent.em_step(&state.location).unwrap();
        let metric = Metric::at(&state.location.theta, &ascent.shares);
        let mut far = em_step.clone();
        far.augmented *= 100.0;
        let proposal = Some(Proposal { theta: far, remaining_gain: 1.0 });
        let expected = em_step.augmented.clone();
        let moved = ascent.advance(&mut state, Candidates { em_step, proposal, metric }).unwrap();
        assert_eq!(moved.theta.augmented, expected);
        assert_eq!(state.trace.rejected_steps(), 1);
        assert!(moved.value > state.location.value);
    }

    #[test]
    fn a_fall_of_the_objective_ends_the_fit_at_the_model_before() {
        let x = table();
        let data = observed(&x);
        let plain = settings(EmAcceleration::Plain);
        let mut ascent = Ascent::new(&data, &request(1), true, plain);
        let initial = ascent.evaluate(without_factors(&data, 1)).unwrap();
        let mut state = AscentState::new(initial, &ascent.settings).unwrap();
        for (fall, stop) in [(1e-12, None), (1e-3, Some(StopReason::Diverged))] {
            let before = state.location.value;
            let mut moved = ascent.evaluate(without_factors(&data, 1)).unwrap();
            moved.value = before - fall;
            assert_eq!(ascent.record(&mut state, moved).unwrap(), stop);
            assert_eq!(state.location.value, if stop.is_some() { before } else { before - fall });
        }
        // Near the resolution of the data the fall is cancellation: the noise variance vanishes.
        ascent.vanishing = Some(1e-3 * state.location.theta.variances().max());
        let mut moved = ascent.evaluate(without_factors(&data, 1)).unwrap();
        moved.value = f64::NAN;
        let result = ascent.record(&mut state, moved);
        assert!(matches!(result, Err(Error::NoiseVanished { latent_dim: 1, .. })));
    }

    #[test]
    fn the_observer_and_the_limit_end_the_fit() {
        let x = table();
        let data = observed(&x);
        let initial = || {
            let noise = DiagonalGaussian::new(data.variances.clone()).unwrap();
            Theta::new(DMatrix::from_element(6, 1, 0.1), &data.mean, noise)
        };
        let plain = MissingDataEm { max_iterations: 5, ..settings(EmAcceleration::Plain) };
        let mut ascent = Ascent::new(&data, &request(1), false, plain);
        let fitted = ascent.run(initial(), &mut ()).unwrap();
        assert_eq!((fitted.stop, fitted.trace.len()), (StopReason::IterationLimit, 6));
        let mut observer = |iteration: usize, _: f64| match iteration {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let fitted = ascent.run(initial(), &mut observer).unwrap();
        assert_eq!((fitted.stop, fitted.trace.len()), (StopReason::Interrupted, 3));
    }
}

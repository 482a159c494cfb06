//! Stochastic gradient ascent of J(θ, φ) on mini-batches.

mod adam;
mod checkpoint;
mod schedule;
#[cfg(test)]
mod subnormal_test;
mod training;

pub use adam::{Adam, AdamSettings};
#[cfg(not(feature = "safetensors"))]
use checkpoint::Origin;
pub use checkpoint::{Checkpoint, Checkpoints};
#[cfg(feature = "safetensors")]
pub(crate) use checkpoint::{Origin, Progress};
pub use schedule::{KlWeight, LearningRateSchedule};

use super::{EpochProgress, Fitted, Observer, StopReason, Trace};
use crate::linalg::parallel::fork_join_scope;
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::DifferentiableObjective;
use crate::{Error, IntoObservations, Observations, Real, Result};
use checkpoint::trace_of;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use training::{Training, repeats, split};

/// Stochastic gradient ascent of the objective J(θ, φ) with [`Adam`], on mini-batches that are
/// drawn anew in each epoch; θ and φ move together.
///
/// It fits any model with a gradient: the amortised and deep models, and local variational
/// parameters φ_i ([`PerPoint`](crate::inference::PerPoint): a batch must then hold all
/// observations, because row i belongs to observation i). Each batch stands for the whole
/// population: its J is scaled by N/n, for the last, smaller batch as well.
///
/// The fit never returns NaN: if J or its gradient is not finite, it goes back to the last good
/// parameters and halves the learning rate (counted by [`Trace::rejected_steps`]); at the eighth
/// such step it ends as [`StopReason::Diverged`].
///
/// ```
/// use elbo::{
///     Observations,
///     map::{Linear, Mlp},
///     model::GenerativeModel,
///     objective::Elbo,
///     posterior::Diagonal,
/// };
/// use elbo::{
///     fit::{LearningRateSchedule, StochasticGradient},
///     inference::{Amortized, GaussianEncoder},
///     likelihood::IsotropicGaussian,
/// };
/// use nalgebra::{DMatrix, DVector};
/// use rand::{SeedableRng, rngs::StdRng};
/// let rng = &mut StdRng::seed_from_u64(1);
/// let x = DMatrix::from_fn(3, 50, |i, j| ((i + 1) * j % 17) as f64 / 4.0);
/// let x = Observations::new(x.as_view())?;
/// let decoder = Mlp::builder(2, 3).hidden(&[8]).build(rng)?;
/// let encoder = GaussianEncoder::<_, Diagonal<f64>>::new(
///     Mlp::builder(3, 4).hidden(&[8]).build(rng)?,
///     2,
/// )?;
/// let model = GenerativeModel::new(decoder, IsotropicGaussian::analytic(1.0)?);
/// let fitter = StochasticGradient {
///     epochs: 20,
///     batch_size: 10,
///     learning_rate: 0.01,
///     ..Default::default()
/// };
/// let fitted = fitter.fit(
///     &Elbo::reparameterized(1),
///     model,
///     Amortized::new(encoder),
///     x,
///     rng,
///     &mut (),
/// )?;
/// assert!(fitted.trace.last() > fitted.trace.values().first().copied());
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StochasticGradient {
    /// Maximum number of epochs (passes over the data); at least 1.
    pub epochs: usize,
    /// Number of observations in a mini-batch, at least 1; a number above n means all observations.
    pub batch_size: usize,
    /// Learning rate, after the warm-up and before the decay.
    pub learning_rate: f64,
    /// Learning-rate schedule.
    pub schedule: LearningRateSchedule,
    /// Number of warm-up steps, in which the learning rate rises linearly from 0.
    pub warm_up_steps: usize,
    /// Settings of Adam.
    pub adam: AdamSettings,
    /// Gradient clipping: a gradient of J *per observation* with a larger norm is scaled down to
    /// this norm. No clipping by default.
    pub clip_norm: Option<f64>,
    /// Weight decay, decoupled from the gradient as in AdamW ([Loshchilov & Hutter
    /// 2019](https://arxiv.org/abs/1711.05101)): in each step the parameters of decoder and encoder
    /// shrink by this share of the learning rate. 0 by default.
    pub weight_decay: f64,
    /// Weight β of the divergence from the prior in what the fit climbs; 1, J itself, by default. The
    /// trace, early stopping and the returned model are those of J at every weight.
    pub kl_weight: KlWeight,
    /// Fraction of the observations that is held out, drawn at random; at least 0 and below 1.
    pub held_out: f64,
    /// Patience: number of epochs without improvement of J on the held-out observations before the
    /// fit goes back to the best θ and φ and continues with 0.3 times the learning rate (reduce on
    /// plateau); after the last cut it stops early. The best parameters are returned: those with
    /// the highest held-out J, among those at which J on the training set has kept at least half of
    /// its rise.
    pub patience: usize,
    /// Number of cuts of the learning rate before the fit stops early.
    pub plateau_cuts: usize,
    /// Whether the observations are shuffled in each epoch.
    pub shuffle: bool,
}

/// The result of a gradient fit: θ and the inference.
pub type FittedParts<D, L, P, I> = Fitted<(GenerativeModel<D, L, P>, I)>;

/// Factor of the learning rate on a plateau of the held-out J.
// About half a decade per cut: two cuts leave 0.09 of the learning rate, the three of `of_steps`
// 0.027.
pub const PLATEAU_FACTOR: f64 = 0.3;

/// Monte Carlo samples, over the held-out observations, of each evaluation of their J.
const HELD_OUT_SAMPLES: usize = 200;

/// The share of all steps without improvement of the held-out J before the learning rate is cut: 600
/// of 12,000. A small table has one to three steps in an epoch, and 20 epochs are soon over.
const PATIENCE_SHARE: usize = 20;

/// Number of rejected steps after which a fit ends as diverged.
// Each rejection halves the learning rate: eight leave 1/256 of it. A fit that still diverges has
// another cause than the step size.
pub const MAX_REJECTIONS: usize = 8;

impl Default for StochasticGradient {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch_size: 64,
            learning_rate: 2e-3,
            schedule: LearningRateSchedule::Cosine,
            warm_up_steps: 0,
            adam: AdamSettings::default(),
            clip_norm: None,
            weight_decay: 0.0,
            kl_weight: KlWeight::default(),
            held_out: 0.0,
            patience: 20,
            plateau_cuts: 2,
            shuffle: true,
        }
    }
}

/// Diagonal preconditioner of the optimiser: the scale in which each parameter moves. The model
/// itself is unchanged.
///
/// An empty vector means a scale of 1 for all parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Preconditioner<T> {
    /// Scales of the decoder's parameters.
    pub decoder: Vec<T>,
    /// Scales of the inference parameters.
    pub inference: Vec<T>,
}

impl<T> Default for Preconditioner<T> {
    fn default() -> Self {
        Self { decoder: Vec::new(), inference: Vec::new() }
    }
}

impl<T: Real> Preconditioner<T> {
    /// Returns scales for a decoder whose parameters are stored by columns with one row per
    /// variable, like those of [`Linear`](crate::map::Linear): row i moves in units of standard
    /// deviation i, or of `least` if that is larger.
    pub fn of_decoder_rows(
        decoder: &impl Parameters<T>,
        deviations: &nalgebra::DVector<T>,
        least: T,
    ) -> Self {
        let scales = deviations.iter().map(|&s| if s > least { s } else { least }).cycle();
        Self { decoder: scales.take(decoder.parameters().len()).collect(), inference: Vec::new() }
    }
}

impl StochasticGradient {
    /// Returns settings for about `steps` steps on n observations, of which a fifth are held out (a
    /// tenth from 1,000 on, none below 20). A small data set has few batches per epoch and gets more
    /// epochs; there are at least 10. The learning rate is 10⁻² and is cut up to three times when
    /// the held-out J has not risen for a twentieth of the steps and 20 epochs (after two cuts the
    /// parameters still wander), which suits maps of some ten to some hundred units.
    pub fn of_steps(steps: usize, observations: usize) -> Self {
        let default = Self::default();
        let held_out = match observations {
            0..20 => 0.0,
            20..1_000 => 0.2,
            _ => 0.1,
        };
        let batches = observations.div_ceil(default.batch_size).max(1);
        Self {
            epochs: (steps / batches).max(10),
            learning_rate: 1e-2,
            held_out,
            patience: (steps / PATIENCE_SHARE).div_ceil(batches).max(20),
            plateau_cuts: 3,
            ..default
        }
    }

    /// Validates the settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for zero epochs, a batch size of 0, a learning rate or clipping
    /// norm that is not positive and finite, a weight of the divergence that is negative, or a weight
    /// decay or held-out fraction outside \[0, 1).
    pub fn check(&self) -> Result<()> {
        let positive = |name, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(Error::InvalidParameter { name, value, must: "positive and finite" })
            }
        };
        for (name, value) in
            [("the number of epochs", self.epochs), ("the batch size", self.batch_size)]
        {
            if value == 0 {
                return Err(Error::InvalidParameter { name, value: 0.0, must: "at least 1" });
            }
        }
        positive("the learning rate", self.learning_rate)?;
        self.clip_norm.map_or(Ok(()), |norm| positive("the largest norm of the gradient", norm))?;
        self.kl_weight.check()?;
        if !(0.0..1.0).contains(&self.weight_decay) {
            return Err(Error::InvalidParameter {
                name: "the weight decay",
                value: self.weight_decay,
                must: "at least 0 and below 1",
            });
        }
        if !(0.0..1.0).contains(&self.held_out) {
            return Err(Error::InvalidParameter {
                name: "the held-out part",
                value: self.held_out,
                must: "at least 0 and below 1",
            });
        }
        self.adam.check()
    }

    /// Maximises `objective` over θ and φ, starting from the given ones.
    ///
    /// The [trace](Fitted::trace) holds J per observation: at the initialisation, then the mean
    /// over the batches of each epoch; the last entry is J of all observations at the returned θ
    /// and φ. Memory: six numbers per parameter, and the activations of one batch.
    ///
    /// A fit never ends below its initialisation: where J of all observations, or J of the held-out
    /// observations by more than its standard error, has not risen, the initial θ and φ are returned
    /// and the fit ends as [`StopReason::NoImprovement`].
    ///
    /// # Errors
    /// As [`check`](Self::check); errors of the objective; [`Error::ObjectiveAtStart`] if J is not
    /// finite at the initialisation; [`Error::TooFewObservations`] if a fraction of a single
    /// observation is to be held out.
    pub fn fit<'a, T, D, L, P, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L, P>,
        inference: I,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<FittedParts<D, L, P, I>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        P: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
    {
        let x = x.into_observations()?;
        self.fit_preconditioned(
            objective,
            model,
            inference,
            x,
            &Preconditioner::default(),
            rng,
            observer,
        )
    }

    /// [`fit`](Self::fit) with a diagonal preconditioner: each parameter moves in units of its own
    /// scale.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`Error::DimensionMismatch`] and [`Error::InvalidParameter`] for
    /// scales that do not match the parameters.
    #[allow(clippy::too_many_arguments)] // the components of a model, and the observer
    pub fn fit_preconditioned<T, D, L, P, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L, P>,
        inference: I,
        x: Observations<'_, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<FittedParts<D, L, P, I>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        P: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
    {
        self.fit_from(objective, model, inference, x, preconditioner, rng, observer, None)
    }

    /// [`fit_preconditioned`](Self::fit_preconditioned) with checkpoints, from which a fit that was
    /// interrupted continues.
    ///
    /// The random numbers of each epoch are derived from one seed, which is drawn from `rng`; those
    /// of a fit without checkpoints are drawn from `rng` itself, and differ. A fit that continues
    /// ends with the bits of one that was not interrupted; the model and the inference given to it
    /// are those of its start.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`Error::CheckpointMismatch`] for a checkpoint of another fit; errors
    /// of the function that keeps the checkpoints.
    #[allow(clippy::too_many_arguments)] // the components of a model, the observer, and checkpoints
    pub fn fit_with_checkpoints<T, D, L, P, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L, P>,
        inference: I,
        x: Observations<'_, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
        checkpoints: Checkpoints<'_, T>,
    ) -> Result<FittedParts<D, L, P, I>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        P: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
    {
        let checkpoints = Some(checkpoints);
        self.fit_from(objective, model, inference, x, preconditioner, rng, observer, checkpoints)
    }

    #[allow(clippy::too_many_arguments)]
    fn fit_from<T, D, L, P, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L, P>,
        inference: I,
        x: Observations<'_, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
        mut checkpoints: Option<Checkpoints<'_, T>>,
    ) -> Result<FittedParts<D, L, P, I>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        P: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
    {
        self.check()?;
        let mut from = None;
        let mut origin = None;
        if let Some(checkpoints) = &mut checkpoints {
            let own = Origin::new(self, &checkpoints.label, x);
            from = checkpoints.take(&own)?;
            origin = Some(own);
        }
        // With checkpoints, each epoch has a generator of its own, so that no state of a generator
        // has to be kept.
        let drawn = if checkpoints.is_some() { rng.random() } else { 0 };
        let seed = from.as_ref().map_or(drawn, |from| from.progress.seed);
        let mut of_start = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rng: &mut dyn Rng = if checkpoints.is_some() { &mut of_start } else { rng };
        // The whole fit is one fork–join scope: a step forks some twenty times, and workers that
        // were parked between forks would have to be woken each time.
        fork_join_scope(|| {
            let parts = split(x, self.held_out, rng)?;
            let (training_set, held_out) = match &parts {
                Some((training, held_out)) => {
                    (Observations::trusted(training.as_view(), training.ncols()), Some(held_out))
                }
                None => (x.of_population(x.len()), None),
            };
            let held_out = held_out.map(|part| Observations::trusted(part.as_view(), part.ncols()));
            let mut training = Training::new(
                self,
                objective,
                model,
                inference,
                training_set,
                preconditioner,
                rng,
            )?;
            // The held-out observations may be few: their J is a mean over several samples.
            let count = training.parameter_count();
            let repeats = held_out.map_or(1, |part| {
                // At most as much work as the epoch itself, whose steps have a backward pass.
                let affordable = (3 * training_set.len()).div_ceil(2 * part.len());
                repeats(part.len(), HELD_OUT_SAMPLES, count).min(affordable)
            });
            let mut trace = Trace::new();
            let mut at = match from {
                Some(from) => {
                    trace = trace_of(&from);
                    training.continue_from(from)?
                }
                None => {
                    let start = training.evaluate(training_set, 1)?;
                    if !start.is_finite() {
                        return Err(Error::ObjectiveAtStart { value: start });
                    }
                    trace.push(start);
                    let best = match held_out {
                        Some(part) => training.evaluate(part, repeats)?,
                        None => start,
                    };
                    if held_out.is_some() {
                        trace.push_held_out(best);
                    }
                    training.start_at(seed, start, best)
                }
            };
            // Reserved here, so that an epoch allocates nothing.
            trace.reserve(self.epochs + 1);
            let mut stop = StopReason::IterationLimit;
            for epoch in at.epoch + 1..=self.epochs {
                // At the start of an epoch, so that a fit that continues ends here as well. Without
                // held-out observations `since_best` stays 0.
                if at.since_best > self.patience {
                    stop = StopReason::EarlyStop;
                    break;
                }
                let mut of_epoch =
                    Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(epoch as u64));
                let rng: &mut dyn Rng =
                    if checkpoints.is_some() { &mut of_epoch } else { &mut *rng };
                let Some(value) = training.epoch(epoch - 1, &mut trace, rng)? else {
                    stop = StopReason::Diverged;
                    break;
                };
                trace.push(value);
                at.epoch = epoch;
                let mut on_held_out = None;
                if let Some(part) = held_out {
                    let value = training.evaluate(part, repeats)?;
                    on_held_out = Some(value);
                    trace.push_held_out(if value.is_finite() { value } else { f64::NEG_INFINITY });
                    // J on the training set guards the choice: one step of Adam can move the q of a
                    // single training observation that nothing held out resembles (a pixel that is
                    // set once) to an extreme variance, while the held-out J still rises. Such
                    // parameters lose more than half of what the training J had gained, and do not
                    // become the best.
                    let on_training = if value > at.best {
                        training.evaluate(training_set, 1)?
                    } else {
                        f64::NAN
                    };
                    if on_training >= 0.5 * (at.start + at.best_on_training) {
                        (at.best, at.best_on_training, at.since_best) = (value, on_training, 0);
                        training.keep_best();
                    } else {
                        at.since_best += 1;
                    }
                }
                let progress = EpochProgress {
                    epoch,
                    objective: value,
                    held_out: on_held_out,
                    learning_rate: training.learning_rate(),
                };
                let interrupted = observer.observe_epoch(&progress).is_break();
                if at.since_best > self.patience && at.cuts < self.plateau_cuts {
                    training.back_to_best(PLATEAU_FACTOR);
                    (at.since_best, at.cuts) = (0, at.cuts + 1);
                }
                if let (Some(checkpoints), Some(origin)) = (&mut checkpoints, &origin) {
                    training.settle();
                    if interrupted || epoch.is_multiple_of(checkpoints.every) {
                        let checkpoint = training.checkpoint(&mut at, &trace, origin.clone());
                        (checkpoints.keep)(&checkpoint)?;
                    }
                }
                if interrupted {
                    stop = StopReason::Interrupted;
                    break;
                }
            }
            if stop == StopReason::IterationLimit && at.since_best > self.patience {
                stop = StopReason::EarlyStop;
            }
            let start = at.start;
            let all = x.of_population(x.len());
            let (value, model, inference, better) = training.finish(all, held_out, start)?;
            trace.replace_last(value);
            // What the fit ended at is reported in place of the iteration limit or early stopping;
            // divergence and an observer take precedence.
            let ended_by_itself =
                matches!(stop, StopReason::IterationLimit | StopReason::EarlyStop);
            let stop = match (ended_by_itself, better) {
                (true, false) => StopReason::NoImprovement,
                (true, true) if model.likelihood.rests_on_floor() => StopReason::Floor,
                _ => stop,
            };
            Ok(Fitted::new((model, inference), trace, stop))
        })
    }
}

//! Stochastic gradient ascent of J(θ, φ) on mini-batches.

mod adam;
mod schedule;
#[cfg(test)]
mod subnormal_test;
mod training;

pub use adam::{Adam, AdamSettings};
pub use schedule::LearningRateSchedule;

use super::{Fitted, Observer, StopReason, Trace};
use crate::linalg::parallel::fork_join_scope;
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::DifferentiableObjective;
use crate::{Error, IntoObservations, Observations, Real, Result};
use rand::Rng;
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
    /// norm that is not positive and finite, or a held-out fraction outside \[0, 1).
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
    pub fn fit<'a, T, D, L, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L>,
        inference: I,
        x: impl IntoObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<(GenerativeModel<D, L>, I)>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L>, I>,
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
    pub fn fit_preconditioned<T, D, L, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L>,
        inference: I,
        x: Observations<'_, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<(GenerativeModel<D, L>, I)>>
    where
        T: Real,
        D: Parameters<T>,
        L: Parameters<T>,
        I: Parameters<T>,
        J: DifferentiableObjective<T, GenerativeModel<D, L>, I>,
    {
        self.check()?;
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
            let mut trace = Trace::new();
            // Reserved here, so that an epoch allocates nothing.
            trace.reserve(self.epochs + 1);
            let start = training.evaluate(training_set, 1)?;
            if !start.is_finite() {
                return Err(Error::ObjectiveAtStart { value: start });
            }
            trace.push(start);
            // The held-out observations may be few: their J is a mean over several samples.
            let count = training.parameter_count();
            let repeats = held_out.map_or(1, |part| {
                // At most as much work as the epoch itself, whose steps have a backward pass.
                let affordable = (3 * training_set.len()).div_ceil(2 * part.len());
                repeats(part.len(), HELD_OUT_SAMPLES, count).min(affordable)
            });
            let mut best = match held_out {
                Some(part) => training.evaluate(part, repeats)?,
                None => start,
            };
            if held_out.is_some() {
                trace.push_held_out(best);
            }
            let mut best_on_training = start;
            let (mut since_best, mut cuts) = (0, 0);
            let mut stop = StopReason::IterationLimit;
            for epoch in 1..=self.epochs {
                let Some(value) = training.epoch(epoch - 1, &mut trace, rng)? else {
                    stop = StopReason::Diverged;
                    break;
                };
                trace.push(value);
                if let Some(part) = held_out {
                    let value = training.evaluate(part, repeats)?;
                    trace.push_held_out(if value.is_finite() { value } else { f64::NEG_INFINITY });
                    // J on the training set guards the choice: one step of Adam can move the q of a
                    // single training observation that nothing held out resembles (a pixel that is
                    // set once) to an extreme variance, while the held-out J still rises. Such
                    // parameters lose more than half of what the training J had gained, and do not
                    // become the best.
                    let on_training =
                        if value > best { training.evaluate(training_set, 1)? } else { f64::NAN };
                    if on_training >= 0.5 * (start + best_on_training) {
                        (best, best_on_training, since_best) = (value, on_training, 0);
                        training.keep_best();
                    } else {
                        since_best += 1;
                    }
                }
                if observer.observe(epoch, value).is_break() {
                    stop = StopReason::Interrupted;
                    break;
                }
                if held_out.is_some() && since_best > self.patience {
                    if cuts == self.plateau_cuts {
                        stop = StopReason::EarlyStop;
                        break;
                    }
                    training.back_to_best(PLATEAU_FACTOR);
                    (since_best, cuts) = (0, cuts + 1);
                }
            }
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

//! Gradient ascent on J(θ, φ) by mini-batches.

mod adam;
mod schedule;
mod training;

pub use adam::{Adam, AdamSettings};
pub use schedule::LearningRateSchedule;

use super::{Fitted, Observer, StopReason, Trace};
use crate::linalg::parallel::fork_join_scope;
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::DifferentiableObjective;
use crate::{Error, Observations, Real, Result};
use rand::Rng;
use training::{Training, split};

/// Ascent on J(θ, φ) with [`Adam`], by mini-batches drawn anew each epoch; θ and φ move together.
///
/// Whatever has a gradient can be fitted: the amortised models, the deep ones, and a table of φ_i
/// ([`PerPoint`](crate::inference::PerPoint): a batch must then hold all observations, as its rows
/// belong to theirs). Each batch stands for the whole population (its J is scaled by N/n, the last
/// smaller batch like the others).
///
/// The fit never returns a NaN: where J or its gradient is not finite it goes back to the last good
/// parameters, with half the learning rate ([`Trace::rejected_steps`] tells), and after
/// [`MAX_REJECTIONS`] times it ends as [`StopReason::Diverged`].
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
    /// The most passes over the data; at least 1.
    pub epochs: usize,
    /// Observations in a batch; at least 1, and more than there are means all of them.
    pub batch_size: usize,
    /// The learning rate at its highest.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: LearningRateSchedule,
    /// Steps in which it rises from 0 to its highest.
    pub warm_up_steps: usize,
    /// The settings of Adam.
    pub adam: AdamSettings,
    /// The longest gradient of J *per observation* that is followed as it is; a longer one is
    /// shortened to this norm.
    pub clip_norm: Option<f64>,
    /// The part of the observations that is held out, drawn at random; at least 0 and below 1.
    pub held_out: f64,
    /// Epochs without a better held-out J that are borne. Then the fit goes back to the best θ and
    /// φ, and on from there with the learning rate cut to [`PLATEAU_FACTOR`] of what it was; after
    /// the last cut it stops early. The best are returned: those with the highest held-out J,
    /// unless they cost the training set half of what its J had risen.
    pub patience: usize,
    /// How often the learning rate is cut before the fit stops early.
    pub plateau_cuts: usize,
    /// Whether each epoch takes the observations in a new order.
    pub shuffle: bool,
}

/// What a cut leaves of the learning rate, once held-out J no longer rises.
pub const PLATEAU_FACTOR: f64 = 0.3;

/// How often a fit goes back to its last good parameters before it gives up.
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

/// The scale in which each parameter moves: a diagonal preconditioner inside the optimiser, which
/// leaves the model as it is.
///
/// An empty vector means 1 throughout.
#[derive(Debug, Clone, PartialEq)]
pub struct Preconditioner<T> {
    /// Scales of the decoder's parameters.
    pub decoder: Vec<T>,
    /// Scales of the parameters of the inference.
    pub inference: Vec<T>,
}

impl<T> Default for Preconditioner<T> {
    fn default() -> Self {
        Self { decoder: Vec::new(), inference: Vec::new() }
    }
}

impl<T: Real> Preconditioner<T> {
    /// Scales for a decoder whose parameters stand by columns with one row for each variable, as
    /// [`Linear`](crate::map::Linear)'s do: row i moves in units of deviation i; where that is 0,
    /// of `least`.
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
    /// Settings for about `steps` steps on n observations, a tenth of them held out where there are
    /// at least 20: a small table has few batches in an epoch and gets more epochs (from 10 to
    /// 1,000). The rate is 10⁻² and is cut up to three times where held-out J no longer rises
    /// (after two the parameters still wander), which suits maps of some ten to some hundred units.
    pub fn of_steps(steps: usize, observations: usize) -> Self {
        let default = Self::default();
        let epochs = steps / observations.div_ceil(default.batch_size).max(1);
        let held_out = if observations >= 20 { 0.1 } else { 0.0 };
        Self {
            epochs: epochs.clamp(10, 1_000),
            learning_rate: 1e-2,
            held_out,
            patience: 20,
            plateau_cuts: 3,
            ..default
        }
    }

    /// Refuses settings without a meaning.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for zero epochs, a batch of 0, a learning rate or a norm that is
    /// not positive and finite, a held-out part outside \[0, 1).
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

    /// Raises `objective` from the given θ and φ.
    ///
    /// The [trace](Fitted::trace) holds J per observation: at the start, then the mean over the
    /// batches of each epoch; the last entry is J at the θ and φ that are returned. Memory: five
    /// numbers for each parameter, and the activations of one batch.
    ///
    /// # Errors
    /// As [`check`](Self::check); those of the objective; [`Error::ObjectiveAtStart`] when J is not
    /// finite to begin with; [`Error::TooFewObservations`] when a part of one observation is to be
    /// held out.
    pub fn fit<T, D, L, I, J>(
        &self,
        objective: &J,
        model: GenerativeModel<D, L>,
        inference: I,
        x: Observations<'_, T>,
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

    /// The same, with parameters that move in units of their own.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`Error::DimensionMismatch`] and [`Error::InvalidParameter`] for
    /// scales that do not fit the parameters.
    #[allow(clippy::too_many_arguments)] // the slots of a step, and who watches
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
            trace.reserve(self.epochs + 1);
            let start = training.evaluate(training_set, false)?;
            if !start.is_finite() {
                return Err(Error::ObjectiveAtStart { value: start });
            }
            trace.push(start);
            let mut best = match held_out {
                Some(part) => training.evaluate(part, false)?,
                None => start,
            };
            if held_out.is_some() {
                trace.push_held_out(best);
            }
            training.keep_best();
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
                    let value = training.evaluate(part, false)?;
                    trace.push_held_out(if value.is_finite() { value } else { f64::MIN });
                    // A step may carry the q of a single observation anywhere, and what is held out
                    // does not notice.
                    let on_training = if value > best {
                        training.evaluate(training_set, false)?
                    } else {
                        f64::NAN
                    };
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
            let (value, model, inference) = training.finish(held_out.is_some(), start)?;
            trace.replace_last(value);
            let ended_by_itself =
                matches!(stop, StopReason::IterationLimit | StopReason::EarlyStop);
            let stop = if ended_by_itself && model.likelihood.rests_on_floor() {
                StopReason::Floor
            } else {
                stop
            };
            Ok(Fitted { model: (model, inference), trace, stop })
        })
    }
}

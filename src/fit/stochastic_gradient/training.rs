//! State of a stochastic gradient fit: the batch, the gradient, the optimiser, and the parameters
//! to return to.

use super::checkpoint::{Checkpoint, Origin, Progress};
use super::{Adam, MAX_REJECTIONS, Preconditioner, StochasticGradient};
use crate::data::expect;
use crate::fit::Trace;
use crate::likelihood::is_missing;
use crate::linalg::parallel::sum_over;
use crate::linalg::vector::squared_norms_into;
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::{DifferentiableObjective, Gradient};
use crate::{Error, Observations, Real, Result};
use nalgebra::DMatrix;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

pub(super) struct Training<
    'a,
    T: Real,
    D,
    L,
    P,
    I,
    J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
> {
    settings: &'a StochasticGradient,
    objective: &'a J,
    model: GenerativeModel<D, L, P>,
    inference: I,
    x: Observations<'a, T>,
    order: Vec<usize>,
    batch: DMatrix<T>,
    workspace: J::Workspace,
    gradient: Gradient<T>,
    likelihood_gradient: Vec<T>, // summed over one evaluation
    adam: [Adam<T>; 4],          // decoder, likelihood, prior, inference
    initial: Vec<T>,
    good: Vec<T>, // parameters at which J and its gradient were finite
    best: Vec<T>, // by the held-out observations
    steps: usize,
    rate_factor: f64,
    last_rate: f64,
    noise_seed: u64,
    // The observed entries of each variable of a batch, in units of the population; empty for
    // complete data.
    counts: Vec<T>,
}

/// J per observation, the model and the inference, and whether they are better than the initial
/// ones.
type Finished<D, L, P, I> = (f64, GenerativeModel<D, L, P>, I, bool);

/// Monte Carlo samples, over all observations, of J at the end of a fit: a standard deviation of
/// ln p(x|z) of 3 nats then leaves 0.02 nats per observation.
const FINAL_SAMPLES: usize = 20_000;

/// Steps over which the closed-form noise variance is averaged where an epoch has fewer, but at
/// most a twentieth of the fit: it has to fall from that of the first steps.
const NOISE_STEPS: usize = 100;

/// Standard errors that the gain of the held-out J must exceed: it is the largest of many. On
/// fifths of wine, iris, penguins and tobamovirus kept for testing, with three kinds of noise and
/// family and six seeds, 5 of 72 fits lost more than 0.1 nats per observation against their
/// initialisation with 1 standard error of a tenth held out, and none with 1.5 of a fifth.
const GAIN_ERRORS: f64 = 1.5;

/// Held-out observations, at most, whose J is compared one by one at the end of a fit.
const COMPARED: usize = 1_000;

/// The number of estimates of J for n observations that have `samples` Monte Carlo samples in all,
/// or fewer for a large model.
pub(super) fn repeats(n: usize, samples: usize, parameters: usize) -> usize {
    let affordable = (LARGEST_WORK / (n * parameters).max(1)).max(4);
    samples.div_ceil(n.max(1)).min(200).min(affordable)
}

/// Multiply-adds, at most, of the forward passes of one estimate: some tenths of a second.
const LARGEST_WORK: usize = 1 << 30;

/// Whether the mean gain of J exceeds [`GAIN_ERRORS`] of its standard errors, and more for few
/// observations, whose standard error is itself uncertain; true without observations.
fn is_gain(after: &[f64], before: &[f64]) -> bool {
    let n = before.len() as f64;
    let gains = || after.iter().zip(before).map(|(after, before)| after - before);
    let mean = gains().sum::<f64>() / n;
    let squares = gains().map(|gain| (gain - mean).powi(2)).sum::<f64>();
    // One observation has no standard error, and proves nothing.
    let factor = GAIN_ERRORS * (1.0 + 2.0 / (n - 1.0));
    before.is_empty() || (n > 1.0 && mean > factor * (squares / (n * (n - 1.0))).sqrt())
}

/// Splits the observations at random into a training set and a held-out set; `None` if nothing is
/// held out.
pub(super) fn split<T: Real>(
    x: Observations<'_, T>,
    held_out: f64,
    rng: &mut dyn Rng,
) -> Result<Option<(DMatrix<T>, DMatrix<T>)>> {
    if held_out == 0.0 {
        return Ok(None);
    }
    let n = x.len();
    if n < 2 {
        return Err(Error::TooFewObservations { actual: n, least: 2 });
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    // At least one observation on each side, whatever the fraction rounds to.
    let count = ((held_out * n as f64).round() as usize).clamp(1, n - 1);
    let (held_out, training) = order.split_at(count);
    Ok(Some((x.values().select_columns(training), x.values().select_columns(held_out))))
}

/// The sum of the squares of all entries, in double precision: in single precision the squares of
/// small entries would be subnormal.
fn sum_of_squares<T: Real>(slices: [&[T]; 2]) -> f64 {
    // Fixed chunks, reduced in a fixed tree, so that the sum does not depend on the threads.
    let of_slice = |slice: &[T]| {
        sum_over(slice, 1 << 14, slice.len(), &|_, part: &[T]| {
            let mut sum = [0.0];
            squared_norms_into(part, part.len(), &mut sum);
            sum[0]
        })
    };
    of_slice(slices[0]) + of_slice(slices[1])
}

impl<'a, T, D, L, P, I, J> Training<'a, T, D, L, P, I, J>
where
    T: Real,
    D: Parameters<T>,
    L: Parameters<T>,
    P: Parameters<T>,
    I: Parameters<T>,
    J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
{
    pub(super) fn new(
        settings: &'a StochasticGradient,
        objective: &'a J,
        model: GenerativeModel<D, L, P>,
        inference: I,
        x: Observations<'a, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let counts = [
            model.decoder.parameters().len(),
            model.likelihood.parameters().len(),
            model.prior.parameters().len(),
            inference.parameters().len(),
        ];
        let state = |count| Adam::new(count, settings.adam);
        let adam = [
            state(counts[0])?.with_scales(preconditioner.decoder.clone())?,
            state(counts[1])?,
            state(counts[2])?,
            state(counts[3])?.with_scales(preconditioner.inference.clone())?,
        ];
        let mut training = Self {
            settings,
            objective,
            model,
            inference,
            x,
            order: (0..x.len()).collect(),
            batch: DMatrix::zeros(0, 0),
            workspace: J::Workspace::default(),
            gradient: Gradient::default(),
            likelihood_gradient: vec![T::zero(); counts[1]],
            adam,
            initial: vec![T::zero(); counts.iter().sum()],
            good: vec![T::zero(); counts.iter().sum()],
            best: vec![T::zero(); counts.iter().sum()],
            steps: 0,
            rate_factor: 1.0,
            last_rate: settings.learning_rate,
            // Drawn once: every evaluation then uses the same Monte Carlo samples (common random
            // numbers), so that two values of J are comparable.
            noise_seed: rng.random(),
            counts: if x.values().iter().any(|&value| is_missing(value)) {
                vec![T::zero(); x.data_dim()]
            } else {
                Vec::new()
            },
        };
        training.keep_good();
        training.initial.copy_from_slice(&training.good);
        training.best.copy_from_slice(&training.good);
        Ok(training)
    }

    /// All numbers that one step passes on to the next.
    #[cfg(test)]
    pub(super) fn state(&self) -> impl std::fmt::Debug
    where
        J::Workspace: std::fmt::Debug,
    {
        (&self.adam, &self.gradient, &self.workspace, &self.good, &self.batch)
    }

    /// The counters of a fit at its start, with J of the training set and of the held-out part.
    pub(super) fn start_at(&self, seed: u64, start: f64, best: f64) -> Progress {
        Progress {
            epoch: 0,
            seed,
            noise_seed: self.noise_seed,
            rate_factor: self.rate_factor,
            rejected: 0,
            start,
            best,
            best_on_training: start,
            since_best: 0,
            cuts: 0,
        }
    }

    /// Sets the state to that of a checkpoint and returns its counters.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for a checkpoint of another model.
    pub(super) fn continue_from(&mut self, from: Checkpoint<T>) -> Result<Progress> {
        let what = "parameters of the checkpoint";
        for parameters in &from.parameters {
            expect(what, self.initial.len(), parameters.len())?;
        }
        expect("observations of the checkpoint", self.order.len(), from.order.len())?;
        let [current, initial, good, best] = from.parameters;
        (self.initial, self.good, self.best) = (initial, good, best);
        Self::restore(&current, &mut self.model, &mut self.inference);
        self.settle();
        self.order = from.order;
        let [mut first, mut second] = from.moments.map(|all| all.into_iter());
        for (adam, powers) in self.adam.iter_mut().zip(from.powers) {
            let count = adam.first_moment().len();
            let part = |all: &mut std::vec::IntoIter<T>| all.by_ref().take(count).collect();
            *adam = adam.clone().with_state(part(&mut first), part(&mut second), powers)?;
        }
        self.noise_seed = from.progress.noise_seed;
        self.rate_factor = from.progress.rate_factor;
        Ok(from.progress)
    }

    /// The state at the end of an epoch.
    pub(super) fn checkpoint(
        &self,
        at: &mut Progress,
        trace: &Trace,
        origin: Origin,
    ) -> Checkpoint<T> {
        (at.rate_factor, at.rejected) = (self.rate_factor, trace.rejected_steps());
        let mut current = self.good.clone();
        Self::store(&mut current, &self.model, &self.inference);
        let moments = |of: fn(&Adam<T>) -> &[T]| {
            self.adam.iter().flat_map(|adam| of(adam).iter().copied()).collect()
        };
        Checkpoint {
            parameters: [current, self.initial.clone(), self.good.clone(), self.best.clone()],
            moments: [moments(Adam::first_moment), moments(Adam::second_moment)],
            powers: std::array::from_fn(|i| self.adam[i].powers()),
            order: self.order.clone(),
            progress: *at,
            values: trace.values().to_vec(),
            held_out: trace.held_out().to_vec(),
            origin,
        }
    }

    /// Makes the components functions of their parameters alone, as they are after a checkpoint was
    /// read.
    pub(super) fn settle(&mut self) {
        self.model.decoder.settle();
        self.model.likelihood.settle();
        self.model.prior.settle();
        self.inference.settle();
    }

    /// The learning rate of the last step.
    pub(super) fn learning_rate(&self) -> f64 {
        self.last_rate
    }

    /// The number of parameters of model and inference.
    pub(super) fn parameter_count(&self) -> usize {
        self.best.len()
    }

    fn batches(&self) -> usize {
        self.x.len().div_ceil(self.settings.batch_size.min(self.x.len()))
    }

    /// Runs one epoch; returns J per observation, averaged over the batches while they were trained
    /// on. `None` once the maximum number of rejections is reached.
    pub(super) fn epoch(
        &mut self,
        epoch: usize,
        trace: &mut Trace,
        rng: &mut dyn Rng,
    ) -> Result<Option<f64>> {
        loop {
            if let Some(value) = self.pass(epoch, rng)? {
                return Ok(Some(value));
            }
            trace.reject();
            Self::restore(&self.good, &mut self.model, &mut self.inference);
            if trace.rejected_steps() >= MAX_REJECTIONS {
                return Ok(None);
            }
            // The moments hold the gradient that led to the failure.
            self.adam.iter_mut().for_each(Adam::reset);
            self.rate_factor *= 0.5;
        }
    }

    fn pass(&mut self, epoch: usize, rng: &mut dyn Rng) -> Result<Option<f64>> {
        let n = self.x.len();
        let size = self.settings.batch_size.min(n);
        let whole = size == n;
        // A batch of all observations is used in place: local variational parameters need their
        // observations in order, and a copy is saved.
        if self.settings.shuffle && !whole {
            self.order.shuffle(rng);
        }
        // Set, not counted: an epoch that is repeated after a rejection has the place in the
        // schedule that it had before.
        self.steps = epoch * self.batches();
        let kl_weight = self.settings.kl_weight.at(epoch);
        let mut sum = 0.0;
        for start in (0..n).step_by(size) {
            let count = size.min(n - start);
            if !self.counts.is_empty() {
                self.count_observed(start..start + count);
            }
            let value = if whole {
                self.objective.value_and_weighted_gradient(
                    kl_weight,
                    &self.model,
                    &self.inference,
                    self.x,
                    rng,
                    &mut self.workspace,
                    &mut self.gradient,
                )?
            } else {
                let batch = self
                    .x
                    .gather(&self.order[start..start + count], &mut self.batch)?
                    .of_population(n);
                self.objective.value_and_weighted_gradient(
                    kl_weight,
                    &self.model,
                    &self.inference,
                    batch,
                    rng,
                    &mut self.workspace,
                    &mut self.gradient,
                )?
            };
            if !value.is_finite() {
                return Ok(None);
            }
            if start == 0 {
                // J was finite at these parameters. If its gradient is not, they are still the ones
                // to return to.
                self.keep_good();
            }
            sum += value.as_f64() * count as f64 / n as f64;
            if !self.step() {
                return Ok(None);
            }
        }
        Ok(Some(sum / n as f64))
    }

    /// Counts the observed entries of the observations at these places of the order.
    fn count_observed(&mut self, places: std::ops::Range<usize>) {
        let scale = T::of_usize(self.x.len()) / T::of_usize(places.len());
        self.counts.fill(T::zero());
        for &i in &self.order[places] {
            for (count, &value) in self.counts.iter_mut().zip(self.x.values().column(i).iter()) {
                if !is_missing(value) {
                    *count += scale;
                }
            }
        }
    }

    /// Takes one optimiser step along the current gradient; returns `false` if the gradient is not
    /// finite.
    fn step(&mut self) -> bool {
        // Weight of a running mean of the closed-form noise variance: over the last epoch, and at
        // first over all steps so far. An epoch may be one step, whose Monte Carlo samples alone
        // made J jump by tens of nats from step to step where there are few observations.
        let steps = self.settings.epochs * self.batches();
        let window = self.batches().max(NOISE_STEPS.min(steps / 20));
        let settings = self.settings;

        let warm = ((self.steps + 1) as f64 / settings.warm_up_steps.max(1) as f64).min(1.0);
        let rate = settings.learning_rate
            * self.rate_factor
            * warm
            * settings.schedule.factor(self.steps as f64 / steps as f64);
        self.last_rate = rate;
        let n = self.x.len();
        // Per observation: learning rate, ε and the clipping norm then mean the same for any n.
        let mut scale = T::one() / T::of_usize(n);
        if let Some(longest) = settings.clip_norm {
            let norm =
                scale.as_f64() * sum_of_squares([&self.gradient.theta, &self.gradient.phi]).sqrt();
            if norm > longest {
                scale *= T::of(longest / norm);
            }
        }
        let decoder_count = self.model.decoder.parameters().len();
        let (d_decoder, rest) = self.gradient.theta.split_at(decoder_count);
        let (d_likelihood, d_prior) =
            rest.split_at(self.model.likelihood.parameters().len().min(rest.len()));
        let [decoder, likelihood, prior, inference] = &mut self.adam;
        // The encoder first: its gradient was written last and is still in cache (0.99 of the time
        // of the reverse order).
        let mut squares =
            inference.step(self.inference.parameters_mut(), &self.gradient.phi, rate, scale);
        squares += decoder.step(self.model.decoder.parameters_mut(), d_decoder, rate, scale);
        squares += prior.step(self.model.prior.parameters_mut(), d_prior, rate, scale);
        if settings.weight_decay > 0.0 {
            let factor = T::of(1.0 - rate * settings.weight_decay);
            self.inference.parameters_mut().iter_mut().for_each(|w| *w *= factor);
            self.model.decoder.parameters_mut().iter_mut().for_each(|w| *w *= factor);
        }
        let weight = T::one() / T::of_usize((self.steps + 1).min(window));
        let entries = T::of_usize(n) * T::of_usize(self.x.data_dim());
        let at_optimum = if self.counts.is_empty() {
            self.model.likelihood.step_to_optimum(d_likelihood, entries, weight)
        } else {
            let likelihood = &mut self.model.likelihood;
            likelihood.step_to_optimum_of_observed(d_likelihood, &self.counts, weight)
        };
        if !at_optimum {
            squares +=
                likelihood.step(self.model.likelihood.parameters_mut(), d_likelihood, rate, scale);
        }
        self.steps += 1;
        squares.is_finite()
    }

    /// Returns J per observation, a mean over `repeats` estimates, with the same Monte Carlo samples
    /// at each call.
    pub(super) fn evaluate(&mut self, x: Observations<'_, T>, repeats: usize) -> Result<f64> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.noise_seed);
        let n = x.len();
        let size = self.settings.batch_size.min(n);
        let mut sum = 0.0;
        for start in (0..n).step_by(size).cycle().take(repeats * n.div_ceil(size)) {
            let part = x.columns(start, size.min(n - start))?;
            let buffers = (&mut self.workspace, &mut self.gradient);
            // J alone costs a third of J with its gradient.
            let (model, inference) = (&self.model, &self.inference);
            let value =
                self.objective.value(model, inference, part, &mut rng, buffers.0, buffers.1)?;
            sum += value.as_f64();
        }
        Ok(sum / (repeats * n) as f64)
    }

    /// Sets the likelihood parameters that have a closed-form optimum to it, by `repeats` estimates
    /// of the gradient over all observations of the training set.
    fn refit(&mut self, repeats: usize) -> Result<()> {
        // Other samples than those of `evaluate`: J would else be that of the samples to which the
        // noise variance was fitted, 5 nats too high for three observations.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.noise_seed.wrapping_add(1));
        let (x, n) = (self.x, self.x.len());
        let size = self.settings.batch_size.min(n);
        self.likelihood_gradient.fill(T::zero());
        for start in (0..n).step_by(size).cycle().take(repeats * n.div_ceil(size)) {
            let part = x.columns(start, size.min(n - start))?;
            let buffers = (&mut self.workspace, &mut self.gradient);
            let (model, inference) = (&self.model, &self.inference);
            self.objective
                .value_and_gradient(model, inference, part, &mut rng, buffers.0, buffers.1)?;
            let of_likelihood =
                self.gradient.theta.iter().skip(self.model.decoder.parameters().len());
            self.likelihood_gradient.iter_mut().zip(of_likelihood).for_each(|(sum, &d)| *sum += d);
        }
        let entries = T::of_usize(repeats) * T::of_usize(n) * T::of_usize(x.data_dim());
        if self.counts.is_empty() {
            self.model.likelihood.step_to_optimum(&self.likelihood_gradient, entries, T::one());
            return Ok(());
        }
        self.count_observed(0..n);
        self.counts.iter_mut().for_each(|count| *count *= T::of_usize(repeats));
        let likelihood = &mut self.model.likelihood;
        likelihood.step_to_optimum_of_observed(&self.likelihood_gradient, &self.counts, T::one());
        Ok(())
    }

    /// J of each of the first observations, each with Monte Carlo samples of its own that are the
    /// same at each call.
    fn each(&mut self, x: Observations<'_, T>, repeats: usize) -> Result<Vec<f64>> {
        let seed = self.noise_seed;
        (0..x.len().min(COMPARED))
            .map(|i| {
                self.noise_seed = seed.wrapping_add(i as u64 + 2);
                let value = self.evaluate(x.columns(i, 1)?, repeats);
                self.noise_seed = seed;
                value
            })
            .collect()
    }

    /// Returns J per observation of `all`, the model and the inference, and whether they are better
    /// than the initial ones, which are returned otherwise.
    ///
    /// The candidate is the best by the held-out observations, or else the last one at which J is
    /// finite; `start` is J of the training set at the initial ones. It must not lower J of all observations; and the mean gain of the held-out
    /// observations must exceed [`GAIN_ERRORS`] standard errors.
    pub(super) fn finish(
        mut self,
        all: Observations<'_, T>,
        held_out: Option<Observations<'_, T>>,
        start: f64,
    ) -> Result<Finished<D, L, P, I>> {
        let repeats = repeats(all.len(), FINAL_SAMPLES, self.parameter_count());
        if held_out.is_some() {
            Self::restore(&self.best, &mut self.model, &mut self.inference);
        }
        self.refit(repeats)?;
        let mut value = self.evaluate(all, repeats)?;
        if !value.is_finite() {
            Self::restore(&self.good, &mut self.model, &mut self.inference);
            value = self.evaluate(all, repeats)?;
        }
        let gained = match held_out {
            Some(part) => self.each(part, repeats)?,
            None => Vec::new(),
        };
        Self::store(&mut self.best, &self.model, &self.inference);
        Self::restore(&self.initial, &mut self.model, &mut self.inference);
        let initial = self.evaluate(all, repeats)?;
        let before = match held_out {
            Some(part) => self.each(part, repeats)?,
            None => Vec::new(),
        };
        let better = value >= initial && is_gain(&gained, &before);
        if better {
            Self::restore(&self.best, &mut self.model, &mut self.inference);
        } else {
            value = if initial.is_finite() { initial } else { start };
        }
        Ok((value, self.model, self.inference, better))
    }

    /// Returns to the best parameters and multiplies the learning rate by `cut`.
    pub(super) fn back_to_best(&mut self, cut: f64) {
        Self::restore(&self.best, &mut self.model, &mut self.inference);
        self.adam.iter_mut().for_each(Adam::reset);
        self.rate_factor *= cut;
    }

    pub(super) fn keep_best(&mut self) {
        Self::store(&mut self.best, &self.model, &self.inference);
    }

    fn keep_good(&mut self) {
        Self::store(&mut self.good, &self.model, &self.inference);
    }

    fn store(to: &mut [T], model: &GenerativeModel<D, L, P>, inference: &I) {
        let mut rest = to;
        for part in [
            model.decoder.parameters(),
            model.likelihood.parameters(),
            model.prior.parameters(),
            inference.parameters(),
        ] {
            let (own, after) = rest.split_at_mut(part.len());
            own.copy_from_slice(part);
            rest = after;
        }
    }

    fn restore(from: &[T], model: &mut GenerativeModel<D, L, P>, inference: &mut I) {
        let mut rest = from;
        for part in [
            model.decoder.parameters_mut(),
            model.likelihood.parameters_mut(),
            model.prior.parameters_mut(),
            inference.parameters_mut(),
        ] {
            let (own, after) = rest.split_at(part.len());
            part.copy_from_slice(own);
            rest = after;
        }
    }
}

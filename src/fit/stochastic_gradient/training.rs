//! State of a stochastic gradient fit: the batch, the gradient, the optimiser, and the parameters
//! to return to.

use super::{Adam, MAX_REJECTIONS, Preconditioner, StochasticGradient};
use crate::fit::Trace;
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
    I,
    J: DifferentiableObjective<T, GenerativeModel<D, L>, I>,
> {
    settings: &'a StochasticGradient,
    objective: &'a J,
    model: GenerativeModel<D, L>,
    inference: I,
    x: Observations<'a, T>,
    order: Vec<usize>,
    batch: DMatrix<T>,
    workspace: J::Workspace,
    gradient: Gradient<T>,
    likelihood_gradient: Vec<T>, // summed over one evaluation
    adam: [Adam<T>; 3],          // decoder, likelihood, inference
    good: Vec<T>,                // parameters at which J and its gradient were finite
    best: Vec<T>,
    steps: usize,
    rate_factor: f64,
    noise_seed: u64,
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

impl<'a, T, D, L, I, J> Training<'a, T, D, L, I, J>
where
    T: Real,
    D: Parameters<T>,
    L: Parameters<T>,
    I: Parameters<T>,
    J: DifferentiableObjective<T, GenerativeModel<D, L>, I>,
{
    pub(super) fn new(
        settings: &'a StochasticGradient,
        objective: &'a J,
        model: GenerativeModel<D, L>,
        inference: I,
        x: Observations<'a, T>,
        preconditioner: &Preconditioner<T>,
        rng: &mut dyn Rng,
    ) -> Result<Self> {
        let counts = [
            model.decoder.parameters().len(),
            model.likelihood.parameters().len(),
            inference.parameters().len(),
        ];
        let state = |count| Adam::new(count, settings.adam);
        let adam = [
            state(counts[0])?.with_scales(preconditioner.decoder.clone())?,
            state(counts[1])?,
            state(counts[2])?.with_scales(preconditioner.inference.clone())?,
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
            good: vec![T::zero(); counts.iter().sum()],
            best: vec![T::zero(); counts.iter().sum()],
            steps: 0,
            rate_factor: 1.0,
            // Drawn once: every evaluation then uses the same Monte Carlo samples (common random
            // numbers), so that two values of J are comparable.
            noise_seed: rng.random(),
        };
        training.keep_good();
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
        let mut sum = 0.0;
        for start in (0..n).step_by(size) {
            let count = size.min(n - start);
            let value = if whole {
                self.objective.value_and_gradient(
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
                self.objective.value_and_gradient(
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

    /// Takes one optimiser step along the current gradient; returns `false` if the gradient is not
    /// finite.
    fn step(&mut self) -> bool {
        let settings = self.settings;
        let total = settings.epochs * self.batches();
        let warm = ((self.steps + 1) as f64 / settings.warm_up_steps.max(1) as f64).min(1.0);
        let rate = settings.learning_rate
            * self.rate_factor
            * warm
            * settings.schedule.factor(self.steps as f64 / total as f64);
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
        let (d_decoder, d_likelihood) = self.gradient.theta.split_at(decoder_count);
        let [decoder, likelihood, inference] = &mut self.adam;
        // The encoder first: its gradient was written last and is still in cache (0.99 of the time
        // of the reverse order).
        let mut squares =
            inference.step(self.inference.parameters_mut(), &self.gradient.phi, rate, scale);
        squares += decoder.step(self.model.decoder.parameters_mut(), d_decoder, rate, scale);
        // Weight of a running mean of the closed-form noise variance: over the last epoch, and in
        // the first epoch over all steps so far.
        let weight = T::one()
            / T::of_usize(self.steps + 1).min(T::of_usize(n.div_ceil(settings.batch_size.min(n))));
        let entries = T::of_usize(n) * T::of_usize(self.x.data_dim());
        if !self.model.likelihood.step_to_optimum(d_likelihood, entries, weight) {
            squares +=
                likelihood.step(self.model.likelihood.parameters_mut(), d_likelihood, rate, scale);
        }
        self.steps += 1;
        squares.is_finite()
    }

    /// Returns J per observation, with the same Monte Carlo samples at each call. `refit` first
    /// sets the likelihood parameters with a closed-form optimum to it.
    pub(super) fn evaluate(&mut self, x: Observations<'_, T>, refit: bool) -> Result<f64> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.noise_seed);
        let n = x.len();
        let size = self.settings.batch_size.min(n);
        self.likelihood_gradient.fill(T::zero());
        let mut sum = 0.0;
        for start in (0..n).step_by(size) {
            let part = x.columns(start, size.min(n - start))?;
            let (objective, buffers) = (self.objective, (&mut self.workspace, &mut self.gradient));
            // J alone costs a third of J with its gradient.
            if !refit {
                sum += objective
                    .value(&self.model, &self.inference, part, &mut rng, buffers.0, buffers.1)?
                    .as_f64();
                continue;
            }
            sum += objective
                .value_and_gradient(
                    &self.model,
                    &self.inference,
                    part,
                    &mut rng,
                    buffers.0,
                    buffers.1,
                )?
                .as_f64();
            let of_likelihood =
                self.gradient.theta.iter().skip(self.model.decoder.parameters().len());
            self.likelihood_gradient.iter_mut().zip(of_likelihood).for_each(|(sum, &d)| *sum += d);
        }
        let entries = T::of_usize(n) * T::of_usize(x.data_dim());
        if refit
            && self.model.likelihood.step_to_optimum(&self.likelihood_gradient, entries, T::one())
        {
            // The optimum of the noise variance changes J: it is evaluated again.
            return self.evaluate(x, false);
        }
        Ok(sum / n as f64)
    }

    /// Returns J, the model and the inference: the best parameters if observations were held out,
    /// else the last ones if J is finite there and not below its initial value.
    pub(super) fn finish(
        mut self,
        held_out: bool,
        start: f64,
    ) -> Result<(f64, GenerativeModel<D, L>, I)> {
        let x = self.x;
        if held_out {
            Self::restore(&self.best, &mut self.model, &mut self.inference);
        }
        let mut value = self.evaluate(x, true)?;
        if !value.is_finite() {
            Self::restore(&self.good, &mut self.model, &mut self.inference);
            value = self.evaluate(x, false)?;
        }
        // Without held-out observations, `best` holds the initial parameters.
        if !value.is_finite() || (!held_out && value < start) {
            Self::restore(&self.best, &mut self.model, &mut self.inference);
            let again = self.evaluate(x, false)?;
            value = if again.is_finite() { again } else { start };
        }
        Ok((value, self.model, self.inference))
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

    fn store(to: &mut [T], model: &GenerativeModel<D, L>, inference: &I) {
        let mut rest = to;
        for part in
            [model.decoder.parameters(), model.likelihood.parameters(), inference.parameters()]
        {
            let (own, after) = rest.split_at_mut(part.len());
            own.copy_from_slice(part);
            rest = after;
        }
    }

    fn restore(from: &[T], model: &mut GenerativeModel<D, L>, inference: &mut I) {
        let mut rest = from;
        for part in [
            model.decoder.parameters_mut(),
            model.likelihood.parameters_mut(),
            inference.parameters_mut(),
        ] {
            let (own, after) = rest.split_at(part.len());
            part.copy_from_slice(own);
            rest = after;
        }
    }
}

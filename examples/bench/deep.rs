//! A training step of the variational autoencoder, with exactly the model of the programs that it
//! is compared with: ReLU, initial weights uniform in ±1/√fan_in, Adam with learning rate 1e-3, one
//! Monte Carlo sample, diagonal q.

use crate::case::{Arguments, DeepCase, deep};
use crate::measure::{Field, Resident, median, statistics};
use elbo::fit::{Adam, AdamSettings};
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::Bernoulli;
use elbo::linalg::parallel::fork_join_scope;
use elbo::map::{Activation, Initialization, Mlp, Parameters};
use elbo::model::GenerativeModel;
use elbo::objective::{DifferentiableObjective, Elbo, Gradient, Reparameterization};
use elbo::posterior::Diagonal;
use elbo::{Observations, Real};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use std::time::Instant;

type Inference<T> = Amortized<GaussianEncoder<Mlp<T>, Diagonal<T>>>;
type Workspace<T> = <Elbo<Reparameterization> as DifferentiableObjective<
    T,
    GenerativeModel<Mlp<T>, Bernoulli>,
    Inference<T>,
>>::Workspace;

/// The model, the optimiser and the buffers of a training run.
pub struct Trainer<'a, T: Real> {
    pub case: &'a DeepCase<T>,
    observations: Observations<'a, T>,
    model: GenerativeModel<Mlp<T>, Bernoulli>,
    inference: Inference<T>,
    adam: [Adam<T>; 2],
    workspace: Workspace<T>,
    gradient: Gradient<T>,
    batch: DMatrix<T>,
    rng: Xoshiro256PlusPlus,
}

impl<'a, T: Real> Trainer<'a, T> {
    pub fn new(case: &'a DeepCase<T>) -> Result<Self, String> {
        let text = |error: elbo::Error| error.to_string();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(case.seed);
        let (d, k) = (case.widths[0], case.latent_dim);
        let hidden = &case.widths[1..];
        let mut backwards = hidden.to_vec();
        backwards.reverse();
        let map = |inputs, outputs, hidden: &[usize]| {
            Mlp::<T>::builder(inputs, outputs)
                .hidden(hidden)
                .activation(Activation::Relu)
                .initialization(Initialization::UniformFanIn)
        };
        let encoder = map(d, 2 * k, hidden).build(&mut rng).map_err(text)?;
        let decoder = map(k, d, &backwards).build(&mut rng).map_err(text)?;
        let state = |count: usize| Adam::new(count, AdamSettings::default()).map_err(text);
        Ok(Self {
            adam: [state(decoder.parameters().len())?, state(encoder.parameters().len())?],
            model: GenerativeModel::new(decoder, Bernoulli),
            inference: Amortized::new(GaussianEncoder::new(encoder, k).map_err(text)?),
            workspace: Default::default(),
            gradient: Gradient::default(),
            batch: DMatrix::zeros(d, case.batch),
            observations: Observations::new(case.x.as_view()).map_err(text)?,
            rng,
            case,
        })
    }

    /// Makes one step on the chosen observations and returns −J of their batch.
    pub fn step(&mut self, chosen: &[usize]) -> Result<f64, elbo::Error> {
        // `gather` copies from validated observations, so that a batch is not validated again.
        let batch =
            self.observations.gather(chosen, &mut self.batch)?.of_population(self.case.batch);
        let objective = Elbo::reparameterized(1);
        let (model, inference, gradient) =
            (&mut self.model, &mut self.inference, &mut self.gradient);
        let value = objective.value_and_gradient(
            model,
            inference,
            batch,
            &mut self.rng,
            &mut self.workspace,
            gradient,
        )?;
        let per_observation = T::one() / T::of_usize(self.case.batch);
        // The encoder first: its gradient was written last and is still in cache (a step takes 0.99
        // of the time, docs/performance.md).
        self.adam[1].step(inference.parameters_mut(), &gradient.phi, 1e-3, per_observation);
        self.adam[0].step(model.decoder.parameters_mut(), &gradient.theta, 1e-3, per_observation);
        Ok(-value.as_f64())
    }
}

pub fn vae<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let case = deep::<T>(arguments)?;
    let mut trainer = Trainer::new(&case)?;
    let (n, d, size) = (trainer.case.x.ncols(), trainer.case.widths[0], trainer.case.batch);
    let per_epoch = (n / size).max(1);
    let wanted = match size {
        20 => 600,
        64 => 280,
        _ => 200,
    };
    let steps = per_epoch.min(wanted);
    let mut order: Vec<usize> = (0..n).collect();
    let (mut runs, mut losses) = (Vec::new(), Vec::new());
    let memory = Resident::start();
    let repeats = if d > 64 { 5 } else { 13 };
    for _ in 0..repeats {
        order.shuffle(&mut trainer.rng);
        let start = Instant::now();
        let mut sum = 0.0;
        fork_join_scope(|| {
            for chosen in order.chunks_exact(size).take(steps) {
                sum += trainer.step(chosen).map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        })?;
        runs.push(start.elapsed().as_secs_f64() / steps as f64);
        losses.push(sum / (steps * size) as f64);
    }
    let extra = memory.extra();
    // The first run warms up caches and threads and is not counted.
    let step = median(&runs[1..]);
    let mut fields = statistics(&runs[1..]);
    fields.extend([
        ("step_s", step),
        ("epoch_s", step * per_epoch as f64),
        ("loss_first", losses[1]),
        ("loss_last", losses[losses.len() - 1]),
        ("steps", (steps * (repeats - 1)) as f64),
        ("extra_mib", extra),
    ]);
    Ok(fields)
}

//! A training step of the variational autoencoder, the peers' model exactly: ReLU, uniform ±1/√fan_in, Adam at 1e-3, one sample, diagonal q.

use crate::case::{Arguments, deep};
use crate::measure::{Field, Resident, median, statistics};
use elbo::fit::{Adam, AdamSettings};
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::Bernoulli;
use elbo::map::{Activation, Initialization, Mlp, Parameters};
use elbo::model::GenerativeModel;
use elbo::objective::{DifferentiableObjective, Elbo, Gradient};
use elbo::posterior::Diagonal;
use elbo::{Observations, Real};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::time::Instant;

pub fn vae<T: Real>(arguments: &Arguments) -> Result<Vec<Field>, String> {
    let case = deep::<T>(arguments)?;
    let text = |error: elbo::Error| error.to_string();
    let rng = &mut StdRng::seed_from_u64(0);
    let (d, k) = (case.widths[0], case.latent_dim);
    let hidden = &case.widths[1..];
    let mut backwards = hidden.to_vec();
    backwards.reverse();
    let map = |inputs, outputs, hidden: &[usize]| {
        Mlp::<T>::builder(inputs, outputs).hidden(hidden).activation(Activation::Relu).initialization(Initialization::UniformFanIn)
    };
    let encoder = map(d, 2 * k, hidden).build(rng).map_err(text)?;
    let decoder = map(k, d, &backwards).build(rng).map_err(text)?;
    let mut model = GenerativeModel::new(decoder, Bernoulli);
    let mut inference = Amortized::new(GaussianEncoder::<_, Diagonal<T>>::new(encoder, k).map_err(text)?);
    let x = Observations::new(case.x.as_view()).map_err(text)?;
    let per_epoch = (x.len() / case.batch).max(1);
    let wanted = match case.batch {
        20 => 600,
        64 => 280,
        _ => 200,
    };
    let steps = per_epoch.min(wanted);
    let settings = AdamSettings::default();
    let mut adam_of_decoder = Adam::new(model.decoder.parameters().len(), settings).map_err(text)?;
    let mut adam_of_encoder = Adam::new(inference.parameters().len(), settings).map_err(text)?;
    let objective = Elbo::reparameterized(1);
    let mut workspace = Default::default();
    let mut gradient = Gradient::default();
    let mut batch = DMatrix::zeros(d, case.batch);
    let mut order: Vec<usize> = (0..x.len()).collect();
    let (mut runs, mut losses) = (Vec::new(), Vec::new());
    let memory = Resident::start();
    let repeats = if d > 64 { 5 } else { 13 };
    for _ in 0..repeats {
        order.shuffle(rng);
        let start = Instant::now();
        let mut sum = 0.0;
        for chosen in order.chunks_exact(case.batch).take(steps) {
            for (mut to, &from) in batch.column_iter_mut().zip(chosen) {
                to.copy_from(&x.values().column(from));
            }
            let part = Observations::new(batch.as_view()).map_err(text)?;
            sum -= objective.value_and_gradient(&model, &inference, part, rng, &mut workspace, &mut gradient).map_err(text)?.as_f64();
            let per_observation = T::one() / T::of_usize(case.batch);
            adam_of_decoder.step(model.decoder.parameters_mut(), &gradient.theta, 1e-3, per_observation);
            adam_of_encoder.step(inference.parameters_mut(), &gradient.phi, 1e-3, per_observation);
        }
        runs.push(start.elapsed().as_secs_f64() / steps as f64);
        losses.push(sum / (steps * case.batch) as f64);
    }
    let extra = memory.extra();
    // The first chunk warms up.
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

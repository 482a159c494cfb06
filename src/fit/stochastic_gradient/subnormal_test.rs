//! A long training leaves no subnormal number in its state. Such numbers slow every step by a factor
//! of up to ten, so that the fault grows with training and is invisible in a short benchmark. They
//! are counted here, in place of a measured time.

use super::training::Training;
use super::{Preconditioner, StochasticGradient};
use crate::fit::Trace;
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use crate::map::{Activation, Mlp};
use crate::model::GenerativeModel;
use crate::objective::{DifferentiableObjective, Elbo, ImportanceWeighted};
use crate::posterior::Diagonal;
use crate::{Observations, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

const LATENT_DIM: usize = 2;
type Encoder<T> = Amortized<GaussianEncoder<Mlp<T>, Diagonal<T>>>;
type VaeOf<T, L> = GenerativeModel<Mlp<T>, L>;

/// The subnormal numbers in the `Debug` output of a value, which shows private buffers as well.
fn subnormal<T: Real>(state: &impl std::fmt::Debug) -> Vec<f64> {
    let text = format!("{state:?}");
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | '-' | '+');
    text.split(|c| !is_part(c))
        .filter_map(|token| token.parse::<f64>().ok())
        // A number in double precision beside a state in single precision (β₁ᵗ) becomes 0 here.
        .map(T::of)
        .filter(|v| *v != T::zero() && v.abs() < T::MIN_POSITIVE)
        .map(|v| v.as_f64())
        .collect()
}

/// Six variables: fractions in [0, 1], of which the last two are always 0, in units of `size`.
fn data<T: Real>(size: f64) -> DMatrix<T> {
    DMatrix::from_fn(6, 8, |i, j| match i {
        4.. => T::zero(),
        _ => T::of(size * ((i + 2) * (j + 3) % 11) as f64 / 10.0),
    })
}

/// Trains a VAE for `steps` steps and asserts that no number of its state is subnormal.
fn train<T: Real, L: Likelihood<T>, J>(
    (activation, size, steps): (Activation, f64, usize),
    likelihood: L,
    objective: J,
) where
    J: DifferentiableObjective<T, VaeOf<T, L>, Encoder<T>>,
    J::Workspace: std::fmt::Debug,
{
    let rng = &mut StdRng::seed_from_u64(1);
    let x = data::<T>(size);
    let x = Observations::new(x.as_view()).unwrap();
    let mlp =
        |inputs, outputs| Mlp::<T>::builder(inputs, outputs).hidden(&[6]).activation(activation);
    let mut encoder = mlp(6, 2 * LATENT_DIM).build(&mut *rng).unwrap();
    // The first two units never respond: their gradient is 0 for a rectifier, and far in the tail
    // for the others.
    for bias in &mut crate::map::Parameters::parameters_mut(&mut encoder)[36..38] {
        *bias = T::of(-500.0 * size);
    }
    let inference = Amortized::new(GaussianEncoder::new(encoder, LATENT_DIM).unwrap());
    let decoder = mlp(LATENT_DIM, 6).build(&mut *rng).unwrap();
    let settings = StochasticGradient {
        epochs: steps / 2,
        batch_size: 4,
        clip_norm: Some(100.0),
        ..Default::default()
    };
    let model = GenerativeModel::new(decoder, likelihood);
    let scales = Preconditioner::default();
    let mut training =
        Training::new(&settings, &objective, model, inference, x, &scales, rng).unwrap();
    let mut trace = Trace::new();
    for epoch in 0..settings.epochs {
        assert!(training.epoch(epoch, &mut trace, rng).unwrap().is_some());
    }
    let found = subnormal::<T>(&training.state());
    assert!(found.is_empty(), "{activation:?}, size {size}: {} of {found:?}", found.len());
}

fn noise<T: Real>() -> IsotropicGaussian<T> {
    IsotropicGaussian::fixed(T::of(0.05)).unwrap()
}

#[test]
fn training_in_single_precision_has_no_subnormal_numbers() {
    let steps = 3_000;
    for activation in [
        Activation::Relu,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Gelu,
        Activation::Silu,
    ] {
        train::<f32, _, _>((activation, 1.0, steps), Bernoulli, Elbo::reparameterized(1));
        train::<f32, _, _>((activation, 1.0, steps), noise(), ImportanceWeighted::new(5));
        // Inputs that nothing standardises: preactivations far from 0.
        train::<f32, _, _>((activation, 100.0, steps), noise(), Elbo::reparameterized(1));
    }
}

#[test]
fn training_in_double_precision_has_no_subnormal_numbers() {
    // A first moment falls from 1 to below 1e-292 in 6,400 steps.
    for activation in [Activation::Relu, Activation::Silu] {
        train::<f64, _, _>((activation, 1.0, 8_000), Bernoulli, Elbo::reparameterized(1));
        train::<f64, _, _>((activation, 100.0, 8_000), noise(), Elbo::reparameterized(1));
    }
}

#[test]
fn subnormal_numbers_are_found() {
    assert_eq!(subnormal::<f32>(&vec![1.0f32, 1e-40, 0.0, -2e-45]).len(), 2);
    assert_eq!(subnormal::<f64>(&vec![1e-40f64, 1e-310]).len(), 1);
}

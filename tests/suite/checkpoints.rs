//! Checkpoints of a gradient fit: a fit that continues from any of them ends with the bits of one
//! that was not interrupted; and what a fit climbs in place of J.

use elbo::fit::{
    Checkpoint, Checkpoints, Fitted, KlWeight, LearningRateSchedule, StochasticGradient, StopReason,
};
use elbo::inference::PerPoint;
use elbo::likelihood::{DiagonalGaussian, Independent, NegativeBinomial};
use elbo::model::LinearGaussian;
use elbo::objective::{DifferentiableObjective, Elbo, Gradient, ImportanceWeighted};
use elbo::posterior::{Diagonal, PosteriorFamily};
use elbo::prior::MixturePrior;
use elbo::steps::DeepBuilder;
use elbo::{BinaryVae, Error, Observations, Vae};
use nalgebra::{DMatrix, dmatrix, dvector};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};
use std::ops::ControlFlow;

const EPOCHS: usize = 7;

fn fitter() -> StochasticGradient {
    StochasticGradient {
        epochs: EPOCHS,
        batch_size: 16,
        held_out: 0.2,
        // Cuts of the learning rate happen within the run.
        patience: 1,
        learning_rate: 0.03,
        ..Default::default()
    }
}

fn table() -> DMatrix<f64> {
    DMatrix::from_fn(4, 70, |j, i| {
        let z = (i as f64 * 0.37).sin();
        z * (j as f64 - 1.5) + ((i * 7 + j * 13) % 11) as f64 * 0.05 + 10.0
    })
}

/// All checkpoints of a run, and its result.
macro_rules! run {
    ($builder:expr, $x:expr) => {{
        let mut kept = Vec::new();
        let mut keep = |checkpoint: &Checkpoint<_>| {
            kept.push(checkpoint.clone());
            Ok(())
        };
        let rng = &mut Generator::seed_from_u64(1);
        let checkpoints = Checkpoints::new(1, &mut keep).label("a run");
        let fitted = $builder.fit_with_checkpoints($x, rng, &mut (), checkpoints).unwrap();
        (kept, fitted)
    }};
}

/// The result of a run that continues from a checkpoint.
macro_rules! resume {
    ($builder:expr, $x:expr, $from:expr) => {{
        let mut forget = |_: &Checkpoint<_>| Ok(());
        let rng = &mut Generator::seed_from_u64(1);
        let checkpoints = Checkpoints::new(1, &mut forget).label("a run").resume($from);
        $builder.fit_with_checkpoints($x, rng, &mut (), checkpoints)
    }};
}

#[test]
fn a_run_that_was_killed_ends_with_the_same_bits() {
    let x = table();
    let builder =
        Vae::<f64, Diagonal<f64>, DiagonalGaussian<f64>>::builder(2).hidden(&[6]).fitter(fitter());
    let (kept, whole) = run!(builder, &x);
    assert!(kept.len() >= 3, "{}", kept.len());
    for checkpoint in kept {
        assert!(checkpoint.values().len() == checkpoint.epoch() + 1);
        assert_eq!(resume!(builder, &x, checkpoint).unwrap(), whole);
    }
}

#[test]
fn so_does_one_with_other_components() {
    let x = table().map(|v| (v.abs() as f32).fract());
    let builder = BinaryVae::<f32>::builder(2).hidden(&[6]).fitter(fitter());
    let (kept, whole) = run!(builder, &x);
    assert_eq!(resume!(builder, &x, kept[1].clone()).unwrap(), whole);
    // Counts with a dispersion of each variable, and a prior with parameters.
    let counts = table().map(f64::round);
    let rng = &mut Generator::seed_from_u64(2);
    let likelihood = Independent::new(NegativeBinomial::default(), 4).unwrap();
    let builder = Vae::<f64, Diagonal<f64>, _>::builder_with(likelihood, 1)
        .hidden(&[6])
        .fitter(fitter())
        .prior(MixturePrior::random(2, 1, rng).unwrap());
    let (kept, whole) = run!(builder, &counts);
    assert_eq!(resume!(builder, &counts, kept[2].clone()).unwrap(), whole);
}

#[test]
fn an_observer_that_ends_a_fit_leaves_a_checkpoint() {
    let x = table();
    let builder = Vae::<f64>::builder(1).hidden(&[6]).fitter(fitter());
    let (_, whole) = run!(builder, &x);
    let mut last = None;
    let mut keep = |checkpoint: &Checkpoint<f64>| {
        last = Some(checkpoint.clone());
        Ok(())
    };
    let mut observer = |epoch: usize, _: f64| {
        if epoch == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // Every hundredth epoch would never come.
    let checkpoints = Checkpoints::new(100, &mut keep).label("a run");
    let rng = &mut Generator::seed_from_u64(1);
    let ended = builder.fit_with_checkpoints(&x, rng, &mut observer, checkpoints).unwrap();
    assert_eq!(ended.stop, StopReason::Interrupted);
    let from = last.unwrap();
    assert_eq!(from.epoch(), 2);
    assert_eq!(resume!(builder, &x, from).unwrap(), whole);
}

#[test]
fn a_checkpoint_of_another_fit_is_named() {
    let x = table();
    let builder = |epochs| -> DeepBuilder<f64, Vae<f64>> {
        Vae::<f64>::builder(1).hidden(&[6]).fitter(StochasticGradient { epochs, ..fitter() })
    };
    let (kept, _) = run!(builder(EPOCHS), &x);
    let error = resume!(builder(EPOCHS + 1), &x, kept[0].clone()).unwrap_err();
    assert!(error.to_string().contains("epochs: 7, and now"), "{error}");
    let mut other = x.clone();
    other[(1, 5)] += 1e-9;
    let error = resume!(builder(EPOCHS), &other, kept[0].clone()).unwrap_err();
    assert!(matches!(error, Error::CheckpointMismatch { what: "data", .. }), "{error}");
    let mut forget = |_: &Checkpoint<f64>| Ok(());
    let checkpoints = Checkpoints::new(1, &mut forget).label("another").resume(kept[0].clone());
    let rng = &mut Generator::seed_from_u64(1);
    let error = builder(EPOCHS).fit_with_checkpoints(&x, rng, &mut (), checkpoints).unwrap_err();
    assert!(error.to_string().contains("a run, and now another"), "{error}");
    // A network of another size.
    let wide = Vae::<f64>::builder(1).hidden(&[7]).fitter(fitter());
    let error = resume!(wide, &x, kept[0].clone()).unwrap_err();
    assert!(matches!(error, Error::DimensionMismatch { .. }), "{error}");
    // An error of the function that keeps them is returned.
    let mut full = |_: &Checkpoint<f64>| Err(Error::Empty { rows: 0, columns: 0 });
    let failed = builder(3).fit_with_checkpoints(&x, rng, &mut (), Checkpoints::new(1, &mut full));
    assert!(matches!(failed, Err(Error::Empty { .. })));
}

#[test]
fn files_hold_every_bit_and_damaged_ones_are_refused() {
    let x = table();
    let builder = Vae::<f64>::builder(1).hidden(&[6]).fitter(fitter());
    let (kept, whole) = run!(builder, &x);
    let path = std::env::temp_dir().join(format!("elbo-checkpoint-{}", std::process::id()));
    kept[1].save(&path).unwrap();
    let loaded = Checkpoint::<f64>::load(&path).unwrap();
    assert_eq!(loaded, kept[1]);
    assert_eq!(resume!(builder, &x, loaded).unwrap(), whole);
    assert!(matches!(Checkpoint::<f32>::load(&path), Err(Error::SavedFile { .. })));
    let content = std::fs::read(&path).unwrap();
    for length in (0..content.len()).step_by(content.len() / 50) {
        std::fs::write(&path, &content[..length]).unwrap();
        let damaged = Checkpoint::<f64>::load(&path);
        assert!(matches!(damaged, Err(Error::SavedFile { .. })), "{length}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Checkpoint::<f64>::load(&path), Err(Error::SavedFile { .. })));
}

#[test]
fn the_weight_of_the_divergence_changes_the_gradient_and_not_the_value() {
    let model = LinearGaussian::from_parameters(
        dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
        dvector![0.0, 0.1, 0.0],
        0.7,
    )
    .unwrap();
    let phi = DMatrix::from_fn(4, 2, |i, j| ((i + 3 * j) as f64).sin());
    let q = PerPoint::new(Diagonal::from_parameters(2, phi).unwrap());
    let x = dmatrix![1.0, 2.0; 0.0, 1.0; 1.0, -1.0];
    let x = Observations::new(x.as_view()).unwrap();
    let at = |weight: f64, path: bool| {
        let rng = &mut Generator::seed_from_u64(3);
        let (mut workspace, mut gradient) = (Default::default(), Gradient::default());
        let value = if path {
            Elbo::path_derivative(2).value_and_weighted_gradient(
                weight,
                &model,
                &q,
                x,
                rng,
                &mut workspace,
                &mut gradient,
            )
        } else {
            Elbo::reparameterized(2).value_and_weighted_gradient(
                weight,
                &model,
                &q,
                x,
                rng,
                &mut workspace,
                &mut gradient,
            )
        };
        (value.unwrap(), gradient)
    };
    for path in [false, true] {
        let [none, one, two] = [0.0, 1.0, 2.0].map(|weight| at(weight, path));
        assert!(none.0 == one.0 && one.0 == two.0);
        assert_ne!(none.1.phi, one.1.phi);
        // J_β is affine in β.
        for ((a, b), c) in none.1.phi.iter().zip(&one.1.phi).zip(&two.1.phi) {
            assert!((a + c - 2.0 * b).abs() < 1e-12, "{a} {b} {c}");
        }
    }
    let refused = ImportanceWeighted::new(2).value_and_weighted_gradient(
        0.5,
        &model,
        &q,
        x,
        &mut Generator::seed_from_u64(3),
        &mut Default::default(),
        &mut Gradient::default(),
    );
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
}

#[test]
fn settings_of_training_are_used() {
    let x = table();
    let fit = |fitter: StochasticGradient| -> Fitted<Vae<f64>> {
        let rng = &mut Generator::seed_from_u64(1);
        Vae::<f64>::builder(1).hidden(&[6]).fitter(fitter).fit(&x, rng).unwrap()
    };
    let plain = StochasticGradient { held_out: 0.0, ..fitter() };
    let base = fit(plain);
    let same = StochasticGradient { kl_weight: KlWeight::WarmUp { epochs: 1 }, ..plain };
    assert_eq!(fit(same), base);
    for changed in [
        StochasticGradient { weight_decay: 0.1, ..plain },
        StochasticGradient { kl_weight: KlWeight::WarmUp { epochs: 5 }, ..plain },
        StochasticGradient { kl_weight: KlWeight::Cyclic { epochs: 4 }, ..plain },
        StochasticGradient { kl_weight: KlWeight::Constant(0.2), ..plain },
        StochasticGradient {
            schedule: LearningRateSchedule::Steps { stages: 3, factor: 0.1 },
            ..plain
        },
    ] {
        assert_ne!(fit(changed).trace.values(), base.trace.values(), "{changed:?}");
    }
    let rng = &mut Generator::seed_from_u64(1);
    for bad in [
        StochasticGradient { weight_decay: -0.1, ..plain },
        StochasticGradient { kl_weight: KlWeight::Constant(-1.0), ..plain },
    ] {
        let refused = Vae::<f64>::builder(1).fitter(bad).fit(&x, rng);
        assert!(matches!(refused, Err(Error::InvalidParameter { .. })), "{bad:?}");
    }
    let schedule = LearningRateSchedule::Steps { stages: 2, factor: 0.1 };
    assert_eq!((schedule.factor(0.2), schedule.factor(0.6)), (1.0, 0.1));
}

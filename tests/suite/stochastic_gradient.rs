//! The gradient fitters: what they reach, what they refuse, and what they do when the numbers go
//! wrong.

use elbo::fit::{
    Fitted, GradientVariationalEm, LearningRateSchedule, Preconditioner, StochasticGradient,
    StopReason,
};
use elbo::inference::{Amortized, GaussianEncoder, Inference, PerPoint};
use elbo::likelihood::IsotropicGaussian;
use elbo::map::{DifferentiableMap, Initialization, Linear, Mlp, Parameters};
use elbo::model::{GenerativeModel, LinearGaussian, MarginalLikelihood};
use elbo::objective::{DifferentiableObjective, Elbo, Gradient};
use elbo::posterior::{Diagonal, Isotropic, PosteriorFamily};
use elbo::steps::DeepInitialization;
use elbo::{Error, Observations, Real, Result, Vae};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, SeedableRng, rngs::StdRng};

type Encoder<T> = Amortized<GaussianEncoder<Mlp<T>, Diagonal<T>>>;
type Deep<T> = (GenerativeModel<Mlp<T>, IsotropicGaussian<T>>, Encoder<T>);

fn data<T: Real>() -> DMatrix<T> {
    let rng = &mut StdRng::seed_from_u64(1);
    let z = DMatrix::from_fn(2, 120, |_, _| f64::standard_normal(rng));
    let w = DMatrix::from_fn(5, 2, |_, _| f64::standard_normal(rng));
    (w * z + DMatrix::from_fn(5, 120, |_, _| 0.3 * f64::standard_normal(rng))).map(T::of)
}

fn deep<T: Real>(rng: &mut StdRng) -> Deep<T> {
    let decoder = Mlp::builder(2, 5).hidden(&[8]).build(rng).unwrap();
    let encoder = Mlp::builder(5, 4).hidden(&[8]).build(rng).unwrap().with_zero_outputs_from(2);
    let noise = IsotropicGaussian::analytic(T::one()).unwrap().with_floor(T::of(1e-3)).unwrap();
    (
        GenerativeModel::new(decoder, noise),
        Amortized::new(GaussianEncoder::new(encoder, 2).unwrap()),
    )
}

fn fit<T: Real>(fitter: &StochasticGradient) -> Result<Fitted<Deep<T>>> {
    let x = data::<T>();
    let rng = &mut StdRng::seed_from_u64(7);
    let (model, encoder) = deep(rng);
    fitter.fit(
        &Elbo::reparameterized(1),
        model,
        encoder,
        Observations::new(x.as_view())?,
        rng,
        &mut (),
    )
}

const SHORT: StochasticGradient = StochasticGradient {
    epochs: 30,
    batch_size: 25,
    learning_rate: 0.01,
    schedule: LearningRateSchedule::Cosine,
    warm_up_steps: 3,
    adam: elbo::fit::AdamSettings { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
    clip_norm: None,
    weight_decay: 0.0,
    kl_weight: elbo::fit::KlWeight::Constant(1.0),
    held_out: 0.0,
    patience: 10,
    plateau_cuts: 0,
    shuffle: true,
};

#[test]
fn j_rises_and_the_last_entry_is_j_at_what_is_returned() {
    fn check<T: Real>() {
        let fitted = fit::<T>(&SHORT).unwrap();
        let values = fitted.trace.values();
        assert_eq!(
            (values.len(), fitted.stop, fitted.iterations()),
            (31, StopReason::IterationLimit, 30)
        );
        assert!(values[30] > values[0] + 1.0);
        let x = data::<T>();
        let x = Observations::new(x.as_view()).unwrap();
        let (model, encoder) = &fitted.model;
        let q = encoder.infer(model, x).unwrap();
        let again = Elbo::reparameterized(400)
            .terms(model, &q, x, &mut StdRng::seed_from_u64(8))
            .unwrap()
            .values();
        // One draw for each of 120 observations, each of J_i's spread of about 2 nats.
        assert!((again.mean().as_f64() - values[30]).abs() < 5.0 * 2.0 / 120f64.sqrt());
    }
    check::<f64>();
    check::<f32>();
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let with_everything = StochasticGradient { held_out: 0.2, clip_norm: Some(1.0), ..SHORT };
    assert_eq!(fit::<f32>(&with_everything).unwrap(), fit::<f32>(&with_everything).unwrap());
}

#[test]
fn what_has_no_meaning_is_refused() {
    for (fitter, message) in [
        (
            StochasticGradient { epochs: 0, ..SHORT },
            "the number of epochs is 0, and must be at least 1",
        ),
        (
            StochasticGradient { batch_size: 0, ..SHORT },
            "the batch size is 0, and must be at least 1",
        ),
        (
            StochasticGradient { learning_rate: 0.0, ..SHORT },
            "the learning rate is 0, and must be positive and finite",
        ),
        (
            StochasticGradient { learning_rate: f64::NAN, ..SHORT },
            "the learning rate is NaN, and must be positive and finite",
        ),
        (
            StochasticGradient { held_out: 1.0, ..SHORT },
            "the held-out part is 1, and must be at least 0 and below 1",
        ),
        (
            StochasticGradient { held_out: f64::NAN, ..SHORT },
            "the held-out part is NaN, and must be at least 0 and below 1",
        ),
        (
            StochasticGradient { clip_norm: Some(-1.0), ..SHORT },
            "the largest norm of the gradient is -1, and must be positive and finite",
        ),
    ] {
        assert_eq!(fit::<f64>(&fitter).unwrap_err().to_string(), message);
    }
}

#[test]
fn held_out_data_stop_the_fit_and_the_best_is_kept() {
    let fitter = StochasticGradient {
        epochs: 2000,
        held_out: 0.3,
        patience: 5,
        schedule: LearningRateSchedule::Constant,
        ..SHORT
    };
    let fitted = fit::<f64>(&fitter).unwrap();
    assert_eq!(fitted.stop, StopReason::EarlyStop);
    let held_out = fitted.trace.held_out();
    assert_eq!(held_out.len(), fitted.trace.len());
    let best = held_out.iter().cloned().fold(f64::MIN, f64::max);
    assert_eq!(held_out.iter().position(|&v| v == best), Some(held_out.len() - 1 - 6));
}

#[test]
fn an_observation_that_no_held_out_one_resembles_does_not_spoil_what_is_returned() {
    // Sixty variables that one observation alone has: a step or two may carry its q off by orders
    // of magnitude while held-out J rises.
    let mut x = DMatrix::zeros(65, 400);
    let rng = &mut StdRng::seed_from_u64(1);
    let w = DVector::from_fn(5, |_, _| f64::standard_normal(rng));
    for mut column in x.column_iter_mut() {
        let z = f64::standard_normal(rng);
        (0..5).for_each(|j| column[j] = w[j] * z + 0.3 * f64::standard_normal(rng));
    }
    x.view_mut((5, 7), (60, 1)).fill(1.0);
    for seed in [0, 4, 8, 19] {
        let builder = Vae::<f64, Isotropic<f64>>::builder(2)
            .initialization(DeepInitialization::Random)
            .fitter(StochasticGradient {
                held_out: 0.1,
                ..StochasticGradient::of_steps(1_000, 400)
            });
        let fitted = builder.fit(&x, &mut StdRng::seed_from_u64(seed)).unwrap();
        assert!(
            fitted.trace.last() > fitted.trace.values().first().copied(),
            "{seed}: {:?}",
            fitted.trace.last()
        );
    }
}

/// An objective that is not finite now and then: what a fit does when the numbers go wrong.
#[derive(Clone, Copy)]
struct Fails {
    when: fn(usize) -> bool,
}

#[derive(Default)]
struct Calls<W> {
    made: usize,
    inner: W,
}

impl<D, I> DifferentiableObjective<f64, GenerativeModel<D, IsotropicGaussian<f64>>, I> for Fails
where
    D: DifferentiableMap<f64>,
    I: elbo::inference::DifferentiableInference<f64>,
{
    type Workspace = Calls<elbo::objective::ElboWorkspace<f64, I::Tape, D::Tape>>;
    fn value_and_gradient(
        &self,
        model: &GenerativeModel<D, IsotropicGaussian<f64>>,
        inference: &I,
        x: Observations<'_, f64>,
        rng: &mut dyn Rng,
        workspace: &mut Self::Workspace,
        gradient: &mut Gradient<f64>,
    ) -> Result<f64> {
        workspace.made += 1;
        let value = Elbo::reparameterized(1).value_and_gradient(
            model,
            inference,
            x,
            rng,
            &mut workspace.inner,
            gradient,
        )?;
        if (self.when)(workspace.made) {
            gradient.phi[0] = f64::NAN;
            if workspace.made.is_multiple_of(2) {
                return Ok(f64::NAN);
            }
        }
        Ok(value)
    }
}

fn fit_that_fails(when: fn(usize) -> bool) -> Result<Fitted<Deep<f64>>> {
    let x = data::<f64>();
    let rng = &mut StdRng::seed_from_u64(7);
    let (model, encoder) = deep(rng);
    SHORT.fit(&Fails { when }, model, encoder, Observations::new(x.as_view())?, rng, &mut ())
}

fn is_finite(fitted: &Fitted<Deep<f64>>) -> bool {
    let (model, encoder) = &fitted.model;
    let parameters = model
        .decoder
        .parameters()
        .iter()
        .chain(model.likelihood.parameters())
        .chain(encoder.parameters());
    parameters.chain(fitted.trace.values()).all(|v| v.is_finite())
}

#[test]
fn a_step_that_is_not_finite_is_rejected_and_told() {
    let fitted = fit_that_fails(|call| call == 40 || call == 61).unwrap();
    assert!(is_finite(&fitted));
    assert_eq!((fitted.trace.rejected_steps(), fitted.stop), (2, StopReason::IterationLimit));
    assert!(fitted.trace.last() > fitted.trace.values().first().copied());
}

#[test]
fn a_fit_that_cannot_go_on_returns_the_last_good_parameters() {
    // The five calls of the first evaluation and 20 epochs are good; then the third batch fails,
    // eight times.
    let fitted = fit_that_fails(|call| call > 105 && call % 3 == 0 && call <= 129).unwrap();
    assert!(is_finite(&fitted));
    assert_eq!(fitted.stop, StopReason::Diverged);
    assert!(fitted.trace.last() > fitted.trace.values().first().copied());
    let from_the_start = fit_that_fails(|call| call % 5 == 0).unwrap();
    assert!(is_finite(&from_the_start));
}

#[test]
fn an_objective_that_is_not_finite_to_begin_with_is_an_error() {
    assert!(matches!(fit_that_fails(|call| call == 2), Err(Error::ObjectiveAtStart { .. })));
}

#[test]
fn an_observer_may_end_it() {
    let x = data::<f64>();
    let rng = &mut StdRng::seed_from_u64(7);
    let (model, encoder) = deep(rng);
    let mut watch = |epoch: usize, _: f64| {
        if epoch < 4 {
            std::ops::ControlFlow::Continue(())
        } else {
            std::ops::ControlFlow::Break(())
        }
    };
    let x = Observations::new(x.as_view()).unwrap();
    let fitted = SHORT.fit(&Elbo::reparameterized(1), model, encoder, x, rng, &mut watch).unwrap();
    assert_eq!((fitted.stop, fitted.iterations()), (StopReason::Interrupted, 4));
}

/// A linear decoder in units over ten orders of magnitude, by the gradient alone: the noise comes
/// to its optimum, and J near log p.
#[test]
fn raw_scales_are_no_hindrance() {
    let scales = DVector::from_vec(vec![1e5, 3e4, 1e5, 1.0, 1e-5]);
    let mut x = data::<f64>();
    x.column_iter_mut().for_each(|mut column| column.component_mul_assign(&scales));
    let x = Observations::new(x.as_view()).unwrap();
    let rng = &mut StdRng::seed_from_u64(3);
    let (mean, deviation) = (x.mean(), x.variances().map(f64::sqrt));
    let total = x.variances().mean();
    let loadings = DMatrix::from_fn(5, 1, |_, _| 0.3 * total.sqrt() * f64::standard_normal(rng));
    let model = LinearGaussian::new(
        Linear::new(loadings, mean.clone()).unwrap(),
        IsotropicGaussian::analytic(total).unwrap(),
    );
    let map = Mlp::builder(5, 2)
        .hidden(&[8])
        .input_standardization(mean, deviation.clone())
        .build(rng)
        .unwrap();
    let encoder = Amortized::new(GaussianEncoder::<_, Diagonal<f64>>::new(map, 1).unwrap());
    let preconditioner =
        Preconditioner::of_decoder_rows(&model.decoder, &deviation, 1e-6 * total.sqrt());
    let fitter = StochasticGradient { epochs: 300, ..SHORT };
    let fitted = fitter
        .fit_preconditioned(&Elbo::closed_form(), model, encoder, x, &preconditioner, rng, &mut ())
        .unwrap();
    let (model, encoder) = &fitted.model;
    let q = encoder.infer(model, x).unwrap();
    let elbo = Elbo::closed_form().terms(model, &q, x).unwrap().values().mean();
    let log_p = model.log_likelihood(x).unwrap().mean();
    assert!(log_p - elbo < 0.2 && fitted.trace.values()[0] < elbo - 1.0, "{elbo} {log_p}");
}

/// The table of φ_i by gradient, under a deep decoder: all observations in one batch, in their
/// order.
#[test]
fn variational_em_for_a_deep_decoder() {
    let x = data::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let rng = &mut StdRng::seed_from_u64(5);
    let (model, _) = deep::<f64>(rng);
    let table = PerPoint::<Diagonal<f64>>::at_prior(2, 120);
    let objective = Elbo::reparameterized(2);
    let alternating = GradientVariationalEm { iterations: 60, ..Default::default() };
    let fitted =
        alternating.fit(&objective, model.clone(), table.clone(), x, rng, &mut ()).unwrap();
    assert!(fitted.trace.last().unwrap() > fitted.trace.values()[0] + 1.0);
    let joint = StochasticGradient { epochs: 300, batch_size: 120, learning_rate: 0.03, ..SHORT };
    let fitted = joint.fit(&objective, model.clone(), table.clone(), x, rng, &mut ()).unwrap();
    assert!(fitted.trace.last().unwrap() > fitted.trace.values()[0] + 1.0);
    assert_eq!(fitted.model.1.posterior.parameters().ncols(), 120);
    // A table has no rows for a batch, and says so.
    let refused = SHORT.fit(&objective, model, table, x, rng, &mut ()).unwrap_err();
    assert_eq!(refused.to_string(), "observations of the table: expected 120, got 25");
}

#[test]
fn a_batch_stands_for_the_population() {
    // Batches of 50 out of 120 leave one of 20; without a step to speak of, each epoch's J is the
    // same as that of everything.
    let fitter = StochasticGradient {
        epochs: 1,
        batch_size: 50,
        learning_rate: 1e-12,
        warm_up_steps: 0,
        ..SHORT
    };
    let rng = &mut StdRng::seed_from_u64(7);
    let x = data::<f64>();
    let x = Observations::new(x.as_view()).unwrap();
    let model =
        LinearGaussian::from_parameters(DMatrix::from_element(5, 2, 0.3), DVector::zeros(5), 0.5)
            .unwrap();
    let map = Mlp::builder(5, 4).initialization(Initialization::LecunNormal).build(rng).unwrap();
    let encoder = Amortized::new(GaussianEncoder::<_, Diagonal<f64>>::new(map, 2).unwrap());
    let mut seen = 0.0;
    let fitted = fitter
        .fit(&Elbo::closed_form(), model, encoder, x, rng, &mut |_: usize, value: f64| seen = value)
        .unwrap();
    assert!((seen - fitted.trace.values()[0]).abs() < 1e-9);
}

/// More latent dimensions than the data have: the residual could go to 0, and the floor says when
/// that is enough.
#[test]
fn a_floor_on_the_noise_is_told() {
    let x = DMatrix::from_fn(3, 40, |i, j| (i + 1) as f64 * (j as f64 / 10.0 - 2.0));
    let rng = &mut StdRng::seed_from_u64(2);
    let noise = IsotropicGaussian::analytic(2.0).unwrap().with_floor(1.5).unwrap();
    let model = LinearGaussian::new(
        Linear::new(DMatrix::from_fn(3, 1, |i, _| 1.2 * (i + 1) as f64), DVector::zeros(3))
            .unwrap(),
        noise,
    );
    let map = Mlp::builder(3, 2).build(rng).unwrap();
    let encoder = Amortized::new(GaussianEncoder::<_, Diagonal<f64>>::new(map, 1).unwrap());
    let fitter = StochasticGradient { epochs: 300, learning_rate: 0.05, ..SHORT };
    let x = Observations::new(x.as_view()).unwrap();
    let fitted = fitter.fit(&Elbo::closed_form(), model, encoder, x, rng, &mut ()).unwrap();
    assert_eq!((fitted.stop, fitted.model.0.noise_variance()), (StopReason::Floor, 1.5));
}

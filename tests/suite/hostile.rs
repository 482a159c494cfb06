//! Bad input: a typed error that names the numbers, and never a panic or a NaN.

use crate::support::VoidRng;
use elbo::data::{Centering, ScatterFactor};
use elbo::fit::AutoencoderDescent;
use elbo::fit::PxEm;
use elbo::fit::StochasticGradient;
use elbo::inference::Exact;
use elbo::likelihood::{DiagonalGaussian, IsotropicGaussian, Likelihood, NoiseVariance, Weights};
use elbo::map::{Activation, Linear, Mlp};
use elbo::mixture::MixtureOfPpca;
use elbo::objective::SquaredError;
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::selection::BayesianPpca;
use elbo::steps::ModelKind;
use elbo::{
    AmortizedPpca, DeepEncoderPpca, Error, FactorAnalysis, IntoObservations, LinearAutoencoder,
    Observations, Pca, Ppca, Real, Vae, VariationalPpca,
};
use nalgebra::{DMatrix, DVector, dmatrix, dvector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn rng(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

fn normal<T: Real>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    let rng = &mut rng(seed);
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

/// Every step refuses; what it says is one lower-case line.
#[track_caller]
fn every_step_refuses<T: Real>(k: usize, x: &DMatrix<T>, expected: impl Fn(&Error) -> bool) {
    for step in ModelKind::ALL {
        let refused = x.into_observations().and_then(|x| step.fit(k, x, &mut rng(1)).map(drop));
        let error = refused.expect_err(step.name());
        assert!(expected(&error), "{}: {error:?}", step.name());
        let text = error.to_string();
        assert!(
            text.lines().count() == 1
                && !text.ends_with('.')
                && text.starts_with(|c: char| !c.is_uppercase()),
            "{text}"
        );
    }
}

#[test]
fn empty_tables() {
    every_step_refuses::<f64>(1, &DMatrix::zeros(0, 0), |e| {
        *e == Error::Empty { rows: 0, columns: 0 }
    });
    every_step_refuses::<f64>(1, &DMatrix::zeros(3, 0), |e| {
        *e == Error::Empty { rows: 3, columns: 0 }
    });
    every_step_refuses::<f32>(1, &DMatrix::zeros(0, 3), |e| {
        *e == Error::Empty { rows: 0, columns: 3 }
    });
    assert!(Observations::<f64>::from_rows(&[], 0, 4).is_err());
    assert!(observed_columns_are_refused());
}

fn observed_columns_are_refused() -> bool {
    let x = normal::<f64>(2, 5, 1);
    let x = (&x).into_observations().unwrap();
    x.columns(0, 0).is_err() && x.columns(4, 2).is_err() && x.columns(usize::MAX, 2).is_err()
}

#[test]
fn values_that_are_not_finite() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut x = normal(3, 8, 2);
        x[(2, 5)] = bad;
        every_step_refuses(1, &x, |e| matches!(e, Error::NotFinite { row: 2, column: 5, .. }));
        let narrow = x.map(|v| v as f32);
        every_step_refuses(1, &narrow, |e| matches!(e, Error::NotFinite { row: 2, column: 5, .. }));
        assert!((&x).into_observations().unwrap_err().to_string().contains("row 2, column 5"));
        // New data as well as those of the fit.
        let model = Ppca::fit(1, &normal::<f64>(3, 8, 2)).unwrap();
        assert!(matches!(
            model.model.log_likelihood(&x),
            Err(Error::NotFinite { row: 2, column: 5, .. })
        ));
        assert!(matches!(model.model.transform(&x), Err(Error::NotFinite { .. })));
    }
}

#[test]
fn finite_values_whose_squares_overflow() {
    let mut x = normal(3, 8, 3);
    x[(1, 4)] = 1e160;
    every_step_refuses(
        1,
        &x,
        |e| matches!(e, Error::TooLarge { row: 1, column: 4, value, limit } if *value == 1e160 && *limit < 1e154),
    );
    let mut narrow = normal::<f32>(3, 8, 3);
    narrow[(0, 7)] = 1e30;
    every_step_refuses(1, &narrow, |e| matches!(e, Error::TooLarge { row: 0, column: 7, .. }));
}

#[test]
fn latent_dimensions() {
    let x = normal::<f64>(4, 9, 4);
    every_step_refuses(0, &x, |e| {
        matches!(e, Error::LatentDim { latent_dim: 0, smallest: 1, largest: 4 | 4096 })
    });
    let refuses = |x: &DMatrix<f64>| {
        for kind in ModelKind::ALL {
            let fit = kind.fit(5, x, &mut rng(1));
            // A deep model may have more latent dimensions than variables or observations.
            if matches!(kind, ModelKind::DeepEncoder | ModelKind::Vae) {
                let fit = fit.unwrap();
                assert!(fit.trace.values().iter().all(|v| v.is_finite()), "{}", kind.name());
                continue;
            }
            let expected = Error::LatentDim { latent_dim: 5, smallest: 1, largest: 4 };
            assert_eq!(fit.unwrap_err(), expected, "{}", kind.name());
        }
    };
    refuses(&x);
    every_step_refuses(usize::MAX, &x, |e| {
        matches!(e, Error::LatentDim { latent_dim: usize::MAX, .. })
    });
    refuses(&normal::<f64>(9, 4, 4));
    // k = d: no variance is left for the noise, but an autoencoder has none.
    assert_eq!(Ppca::fit(4, &x).unwrap_err(), Error::Unbounded { latent_dim: 4, rank: 4 });
    assert!(LinearAutoencoder::fit(4, &x).unwrap().model.squared_error(&x).unwrap() < 1e-25);
}

#[test]
fn constant_data_and_one_observation() {
    every_step_refuses_centred(&DMatrix::from_element(3, 6, 2.5), |e| {
        *e == Error::ZeroVariance { variables: 3, observations: 6 }
    });
    every_step_refuses_centred(&DMatrix::zeros(3, 6), |e| {
        *e == Error::ZeroVariance { variables: 3, observations: 6 }
    });
    every_step_refuses_centred(&dmatrix![1.0; 2.0; 4.0], |e| {
        *e == Error::TooFewObservations { actual: 1, least: 2 }
    });
    assert!(matches!(
        ScatterFactor::of(
            (&DMatrix::<f64>::zeros(2, 4)).into_observations().unwrap(),
            Centering::None
        ),
        Err(Error::ZeroVariance { .. })
    ));
    // Without a mean, what is constant is not without variation.
    assert!(
        LinearAutoencoder::builder(1)
            .centering(Centering::None)
            .fit(&DMatrix::from_element(3, 6, 2.5), &mut VoidRng)
            .is_ok()
    );
}

/// All steps but the one without a mean.
#[track_caller]
fn every_step_refuses_centred(x: &DMatrix<f64>, expected: impl Fn(&Error) -> bool) {
    for step in ModelKind::ALL.into_iter().filter(|s| *s != ModelKind::LinearAutoencoderUncentered)
    {
        let error = step
            .fit(1, x.into_observations().unwrap(), &mut rng(1))
            .map(drop)
            .expect_err(step.name());
        assert!(expected(&error), "{}: {error:?}", step.name());
    }
}

#[test]
fn wrong_dimensions() {
    let x = normal::<f64>(4, 20, 5);
    let other = normal::<f64>(3, 20, 6);
    let wrong = |e: Error| {
        assert!(matches!(e, Error::DimensionMismatch { expected: 4, actual: 3, .. }), "{e:?}")
    };
    let autoencoder = LinearAutoencoder::fit(2, &x).unwrap();
    wrong(autoencoder.model.transform(&other).unwrap_err());
    wrong(autoencoder.model.reconstruct(&other).unwrap_err());
    wrong(autoencoder.model.squared_error(&other).unwrap_err());
    let ppca = Ppca::fit(2, &x).unwrap();
    wrong(ppca.model.transform(&other).unwrap_err());
    wrong(ppca.model.reconstruct(&other).unwrap_err());
    wrong(ppca.model.orthogonal_projection(&other).unwrap_err());
    wrong(ppca.model.log_likelihood(&other).unwrap_err());
    wrong(ppca.model.elbo(&other).unwrap_err());
    let codes = normal::<f64>(3, 5, 7);
    assert!(matches!(
        ppca.model.inverse_transform(&codes),
        Err(Error::DimensionMismatch { expected: 2, actual: 3, .. })
    ));
    let table = VariationalPpca::<f64>::builder(2).fit(&x, &mut rng(1)).unwrap();
    wrong(table.model.elbo(&other).unwrap_err());
    wrong(table.model.log_likelihood(&other).unwrap_err());
    // A table serves only as many observations as it has rows for.
    let fewer = x.columns(0, 19).into_owned();
    assert!(matches!(
        table.model.elbo(&fewer),
        Err(Error::DimensionMismatch { expected: 20, actual: 19, .. })
    ));
    let amortized = AmortizedPpca::<f64>::builder(2).fit(&x, &mut rng(1)).unwrap();
    wrong(amortized.model.transform(&other).unwrap_err());
    wrong(amortized.model.elbo(&other).unwrap_err());
    let bad = dmatrix![1.0, 2.0, 3.0; 4.0, 5.0, f64::NAN];
    let not_finite = |refused: Result<DMatrix<f64>, Error>| {
        assert!(matches!(refused, Err(Error::NotFinite { row: 1, column: 2, .. })), "{refused:?}");
    };
    let pca = Pca::fit(2, &x).unwrap();
    not_finite(pca.model.inverse_transform(&bad));
    not_finite(pca.model.unwhiten(&bad));
    not_finite(ppca.model.inverse_transform(&bad));
    assert_eq!(
        ppca.model.inverse_transform(&DMatrix::zeros(2, 0)).unwrap_err(),
        Error::Empty { rows: 2, columns: 0 }
    );
    for step in linear() {
        let fit = step.fit(2, (&x).into_observations().unwrap(), &mut rng(1)).unwrap();
        not_finite(fit.model.inverse_transform(&bad));
        assert!(fit.model.codes((&other).into_observations().unwrap()).is_err(), "{}", step.name());
        assert!(fit.model.inverse_transform(&codes).is_err(), "{}", step.name());
    }
    assert!(
        Observations::from_rows(&[1.0, 2.0, 3.0], 2, 2)
            .unwrap_err()
            .to_string()
            .contains("expected 4, got 3")
    );
}

#[test]
fn settings() {
    let x = normal::<f64>(4, 20, 8);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let said = |e: Error| assert!(matches!(e, Error::InvalidParameter { .. }), "{e:?}");
        let fixed = Ppca::builder(2).noise_variance(NoiseVariance::Fixed(bad));
        said(fixed.fit(&x, &mut VoidRng).unwrap_err());
        said(fixed.fitter(PxEm::default()).fit(&x, &mut rng(1)).unwrap_err());
        let share = if bad == 0.0 { 1.0 } else { bad }; // a floor of 0 is none
        let floored = Ppca::builder(2).noise_floor(share);
        said(floored.fit(&x, &mut VoidRng).unwrap_err());
        said(floored.fitter(PxEm::default()).fit(&x, &mut rng(1)).unwrap_err());
        said(IsotropicGaussian::new(bad).unwrap_err());
        said(IsotropicGaussian::fixed(bad).unwrap_err());
        said(
            Ppca::from_parameters(x.columns(0, 2).into_owned(), DVector::zeros(4), bad)
                .unwrap_err(),
        );
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let said = |e: Error| assert!(matches!(e, Error::InvalidParameter { .. }), "{e:?}");
        said(IsotropicGaussian::new(1.0).unwrap().with_floor(bad).unwrap_err());
        said(
            DiagonalGaussian::new(DVector::repeat(2, 1.0))
                .unwrap()
                .with_floors(dvector![0.5, bad])
                .unwrap_err(),
        );
        said(DeepEncoderPpca::<f64>::builder(1).noise_floor(bad).fit(&x, &mut rng(1)).unwrap_err());
        said(Vae::<f64>::builder(1).noise_floor(bad).fit(&x, &mut rng(1)).unwrap_err());
        said(SquaredError::with_weight(bad).unwrap_err());
        said(
            LinearAutoencoder::builder(2)
                .l2_regularization(bad)
                .fitter(AutoencoderDescent::default())
                .fit(&x, &mut rng(1))
                .unwrap_err(),
        );
        assert!(matches!(
            LinearAutoencoder::builder(2).l2_regularization(bad).fit(&x, &mut VoidRng),
            Err(Error::InvalidParameter { .. })
        ));
    }
    let draws = |refused: Error| {
        assert!(
            matches!(refused, Error::InvalidParameter { name: "the number of draws of ε", .. }),
            "{refused}"
        )
    };
    draws(DeepEncoderPpca::<f64>::builder(1).samples(0).fit(&x, &mut rng(1)).unwrap_err());
    draws(Vae::<f64>::builder(1).samples(0).fit(&x, &mut rng(1)).unwrap_err());
    draws(Ppca::fit(1, &x).unwrap().model.estimate_elbo(0, &x, &mut rng(1)).unwrap_err());
    assert!(matches!(
        Linear::new(dmatrix![1.0, f64::NAN], DVector::zeros(1)),
        Err(Error::NotFinite { row: 0, column: 1, .. })
    ));
    assert!(matches!(
        Linear::new(dmatrix![1.0, 2.0], DVector::zeros(2)),
        Err(Error::DimensionMismatch { .. })
    ));
    assert!(matches!("no_such_step".parse::<ModelKind>(), Err(Error::UnknownModelKind { .. })));
}

/// 2πσ² is beyond the largest number, its logarithm is not.
fn the_largest_noise_has_a_density<T: Real>() {
    let x = normal::<T>(4, 20, 8);
    let largest = T::MAX * T::of(0.9);
    let expected = -2.0 * (largest.as_f64().ln() + (2.0 * std::f64::consts::PI).ln());
    let close = |value: T| {
        assert!((value.as_f64() / expected - 1.0).abs() < 1e-6, "{value} for {expected}")
    };
    let fixed = Ppca::builder(2)
        .noise_variance(NoiseVariance::Fixed(largest))
        .fit(&x, &mut VoidRng)
        .unwrap();
    let decoder = Linear::new(DMatrix::zeros(4, 2), DVector::zeros(4)).unwrap();
    let noise = IsotropicGaussian::new(largest).unwrap().with_floor(largest).unwrap();
    let floored = Ppca::new(decoder, noise, Exact).unwrap();
    for model in [fixed.model, floored] {
        assert!(
            model
                .explained_variance_ratio()
                .unwrap()
                .iter()
                .all(|&ratio| (ratio.as_f64() - 0.25).abs() < 1e-6)
        );
        model.log_likelihood(&x).unwrap().iter().copied().for_each(close);
        model.elbo(&x).unwrap().values().iter().copied().for_each(close);
        model.estimate_elbo(3, &x, &mut rng(1)).unwrap().values().iter().copied().for_each(close);
    }
    let noise = DiagonalGaussian::new(DVector::repeat(4, largest)).unwrap();
    let (zero, mut d_output) = (DMatrix::zeros(4, 1), DMatrix::zeros(0, 0));
    close(noise.log_density(x.columns(0, 1), zero.as_view())[0]);
    close(noise.log_density_gradient(
        x.columns(0, 1),
        zero.as_view(),
        Weights::Equal(T::one()),
        &mut d_output,
        &mut [T::zero(); 4],
    ));
}

#[test]
fn the_largest_noise_has_a_density_in_both_precisions() {
    the_largest_noise_has_a_density::<f32>();
    the_largest_noise_has_a_density::<f64>();
}

/// Found in double precision, and below what single precision holds: no other variance is put in
/// its place.
#[test]
fn variances_that_the_precision_cannot_hold() {
    let told = |e: Error| {
        assert!(
            matches!(e, Error::Underflow { what: "the standard deviation of the noise", .. }),
            "{e:?}"
        )
    };
    // One direction of deviation 1e-15 above three of 5e-20, whose squares lack digits in single
    // precision.
    let noise = normal::<f32>(4, 60, 21) * 5e-20;
    let x = DMatrix::from_fn(4, 60, |j, i| {
        noise[(j, i)] + if j == 0 { 1e-15 * (i as f32 * 0.7).sin() } else { 0.0 }
    });
    told(Ppca::fit(1, &x).unwrap_err());
    told(BayesianPpca::fit(&x).unwrap_err());
    // A mixture has a floor, which is to be small enough too.
    told(MixtureOfPpca::builder(1, 1).fit(&(&x * 0.1), &mut rng(1)).unwrap_err());
    // A constant variable has the floor for its variance.
    let x = normal::<f32>(4, 60, 22) * 1e-14;
    let x = DMatrix::from_fn(4, 60, |j, i| if j == 3 { 0.0 } else { x[(j, i)] });
    assert!(FactorAnalysis::fit(1, &x).is_ok());
    told(FactorAnalysis::builder(1).noise_floor(1e-12).fit(&x, &mut VoidRng).unwrap_err());
}

/// Sizes whose products leave the range of the integers.
#[test]
fn sizes_beyond_memory() {
    let huge = usize::MAX;
    assert_eq!(Mlp::<f64>::parameter_count(&[3, huge, huge]), huge);
    for hidden in [&[huge][..], &[huge / 2, 3], &[1 << 40, 1 << 40]] {
        let refused = Mlp::<f64>::builder(3, 2).hidden(hidden).build(&mut rng(1)).unwrap_err();
        assert!(
            matches!(refused, Error::InvalidParameter { name: "the number of parameters", .. }),
            "{refused}"
        );
        let refused = Vae::<f64>::builder(1)
            .hidden(hidden)
            .fit(&normal::<f64>(3, 9, 1), &mut rng(1))
            .unwrap_err();
        assert!(matches!(refused, Error::InvalidParameter { .. }), "{refused}");
    }
    assert!(matches!(
        Mlp::from_parameters(&[2, huge], Activation::Tanh, Activation::Identity, vec![0.0]),
        Err(Error::DimensionMismatch { .. })
    ));
    let phi = || DMatrix::<f64>::zeros(4, 2);
    assert!(Isotropic::from_parameters(huge, phi()).is_err());
    assert!(Diagonal::from_parameters(huge, phi()).is_err());
    assert!(Full::from_parameters(huge, phi()).is_err());
}

/// Constant columns are no error, and neither are copies of columns.
#[test]
fn constant_columns_are_fine() {
    let mut x = normal::<f64>(6, 40, 9);
    x.row_mut(1).fill(0.0);
    x.row_mut(4).fill(1e5);
    for step in linear() {
        check_fit(step, 2, &x).unwrap_or_else(|e| panic!("{}: {e}", step.name()));
    }
}

/// A fit is an error, or everything that it says is finite.
fn check_fit<T: Real>(step: ModelKind, k: usize, x: &DMatrix<T>) -> Result<(), Error> {
    let x = x.into_observations()?;
    let fit = step.fit(k, x, &mut rng(3))?;
    let name = step.name();
    let codes = fit.model.codes(x)?;
    assert!(codes.iter().all(|v| v.is_finite()), "{name}: a code is not finite");
    assert!(
        fit.model.inverse_transform(&codes)?.iter().all(|v| v.is_finite()),
        "{name}: a reconstruction is not finite"
    );
    assert!(
        fit.trace.values().iter().all(|v| v.is_finite()),
        "{name}: a J of the trace is not finite"
    );
    assert!(
        fit.model.noise_variance().is_none_or(|v| v.is_finite() && v > T::zero()),
        "{name}: noise variance"
    );
    if let Some(gaps) = fit.model.gaps(x, Default::default(), &mut rng(4))? {
        let figures = [
            gaps.log_likelihood,
            gaps.elbo,
            gaps.reconstruction,
            gaps.kl,
            gaps.approximation,
            gaps.amortization,
        ];
        assert!(figures.iter().all(|v| v.is_finite()), "{name}: {gaps:?}");
    }
    if let Some(variances) = fit.model.explained_variance()? {
        assert!(variances.iter().all(|v| v.is_finite()), "{name}: {variances}");
    }
    Ok(())
}

fn at_scale<T: Real>(scale: f64, fits: bool, steps: &[ModelKind]) {
    let x = normal::<f64>(4, 30, 10).map(|v| T::of(v * scale));
    for step in steps {
        match check_fit(*step, 2, &x) {
            Ok(()) => {}
            Err(Error::Underflow { .. } | Error::TooLarge { .. }) if !fits => {}
            Err(error) => panic!("{} at {scale:e}: {error}", step.name()),
        }
    }
}

/// Small is not constant.
#[test]
fn deviations_whose_squares_are_nothing() {
    let x = normal::<f64>(3, 9, 11);
    let small = |e: &Error| matches!(e, Error::Underflow { deviation, limit, .. } if *deviation > 0.0 && *limit > 0.0);
    every_step_refuses(1, &(&x * 1e-200), small);
    every_step_refuses(1, &(&x * 1e-320), small);
    // Where double precision carries the fit, a step may take what single precision could not
    // square.
    let narrow = x.map(|v| (v * 1e-30) as f32);
    for step in ModelKind::ALL {
        assert!(check_fit(step, 1, &narrow).err().is_none_or(|e| small(&e)), "{}", step.name());
    }
    assert!(matches!(
        LinearAutoencoder::fit(1, &DMatrix::from_element(2, 5, 0.1f32)),
        Err(Error::ZeroVariance { .. })
    ));
    assert!(matches!(
        LinearAutoencoder::fit(1, &DMatrix::from_element(2, 5, 1e-300)),
        Err(Error::ZeroVariance { .. })
    ));
}

/// The steps whose decoder and encoder are linear: what they cost in a debug build allows many
/// tables.
fn linear() -> Vec<ModelKind> {
    ModelKind::ALL
        .into_iter()
        .filter(|s| !matches!(s, ModelKind::DeepEncoder | ModelKind::Vae))
        .collect()
}

#[test]
fn scales() {
    for scale in [1e-138, 1e-100, 1e-60, 1e-20, 1e20, 1e60, 1e100, 1e151] {
        at_scale::<f64>(scale, true, &linear());
    }
    at_scale::<f64>(1e-130, true, &ModelKind::ALL);
    for scale in [1e-18, 1e-12, 1e12, 1e16] {
        at_scale::<f32>(scale, true, &linear());
    }
    // Where squares leave the range of the numbers, an error that says so will do.
    for scale in
        [1e-320, 1e-310, 1e-200, 1e-162, 1e-160, 1e-155, 1e-145, 1e-139, 1e152, 1e153, 1e300]
    {
        at_scale::<f64>(scale, false, &ModelKind::ALL);
    }
    for scale in [1e-44, 1e-40, 1e-30, 1e-24, 1e-22, 1e-20, 1e-19, 1e17, 1e18] {
        at_scale::<f32>(scale, false, &ModelKind::ALL);
    }
}

fn special() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -3.0f64..3.0,
        2 => Just(0.0),
        2 => Just(1.0),
        1 => Just(-0.0),
        1 => prop::sample::select(vec![
            f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e-200, 1e150, -1e150, 1e16, 1e-16, f64::EPSILON,
        ]),
    ]
}

fn matrices() -> impl Strategy<Value = (DMatrix<f64>, usize)> {
    (1usize..6, 1usize..8).prop_flat_map(|(d, n)| {
        (prop::collection::vec(special(), d * n), 0usize..7)
            .prop_map(move |(v, k)| (DMatrix::from_vec(d, n, v), k))
    })
}

/// A short training: an error, or finite codes, reconstructions and J.
fn deep<T: Real>(k: usize, x: &DMatrix<T>) -> Result<(), TestCaseError> {
    let fitter = StochasticGradient { epochs: 3, batch_size: 4, ..Default::default() };
    let builder = DeepEncoderPpca::<T>::builder(k).hidden(&[3]).fitter(fitter);
    if let Ok(fit) = builder.fit(x, &mut rng(5)) {
        prop_assert!(fit.model.transform(x).unwrap().iter().all(|v| v.is_finite()));
        prop_assert!(fit.trace.values().iter().all(|v| v.is_finite()));
    }
    let builder = Vae::<T>::builder(k).hidden(&[3]).fitter(fitter);
    if let Ok(fit) = builder.fit(x, &mut rng(6)) {
        prop_assert!(fit.model.reconstruct(x).unwrap().iter().all(|v| v.is_finite()));
        prop_assert!(fit.trace.values().iter().all(|v| v.is_finite()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_nothing_is_nan((x, k) in matrices(), step in prop::sample::select(linear())) {
        let _ = check_fit(step, k, &x);
        let _ = check_fit(step, k, &x.map(|v| v as f32));
    }

    #[test]
    fn nor_in_the_deep_steps((x, k) in matrices()) {
        deep(k, &x)?;
        deep(k, &x.map(|v| v as f32))?;
    }

    #[test]
    fn nor_with_a_floor((x, k) in matrices(), share in prop::sample::select(vec![1e-300, 1e-12, 1e-3, 0.999])) {
        let fitted = Ppca::builder(k).noise_floor(share).fit(&x, &mut VoidRng);
        if let Ok(model) = fitted {
            let mean_variance = (&x).into_observations().unwrap().variances().mean();
            prop_assert!(model.model.noise_variance() >= 0.999_999 * share * mean_variance);
            prop_assert!(model.model.transform(&x).unwrap().iter().all(|v| v.is_finite()));
            prop_assert!(model.model.log_likelihood(&x).unwrap().iter().all(|v| !v.is_nan()));
        }
    }
}

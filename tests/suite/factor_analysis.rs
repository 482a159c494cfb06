//! Factor analysis: noise of another shape in the slot, against scikit-learn, a general optimiser
//! and the model's own identities.

use crate::support::VoidRng;
use elbo::data::Data;
use elbo::data::files::{ReadOptions, read};
use elbo::data::{Chunks, Moments};
use elbo::fit::{ExpectationMaximization, ProfileLikelihood, StopReason};
use elbo::likelihood::DiagonalGaussian;
use elbo::model::{ExactPosterior, LinearGaussian, MarginalLikelihood};
use elbo::posterior::{GaussianPosterior, Posterior};
use elbo::testing::check_likelihood;
use elbo::{Error, FactorAnalysis, IntoObservations, Observations, Ppca, Real};
use nalgebra::{DMatrix, DVector, dvector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};
use serde_json::Value;

fn table(name: &str) -> DMatrix<f64> {
    read::<f64>(
        format!("{}/../examples/data/{name}.csv.gz", env!("CARGO_MANIFEST_DIR")),
        &ReadOptions::default().label("label"),
    )
    .unwrap()
    .values
}

fn reference() -> Value {
    serde_json::from_str(include_str!("../reference/factor_analysis.json")).unwrap()
}

fn normal(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    let mut rng = Generator::seed_from_u64(seed);
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(&mut rng))
}

/// A sample of k factors behind d variables, with noise from 0.2 to 1.
fn sample(d: usize, k: usize, n: usize, seed: u64) -> DMatrix<f64> {
    let noise = DVector::from_fn(d, |j, _| 0.2 + 0.8 * ((j * 7) % 5) as f64 / 4.0);
    let model =
        FactorAnalysis::from_parameters(normal(d, k, seed), DVector::from_element(d, 3.0), noise)
            .unwrap();
    model.sample(n, &mut Generator::seed_from_u64(seed + 1))
}

#[test]
fn reaches_what_scikit_learn_and_a_general_optimiser_reach() {
    for case in reference()["cases"].as_array().unwrap() {
        let (name, k) =
            (case["data"].as_str().unwrap(), case["latent_dim"].as_u64().unwrap() as usize);
        let x = table(name);
        let fit = FactorAnalysis::fit(k, &x).unwrap();
        let reached = fit.model.log_likelihood(&x).unwrap().mean();
        for peer in ["sklearn_log_likelihood", "bfgs_log_likelihood"] {
            let least = case[peer].as_f64().unwrap();
            assert!(
                reached > least - 2e-6,
                "{name}, {k} factors: {reached} where {peer} is {least}"
            );
        }
        assert!(
            (fit.trace.last().unwrap() - reached).abs() < 1e-8,
            "the trace is J of the model that is returned"
        );
        println!(
            "{name} {k}: {reached} after {} iterations, {:?}, {:?}",
            fit.iterations(),
            fit.stop,
            fit.model.heywood_variables()
        );
    }
}

#[test]
fn closed_forms_agree_with_the_dense_covariance() {
    let (d, k, n) = (5, 2, 7);
    let psi = dvector![0.1, 3.0, 1e-4, 50.0, 1.0];
    let model = FactorAnalysis::from_parameters(
        normal(d, k, 1),
        dvector![1.0, 2.0, 3.0, 4.0, 5.0],
        psi.clone(),
    )
    .unwrap();
    let x = normal(d, n, 2) * 2.0;
    let w = model.loadings().into_owned();
    let covariance = &w * w.transpose() + DMatrix::from_diagonal(&psi);
    let cholesky = covariance.clone().cholesky().unwrap();
    let posterior = model.encode(&x).unwrap();
    let precision = DMatrix::identity(k, k)
        + w.transpose() * DMatrix::from_diagonal(&psi.map(|p| 1.0 / p)) * &w;
    let spread = precision.clone().try_inverse().unwrap();
    let bound = model.elbo(&x).unwrap().values();
    let scores = model.bartlett_scores(&x).unwrap();
    for i in 0..n {
        let e = x.column(i) - model.mean();
        let expected = -0.5
            * (d as f64 * std::f64::consts::TAU.ln()
                + cholesky.determinant().ln()
                + e.dot(&cholesky.solve(&e)));
        let got = model.log_likelihood(&x).unwrap()[i];
        assert!((got - expected).abs() < 1e-9 * expected.abs(), "{got} {expected}");
        assert!(
            (bound[i] - got).abs() < 1e-9 * got.abs(),
            "with the exact posterior the bound is tight"
        );
        let mean = w.transpose() * cholesky.solve(&e);
        assert!((posterior.mean().column(i) - mean).amax() < 1e-8);
        assert!((posterior.covariance(i) - &spread).amax() < 1e-12);
        let weighted = DMatrix::from_diagonal(&psi.map(|p| 1.0 / p)) * &w;
        let bartlett =
            (w.transpose() * &weighted).try_inverse().unwrap() * weighted.transpose() * e;
        assert!((scores.column(i) - bartlett).amax() < 1e-8);
    }
    let root = model.generative_model().posterior_precision_root().unwrap();
    assert!((root.transpose() * root - precision).amax() < 1e-8 * 1e4);
}

#[test]
fn equal_variances_are_probabilistic_pca() {
    let x = table("iris");
    let ppca = Ppca::fit(2, &x).unwrap();
    let noise =
        DiagonalGaussian::new(DVector::from_element(4, ppca.model.noise_variance())).unwrap();
    let model = LinearGaussian::new(ppca.model.decoder().clone(), noise);
    let (a, b) = (
        model.log_likelihood((&x).into_observations().unwrap()).unwrap(),
        ppca.model.log_likelihood(&x).unwrap(),
    );
    assert!((a - b).amax() < 1e-11);
    assert!(
        FactorAnalysis::fit(2, &x).unwrap().model.log_likelihood(&x).unwrap().sum()
            > ppca.model.log_likelihood(&x).unwrap().sum()
    );
}

#[test]
fn em_is_monotone_and_reaches_the_same_maximum() {
    let x = sample(8, 2, 300, 5);
    let ascent = FactorAnalysis::fit(2, &x).unwrap();
    let em = FactorAnalysis::builder(2)
        .fitter(ExpectationMaximization { max_iterations: 20_000, tolerance: 1e-10 })
        .fit(&x, &mut Generator::seed_from_u64(3))
        .unwrap();
    assert!(em.trace.values().windows(2).all(|pair| pair[1] >= pair[0] - 1e-12));
    let (a, b) = (ascent.trace.last().unwrap(), em.trace.last().unwrap());
    assert!((a - b).abs() < 1e-8, "{a} {b}");
    assert!((ascent.model.noise_variances() - em.model.noise_variances()).amax() < 1e-3);
    assert!(
        (ascent.model.loadings() - em.model.loadings()).amax() < 1e-3,
        "{}{}",
        ascent.model.loadings(),
        em.model.loadings()
    );
    assert!(
        ascent.iterations() < 40 && ascent.stop == StopReason::Converged,
        "{} {:?}",
        ascent.iterations(),
        ascent.stop
    );
}

#[test]
fn the_ascent_is_monotone_and_its_end_is_stationary() {
    for (d, k, n) in [(6, 1, 50), (12, 3, 40), (10, 4, 1000), (30, 2, 20)] {
        let x = sample(d, k, n, 11);
        let fit = FactorAnalysis::fit(k, &x).unwrap();
        assert!(fit.trace.values().windows(2).all(|pair| pair[1] >= pair[0] - 1e-10));
        if fit.stop == StopReason::Converged {
            // A stationary point of the likelihood has diag(C) = diag(S).
            let variances = (&x).into_observations().unwrap().variances();
            let implied = fit.model.communalities() + fit.model.noise_variances();
            let error = (implied - &variances).component_div(&variances).amax();
            assert!(error < 1e-4, "{d} {k} {n}: {error}");
        }
    }
}

#[test]
fn heywood_cases_are_held_at_the_floor_and_told() {
    let x = table("iris");
    let fit = FactorAnalysis::fit(1, &x).unwrap();
    assert_eq!((fit.stop, fit.model.heywood_variables()), (StopReason::Floor, vec![2]));
    let variances = (&x).into_observations().unwrap().variances();
    assert!((fit.model.noise_variances()[2] / variances[2] - 1e-6).abs() < 1e-9);
    let higher = FactorAnalysis::builder(1).noise_floor(0.005).fit(&x, &mut VoidRng).unwrap();
    assert_eq!(higher.model.heywood_variables(), [2]);
    assert!(
        higher.model.log_likelihood(&x).unwrap().sum()
            < fit.model.log_likelihood(&x).unwrap().sum()
    );
    assert_eq!(
        FactorAnalysis::fit(1, &x.map(|v| v as f32)).unwrap().model.heywood_variables(),
        [2]
    );
}

#[test]
fn constant_variables_and_wide_scales() {
    let x = sample(6, 1, 200, 21);
    let plain = FactorAnalysis::fit(1, &x).unwrap();
    let mut with_constant = x.clone().insert_row(2, 7.5);
    let fit = FactorAnalysis::fit(1, &with_constant).unwrap();
    assert_eq!((fit.stop, fit.model.heywood_variables()), (StopReason::Floor, vec![2]));
    assert!(fit.model.loadings().row(2).amax() == 0.0 && fit.model.mean()[2] == 7.5);
    assert!((fit.model.loadings().remove_row(2) - plain.model.loadings()).amax() < 1e-6);
    // Ten orders of magnitude apart.
    for (j, mut row) in with_constant.row_iter_mut().enumerate() {
        row *= [1e-5, 1.0, 1e5][j % 3];
    }
    assert_eq!(FactorAnalysis::fit(1, &with_constant).unwrap().model.heywood_variables(), [2]);
}

#[test]
fn single_precision_finds_the_same() {
    let x = table("wine");
    let double = FactorAnalysis::fit(2, &x).unwrap();
    let single = FactorAnalysis::<f32>::fit(2, &x.map(|v| v as f32)).unwrap();
    let (a, b) = (double.model.loadings().into_owned(), single.model.loadings().map(f64::from));
    for (a, b) in a.row_iter().zip(b.row_iter()) {
        assert!((a - b).norm() < 1e-4 * a.norm(), "{a} {b}");
    }
    let sums = (
        double.model.log_likelihood(&x).unwrap().sum(),
        single.model.log_likelihood(&x.map(|v| v as f32)).unwrap().map(f64::from).sum(),
    );
    assert!((sums.0 - sums.1).abs() < 1e-5 * sums.0.abs(), "{sums:?}");
}

#[test]
fn what_cannot_be_fitted_is_refused_by_name() {
    let x = sample(5, 1, 40, 2);
    assert!(matches!(FactorAnalysis::fit(0, &x), Err(Error::LatentDim { latent_dim: 0, .. })));
    assert!(matches!(
        FactorAnalysis::fit(6, &x),
        Err(Error::LatentDim { latent_dim: 6, largest: 5, .. })
    ));
    assert!(matches!(FactorAnalysis::fit(5, &x), Err(Error::Unbounded { latent_dim: 5, rank: 5 })));
    let few = x.columns(0, 3).into_owned();
    assert!(matches!(
        FactorAnalysis::fit(2, &few),
        Err(Error::Unbounded { latent_dim: 2, rank: 2 })
    ));
    let constant = DMatrix::from_element(3, 10, 2.0);
    assert!(matches!(
        FactorAnalysis::fit(1, &constant),
        Err(Error::ZeroVariance { variables: 3, .. })
    ));
    assert!(matches!(
        FactorAnalysis::builder(1).noise_floor(0.0).fit(&x, &mut VoidRng),
        Err(Error::InvalidParameter { .. })
    ));
    assert!(
        FactorAnalysis::from_parameters(normal(3, 1, 0), DVector::zeros(3), dvector![1.0, 1.0])
            .is_err()
    );
    assert!(
        FactorAnalysis::fit(1, &x)
            .unwrap()
            .model
            .log_likelihood(&few.rows(0, 2).into_owned())
            .is_err()
    );
}

#[test]
fn the_likelihood_conforms() {
    let noise = DiagonalGaussian::new(dvector![0.5, 2.0, 1e-2]).unwrap();
    let (x, output) = (normal(3, 4, 1), normal(3, 4, 2));
    check_likelihood(
        &noise,
        Observations::new(x.as_view()).unwrap(),
        &output,
        &mut Generator::seed_from_u64(1),
    )
    .unwrap();
    let (x, output) = (x.map(|v| v as f32), output.map(|v| v as f32));
    let noise = DiagonalGaussian::new(dvector![0.5f32, 2.0, 1e-2]).unwrap();
    check_likelihood(
        &noise,
        Observations::new(x.as_view()).unwrap(),
        &output,
        &mut Generator::seed_from_u64(1),
    )
    .unwrap();
}

#[test]
fn more_starts_are_never_worse() {
    let x = table("wine");
    let reached = |starts| {
        FactorAnalysis::builder(5)
            .fitter(ProfileLikelihood { starts, ..Default::default() })
            .fit(&x, &mut VoidRng)
            .unwrap()
            .trace
            .last()
            .unwrap()
    };
    let values: Vec<f64> = (1..=3).map(reached).collect();
    assert!(values[0] <= values[1] && values[1] <= values[2], "{values:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rescaled_variables_rescale_the_loadings(seed in 0u64..1000, powers in proptest::collection::vec(-4i32..5, 6)) {
        let x = sample(6, 2, 60, seed);
        let mut scaled = x.clone();
        for (mut row, &power) in scaled.row_iter_mut().zip(&powers) {
            row *= 10f64.powi(power);
        }
        let (a, b) = (FactorAnalysis::fit(2, &x).unwrap(), FactorAnalysis::fit(2, &scaled).unwrap());
        let shift: f64 = powers.iter().map(|&p| f64::from(p) * 10f64.ln()).sum();
        prop_assert!((a.trace.last().unwrap() - b.trace.last().unwrap() - shift).abs() < 1e-7);
        for (j, &power) in powers.iter().enumerate() {
            let back = 10f64.powi(-power);
            prop_assert!((b.model.loadings().row(j) * back - a.model.loadings().row(j)).amax() < 1e-2, "{} {}", a.model.loadings(), b.model.loadings());
        }
    }

    #[test]
    fn duplicated_and_reordered_observations_change_nothing(seed in 0u64..1000) {
        let x = sample(5, 1, 30, seed);
        let order: Vec<usize> = (0..60).map(|i| (i * 7) % 30).collect();
        let twice = x.select_columns(&order);
        let (a, b) = (FactorAnalysis::fit(1, &x).unwrap(), FactorAnalysis::fit(1, &twice).unwrap());
        prop_assert!((a.trace.last().unwrap() - b.trace.last().unwrap()).abs() < 1e-7);
    }
}

#[test]
fn moments_and_weights_fit_as_the_data_do() {
    fn check<T: Real>(tolerance: f64) {
        let rng = &mut Generator::seed_from_u64(12);
        let loadings = DMatrix::from_fn(7, 2, |_, _| T::standard_normal(rng));
        let units = DVector::from_fn(7, |j, _| T::of(10f64.powi(j as i32 - 3)));
        let mut x = FactorAnalysis::from_parameters(
            loadings,
            DVector::from_element(7, T::of(2.0)),
            DVector::from_element(7, T::of(0.5)),
        )
        .unwrap()
        .sample(120, rng);
        x.column_iter_mut().for_each(|mut column| column.component_mul_assign(&units));
        let builder = FactorAnalysis::<T>::builder(2);
        let (mut first, mut second) = (Moments::new(7), Moments::new(7));
        first.update(x.columns(0, 70)).unwrap();
        second.update(x.columns(70, 50)).unwrap();
        first.merge(&second).unwrap();
        let (streamed, whole) =
            (builder.fit(&first, &mut VoidRng).unwrap(), builder.fit(&x, &mut VoidRng).unwrap());
        assert!((streamed.trace.last().unwrap() - whole.trace.last().unwrap()).abs() < tolerance);
        let ratios = streamed.model.noise_variances().component_div(&whole.model.noise_variances());
        assert!(ratios.iter().all(|ratio| (ratio.as_f64() - 1.0).abs() < 1e3 * tolerance));
        let read = builder.fit(&mut (&x).into_observations().unwrap(), &mut VoidRng).unwrap();
        assert!((read.trace.last().unwrap() - whole.trace.last().unwrap()).abs() < tolerance);
        let mut other = Chunks::new(7, || {
            [
                Ok::<_, Error>(x.columns(0, 9).into_owned()),
                Ok(DMatrix::from_element(6, 2, T::one())),
            ]
        });
        assert!(matches!(
            builder.fit(&mut other, &mut VoidRng),
            Err(Error::DimensionMismatch { expected: 7, actual: 6, .. })
        ));
        let mut none = Chunks::new(7, std::iter::empty::<Result<DMatrix<T>, Error>>);
        assert!(matches!(
            builder.fit(&mut none, &mut VoidRng),
            Err(Error::LatentDim { .. } | Error::TooFewObservations { .. })
        ));
        let weights: Vec<T> = (0..120).map(|i| T::of_usize(i % 3)).collect();
        let repeated: Vec<usize> = (0..120).flat_map(|i| std::iter::repeat_n(i, i % 3)).collect();
        let (weighted, literal) = (
            builder.fit(x.weighted(&weights), &mut VoidRng).unwrap(),
            builder.fit(&x.select_columns(&repeated), &mut VoidRng).unwrap(),
        );
        assert!((weighted.trace.last().unwrap() - literal.trace.last().unwrap()).abs() < tolerance);
        let refused =
            |weight: f64| builder.fit(x.weighted(&[T::of(weight); 120]), &mut VoidRng).unwrap_err();
        assert!(matches!(refused(-1.0), Error::InvalidWeight { observation: 0, .. }));
        assert!(matches!(refused(f64::NAN), Error::InvalidWeight { observation: 0, .. }));
        assert!(
            matches!(
                refused(0.0),
                Error::TooFewObservations { actual: 0, .. } | Error::LatentDim { .. }
            ),
            "{}",
            refused(0.0)
        );
    }
    check::<f64>(1e-8);
    check::<f32>(1e-5);
}

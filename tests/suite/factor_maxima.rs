//! Factor analysis reaches the global maximum of tables with several maxima, and reports what is
//! not determined. The right values are those of L-BFGS-B (scipy) on the profile likelihood, the
//! best of 60 random initialisations.

use crate::support::{VoidRng, case};
use elbo::data::Incomplete;
use elbo::data::files::{ReadOptions, read};
use elbo::fit::{ExpectationMaximization, Fitted, ProfileLikelihood, StopReason};
use elbo::{FactorAnalysis, Real};
use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

/// The data of the example of R's `factanal`: 6 variables, 18 observations.
fn factanal_example() -> DMatrix<f64> {
    #[rustfmt::skip]
    let rows = [
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 4, 5, 6,
        1, 2, 1, 1, 1, 1, 2, 1, 2, 1, 3, 4, 3, 3, 3, 4, 6, 5,
        3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 4, 6,
        3, 3, 4, 3, 3, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 5, 6, 4,
        1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 6, 4, 5,
        1, 1, 1, 2, 1, 3, 3, 3, 4, 3, 1, 1, 1, 2, 1, 6, 5, 4,
    ];
    DMatrix::from_row_iterator(6, 18, rows.into_iter().map(f64::from))
}

/// Blocks of correlated variables: each block is a factor of its own, so that fewer factors than
/// blocks have several maxima.
fn blocks(sizes: &[usize], n: usize, noise: f64, seed: u64) -> DMatrix<f64> {
    let rng = &mut Generator::seed_from_u64(seed);
    let factors = DMatrix::from_fn(sizes.len(), n, |_, _| f64::standard_normal(rng));
    let block_of: Vec<usize> = (0..sizes.len()).flat_map(|b| vec![b; sizes[b]]).collect();
    DMatrix::from_fn(block_of.len(), n, |j, i| {
        factors[(block_of[j], i)] + noise * f64::standard_normal(rng)
    })
}

fn fit(k: usize, floor: f64, x: &DMatrix<f64>) -> Fitted<FactorAnalysis> {
    FactorAnalysis::builder(k).noise_floor(floor).fit(x, &mut VoidRng).unwrap()
}

fn reached(fit: &Fitted<FactorAnalysis>) -> f64 {
    fit.trace.last().unwrap()
}

fn table(name: &str) -> DMatrix<f64> {
    let path = format!("{}/../examples/data/{name}.csv.gz", env!("CARGO_MANIFEST_DIR"));
    read::<f64>(path, &ReadOptions::default().label("label")).unwrap().values
}

#[test]
fn the_global_maximum_of_tables_with_several() {
    let cases = [
        (factanal_example(), 1, 1e-6, -9.454006627483),
        (factanal_example(), 2, 1e-6, -8.375007071269),
        (factanal_example(), 3, 1e-6, -7.706422786897),
        (factanal_example(), 3, 0.005, -7.713032174861),
        (case("blocks.csv"), 1, 1e-6, -21.212902487766),
        (case("blocks.csv"), 2, 1e-6, -20.048951037277),
        (case("blocks.csv"), 3, 1e-6, -19.085011336275),
        (case("redundant_total.csv"), 4, 1e-6, -7.196776246233),
        (table("wine"), 2, 0.05, -19.533946960495),
        (table("wine"), 3, 0.05, -19.180539121294),
        (table("wine"), 5, 0.05, -18.834238231021),
        (table("wine"), 6, 0.005, -18.764887148468),
        (table("iris"), 1, 0.05, -2.921935474723),
        (table("iris"), 2, 0.05, -2.762746932017),
        (table("iris"), 2, 0.005, -2.610847482138),
        (table("iris"), 2, 1e-6, -2.594043371735),
    ];
    for (x, k, floor, right) in cases {
        let (d, n) = x.shape();
        let fit = fit(k, floor, &x);
        let found = reached(&fit);
        assert!((found - right).abs() < 1e-6, "{d}×{n}, k = {k}, {floor}: {found} and not {right}");
        let score = fit.model.log_likelihood(&x).unwrap().mean();
        assert!((score - found).abs() < 1e-7, "{score} {found}");
        assert!(matches!(fit.stop, StopReason::Converged | StopReason::Floor), "{:?}", fit.stop);
    }
}

/// 20 to 147 nats in all were lost where a floor made the first step no descent.
#[test]
fn no_restart_finds_more_than_the_default() {
    for seed in 0..6 {
        let tables: [(&[usize], usize, f64, usize, f64); 5] = [
            (&[5, 4, 4, 3], 64, 0.7, 1, 1e-6),
            (&[6, 5, 4, 3], 80, 1.0, 1, 1e-6),
            (&[6, 5, 5, 4, 2], 90, 1.0, 2, 0.05),
            (&[3, 3, 2], 20, 0.7, 2, 0.005),
            (&[4, 4, 4], 12, 0.5, 2, 0.01),
        ];
        for (sizes, n, noise, k, floor) in tables {
            let x = blocks(sizes, n, noise, seed);
            let found = reached(&fit(k, floor, &x));
            let builder = FactorAnalysis::builder(k).noise_floor(floor).restarts(20);
            let more = builder.fit(&x, &mut Generator::seed_from_u64(seed)).unwrap();
            assert_eq!(more.trace.starts().len(), 21);
            let best = reached(&more);
            assert!(best - found < 1e-6, "{sizes:?}, seed {seed}: {found} and not {best}");
            let largest = more.trace.starts().iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!((largest - best).abs() < 1e-9);
        }
    }
}

#[test]
fn a_fit_ends_where_the_projected_gradient_is_zero() {
    for (x, k, floor) in [
        (table("wine"), 4, 0.05),
        (table("iris"), 2, 0.05),
        (factanal_example(), 3, 0.005),
        (blocks(&[6, 5, 4], 40, 0.6, 1), 2, 0.2),
    ] {
        let fit = fit(k, floor, &x);
        let variances = elbo::Observations::new(x.as_view()).unwrap().variances();
        let psi = fit.model.noise_variances();
        let value = |psi: &nalgebra::DVector<f64>, w: &DMatrix<f64>| {
            let mean = fit.model.mean().into_owned();
            FactorAnalysis::from_parameters(w.clone(), mean, psi.clone())
                .unwrap()
                .score(&x)
                .unwrap()
        };
        let w = fit.model.loadings().into_owned();
        for j in 0..x.nrows() {
            // By the envelope theorem the derivative holds W fixed.
            let moved = |factor: f64| {
                let mut psi = psi.clone();
                psi[j] *= factor;
                value(&psi, &w)
            };
            let slope = (moved(1.0 + 1e-5) - moved(1.0 - 1e-5)) / 2e-5;
            let bound = psi[j] <= floor * variances[j] * (1.0 + 1e-9);
            assert!(
                slope.abs() < 1e-4 || (bound && slope < 0.0),
                "variable {j}: slope {slope} at ψ = {} of {}",
                psi[j],
                variances[j]
            );
        }
    }
}

#[test]
fn em_restarts_and_reports_its_spread() {
    let x = case("blocks.csv");
    let em = ExpectationMaximization { max_iterations: 3_000, tolerance: 1e-8 };
    let fit = FactorAnalysis::builder(1)
        .fitter(em)
        .restarts(12)
        .fit(&x, &mut Generator::seed_from_u64(1))
        .unwrap();
    assert_eq!(fit.trace.starts().len(), 13);
    assert!((reached(&fit) + 21.212902487766).abs() < 1e-4, "{}", reached(&fit));
    let worst = fit.trace.starts().iter().copied().fold(f64::INFINITY, f64::min);
    assert!(worst < -21.5, "some end in another maximum: {:?}", fit.trace.starts());
}

#[test]
fn too_many_factors_are_reported() {
    let x = table("iris");
    let two = fit(2, 1e-6, &x).model;
    assert_eq!(two.degrees_of_freedom(), -1);
    assert!(two.to_string().contains("not determined"), "{two}");
    assert_eq!(two.parameter_count(), 14, "no more than the covariance and the mean have");
    assert_eq!(fit(3, 1e-6, &x).model.parameter_count(), 14);
    let one = fit(1, 1e-6, &x).model;
    assert_eq!((one.degrees_of_freedom(), one.parameter_count()), (2, 12));
    assert!(!one.to_string().contains("not determined"), "{one}");
    // A constant variable gives no covariance to determine anything by.
    let with_constant = x.insert_row(4, 7.0);
    assert_eq!(fit(2, 1e-6, &with_constant).model.degrees_of_freedom(), -1);
}

#[test]
fn without_missing_values_the_incomplete_fit_is_the_complete_one() {
    for (x, k) in
        [(case("redundant_total.csv"), 4), (case("blocks.csv"), 1), (factanal_example(), 3)]
    {
        let fitted = FactorAnalysis::builder(k)
            .fit(Incomplete(&x), &mut Generator::seed_from_u64(0))
            .unwrap();
        let complete = FactorAnalysis::fit(k, &x).unwrap();
        assert_eq!(reached(&fitted), reached(&complete));
    }
}

/// A pair of variables that are one up to its unit, beside two factors: the identity is worth
/// nats in every observation, and more factors never lose it.
#[test]
fn a_near_identity_is_found_with_missing_values() {
    let rng = &mut Generator::seed_from_u64(3);
    let mut x = blocks(&[4, 4, 1], 150, 0.6, 3);
    let twin = DMatrix::from_fn(1, 150, |_, i| -2.0 * x[(8, i)] + 1e-6 * f64::standard_normal(rng));
    x = x.insert_row(9, 0.0);
    x.row_mut(9).copy_from(&twin.row(0));
    let complete = x.clone();
    x.apply(|value| {
        if rng.random::<f64>() < 0.1 {
            *value = f64::NAN;
        }
    });
    let mut before = f64::NEG_INFINITY;
    for k in 1..=4 {
        let builder = FactorAnalysis::builder(k);
        let fit = builder.fit(Incomplete(&x), &mut Generator::seed_from_u64(0)).unwrap();
        assert!(reached(&fit) > before - 1e-6, "k = {k}: {} after {before}", reached(&fit));
        before = reached(&fit);
        let bound = fit.model.heywood_variables();
        assert!(bound.contains(&8) && bound.contains(&9), "k = {k}: {bound:?}");
        let completed = fit.model.impute(&x).unwrap();
        for i in (0..150).filter(|&i| x[(8, i)].is_nan() != x[(9, i)].is_nan()) {
            let j = if x[(8, i)].is_nan() { 8 } else { 9 };
            assert!((completed[(j, i)] - complete[(j, i)]).abs() < 0.02, "k = {k}, {i}");
        }
    }
}

#[test]
fn a_given_number_of_initialisations_is_kept_to() {
    let x = case("blocks.csv");
    let with = |starts| {
        let fitter = ProfileLikelihood { starts, ..ProfileLikelihood::default() };
        reached(&FactorAnalysis::builder(1).fitter(fitter).fit(&x, &mut VoidRng).unwrap())
    };
    // The first two end in another maximum.
    assert!((with(2) + 21.539065080786).abs() < 1e-6, "{}", with(2));
    assert!((with(0) + 21.212902487766).abs() < 1e-6);
    assert!((with(24) - with(0)).abs() < 1e-9);
}

//! The maximum is reached, from every seed.

use crate::missing::{iris_with_holes, rng, table};
use crate::support::VoidRng;
use elbo::Ppca;
use elbo::data::Centering;
use elbo::data::Incomplete;
use elbo::fit::{EmAcceleration, MissingDataEm, StopReason};
use elbo::likelihood::NoiseVariance;
use nalgebra::DMatrix;

fn total(k: usize, x: &DMatrix<f64>, seed: u64) -> f64 {
    let fitted = Ppca::builder(k).fit(Incomplete(x), &mut rng(seed)).unwrap();
    assert_eq!(fitted.stop, StopReason::Converged);
    fitted.model.log_likelihood(Incomplete(x)).unwrap().sum()
}

#[test]
fn iris_with_holes_from_20_seeds() {
    let x = iris_with_holes();
    assert_eq!(x.iter().filter(|v| v.is_nan()).count(), 54);
    for (k, expected) in [(1, -447.76257272069), (2, -392.59988429207)] {
        for seed in 0..20 {
            let value = total(k, &x, seed);
            assert!(
                value <= expected + 1e-9 && value > expected - 1e-5,
                "k={k}, seed {seed}: {value}"
            );
        }
    }
    // To the last digits, if asked for.
    let exact = MissingDataEm { tolerance: 1e-13, ..MissingDataEm::default() };
    let fitted =
        Ppca::builder(2).missing_data_fitter(exact).fit(Incomplete(&x), &mut rng(3)).unwrap();
    assert!((fitted.trace.last().unwrap() * 150.0 + 392.59988429207).abs() < 1e-10);
}

#[test]
fn tables_of_400_by_12_from_20_random_starts() {
    // The first start asks for no random number, so that the seeds tell of the restarts. Noise
    // alone, where the likelihood is flat and has saddles, and three factors.
    for (x, k) in [
        (table(12, 400, 0, 1.0, 0.2, 1), 3),
        (table(12, 400, 3, 0.5, 0.3, 2), 3),
        (table(12, 400, 3, 0.05, 0.5, 3), 4),
    ] {
        let fitted = Ppca::builder(k).restarts(20).fit(Incomplete(&x), &mut rng(1)).unwrap();
        let values: Vec<f64> = fitted.trace.starts().iter().map(|start| 400.0 * start).collect();
        assert!((total(k, &x, 2) - values[0]).abs() < 1e-9);
        let best = values.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let worst = values.iter().fold(f64::INFINITY, |a, &b| a.min(b));
        assert!(best - worst < 4e-4, "k={k}: {worst} to {best}");
    }
}

#[test]
fn random_starts_reach_it_too_and_their_spread_is_told() {
    for (k, expected) in [(1, -447.76257272069), (2, -392.59988429207)] {
        let fitted =
            Ppca::builder(k).restarts(20).fit(Incomplete(&iris_with_holes()), &mut rng(7)).unwrap();
        assert!(
            fitted.trace.starts().iter().all(|start| (150.0 * start - expected).abs() < 2e-5),
            "{:?}",
            fitted.trace.starts()
        );
    }
    let x = table(12, 400, 3, 0.5, 0.3, 2);
    let fitted = Ppca::builder(3).restarts(10).fit(Incomplete(&x), &mut rng(0)).unwrap();
    let starts = fitted.trace.starts();
    assert_eq!(starts.len(), 11);
    assert!(
        starts.iter().all(|start| (start - fitted.trace.last().unwrap()).abs() < 2e-7),
        "{starts:?}"
    );
    assert!(Ppca::builder(3).fit(Incomplete(&x), &mut rng(0)).unwrap().trace.starts().is_empty());
}

#[test]
fn every_scheme_rises_and_they_agree() {
    let x = table(8, 120, 2, 0.5, 0.25, 5);
    let mut ends = Vec::new();
    for scheme in [EmAcceleration::Plain, EmAcceleration::Expanded, EmAcceleration::Accelerated] {
        let fitter = MissingDataEm { tolerance: 1e-10, scheme, ..MissingDataEm::default() };
        let fitted =
            Ppca::builder(2).missing_data_fitter(fitter).fit(Incomplete(&x), &mut rng(1)).unwrap();
        let values = fitted.trace.values();
        assert!(
            values.windows(2).all(|pair| pair[1] >= pair[0] - 1e-12 * pair[0].abs()),
            "{scheme:?} falls"
        );
        assert_eq!(fitted.stop, StopReason::Converged);
        ends.push((values[values.len() - 1], fitted.iterations()));
    }
    assert!(ends.iter().all(|end| (end.0 - ends[0].0).abs() < 1e-8), "{ends:?}");
    assert!(ends[2].1 <= ends[1].1, "{ends:?}");
}

#[test]
fn nothing_missing_is_the_closed_form() {
    let x = table(7, 90, 2, 0.4, 0.0, 7);
    let exact = MissingDataEm { tolerance: 1e-14, ..MissingDataEm::default() };
    for builder in [
        Ppca::builder(2),
        Ppca::builder(2).centering(Centering::None),
        Ppca::builder(2).noise_variance(NoiseVariance::Fixed(0.3)),
        Ppca::builder(3).noise_floor(0.5),
    ] {
        let closed = builder.fit(&x, &mut VoidRng).unwrap();
        let fitted = builder.missing_data_fitter(exact).fit(Incomplete(&x), &mut rng(2)).unwrap();
        let covariance = |model: &Ppca| model.loadings() * model.loadings().transpose();
        assert!(
            (covariance(&closed.model) - covariance(&fitted.model)).amax()
                < 1e-6 * covariance(&closed.model).amax()
        );
        assert!((closed.model.noise_variance() - fitted.model.noise_variance()).abs() < 1e-8);
        assert!((closed.model.mean() - fitted.model.mean()).amax() < 1e-8);
        let (expected, got) =
            (closed.model.log_likelihood(&x).unwrap().mean(), fitted.trace.last().unwrap());
        assert!((expected - got).abs() < 1e-10, "{expected} {got}");
        assert!(
            (fitted.model.log_likelihood(Incomplete(&x)).unwrap()
                - fitted.model.log_likelihood(&x).unwrap())
            .amax()
                < 1e-10
        );
    }
}

#[test]
fn the_mean_moves() {
    // A second variable that is seen where the first is large: its own observed mean is far from
    // that of all.
    let mut x = table(2, 300, 1, 0.1, 0.0, 11);
    let median = x.row(0).mean();
    let whole = x.row(1).mean();
    for i in 0..300 {
        if x[(0, i)] < median {
            x[(1, i)] = f64::NAN;
        }
    }
    let seen: Vec<f64> = x.row(1).iter().copied().filter(|v| !v.is_nan()).collect();
    let observed = seen.iter().sum::<f64>() / seen.len() as f64;
    let fitted = Ppca::builder(1)
        .noise_variance(NoiseVariance::Fixed(0.01))
        .fit(Incomplete(&x), &mut rng(0))
        .unwrap();
    let moved = fitted.model.mean()[1];
    assert!((moved - whole).abs() < 0.1 * (observed - whole).abs(), "{moved} {whole} {observed}");
}

/// The mean over the variables of the variance of what was observed, divisor n.
fn mean_observed_variance(x: &DMatrix<f64>) -> f64 {
    let variance = |row: usize| {
        let seen: Vec<f64> = x.row(row).iter().copied().filter(|v| !v.is_nan()).collect();
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        seen.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / seen.len() as f64
    };
    (0..x.nrows()).map(variance).sum::<f64>() / x.nrows() as f64
}

#[test]
fn a_bound_on_the_iterations_is_a_reason_to_stop() {
    let x = table(8, 120, 2, 0.5, 0.25, 5);
    let few = MissingDataEm { max_iterations: 2, ..MissingDataEm::default() };
    let fitted =
        Ppca::builder(2).missing_data_fitter(few).fit(Incomplete(&x), &mut rng(1)).unwrap();
    assert_eq!((fitted.stop, fitted.iterations()), (StopReason::IterationLimit, 2));
    let floor = Ppca::builder(7).noise_floor(0.2).fit(Incomplete(&x), &mut rng(1)).unwrap();
    assert_eq!(floor.stop, StopReason::Floor);
    let share = floor.model.noise_variance() / mean_observed_variance(&x);
    assert!((share - 0.2).abs() < 1e-12, "{share}");
}

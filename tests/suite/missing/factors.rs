//! Factor analysis of data with holes: the same EM with a noise variance for each variable.

use crate::missing::{HOLE, covariance, iris_with_holes, marginal, rng, table};
use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::data::Incomplete;
use elbo::fit::{EmAcceleration, Fitted, MissingDataEm, ProfileLikelihood, StopReason};
use elbo::posterior::{GaussianPosterior, Posterior};
use elbo::{Error, FactorAnalysis};
use nalgebra::{DMatrix, DVector, dvector};
use rand::RngExt;

/// `k` factors behind variables of very different units and noise, with a share of holes at random;
/// and the model that they are of.
fn factors(d: usize, n: usize, k: usize, holes: f64, seed: u64) -> (FactorAnalysis, DMatrix<f64>) {
    let mut rng = rng(seed);
    let units = DVector::from_fn(d, |j, _| 10f64.powi(j as i32 % 5 - 2));
    let loadings = DMatrix::from_fn(d, k, |j, _| units[j] * crate::missing::normal(&mut rng));
    let noise = DVector::from_fn(d, |j, _| units[j].powi(2) * (0.2 + rng.random::<f64>()));
    let truth = FactorAnalysis::from_parameters(loadings, &units * 3.0, noise).unwrap();
    let mut x = truth.sample(n, &mut rng);
    x.apply(|value| {
        if rng.random::<f64>() < holes {
            *value = HOLE;
        }
    });
    (truth, x)
}

fn fit(k: usize, x: &DMatrix<f64>) -> Fitted<FactorAnalysis> {
    let exact = MissingDataEm { tolerance: 1e-11, ..MissingDataEm::default() };
    FactorAnalysis::builder(k).missing_data_fitter(exact).fit(Incomplete(x), &mut rng(0)).unwrap()
}

#[test]
fn every_verb_agrees_with_the_explicit_covariance() {
    for (d, k, n) in [(5, 2, 60), (9, 3, 400), (70, 3, 30)] {
        let (model, x) = factors(d, n, k, 0.35, 4);
        let values = model.log_likelihood(Incomplete(&x)).unwrap();
        let missing = model.conditional(&x).unwrap();
        let posterior = model.encode(Incomplete(&x)).unwrap();
        let completed = model.impute(&x).unwrap();
        for (i, column) in x.column_iter().enumerate() {
            let (value, mean, variance) =
                marginal(&model.mean().into_owned(), &covariance(&model), &column.into_owned());
            assert!(
                (values[i] - value).abs() < 1e-9 * (1.0 + value.abs()),
                "{i}: {} {value}",
                values[i]
            );
            for (place, j) in (0..d).filter(|&j| column[j].is_nan()).enumerate() {
                let deviation = variance[(place, place)].sqrt();
                assert!((missing.mean[(j, i)] - mean[place]).abs() < 1e-9 * deviation);
                assert!((missing.variance[(j, i)] / variance[(place, place)] - 1.0).abs() < 1e-9);
                assert_eq!(completed[(j, i)], missing.mean[(j, i)]);
            }
            let seen: Vec<usize> = (0..d).filter(|&j| !column[j].is_nan()).collect();
            let w = model.loadings().select_rows(&seen);
            let scaled = DMatrix::from_fn(seen.len(), k, |a, m| {
                w[(a, m)] / model.noise_variances()[seen[a]]
            });
            let expected = (DMatrix::identity(k, k) + w.tr_mul(&scaled)).try_inverse().unwrap();
            let deviation = DVector::from_iterator(
                seen.len(),
                seen.iter().map(|&j| column[j] - model.mean()[j]),
            );
            assert!(
                (posterior.mean().column(i) - &expected * scaled.tr_mul(&deviation)).amax() < 1e-9
            );
            assert!((posterior.covariance(i) - expected).amax() < 1e-10);
        }
    }
}

#[test]
fn draws_have_the_conditional_deviation() {
    let (model, x) = factors(5, 3, 2, 0.5, 6);
    let missing = model.conditional(&x).unwrap();
    let tables = model.impute_multiple(8_000, &x, &mut rng(2)).unwrap();
    for (j, i) in (0..5).flat_map(|j| (0..3).map(move |i| (j, i))) {
        let mean = tables.iter().map(|t| t[(j, i)]).sum::<f64>() / 8_000.0;
        let variance = tables.iter().map(|t| (t[(j, i)] - mean).powi(2)).sum::<f64>() / 8_000.0;
        if x[(j, i)].is_nan() {
            assert!((variance / missing.variance[(j, i)] - 1.0).abs() < 0.1, "{j}, {i}");
            assert!((mean - missing.mean[(j, i)]).abs() < 5.0 * (variance / 8_000.0).sqrt());
        } else {
            assert!(tables.iter().all(|t| t[(j, i)] == x[(j, i)]));
        }
    }
}

#[test]
fn nothing_missing_is_the_complete_fit() {
    for (d, n, k) in [(6, 150, 2), (10, 400, 3)] {
        let (_, x) = factors(d, n, k, 0.0, 3);
        for mean in [Centering::Mean, Centering::None] {
            let builder = FactorAnalysis::builder(k).centering(mean);
            let whole = builder
                .fitter(ProfileLikelihood { tolerance: 1e-13, ..ProfileLikelihood::default() })
                .fit(&x, &mut VoidRng)
                .unwrap();
            let exact = MissingDataEm { tolerance: 1e-12, ..MissingDataEm::default() };
            let fitted =
                builder.missing_data_fitter(exact).fit(Incomplete(&x), &mut rng(1)).unwrap();
            let (expected, found) = (whole.trace.last().unwrap(), fitted.trace.last().unwrap());
            assert!((expected - found).abs() < 1e-8, "{d}×{n}, {mean:?}: {expected} {found}");
            assert!(
                (fitted.model.noise_variances().component_div(&whole.model.noise_variances()))
                    .iter()
                    .all(|ratio| (ratio - 1.0).abs() < 1e-2)
            );
            // The form is the same as well: W itself, and not only WWᵗ.
            let deviations = covariance(&whole.model).diagonal().map(f64::sqrt);
            let difference = fitted.model.loadings() - whole.model.loadings();
            assert!(
                difference.row_iter().zip(deviations.iter()).all(|(row, s)| row.amax() < 0.02 * s),
                "{difference}"
            );
        }
    }
}

#[test]
fn every_scheme_rises_and_they_agree() {
    let (_, x) = factors(8, 200, 2, 0.25, 5);
    let mut ends = Vec::new();
    for scheme in [EmAcceleration::Plain, EmAcceleration::Expanded, EmAcceleration::Accelerated] {
        let fitter = MissingDataEm { tolerance: 1e-10, scheme, ..MissingDataEm::default() };
        let fitted = FactorAnalysis::builder(2)
            .missing_data_fitter(fitter)
            .fit(Incomplete(&x), &mut rng(1))
            .unwrap();
        let values = fitted.trace.values();
        assert!(
            values.windows(2).all(|pair| pair[1] >= pair[0] - 1e-12 * pair[0].abs()),
            "{scheme:?} falls"
        );
        assert_eq!(fitted.stop, StopReason::Converged);
        assert!(
            (fitted.model.log_likelihood(Incomplete(&x)).unwrap().mean()
                - values[values.len() - 1])
                .abs()
                < 1e-10
        );
        ends.push((values[values.len() - 1], fitted.iterations()));
    }
    assert!(ends.iter().all(|end| (end.0 - ends[0].0).abs() < 1e-7), "{ends:?}");
    assert!(ends[2].1 < ends[0].1, "{ends:?}");
}

#[test]
fn every_start_reaches_one_value() {
    for (d, n, k, holes, seed) in [(9, 300, 2, 0.2, 1), (12, 400, 3, 0.3, 2)] {
        let (_, x) = factors(d, n, k, holes, seed);
        let fitted =
            FactorAnalysis::builder(k).restarts(10).fit(Incomplete(&x), &mut rng(7)).unwrap();
        let starts = fitted.trace.starts();
        assert_eq!(starts.len(), 11);
        assert!(starts.iter().all(|start| (start - starts[0]).abs() < 1e-6), "{starts:?}");
    }
}

#[test]
fn recovers_the_model_through_holes() {
    let (truth, x) = factors(10, 4000, 2, 0.2, 8);
    let fitted = fit(2, &x);
    let gain = fitted.model.log_likelihood(Incomplete(&x)).unwrap().sum()
        - truth.log_likelihood(Incomplete(&x)).unwrap().sum();
    // Twice the gain is χ² with 39 degrees of freedom.
    assert!(gain > 0.0 && gain < 50.0, "{gain}");
    let ratios = fitted.model.noise_variances().component_div(&truth.noise_variances());
    assert!(ratios.iter().all(|ratio| (ratio - 1.0).abs() < 0.15), "{ratios}");
    let (wanted, found) = (covariance(&truth), covariance(&fitted.model));
    for (j, l) in (0..10).flat_map(|j| (0..10).map(move |l| (j, l))) {
        assert!(
            (wanted[(j, l)] - found[(j, l)]).abs() < 0.1 * (wanted[(j, j)] * wanted[(l, l)]).sqrt()
        );
    }
}

#[test]
fn the_units_of_a_variable_do_not_matter_and_the_mean_moves() {
    let (_, x) = factors(6, 250, 2, 0.2, 9);
    let value = fit(2, &x);
    let mut other = x.clone();
    other.row_mut(1).apply(|v| *v = 1e4 * *v - 7.0);
    let scaled = fit(2, &other);
    let seen = x.row(1).iter().filter(|v| !v.is_nan()).count() as f64;
    let (expected, found) =
        (value.trace.last().unwrap() - seen / 250.0 * f64::ln(1e4), scaled.trace.last().unwrap());
    assert!((expected - found).abs() < 1e-8, "{expected} {found}");
    assert!(
        (scaled.model.noise_variances()[1] / value.model.noise_variances()[1] / 1e8 - 1.0).abs()
            < 1e-3
    );
    let observed = x.row(1).iter().filter(|v| !v.is_nan()).sum::<f64>() / seen;
    assert!(
        (value.model.mean()[1] - observed).abs() > 1e-3 * value.model.noise_variances()[1].sqrt()
    );
}

#[test]
fn heywood_cases_are_floored_and_told() {
    // More factors than the data bear: about half of the tables have a Heywood case. Without holes
    // the complete fit says which.
    let mut cases = 0;
    for seed in 0..12 {
        let x = table(6, 60, 2, 1.0, 0.0, seed);
        let builder =
            FactorAnalysis::builder(3).noise_floor(if seed % 2 == 0 { 1e-6 } else { 0.005 });
        let whole = builder.fit(&x, &mut VoidRng).unwrap();
        let fitted = builder.fit(Incomplete(&x), &mut rng(0)).unwrap();
        let (expected, found) = (whole.trace.last().unwrap(), fitted.trace.last().unwrap());
        assert!(found > expected - 5e-6 && found < expected + 1e-9, "{seed}: {found} {expected}");
        assert_eq!(fitted.model.heywood_variables(), whole.model.heywood_variables(), "{seed}");
        cases += usize::from(!whole.model.heywood_variables().is_empty());
        // With holes: the floor holds exactly, is told, and J does not fall on the way there.
        let holes = table(6, 80, 2, 1.0, 0.2, seed);
        let fitted = builder.restarts(2).fit(Incomplete(&holes), &mut rng(0)).unwrap();
        assert_eq!(fitted.stop == StopReason::Floor, !fitted.model.heywood_variables().is_empty());
        let values = fitted.trace.values();
        assert!(values.windows(2).all(|pair| pair[1] >= pair[0] - 1e-12 * pair[0].abs()));
        assert!(
            (fitted.model.log_likelihood(Incomplete(&holes)).unwrap().mean()
                - values[values.len() - 1])
                .abs()
                < 1e-9
        );
    }
    assert!(cases > 5, "{cases}");
}

#[test]
fn constant_and_nearly_empty_variables() {
    let (_, mut x) = factors(7, 120, 1, 0.1, 2);
    x.row_mut(3).apply(|v| *v = if v.is_nan() { HOLE } else { 4.25 });
    for i in 1..120 {
        x[(5, i)] = HOLE;
    }
    x[(5, 0)] = 3.0;
    x.column_mut(9).fill(HOLE);
    let fitted = FactorAnalysis::builder(1).fit(Incomplete(&x), &mut rng(0)).unwrap();
    assert_eq!(fitted.model.heywood_variables(), [3, 5]);
    assert!(fitted.model.loadings().row(3).amax() == 0.0 && fitted.model.mean()[3] == 4.25);
    let missing = fitted.model.conditional(&x).unwrap();
    assert!(missing.mean.iter().chain(missing.variance.iter()).all(|v| v.is_finite()));
    assert_eq!(fitted.model.log_likelihood(Incomplete(&x)).unwrap()[9], 0.0);
}

#[test]
fn refusals() {
    let (_, x) = factors(5, 40, 1, 0.2, 1);
    let refusal = |k: usize, x: &DMatrix<f64>| {
        FactorAnalysis::builder(k).fit(Incomplete(x), &mut rng(0)).unwrap_err()
    };
    assert!(matches!(refusal(0, &x), Error::LatentDim { latent_dim: 0, .. }));
    assert!(matches!(refusal(6, &x), Error::LatentDim { latent_dim: 6, .. }));
    assert!(
        matches!(refusal(5, &x), Error::TooFewEntries { latent_dim: 5, .. }),
        "{}",
        refusal(5, &x)
    );
    assert!(matches!(
        refusal(1, &DMatrix::from_element(3, 9, 1.0)),
        Error::ZeroVariance { variables: 3, .. }
    ));
    assert!(matches!(
        refusal(1, &DMatrix::from_element(3, 9, HOLE)),
        Error::NeverObserved { variable: 0, .. }
    ));
    let mut two = x.clone();
    for j in 2..5 {
        two.row_mut(j).fill(1.0);
    }
    assert!(matches!(refusal(2, &two), Error::Unbounded { latent_dim: 2, rank: 2 }));
    let floor = FactorAnalysis::builder(1).noise_floor(0.0).fit(Incomplete(&x), &mut rng(0));
    assert!(matches!(floor, Err(Error::InvalidParameter { .. })));
    let model = FactorAnalysis::from_parameters(
        DMatrix::from_element(2, 1, 1.0),
        dvector![0.0, 0.0],
        dvector![1.0, 2.0],
    )
    .unwrap();
    assert!(matches!(
        model.impute(&x),
        Err(Error::DimensionMismatch { expected: 2, actual: 5, .. })
    ));
}

#[test]
fn single_precision_and_many_variables() {
    let x = iris_with_holes();
    let narrow = x.map(|v| v as f32);
    let fitted = FactorAnalysis::<f32>::builder(1).fit(Incomplete(&narrow), &mut rng(1)).unwrap();
    let exact =
        FactorAnalysis::builder(1).fit(Incomplete(&narrow.map(f64::from)), &mut rng(1)).unwrap();
    assert_eq!(fitted.trace, exact.trace);
    assert!(
        (fitted.model.impute(&narrow).unwrap().map(f64::from)
            - exact.model.impute(&narrow.map(f64::from)).unwrap())
        .amax()
            < 1e-5
    );
    // Beyond the number of variables at which all correlations are estimated for the start.
    let x = table(270, 400, 2, 0.7, 0.2, 5);
    let fitted = FactorAnalysis::builder(2).restarts(1).fit(Incomplete(&x), &mut rng(0)).unwrap();
    assert!(
        fitted
            .trace
            .starts()
            .iter()
            .all(|start| (start - fitted.trace.last().unwrap()).abs() < 1e-6),
        "{:?}",
        fitted.trace.starts()
    );
}

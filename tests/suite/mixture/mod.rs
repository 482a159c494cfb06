//! Mixtures of probabilistic PCA: one component is probabilistic PCA, the likelihood never falls,
//! nothing depends on order.

mod holes;

use elbo::data::Data;
use elbo::data::Incomplete;
use elbo::data::files::{ReadOptions, read};
use elbo::fit::ExpectationMaximization;
use elbo::fit::Fitted;
use elbo::fit::StopReason;
use elbo::mixture::MixtureOfPpca;
use elbo::posterior::GaussianPosterior;
use elbo::{Error, Ppca};
use nalgebra::{DMatrix, DVector, dvector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

fn normal(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(rng))
}

/// Three planes in d dimensions, some way apart.
fn truth(d: usize, k: usize, apart: f64, rng: &mut Generator) -> MixtureOfPpca {
    let component = |rng: &mut Generator, noise| {
        let mean = normal(d, 1, rng).column(0) * apart;
        Ppca::from_parameters(normal(d, k, rng), mean, noise).unwrap()
    };
    let components = vec![component(rng, 0.05), component(rng, 0.2), component(rng, 0.1)];
    MixtureOfPpca::from_components(dvector![0.5, 0.3, 0.2], components).unwrap()
}

#[test]
fn one_component_is_probabilistic_pca() {
    let x = read::<f64>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/wine.csv.gz"),
        &ReadOptions::default().label("label"),
    )
    .unwrap()
    .values;
    let fit =
        MixtureOfPpca::builder(1, 2).restarts(0).fit(&x, &mut Generator::seed_from_u64(1)).unwrap();
    let ppca = Ppca::fit(2, &x).unwrap();
    assert!(
        (fit.model.log_likelihood(&x).unwrap() - ppca.model.log_likelihood(&x).unwrap()).amax()
            < 1e-8
    );
    assert!(
        (fit.model.components()[0].noise_variance() - ppca.model.noise_variance()).abs()
            < 1e-10 * ppca.model.noise_variance()
    );
    assert!(fit.model.responsibilities(&x).unwrap().iter().all(|&r| r == 1.0));
    assert!(
        (fit.model.reconstruct(&x).unwrap() - ppca.model.reconstruct(&x).unwrap()).amax()
            < 1e-8 * x.amax()
    );
    assert_eq!((fit.stop, fit.trace.reinitialized()), (StopReason::Converged, 0));
}

#[test]
fn finds_what_made_the_data() {
    let rng = &mut Generator::seed_from_u64(4);
    let truth = truth(6, 2, 2.0, rng);
    let (labels, x) = truth.sample_with_labels(1500, rng);
    let fit = MixtureOfPpca::builder(3, 2).fit(&x, rng).unwrap();
    let (reached, of_truth) =
        (fit.model.log_likelihood(&x).unwrap().mean(), truth.log_likelihood(&x).unwrap().mean());
    // The maximum is above the truth by about half a parameter's worth each, over n.
    assert!(reached > of_truth && reached < of_truth + 0.05, "{reached} {of_truth}");
    assert!((fit.trace.last().unwrap() - reached).abs() < 1e-10);
    let found = fit.model.assign(&x).unwrap();
    for c in 0..3 {
        let mut counts = [0; 3];
        labels
            .iter()
            .zip(&found)
            .filter(|(label, _)| **label == c)
            .for_each(|(_, &f)| counts[f] += 1);
        let (most, all) = (counts.iter().max().unwrap(), counts.iter().sum::<i32>());
        assert!(f64::from(*most) > 0.97 * f64::from(all), "{counts:?}");
    }
    let best = fit.trace.starts().iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    assert_eq!((fit.trace.starts().len(), best), (5, fit.trace.last().unwrap()));
    // Data from the model: mean 0 of the score in each variable's first moment.
    let again = fit.model.sample(4000, rng);
    let variances = again.column_variance();
    let error = (again.column_mean() - x.column_mean())
        .zip_map(&variances, |e, v| e / (v * (1.0 / 4000.0 + 1.0 / 1500.0)).sqrt());
    assert!(error.amax() < 5.0, "{error}");
}

#[test]
fn densities_are_sums_over_components() {
    let rng = &mut Generator::seed_from_u64(8);
    let mixture = truth(4, 1, 1.0, rng);
    let x = normal(4, 9, rng);
    let (total, shares) =
        (mixture.log_likelihood(&x).unwrap(), mixture.responsibilities(&x).unwrap());
    for i in 0..9 {
        let parts: Vec<f64> = (0..3)
            .map(|c| {
                mixture.weights()[c] * mixture.components()[c].log_likelihood(&x).unwrap()[i].exp()
            })
            .collect();
        let sum: f64 = parts.iter().sum();
        assert!((total[i] - sum.ln()).abs() < 1e-12);
        assert!((0..3).all(|c| (shares[(c, i)] - parts[c] / sum).abs() < 1e-12));
    }
    // Far out, where every density underflows.
    let far = mixture.log_likelihood(&(x * 1e4)).unwrap();
    assert!(far.iter().all(|v| v.is_finite() && *v < -1e5));
    let x = normal(4, 3, rng);
    let (codes, posteriors) = (mixture.transform(&x).unwrap(), mixture.encode(&x).unwrap());
    assert_eq!((codes.len(), codes[1].shape()), (3, (1, 3)));
    assert!(posteriors[2].covariance(0)[(0, 0)] < 1.0);
}

#[test]
fn a_component_that_loses_its_observations_is_put_down_elsewhere() {
    let rng = &mut Generator::seed_from_u64(2);
    let x = truth(5, 1, 3.0, rng).sample(400, rng);
    let far = Ppca::from_parameters(normal(5, 1, rng), DVector::from_element(5, 1e6), 1.0).unwrap();
    let near = Ppca::fit(1, &x).unwrap();
    let start =
        MixtureOfPpca::from_components(dvector![0.5, 0.5], vec![near.clone().model, far]).unwrap();
    let fit = MixtureOfPpca::builder(2, 1).fit_from(&start, &x).unwrap();
    assert!(
        fit.trace.reinitialized() >= 1 && fit.model.weights().min() > 0.05,
        "{} {}",
        fit.trace.reinitialized(),
        fit.model.weights()
    );
    assert!(fit.trace.last().unwrap() > near.model.log_likelihood(&x).unwrap().mean());
}

#[test]
fn coinciding_observations_end_at_the_floor_and_it_is_told() {
    let rng = &mut Generator::seed_from_u64(5);
    let mut x = normal(4, 60, rng);
    for i in 0..25 {
        x.set_column(i, &dvector![9.0, 9.0, 9.0, 9.0]);
    }
    let fit = MixtureOfPpca::builder(2, 1).fit(&x, rng).unwrap();
    assert_eq!(fit.stop, StopReason::Floor);
    let at_floor = fit.model.components().iter().filter(|c| c.likelihood().is_at_floor()).count();
    assert_eq!(at_floor, 1);
    assert!(fit.model.log_likelihood(&x).unwrap().iter().all(|v| v.is_finite()));
    // All observations in two places: fewer places than components.
    let places = DMatrix::from_fn(3, 12, |j, i| ((i % 2) * (j + 1)) as f64);
    assert!(
        MixtureOfPpca::builder(4, 1)
            .fit(&places, rng)
            .unwrap()
            .model
            .log_likelihood(&places)
            .unwrap()
            .sum()
            .is_finite()
    );
}

#[test]
fn single_precision_finds_the_same() {
    let x = read::<f64>(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/iris.csv.gz"),
        &ReadOptions::default().label("label"),
    )
    .unwrap()
    .values;
    let single = x.map(|v| v as f32);
    let a = MixtureOfPpca::builder(2, 1).fit(&x, &mut Generator::seed_from_u64(6)).unwrap();
    let b =
        MixtureOfPpca::<f32>::builder(2, 1).fit(&single, &mut Generator::seed_from_u64(6)).unwrap();
    assert!((a.trace.last().unwrap() - b.trace.last().unwrap()).abs() < 1e-4);
    assert_eq!(a.model.assign(&x).unwrap(), b.model.assign(&single).unwrap());
    // The same seed gives the same bits.
    assert_eq!(a, MixtureOfPpca::builder(2, 1).fit(&x, &mut Generator::seed_from_u64(6)).unwrap());
}

#[test]
fn what_cannot_be_fitted_is_refused_by_name() {
    let rng = &mut Generator::seed_from_u64(1);
    let x = normal(4, 20, rng);
    assert!(matches!(
        MixtureOfPpca::builder(0, 1).fit(&x, rng),
        Err(Error::InvalidParameter { .. })
    ));
    assert!(matches!(
        MixtureOfPpca::builder(21, 1).fit(&x, rng),
        Err(Error::InvalidParameter { value: 21.0, .. })
    ));
    assert!(matches!(
        MixtureOfPpca::builder(2, 4).fit(&x, rng),
        Err(Error::LatentDim { latent_dim: 4, largest: 3, .. })
    ));
    assert!(matches!(
        MixtureOfPpca::builder(2, 1).noise_floor(0.0).fit(&x, rng),
        Err(Error::InvalidParameter { .. })
    ));
    assert!(matches!(
        MixtureOfPpca::builder(1, 1).fit(&DMatrix::from_element(3, 5, 1.0), rng),
        Err(Error::ZeroVariance { .. })
    ));
    let component = Ppca::fit(1, &x).unwrap();
    assert!(matches!(
        MixtureOfPpca::<f64>::from_components(dvector![], vec![]),
        Err(Error::Empty { .. })
    ));
    assert!(
        MixtureOfPpca::from_components(dvector![0.5, 0.5], vec![component.clone().model]).is_err()
    );
    assert!(MixtureOfPpca::from_components(dvector![0.9], vec![component.clone().model]).is_err());
    assert!(
        MixtureOfPpca::from_components(
            dvector![2.0, -1.0],
            vec![component.clone().model, component.clone().model]
        )
        .is_err()
    );
    let mixture = MixtureOfPpca::from_components(dvector![1.0], vec![component.model]).unwrap();
    assert!(mixture.log_likelihood(&normal(3, 2, rng)).is_err());
    assert!(MixtureOfPpca::builder(1, 2).fit_from(&mixture, &x).is_err());
}

#[test]
fn twice_is_a_weight_of_two_and_left_out_is_one_of_zero() {
    let rng = &mut Generator::seed_from_u64(21);
    let x = truth(5, 1, 3.0, rng).sample(240, rng);
    // The small cluster counts most, so that weights that were forgotten would show.
    let weights: Vec<f64> =
        (0..240).map(|i| if x[(0, i)] > 0.0 { 2.0 } else { (i % 3) as f64 }).collect();
    let repeated: Vec<usize> =
        (0..240).flat_map(|i| std::iter::repeat_n(i, weights[i] as usize)).collect();
    let repeated = x.select_columns(&repeated);
    let builder = MixtureOfPpca::builder(3, 1);
    let best = |fit: &Fitted<MixtureOfPpca<f64>>, x: &DMatrix<f64>| {
        fit.model.log_likelihood(x).unwrap().mean()
    };
    let (weighted, literal) =
        (builder.fit(x.weighted(&weights), rng).unwrap(), builder.fit(&repeated, rng).unwrap());
    assert!(
        (weighted.trace.last().unwrap() - literal.trace.last().unwrap()).abs() < 1e-5,
        "{:?} {:?}",
        weighted.trace.starts(),
        literal.trace.starts()
    );
    assert!((weighted.trace.last().unwrap() - best(&weighted, &repeated)).abs() < 1e-8);
    assert!(
        best(&builder.fit(&x, rng).unwrap(), &repeated) < best(&weighted, &repeated) - 1e-4,
        "the weights matter"
    );
    // A hole here and there, the same in the copies.
    let holes = |x: &DMatrix<f64>| {
        x.map_with_location(
            |j, _, v| if (1000.0 * v) as i64 % 7 == j as i64 { f64::NAN } else { v },
        )
    };
    let (weighted, literal) = (
        builder.fit(Incomplete(&holes(&x)).weighted(&weights), rng).unwrap(),
        builder.fit(Incomplete(&holes(&repeated)), rng).unwrap(),
    );
    assert!(
        (weighted.trace.last().unwrap() - literal.trace.last().unwrap()).abs() < 1e-5,
        "{:?} {:?}",
        weighted.trace.starts(),
        literal.trace.starts()
    );
    // The scale of the weights does not matter, and equal ones are none.
    let fit = |weight: f32| {
        builder_f32()
            .fit((&x.map(|v| v as f32)).weighted(&[weight; 240]), &mut Generator::seed_from_u64(3))
            .unwrap()
    };
    assert_eq!(fit(1.0), fit(1e-6));
    let none = builder_f32().fit(&x.map(|v| v as f32), &mut Generator::seed_from_u64(3)).unwrap();
    assert!((none.trace.last().unwrap() - fit(1.0).trace.last().unwrap()).abs() < 1e-9);
}

fn builder_f32() -> elbo::mixture::MixtureOfPpcaBuilder<f32> {
    MixtureOfPpca::builder(3, 1)
}

#[test]
fn what_is_no_weight_is_refused() {
    let rng = &mut Generator::seed_from_u64(2);
    let x = normal(4, 20, rng);
    let builder = MixtureOfPpca::builder(2, 1);
    let mut fits = |weights: &[f64]| {
        [
            builder.fit(x.weighted(weights), rng).unwrap_err(),
            builder.fit(Incomplete(&x).weighted(weights), rng).unwrap_err(),
        ]
    };
    for refused in fits(&[1.0; 19]) {
        assert!(
            matches!(refused, Error::DimensionMismatch { expected: 20, actual: 19, .. }),
            "{refused}"
        );
    }
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        let mut weights = vec![1.0; 20];
        weights[7] = wrong;
        for refused in fits(&weights) {
            assert!(matches!(refused, Error::InvalidWeight { observation: 7, .. }), "{refused}");
        }
    }
    for refused in fits(&[0.0; 20]) {
        assert!(matches!(refused, Error::TooFewObservations { actual: 0, .. }), "{refused}");
    }
    let mut single = vec![0.0; 20];
    single[3] = 1.0;
    for refused in fits(&single) {
        assert!(matches!(refused, Error::InvalidParameter { value: 2.0, .. }), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_likelihood_never_falls_and_order_and_copies_do_not_matter(seed in 0u64..1000, count in 1usize..4, k in 1usize..3) {
        let rng = &mut Generator::seed_from_u64(seed);
        let x = truth(5, 2, 1.0, rng).sample(80, rng);
        let builder = MixtureOfPpca::builder(count, k).fitter(ExpectationMaximization { max_iterations: 60, ..Default::default() });
        let once = ExpectationMaximization { max_iterations: 1, ..Default::default() };
        let start = builder.restarts(0).fitter(once).fit(&x, rng).unwrap().model;
        let fit = builder.fit_from(&start, &x).unwrap();
        if fit.trace.reinitialized() == 0 {
            prop_assert!(fit.trace.values().windows(2).all(|pair| pair[1] >= pair[0] - 1e-10));
        }
        let order: Vec<usize> = (0..160).map(|i| (i * 37) % 80).collect();
        let other = builder.fit_from(&start, &x.select_columns(&order)).unwrap();
        // Whether a component that closes in on k + 1 observations is lost is a matter of their
        // number, and so of copies.
        let apart = |fit: &Fitted<MixtureOfPpca<f64>>| fit.trace.reinitialized() == 0 && fit.stop != StopReason::Floor;
        prop_assume!(apart(&fit) && apart(&other));
        prop_assert!((fit.trace.last().unwrap() - other.trace.last().unwrap()).abs() < 1e-6);
        let reversed = MixtureOfPpca::from_components(
            DVector::from_iterator(count, start.weights().iter().rev().copied()),
            start.components().iter().rev().cloned().collect(),
        ).unwrap();
        let other = builder.fit_from(&reversed, &x).unwrap();
        prop_assert!((fit.trace.last().unwrap() - other.trace.last().unwrap()).abs() < 1e-6);
    }
}

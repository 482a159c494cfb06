//! Mixtures of data with holes: what they are when nothing is missing, or with one component, and
//! what is found through the holes.

use super::{Generator, normal, truth};
use elbo::data::Incomplete;
use elbo::mixture::MixtureOfPpca;
use elbo::{Error, Ppca};
use nalgebra::{DMatrix, dvector};
use rand::{RngExt, SeedableRng};

fn with_holes(x: &DMatrix<f64>, share: f64, rng: &mut Generator) -> DMatrix<f64> {
    x.map(|value| if rng.random::<f64>() < share { f64::NAN } else { value })
}

#[test]
fn nothing_missing_is_the_complete_fit() {
    let rng = &mut Generator::seed_from_u64(2);
    let x = truth(5, 1, 3.0, rng).sample(300, rng);
    let builder = MixtureOfPpca::builder(3, 1).restarts(1);
    let complete = builder.fit(&x, &mut Generator::seed_from_u64(7)).unwrap();
    let holes = builder.fit(Incomplete(&x), &mut Generator::seed_from_u64(7)).unwrap();
    assert!((complete.trace.last().unwrap() - holes.trace.last().unwrap()).abs() < 1e-5);
    assert!(
        (complete.model.log_likelihood(&x).unwrap()
            - holes.model.log_likelihood(Incomplete(&x)).unwrap())
        .amax()
            < 1e-2
    );
    assert!(
        (holes.model.log_likelihood(&x).unwrap()
            - holes.model.log_likelihood(Incomplete(&x)).unwrap())
        .amax()
            < 1e-9
    );
    assert_eq!(holes.model.impute(&x).unwrap(), x);
}

#[test]
fn one_component_with_holes_is_probabilistic_pca_with_holes() {
    let rng = &mut Generator::seed_from_u64(3);
    let model =
        Ppca::from_parameters(normal(6, 2, rng), normal(6, 1, rng).column(0).into_owned(), 0.3)
            .unwrap();
    let x = with_holes(&model.sample(250, rng), 0.2, rng);
    let one = MixtureOfPpca::builder(1, 2).restarts(0).fit(Incomplete(&x), rng).unwrap();
    let ppca = Ppca::builder(2).fit(Incomplete(&x), rng).unwrap();
    assert!((one.trace.last().unwrap() - ppca.trace.last().unwrap()).abs() < 1e-6);
    assert!((one.model.impute(&x).unwrap() - ppca.model.impute(&x).unwrap()).amax() < 1e-2);
}

#[test]
fn clusters_are_found_through_the_holes_and_the_likelihood_never_falls() {
    let rng = &mut Generator::seed_from_u64(5);
    let truth = truth(6, 2, 4.0, rng);
    let (labels, complete) = truth.sample_with_labels(900, rng);
    let mut x = with_holes(&complete, 0.2, rng);
    // An observation without any entry, and a constant offset of what it would have been.
    x.column_mut(11).fill(f64::NAN);
    let fit = MixtureOfPpca::builder(3, 2).restarts(2).fit(Incomplete(&x), rng).unwrap();
    let (reached, of_truth) = (
        fit.model.log_likelihood(Incomplete(&x)).unwrap().mean(),
        truth.log_likelihood(Incomplete(&x)).unwrap().mean(),
    );
    assert!(reached > of_truth && reached < of_truth + 0.1, "{reached} {of_truth}");
    assert!((fit.trace.last().unwrap() - reached).abs() < 1e-9 && fit.trace.reinitialized() == 0);
    assert!(fit.trace.values().windows(2).all(|w| w[1] >= w[0] - 1e-9 * w[0].abs()));
    let shares = fit.model.responsibilities(Incomplete(&x)).unwrap();
    assert!((shares.column(11) - fit.model.weights()).amax() < 1e-12);
    for c in 0..3 {
        let mut counts = [0; 3];
        labels
            .iter()
            .enumerate()
            .filter(|(_, label)| **label == c)
            .for_each(|(i, _)| counts[shares.column(i).imax()] += 1);
        let (most, all) = (counts.iter().max().unwrap(), counts.iter().sum::<i32>());
        assert!(f64::from(*most) > 0.95 * f64::from(all), "{counts:?}");
    }
    // Imputation through the clusters beats that of one plane for all, by far.
    let error = |table: &DMatrix<f64>| (table - &complete).norm_squared();
    let one = Ppca::builder(2).fit(Incomplete(&x), rng).unwrap().model.impute(&x).unwrap();
    assert!(error(&fit.model.impute(&x).unwrap()) < 0.3 * error(&one));
    // Both precisions.
    let single = x.map(|v| v as f32);
    let narrow = MixtureOfPpca::<f32>::builder(3, 2)
        .restarts(2)
        .fit(Incomplete(&single), &mut Generator::seed_from_u64(1))
        .unwrap();
    assert!((narrow.trace.last().unwrap() - reached).abs() < 1e-4);
}

#[test]
fn densities_of_observed_entries_are_marginals() {
    // One variable hidden: the mixture of what the other has.
    let component = |mean: f64| {
        Ppca::from_parameters(DMatrix::from_element(2, 1, 1.0), dvector![mean, -mean], 0.5).unwrap()
    };
    let mixture =
        MixtureOfPpca::from_components(dvector![0.25, 0.75], vec![component(0.0), component(2.0)])
            .unwrap();
    let x = nalgebra::dmatrix![1.0; f64::NAN];
    let density =
        |mean: f64| (-(1.0 - mean).powi(2) / 3.0).exp() / (std::f64::consts::TAU * 1.5).sqrt();
    let expected = (0.25 * density(0.0) + 0.75 * density(2.0)).ln();
    assert!((mixture.log_likelihood(Incomplete(&x)).unwrap()[0] - expected).abs() < 1e-14);
    let share = 0.25 * density(0.0) / expected.exp();
    let conditional = |mean: f64| -mean + (1.0 - mean) / 1.5;
    let imputed = share * conditional(0.0) + (1.0 - share) * conditional(2.0);
    assert!((mixture.impute(&x).unwrap()[(1, 0)] - imputed).abs() < 1e-14);
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let rng = &mut Generator::seed_from_u64(6);
    let mut x = normal(4, 30, rng);
    x.row_mut(2).fill(f64::NAN);
    let refused = MixtureOfPpca::builder(2, 1).fit(Incomplete(&x), rng).unwrap_err();
    assert!(matches!(refused, Error::NeverObserved { variable: 2, observations: 30 }), "{refused}");
    let x = normal(4, 30, rng);
    assert!(matches!(
        MixtureOfPpca::builder(31, 1).fit(Incomplete(&x), rng),
        Err(Error::InvalidParameter { .. })
    ));
    assert!(matches!(
        MixtureOfPpca::builder(2, 4).fit(Incomplete(&x), rng),
        Err(Error::LatentDim { .. })
    ));
}

/// Restarts of incomplete data are short and only the best goes on; every initialisation still has
/// its objective, and the trace is that of one fit.
#[test]
fn restarts_are_compared_before_the_best_goes_on() {
    let mut x = DMatrix::from_fn(30, 60, |j, i| {
        let t = (i * 7 + j * 3) as f64;
        (0.37 * t).sin() + if i % 2 == 0 { 2.0 } else { -2.0 } * (j as f64 * 0.2).cos()
    });
    for i in 0..60 {
        x[((i * 11) % 30, i)] = f64::NAN;
        x[((i * 17 + 5) % 30, i)] = f64::NAN;
    }
    let fit = MixtureOfPpca::<f64>::builder(2, 3)
        .restarts(2)
        .fit(Incomplete(&x), &mut Generator::seed_from_u64(1))
        .unwrap();
    assert_eq!(fit.trace.starts().len(), 3);
    let best = fit.trace.starts().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(Some(best), fit.trace.last());
    if fit.trace.reinitialized() == 0 {
        assert!(fit.trace.values().is_sorted_by(|a, b| *a <= b + 1e-9));
    }
    let refused = MixtureOfPpca::<f64>::builder(2, 1)
        .fit(
            &DMatrix::from_row_slice(1, 5, &[1.0, 2.0, 8.0, 9.0, 9.5]),
            &mut Generator::seed_from_u64(1),
        )
        .unwrap_err();
    assert!(refused.to_string().contains("at least 2"), "{refused}");
}

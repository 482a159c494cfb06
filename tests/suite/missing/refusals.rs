//! What is refused, and by which name.

use crate::missing::{HOLE, rng, table};
use elbo::data::Incomplete;
use elbo::data::IncompleteObservations;
use elbo::{Error, Ppca};
use nalgebra::{DMatrix, dmatrix};

fn refusal(k: usize, x: &DMatrix<f64>) -> Error {
    Ppca::builder(k).fit(Incomplete(x), &mut rng(0)).unwrap_err()
}

#[test]
fn values_that_are_no_numbers() {
    let x = dmatrix![1.0, 2.0; HOLE, f64::NEG_INFINITY];
    let error = IncompleteObservations::new(x.as_view()).unwrap_err();
    assert_eq!(error, Error::NotFinite { row: 1, column: 1, value: f64::NEG_INFINITY });
    let x = dmatrix![1.0, 1e300];
    assert!(matches!(
        IncompleteObservations::new(x.as_view()),
        Err(Error::TooLarge { row: 0, column: 1, .. })
    ));
    let empty = DMatrix::<f64>::zeros(3, 0);
    assert_eq!(
        IncompleteObservations::new(empty.as_view()).unwrap_err(),
        Error::Empty { rows: 3, columns: 0 }
    );
    let (x, mask) = (dmatrix![1.0, HOLE], dmatrix![true, true]);
    assert!(matches!(
        IncompleteObservations::with_mask(x.as_view(), &mask),
        Err(Error::NotFinite { column: 1, .. })
    ));
    let mask = dmatrix![true; true];
    assert!(matches!(
        IncompleteObservations::with_mask(x.as_view(), &mask),
        Err(Error::DimensionMismatch { expected: 1, actual: 2, .. })
    ));
}

#[test]
fn variables_and_observations() {
    let mut x = table(4, 30, 1, 0.5, 0.2, 1);
    x.row_mut(2).fill(HOLE);
    assert_eq!(refusal(1, &x), Error::NeverObserved { variable: 2, observations: 30 });
    assert_eq!(refusal(1, &x).to_string(), "variable 2 was observed in none of 30 observations");
    let mut single = DMatrix::from_element(3, 4, HOLE);
    single.column_mut(1).fill(1.5);
    assert_eq!(refusal(1, &single), Error::TooFewObservations { actual: 1, least: 2 });
    let constant = dmatrix![1.0, HOLE, 1.0, 1.0; 2.0, 2.0, 2.0, HOLE];
    assert!(matches!(refusal(1, &constant), Error::ZeroVariance { variables: 2, .. }));
    assert!(matches!(
        refusal(1, &DMatrix::from_element(2, 3, HOLE)),
        Error::NeverObserved { variable: 0, .. }
    ));
    let model =
        Ppca::builder(1).fit(Incomplete(&table(4, 30, 1, 0.5, 0.2, 1)), &mut rng(0)).unwrap().model;
    assert!(matches!(
        model.impute(&dmatrix![1.0; HOLE]),
        Err(Error::DimensionMismatch { expected: 4, actual: 2, .. })
    ));
}

#[test]
fn a_latent_dimension_that_the_entries_cannot_bear() {
    let x = table(6, 40, 2, 0.5, 0.2, 3);
    assert!(matches!(refusal(0, &x), Error::LatentDim { latent_dim: 0, .. }));
    assert!(matches!(refusal(7, &x), Error::LatentDim { latent_dim: 7, largest: 6, .. }));
    assert!(matches!(
        refusal(6, &x),
        Error::TooFewEntries { latent_dim: 6, entries: 0, parameters: 0 }
    ));
    let sparse = table(6, 40, 2, 0.5, 0.7, 3);
    assert!(matches!(refusal(4, &sparse), Error::TooFewEntries { latent_dim: 4, .. }));
    // Data that lie in a plane: nothing is left for the noise, however many entries there are.
    let flat = table(6, 200, 2, 0.0, 0.2, 4);
    assert!(
        matches!(refusal(2, &flat), Error::NoiseVanished { latent_dim: 2, .. }),
        "{}",
        refusal(2, &flat)
    );
    let floored = Ppca::builder(2).noise_floor(1e-6).fit(Incomplete(&flat), &mut rng(0)).unwrap();
    assert_eq!(floored.stop, elbo::fit::StopReason::Floor);
    let mean_variance = floored.model.covariance().trace() / 6.0;
    assert!((floored.model.noise_variance() / mean_variance - 1e-6).abs() < 3e-7);
}

#[test]
fn noise_that_vanishes_among_copies_is_no_fit() {
    // As entries the copies count; as conditions on the model they do not, and the likelihood of
    // some of these tables is unbounded.
    for seed in [20, 27, 54, 79, 5, 7] {
        let few = table(6, 20, 2, 0.3, 0.2, seed);
        let copies = DMatrix::from_fn(6, 60, |j, i| few[(j, i / 3)]);
        match Ppca::builder(5).fit(Incomplete(&copies), &mut rng(0)) {
            Ok(fit) => assert_ne!(
                fit.stop,
                elbo::fit::StopReason::Diverged,
                "{seed}: the noise variance is {}",
                fit.model.noise_variance()
            ),
            Err(error) => assert!(
                matches!(error, Error::NoiseVanished { .. } | Error::TooFewEntries { .. }),
                "{seed}: {error}"
            ),
        }
    }
}

#[test]
fn nearly_empty_variables_are_taken() {
    let mut x = table(5, 60, 1, 0.5, 0.1, 6);
    for i in 1..60 {
        x[(4, i)] = HOLE;
        if i > 1 {
            x[(3, i)] = HOLE;
        }
    }
    x[(4, 0)] = 3.0;
    let fitted = Ppca::builder(1).fit(Incomplete(&x), &mut rng(0)).unwrap();
    assert!(fitted.model.impute(&x).unwrap().iter().all(|v| v.is_finite()));
    assert!(fitted.model.log_likelihood(Incomplete(&x)).unwrap().iter().all(|v| v.is_finite()));
}

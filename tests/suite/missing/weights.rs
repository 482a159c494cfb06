//! A weight for each observation of data with holes.

use crate::missing::{HOLE, iris_with_holes, rng, table};
use crate::support::VoidRng;
use elbo::data::Data;
use elbo::data::Incomplete;
use elbo::fit::Fitted;
use elbo::{Error, FactorAnalysis, Ppca};
use nalgebra::DMatrix;

fn ppca(x: &DMatrix<f64>, weights: Option<&[f64]>) -> Fitted<Ppca> {
    match weights {
        Some(weights) => Ppca::builder(2).fit(Incomplete(x).weighted(weights), &mut rng(0)),
        None => Ppca::builder(2).fit(Incomplete(x), &mut rng(0)),
    }
    .unwrap()
}

fn factors(x: &DMatrix<f64>, weights: Option<&[f64]>) -> Fitted<FactorAnalysis> {
    match weights {
        Some(weights) => {
            FactorAnalysis::builder(2).fit(Incomplete(x).weighted(weights), &mut rng(0))
        }
        None => FactorAnalysis::builder(2).fit(Incomplete(x), &mut rng(0)),
    }
    .unwrap()
}

/// J per unit of weight, and the completed table, of both models.
fn both(x: &DMatrix<f64>, weights: Option<&[f64]>) -> [(f64, DMatrix<f64>); 2] {
    let (a, b) = (ppca(x, weights), factors(x, weights));
    [
        (a.trace.last().unwrap(), a.model.impute(x).unwrap()),
        (b.trace.last().unwrap(), b.model.impute(x).unwrap()),
    ]
}

#[test]
fn twice_is_a_weight_of_two_and_left_out_is_one_of_zero() {
    let x = table(7, 150, 2, 0.5, 0.25, 3);
    let weights: Vec<f64> = (0..150).map(|i| (i % 3) as f64).collect();
    let repeated: Vec<usize> = (0..150).flat_map(|i| std::iter::repeat_n(i, i % 3)).collect();
    let literally = x.select_columns(&repeated);
    for ((weighted, completed), (expected, filled)) in
        both(&x, Some(&weights)).into_iter().zip(both(&literally, None))
    {
        assert!((weighted - expected).abs() < 2e-7, "{weighted} {expected}");
        assert!((completed.select_columns(&repeated) - filled).amax() < 1e-2);
    }
    // Not a matter of their size.
    let scaled: Vec<f64> = weights.iter().map(|w| 1e-200 * w).collect();
    let huge: Vec<f64> = weights.iter().map(|w| 8e307 * w).collect();
    let value = ppca(&x, Some(&weights)).trace.last().unwrap();
    for others in [scaled, huge] {
        assert!((ppca(&x, Some(&others)).trace.last().unwrap() - value).abs() < 1e-12);
    }
}

#[test]
fn equal_weights_are_none_and_uneven_ones_are_met_exactly() {
    let x = iris_with_holes();
    assert_eq!(ppca(&x, Some(&[1.0; 150])), ppca(&x, None));
    assert_eq!(
        FactorAnalysis::builder(1).fit(Incomplete(&x).weighted(&[1.0; 150]), &mut rng(0)),
        FactorAnalysis::builder(1).fit(Incomplete(&x), &mut rng(0))
    );
    let weights: Vec<f64> = (0..150).map(|i| 0.1 + (i % 7) as f64 * 0.3).collect();
    let fitted = ppca(&x, Some(&weights));
    let values = fitted.model.log_likelihood(Incomplete(&x)).unwrap();
    let expected =
        values.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>() / weights.iter().sum::<f64>();
    assert!((expected - fitted.trace.last().unwrap()).abs() < 1e-10);
    // The closed form of the weighted covariance, where nothing is missing.
    let whole = table(6, 200, 2, 0.5, 0.0, 4);
    let weights: Vec<f64> = (0..200).map(|i| 0.5 + (i % 5) as f64).collect();
    let (closed, fitted) = (
        Ppca::builder(2).fit(whole.weighted(&weights), &mut VoidRng).unwrap(),
        ppca(&whole, Some(&weights)),
    );
    assert!(
        (closed.model.noise_variance() - fitted.model.noise_variance()).abs() < 1e-4
            && (closed.model.mean() - fitted.model.mean()).amax() < 1e-3
    );
    let single: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    let narrow = Ppca::<f32>::builder(2)
        .fit(Incomplete(&whole.map(|v| v as f32)).weighted(&single), &mut rng(0))
        .unwrap();
    assert!((narrow.model.noise_variance() as f64 - fitted.model.noise_variance()).abs() < 1e-5);
}

#[test]
fn what_is_no_weight_is_refused() {
    let x = table(5, 40, 1, 0.5, 0.2, 1);
    let refusal = |weights: &[f64]| {
        let error =
            Ppca::builder(1).fit(Incomplete(&x).weighted(weights), &mut rng(0)).unwrap_err();
        assert_eq!(
            FactorAnalysis::builder(1)
                .fit(Incomplete(&x).weighted(weights), &mut rng(0))
                .unwrap_err()
                .to_string(),
            error.to_string()
        );
        error
    };
    let with = |value: f64| {
        let mut weights = vec![1.0; 40];
        weights[7] = value;
        weights
    };
    assert_eq!(refusal(&with(-0.5)), Error::InvalidWeight { observation: 7, value: -0.5 });
    assert!(matches!(refusal(&with(f64::NAN)), Error::InvalidWeight { observation: 7, .. }));
    assert!(matches!(refusal(&with(f64::INFINITY)), Error::InvalidWeight { observation: 7, .. }));
    assert!(matches!(
        refusal(&[1.0; 39]),
        Error::DimensionMismatch { expected: 40, actual: 39, .. }
    ));
    assert!(matches!(refusal(&[0.0; 40]), Error::TooFewObservations { actual: 0, .. }));
    let mut one = vec![0.0; 40];
    one[3] = 1.0;
    assert!(
        matches!(
            refusal(&one),
            Error::TooFewObservations { actual: 1, least: 2 } | Error::NeverObserved { .. }
        ),
        "{}",
        refusal(&one)
    );
    // A variable that is seen only where the weight is 0 is not seen.
    let mut x = x.clone();
    (0..39).for_each(|i| x[(2, i)] = HOLE);
    x[(2, 39)] = 1.0;
    let mut weights = vec![1.0; 40];
    weights[39] = 0.0;
    assert!(matches!(
        Ppca::builder(1).fit(Incomplete(&x).weighted(&weights), &mut rng(0)),
        Err(Error::NeverObserved { variable: 2, .. })
    ));
}

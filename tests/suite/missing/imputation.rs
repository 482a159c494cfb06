//! Completed tables.

use crate::missing::{brute_force, rng, table};
use elbo::Ppca;
use elbo::data::Incomplete;
use nalgebra::DMatrix;

#[test]
fn observed_values_are_kept_bit_for_bit() {
    let mut x = table(5, 60, 2, 0.5, 0.3, 9);
    x[(1, 1)] = -0.0;
    x[(2, 2)] = 1e-310;
    let model = Ppca::builder(2).fit(Incomplete(&x), &mut rng(0)).unwrap().model;
    let tables = model.impute_multiple(2, &x, &mut rng(1)).unwrap();
    for completed in
        [&model.impute(&x).unwrap(), &model.conditional(&x).unwrap().mean, &tables[0], &tables[1]]
    {
        for (before, after) in x.iter().zip(completed.iter()) {
            assert!(after.is_finite() && (before.is_nan() || before.to_bits() == after.to_bits()));
        }
    }
    assert_eq!(model.impute_multiple(2, &x, &mut rng(1)).unwrap(), tables);
    let complete = table(5, 60, 2, 0.5, 0.0, 9);
    assert_eq!(model.impute(&complete).unwrap(), complete);
    assert_eq!(model.conditional(&complete).unwrap().variance.amax(), 0.0);
}

#[test]
fn a_variance_beyond_the_largest_number_is_that_number() {
    let model =
        Ppca::from_parameters(nalgebra::dmatrix![1e20f32; 1.0], nalgebra::dvector![0.0, 1.0], 1.0)
            .unwrap();
    let missing = model.conditional(&nalgebra::dmatrix![f32::NAN; f32::NAN]).unwrap();
    assert_eq!((missing.variance[(0, 0)], missing.variance[(1, 0)]), (f32::MAX, 2.0));
    assert_eq!((missing.mean[(0, 0)], missing.mean[(1, 0)]), (0.0, 1.0));
}

#[test]
fn draws_have_the_conditional_mean_and_covariance() {
    let x = table(5, 4, 2, 0.5, 0.5, 30);
    let model = Ppca::from_parameters(
        DMatrix::from_fn(5, 2, |j, a| ((j + 1) * (a + 2)) as f64 * 0.3 - 1.0),
        nalgebra::DVector::from_fn(5, |j, _| j as f64),
        0.4,
    )
    .unwrap();
    let count = 20_000;
    let tables = model.impute_multiple(count, &x, &mut rng(5)).unwrap();
    for i in 0..4 {
        let hidden: Vec<usize> = (0..5).filter(|&j| x[(j, i)].is_nan()).collect();
        let (_, mean, covariance) = brute_force(&model, &x.column(i).into_owned());
        for (a, &j) in hidden.iter().enumerate() {
            let average = tables.iter().map(|t| t[(j, i)]).sum::<f64>() / count as f64;
            assert!((average - mean[a]).abs() < 5.0 * (covariance[(a, a)] / count as f64).sqrt());
            for (b, &l) in hidden.iter().enumerate() {
                let products = tables
                    .iter()
                    .map(|t| (t[(j, i)] - mean[a]) * (t[(l, i)] - mean[b]))
                    .sum::<f64>()
                    / count as f64;
                let error = ((covariance[(a, a)] * covariance[(b, b)]
                    + covariance[(a, b)].powi(2))
                    / count as f64)
                    .sqrt();
                assert!(
                    (products - covariance[(a, b)]).abs() < 5.0 * error,
                    "{j}, {l}: {products} {}",
                    covariance[(a, b)]
                );
            }
        }
    }
}

#[test]
fn hidden_entries_are_found_within_their_deviation() {
    let whole = table(20, 400, 3, 0.3, 0.0, 77);
    let mut x = whole.clone();
    let mut state = 1u64;
    x.apply(|v| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if state >> 61 == 0 {
            *v = f64::NAN;
        }
    });
    let model = Ppca::builder(3).fit(Incomplete(&x), &mut rng(0)).unwrap().model;
    let missing = model.conditional(&x).unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    for place in (0..x.len()).filter(|&place| x[place].is_nan()) {
        sum += (missing.mean[place] - whole[place]).powi(2) / missing.variance[place];
        count += 1.0;
    }
    let ratio: f64 = sum / count;
    assert!((ratio - 1.0).abs() < 5.0 * (2.0f64 / count).sqrt() + 0.05, "{ratio}");
}

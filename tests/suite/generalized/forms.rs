//! Missing entries, weights, offsets, sparse tables, precisions, threads and bad input.

use super::{counts, rng};
use elbo::data::{Data, Incomplete, Offset, SparseObservations, log_totals};
use elbo::likelihood::{Bernoulli, Poisson};
use elbo::selection::Criterion;
use elbo::steps::{GeneralizedPpca, GeneralizedPpcaBuilder};
use elbo::{Error, posterior::Diagonal};
use nalgebra::{DMatrix, dmatrix};

fn builder(k: usize) -> GeneralizedPpcaBuilder<f64, Poisson, Diagonal<f64>> {
    GeneralizedPpca::<f64, Poisson>::builder(Poisson, k).restarts(1)
}

fn best(k: usize, data: impl Data<f64, Form: elbo::fit::PredictorForm<f64>>) -> f64 {
    builder(k).fit(data, &mut rng(3)).unwrap().trace.last().unwrap()
}

#[test]
fn a_weight_of_two_is_the_observation_twice_and_of_zero_none() {
    let (x, _) = counts();
    let mut weights = vec![1.0; 14];
    (weights[2], weights[5]) = (2.0, 0.0);
    let mut columns: Vec<_> =
        (0..14).filter(|&i| i != 5).map(|i| x.column(i).into_owned()).collect();
    columns.push(x.column(2).into_owned());
    let copies = DMatrix::from_columns(&columns);
    let fit = builder(1).fit((&x).weighted(&weights), &mut rng(3)).unwrap();
    assert!((fit.trace.last().unwrap() - best(1, &copies)).abs() < 1e-8);
    // The observation of weight 0 gets the q_i of a new one.
    let new = fit.model.with_observations(&x.columns(5, 1).into_owned()).unwrap();
    assert!((fit.model.codes()[5] - new.codes()[0]).abs() < 1e-6);
}

#[test]
fn a_constant_offset_is_a_shift_of_the_intercepts() {
    let (x, _) = counts();
    let plain = builder(1).fit(&x, &mut rng(3)).unwrap();
    let offsets = [1.5, -2.0, 0.0, 3.0, 0.5, 1.0];
    let shifted = builder(1).fit((&x).offset(Offset::Variables(&offsets)), &mut rng(3)).unwrap();
    assert!((plain.trace.last().unwrap() - shifted.trace.last().unwrap()).abs() < 1e-8);
    for (j, offset) in offsets.iter().enumerate() {
        let change = plain.model.intercepts()[j] - shifted.model.intercepts()[j];
        assert!((change - offset).abs() < 1e-3);
    }
    // The same offset in each of its forms.
    let of_rows = vec![0.7; 14];
    let of_entries = DMatrix::from_element(6, 14, 0.7);
    let by_rows = best(1, (&x).offset(Offset::Observations(&of_rows)));
    assert!((by_rows - best(1, (&x).offset(&of_entries))).abs() < 1e-9);
}

#[test]
fn missing_entries_are_left_out() {
    let (x, _) = counts();
    let model = builder(1).fit(&x, &mut rng(3)).unwrap().model;
    let mut holed = x.columns(0, 3).into_owned();
    (holed[(1, 0)], holed[(4, 1)]) = (f64::NAN, f64::NAN);
    holed.column_mut(2).fill(f64::NAN);
    let found = model.with_observations(Incomplete(&holed)).unwrap();
    let values = found.elbo_of(Incomplete(&holed)).unwrap().values();
    // All missing: q is the prior, and J and log p are 0.
    assert!(values[2].abs() < 1e-12 && found.codes()[2].abs() < 1e-9);
    let log_p = model.log_likelihood_by_quadrature(Incomplete(&holed)).unwrap();
    assert!(log_p.values[2].abs() < 1e-10 && log_p.values[0] >= values[0]);
    // The fit to a table whose first row was not observed anywhere but once is that without it.
    let mut table = x.clone();
    for i in 0..13 {
        table[(0, i)] = f64::NAN;
    }
    let fit = builder(1).fit(Incomplete(&table), &mut rng(3)).unwrap();
    assert!(fit.trace.last().unwrap().is_finite());
    table[(0, 13)] = f64::NAN;
    let refused = builder(1).fit(Incomplete(&table), &mut rng(3));
    assert_eq!(refused.unwrap_err(), Error::NeverObserved { variable: 0, observations: 14 });
}

#[test]
fn sparse_and_dense_tables_agree() {
    let (x, offsets) = counts();
    let (mut starts, mut rows, mut values) = (vec![0], Vec::new(), Vec::new());
    for column in x.column_iter() {
        for (row, &value) in column.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            rows.push(row);
            values.push(value);
        }
        starts.push(rows.len());
    }
    let sparse = SparseObservations::from_csc(6, 14, &starts, &rows, &values).unwrap();
    let dense = best(2, (&x).offset(Offset::Observations(&offsets)));
    assert!((dense - best(2, sparse.offset(Offset::Observations(&offsets)))).abs() < 1e-9);
    assert_eq!(log_totals(&x).unwrap(), log_totals(sparse).unwrap());
}

#[test]
fn single_precision_has_the_same_optimum() {
    let (x, offsets) = counts();
    let (narrow, narrow_offsets) =
        (x.map(|v| v as f32), offsets.iter().map(|&o| o as f32).collect::<Vec<_>>());
    let data = (&narrow).offset(Offset::Observations(&narrow_offsets));
    let fit = GeneralizedPpca::<f32, Poisson>::builder(Poisson, 2).fit(data, &mut rng(3)).unwrap();
    let wide = best(2, (&x).offset(Offset::Observations(&offsets)));
    assert!((fit.trace.last().unwrap() - wide).abs() < 1e-6);
    let values = fit.model.elbo_of(data).unwrap().values();
    assert!((f64::from(values.mean()) - wide).abs() < 1e-4);
}

#[test]
fn threads_do_not_change_a_bit() {
    // Large enough for several groups of observations.
    let x = DMatrix::from_fn(40, 600, |j, i| f64::from(((7 * i + 3 * j + i * j) % 5) as u8));
    let fit_on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| builder(2).max_iterations(15).fit(&x, &mut rng(3)).unwrap())
    };
    let one = fit_on(1);
    for threads in [2, 3, 5] {
        assert_eq!(one, fit_on(threads));
    }
}

#[test]
fn dimensions_are_chosen() {
    let (x, offsets) = counts();
    let data = (&x).offset(Offset::Observations(&offsets));
    let chosen = builder(1).select(1..=4, Criterion::Bic, data, &mut rng(0)).unwrap();
    assert_eq!(chosen.latent_dim, 2, "{:?}", chosen.scores);
    let held_out = Criterion::HeldOut { folds: 7 };
    let chosen = builder(1).select(1..=3, held_out, data, &mut rng(0)).unwrap();
    assert!((1..=3).contains(&chosen.latent_dim));
    assert!(builder(1).select(1..=3, Criterion::Laplace, data, &mut rng(0)).is_err());
}

#[test]
fn bad_input_is_refused() {
    let (x, _) = counts();
    let refused = |x: &DMatrix<f64>| builder(1).fit(x, &mut rng(0)).unwrap_err();
    for bad in [-1.0, 0.5, 1e17] {
        let mut table = x.clone();
        table[(1, 3)] = bad;
        assert!(matches!(refused(&table), Error::OutsideSupport { row: 1, column: 3, .. }));
    }
    let mut table = x.clone();
    table.row_mut(2).fill(0.0);
    assert_eq!(refused(&table), Error::NoFiniteIntercept { variable: 2, value: 0.0 });
    table.row_mut(2).fill(3.0);
    assert!(builder(1).fit(&table, &mut rng(0)).is_ok(), "a constant count has a mean");
    let ones = dmatrix![1.0, 1.0, 1.0; 0.0, 1.0, 0.0];
    let items = GeneralizedPpca::<f64, Bernoulli>::builder(Bernoulli, 1);
    let error = items.fit(&ones, &mut rng(0)).unwrap_err();
    assert_eq!(error, Error::NoFiniteIntercept { variable: 0, value: 1.0 });
    for k in [0, 7] {
        assert!(matches!(builder(k).fit(&x, &mut rng(0)), Err(Error::LatentDim { .. })));
    }
    assert!(matches!(
        builder(3).fit_likelihood(&x, &mut rng(0)),
        Err(Error::LatentDim { largest: 2, .. })
    ));
    let mut empty = x.clone();
    empty.column_mut(4).fill(0.0);
    assert_eq!(log_totals(&empty).unwrap_err(), Error::ZeroTotal { observation: 4, total: 0.0 });
    let offsets = vec![f64::NEG_INFINITY; 14];
    let data = (&x).offset(Offset::Observations(&offsets));
    assert!(matches!(builder(1).fit(data, &mut rng(0)), Err(Error::InvalidOffset { .. })));
    let short = vec![0.0; 13];
    let data = (&x).offset(Offset::Observations(&short));
    assert!(matches!(builder(1).fit(data, &mut rng(0)), Err(Error::DimensionMismatch { .. })));
    let model = builder(1).fit(&x, &mut rng(0)).unwrap().model;
    let other = DMatrix::from_element(5, 2, 1.0);
    assert!(matches!(model.with_observations(&other), Err(Error::DimensionMismatch { .. })));
    let builder = GeneralizedPpca::<f64, _>::builder_of_each(vec![Poisson; 5], 1);
    let builder: GeneralizedPpcaBuilder<f64, Poisson, Diagonal<f64>> = builder;
    assert!(matches!(builder.fit(&x, &mut rng(0)), Err(Error::DimensionMismatch { .. })));
}

#[test]
fn an_observer_ends_the_fit() {
    let (x, _) = counts();
    let mut seen = 0;
    let mut observer = |_: usize, _: f64| {
        seen += 1;
        if seen < 3 {
            std::ops::ControlFlow::Continue(())
        } else {
            std::ops::ControlFlow::Break(())
        }
    };
    let fit = builder(1).fit_with_observer(&x, &mut rng(0), &mut observer).unwrap();
    assert_eq!((fit.stop.name(), seen), ("interrupted", 3));
}

//! What must not change the answer.

use crate::missing::{HOLE, iris_with_holes, rng, table};
use elbo::Ppca;
use elbo::data::Incomplete;
use elbo::data::IncompleteObservations;
use elbo::fit::MissingDataEm;
use nalgebra::DMatrix;

fn fit(k: usize, x: &DMatrix<f64>) -> (f64, elbo::fit::Fitted<Ppca>) {
    let exact = MissingDataEm { tolerance: 1e-12, ..MissingDataEm::default() };
    let fitted =
        Ppca::builder(k).missing_data_fitter(exact).fit(Incomplete(x), &mut rng(0)).unwrap();
    (fitted.trace.last().unwrap(), fitted)
}

#[test]
fn order_and_duplication_of_observations() {
    let x = iris_with_holes();
    let (value, _) = fit(2, &x);
    let shuffled = DMatrix::from_fn(4, 150, |j, i| x[(j, i * 37 % 150)]);
    assert!((fit(2, &shuffled).0 - value).abs() < 1e-10);
    let twice = DMatrix::from_fn(4, 300, |j, i| x[(j, i % 150)]);
    assert!((fit(2, &twice).0 - value).abs() < 1e-10);
}

#[test]
fn units_shift_the_likelihood_by_the_logarithm() {
    let x = iris_with_holes();
    let (value, _) = fit(2, &x);
    let observed = 600.0 - 54.0;
    for scale in [1e-6, 1e5] {
        let scaled = fit(2, &(&x * scale)).0;
        assert!(
            (scaled - (value - observed / 150.0 * f64::ln(scale))).abs() < 1e-8,
            "{scale}: {scaled}"
        );
    }
    let moved = fit(2, &x.map(|v| v + 1e6)).0;
    assert!((moved - value).abs() < 1e-6, "{moved} {value}");
}

#[test]
fn empty_observations_add_nothing() {
    let x = iris_with_holes();
    let (value, _) = fit(1, &x);
    let with_empty = x.clone().insert_column(7, HOLE).insert_column(0, HOLE);
    let (other, fitted) = fit(1, &with_empty);
    assert!((other * 152.0 - value * 150.0).abs() < 1e-8);
    let completed = fitted.model.impute(&with_empty).unwrap();
    assert!((completed.column(0) - fitted.model.mean()).amax() < 1e-12);
}

#[test]
fn scales_over_ten_orders_of_magnitude() {
    let mut x = table(10, 200, 3, 0.3, 0.2, 21);
    for (j, mut row) in x.row_iter_mut().enumerate() {
        row *= 10f64.powf(-5.0 + j as f64 * 10.0 / 9.0);
    }
    for k in [2, 5, 8] {
        let values: Vec<f64> = (0..5)
            .map(|seed| {
                Ppca::builder(k).fit(Incomplete(&x), &mut rng(seed)).unwrap().trace.last().unwrap()
            })
            .collect();
        assert!(values.iter().all(|v| (v - values[0]).abs() < 1e-6), "k={k}: {values:?}");
    }
}

#[test]
fn a_mask_is_as_good_as_nan() {
    let x = iris_with_holes();
    let observed = x.map(|v| !v.is_nan());
    let filled = x.map(|v| if v.is_nan() { f64::INFINITY } else { v });
    let masked = IncompleteObservations::with_mask(filled.as_view(), &observed).unwrap();
    let by_mask = Ppca::builder(2).fit(Incomplete(masked), &mut rng(4)).unwrap();
    let by_nan = Ppca::builder(2).fit(Incomplete(&x), &mut rng(4)).unwrap();
    assert_eq!(by_mask, by_nan);
    assert_eq!(by_mask.model.impute(masked).unwrap(), by_nan.model.impute(&x).unwrap());
}

#[test]
fn single_precision_finds_the_same() {
    let x = iris_with_holes();
    let narrow = x.map(|v| v as f32);
    let wide = narrow.map(f64::from);
    let fitted = Ppca::<f32>::builder(2).fit(Incomplete(&narrow), &mut rng(1)).unwrap();
    let exact = Ppca::builder(2).fit(Incomplete(&wide), &mut rng(1)).unwrap();
    assert_eq!(fitted.trace, exact.trace);
    let difference = fitted.model.log_likelihood(Incomplete(&narrow)).unwrap().map(f64::from)
        - exact.model.log_likelihood(Incomplete(&wide)).unwrap();
    assert!(difference.amax() < 1e-4);
    assert!(
        (fitted.model.impute(&narrow).unwrap().map(f64::from) - exact.model.impute(&wide).unwrap())
            .amax()
            < 1e-5
    );
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let x = table(40, 3000, 4, 0.5, 0.2, 2);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Ppca::builder(4).fit(Incomplete(&x), &mut rng(1)).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

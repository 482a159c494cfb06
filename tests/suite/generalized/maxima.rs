//! Maxima that are in print, or that another program has found.

use super::{counts, lsat6, rng};
use elbo::data::files::{ReadOptions, read};
use elbo::data::{Data, Offset, log_totals};
use elbo::likelihood::{Bernoulli, Poisson};
use elbo::posterior::{Diagonal, Full, Isotropic};
use elbo::steps::GeneralizedPpca;
use nalgebra::{DVector, dvector};

/// Item response theory: the likelihood and its maximum are printed in Bock & Aitkin 1981; the best
/// J was found by an independent program from four initialisations.
#[test]
fn lsat6_by_likelihood() {
    let (x, persons) = lsat6();
    let builder = GeneralizedPpca::<f64, Bernoulli>::builder(Bernoulli, 1).restarts(0);
    let fit = builder.fit_likelihood((&x).weighted(&persons), &mut rng(0)).unwrap();
    let model = &fit.model;
    assert!((1000.0 * fit.trace.last().unwrap() + 2466.65338).abs() < 1e-5);
    let loadings = dvector![0.8257, 0.7227, 0.8909, 0.6884, 0.6569];
    let intercepts = dvector![2.7732, 0.9902, 0.2491, 1.2848, 2.0533];
    assert!((model.predictor_loadings().column(0) - loadings).amax() < 1e-4);
    assert!((model.intercepts() - intercepts).amax() < 1e-4);
    let weighted =
        |values: &[f64]| -> f64 { values.iter().zip(&persons).map(|(v, w)| v * w).sum() };
    let log_p = model.log_likelihood_by_quadrature(&x).unwrap();
    assert!((weighted(log_p.values.as_slice()) + 2466.65338).abs() < 1e-5);
    assert!(log_p.errors.amax() < 1e-9);
    // The best J at this θ.
    assert!((weighted(model.elbo(&x).unwrap().values().as_slice()) + 2467.05906).abs() < 1e-5);
    // The square roots of the inverse information, to the digits of the package ltm.
    let errors = model.standard_errors((&x).weighted(&persons)).unwrap();
    let right = dvector![0.2581, 0.1867, 0.2328, 0.1851, 0.2099];
    assert!((errors.loadings.column(0) - right).amax() < 1e-4);
    let right = dvector![0.2057, 0.0900, 0.0763, 0.0990, 0.1354];
    assert!((errors.intercepts - right).amax() < 1e-4);
}

#[test]
fn lsat6_by_elbo() {
    let (x, persons) = lsat6();
    for seed in 0..3 {
        let builder = GeneralizedPpca::<f64, Bernoulli>::builder(Bernoulli, 1);
        let fit = builder.fit((&x).weighted(&persons), &mut rng(seed)).unwrap();
        assert_eq!(fit.trace.starts().len(), 5);
        for start in fit.trace.starts() {
            assert!((1000.0 * start + 2467.04488).abs() < 1e-5, "{start}");
        }
        let log_p = fit.model.log_likelihood_by_quadrature(&x).unwrap().values;
        assert!((log_p.dot(&DVector::from(persons.clone())) + 2466.66673).abs() < 1e-5);
        assert!(fit.trace.values().windows(2).all(|pair| pair[1] >= pair[0]));
    }
}

/// The optima of another program (scipy, eight initialisations each), with diagonal covariances.
#[test]
fn counts_with_offsets() {
    let (x, offsets) = counts();
    for (k, right) in [(1, -196.390840999962), (2, -182.518242820541)] {
        let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, k);
        let data = (&x).offset(Offset::Observations(&offsets));
        let fit = builder.fit(data, &mut rng(1)).unwrap();
        assert!((14.0 * fit.trace.last().unwrap() - right).abs() < 1e-7);
        for start in fit.trace.starts() {
            assert!((14.0 * start - right).abs() < 1e-6);
        }
        let values = fit.model.elbo_of(data).unwrap().values();
        assert!((values.sum() - right).abs() < 1e-7);
    }
}

/// A larger family of covariances has a larger J, and none exceeds the likelihood.
#[test]
fn families_are_nested() {
    let (x, offsets) = counts();
    let data = (&x).offset(Offset::Observations(&offsets));
    let (k, rng) = (2, &mut rng(2));
    let isotropic =
        GeneralizedPpca::<f64, Poisson, Isotropic<f64>>::builder(Poisson, k).fit(data, rng);
    let diagonal =
        GeneralizedPpca::<f64, Poisson, Diagonal<f64>>::builder(Poisson, k).fit(data, rng);
    let full = GeneralizedPpca::<f64, Poisson, Full<f64>>::builder(Poisson, k).fit(data, rng);
    let exact = GeneralizedPpca::<f64, Poisson>::builder(Poisson, k).fit_likelihood(data, rng);
    let last = [
        isotropic.unwrap().trace.last(),
        diagonal.unwrap().trace.last(),
        full.unwrap().trace.last(),
        exact.unwrap().trace.last(),
    ];
    assert!(last.is_sorted() && last[0] < last[3], "{last:?}");
}

/// Poisson-lognormal PCA of 49×17 counts of caddisflies; the table may not be part of the
/// repository.
#[test]
fn trichoptera() {
    let Some(path) = std::env::var_os("ELBO_TRICHOPTERA") else {
        eprintln!("skipped: ELBO_TRICHOPTERA is not the path of trichoptera.csv.gz (49×17 counts)");
        return;
    };
    let x = read::<f64>(path, &ReadOptions::default()).unwrap().values;
    let totals = log_totals(&x).unwrap();
    for (k, right) in [(1, -1458.3021), (2, -1145.4364), (3, -1053.5666), (4, -1011.8189)] {
        let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, k);
        let data = (&x).offset(Offset::Observations(&totals));
        let fit = builder.fit(data, &mut rng(0)).unwrap();
        assert!((49.0 * fit.trace.last().unwrap() - right).abs() < 1e-4);
    }
}

//! Every linear step in single precision: what f32 data determine is found to f32's accuracy.

use crate::common::{digits, iris, rng, wine};
use elbo::posterior::{Diagonal, Full, Isotropic};
use elbo::steps::StepName;
use elbo::{IntoObservations, LinearAutoencoder, Ppca};
use nalgebra::DMatrix;

/// The same values in both precisions: f32 data widened are exactly themselves.
fn pair(x: DMatrix<f64>) -> (DMatrix<f32>, DMatrix<f64>) {
    let narrow = x.map(|v| v as f32);
    let wide = narrow.map(f64::from);
    (narrow, wide)
}

#[test]
fn closed_forms_agree_with_double_precision() {
    for (x, k) in [(iris(), 2), (wine(), 3), (digits(), 8)] {
        let (narrow, wide) = pair(x);
        let (a, b) = (Ppca::fit(k, &narrow).unwrap(), Ppca::fit(k, &wide).unwrap());
        let relative = |a: f32, b: f64| (f64::from(a) - b).abs() / b.abs();
        assert!(relative(a.noise_variance(), b.noise_variance()) < 1e-5);
        for (x, y) in a.explained_variance().unwrap().iter().zip(b.explained_variance().unwrap().iter()) {
            assert!(relative(*x, *y) < 1e-5);
        }
        let likelihoods = (a.log_likelihood(&narrow).unwrap(), b.log_likelihood(&wide).unwrap());
        let mean = likelihoods.0.iter().map(|v| f64::from(*v)).sum::<f64>() / narrow.ncols() as f64;
        assert!((mean - likelihoods.1.mean()).abs() < 1e-4 * likelihoods.1.mean().abs(), "{mean} beside {}", likelihoods.1.mean());
        let errors = (LinearAutoencoder::fit(k, &narrow).unwrap(), LinearAutoencoder::fit(k, &wide).unwrap());
        assert!(relative(errors.0.squared_error(&narrow).unwrap(), errors.1.squared_error(&wide).unwrap()) < 1e-4);
    }
}

#[test]
fn every_linear_step_by_name_agrees_with_double_precision() {
    for (x, k) in [(iris(), 2), (wine(), 2)] {
        let (narrow, wide) = pair(x);
        for step in StepName::ALL.into_iter().filter(|s| !matches!(s, StepName::DeepEncoder | StepName::Vae)) {
            let a = step.fit(k, (&narrow).into_observations().unwrap(), &mut rng(1)).unwrap();
            let b = step.fit(k, (&wide).into_observations().unwrap(), &mut rng(1)).unwrap();
            let of_narrow = a.step.gaps((&narrow).into_observations().unwrap(), Default::default(), &mut rng(2)).unwrap();
            let of_wide = b.step.gaps((&wide).into_observations().unwrap(), Default::default(), &mut rng(2)).unwrap();
            assert_eq!(of_narrow.is_some(), of_wide.is_some(), "{}", step.name());
            // Plain EM may stop elsewhere, and a deep fit ends elsewhere after one rounding: these need only be finite.
            let exact = !matches!(step.name(), "ppca_em" | "deep_encoder" | "vae");
            if let (Some(a), false) = (&of_narrow, exact) {
                assert!(a.elbo.is_finite() && a.log_likelihood.is_finite(), "{}", step.name());
            }
            if let (Some(a), Some(b), true) = (of_narrow, of_wide, exact) {
                assert!((a.elbo - b.elbo).abs() < 1e-4 * b.elbo.abs().max(1.0), "{}: {} beside {}", step.name(), a.elbo, b.elbo);
                assert!(a.total().abs() < b.total().abs() + 1e-3 && a.log_likelihood.is_finite(), "{}", step.name());
            }
        }
    }
}

#[test]
fn a_mean_a_thousand_deviations_away() {
    let spread = crate::common::normal(4, 500, &mut rng(3));
    let (narrow, wide) = pair(DMatrix::from_fn(4, 500, |j, i| 1000.0 * (1.0 + j as f64) + spread[(j, i)] * (1.0 + j as f64)));
    let (a, b) = (Ppca::fit(2, &narrow).unwrap(), Ppca::fit(2, &wide).unwrap());
    assert!((f64::from(a.noise_variance()) / b.noise_variance() - 1.0).abs() < 1e-4);
    let (p, q) = (a.log_likelihood(&narrow).unwrap().mean(), b.log_likelihood(&wide).unwrap().mean());
    assert!((f64::from(p) - q).abs() < 2e-3 * q.abs(), "{p} beside {q}");
}

#[test]
fn tables_of_q_in_single_precision() {
    fn check<Q: elbo::fit::SpanFamily<f32>>(x: &DMatrix<f32>) {
        let fit = elbo::VariationalPpca::<f32, Q>::builder(2).fit(x, &mut rng(4)).unwrap();
        let (bound, log_p) = (fit.elbo(x).unwrap().values().mean(), fit.log_likelihood(x).unwrap().mean());
        assert!(bound <= log_p + 1e-4 * log_p.abs());
    }
    let narrow = iris().map(|v| v as f32);
    check::<Isotropic<f32>>(&narrow);
    check::<Diagonal<f32>>(&narrow);
    check::<Full<f32>>(&narrow);
}

//! Every linear step in single precision: what f32 data determine is found to f32's accuracy.

use crate::ladder::common::{digits, iris, rng, wine};
use elbo::inference::{EStep, Exact, PerPoint};
use elbo::likelihood::DiagonalGaussian;
use elbo::map::Linear;
use elbo::objective::Elbo;
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::steps::ModelKind;
use elbo::{FactorAnalysis, IntoObservations, LinearAutoencoder, Ppca};
use nalgebra::{DMatrix, DVector};

type Pair = (DMatrix<f32>, DMatrix<f64>);

/// The same values in both precisions: f32 data widened are exactly themselves.
fn pair(x: DMatrix<f64>) -> Pair {
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
        assert!(relative(a.model.noise_variance(), b.model.noise_variance()) < 1e-5);
        for (x, y) in a
            .model
            .explained_variance()
            .unwrap()
            .iter()
            .zip(b.model.explained_variance().unwrap().iter())
        {
            assert!(relative(*x, *y) < 1e-5);
        }
        let likelihoods =
            (a.model.log_likelihood(&narrow).unwrap(), b.model.log_likelihood(&wide).unwrap());
        let mean = likelihoods.0.iter().map(|v| f64::from(*v)).sum::<f64>() / narrow.ncols() as f64;
        assert!(
            (mean - likelihoods.1.mean()).abs() < 1e-4 * likelihoods.1.mean().abs(),
            "{mean} beside {}",
            likelihoods.1.mean()
        );
        let errors = (
            LinearAutoencoder::fit(k, &narrow).unwrap(),
            LinearAutoencoder::fit(k, &wide).unwrap(),
        );
        assert!(
            relative(
                errors.0.model.squared_error(&narrow).unwrap(),
                errors.1.model.squared_error(&wide).unwrap()
            ) < 1e-4
        );
    }
}

#[test]
fn every_linear_step_by_name_agrees_with_double_precision() {
    for (x, k) in [(iris(), 2), (wine(), 2), (graded(5.0, 6), 12)] {
        let (narrow, wide) = pair(x);
        for step in ModelKind::ALL
            .into_iter()
            .filter(|s| !matches!(s, ModelKind::DeepEncoder | ModelKind::Vae))
        {
            let a = step.fit(k, (&narrow).into_observations().unwrap(), &mut rng(1)).unwrap();
            let b = step.fit(k, (&wide).into_observations().unwrap(), &mut rng(1)).unwrap();
            let of_narrow = a
                .model
                .gaps((&narrow).into_observations().unwrap(), Default::default(), &mut rng(2))
                .unwrap();
            let of_wide = b
                .model
                .gaps((&wide).into_observations().unwrap(), Default::default(), &mut rng(2))
                .unwrap();
            assert_eq!(of_narrow.is_some(), of_wide.is_some(), "{}", step.name());
            // Plain EM may stop elsewhere, and a deep fit ends elsewhere after one rounding: these
            // need only be finite.
            let exact = !matches!(step.name(), "ppca_em" | "deep_encoder" | "vae");
            if let (Some(a), false) = (&of_narrow, exact) {
                assert!(a.elbo.is_finite() && a.log_likelihood.is_finite(), "{}", step.name());
            }
            if let (Some(a), Some(b), true) = (of_narrow, of_wide, exact) {
                assert!(
                    (a.elbo - b.elbo).abs() < 1e-6 * b.elbo.abs().max(1.0),
                    "{}: {} beside {}",
                    step.name(),
                    a.elbo,
                    b.elbo
                );
                assert!(
                    a.total() > -1e-5 && (b.total() > 1e-3 || a.total() < 1e-5),
                    "{}: {:e}",
                    step.name(),
                    a.total()
                );
            }
        }
    }
}

#[test]
fn a_mean_a_thousand_deviations_away() {
    let spread = crate::ladder::common::normal(4, 500, &mut rng(3));
    let (narrow, wide) = pair(DMatrix::from_fn(4, 500, |j, i| {
        1000.0 * (1.0 + j as f64) + spread[(j, i)] * (1.0 + j as f64)
    }));
    let (a, b) = (Ppca::fit(2, &narrow).unwrap(), Ppca::fit(2, &wide).unwrap());
    assert!((f64::from(a.model.noise_variance()) / b.model.noise_variance() - 1.0).abs() < 1e-4);
    let (p, q) = (
        a.model.log_likelihood(&narrow).unwrap().mean(),
        b.model.log_likelihood(&wide).unwrap().mean(),
    );
    assert!((f64::from(p) - q).abs() < 2e-3 * q.abs(), "{p} beside {q}");
}

#[test]
fn tables_of_q_in_single_precision() {
    fn check<Q: elbo::fit::SubspaceFamily<f32>>(x: &DMatrix<f32>) {
        let fit = elbo::VariationalPpca::<f32, Q>::builder(2).fit(x, &mut rng(4)).unwrap();
        let (bound, log_p) = (
            fit.model.elbo(x).unwrap().values().mean(),
            fit.model.log_likelihood(x).unwrap().mean(),
        );
        assert!(bound <= log_p + 1e-4 * log_p.abs());
    }
    let narrow = iris().map(|v| v as f32);
    check::<Isotropic<f32>>(&narrow);
    check::<Diagonal<f32>>(&narrow);
    check::<Full<f32>>(&narrow);
}

/// Columns of scales from 1e-5 to 1e5 or so, near the resolvable rank of single precision.
fn graded(decades: f64, seed: u64) -> DMatrix<f64> {
    let mut rng = rng(seed);
    let (a, z) = (
        crate::ladder::common::normal(20, 6, &mut rng),
        crate::ladder::common::normal(6, 400, &mut rng),
    );
    let x = a * z + crate::ladder::common::normal(20, 400, &mut rng) * 0.5;
    DMatrix::from_fn(20, 400, |j, i| x[(j, i)] * 10f64.powf(decades * (j as f64 / 19.0 - 0.5)))
}

/// W turned, so that each column of it is of the largest size.
fn turned(loadings: &DMatrix<f32>, seed: u64) -> DMatrix<f32> {
    let k = loadings.ncols();
    let rotation = crate::ladder::common::normal(k, k, &mut rng(seed)).qr().q();
    (loadings.map(f64::from) * rotation).map(|v| v as f32)
}

/// The tables of the tests below, in both precisions, with a k: over five and ten orders of
/// magnitude, and real ones.
fn tables() -> Vec<(&'static str, Pair, usize)> {
    let all = [
        ("five orders", graded(5.0, 1), 12),
        ("ten orders", graded(10.0, 2), 10),
        ("ten orders at the resolvable rank", graded(10.0, 3), 11),
        ("iris", iris(), 2),
        ("wine", wine(), 2),
        ("digits", digits(), 8),
        ("digits, k = 40", digits(), 40),
    ];
    all.into_iter().map(|(name, x, k)| (name, pair(x), k)).collect()
}

/// The model of a fit as it is and turned, each beside itself in double precision.
fn models(x: &DMatrix<f32>, k: usize) -> Vec<(Ppca<f32>, Ppca<f64>)> {
    let fitted = Ppca::fit(k, x).unwrap();
    let loadings = fitted.model.loadings().into_owned();
    let turned = turned(&loadings, 9);
    let in_both = |loadings: DMatrix<f32>| {
        let model = Ppca::from_parameters(
            loadings.clone(),
            fitted.model.mean().into_owned(),
            fitted.model.noise_variance(),
        )
        .unwrap();
        let wide = Ppca::from_parameters(
            loadings.map(f64::from),
            model.mean().map(f64::from),
            f64::from(model.noise_variance()),
        );
        (model, wide.unwrap())
    };
    [loadings, turned].map(in_both).into()
}

fn worst<'a>(narrow: impl Iterator<Item = &'a f32>, wide: impl Iterator<Item = &'a f64>) -> f64 {
    narrow.zip(wide).map(|(a, b)| (f64::from(*a) - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

fn mean(values: &DVector<f32>) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
}

#[test]
fn scores_of_a_given_model_are_those_of_double_precision() {
    for (name, (narrow, wide), k) in tables() {
        for (a, b) in models(&narrow, k) {
            let log_p = a.log_likelihood(&narrow).unwrap();
            let error = worst(log_p.iter(), b.log_likelihood(&wide).unwrap().iter());
            assert!(error < 1e-6, "{name}: log p off by {error:e}");
            let error = worst(
                a.squared_mahalanobis(&narrow).unwrap().iter(),
                b.squared_mahalanobis(&wide).unwrap().iter(),
            );
            // without the constant of log p
            assert!(error < 5e-6, "{name}: distances off by {error:e}");
            let error =
                (a.transform(&narrow).unwrap().map(f64::from) - b.transform(&wide).unwrap()).amax();
            assert!(error < 4e-6, "{name}: codes off by {error:e}");
            let bound = mean(&a.elbo(&narrow).unwrap().values());
            assert!(bound <= mean(&log_p) + 1e-5, "{name}: J is {bound}, log p {}", mean(&log_p));
        }
    }
}

/// The codes are rounded to f32, which costs J what it costs; J of them is what double precision
/// makes of the same q.
#[test]
fn the_bound_of_a_given_q_is_that_of_double_precision() {
    fn check<Q: PosteriorFamily<f32>, R: PosteriorFamily<f64>>(
        name: &str,
        a: &Ppca<f32>,
        b: &Ppca<f64>,
        x: &DMatrix<f32>,
        wide: &DMatrix<f64>,
    ) {
        let x = x.into_observations().unwrap();
        let mut table = PerPoint::<Q>::at_prior(a.latent_dim(), x.len());
        table.maximize(a.generative_model(), x).unwrap();
        let q = R::from_parameters(a.latent_dim(), table.posterior.parameters().map(f64::from))
            .unwrap();
        let of_narrow =
            Elbo::closed_form().terms(a.generative_model(), &table.posterior, x).unwrap();
        let of_wide = Elbo::closed_form()
            .terms(b.generative_model(), &q, wide.into_observations().unwrap())
            .unwrap();
        let error = worst(of_narrow.reconstruction.iter(), of_wide.reconstruction.iter());
        assert!(error < 2e-6, "{name}: E log p(x|z) off by {error:e}");
        let error = worst(of_narrow.negative_kl.iter(), of_wide.negative_kl.iter());
        assert!(error < 2e-6, "{name}: KL off by {error:e}");
        let log_p = mean(&a.log_likelihood(x).unwrap());
        assert!(
            mean(&of_narrow.values()) <= log_p + 1e-5,
            "{name}: J is {}, log p {log_p}",
            mean(&of_narrow.values())
        );
    }
    for (name, (narrow, wide), k) in tables().into_iter().filter(|(_, _, k)| *k < 40) {
        for (a, b) in models(&narrow, k) {
            check::<Isotropic<f32>, Isotropic<f64>>(name, &a, &b, &narrow, &wide);
            check::<Diagonal<f32>, Diagonal<f64>>(name, &a, &b, &narrow, &wide);
            check::<Full<f32>, Full<f64>>(name, &a, &b, &narrow, &wide);
        }
    }
}

#[test]
fn scores_of_factor_analysis() {
    for decades in [0.0, 10.0] {
        let (narrow, wide) = pair(graded(decades, 4));
        let fitted = FactorAnalysis::fit(6, &narrow).unwrap();
        let noise = DiagonalGaussian::new(fitted.model.noise_variances().map(f64::from)).unwrap();
        let map =
            Linear::new(fitted.model.loadings().map(f64::from), fitted.model.mean().map(f64::from))
                .unwrap();
        let reference = FactorAnalysis::new(map, noise, Exact).unwrap();
        let log_p = fitted.model.log_likelihood(&narrow).unwrap();
        let error = worst(log_p.iter(), reference.log_likelihood(&wide).unwrap().iter());
        assert!(error < 2e-6, "log p off by {error:e}");
        let error = (fitted.model.transform(&narrow).unwrap().map(f64::from)
            - reference.transform(&wide).unwrap())
        .amax();
        assert!(error < 4e-6, "codes off by {error:e}");
        assert!(mean(&fitted.model.elbo(&narrow).unwrap().values()) <= mean(&log_p) + 1e-5);
    }
}

/// In double precision: deviations of 1 beside an offset of 1e9 are exact, and so is the squared
/// error of what is made of them.
#[test]
fn the_squared_error_does_not_see_an_offset() {
    let x = crate::ladder::common::normal(6, 300, &mut rng(5)).map(|v| 1e9 + v);
    let deviations = x.map(|v| v - 1e9);
    let best =
        |x: &DMatrix<f64>| LinearAutoencoder::fit(2, x).unwrap().model.squared_error(x).unwrap();
    assert!((best(&x) / best(&deviations) - 1.0).abs() < 1e-10);
    let error =
        |x: &DMatrix<f64>| Ppca::fit(2, x).unwrap().model.reconstruction_error(x).unwrap().sum();
    assert!((error(&x) / error(&deviations) - 1.0).abs() < 1e-10);
}

//! Identities that hold whatever the data.

use super::{counts, lsat6, rng};
use elbo::data::{Data, Offset};
use elbo::diagnostics::quadrature_log_likelihood;
use elbo::inference::PerPoint;
use elbo::likelihood::{Bernoulli, Independent, Likelihood, Poisson};
use elbo::map::Linear;
use elbo::model::GenerativeModel;
use elbo::posterior::{Diagonal, Posterior, PosteriorFamily};
use elbo::steps::GeneralizedPpca;
use nalgebra::{DMatrix, dvector};

/// All patterns of five answers, 5×32.
fn patterns() -> DMatrix<f64> {
    DMatrix::from_fn(5, 32, |j, i| f64::from((i as u32 >> j) & 1))
}

/// Under a flat decoder the posterior is the prior, and J and log p are Σ_j ln p(x_j; b_j).
#[test]
fn a_flat_decoder() {
    let x = patterns();
    let bias = dvector![0.3, -1.0, 2.0, 0.0, 5.0];
    let decoder = Linear::new(DMatrix::zeros(5, 2), bias.clone()).unwrap();
    let likelihood = Independent::new(Bernoulli, 5).unwrap();
    let output = DMatrix::from_fn(5, 32, |j, _| bias[j]);
    let right = likelihood.log_density(x.as_view(), output.as_view());
    let generative = GenerativeModel::new(decoder, likelihood);
    let prior = PerPoint::new(Diagonal::at_prior(2, 32));
    let model = GeneralizedPpca::from_parts(generative, prior).unwrap();
    assert!((model.elbo(&x).unwrap().values() - &right).amax() < 1e-12);
    let by_quadrature = quadrature_log_likelihood(model.generative_model(), &x).unwrap();
    assert!((by_quadrature.values - &right).amax() < 1e-10);
    // Any other q loses its divergence from the prior.
    let q = Diagonal::from_parameters(2, DMatrix::from_element(4, 32, 0.4)).unwrap();
    let moved = GeneralizedPpca::from_parts(model.into_parts().0, PerPoint::new(q)).unwrap();
    let terms = moved.elbo(&x).unwrap();
    assert!((terms.values() - &terms.negative_kl - &right).amax() < 1e-12);
    assert!(terms.negative_kl.max() < -0.1);
}

/// A bound is sub-normalised: Σ_x e^J(x) ≤ 1 over all patterns, and Σ_x p(x) = 1.
#[test]
fn sums_over_all_patterns() {
    let (x, persons) = lsat6();
    for k in 1..=2 {
        let builder = GeneralizedPpca::<f64, Bernoulli>::builder(Bernoulli, k).restarts(0);
        let builder = builder.max_iterations(40);
        let model = builder.fit((&x).weighted(&persons), &mut rng(0)).unwrap().model;
        let all = patterns();
        let of_all = model.with_observations(&all).unwrap();
        let bound: f64 = of_all.elbo(&all).unwrap().values().map(f64::exp).sum();
        let total: f64 =
            model.log_likelihood_by_quadrature(&all).unwrap().values.map(f64::exp).sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
        assert!(bound < 1.0 && bound > 0.9, "{bound}");
    }
}

/// At the optimum the expected output of the decoder has the mean of the data (canonical links).
#[test]
fn mean_output_is_the_mean_of_the_data() {
    let (x, offsets) = counts();
    let data = (&x).offset(Offset::Observations(&offsets));
    let model =
        GeneralizedPpca::<f64, Poisson>::builder(Poisson, 2).fit(data, &mut rng(0)).unwrap().model;
    let (w, b) = (model.predictor_loadings(), model.intercepts());
    let (codes, variances) = (model.codes(), model.inference().posterior.variances());
    for j in 0..6 {
        let mut mean = 0.0;
        for i in 0..14 {
            let spread: f64 = (0..2).map(|a| w[(j, a)].powi(2) * variances[(a, i)]).sum();
            let y = offsets[i] + b[j] + w.row(j).transpose().dot(&codes.column(i));
            mean += (y + 0.5 * spread).exp();
        }
        assert!((mean - x.row(j).sum()).abs() < 1e-3, "{j}: {mean}");
    }
}

/// The prior moments of q are those of the prior at the optimum, and the signs follow the rule.
#[test]
fn codes_are_standard() {
    let (x, offsets) = counts();
    let data = (&x).offset(Offset::Observations(&offsets));
    let model =
        GeneralizedPpca::<f64, Poisson>::builder(Poisson, 2).fit(data, &mut rng(0)).unwrap().model;
    let (codes, variances) = (model.codes(), model.inference().posterior.variances());
    for a in 0..2 {
        let mean = codes.row(a).mean();
        let second = codes.row(a).norm_squared() / 14.0 + variances.row(a).mean();
        assert!(mean.abs() < 1e-10 && (second - 1.0).abs() < 1e-10);
        assert!(
            model.predictor_loadings().column(a)[model.predictor_loadings().column(a).icamax()]
                > 0.0
        );
    }
    let lengths: Vec<f64> = model.predictor_loadings().column_iter().map(|w| w.norm()).collect();
    assert!(lengths[0] >= lengths[1]);
    assert_eq!(model.inference().posterior.latent_dim(), 2);
}

/// New rows are fitted one by one: those of the fit get the q_i of the fit.
#[test]
fn the_rows_of_the_fit_as_new_rows() {
    let (x, offsets) = counts();
    let data = (&x).offset(Offset::Observations(&offsets));
    let model =
        GeneralizedPpca::<f64, Poisson>::builder(Poisson, 2).fit(data, &mut rng(0)).unwrap().model;
    let again = model.with_observations(data).unwrap();
    assert!((again.codes() - model.codes()).amax() < 1e-3);
    let (fitted, found) = (model.elbo_of(data).unwrap(), again.elbo_of(data).unwrap());
    assert!((fitted.values() - found.values()).amax() < 1e-6);
    let some = x.columns(3, 2).into_owned();
    let some_offsets = &offsets[3..5];
    let of_some =
        model.with_observations((&some).offset(Offset::Observations(some_offsets))).unwrap();
    assert_eq!(of_some.codes(), again.codes().columns(3, 2));
}

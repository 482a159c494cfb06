//! Every iterative step on tables that break careless arithmetic, from two seeds.

use crate::ladder::common::{
    assert_within, eigenvalues, hostile, isotropic_optimum, likelihood_optimum, rng,
};
use elbo::fit::ExpectationMaximization;
use elbo::fit::PxEm;
use elbo::posterior::{Diagonal, Full};
use elbo::{Ppca, VariationalPpca};

#[test]
fn parameter_expanded_em() {
    for (name, x, k) in hostile() {
        let best = likelihood_optimum(&eigenvalues(&x, true), k);
        for seed in [1, 2] {
            let fit = Ppca::builder(k).fitter(PxEm::default()).fit(&x, &mut rng(seed)).unwrap();
            assert_within(fit.model.log_likelihood(&x).unwrap().mean(), best, 1e-5, name);
        }
    }
}

/// Where its rate allows; where it does not, it says so.
#[test]
fn plain_em_says_when_it_did_not_get_there() {
    for (name, x, k) in hostile() {
        let best = likelihood_optimum(&eigenvalues(&x, true), k);
        let fitter =
            ExpectationMaximization { max_iterations: 100, ..ExpectationMaximization::default() };
        let fit = Ppca::builder(k).fitter(fitter).fit(&x, &mut rng(1)).unwrap();
        let short = best - fit.model.log_likelihood(&x).unwrap().mean();
        assert!(short > -1e-7 * best.abs(), "{name}");
        assert!(
            short < 1e-5 || fit.stop == elbo::fit::StopReason::IterationLimit,
            "{name}: {short:e} nats short and {}",
            fit.stop
        );
    }
}

#[test]
fn variational_em() {
    for (name, x, k) in hostile() {
        let values = eigenvalues(&x, true);
        let best = likelihood_optimum(&values, k);
        for seed in [1, 2] {
            let full =
                VariationalPpca::<f64, Full<f64>>::builder(k).fit(&x, &mut rng(seed)).unwrap();
            assert_within(full.model.elbo(&x).unwrap().values().mean(), best, 1e-5, name);
            let diagonal =
                VariationalPpca::<f64, Diagonal<f64>>::builder(k).fit(&x, &mut rng(seed)).unwrap();
            assert_within(diagonal.model.elbo(&x).unwrap().values().mean(), best, 1e-5, name);
            if let Some(best) = isotropic_optimum(&values, k) {
                let isotropic = VariationalPpca::<f64>::builder(k).fit(&x, &mut rng(seed)).unwrap();
                assert_within(isotropic.model.elbo(&x).unwrap().values().mean(), best, 1e-5, name);
            }
        }
    }
}

//! The lecture's models, which have no mean: everything holds with S = XXᵗ/n (oracle 22).

use crate::ladder::common::{
    assert_close, assert_relative, assert_within, eigenvalues, hostile, iris, isotropic_optimum,
    likelihood_optimum, noise,
};
use crate::ladder::common::{observed, rng, wine};
use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::fit::AutoencoderDescent;
use elbo::fit::ExpectationMaximization;
use elbo::fit::PxEm;
use elbo::posterior::{Diagonal, Full};
use elbo::{AmortizedPpca, LinearAutoencoder, Ppca, VariationalPpca};

#[test]
fn closed_forms_without_a_mean() {
    let offset = |name: &str| name == "a large mean";
    for (name, x, k) in hostile()
        .into_iter()
        .filter(|t| !offset(t.0))
        .chain([("iris", iris(), 2), ("wine", wine(), 3)])
    {
        let values = eigenvalues(&x, false);
        let autoencoder =
            LinearAutoencoder::builder(k).centering(Centering::None).fit(&x, &mut VoidRng).unwrap();
        let expected = x.ncols() as f64 * values.rows_range(k..).iter().rev().sum::<f64>();
        assert_relative(autoencoder.model.squared_error(&x).unwrap(), expected, 1e-8, name);
        assert_close(
            &autoencoder.model.transform(&x).unwrap(),
            &(autoencoder.model.encoder_weights() * &x),
            1e-13,
            name,
        );
        assert!(
            autoencoder.model.decoder().bias().iter().all(|b| *b == 0.0)
                && autoencoder.model.decoder().bias_is_fixed()
        );
        let ppca = Ppca::builder(k).centering(Centering::None).fit(&x, &mut VoidRng).unwrap();
        assert_within(
            ppca.model.log_likelihood(&x).unwrap().mean(),
            likelihood_optimum(&values, k),
            1e-8 * 1e3,
            name,
        );
        assert_relative(ppca.model.noise_variance(), noise(&values, k), 1e-8, name);
        assert!(ppca.model.mean().iter().all(|m| *m == 0.0));
    }
}

#[test]
fn iterations_without_a_mean() {
    for (x, k) in [(iris(), 2), (wine(), 2)] {
        let values = eigenvalues(&x, false);
        let best = likelihood_optimum(&values, k);
        let zero = Centering::None;
        let by_gradient = LinearAutoencoder::builder(k)
            .centering(zero)
            .fitter(AutoencoderDescent::default())
            .fit(&x, &mut rng(1))
            .unwrap();
        let exact = LinearAutoencoder::builder(k)
            .centering(zero)
            .fit(&x, &mut VoidRng)
            .unwrap()
            .model
            .squared_error(&x)
            .unwrap();
        assert_relative(by_gradient.model.squared_error(&x).unwrap(), exact, 1e-4, "autoencoder");
        let em =
            Ppca::builder(k).centering(zero).fitter(PxEm::default()).fit(&x, &mut rng(2)).unwrap();
        assert_within(
            em.model.log_likelihood(&x).unwrap().mean(),
            best,
            1e-5,
            "parameter-expanded EM",
        );
        let full = VariationalPpca::<f64, Full<f64>>::builder(k)
            .centering(zero)
            .fit(&x, &mut rng(3))
            .unwrap();
        assert_within(full.model.elbo(&x).unwrap().values().mean(), best, 1e-5, "full");
        let diagonal = VariationalPpca::<f64, Diagonal<f64>>::builder(k)
            .centering(zero)
            .fit(&x, &mut rng(3))
            .unwrap();
        assert_within(diagonal.model.elbo(&x).unwrap().values().mean(), best, 1e-5, "diagonal");
        let isotropic =
            VariationalPpca::<f64>::builder(k).centering(zero).fit(&x, &mut rng(3)).unwrap();
        assert_within(
            isotropic.model.elbo(&x).unwrap().values().mean(),
            isotropic_optimum(&values, k).unwrap(),
            1e-5,
            "isotropic",
        );
        let amortized = AmortizedPpca::<f64, Diagonal<f64>>::builder(k)
            .centering(zero)
            .fit(&x, &mut rng(4))
            .unwrap();
        assert_within(amortized.model.elbo(&x).unwrap().values().mean(), best, 1e-2, "amortised");
        for model in [
            em.model.generative_model(),
            full.model.generative_model(),
            diagonal.model.generative_model(),
            isotropic.model.generative_model(),
            amortized.model.generative_model(),
        ] {
            assert!(model.mean().iter().all(|m| *m == 0.0) && model.decoder.bias_is_fixed());
        }
        // Plain alternation keeps the mean where it was fixed as well.
        let few = ExpectationMaximization { max_iterations: 5, tolerance: 0.0 };
        let plain = VariationalPpca::<f64>::builder(k)
            .centering(zero)
            .fitter(few)
            .fit(&x, &mut rng(5))
            .unwrap();
        assert!(plain.model.mean().iter().all(|m| *m == 0.0));
    }
}

/// Data about 0 already: the mean makes no difference.
#[test]
fn centred_data_need_no_mean() {
    let x = iris();
    let mean = crate::ladder::common::mean(&x);
    let mut centred = x.clone();
    centred.column_iter_mut().for_each(|mut c| c -= &mean);
    let with = Ppca::fit(2, &x).unwrap();
    let without = Ppca::builder(2).centering(Centering::None).fit(&centred, &mut VoidRng).unwrap();
    assert_relative(
        without.model.log_likelihood(&centred).unwrap().sum(),
        with.model.log_likelihood(&x).unwrap().sum(),
        1e-12,
        "log p",
    );
    assert_close(
        &without.model.loadings().into_owned(),
        &with.model.loadings().into_owned(),
        1e-10,
        "W",
    );
    assert_eq!(observed(&centred).len(), 150);
}

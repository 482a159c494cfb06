//! Values from an independent program.

use crate::ladder::common::{assert_relative, assert_within, digits, iris, rng, wine};
use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::fit::AutoencoderDescent;
use elbo::fit::PxEm;
use elbo::posterior::{Diagonal, Full};
use elbo::{AmortizedPpca, LinearAutoencoder, Ppca, VariationalPpca};
use nalgebra::DMatrix;

/// Total log-likelihood and σ̂² for k = 1, 2, 3.
/// A table, and figures of it for k = 1, 2, ….
type Table = fn() -> DMatrix<f64>;

const LIKELIHOODS: [(Table, [f64; 3], [f64; 3]); 2] = [
    (
        iris,
        [-470.6694583210, -404.9627801561, -379.9146301223],
        [0.114139079557, 0.0506821478648, 0.0236761923536],
    ),
    (
        wine,
        [-7249.1834206261, -5195.7457060304, -4731.2669008465],
        [15.7208047352, 1.55306269038, 0.769859900137],
    ),
];

/// Total J of the isotropic optimum for k = 2, 3.
const ISOTROPIC: [(Table, [f64; 2]); 2] =
    [(iris, [-475.7852012676, -542.6292279919]), (wine, [-5529.0643079506, -5561.0903152313])];

#[test]
fn ppca_in_closed_form() {
    for (table, likelihoods, noises) in LIKELIHOODS {
        let x = table();
        for k in 1..=3 {
            let model = Ppca::fit(k, &x).unwrap();
            assert_relative(
                model.model.log_likelihood(&x).unwrap().sum(),
                likelihoods[k - 1],
                1e-11,
                "log p",
            );
            assert_relative(model.model.noise_variance(), noises[k - 1], 1e-10, "noise variance");
        }
    }
}

#[test]
fn ppca_by_parameter_expanded_em_and_by_em() {
    for (table, likelihoods, _) in LIKELIHOODS {
        let x = table();
        for k in 1..=3 {
            for seed in [0, 1] {
                let fit = Ppca::builder(k).fitter(PxEm::default()).fit(&x, &mut rng(seed)).unwrap();
                let gap = (likelihoods[k - 1] - fit.model.log_likelihood(&x).unwrap().sum())
                    / x.ncols() as f64;
                assert!(
                    (-1e-11..1e-5).contains(&gap),
                    "k = {k}, seed {seed}: {gap:e} nats per observation below"
                );
            }
        }
    }
    let x = iris();
    let fit = Ppca::builder(2)
        .fitter(elbo::fit::ExpectationMaximization::default())
        .fit(&x, &mut rng(0))
        .unwrap();
    assert_within(
        fit.model.log_likelihood(&x).unwrap().sum() / 150.0,
        -404.9627801561 / 150.0,
        1e-5,
        "plain EM on iris",
    );
}

#[test]
fn variational_em() {
    for (table, likelihoods, _) in LIKELIHOODS {
        let x = table();
        let n = x.ncols() as f64;
        for k in 1..=3 {
            let expected = likelihoods[k - 1] / n;
            let full = VariationalPpca::<f64, Full<f64>>::builder(k).fit(&x, &mut rng(5)).unwrap();
            assert_within(full.model.elbo(&x).unwrap().values().mean(), expected, 1e-5, "full");
            let diagonal =
                VariationalPpca::<f64, Diagonal<f64>>::builder(k).fit(&x, &mut rng(6)).unwrap();
            assert_within(
                diagonal.model.elbo(&x).unwrap().values().mean(),
                expected,
                1e-5,
                "diagonal",
            );
        }
    }
    for (table, bounds) in ISOTROPIC {
        let x = table();
        for k in [2, 3] {
            for seed in [0, 1] {
                let fit = VariationalPpca::<f64>::builder(k).fit(&x, &mut rng(seed)).unwrap();
                assert_within(
                    fit.model.elbo(&x).unwrap().values().mean(),
                    bounds[k - 2] / x.ncols() as f64,
                    1e-5,
                    "isotropic",
                );
            }
        }
    }
}

#[test]
fn amortised() {
    for (table, likelihoods, _) in LIKELIHOODS {
        let x = table();
        for k in 1..=3 {
            let expected = likelihoods[k - 1] / x.ncols() as f64;
            let full = AmortizedPpca::<f64, Full<f64>>::builder(k).fit(&x, &mut rng(7)).unwrap();
            assert_within(
                full.model.elbo(&x).unwrap().values().mean(),
                expected,
                1e-2,
                "full head",
            );
            let diagonal =
                AmortizedPpca::<f64, Diagonal<f64>>::builder(k).fit(&x, &mut rng(8)).unwrap();
            assert_within(
                diagonal.model.elbo(&x).unwrap().values().mean(),
                expected,
                1e-2,
                "diagonal head",
            );
        }
    }
    for (table, bounds) in ISOTROPIC {
        let x = table();
        for k in [2, 3] {
            let fit = AmortizedPpca::<f64>::builder(k).fit(&x, &mut rng(9)).unwrap();
            assert_within(
                fit.model.elbo(&x).unwrap().values().mean(),
                bounds[k - 2] / x.ncols() as f64,
                1e-2,
                "isotropic head",
            );
        }
    }
}

#[test]
fn digits_at_every_step() {
    let x = digits();
    let reference = [
        (2, -177.43997149839, -177.44046964648, 13.853948078, 1543523.7712, 1775754.2351),
        (8, -163.23588990674, -163.49880438170, 6.996334573, 704055.1408, 728033.8266),
        (16, -153.51623541106, -154.70731957458, 3.769577151, 325148.6468, 328280.2826),
    ];
    for (k, likelihood, isotropic, noise, error, uncentered) in reference {
        let ppca = Ppca::fit(k, &x).unwrap();
        assert_relative(ppca.model.log_likelihood(&x).unwrap().mean(), likelihood, 1e-11, "log p");
        assert_relative(ppca.model.noise_variance(), noise, 1e-9, "noise variance");
        let autoencoder = LinearAutoencoder::fit(k, &x).unwrap();
        assert_relative(autoencoder.model.squared_error(&x).unwrap(), error, 1e-9, "squared error");
        let lecture = LinearAutoencoder::builder(k).centering(Centering::None);
        assert_relative(
            lecture.fit(&x, &mut VoidRng).unwrap().model.squared_error(&x).unwrap(),
            uncentered,
            1e-9,
            "squared error without a mean",
        );
        let by_gradient = LinearAutoencoder::builder(k)
            .fitter(AutoencoderDescent::default())
            .fit(&x, &mut rng(11))
            .unwrap();
        assert_relative(
            by_gradient.model.squared_error(&x).unwrap(),
            error,
            1e-4,
            "squared error by the gradient",
        );
        let vem = VariationalPpca::<f64>::builder(k).fit(&x, &mut rng(12)).unwrap();
        assert_within(
            vem.model.elbo(&x).unwrap().values().mean(),
            isotropic,
            1e-5,
            "isotropic variational EM",
        );
        let em = Ppca::builder(k).fitter(PxEm::default()).fit(&x, &mut rng(13)).unwrap();
        assert_within(
            em.model.log_likelihood(&x).unwrap().mean(),
            likelihood,
            1e-5,
            "parameter-expanded EM",
        );
    }
}

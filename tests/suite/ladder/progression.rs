//! The progression stated by the types of its slots, and each step against the one before it.

use crate::ladder::common::{assert_close, assert_relative, hostile, iris, observed, rng, wine};
use elbo::fit::PxEm;
use elbo::inference::{Amortized, Exact, GaussianEncoder, PerPoint, PointEncoder};
use elbo::likelihood::{IsotropicGaussian, Noiseless};
use elbo::map::Linear;
use elbo::model::ExactPosterior;
use elbo::posterior::{Diagonal, Full, GaussianPosterior, Isotropic, Posterior};
use elbo::{AmortizedPpca, LinearAutoencoder, Model, Ppca, Real, VariationalPpca};
use std::any::TypeId;

/// The three slots of a step.
trait Slots {
    type Decoder: 'static;
    type Likelihood: 'static;
    type Inference: 'static;
}

impl<T: Real, D: 'static, L: 'static, I: 'static> Slots for Model<T, D, L, I> {
    type Decoder = D;
    type Likelihood = L;
    type Inference = I;
}

/// Compiles only where both are one type.
trait Is<A> {}
impl<A> Is<A> for A {}
fn same<A: Is<B>, B>() {}

/// Which slots differ: decoder, likelihood, inference.
fn swapped<A: Slots, B: Slots>() -> [bool; 3] {
    [
        TypeId::of::<A::Decoder>() != TypeId::of::<B::Decoder>(),
        TypeId::of::<A::Likelihood>() != TypeId::of::<B::Likelihood>(),
        TypeId::of::<A::Inference>() != TypeId::of::<B::Inference>(),
    ]
}

/// What stays from each step to the next, by the compiler.
#[allow(dead_code)]
fn slots_that_stay<Q: elbo::posterior::PosteriorFamily<f64> + 'static>() {
    same::<<LinearAutoencoder as Slots>::Decoder, <Ppca as Slots>::Decoder>();
    same::<<Ppca as Slots>::Decoder, <VariationalPpca<f64, Q> as Slots>::Decoder>();
    same::<<Ppca as Slots>::Likelihood, <VariationalPpca<f64, Q> as Slots>::Likelihood>();
    same::<<VariationalPpca<f64, Q> as Slots>::Decoder, <AmortizedPpca<f64, Q> as Slots>::Decoder>(
    );
    same::<
        <VariationalPpca<f64, Q> as Slots>::Likelihood,
        <AmortizedPpca<f64, Q> as Slots>::Likelihood,
    >();
    same::<<LinearAutoencoder as Slots>::Inference, Amortized<PointEncoder<Linear<f64>>>>();
    same::<<LinearAutoencoder as Slots>::Likelihood, Noiseless>();
    same::<<Ppca as Slots>::Likelihood, IsotropicGaussian<f64>>();
    same::<<Ppca as Slots>::Inference, Exact>();
    same::<<VariationalPpca<f64, Q> as Slots>::Inference, PerPoint<Q>>();
    same::<<AmortizedPpca<f64, Q> as Slots>::Inference, Amortized<GaussianEncoder<Linear<f64>, Q>>>(
    );
}

/// EM returns the very type that the closed form does: step 2b swaps no slot.
#[allow(dead_code)]
fn em_is_the_same_step(x: elbo::Observations<'_, f64>) -> elbo::Result<[Ppca; 2]> {
    Ok([
        Ppca::fit(1, x)?.model,
        Ppca::builder(1).fitter(PxEm::default()).fit(x, &mut rng(0))?.model,
    ])
}

#[test]
fn each_step_swaps_what_the_lecture_says() {
    assert_eq!(swapped::<LinearAutoencoder, Ppca>(), [false, true, true]);
    assert_eq!(swapped::<Ppca, VariationalPpca>(), [false, false, true]);
    assert_eq!(swapped::<VariationalPpca, AmortizedPpca>(), [false, false, true]);
    fn with_family<Q: elbo::posterior::PosteriorFamily<f64> + 'static>() {
        assert_eq!(
            swapped::<VariationalPpca<f64, Q>, AmortizedPpca<f64, Q>>(),
            [false, false, true]
        );
    }
    with_family::<Diagonal<f64>>();
    with_family::<Full<f64>>();
    // The lecture's family is the one that is not named.
    same::<VariationalPpca, VariationalPpca<f64, Isotropic<f64>>>();
    same::<AmortizedPpca, AmortizedPpca<f64, Isotropic<f64>>>();
}

#[test]
fn the_autoencoder_is_the_projection_of_ppca() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 2), ("wine", wine(), 3)]) {
        let (autoencoder, ppca) =
            (LinearAutoencoder::fit(k, &x).unwrap(), Ppca::fit(k, &x).unwrap());
        let scale = autoencoder.model.reconstruct(&x).unwrap();
        assert_close(&ppca.model.orthogonal_projection(&x).unwrap(), &scale, 1e-9, name);
        // The codes differ by the prior's shrinkage: E[z|x] = diag(√(λ−σ²)/λ) Uᵗ(x−x̄).
        let variances = ppca.model.explained_variance().unwrap();
        let shrunk = autoencoder.model.transform(&x).unwrap();
        let expected = nalgebra::DMatrix::from_fn(k, x.ncols(), |j, i| {
            let direction = ppca
                .model
                .loadings()
                .column(j)
                .dot(&autoencoder.model.decoder_weights().column(j))
                .signum();
            direction * shrunk[(j, i)] * (variances[j] - ppca.model.noise_variance()).sqrt()
                / variances[j]
        });
        assert_close(&ppca.model.transform(&x).unwrap(), &expected, 1e-7, name);
    }
}

#[test]
fn with_the_exact_posterior_the_bound_is_the_likelihood() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 2), ("wine", wine(), 3)]) {
        let ppca = Ppca::fit(k, &x).unwrap();
        let (likelihood, bound) =
            (ppca.model.log_likelihood(&x).unwrap(), ppca.model.elbo(&x).unwrap().values());
        for (j, log_p) in bound.iter().zip(likelihood.iter()) {
            assert_relative(*j, *log_p, 1e-9, name);
        }
    }
}

#[test]
fn variational_em_with_full_covariances_is_em() {
    for (name, x, k) in [("iris", iris(), 2), ("wine", wine(), 3)] {
        let vem = VariationalPpca::<f64, Full<f64>>::builder(k).fit(&x, &mut rng(3)).unwrap().model;
        let exact = vem.generative_model().posterior(observed(&x)).unwrap();
        let table = &vem.inference().posterior;
        assert_close(&table.mean().into_owned(), &exact.mean().into_owned(), 1e-12, name);
        for i in [0, 7, x.ncols() - 1] {
            assert_close(&table.covariance(i), &exact.covariance(i), 1e-10, name);
        }
        let bound = vem.elbo(&x).unwrap().values().sum();
        assert_relative(bound, vem.log_likelihood(&x).unwrap().sum(), 1e-12, name);
        assert_relative(
            bound,
            Ppca::builder(k)
                .fitter(PxEm::default())
                .fit(&x, &mut rng(4))
                .unwrap()
                .model
                .log_likelihood(&x)
                .unwrap()
                .sum(),
            1e-7,
            name,
        );
    }
}

#[test]
fn an_encoder_does_for_new_observations_what_the_table_did_for_old_ones() {
    let x = iris();
    let table = VariationalPpca::<f64, Diagonal<f64>>::builder(2).fit(&x, &mut rng(1)).unwrap();
    let amortized = AmortizedPpca::<f64, Diagonal<f64>>::builder(2).fit(&x, &mut rng(1)).unwrap();
    let difference = table.model.elbo(&x).unwrap().values().mean()
        - amortized.model.elbo(&x).unwrap().values().mean();
    assert!((-1e-9..1e-4).contains(&difference), "{difference}");
    // Columns that neither has seen: only the encoder takes them, and the refusal to compile of the
    // other is a test of its own.
    let new = x.columns(3, 20).map(|v| v + 0.1);
    assert_eq!(amortized.model.transform(&new).unwrap().shape(), (2, 20));
}

//! What J leaves of log p (oracles 2 to 5 and 8), at any θ and not only at a fitted one.

use crate::ladder::common::{assert_close, assert_within, log_determinant, normal, observed, rng};
use elbo::diagnostics::InferenceGapSummary;
use elbo::inference::{Amortized, EStep, Exact, GaussianEncoder, PerPoint};
use elbo::map::Linear;
use elbo::model::{ExactPosterior, LinearGaussian, MarginalLikelihood, ProbabilisticModel};
use elbo::objective::Elbo;
use elbo::posterior::{Diagonal, Full, GaussianPosterior, Isotropic, Posterior, PosteriorFamily};
use nalgebra::{DMatrix, DVector};
use std::f64::consts::TAU;

const D: usize = 6;
const K: usize = 3;
const N: usize = 11;

fn case(seed: u64) -> (LinearGaussian<f64>, DMatrix<f64>, DMatrix<f64>) {
    let rng = &mut rng(seed);
    let (w, mu) = (normal(D, K, rng), DVector::from_column_slice(normal(D, 1, rng).as_slice()));
    let variance = 0.2 + 0.3 * seed as f64;
    let x = normal(D, N, rng) * 2.0;
    // Λ = M/σ².
    let precision = (w.tr_mul(&w) + DMatrix::identity(K, K) * variance) / variance;
    (LinearGaussian::from_parameters(w, mu, variance).unwrap(), x, precision)
}

/// log p − J of each observation with the best q_i of a family.
fn gaps_of<Q: PosteriorFamily<f64>>(
    model: &LinearGaussian<f64>,
    x: &DMatrix<f64>,
) -> (DVector<f64>, Q) {
    let mut table = PerPoint::<Q>::at_prior(K, N);
    table.maximize(model, observed(x)).unwrap();
    let bound = Elbo::closed_form().terms(model, &table.posterior, observed(x)).unwrap().values();
    (model.log_likelihood(observed(x)).unwrap() - bound, table.posterior)
}

#[test]
fn a_full_q_leaves_nothing_at_any_model() {
    for seed in 0..5 {
        let (model, x, precision) = case(seed);
        let (gaps, q) = gaps_of::<Full<f64>>(&model, &x);
        assert!(gaps.amax() < 1e-11, "{:e}", gaps.amax());
        assert_close(&q.covariance(2), &precision.try_inverse().unwrap(), 1e-11, "covariance");
        let exact = InferenceGapSummary::exact(&model, &Exact, observed(&x)).unwrap();
        assert!(
            exact.total().abs() < 1e-11
                && exact.approximation.abs() < 1e-11
                && exact.amortization == 0.0
        );
    }
}

#[test]
fn a_diagonal_q_leaves_the_same_for_every_x() {
    for seed in 0..5 {
        let (model, x, precision) = case(seed);
        let m = &precision * model.noise_variance();
        let expected =
            0.5 * (m.diagonal().iter().map(|v| v.ln()).sum::<f64>() - log_determinant(&m));
        let (gaps, q) = gaps_of::<Diagonal<f64>>(&model, &x);
        for gap in gaps.iter() {
            assert_within(*gap, expected, 1e-11, "gap");
        }
        for j in 0..K {
            assert_within(q.variances()[(j, 4)], 1.0 / precision[(j, j)], 1e-13, "variance");
        }
        assert!(expected > 1e-3);
    }
    // WᵗW diagonal: no gap.
    let (model, x, _) = case(1);
    let svd = elbo::linalg::thin_svd(model.loadings()).unwrap();
    let aligned = &svd.u * DMatrix::from_diagonal(&svd.singular_values);
    let aligned =
        LinearGaussian::from_parameters(aligned, model.mean().into_owned(), model.noise_variance())
            .unwrap();
    assert!(gaps_of::<Diagonal<f64>>(&aligned, &x).0.amax() < 1e-12);
}

#[test]
fn an_isotropic_q_leaves_the_same_under_any_rotation_of_z() {
    for seed in 0..5 {
        let (model, x, precision) = case(seed);
        let k = K as f64;
        let expected = 0.5 * (k * (precision.trace() / k).ln() - log_determinant(&precision));
        let (gaps, q) = gaps_of::<Isotropic<f64>>(&model, &x);
        for gap in gaps.iter() {
            assert_within(*gap, expected, 1e-11, "gap");
        }
        assert_within(q.variances()[3], k / precision.trace(), 1e-14, "variance");
        let rotation = normal(K, K, &mut rng(seed + 50)).qr().q();
        let turned = model.loadings() * rotation;
        let turned = LinearGaussian::from_parameters(
            turned,
            model.mean().into_owned(),
            model.noise_variance(),
        )
        .unwrap();
        assert_within(
            gaps_of::<Isotropic<f64>>(&turned, &x).0[0],
            expected,
            1e-11,
            "gap after a rotation",
        );
    }
}

/// Oracle 5: the gap of any affine encoder about the mean of the data, and its two parts.
#[test]
fn an_affine_encoder_adds_the_amortisation_gap() {
    for seed in 0..5 {
        let (model, x, precision) = case(seed);
        let rng = &mut rng(seed + 20);
        let mean = crate::ladder::common::mean(&x);
        let model = LinearGaussian::from_parameters(
            model.loadings().into_owned(),
            mean.clone(),
            model.noise_variance(),
        )
        .unwrap();
        let best = (&precision * model.noise_variance()).try_inverse().unwrap()
            * model.loadings().transpose();
        let v = &best + normal(K, D, rng) * 0.1;
        let l = DMatrix::from_diagonal(&DVector::from_fn(K, |j, _| 0.5 + 0.2 * j as f64));
        let offset = DVector::from_column_slice((normal(K, 1, rng) * 0.3).as_slice());
        let mut weights = DMatrix::zeros(2 * K, D);
        weights.rows_mut(0, K).copy_from(&v);
        let mut bias = DVector::zeros(2 * K);
        bias.rows_mut(0, K).copy_from(&(&offset - &v * &mean));
        for j in 0..K {
            bias[K + j] = 2.0 * l[(j, j)].ln();
        }
        let encoder =
            GaussianEncoder::<_, Diagonal<f64>>::new(Linear::new(weights, bias).unwrap(), K)
                .unwrap();
        let gaps =
            InferenceGapSummary::exact(&model, &Amortized::new(encoder), observed(&x)).unwrap();
        let sigma = &l * l.transpose();
        let change = &v - &best;
        let amortization_of_means = 0.5
            * (&precision * &change * crate::ladder::common::covariance(&x) * change.transpose())
                .trace()
            + 0.5 * (&precision * &offset).dot(&offset);
        let of_scale = 0.5
            * ((&precision * &sigma).trace()
                - K as f64
                - log_determinant(&precision)
                - log_determinant(&sigma));
        assert_within(gaps.total(), amortization_of_means + of_scale, 1e-10, "gap");
        let approximation = 0.5
            * (precision.diagonal().iter().map(|v| v.ln()).sum::<f64>()
                - log_determinant(&precision));
        assert_within(gaps.approximation, approximation, 1e-10, "approximation gap");
        assert_within(
            gaps.amortization,
            amortization_of_means + of_scale - approximation,
            1e-10,
            "amortisation gap",
        );
        assert!(gaps.amortization > 0.0);
        assert_within(gaps.reconstruction - gaps.kl, gaps.elbo, 1e-12, "the two terms of J");
    }
}

/// Oracle 8.
#[test]
fn importance_weights_under_the_exact_posterior_are_constant() {
    let (model, x, precision) = case(2);
    let q = model.posterior(observed(&x)).unwrap();
    let log_p = model.log_likelihood(observed(&x)).unwrap();
    let rng = &mut rng(4);
    let mut z = DMatrix::zeros(K, N);
    for _ in 0..10 {
        let noise = normal(K, N, rng);
        q.transform(noise.as_view(), &mut z);
        let likelihood = model.log_density_given(observed(&x), z.as_view()).unwrap();
        for i in 0..N {
            let k = K as f64;
            let log_prior = -0.5 * (k * TAU.ln() + z.column(i).norm_squared());
            let log_q = -0.5
                * (k * TAU.ln() - log_determinant(&precision) + noise.column(i).norm_squared());
            assert_within(likelihood[i] + log_prior - log_q, log_p[i], 1e-10, "log weight");
        }
    }
}

/// J ≤ log p, whatever q.
#[test]
fn no_q_exceeds_the_likelihood() {
    let (model, x, _) = case(3);
    let rng = &mut rng(9);
    let log_p = model.log_likelihood(observed(&x)).unwrap();
    for _ in 0..50 {
        let q = Full::from_parameters(K, normal(Full::<f64>::parameter_count(K), N, rng)).unwrap();
        let bound = Elbo::closed_form().terms(&model, &q, observed(&x)).unwrap().values();
        assert!(bound.iter().zip(log_p.iter()).all(|(j, p)| j <= p));
    }
}

/// The KL of the lecture, with its constant C = k/2.
#[test]
fn the_lecture_s_divergence() {
    let phi = normal(K + 1, N, &mut rng(12));
    let q = Isotropic::from_parameters(K, phi.clone()).unwrap();
    for (i, kl) in q.kl_to_prior().iter().enumerate() {
        let (mu, log_variance, k) =
            (phi.column(i).rows(0, K).norm_squared(), phi[(K, i)], K as f64);
        let lecture = k / 2.0 * log_variance - 0.5 * (mu + k * log_variance.exp()) + k / 2.0;
        assert_within(-kl, lecture, 1e-13, "E_q log π/q");
    }
    assert_eq!(q.mean(), phi.rows(0, K));
}

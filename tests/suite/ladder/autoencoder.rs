//! Step 1: the linear autoencoder (oracle 13).

use crate::ladder::common::{
    assert_close, assert_relative, eigenvalues, hostile, iris, observed, rng, wine,
};
use crate::support::VoidRng;
use elbo::LinearAutoencoder;
use elbo::fit::AutoencoderDescent;
use elbo::objective::{DifferentiableObjective, Gradient, Objective, SquaredError};
use nalgebra::DMatrix;

/// The largest entry of the gradient of the squared error with a weight on the maps, beside the
/// size of the terms that cancel in it.
fn gradient(model: &LinearAutoencoder, x: &DMatrix<f64>, weight: f64) -> (f64, Gradient<f64>) {
    let mut gradient = Gradient::default();
    let objective = SquaredError::with_weight(weight).unwrap();
    let mut workspace = Default::default();
    let value = objective
        .value_and_gradient(
            model.generative_model(),
            model.inference(),
            observed(x),
            &mut crate::support::VoidRng,
            &mut workspace,
            &mut gradient,
        )
        .unwrap();
    (value, gradient)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, v| a.max(v.abs()))
}

#[test]
fn the_minimum_is_the_variance_outside_and_wu_the_projector() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 2), ("wine", wine(), 3)]) {
        let values = eigenvalues(&x, true);
        let model = LinearAutoencoder::fit(k, &x).unwrap();
        let rest: f64 = values.rows_range(k..).iter().rev().sum();
        let size = 1e-15 * x.norm_squared();
        let error = (model.model.squared_error(&x).unwrap() - x.ncols() as f64 * rest).abs();
        assert!(error <= 1e-8 * x.ncols() as f64 * rest + size, "{name}: off by {error:e}");
        // UW = I and U = Wᵗ: WU is the orthogonal projector.
        let (u, w) = (
            model.model.encoder_weights().into_owned(),
            model.model.decoder_weights().into_owned(),
        );
        assert_close(&(&u * &w), &DMatrix::identity(k, k), 1e-12, name);
        assert_close(&u.transpose(), &w, 1e-14, name);
    }
}

#[test]
fn by_gradient_from_any_seed() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 2), ("wine", wine(), 3)]) {
        let exact = LinearAutoencoder::fit(k, &x).unwrap().model.squared_error(&x).unwrap();
        for seed in [1, 2] {
            let fit = LinearAutoencoder::builder(k)
                .fitter(AutoencoderDescent::default())
                .fit(&x, &mut rng(seed))
                .unwrap();
            let error = fit.model.squared_error(&x).unwrap();
            // Where nothing is left but rounding, there is no relative accuracy to ask for.
            let floor = 1e-14 * x.norm_squared();
            assert!(
                error <= exact * (1.0 + 1e-4) + floor,
                "{name}, seed {seed}: {error:e} beside {exact:e}"
            );
        }
    }
}

#[test]
fn every_other_set_of_directions_is_a_saddle() {
    let x = wine();
    // The second and third principal directions in the place of the first two: a critical point,
    // and not a minimum.
    let three = LinearAutoencoder::fit(3, &x).unwrap();
    let directions = three.model.decoder_weights().columns(1, 2).into_owned();
    let mean = three.model.decoder().bias().into_owned();
    let at = |w: &DMatrix<f64>, u: &DMatrix<f64>| {
        use elbo::inference::{Amortized, PointEncoder};
        use elbo::map::Linear;
        let encoder = Linear::new(u.clone(), -(u * &mean)).unwrap();
        let decoder = Linear::new(w.clone(), mean.clone()).unwrap();
        LinearAutoencoder::new(
            decoder,
            elbo::likelihood::Noiseless,
            Amortized::new(PointEncoder::new(encoder)),
        )
        .unwrap()
    };
    let saddle = at(&directions, &directions.transpose());
    let (value, found) = gradient(&saddle, &x, 0.0);
    let scale = value.abs();
    assert!(largest(&found.theta) < 1e-8 * scale && largest(&found.phi) < 1e-8 * scale);
    // Turning the second one towards the first lowers the error.
    let turn = |angle: f64| {
        let mut w = directions.clone();
        let turned = directions.column(0) * angle.cos()
            + three.model.decoder_weights().column(0) * angle.sin();
        w.set_column(0, &turned);
        at(&w, &w.transpose()).squared_error(&x).unwrap()
    };
    assert!(turn(0.01) < turn(0.0) && turn(-0.01) < turn(0.0));
}

#[test]
fn with_a_weight_on_both_maps() {
    for (x, k) in [(iris(), 3), (wine(), 3)] {
        let s: Vec<f64> = eigenvalues(&x, true).iter().map(|l| l * x.ncols() as f64).collect();
        // One weight that leaves all directions alive, and one that kills the last.
        for weight in [0.3 * s[k - 1], (s[k - 1] * s[k - 2]).sqrt()] {
            let model = LinearAutoencoder::builder(k)
                .l2_regularization(weight)
                .fit(&x, &mut VoidRng)
                .unwrap();
            assert_close(
                &model.model.encoder_weights().transpose(),
                &model.model.decoder_weights().into_owned(),
                1e-14,
                "U is Wᵗ",
            );
            let singular = elbo::linalg::thin_svd(model.model.decoder_weights()).unwrap();
            let mut expected_loss: f64 = s.iter().skip(k).sum();
            for (j, (&s, singular)) in s.iter().zip(singular.singular_values.iter()).enumerate() {
                let expected = (1.0 - weight / s).max(0.0);
                assert!((singular.powi(2) - expected).abs() < 1e-10, "singular value {j}");
                expected_loss += if s > weight { 2.0 * weight - weight * weight / s } else { s };
            }
            // Its left singular vectors are the principal directions.
            let plain = LinearAutoencoder::fit(k, &x).unwrap();
            for j in (0..k).filter(|&j| s[j] > weight) {
                let cosine =
                    singular.u.column(j).dot(&plain.model.decoder_weights().column(j)).abs();
                assert!((cosine - 1.0).abs() < 1e-12, "direction {j}");
            }
            let (value, found) = gradient(&model.model, &x, weight);
            assert_relative(-value, expected_loss, 1e-10, "loss");
            let size = 2.0 * weight;
            assert!(
                largest(&found.theta) < 1e-8 * size.max(value.abs()),
                "{:e}",
                largest(&found.theta)
            );
            assert!(
                largest(&found.phi) < 1e-8 * value.abs() * x.amax(),
                "{:e}",
                largest(&found.phi)
            );
            // And it is a minimum: no random step lowers the loss.
            let rng = &mut rng(5);
            for _ in 0..20 {
                use elbo::map::Parameters;
                let (mut generative, mut inference) = model.model.clone().into_parts();
                for p in generative.decoder.parameters_mut() {
                    *p += 1e-3 * <f64 as elbo::Real>::standard_normal(rng);
                }
                for p in inference.encoder.map.parameters_mut() {
                    *p += 1e-3 * <f64 as elbo::Real>::standard_normal(rng);
                }
                let other = LinearAutoencoder::from_parts(generative, inference).unwrap();
                assert!(gradient(&other, &x, weight).0 < value);
            }
        }
    }
}

/// The gradient reaches the closed form with a weight as well, on tables of every kind, from any
/// seed and in either precision.
#[test]
fn by_gradient_with_a_weight() {
    for (name, x, k) in hostile().into_iter().chain([("iris", iris(), 3), ("wine", wine(), 3)]) {
        let n = x.ncols() as f64;
        let s: Vec<f64> = eigenvalues(&x, true).iter().map(|l| l * n).collect();
        // Light; one that kills the last direction; one that kills all.
        for (weight, seed) in [
            (1e-3 * s[k - 1], 1),
            (0.3 * s[k - 1], 2),
            ((s[k - 1] * s[k - 2]).sqrt(), 3),
            (1.1 * s[0], 4),
        ] {
            let shrinkage = |s: f64| (1.0 - weight / s).max(0.0);
            let expected = |s: f64| if s > weight { 2.0 * weight - weight * weight / s } else { s };
            let loss =
                s.iter().take(k).map(|&s| expected(s)).sum::<f64>() + s.iter().skip(k).sum::<f64>();
            let fit = LinearAutoencoder::builder(k)
                .l2_regularization(weight)
                .fitter(AutoencoderDescent::default())
                .fit(&x, &mut rng(seed))
                .unwrap();
            assert_eq!(fit.stop, elbo::fit::StopReason::Converged, "{name}");
            let found = -gradient(&fit.model, &x, weight).0;
            assert!(
                (found / loss - 1.0).abs() < 1e-6,
                "{name}, weight {weight:e}: {found:e} beside {loss:e}"
            );
            assert_relative(-fit.trace.last().unwrap() * n, found, 1e-6, name);
            // U = Wᵗ, with the singular values of the closed form: a loss within 1e-6 of the least
            // leaves a thousandth of a map undetermined.
            let (u, w) =
                (fit.model.encoder_weights().transpose(), fit.model.decoder_weights().into_owned());
            let singular = elbo::linalg::thin_svd(w.as_view()).unwrap().singular_values;
            for (j, (&s, value)) in s.iter().zip(singular.iter()).enumerate() {
                assert!(
                    (value.powi(2) - shrinkage(s)).abs() * weight < 2e-3 * loss,
                    "{name}: singular value {j}"
                );
            }
            assert!((u - w).norm_squared() * weight < 1e-4 * loss, "{name}");
        }
    }
    let x = wine();
    let builder = LinearAutoencoder::<f32>::builder(2).l2_regularization(1e3);
    let single = builder
        .fitter(AutoencoderDescent::default())
        .fit(&x.map(|v| v as f32), &mut rng(5))
        .unwrap();
    let exact = LinearAutoencoder::builder(2).l2_regularization(1e3).fit(&x, &mut VoidRng).unwrap();
    let projector = |w: DMatrix<f64>| &w * w.transpose();
    let of_single = projector(single.model.decoder_weights().map(f64::from));
    assert_close(
        &of_single,
        &projector(exact.model.decoder_weights().into_owned()),
        1e-3,
        "WWᵗ in single precision",
    );
}

#[test]
fn the_objective_is_minus_the_squared_error() {
    let x = iris();
    let model = LinearAutoencoder::fit(2, &x).unwrap();
    let q = model.model.encode(&x).unwrap();
    let value = SquaredError::<f64>::new()
        .evaluate(model.model.generative_model(), &q, observed(&x), &mut crate::support::VoidRng)
        .unwrap();
    assert_relative(-value, model.model.squared_error(&x).unwrap(), 1e-13, "J");
    // A mini-batch of a third stands for three times as much.
    let third = observed(&x).of_population(450);
    let scaled = SquaredError::<f64>::new()
        .evaluate(model.model.generative_model(), &q, third, &mut crate::support::VoidRng)
        .unwrap();
    assert_relative(scaled, 3.0 * value, 1e-13, "J of a mini-batch");
}

//! Step 4: an encoder in the place of the table.

use crate::ladder::common::{
    assert_within, eigenvalues, hostile, iris, isotropic_optimum, likelihood_optimum, observed,
    rng, wine,
};
use crate::support::VoidRng;
use elbo::AmortizedPpca;
use elbo::diagnostics::InferenceGapSummary;
use elbo::fit::AffineScaleHead;
use elbo::inference::DifferentiableInference;
use elbo::map::Parameters;
use elbo::objective::{DifferentiableObjective, Elbo, Gradient};
use elbo::posterior::{Diagonal, Full, Isotropic, Posterior, PosteriorFamily};
use nalgebra::{DMatrix, DVector};

fn value_and_gradient<Q: PosteriorFamily<f64>>(
    step: &AmortizedPpca<f64, Q>,
    x: &DMatrix<f64>,
) -> (f64, Gradient<f64>) {
    let mut gradient = Gradient::default();
    let mut workspace = Default::default();
    let objective = Elbo::closed_form();
    let value = objective
        .value_and_gradient(
            step.generative_model(),
            step.inference(),
            observed(x),
            &mut VoidRng,
            &mut workspace,
            &mut gradient,
        )
        .unwrap();
    (value, gradient)
}

/// The variance map starts at weight 0, and at the optimum that is where it is: the gradient there
/// is 0, and J falls in whatever direction its weights are moved.
fn variance_map_is_constant<Q: AffineScaleHead<f64> + PosteriorFamily<f64>>(
    x: &DMatrix<f64>,
    k: usize,
    name: &str,
) {
    let step = AmortizedPpca::<f64, Q>::builder(k).fit(x, &mut rng(3)).unwrap().model;
    let map = step.inference().encoder.map();
    let (rows, d, n) = (Q::parameter_count(k), x.nrows(), x.ncols() as f64);
    assert!(
        map.weights().rows(k, rows - k).iter().all(|w| *w == 0.0),
        "{name}: the variance map has weights"
    );
    let (value, gradient) = value_and_gradient(&step, x);
    let d_map = DMatrix::from_column_slice(rows, d + 1, &gradient.phi);
    let (mean, deviations) =
        (crate::ladder::common::mean(x), observed(x).variances().map(f64::sqrt));
    for row in k..rows {
        for j in 0..d {
            // About the mean, where the bias has no part in it, and in units of the column's
            // deviation: nats per observation.
            let slope = (d_map[(row, j)] - mean[j] * d_map[(row, d)]) * deviations[j] / n;
            assert!(slope.abs() < 1e-9, "{name}: slope {slope:e}");
            assert!(
                (d_map[(row, d)] / n).abs() < 1e-3,
                "{name}: slope of the bias {:e}",
                d_map[(row, d)] / n
            );
        }
    }
    let rng = &mut rng(4);
    for size in [0.3, 0.01] {
        for _ in 0..8 {
            let direction = DMatrix::from_fn(rows - k, d, |_, j| {
                if deviations[j] > 0.0 {
                    size * <f64 as elbo::Real>::standard_normal(rng) / deviations[j]
                } else {
                    0.0
                }
            });
            let offset: DVector<f64> = -(&direction * &mean);
            let (generative, mut inference) = step.clone().into_parts();
            let parameters = inference.parameters_mut();
            for row in 0..rows - k {
                for j in 0..d {
                    parameters[j * rows + k + row] += direction[(row, j)];
                }
                parameters[d * rows + k + row] += offset[row];
            }
            let moved = AmortizedPpca::<f64, Q>::from_parts(generative, inference).unwrap();
            let there = moved.elbo(x).unwrap().values().sum();
            assert!(there < value, "{name}: J rises by {:e} along the variance map", there - value);
        }
    }
}

#[test]
fn the_optimal_variance_map_is_a_constant() {
    for (x, k) in [(iris(), 2), (wine(), 3)] {
        variance_map_is_constant::<Isotropic<f64>>(&x, k, "isotropic");
        variance_map_is_constant::<Diagonal<f64>>(&x, k, "diagonal");
        variance_map_is_constant::<Full<f64>>(&x, k, "full");
    }
}

fn reaches<Q: AffineScaleHead<f64> + elbo::diagnostics::KlProjection<f64>>(
    x: &DMatrix<f64>,
    k: usize,
    best: f64,
    name: &str,
) {
    for seed in [1, 2] {
        let fit = AmortizedPpca::<f64, Q>::builder(k).fit(x, &mut rng(seed)).unwrap();
        let value = fit.model.elbo(x).unwrap().values().mean();
        assert!(
            value > best - 1e-2 && value < best + 1e-7 * best.abs(),
            "{name}, seed {seed}: {value} beside {best} ({})",
            fit.stop
        );
        for pair in fit.trace.values().windows(2) {
            assert!(
                pair[1] >= pair[0] - 1e-9 * pair[0].abs().max(1.0),
                "{name}: {} after {}",
                pair[1],
                pair[0]
            );
        }
        let gaps = InferenceGapSummary::exact(
            fit.model.generative_model(),
            fit.model.inference(),
            observed(x),
        )
        .unwrap();
        assert!(
            gaps.amortization > -1e-7 * best.abs() && gaps.amortization < 1e-2,
            "{name}: {:e}",
            gaps.amortization
        );
    }
}

#[test]
fn heads_reach_their_optimum_on_hostile_tables() {
    for (name, x, k) in hostile() {
        let values = eigenvalues(&x, true);
        let best = likelihood_optimum(&values, k);
        reaches::<Full<f64>>(&x, k, best, name);
        reaches::<Diagonal<f64>>(&x, k, best, name);
        if let Some(isotropic) = isotropic_optimum(&values, k) {
            reaches::<Isotropic<f64>>(&x, k, isotropic, name);
        }
    }
}

/// θ and φ are moved by the gradient of J and end where it is 0; the encoder is the exact
/// posterior's only to the optimiser's accuracy.
#[test]
fn the_fit_is_a_stationary_point_of_theta_and_phi() {
    let x = iris();
    let step = AmortizedPpca::<f64, Diagonal<f64>>::builder(2).fit(&x, &mut rng(6)).unwrap().model;
    let (_, gradient) = value_and_gradient(&step, &x);
    let of = |parameters: &[f64], gradient: &[f64]| {
        parameters.iter().zip(gradient).fold(0.0f64, |a, (p, g)| a.max((p * g).abs() / 150.0))
    };
    // By the logarithm of each parameter, in nats per observation.
    let theta: Vec<f64> = step
        .generative_model()
        .decoder
        .parameters()
        .iter()
        .chain(step.likelihood().parameters())
        .copied()
        .collect();
    assert!(of(&theta, &gradient.theta) < 2e-2, "{:e}", of(&theta, &gradient.theta));
    assert!(
        of(step.inference().parameters(), &gradient.phi) < 2e-2,
        "{:e}",
        of(step.inference().parameters(), &gradient.phi)
    );
    assert_eq!(step.inference().latent_dim(), 2);
}

#[test]
fn an_encoder_says_the_same_of_an_observation_whatever_stands_beside_it() {
    let x = wine();
    let step = AmortizedPpca::<f64>::builder(2).fit(&x, &mut rng(7)).unwrap().model;
    let fork_join_scope = step.encode(&x).unwrap();
    let alone = step.encode(x.columns(17, 1)).unwrap();
    for j in 0..2 {
        assert_within(alone.mean()[(j, 0)], fork_join_scope.mean()[(j, 17)], 1e-12, "code");
    }
    assert_eq!(step.reconstruct(x.columns(0, 4)).unwrap().shape(), (13, 4));
}

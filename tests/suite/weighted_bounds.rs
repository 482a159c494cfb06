//! The importance-weighted and the Rényi bound: their gradients, in expectation, and their limits.

use elbo::inference::PerPoint;
use elbo::model::{ExactPosterior, LinearGaussian, MarginalLikelihood};
use elbo::objective::{
    DifferentiableObjective, Elbo, Gradient, ImportanceWeighted, Objective, Renyi, SampledBound,
    WeightedGradient,
};
use elbo::posterior::{Diagonal, Full, Posterior, PosteriorFamily};
use elbo::testing::check_objective;
use elbo::{Observations, Real};
use nalgebra::{DMatrix, dmatrix, dvector};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

/// x|z ~ N(1.3z, 0.6), q = N(0.2, e^−0.6): a variational distribution that is not the posterior.
fn one_variable<T: Real>(n: usize) -> (LinearGaussian<T>, PerPoint<Diagonal<T>>, DMatrix<T>) {
    let model =
        LinearGaussian::from_parameters(dmatrix![T::of(1.3)], dvector![T::zero()], T::of(0.6))
            .unwrap();
    let phi = DMatrix::from_fn(2, n, |row, _| T::of([0.2, -0.6][row]));
    (
        model,
        PerPoint::new(Diagonal::from_parameters(1, phi).unwrap()),
        DMatrix::from_element(1, n, T::one()),
    )
}

/// The mean gradient by (mean, ln standard deviation) over many observations, with its standard
/// errors.
fn mean_gradient(estimator: WeightedGradient) -> [(f64, f64); 2] {
    let n = 200_000;
    let (model, q, x) = one_variable::<f64>(n);
    let mut gradient = Gradient::default();
    ImportanceWeighted::new(2)
        .with_gradient(estimator)
        .value_and_gradient(
            &model,
            &q,
            Observations::new(x.as_view()).unwrap(),
            &mut Generator::seed_from_u64(7),
            &mut Default::default(),
            &mut gradient,
        )
        .unwrap();
    // φ holds the logarithm of the variance, twice that of the standard deviation.
    [(0, 1.0), (1, 2.0)].map(|(row, factor)| {
        let values: Vec<f64> =
            gradient.phi.iter().skip(row).step_by(2).map(|d| factor * d).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        (mean, squares.sqrt() / n as f64)
    })
}

#[test]
fn gradients_have_the_expectations_of_a_quadrature() {
    // By quadrature over both samples, K = 2.
    use WeightedGradient::*;
    for (estimator, expected) in [
        (Reparameterized, [0.53353, -0.25716]),
        (DoublyReparameterized, [0.53353, -0.25716]),
        // Biased, as its documentation says.
        (PathDerivative, [0.94879, -0.50429]),
    ] {
        for ((mean, error), expected) in mean_gradient(estimator).into_iter().zip(expected) {
            let apart = (mean - expected).abs();
            assert!(apart < 4.0 * error && error < 0.01, "{estimator:?}: {mean} ± {error}");
        }
    }
}

#[test]
fn under_the_exact_posterior_they_are_zero_for_every_sample() {
    let model = LinearGaussian::from_parameters(
        dmatrix![1.0, 0.5; 2.0, 0.0; 0.0, 1.0],
        dvector![0.0, 0.1, 0.0],
        0.7,
    )
    .unwrap();
    let x = dmatrix![1.0, 2.0; 0.0, 1.0; 1.0, -1.0];
    let x = Observations::new(x.as_view()).unwrap();
    let exact = Full::nearest(
        model.posterior(x).unwrap().into_mean(),
        model.posterior_precision_root().unwrap().as_view(),
    )
    .unwrap();
    let q = PerPoint::new(exact);
    let rng = &mut Generator::seed_from_u64(1);
    for estimator in [WeightedGradient::PathDerivative, WeightedGradient::DoublyReparameterized] {
        let mut gradient = Gradient::default();
        ImportanceWeighted::new(5)
            .with_gradient(estimator)
            .value_and_gradient(&model, &q, x, rng, &mut Default::default(), &mut gradient)
            .unwrap();
        assert!(gradient.phi.iter().all(|d: &f64| d.abs() < 1e-12), "{:?}", gradient.phi);
    }
    // Every bound is log p there.
    let log_p = model.log_likelihood(x).unwrap().sum();
    for order in [0.0, 0.5, 1.0, 2.0] {
        let bound = Renyi::new(order, 3).unwrap().evaluate(&model, &q.posterior, x, rng).unwrap();
        assert!((bound - log_p).abs() < 1e-12, "{order}: {bound} {log_p}");
    }
}

#[test]
fn the_renyi_bound_lies_between_its_neighbours_and_at_its_formula() {
    let n = 2000;
    let (model, q, x) = one_variable::<f64>(n);
    let x = Observations::new(x.as_view()).unwrap();
    let evaluate = |order: f64, samples: usize| {
        let rng = &mut Generator::seed_from_u64(3);
        Renyi::new(order, samples).unwrap().evaluate(&model, &q.posterior, x, rng).unwrap()
    };
    // On the same samples α = 0 is the importance-weighted bound and α = 1 the ELBO, with ln q at
    // its samples.
    let rng = || Generator::seed_from_u64(3);
    let weighted =
        ImportanceWeighted::new(20).evaluate(&model, &q.posterior, x, &mut rng()).unwrap();
    assert!((evaluate(0.0, 20) - weighted).abs() < 1e-9);
    let orders = [0.0, 0.3, 0.7, 0.999, 1.0, 1.001, 1.5].map(|order| evaluate(order, 20));
    assert!(orders.is_sorted_by(|a, b| a >= b), "{orders:?}");
    let elbo = Elbo::closed_form().evaluate(&model, &q.posterior, x, &mut rng()).unwrap();
    assert!((orders[4] - elbo).abs() < 0.01 * n as f64);
    // log p − D_α(q‖p) between Gaussians.
    let posterior = model.posterior(x).unwrap();
    let (mean, variance) = (posterior.mean()[0], 1.0 / (1.0 + 1.3f64.powi(2) / 0.6));
    let log_p = model.log_likelihood(x).unwrap()[0];
    for order in [0.3, 0.5, 0.8] {
        let (own, other) = ((-0.6f64).exp(), variance);
        let mixed = order * other + (1.0 - order) * own;
        let divergence = 0.5 * order * (0.2 - mean).powi(2) / mixed
            - (mixed / (own.powf(1.0 - order) * other.powf(order))).ln() / (2.0 * (order - 1.0));
        let found = evaluate(order, 5000) / n as f64;
        assert!((found - (log_p - divergence)).abs() < 5e-3, "{order}: {found}");
    }
}

fn conforms<T: Real>() {
    let (model, q, x) = one_variable::<T>(3);
    let x = Observations::new(x.as_view()).unwrap();
    let seed = &Generator::seed_from_u64(5);
    check_objective(&Renyi::new(0.5, 4).unwrap(), &model, &q, x, seed).unwrap();
    for bound in [
        SampledBound::Elbo { samples: 2 },
        SampledBound::ImportanceWeighted { samples: 3 },
        SampledBound::Renyi { order: 1.5, samples: 3 },
    ] {
        check_objective(&bound, &model, &q, x, seed).unwrap();
    }
}

#[test]
fn gradients_of_bounds_chosen_at_run_time_conform() {
    conforms::<f64>();
    conforms::<f32>();
}

//! The path-derivative gradient: 0 for every ε at the exact posterior, unbiased elsewhere, the
//! plain one by θ.

use elbo::inference::{Amortized, GaussianEncoder, PerPoint};
use elbo::map::Linear;
use elbo::model::{ExactPosterior, LinearGaussian};
use elbo::objective::{DifferentiableObjective, Elbo, Gradient};
use elbo::posterior::{Diagonal, Full, Isotropic, Posterior, PosteriorFamily};
use elbo::{Observations, Real};
use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

const D: usize = 5;
const K: usize = 2;
const N: usize = 4;

fn normal<T: Real>(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<T> {
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

/// Columns of W that are orthogonal, with squared lengths of the caller's: then the exact posterior
/// is diagonal, and isotropic where these are equal.
fn model<T: Real>(squares: [f64; K], skew: f64) -> LinearGaussian<T> {
    let mut loadings = DMatrix::zeros(D, K);
    for (j, square) in squares.into_iter().enumerate() {
        loadings[(j, j)] = T::of(square.sqrt());
    }
    loadings[(0, 1)] = T::of(skew);
    LinearGaussian::from_parameters(loadings, DVector::from_element(D, T::of(0.3)), T::of(0.5))
        .unwrap()
}

/// The root mean square of the φ-gradients over some draws, of the path and of the plain estimator.
fn scatter<T: Real, Q: PosteriorFamily<T>>(model: &LinearGaussian<T>) -> (f64, f64) {
    let x = normal::<T>(D, N, &mut Generator::seed_from_u64(1));
    let x = Observations::new(x.as_view()).unwrap();
    let exact = Q::nearest(
        model.posterior(x).unwrap().into_mean(),
        model.posterior_precision_root().unwrap().as_view(),
    )
    .unwrap();
    let q = PerPoint::new(exact);
    let size = |path: bool| {
        let mut squares = 0.0;
        let rng = &mut Generator::seed_from_u64(2);
        for _ in 0..50 {
            let mut gradient = Gradient::default();
            if path {
                Elbo::path_derivative(1)
                    .value_and_gradient(model, &q, x, rng, &mut Default::default(), &mut gradient)
                    .unwrap();
            } else {
                Elbo::reparameterized(1)
                    .value_and_gradient(model, &q, x, rng, &mut Default::default(), &mut gradient)
                    .unwrap();
            }
            squares += gradient.phi.iter().map(|d| d.as_f64().powi(2)).sum::<f64>()
                / gradient.phi.len() as f64;
        }
        (squares / 50.0).sqrt()
    };
    (size(true), size(false))
}

fn lands<T: Real>(bound: f64) {
    let of = [
        scatter::<T, Full<T>>(&model([2.0, 0.7], 0.8)),
        scatter::<T, Diagonal<T>>(&model([2.0, 0.7], 0.0)),
        scatter::<T, Isotropic<T>>(&model([1.5, 1.5], 0.0)),
    ];
    for (path, plain) in of {
        assert!(path < bound && plain > 0.3, "{path:e} {plain}");
    }
}

#[test]
fn at_the_exact_posterior_it_is_zero_for_every_draw() {
    lands::<f64>(1e-13);
    lands::<f32>(1e-5);
}

#[test]
fn by_theta_it_is_the_plain_gradient_and_so_is_the_value() {
    let rng = &mut Generator::seed_from_u64(3);
    let (model, x) = (model::<f64>([2.0, 0.7], 0.8), normal::<f64>(D, N, rng));
    let x = Observations::new(x.as_view()).unwrap();
    let encoder = Amortized::new(
        GaussianEncoder::<_, Full<f64>>::new(
            Linear::new(normal(5, D, rng), DVector::zeros(5)).unwrap(),
            K,
        )
        .unwrap(),
    );
    let (mut path, mut plain) = (Gradient::default(), Gradient::default());
    let seed = || Generator::seed_from_u64(4);
    let of_path = Elbo::path_derivative(3)
        .value_and_gradient(&model, &encoder, x, &mut seed(), &mut Default::default(), &mut path)
        .unwrap();
    let of_plain = Elbo::reparameterized(3)
        .value_and_gradient(&model, &encoder, x, &mut seed(), &mut Default::default(), &mut plain)
        .unwrap();
    assert!(of_path == of_plain && path.theta == plain.theta && path.phi != plain.phi);
}

/// The mean over draws against the exact gradient, in standard errors.
fn unbiased<Q: PosteriorFamily<f64>>() {
    let rng = &mut Generator::seed_from_u64(5);
    let (model, x) = (model::<f64>([2.0, 0.7], 0.8), normal::<f64>(D, N, rng));
    let x = Observations::new(x.as_view()).unwrap();
    let parameters = normal::<f64>(Q::parameter_count(K), N, rng) * 0.4;
    let q = PerPoint::new(Q::from_parameters(K, parameters).unwrap());
    let mut exact = Gradient::default();
    Elbo::closed_form()
        .value_and_gradient(&model, &q, x, rng, &mut Default::default(), &mut exact)
        .unwrap();
    let count = 20_000.0;
    let (mut sum, mut squares) = (vec![0.0; exact.phi.len()], vec![0.0; exact.phi.len()]);
    let (mut workspace, mut gradient) = (Default::default(), Gradient::default());
    for _ in 0..20_000 {
        Elbo::path_derivative(1)
            .value_and_gradient(&model, &q, x, rng, &mut workspace, &mut gradient)
            .unwrap();
        for ((sum, square), d) in sum.iter_mut().zip(&mut squares).zip(&gradient.phi) {
            *sum += d;
            *square += d * d;
        }
    }
    for ((sum, square), exact) in sum.iter().zip(&squares).zip(&exact.phi) {
        let mean = sum / count;
        let error = ((square / count - mean * mean) / count).sqrt();
        // Five standard errors: one in two million, for each of some twenty entries.
        assert!((mean - exact).abs() < 5.0 * error, "{mean} {exact} ± {error}");
    }
}

#[test]
fn it_is_unbiased() {
    unbiased::<Isotropic<f64>>();
    unbiased::<Diagonal<f64>>();
    unbiased::<Full<f64>>();
}

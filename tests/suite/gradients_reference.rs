//! Value and gradient of the reparameterised bound against JAX: `reference/make_gradients.py` made
//! the numbers.

use elbo::Observations;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use elbo::map::{Activation, Mlp};
use elbo::model::GenerativeModel;
use elbo::objective::{Elbo, Gradient};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use nalgebra::{DMatrix, DVector};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn size(reference: &Value, name: &str) -> usize {
    reference[name].as_u64().expect("a count") as usize
}

fn network(case: &Value, name: &str, sizes: &[usize]) -> Mlp<f64> {
    Mlp::from_parameters(sizes, Activation::Tanh, Activation::Identity, numbers(&case[name]))
        .unwrap()
}

fn compare<Q: PosteriorFamily<f64>, L: Likelihood<f64>>(
    reference: &Value,
    case: &Value,
    likelihood: L,
) {
    let (d, h, k, n) = (
        size(reference, "data_dim"),
        size(reference, "hidden"),
        size(reference, "latent_dim"),
        size(reference, "observations"),
    );
    let vector = |name: &str| DVector::from_vec(numbers(&case[name]));
    let encoder = network(case, "encoder", &[d, h, Q::parameter_count(k)]);
    let encoder = encoder
        .with_input_standardization(vector("input_mean"), vector("input_deviation"))
        .unwrap();
    let decoder = network(case, "decoder", &[k, h, d])
        .with_output_scale(vector("output_mean"), vector("output_deviation"))
        .unwrap();
    let inference = Amortized::new(GaussianEncoder::<_, Q>::new(encoder, k).unwrap());
    let model = GenerativeModel::new(decoder, likelihood);
    let x = DMatrix::from_vec(d, n, numbers(&case["x"]));
    let x = Observations::new(x.as_view()).unwrap().of_population(size(reference, "population"));
    let mut draws = case["noise"].as_array().expect("draws").iter();
    let noise = |to: &mut [f64]| {
        to.copy_from_slice(&numbers(draws.next().expect("a draw for each sample")))
    };
    let (mut workspace, mut gradient) = (Default::default(), Gradient::default());
    let objective = Elbo::reparameterized(size(reference, "samples"));
    let value = objective
        .value_and_gradient_at(&model, &inference, x, noise, &mut workspace, &mut gradient)
        .unwrap();

    let mut theta = numbers(&case["d_decoder"]);
    if !model.likelihood.parameters().is_empty() {
        theta.push(case["d_log_variance"].as_f64().expect("a number"));
    }
    let expected = case["value"].as_f64().expect("a number");
    assert!((value - expected).abs() < 1e-12 * expected.abs(), "{value} {expected}");
    for (ours, theirs) in [(gradient.theta, theta), (gradient.phi, numbers(&case["d_encoder"]))] {
        assert_eq!(ours.len(), theirs.len());
        let largest = theirs.iter().fold(1.0f64, |a, b| a.max(b.abs()));
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-12 * largest));
    }
}

fn with_family<L: Likelihood<f64>>(reference: &Value, case: &Value, likelihood: L) {
    match case["family"].as_str() {
        Some("isotropic") => compare::<Isotropic<f64>, L>(reference, case, likelihood),
        Some("diagonal") => compare::<Diagonal<f64>, L>(reference, case, likelihood),
        Some("full") => compare::<Full<f64>, L>(reference, case, likelihood),
        other => panic!("no family {other:?}"),
    }
}

#[test]
fn values_and_gradients_are_those_of_another_program() {
    let reference: Value =
        serde_json::from_str(include_str!("../reference/gradients.json")).unwrap();
    let cases = reference["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        match case["likelihood"].as_str() {
            Some("bernoulli") => with_family(&reference, case, Bernoulli),
            Some("gaussian") => {
                let variance = case["log_variance"].as_f64().unwrap().exp();
                with_family(&reference, case, IsotropicGaussian::new(variance).unwrap());
            }
            other => panic!("no likelihood {other:?}"),
        }
    }
}

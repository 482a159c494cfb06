//! Deep models: every likelihood and family, and networks that are forged.

use super::{iris, refusal, round_trip};
use elbo::data::{Incomplete, Standardization};
use elbo::fit::StochasticGradient;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{
    Bernoulli, Binomial, ContinuousBernoulli, DiagonalGaussian, Independent, NoiseVariance,
    Ordinal, Poisson, Univariate,
};
use elbo::map::{Activation, DifferentiableMap, Mlp, Parameters};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::saved::{NamedFamily, Saved};
use elbo::{BinaryVae, DeepEncoderPpca, Model, Real, Vae};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

fn few_epochs() -> StochasticGradient {
    StochasticGradient { epochs: 2, ..Default::default() }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(4)
}

/// The same numbers from the saved model: from JSON, and from a format that is not self-describing.
fn same_results<T: Real, M: Serialize + DeserializeOwned + PartialEq + Debug>(
    model: &M,
    results: impl Fn(&M) -> Vec<DMatrix<T>>,
) {
    round_trip(model);
    let text: M = serde_json::from_str(&serde_json::to_string(model).unwrap()).unwrap();
    let binary: M = postcard::from_bytes(&postcard::to_allocvec(model).unwrap()).unwrap();
    let expected = results(model);
    assert!(results(&text) == expected && results(&binary) == expected);
}

fn with_family<T: Real, Q>(x: &DMatrix<T>, fractions: &DMatrix<T>)
where
    Q: PosteriorFamily<T> + NamedFamily + PartialEq + Debug,
{
    let builder = DeepEncoderPpca::<T, Q>::builder(2).hidden(&[5]).fitter(few_epochs());
    same_results(&builder.fit(x, &mut rng()).unwrap().model, |model| {
        let elbo = model.elbo(x).unwrap().values();
        vec![model.transform(x).unwrap(), DMatrix::from_columns(&[elbo])]
    });
    let builder = Vae::<T, Q>::builder(2).hidden(&[5, 3]).fitter(few_epochs());
    same_results(&builder.fit(x, &mut rng()).unwrap().model, |model| {
        vec![
            model.transform(x).unwrap(),
            model.reconstruct(x).unwrap(),
            model.sample(3, &mut rng()),
        ]
    });
    let builder = BinaryVae::<T, Q>::builder(1).activation(Activation::Relu);
    let fit = builder.fitter(few_epochs()).fit(fractions, &mut rng()).unwrap();
    same_results(&fit.model, |model| {
        let elbo = model.estimate_elbo(2, fractions, &mut rng()).unwrap().values();
        vec![model.reconstruct(fractions).unwrap(), DMatrix::from_columns(&[elbo])]
    });
}

fn deep_models<T: Real>() {
    let x = iris::<T>();
    let largest = x.amax();
    let fractions = x.map(|v| v / largest);
    with_family::<T, Isotropic<T>>(&x, &fractions);
    with_family::<T, Diagonal<T>>(&x, &fractions);
    with_family::<T, Full<T>>(&x, &fractions);
    for noise in [NoiseVariance::Analytic, NoiseVariance::Learned, NoiseVariance::Fixed(T::of(0.2))]
    {
        let builder = Vae::<T, Diagonal<T>, DiagonalGaussian<T>>::builder(2).hidden(&[4]);
        let builder = builder.noise_variance(noise).fitter(few_epochs());
        let fit = builder.fit(&x, &mut rng()).unwrap();
        // The flag is a part of what must be equal: training goes on from the loaded model.
        same_results(&fit.model, |model| vec![model.reconstruct(&x).unwrap()]);
    }
}

/// A likelihood of independent variables, complete and with missing values.
fn counts<T: Real>() {
    let x = iris::<T>().map(|v| v.round());
    let likelihood = Independent::new(Poisson, 4).unwrap();
    let builder = Vae::<T, Diagonal<T>, _>::builder_with(likelihood, 1).hidden(&[3]);
    let builder = builder.fitter(few_epochs());
    same_results(&builder.fit(&x, &mut rng()).unwrap().model, |model| {
        vec![model.reconstruct(&x).unwrap(), model.sample(5, &mut rng())]
    });
    let mut incomplete = x.clone();
    incomplete[(1, 3)] = T::of(f64::NAN);
    let fit = builder.fit(Incomplete(&incomplete), &mut rng()).unwrap();
    same_results(&fit.model, |model| vec![model.transform(Incomplete(&incomplete)).unwrap()]);
}

/// Distributions of a variable with a number of their own, and without parameters.
#[test]
fn distributions_of_a_variable() {
    fn of<U: Univariate<f64> + Saved<f64>>(distribution: U) {
        let map = || Mlp::builder(2, 2).build(&mut rng()).unwrap();
        let encoder = GaussianEncoder::<_, Diagonal<f64>>::new(map(), 1).unwrap();
        let decoder = Mlp::builder(1, 2).build(&mut rng()).unwrap();
        let mut likelihood = Independent::new(distribution, 2).unwrap();
        for (p, value) in likelihood.parameters_mut().iter_mut().enumerate() {
            *value = 0.1 * p as f64;
        }
        let model = Model::<f64, _, _, _>::new(decoder, likelihood, Amortized::new(encoder));
        same_results(&model.unwrap(), |model| vec![model.sample(7, &mut rng())]);
    }
    of(Bernoulli);
    of(ContinuousBernoulli);
    of(Binomial::new(12).unwrap());
    of(Ordinal::new(4).unwrap());
    of(Poisson);
}

#[test]
fn counts_and_missing_values() {
    counts::<f64>();
    counts::<f32>();
}

#[test]
fn every_deep_model_in_f64() {
    deep_models::<f64>();
}

#[test]
fn every_deep_model_in_f32() {
    deep_models::<f32>();
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Tanh,
    Activation::Relu,
    Activation::Softplus,
    Activation::Gelu,
    Activation::Silu,
    Activation::Identity,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any network: sizes, activations, with and without fixed layers and a skip connection.
    #[test]
    fn any_network_comes_back(
        sizes in proptest::collection::vec(1usize..5, 2..5),
        activations in (0usize..6, 0usize..6),
        (skip, missing, input, output) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        let hidden = &sizes[1..sizes.len() - 1];
        let ends = if skip { Activation::Identity } else { ACTIVATIONS[activations.1] };
        let mut builder = Mlp::<f64>::builder(first, last)
            .hidden(hidden)
            .activation(ACTIVATIONS[activations.0])
            .output_activation(ends);
        // A standard deviation of 0 is one of a constant variable, and stays one.
        let scale = |size| (DVector::from_element(size, 0.1), DVector::from_fn(size, |j, _| j as f64 / 3.0));
        if input {
            builder = builder.input_standardization(scale(first).0, scale(first).1);
        }
        if output {
            builder = builder.output_scale(scale(last).0, scale(last).1);
        }
        if missing {
            builder = builder.missing_inputs();
        }
        let mut map = builder.build(rng).unwrap();
        if skip {
            map = map.with_skip_connection().unwrap();
            let weights = map.parameters_mut().len() - map.sizes()[0] * last;
            map.parameters_mut()[weights..].fill(0.7);
        }
        round_trip(&map);
        let again: Mlp<f64> = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
        let mut x = DMatrix::from_fn(first, 3, |j, i| (j + 2 * i) as f64 - 1.3);
        if missing {
            x[(0, 1)] = f64::NAN;
        }
        prop_assert_eq!(again.apply(x.as_view()), map.apply(x.as_view()));
    }
}

fn network() -> Mlp<f64> {
    let scale = DVector::from_element(3, 2.0);
    Mlp::builder(3, 2)
        .hidden(&[4])
        .input_standardization(scale.clone(), scale)
        .skip_connection()
        .build(&mut rng())
        .unwrap()
}

#[test]
fn a_forged_network_is_refused() {
    let huge = u64::MAX;
    for (field, wrong, said) in [
        ("/map/sizes", json!([huge, huge, huge]), "parameters of a saved network: expected"),
        ("/map/sizes", json!([3, 1u64 << 40, 2]), "parameters of a saved network: expected"),
        ("/map/sizes", json!([3, 4]), "parameters of a saved network: expected 28, got 32"),
        ("/map/sizes", json!([]), "parameters of a saved network: expected 0, got 32"),
        ("/map/sizes", json!([-1, 2]), "invalid value"),
        ("/map/skip_connection", json!(false), "expected 26, got 32"),
        ("/map/parameters", json!([]), "parameters of a saved network: expected 32, got 0"),
        ("/map/parameters/31", json!(null), "invalid type: null"),
        ("/map/activation", json!("step"), "unknown variant `step`"),
        ("/map/output_activation", json!("relu"), "a skip connection beside an activation"),
        ("/map/missing_inputs", json!(true), "inputs of the first layer, two for each variable"),
        ("/map/input/mean", json!([1.0]), "entries of the mean: expected 3, got 1"),
        ("/map/input/deviation/1", json!(-1.0), "the deviation is -1, and must be at least 0"),
    ] {
        let mut value = serde_json::to_value(network()).unwrap();
        *value.pointer_mut(field).unwrap() = wrong;
        let refused = refusal::<Mlp<f64>>(value);
        assert!(refused.contains(said), "{field}: {refused}");
    }
    let mut value = serde_json::to_value(network()).unwrap();
    value["map"]["sizes"] = json!([]);
    value["map"]["parameters"] = json!([]);
    let refused = refusal::<Mlp<f64>>(value);
    assert!(refused.contains("sizes of a network"), "{refused}");
    // Numbers that only a binary format can hold, in a layer and in the skip connection.
    let bytes = postcard::to_allocvec(&network()).unwrap();
    for back in [8, 8 * 20] {
        for wrong in [f64::NAN, f64::INFINITY] {
            let mut bytes = bytes.clone();
            let place = bytes.len() - back;
            bytes[place..place + 8].copy_from_slice(&wrong.to_le_bytes());
            assert!(postcard::from_bytes::<Mlp<f64>>(&bytes).is_err());
        }
    }
}

/// Each byte in turn becomes another: an error or another model, but no panic and no abort for want
/// of memory. A length in postcard is a varint, which 0xff makes as large as it can be.
#[test]
fn forged_bytes_are_survived() {
    let x = iris::<f32>();
    let builder = Vae::<f32>::builder(1).hidden(&[2]).fitter(few_epochs());
    let bytes = postcard::to_allocvec(&builder.fit(&x, &mut rng()).unwrap().model).unwrap();
    for place in 0..bytes.len() {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = bytes.clone();
            forged[place] = wrong;
            let _ = postcard::from_bytes::<Vae<f32>>(&forged);
        }
        let mut forged = bytes[..place].to_vec();
        forged.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        forged.extend_from_slice(&bytes[place..]);
        let _ = postcard::from_bytes::<Vae<f32>>(&forged);
    }
}

#[test]
fn networks_must_fit_each_other() {
    let x = iris::<f64>();
    let vae = |k: usize, x: &DMatrix<f64>| {
        let builder = Vae::<f64>::builder(k).hidden(&[2]).fitter(few_epochs());
        serde_json::to_value(builder.fit(x, &mut rng()).unwrap().model).unwrap()
    };
    let (two, mut three) = (vae(2, &x), vae(3, &x));
    three["inference"] = two["inference"].clone();
    let said = refusal::<Vae>(three);
    assert!(said.contains("latent dimension of the inference: expected 3, got 2"), "{said}");
    let mut narrow = vae(2, &x.rows(0, 3).into_owned());
    narrow["inference"] = two["inference"].clone();
    let said = refusal::<Vae>(narrow);
    assert!(said.contains("variables of the encoder: expected 3, got 4"), "{said}");
    for (forged, said) in [
        (json!(u64::MAX), "the latent dimension 18446744073709551615 is not between 1 and 3"),
        (json!(0), "the latent dimension 0 is not between 1 and 3"),
        (json!(1), "outputs of the encoder's map: expected 2, got 4"),
    ] {
        let mut value = two.clone();
        value["inference"]["latent_dim"] = forged;
        let refused = refusal::<Vae>(value);
        assert!(refused.contains(said), "{refused}");
    }
    let said = refusal::<BinaryVae>(two.clone());
    assert!(said.contains("`f64: mlp, bernoulli, amortized diagonal mlp`"), "{said}");
    let said = refusal::<Vae<f64, Full<f64>>>(two.clone());
    assert!(said.contains("`f64: mlp, isotropic_gaussian, amortized full mlp`"), "{said}");
    let said = refusal::<Vae<f32>>(two);
    assert!(said.contains("`f32: mlp, isotropic_gaussian, amortized diagonal mlp`"), "{said}");
}

/// A model of a network that no builder makes: standardised outside, with a deep encoder.
#[test]
fn components_in_other_combinations() {
    let x = iris::<f64>();
    let standardization = Standardization::fit(&x).unwrap();
    round_trip(&standardization);
    let map = Mlp::builder(4, 4).hidden(&[3]).build(&mut rng()).unwrap();
    let encoder = GaussianEncoder::<_, Diagonal<f64>>::new(map, 2).unwrap();
    let decoder = elbo::map::Linear::new(DMatrix::from_element(4, 2, 0.5), DVector::zeros(4));
    let noise = DiagonalGaussian::analytic(DVector::from_element(4, 0.1)).unwrap();
    let model = Model::<f64, _, _, _>::new(decoder.unwrap(), noise, Amortized::new(encoder));
    let z = standardization.transform(&x).unwrap();
    same_results(&model.unwrap(), |model| {
        vec![DMatrix::from_columns(&[model.elbo(&z).unwrap().values()])]
    });
}

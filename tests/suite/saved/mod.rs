//! Saving and loading: the same bits come back, and nothing that is loaded is trusted.

mod any_fit;
mod deep;
mod files;
mod outside;
mod results;
mod safetensors;
mod versions;

use crate::support::VoidRng;
use elbo::data::Centering;
use elbo::data::files::{Format, ReadOptions, decode};
use elbo::likelihood::NoiseVariance;
use elbo::posterior::{Diagonal, Full, Isotropic};
use elbo::saved::NamedFamily;
use elbo::{AmortizedPpca, LinearAutoencoder, Ppca, Real, VariationalPpca};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn iris<T: Real>() -> DMatrix<T> {
    decode(
        include_bytes!("../../../examples/data/iris.csv.gz"),
        Format::Csv,
        &ReadOptions::default(),
    )
    .unwrap()
    .values
}

fn round_trip<S: Serialize + DeserializeOwned + PartialEq + Debug>(step: &S) {
    let text = serde_json::to_string(step).unwrap();
    assert_eq!(&serde_json::from_str::<S>(&text).unwrap(), step);
    assert!(text.starts_with(r#"{"format_version":2,"kind":"f"#), "{text}");
    let bytes = postcard::to_allocvec(step).unwrap();
    assert_eq!(&postcard::from_bytes::<S>(&bytes).unwrap(), step);
    // All bits of all numbers, the sign of 0 among them, which is no part of equality.
    let again = postcard::to_allocvec(&serde_json::from_str::<S>(&text).unwrap()).unwrap();
    assert_eq!(again, bytes);
    // Cut short anywhere, it is an error and no panic.
    for end in (0..bytes.len()).step_by(7) {
        assert!(postcard::from_bytes::<S>(&bytes[..end]).is_err());
    }
}

fn steps<T: Real + Serialize + DeserializeOwned>() {
    let x = iris::<T>();
    for mean in [Centering::Mean, Centering::None] {
        round_trip(
            &LinearAutoencoder::<T>::builder(2)
                .centering(mean)
                .fit(&x, &mut VoidRng)
                .unwrap()
                .model,
        );
        round_trip(&Ppca::<T>::builder(2).centering(mean).fit(&x, &mut VoidRng).unwrap().model);
    }
    round_trip(
        &Ppca::<T>::builder(2)
            .noise_variance(NoiseVariance::Fixed(T::of(0.3)))
            .fit(&x, &mut VoidRng)
            .unwrap()
            .model,
    );
    round_trip(&Ppca::<T>::builder(2).noise_floor(0.2).fit(&x, &mut VoidRng).unwrap().model);
    round_trip(&elbo::FactorAnalysis::<T>::fit(1, &x).unwrap().model);
    fn with_family<T, Q>(x: &DMatrix<T>)
    where
        T: Real + Serialize + DeserializeOwned,
        Q: elbo::fit::SubspaceFamily<T>
            + elbo::fit::AffineScaleHead<T>
            + NamedFamily
            + PartialEq
            + Debug,
    {
        let rng = &mut StdRng::seed_from_u64(1);
        let table = VariationalPpca::<T, Q>::builder(2).fit(x, rng).unwrap().model;
        round_trip(&table);
        let loaded: VariationalPpca<T, Q> =
            serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
        assert_eq!(loaded.elbo(x).unwrap(), table.elbo(x).unwrap());
        let amortized = AmortizedPpca::<T, Q>::builder(2).fit(x, rng).unwrap().model;
        round_trip(&amortized);
        let loaded: AmortizedPpca<T, Q> =
            serde_json::from_str(&serde_json::to_string(&amortized).unwrap()).unwrap();
        assert_eq!(loaded.transform(x).unwrap(), amortized.transform(x).unwrap());
    }
    with_family::<T, Isotropic<T>>(&x);
    with_family::<T, Diagonal<T>>(&x);
    with_family::<T, Full<T>>(&x);
}

#[test]
fn every_linear_step_in_f64() {
    steps::<f64>();
}

#[test]
fn every_linear_step_in_f32() {
    steps::<f32>();
}

fn saved() -> serde_json::Value {
    serde_json::to_value(Ppca::fit(2, &iris::<f64>()).unwrap().model).unwrap()
}

fn refusal<S: DeserializeOwned + Debug>(value: serde_json::Value) -> String {
    serde_json::from_str::<S>(&value.to_string()).unwrap_err().to_string()
}

#[test]
fn another_kind_is_refused_by_its_name() {
    let found = "the saved model is `f64: linear, isotropic_gaussian, exact`, and not ";
    let text = serde_json::to_string(&Ppca::fit(2, &iris::<f64>()).unwrap().model).unwrap();
    let said = serde_json::from_str::<LinearAutoencoder>(&text).unwrap_err().to_string();
    assert!(
        said.starts_with(&format!("{found}`f64: linear, noiseless, amortized point linear`")),
        "{said}"
    );
    let said =
        serde_json::from_str::<VariationalPpca<f64, Full<f64>>>(&text).unwrap_err().to_string();
    assert!(
        said.starts_with(&format!("{found}`f64: linear, isotropic_gaussian, per_point full`")),
        "{said}"
    );
    let said = serde_json::from_str::<Ppca<f32>>(&text).unwrap_err().to_string();
    assert!(
        said.starts_with(&format!("{found}`f32: linear, isotropic_gaussian, exact`")),
        "{said}"
    );
}

#[test]
fn a_loaded_model_is_checked() {
    for (field, wrong, said) in [
        (
            "/likelihood/given",
            serde_json::json!(0.0),
            "the saved noise variance is 0, and must be positive and finite",
        ),
        ("/likelihood/given", serde_json::json!(-1.5), "the saved noise variance is -1.5"),
        ("/likelihood/log_variance", serde_json::json!(1e9), "the saved noise variance is inf"),
        ("/likelihood/floor", serde_json::json!(-1), "the saved floor is -1"),
        (
            "/decoder/weights/rows",
            serde_json::json!(5),
            "entries of a saved matrix: expected 10, got 8",
        ),
        (
            "/decoder/weights/rows",
            serde_json::json!(u64::MAX),
            "entries of a saved matrix: expected",
        ),
        ("/decoder/weights/values/3", serde_json::json!(null), "invalid type: null"),
        (
            "/decoder/weights",
            serde_json::json!({"rows": 0, "columns": 0, "values": []}),
            "the data are empty",
        ),
        ("/decoder/bias", serde_json::json!([1.0]), "entries of the bias: expected 4, got 1"),
    ] {
        let mut value = saved();
        *value.pointer_mut(field).unwrap() = wrong;
        let refused = refusal::<Ppca>(value);
        assert!(refused.contains(said), "{field}: {refused}");
    }
    // Numbers that only a binary format can hold: the last of W is in the middle of what is saved,
    // and so is found by its bits.
    let model = Ppca::fit(2, &iris::<f64>()).unwrap().model;
    let last = model.loadings()[(3, 1)].to_le_bytes();
    let mut bytes = postcard::to_allocvec(&model).unwrap();
    let place = bytes.windows(8).position(|window| window == last).unwrap();
    bytes[place..place + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    assert!(postcard::from_bytes::<Ppca>(&bytes).is_err());
}

#[test]
fn noise_of_each_variable_is_checked() {
    let model = elbo::FactorAnalysis::fit(1, &iris::<f64>()).unwrap().model;
    for (field, wrong, said) in [
        ("/likelihood/given/2", serde_json::json!(-1.0), "a noise variance is -1"),
        (
            "/likelihood/log_variances",
            serde_json::json!([0.0]),
            "saved logarithms of the noise variances: expected 4, got 1",
        ),
        ("/likelihood/floors/0", serde_json::json!(-2.0), "a floor of a noise variance is -2"),
    ] {
        let mut value = serde_json::to_value(&model).unwrap();
        *value.pointer_mut(field).unwrap() = wrong;
        let refused = refusal::<elbo::FactorAnalysis>(value);
        assert!(refused.contains(said), "{field}: {refused}");
    }
    let mut value = serde_json::to_value(&model).unwrap();
    value["likelihood"] = serde_json::json!({
        "given": [1.0], "log_variances": [0.0], "floors": [0.0], "fixed": false, "analytic": false
    });
    let refused = refusal::<elbo::FactorAnalysis>(value);
    assert!(refused.contains("noise variances: expected 4, got 1"), "{refused}");
}

#[test]
fn slots_must_fit_each_other() {
    let x = iris::<f64>();
    let rng = &mut StdRng::seed_from_u64(1);
    let of = |k| {
        serde_json::to_value(
            VariationalPpca::<f64>::builder(k)
                .fit(&x, &mut StdRng::seed_from_u64(1))
                .unwrap()
                .model,
        )
        .unwrap()
    };
    let mut mixed = of(2);
    mixed["inference"] = of(1)["inference"].take();
    let said = refusal::<VariationalPpca>(mixed);
    assert!(said.contains("latent dimension of the inference: expected 2, got 1"), "{said}");
    let mut forged = of(2);
    forged["inference"]["latent_dim"] = u64::MAX.into();
    assert!(
        refusal::<VariationalPpca<f64>>(forged)
            .contains("the latent dimension 18446744073709551615 is not between 1 and 2")
    );
    let narrow = x.rows(0, 3).into_owned();
    let mut encoder =
        serde_json::to_value(AmortizedPpca::<f64>::builder(2).fit(&x, rng).unwrap().model).unwrap();
    let mut of_three =
        serde_json::to_value(AmortizedPpca::<f64>::builder(2).fit(&narrow, rng).unwrap().model)
            .unwrap();
    encoder["inference"] = of_three["inference"].take();
    let said = refusal::<AmortizedPpca>(encoder);
    assert!(said.contains("variables of the encoder: expected 4, got 3"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any finite numbers, not only those that a fit finds; a variance has all its digits.
    #[test]
    fn any_parameters_come_back_with_their_bits(bits in proptest::collection::vec(any::<u32>(), 8), variance in 0x0080_0000u32..0x7f00_0000) {
        let finite = |b: &u32| Some(f32::from_bits(*b)).filter(|v| v.is_finite()).unwrap_or(1.5);
        let weights = DMatrix::from_iterator(4, 2, bits.iter().map(finite));
        let model = Ppca::<f32>::from_parameters(weights, nalgebra::DVector::from_element(4, 0.1), f32::from_bits(variance)).unwrap();
        let again: Ppca<f32> = serde_json::from_str(&serde_json::to_string(&model).unwrap()).unwrap();
        for (a, b) in again.loadings().iter().zip(model.loadings().iter()) {
            prop_assert_eq!(a.to_bits(), b.to_bits());
        }
        prop_assert_eq!(again.noise_variance().to_bits(), model.noise_variance().to_bits());
    }
}

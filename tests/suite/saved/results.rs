//! Results that are no model of the progression, and the state of an optimiser.

use super::{iris, refusal, round_trip};
use elbo::data::{Centering, Incomplete, Moments, Standardization};
use elbo::fit::{Adam, AdamSettings};
use elbo::map::{DifferentiableMap, Mlp, Parameters};
use elbo::mixture::MixtureOfPpca;
use elbo::model::{ExactPosterior, MStep, ResidualStatistics};
use elbo::rotation::{Promax, Rotation, Varimax};
use elbo::selection::{ArdPosterior, BayesianPpca};
use elbo::{IntoObservations, Pca, Ppca, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

fn loaded<M: Serialize + DeserializeOwned>(model: &M) -> M {
    postcard::from_bytes(&postcard::to_allocvec(model).unwrap()).unwrap()
}

fn statistics_of<T: Real>(x: &DMatrix<T>) -> ResidualStatistics<T> {
    let model = Ppca::fit(2, x).unwrap().model.into_parts().0;
    let x = x.into_observations().unwrap();
    model.statistics(x, &model.posterior(x).unwrap()).unwrap()
}

fn results<T: Real>() {
    let x = iris::<T>();
    for centering in [Centering::Mean, Centering::None] {
        let pca = Pca::<T>::builder(3).centering(centering).fit(&x).unwrap().model;
        round_trip(&pca);
        assert_eq!(loaded(&pca).whiten(&x).unwrap(), pca.whiten(&x).unwrap());
    }
    let mixture = MixtureOfPpca::<T>::builder(2, 1).restarts(0);
    let mixture = mixture.fit(&x, &mut StdRng::seed_from_u64(1)).unwrap().model;
    round_trip(&mixture);
    let of = |mixture: &MixtureOfPpca<T>| mixture.log_likelihood(Incomplete(&x)).unwrap();
    assert_eq!(of(&loaded(&mixture)), of(&mixture));
    let bayesian = BayesianPpca::fit(&x).unwrap();
    round_trip(&bayesian);
    round_trip(&bayesian.relevance);
    assert_eq!(loaded(&bayesian).model.transform(&x), bayesian.model.transform(&x));
    // Beside an offset, the rest of the mean is not 0 in single precision.
    let standardization = Standardization::fit(&x.add_scalar(T::of(1e4))).unwrap();
    round_trip(&standardization);
    let ppca = Ppca::fit(2, &x).unwrap().model;
    round_trip(&Varimax::default().rotate(ppca.loadings().as_view()).unwrap());
    round_trip(&Promax::default().rotate(ppca.loadings().as_view()).unwrap());
    round_trip(ppca.decoder());
    round_trip(&statistics_of(&x));
}

#[test]
fn every_result_in_f64() {
    results::<f64>();
}

#[test]
fn every_result_in_f32() {
    results::<f32>();
}

fn refuses<M: Serialize + DeserializeOwned + Debug>(
    model: &M,
    forged: &[(&str, serde_json::Value, &str)],
) {
    for (field, wrong, said) in forged {
        let mut value = serde_json::to_value(model).unwrap();
        *value.pointer_mut(field).unwrap() = wrong.clone();
        let refused = refusal::<M>(value);
        assert!(refused.contains(said), "{field}: {refused}");
    }
}

#[test]
fn forged_results_are_refused() {
    let x = iris::<f64>();
    refuses(
        &Pca::fit(2, &x).unwrap().model,
        &[
            ("/kind", json!("f64: pca of a kind"), "the saved model is `f64: pca of a kind`"),
            ("/mean", json!([]), "entries of the saved mean: expected 4, got 0"),
            ("/mean_rest", json!([0.0]), "entries of the saved rest of the mean"),
            ("/components/rows", json!(2), "entries of a saved matrix: expected 4, got 8"),
            ("/components/values/0", json!(3.0), "the largest inner product of two saved"),
            ("/components/values/0", json!(1e300), "the largest inner product of two saved"),
            (
                "/components",
                json!({"rows": 1, "columns": 2, "values": [1.0, 0.0]}),
                "the latent dimension 2 is not between 1 and 1",
            ),
            ("/variances", json!([1.0]), "saved variances: expected 2, got 1"),
            ("/variances/1", json!(0.0), "a saved variance is 0, and must be positive"),
            ("/outside", json!(-1.0), "the saved variance outside is -1"),
            ("/observations", json!(-1), "invalid value"),
        ],
    );
    refuses(
        &Standardization::fit(&x).unwrap(),
        &[
            ("/mean", json!([]), "the data are empty"),
            ("/scale/0", json!(0.0), "a saved scale is 0, and must be positive"),
            ("/rounding/0", json!(-1.0), "a saved rounding is -1, and must be at least 0"),
            ("/rounding", json!([0.0]), "saved roundings: expected 4, got 1"),
        ],
    );
    let mixture = MixtureOfPpca::<f64>::builder(2, 1).restarts(0);
    refuses(
        &mixture.fit(&x, &mut StdRng::seed_from_u64(1)).unwrap().model,
        &[
            ("/weights", json!([1.0]), "weights of the components: expected 2, got 1"),
            ("/weights", json!([0.4, 0.4]), "the sum of the weights is 0.8"),
            ("/components", json!([]), "the data are empty"),
            ("/components/0/likelihood/given", json!(-1.0), "the saved noise variance is -1"),
            ("/components/1/decoder/bias", json!([0.0]), "entries of the bias"),
        ],
    );
    let bayesian = BayesianPpca::fit(&x).unwrap();
    refuses(
        &bayesian,
        &[
            ("/relevance/precisions", json!([]), "norms of the saved loadings: expected 0"),
            ("/relevance/precisions/0", json!(0.0), "a saved precision is 0"),
            ("/relevance/noise_variance", json!(-2.0), "the saved noise variance is -2"),
            (
                "/relevance",
                json!({"noise_variance": 1.0, "precisions": [], "loading_norms": [], "bound": 0.0}),
                "saved precisions: expected",
            ),
        ],
    );
    assert!(
        refusal::<ArdPosterior>(serde_json::to_value(&bayesian).unwrap())
            .contains("the saved model is `f64: bayesian ppca`, and not `f64: ard posterior`")
    );
    let loadings = DMatrix::from_row_slice(4, 2, &[3.0, 1.0, 2.0, 0.5, 0.0, 2.0, 0.1, 1.0]);
    refuses::<Rotation<f64>>(
        &Varimax::default().rotate(loadings.as_view()).unwrap(),
        &[
            (
                "/rotation",
                json!({"rows": 1, "columns": 1, "values": [1.0]}),
                "rows of the saved rotation: expected 2, got 1",
            ),
            ("/stop", json!("bored"), "unknown variant `bored`"),
        ],
    );
    let numbers = [("/values", json!([1.0]), "numbers of statistics")];
    refuses(&Moments::of(&x).unwrap(), &numbers);
    refuses(&statistics_of(&x), &numbers);
    // The numbers of moments under the header of other statistics.
    let mut foreign = serde_json::to_value(statistics_of(&x)).unwrap();
    foreign["values"] = serde_json::to_value(Moments::of(&x).unwrap()).unwrap()["values"].take();
    let said = refusal::<ResidualStatistics<f64>>(foreign);
    assert!(said.contains("the kind of the statistics is 1"), "{said}");
}

/// A training loop: the squared error of a network, by Adam.
fn train<T: Real>(map: &mut Mlp<T>, adam: &mut Adam<T>, steps: usize) {
    let x = iris::<T>();
    let (mut tape, mut gradient) = (Default::default(), vec![T::zero(); map.parameters().len()]);
    for _ in 0..steps {
        let residual = &x - map.forward(x.as_view(), &mut tape);
        map.backward(x.as_view(), &mut tape, residual.as_view(), &mut gradient, None);
        adam.step(map.parameters_mut(), &gradient, 1e-2, T::of(1.0 / 150.0));
    }
}

fn resumes<T: Real>(scaled: bool) {
    let map = Mlp::<T>::builder(4, 4).hidden(&[3]).build(&mut StdRng::seed_from_u64(3)).unwrap();
    let count = map.parameters().len();
    let scales = (0..if scaled { count } else { 0 }).map(|i| T::of_usize(i + 1)).collect();
    let adam = Adam::new(count, AdamSettings { beta_1: 0.8, ..Default::default() }).unwrap();
    let (mut map, mut adam) = (map, adam.with_scales(scales).unwrap());
    train(&mut map, &mut adam, 7);
    round_trip(&adam);
    let (mut again, mut resumed) = (loaded(&map), loaded(&adam));
    train(&mut map, &mut adam, 20);
    train(&mut again, &mut resumed, 20);
    assert!(again == map && resumed == adam);
}

#[test]
fn a_loop_of_ones_own_resumes_to_identical_bits() {
    for scaled in [false, true] {
        resumes::<f64>(scaled);
        resumes::<f32>(scaled);
    }
}

#[test]
fn a_forged_state_of_adam_is_refused() {
    let adam = Adam::<f64>::new(2, AdamSettings::default()).unwrap();
    refuses(
        &adam,
        &[
            ("/first_moment", json!([0.0]), "second moments of the parameters: expected 1, got 2"),
            ("/second_moment/0", json!(-1.0), "a second moment is -1, and must be at least 0"),
            ("/powers/1", json!(1.5), "a power of a decay rate is 1.5"),
            ("/beta_1", json!(1.0), "beta_1 is 1"),
            ("/scales", json!([1.0]), "scales of the parameters: expected 2, got 1"),
        ],
    );
    let wrong = adam.with_state(vec![f64::NAN, 0.0], vec![0.0; 2], [1.0; 2]).unwrap_err();
    assert_eq!(wrong.to_string(), "a first moment is NaN, and must be finite");
}

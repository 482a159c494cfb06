//! Conventions of the public interface: traits that every type has, and methods that every model has.

use crate::support::VoidRng;
use elbo::data::{Centering, Data, Incomplete, Moments, Standardization};
use elbo::fit::{Fitted, PxEm, StopReason};
use elbo::inference::Exact;
use elbo::likelihood::{DiagonalGaussian, IsotropicGaussian};
use elbo::map::Linear;
use elbo::mixture::MixtureOfPpca;
use elbo::posterior::{Diagonal, Full, Isotropic};
use elbo::steps::{DeepInitialization, DynModel, ModelKind};
use elbo::{
    AmortizedPpca, BinaryVae, DeepEncoderPpca, Error, FactorAnalysis, LinearAutoencoder, Model,
    Pca, Ppca, Vae, VariationalPpca,
};
use nalgebra::{DMatrix, DVector};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt::{Debug, Display};
use std::ops::ControlFlow;

fn table() -> DMatrix<f64> {
    DMatrix::from_fn(4, 24, |j, i| ((i * (j + 2)) % 11) as f64 + 0.5 * (i % (j + 3)) as f64)
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// A model can be printed, copied, sent to a thread and put behind a web handler.
fn is_a_model<M: Debug + Clone + Display + PartialEq + Send + Sync + 'static>() {}

#[test]
fn every_model_has_the_common_traits() {
    is_a_model::<Pca>();
    is_a_model::<Pca<f32>>();
    is_a_model::<LinearAutoencoder>();
    is_a_model::<Ppca>();
    is_a_model::<FactorAnalysis>();
    is_a_model::<VariationalPpca<f64, Isotropic<f64>>>();
    is_a_model::<AmortizedPpca<f64, Diagonal<f64>>>();
    is_a_model::<DeepEncoderPpca<f64, Full<f64>>>();
    is_a_model::<Vae>();
    is_a_model::<BinaryVae<f32>>();
    is_a_model::<MixtureOfPpca>();
    fn is_sent<T: Debug + Send + Sync>() {}
    is_sent::<Box<dyn DynModel<f64>>>();
    is_sent::<Fitted<Box<dyn DynModel<f32>>>>();
    is_sent::<Error>();
    is_sent::<Moments>();
    is_sent::<Standardization>();
}

/// What a fit prints: the model, the reason why it stopped, and no line break at the end.
fn reads<M: Display>(fit: &Fitted<M>, expected: &[&str]) {
    let text = fit.to_string();
    for part in expected.iter().chain(&["fit: "]) {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!text.ends_with('\n') && !text.contains("NaN"), "{text:?}");
}

#[test]
fn every_fit_can_be_printed() {
    let (x, rng) = (table(), &mut rng());
    reads(&Pca::fit(2, &x).unwrap(), &["4 variables, 2 components", "closed_form"]);
    reads(&LinearAutoencoder::fit(2, &x).unwrap(), &["2 latent dimensions", "Point"]);
    reads(&Ppca::fit(2, &x).unwrap(), &["SharedCovariance", "noise variance: ", "closed_form"]);
    reads(&FactorAnalysis::fit(1, &x).unwrap(), &["noise variances: ", "converged"]);
    let variational = VariationalPpca::<f64>::builder(1).fit(&x, rng).unwrap();
    reads(&variational, &["Isotropic", "converged after"]);
    reads(&MixtureOfPpca::builder(2, 1).restarts(0).fit(&x, rng).unwrap(), &["2 components"]);
    let fitter = elbo::fit::StochasticGradient { epochs: 2, ..Default::default() };
    let vae = Vae::<f64>::builder(1).hidden(&[3]).fitter(fitter).fit(&x, rng).unwrap();
    reads(&vae, &["variational autoencoder", "Diagonal", "IsotropicGaussian"]);
    for kind in ModelKind::ALL {
        if !matches!(kind, ModelKind::DeepEncoder | ModelKind::Vae) {
            reads(&kind.fit(1, &x, rng).unwrap(), &["4 variables, 1 latent dimensions"]);
        }
    }
}

/// The matrix models × methods of the crate page: what it lists compiles, and agrees with itself.
#[test]
fn the_methods_of_the_linear_models_agree() {
    let x = table();
    let (pca, ppca) = (Pca::fit(2, &x).unwrap().model, Ppca::fit(2, &x).unwrap().model);
    let factors = FactorAnalysis::fit(1, &x).unwrap().model;
    assert!((pca.components() - ppca.components().unwrap()).amax() < 1e-9);
    let (one, other) = (pca.explained_variance(), ppca.explained_variance().unwrap());
    assert!((one - other).amax() < 1e-9);
    assert!((pca.covariance() - ppca.covariance()).amax() < 1e-9);
    assert!((pca.whiten(&x).unwrap() - ppca.whiten(&x).unwrap()).amax() < 1e-9);
    assert!((pca.reconstruct(&x).unwrap() - ppca.orthogonal_projection(&x).unwrap()).amax() < 1e-9);
    let codes = ppca.transform(&x).unwrap();
    let decoded = ppca.inverse_transform(&codes).unwrap();
    assert!((decoded - ppca.reconstruct(&x).unwrap()).amax() < 1e-12);
    let n = x.ncols() as f64;
    for (score, total, bic, aic, parameters) in [
        (
            ppca.score(&x).unwrap(),
            ppca.log_likelihood(&x).unwrap().sum(),
            ppca.bic(&x).unwrap(),
            ppca.aic(&x).unwrap(),
            4 * 2 - 1 + 1 + 4,
        ),
        (
            factors.score(&x).unwrap(),
            factors.log_likelihood(&x).unwrap().sum(),
            factors.bic(&x).unwrap(),
            factors.aic(&x).unwrap(),
            4 + 4 + 4,
        ),
    ] {
        assert!((score * n - total).abs() < 1e-9);
        assert!((bic - (f64::from(parameters) * n.ln() - 2.0 * total)).abs() < 1e-9);
        assert!((aic - (2.0 * f64::from(parameters) - 2.0 * total)).abs() < 1e-9);
    }
    for (covariance, precision) in [
        (ppca.covariance(), ppca.precision().unwrap()),
        (factors.covariance(), factors.precision().unwrap()),
    ] {
        assert!((covariance * precision - DMatrix::identity(4, 4)).amax() < 1e-9);
    }
    assert_eq!(ppca.sample(5, &mut rng()).shape(), (4, 5));
    assert_eq!(factors.sample_with_codes(5, &mut rng()).0.shape(), (1, 5));
}

/// One `noise_floor` for all: the share of the variance that the noise stands for.
#[test]
fn a_noise_floor_is_a_share_of_the_variance() {
    let x = table() * 1e3;
    let variances = DVector::from_iterator(4, x.row_iter().map(|row| row.variance()));
    let floored = Ppca::builder(3).noise_floor(0.5).fit(&x, &mut VoidRng).unwrap();
    assert!((floored.model.noise_variance() / variances.mean() - 0.5).abs() < 1e-9);
    let floored = FactorAnalysis::builder(3).noise_floor(0.5).fit(&x, &mut VoidRng).unwrap();
    let shares = floored.model.noise_variances().component_div(&variances);
    assert!(shares.iter().all(|&share| share > 0.5 - 1e-9), "{shares}");
    let mixture = MixtureOfPpca::builder(1, 3).noise_floor(0.5).fit(&x, &mut rng()).unwrap();
    let noise = mixture.model.components()[0].noise_variance();
    assert!((noise / variances.mean() - 0.5).abs() < 1e-9);
}

/// One `restarts` for all: the starts beside the first one.
#[test]
fn restarts_are_counted_beside_the_first_start() {
    let mut x = table();
    x[(1, 3)] = f64::NAN;
    let incomplete = Ppca::builder(1).restarts(2).fit(Incomplete(&x), &mut rng()).unwrap();
    let mixture = MixtureOfPpca::builder(2, 1).restarts(2).fit(&table(), &mut rng()).unwrap();
    assert_eq!((incomplete.trace.starts().len(), mixture.trace.starts().len()), (3, 3));
}

/// Every iterative fit can be stopped by its observer, and returns its model and its trace.
#[test]
fn an_observer_stops_every_iterative_fit() {
    let (x, rng) = (table(), &mut rng());
    let mut holes = x.clone();
    holes[(2, 5)] = f64::NAN;
    let stop = |iteration: usize, value: f64| {
        assert!(value.is_finite());
        if iteration < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    macro_rules! stopped {
        ($builder:expr, $data:expr) => {
            let fit = $builder.fit_with_observer($data, rng, &mut { stop }).unwrap();
            assert_eq!((fit.stop, fit.iterations()), (StopReason::Interrupted, 2));
        };
    }
    stopped!(Ppca::builder(1).fitter(PxEm::default()), &x);
    stopped!(Ppca::builder(1).fitter(elbo::fit::ExpectationMaximization::default()), &x);
    stopped!(Ppca::builder(1), Incomplete(&holes));
    stopped!(LinearAutoencoder::builder(1).fitter(elbo::fit::AutoencoderDescent::default()), &x);
    stopped!(FactorAnalysis::builder(1), &x);
    // Its initialisation is so near the maximum that the default would end before the observer.
    let plain = elbo::fit::EmAcceleration::Plain;
    let slow = elbo::fit::MissingDataEm { tolerance: 1e-15, scheme: plain, ..Default::default() };
    stopped!(FactorAnalysis::builder(1).missing_data_fitter(slow), Incomplete(&holes));
    stopped!(VariationalPpca::<f64>::builder(1), &x);
    stopped!(AmortizedPpca::<f64>::builder(1), &x);
    let random = DeepEncoderPpca::<f64>::builder(1).initialization(DeepInitialization::Random);
    stopped!(random, &x);
    stopped!(Vae::<f64>::builder(1), &x);
    stopped!(MixtureOfPpca::builder(2, 1), &x);
}

/// Parts that do not fit each other are an error, not a panic in a later call.
#[test]
fn a_model_of_parts_that_do_not_fit_is_an_error() {
    let decoder = || Linear::new(DMatrix::zeros(3, 1), DVector::zeros(3)).unwrap();
    let noise = DiagonalGaussian::new(DVector::from_element(5, 1.0)).unwrap();
    let mismatch = Model::<f64, _, _, _>::new(decoder(), noise, Exact).unwrap_err();
    assert!(matches!(mismatch, Error::DimensionMismatch { expected: 3, actual: 5, .. }));
    assert!(mismatch.is_user_input() && !mismatch.is_numerical());
    let other = VariationalPpca::<f64>::builder(2).fit(&table(), &mut rng()).unwrap().model;
    let (_, inference) = other.into_parts();
    let noise = IsotropicGaussian::new(1.0).unwrap();
    let mismatch = Model::<f64, _, _, _>::new(decoder(), noise, inference).unwrap_err();
    assert!(matches!(mismatch, Error::DimensionMismatch { expected: 1, actual: 2, .. }));
}

/// All forms of the same data lead to the same model.
#[test]
fn forms_of_data_agree() {
    let x = table();
    let whole = Ppca::fit(1, &x).unwrap().model;
    let mut moments = Moments::new(4);
    moments.update(&x).unwrap();
    let ones = [1.0; 24];
    for model in [
        Ppca::fit(1, x.as_view()).unwrap().model,
        Ppca::fit(1, x.weighted(&ones)).unwrap().model,
        Ppca::fit(1, &moments).unwrap().model,
        Ppca::builder(1).fit(Incomplete(&x), &mut rng()).unwrap().model,
    ] {
        assert!((model.score(&x).unwrap() - whole.score(&x).unwrap()).abs() < 1e-8);
    }
    let weighted = Pca::builder(1).centering(Centering::Mean).fit(x.weighted(&ones)).unwrap().model;
    let plain = Pca::fit(1, &x).unwrap().model;
    assert!((weighted.components() - plain.components()).amax() < 1e-9);
}

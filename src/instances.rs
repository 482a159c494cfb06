//! The fits of the common models, compiled once in this crate for `f32` and `f64`.
//!
//! In unoptimised builds the compiler reuses generic code that a dependency has instantiated
//! (share-generics, on at optimisation levels 0 and 1). Without this module each test, example and
//! dependent crate instantiates the fits of all models again. Nothing is ever called here.

use crate::data::{Data, Incomplete, Moments, Source};
use crate::diagnostics::{GapEstimation, ImportanceSampling, InferenceGapSummary};
use crate::fit::{AutoencoderDescent, ExpectationMaximization, PxEm};
use crate::likelihood::{Bernoulli, DiagonalGaussian, Poisson};
use crate::mixture::MixtureOfPpca;
use crate::objective::ImportanceWeighted;
use crate::posterior::{Diagonal, Full, Isotropic};
use crate::steps::{GeneralizedPpca, ModelKind};
use crate::{
    AmortizedPpca, BinaryVae, DeepEncoderPpca, FactorAnalysis, IntoObservations, LinearAutoencoder,
    Pca, Ppca, Real, Result, Vae, VariationalPpca,
};
use nalgebra::DMatrix;
use rand::rngs::StdRng;

macro_rules! of_family {
    ($scalar:ty, $family:ty, $x:ident, $rng:ident) => {
        let table = VariationalPpca::<$scalar, $family>::builder(1).fit($x, $rng)?.model;
        let (model, table_of) = (table.generative_model(), table.inference());
        drop((table.elbo($x)?, InferenceGapSummary::exact(model, table_of, $x)?));
        let amortized = AmortizedPpca::<$scalar, $family>::builder(1).fit($x, $rng)?.model;
        let (model, encoder) = (amortized.generative_model(), amortized.inference());
        drop((amortized.elbo($x)?, InferenceGapSummary::exact(model, encoder, $x)?));
        drop(DeepEncoderPpca::<$scalar, $family>::builder(1).fit($x, $rng)?.model.elbo($x)?);
        let vae = Vae::<$scalar, $family>::builder(1).fit($x, $rng)?.model;
        drop((vae.transform($x)?, vae.estimate_elbo(1, $x, $rng)?));
        drop(BinaryVae::<$scalar, $family>::builder(1).fit($x, $rng)?.model.reconstruct($x)?);
    };
}
/// The engine of the fits under other likelihoods is in double precision for both scalar types.
macro_rules! of_distribution {
    ($scalar:ty, $family:ty, $distribution:expr, $x:ident, $rng:ident) => {
        let builder = GeneralizedPpca::<$scalar, _, $family>::builder($distribution, 1);
        let model = builder.fit(Incomplete($x).weighted($x.as_slice()), $rng)?.model;
        let fitted = builder.fit_likelihood($x, $rng)?.model.with_observations($x)?;
        drop((model.elbo_of($x)?, model.log_likelihood_by_quadrature($x)?));
        drop(fitted.standard_errors($x)?);
    };
}
fn of_scalar<T: Real>(x: &DMatrix<T>, source: &mut dyn Source<T>, rng: &mut StdRng) -> Result<()> {
    let (weights, moments) = (x.as_slice(), Moments::new(1));
    drop(ModelKind::Vae.fit(1, x, rng)?);
    drop(Pca::fit(1, x)?.model.whiten(x)?);
    drop(LinearAutoencoder::builder(1).fitter(AutoencoderDescent::default()).fit(x, rng)?);
    let ppca = Ppca::fit(1, x)?.model;
    let summary = InferenceGapSummary::exact(ppca.generative_model(), ppca.inference(), x)?;
    drop((ppca.transform(x)?, ppca.elbo(x)?, ppca.log_likelihood(Incomplete(x))?, summary));
    drop(Ppca::builder(1).fitter(PxEm::default()).fit(x.weighted(weights), rng)?);
    drop(Ppca::<T>::builder(1).fitter(ExpectationMaximization::default()).fit(&moments, rng)?);
    drop(ppca.impute_multiple(1, x, rng)?);
    let factors = FactorAnalysis::builder(1).fit(Incomplete(x).weighted(weights), rng)?.model;
    drop((factors.transform(x)?, FactorAnalysis::fit(1, x)?));
    let mixture = MixtureOfPpca::builder(1, 1).fit(Incomplete(x), rng)?.model;
    drop((mixture.impute(x)?, MixtureOfPpca::builder(1, 1).fit(x, rng)?, source.data_dim()));
    of_family!(T, Isotropic<T>, x, rng);
    of_family!(T, Diagonal<T>, x, rng);
    of_family!(T, Full<T>, x, rng);
    of_distribution!(T, Diagonal<T>, Poisson, x, rng);
    of_distribution!(T, Diagonal<T>, Bernoulli, x, rng);
    Ok(())
}

macro_rules! estimates_of_family {
    ($family:ty, $x:ident, $rng:ident) => {
        let linear = DeepEncoderPpca::<f64, $family>::builder(1).fit($x, $rng)?.model;
        let (model, q) = (linear.generative_model(), linear.encode($x)?);
        drop(GapEstimation::default().estimate(model, &q, $x, $rng)?);
        drop(ImportanceSampling::default().log_likelihood(model, &q, $x, $rng)?);
        drop(ImportanceWeighted::new(1).log_weights(model, &q, $x, $rng)?);
        let vae = Vae::<f64, $family>::builder(1).fit($x, $rng)?.model;
        let (model, q) = (vae.generative_model(), vae.encode($x)?);
        drop(GapEstimation::default().estimate(model, &q, $x, $rng)?);
    };
}

/// What tests of the diagnostics and of a noise variance per variable use, in `f64` alone.
fn estimates(x: &DMatrix<f64>, rng: &mut StdRng) -> Result<()> {
    let x = x.into_observations()?;
    estimates_of_family!(Isotropic<f64>, x, rng);
    estimates_of_family!(Diagonal<f64>, x, rng);
    estimates_of_family!(Full<f64>, x, rng);
    let vae = Vae::<f64, Diagonal<f64>, DiagonalGaussian<f64>>::builder(1).fit(x, rng)?.model;
    drop(vae.estimate_elbo(1, x, rng)?);
    Ok(())
}

#[doc(hidden)]
pub fn single(x: &DMatrix<f32>, source: &mut dyn Source<f32>, rng: &mut StdRng) -> Result<()> {
    of_scalar(x, source, rng)
}

#[doc(hidden)]
pub fn double(x: &DMatrix<f64>, source: &mut dyn Source<f64>, rng: &mut StdRng) -> Result<()> {
    estimates(x, rng)?;
    of_scalar(x, source, rng)
}

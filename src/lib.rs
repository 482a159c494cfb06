//! Latent-variable models from principal component analysis (PCA) to the variational autoencoder,
//! each made from the one before by replacing one component.
//!
//! A model has a [`Decoder`] (z → x), a likelihood p(x|z), an inference method for the posterior
//! q(z|x) (the exact posterior, or an [`Encoder`], for example) and an [`Objective`], which is
//! always *maximised*. [`LatentModel`] is the trait of all models with a decoder. Data X are d×n:
//! **an observation is a column**.
//!
//! # Which model do I need?
//!
//! | task | model |
//! |---|---|
//! | reduce dimensions, whiten, outlier distances | [`Pca`] |
//! | PCA with a density: log-likelihood, missing values, sampling | [`Ppca`] |
//! | a noise variance for each variable | [`FactorAnalysis`] |
//! | clusters, each with its own principal components | [`MixtureOfPpca`](mixture::MixtureOfPpca) |
//! | nonlinear structure, many observations | [`Vae`]; for data in \[0, 1\] [`BinaryVae`] |
//! | the number of latent dimensions | [`selection`] |
//!
//! # The progression
//!
//! | step | decoder | likelihood | inference | objective | fitted by |
//! |---|---|---|---|---|---|
//! | [`LinearAutoencoder`] | linear | none | linear map | −squared error | closed form, gradient |
//! | [`Ppca`] | linear | **Gaussian** | **exact posterior** | log p(x) | closed form |
//! | [`Ppca`] | linear | Gaussian | exact posterior | **ELBO** | (parameter-expanded) EM |
//! | [`VariationalPpca`] | linear | Gaussian | **one q_i for each point** | ELBO | variational EM |
//! | [`AmortizedPpca`] | linear | Gaussian | **linear map of x** | ELBO | gradient |
//! | [`DeepEncoderPpca`] | linear | Gaussian | **deep map of x** | ELBO, **sampled** | gradient |
//! | [`Vae`] | **deep** | Gaussian, Bernoulli | deep map of x | ELBO, sampled | gradient |
//!
//! *Sampled*: by Monte Carlo samples of z, with reparameterised gradients.
//!
//! # Examples
//!
//! Principal components, and probabilistic PCA with a score for each observation:
//!
//! ```
//! use elbo::{Pca, Ppca};
//! let x = nalgebra::dmatrix![ // 3 variables × 8 observations
//!     1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
//!     2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.8;
//!     0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1];
//! let pca = Pca::fit(1, &x)?.model;
//! assert!(pca.explained_variance_ratio()[0] > 0.99);
//! let ppca = Ppca::fit(1, &x)?.model;
//! let codes = ppca.transform(&x)?;             // 1×8
//! let scores = ppca.log_likelihood(&x)?;       // 8 numbers, nats
//! let elbo = ppca.elbo(&x)?;                   // with the exact posterior equal to the scores
//! assert!(codes.ncols() == 8 && (elbo.values() - scores).amax() < 1e-9);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! Missing values (NaN), imputed by their conditional means:
//!
//! ```
//! use elbo::{Ppca, data::Incomplete};
//! use rand::{SeedableRng, rngs::StdRng};
//! let x = nalgebra::dmatrix![
//!     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
//!     2.1, 3.9, f64::NAN, 7.8, 10.1, 11.9;
//!     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
//! let model = Ppca::builder(1).fit(Incomplete(&x), &mut StdRng::seed_from_u64(0))?.model;
//! assert!((model.impute(&x)?[(1, 2)] - 6.0).abs() < 0.5);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! A variational autoencoder, and what its fit reports:
//!
//! ```
//! use elbo::{Vae, fit::StochasticGradient};
//! use rand::{SeedableRng, rngs::StdRng};
//! let x = nalgebra::dmatrix![
//!     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
//!     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
//!     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
//! let rng = &mut StdRng::seed_from_u64(0);
//! let fitter = StochasticGradient { epochs: 20, ..Default::default() };
//! let fit = Vae::<f64>::builder(1).hidden(&[8]).fitter(fitter).fit(&x, rng)?;
//! println!("{fit}");
//! assert_eq!(fit.model.sample(5, rng).shape(), (3, 5));
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! # Methods of the models
//!
//! A method has the same meaning for every model, and exists if the components of the model allow
//! it. Other calls do not compile, and the compiler's message gives the reason.
//!
//! | method | returns | models |
//! |---|---|---|
//! | `fit(k, &x)` | fit report | `Pca`, `LinearAutoencoder`, `Ppca`, `FactorAnalysis` |
//! | `builder(k)….fit(&x, rng)` | fit report | all but `Pca` |
//! | `builder(k)….fit(&x)` | fit report | `Pca` |
//! | `transform` | codes, k×n | all but `VariationalPpca` (`codes`); a `Vec` for mixtures |
//! | `inverse_transform` | mean of x for given codes, d×n | all but mixtures |
//! | `reconstruct` | mean of x at the codes of x, d×n | all but `VariationalPpca` |
//! | `log_likelihood`, `score` | log p(x_i) in nats; its mean | linear-Gaussian models, mixtures |
//! | `bic`, `aic` | information criteria, smaller is better | linear-Gaussian models, mixtures |
//! | `elbo`, `estimate_elbo` | the ELBO by terms | linear-Gaussian; all with a likelihood |
//! | `sample` | samples of x, d×n | all with a likelihood, mixtures |
//! | `covariance` | covariance of x, d×d | `Pca`, linear-Gaussian models, mixtures |
//! | `precision` | inverse of the covariance, d×d | linear-Gaussian models |
//! | `components`, `explained_variance`, `whiten` | principal components | `Pca`, isotropic noise |
//! | `save(path)`, `load(path)` | a file; the model of a file | all (feature `save`) |
//! | `impute`, `conditional` | missing entries | linear-Gaussian models; `impute`: mixtures |
//!
//! The fit report is a [`Fitted`](fit::Fitted) with the model. The builders of `Pca` and of
//! [`BayesianPpca`](selection::BayesianPpca) take no generator: their fits draw no random numbers.
//!
//! `fit`, `transform` and `log_likelihood` take data in several forms: see [`Data`]. A model is
//! chosen at run time with [`steps::ModelKind`].
//!
//! # Features
//!
//! | feature | default | adds | cost |
//! |---|---|---|---|
//! | `rayon` | yes | threads, with bit-identical results for any number of threads | 6 crates |
//! | `files` | no | tables from CSV, NumPy and IDX files, plain or in gzip | 10 crates |
//! | `sparse` | no | input from nalgebra-sparse | 1 crate |
//! | `serde` | no | saving and loading in any format of serde's: see `saved` | 3 crates |
//! | `save` | no | `save(path)` and `load(path)`: files of JSON | 4 crates beside those of `serde` |
//!
//! # Implement your own
//!
//! The traits of the components can be implemented: [`Decoder`], [`Encoder`], [`Objective`],
//! [`Likelihood`](likelihood::Likelihood), [`PosteriorFamily`](posterior::PosteriorFamily),
//! [`DifferentiableMap`](map::DifferentiableMap) and [`Inference`](inference::Inference); a
//! [`Model`] takes any of them. [`testing`] has a conformance check for each. With the trait `Saved`
//! (module `saved`, feature `serde`) a component of your own is saved inside a model.

pub mod data;
pub mod diagnostics;
mod error;
pub mod fit;
pub mod inference;
#[cfg(all(feature = "instances", debug_assertions))]
#[doc(hidden)]
pub mod instances;
pub mod likelihood;
// Not part of the public interface: public for the doc examples and tests of its functions.
#[doc(hidden)]
pub mod linalg;
pub mod map;
pub mod mixture;
pub mod model;
pub mod objective;
pub mod posterior;
mod real;
pub mod rotation;
#[cfg(feature = "serde")]
pub mod saved;
pub mod selection;
pub mod steps;
pub mod testing;

#[doc(no_inline)]
pub use data::{Data, IntoObservations, Observations};
#[doc(hidden)]
pub use error::SourceError;
pub use error::{Error, Result};
#[doc(no_inline)]
pub use inference::Encoder;
#[doc(no_inline)]
pub use model::{Decoder, LatentModel};
#[doc(no_inline)]
pub use objective::Objective;
pub use real::Real;
#[doc(inline)]
pub use steps::{
    AmortizedPpca, BinaryVae, DeepEncoderPpca, FactorAnalysis, LinearAutoencoder, Model, Pca, Ppca,
    Vae, VariationalPpca,
};

/// Building blocks for custom training loops and for other crates.
///
/// Most users do not need them.
pub mod advanced {
    #[doc(inline)]
    pub use crate::fit::{Adam, AdamSettings};
    pub use crate::linalg::leading_eigenpairs_of;
    pub use crate::linalg::parallel::fork_join_scope;
}

/// Compiles and runs the code of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

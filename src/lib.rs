//! Latent-variable models from principal component analysis (PCA) to the variational autoencoder,
//! each made from the one before by replacing one component.
//!
//! A model has a [`Decoder`] (z → x), a likelihood p(x|z), an inference method for the posterior
//! q(z|x) (the exact posterior, or an [`Encoder`], for example) and an [`Objective`], which is
//! always *maximised*. [`LatentModel`] is the trait of all models with a decoder.
//!
//! **Data are d×n: an observation is a column.** A table with an observation in each row, n×d and
//! row-major, has the same layout in memory: [`Observations::from_rows`] views it without a copy,
//! and [`data::files`] reads it from a file.
//!
//! # Which model do I need?
//!
//! | task | model |
//! |---|---|
//! | reduce dimensions, whiten, outlier distances | [`Pca`] |
//! | PCA with a density: log-likelihood, missing values, sampling | [`Ppca`] |
//! | variables with units and noise of their own; factors to interpret | [`FactorAnalysis`] |
//! | clusters, each with its own principal components | [`MixtureOfPpca`](mixture::MixtureOfPpca) |
//! | nonlinear structure, many observations | [`Vae`]; for data in \[0, 1\] [`BinaryVae`] |
//! | the number of latent dimensions | [`selection`] |
//!
//! # Examples
//!
//! The tables of these examples are read from files, with the feature `files`. Everything else is
//! in the default build. The cookbook has more, such as data larger than memory.
//!
//! ## Principal components
//!
//! ```
//! use elbo::{Observations, Pca};
//!
//! let rows = [ // eight observations of three variables, one in each row
//!     1.0, 2.1, 0.3, 2.0, 3.9, 0.1, 3.0, 6.2, 0.2, 4.0, 7.8, 0.3, //
//!     5.0, 10.1, 0.1, 6.0, 11.9, 0.2, 7.0, 14.2, 0.3, 8.0, 15.8, 0.1,
//! ];
//! let x = Observations::from_rows(&rows, 8, 3)?; // a view, 3×8
//! let pca = Pca::fit(1, x)?.model;
//! println!("{pca}");
//! assert!(pca.explained_variance_ratio()[0] > 0.99);
//!
//! let scores = pca.transform(x)?; // 1×8
//! let projections = pca.inverse_transform(&scores)?; // 3×8
//! assert!((projections - x.values()).amax() < 0.2);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! ## Missing values
//!
//! Probabilistic PCA maximises the likelihood of the observed entries, by exact EM. A missing entry
//! (NaN) is imputed by its mean given the observed entries of its observation.
//!
//! ```
//! use elbo::data::{Incomplete, files::{Missing, ReadOptions, read}};
//! use elbo::Ppca;
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! let options = ReadOptions::default()
//!     .label("species")
//!     .ignore(["island", "sex", "year"])
//!     .missing(Missing::Allow);
//! let penguins = read::<f64>("examples/data/penguins.csv.gz", &options)?;
//! assert_eq!(penguins.missing, 8);
//!
//! let x = &penguins.values; // 4×344
//! let model = Ppca::builder(2).fit(Incomplete(x), &mut StdRng::seed_from_u64(0))?.model;
//! let completed = model.impute(x)?;
//! assert!(completed.iter().all(|value| value.is_finite()));
//! let spread = model.conditional(x)?.variance; // of each missing entry
//! assert!(spread.iter().filter(|&&variance| variance > 0.0).count() == 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Factor analysis
//!
//! Each variable has a noise variance of its own, so that units do not matter. Loadings are
//! interpreted after a rotation.
//!
//! ```
//! use elbo::data::files::{ReadOptions, read};
//! use elbo::{FactorAnalysis, rotation::Varimax, steps::LoadingsTable};
//!
//! let wine = read::<f64>("examples/data/wine.csv.gz", &ReadOptions::default())?;
//! let model = FactorAnalysis::fit(3, &wine.values)?.model;
//! let rotated = Varimax::default().rotate(model.standardized_loadings().as_view())?;
//! println!("{}", LoadingsTable::new(rotated.loadings, wine.names.clone())?);
//!
//! let factors = model.transform(&wine.values)?; // regression scores, 3×178
//! assert_eq!(factors.shape(), (3, 178));
//! assert!(model.heywood_variables().is_empty()); // no noise variance is at its lower bound
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Outliers
//!
//! A distance within the plane of the components, a distance from it, and a log-likelihood that
//! combines both.
//!
//! ```
//! use elbo::data::{Standardization, files::{ReadOptions, read}};
//! use elbo::{Pca, Ppca};
//!
//! let wine = read::<f64>("examples/data/wine.csv.gz", &ReadOptions::default())?;
//! let x = Standardization::fit(&wine.values)?.transform(&wine.values)?;
//! let distances = Pca::fit(3, &x)?.model.outlier_distances(&x)?;
//! let (within, from) = (distances.t_squared, distances.squared_prediction_error);
//! println!("largest T²: {:.1} of wine {}", within.max(), within.imax());
//! println!("largest squared distance: {:.1} of wine {}", from.max(), from.imax());
//!
//! let scores = Ppca::fit(3, &x)?.model.log_likelihood(&x)?; // nats, one for each wine
//! assert_eq!(scores.imin(), from.imax()); // here the least likely wine
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## The number of dimensions
//!
//! ```
//! use elbo::data::{Standardization, files::{ReadOptions, read}};
//! use elbo::selection::{Criterion, Selection};
//!
//! let wine = read::<f64>("examples/data/wine.csv.gz", &ReadOptions::default())?;
//! let x = Standardization::fit(&wine.values)?.transform(&wine.values)?;
//! for criterion in [Criterion::Laplace, Criterion::Bic, Criterion::HeldOut { folds: 5 }] {
//!     let selection = Selection::ppca(&x, criterion)?;
//!     println!("{criterion:?}: {selection}");
//! }
//! let share = Selection::variance_share(&x, 0.8)?; // a rule of thumb
//! assert_eq!(share.latent_dim, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## A variational autoencoder on a table
//!
//! The variables keep their units. The fit starts at the linear model that the network contains,
//! and never ends below it; what it has gained is in its report.
//!
//! ```
//! use elbo::data::files::{ReadOptions, read};
//! use elbo::{Vae, fit::StochasticGradient};
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! let iris = read::<f64>("examples/data/iris.csv.gz", &ReadOptions::default())?;
//! let (x, rng) = (&iris.values, &mut StdRng::seed_from_u64(0));
//! let fitter = StochasticGradient::of_steps(500, x.ncols()); // without it: 12,000 steps
//! let fit = Vae::<f64>::builder(2).hidden(&[16]).fitter(fitter).fit(x, rng)?;
//! println!("{fit}");
//!
//! let codes = fit.model.transform(x)?; // posterior means, 2×150
//! let reconstructions = fit.model.reconstruct(x)?; // 4×150
//! let flowers = fit.model.sample(5, rng); // 4×5
//! let elbo = fit.model.estimate_elbo(100, x, rng)?; // nats, by terms
//! assert_eq!((codes.nrows(), flowers.shape(), elbo.values().len()), (2, (4, 5), 150));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Main types
//!
//! | type | what it is |
//! |---|---|
//! | [`LatentModel`] | trait of every model with a decoder: its dimensions, and z → x |
//! | [`Encoder`], [`Decoder`], [`Objective`] | traits of the components that the steps replace |
//! | [`Model`] | a decoder, a likelihood and an inference method; all but `Pca` and mixtures |
//! | [`LinearAutoencoder`] … [`Vae`] | the steps of the progression (next section) |
//! | [`FactorAnalysis`] | probabilistic PCA with a noise variance for each variable |
//! | [`Pca`] | principal components, explained variance, whitening, outlier distances |
//! | [`MixtureOfPpca`](mixture::MixtureOfPpca) | several probabilistic PCA models with weights |
//! | [`Observations`], [`Data`] | validated data, and the trait of everything that is fitted |
//! | [`Fitted`](fit::Fitted) | what a fit returns: the model, the trace of J, why it ended |
//! | [`Selection`](selection::Selection) | scores of the candidate k, and the best k |
//! | [`Error`] | the one error type of fits and models |
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
//! ELBO: the evidence lower bound. *Sampled*: by Monte Carlo samples of z, with reparameterised
//! gradients.
#![cfg_attr(
    doc,
    doc = "The [guide] has a [chapter](guide::steps) for each step, a [cookbook](guide::cookbook)\n\
           and a [dictionary for users of scikit-learn](guide::for_scikit_learn_users)."
)]
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
//! | feature | default | adds | crates | C compiler | seconds |
//! |---|---|---|---|---|---|
//! | `rayon` | yes | threads, with bit-identical results for any number of threads | 6 | no | 10 |
//! | `files` | no | tables from delimited text, NumPy and IDX files, plain or in gzip | 11 | no | 13 |
//! | `sparse` | no | input from nalgebra-sparse | 2 | no | 4 |
//! | `serde` | no | saving and loading in any format of serde's: see `saved` | 3 | no | 6 |
//! | `save` | no | `save(path)` and `load(path)`: files of JSON; includes `serde` | 7 | no | 14 |
//! | `safetensors` | no | weights of `Mlp` from PyTorch and JAX, and to them; includes `save` | 12 | no | 19 |
//!
//! *Crates* and *seconds* are in addition to the build without features: 29 other crates and 100 s,
//! half of which are this crate itself. Seconds are processor time of a cold release build, measured
//! on two busy x86-64 cores; on others the ratios are what remains.
//!
//! # Implement your own
//!
//! The traits of the components can be implemented: [`Decoder`], [`Encoder`], [`Objective`],
//! [`Likelihood`](likelihood::Likelihood), [`PosteriorFamily`](posterior::PosteriorFamily),
//! [`DifferentiableMap`](map::DifferentiableMap) and [`Inference`](inference::Inference); a
//! [`Model`] takes any of them. [`testing`] has a conformance check for each. With the trait `Saved`
//! (module `saved`, feature `serde`) a component of your own is saved inside a model.
// Labels of the features that an item needs: on docs.rs only, because it needs a nightly compiler.
#![cfg_attr(elbo_docs, feature(doc_cfg))]

pub mod data;
pub mod diagnostics;
mod error;
pub mod fit;
#[cfg(doc)]
pub mod guide;
pub mod inference;
#[cfg(all(feature = "instances", debug_assertions, not(test)))]
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
pub mod prior;
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

/// Compiles and runs the code of the guide for contributors as a test.
#[cfg(doctest)]
#[doc = include_str!("../CONTRIBUTING.md")]
struct Contributing;

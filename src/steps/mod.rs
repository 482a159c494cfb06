//! The models of the progression from the linear autoencoder to the variational autoencoder: each
//! step replaces one component of the step before it.
//!
//! | step | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`LinearAutoencoder`] | `Linear` | `Noiseless` | `Amortized`, points | closed form, gradient |
//! | [`Ppca`] | `Linear` | **`IsotropicGaussian`** | **`Exact`** | closed form, (PX-)EM |
//! | [`VariationalPpca`] | `Linear` | `IsotropicGaussian` | **`PerPoint`** | variational EM |
//! | [`AmortizedPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized`**, linear | gradient |
//! | [`DeepEncoderPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized`, deep** | sampled |
//! | [`Vae`] | **`Mlp`** | Gaussian, `Bernoulli` | `Amortized`, deep | sampled |
//!
//! The encoder of points is `Amortized<PointEncoder<Linear>>`; the linear and the deep encoder of a
//! posterior of the family Q are `Amortized<GaussianEncoder<Linear, Q>>` and
//! `Amortized<GaussianEncoder<Mlp, Q>>`. PX-EM is parameter-expanded EM. *Sampled*: by
//! reparameterised Monte Carlo estimates of the gradient.
//!
//! Beside the progression, probabilistic PCA with a noise variance for each variable:
//!
//! | model | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`FactorAnalysis`] | `Linear` | **`DiagonalGaussian`** | `Exact` | profile likelihood, EM |

mod amortized_ppca;
mod apply;
mod closed_form;
mod deep;
mod dyn_model;
mod factor_analysis;
mod fit_methods;
mod generalized;
mod incomplete_codes;
mod linear_autoencoder;
mod linear_gaussian;
pub(crate) use linear_gaussian::covariance_parameters;
mod loadings_table;
mod model;
mod pca;
mod ppca;
mod variational_ppca;

#[doc(hidden)] // listed at the root of the crate
pub use amortized_ppca::AmortizedPpca;
pub use amortized_ppca::AmortizedPpcaBuilder;
#[doc(hidden)] // bounds of methods, of which the compiler reports the words
pub use apply::{EncodeOf, LogLikelihoodOf, SquaredErrorOf, TransformOf};
#[doc(hidden)] // bound of `Vae::builder`
pub use deep::DefaultLikelihood;
#[doc(hidden)] // listed at the root of the crate
pub use deep::{BinaryVae, DeepEncoderPpca, Vae};
pub use deep::{DeepBuilder, DeepInitialization, DeepLikelihood, OutputStart};
#[doc(hidden)] // an alias
pub use dyn_model::DynFit;
pub use dyn_model::{Budget, DynModel, ModelKind};
pub use factor_analysis::FactorAnalysisBuilder;
#[doc(hidden)]
pub use factor_analysis::{FactorAnalysis, FactorAnalysisFitter};
pub(crate) use fit_methods::fit_methods;
pub use generalized::{GeneralizedPpca, GeneralizedPpcaBuilder, StandardErrors};
pub use linear_autoencoder::LinearAutoencoderBuilder;
#[doc(hidden)]
pub use linear_autoencoder::{LinearAutoencoder, LinearAutoencoderFitter};
pub use loadings_table::LoadingsTable;
#[doc(hidden)] // listed at the root of the crate
pub use model::Model;
#[doc(hidden)] // listed at the root of the crate
pub use pca::Pca;
pub use pca::{OutlierDistances, PcaBuilder};
pub use ppca::PpcaBuilder;
#[doc(hidden)]
pub use ppca::{Ppca, PpcaFitter};
pub use variational_ppca::VariationalPpcaBuilder;
#[doc(hidden)]
pub use variational_ppca::{VariationalFitter, VariationalPpca};

/// The name of a type without its modules and parameters, such as `Diagonal`.
fn short_name<T: ?Sized>() -> &'static str {
    // `type_name` is `crate::module::Name<Parameters>`: cut the parameters before the path, since
    // they contain paths of their own.
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

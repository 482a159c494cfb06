//! The progression as a table of types: each step swaps what sits in one slot of the step before
//! it.
//!
//! | step | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`LinearAutoencoder`] | `Linear` | `Noiseless` | `Amortized<PointEncoder<Linear>>` | closed form, or gradient |
//! | [`Ppca`] | `Linear` | **`IsotropicGaussian`** | **`Exact`** | closed form, EM, parameter-expanded EM |
//! | [`VariationalPpca`] | `Linear` | `IsotropicGaussian` | **`PerPoint<Q>`** | variational EM |
//! | [`AmortizedPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized<GaussianEncoder<Linear, Q>>`** | gradient |
//! | [`DeepEncoderPpca`] | `Linear` | `IsotropicGaussian` | **`Amortized<GaussianEncoder<Mlp, Q>>`** | reparameterised gradient |
//! | [`Vae`] | **`Mlp`** | `IsotropicGaussian`, `Bernoulli` | `Amortized<GaussianEncoder<Mlp, Q>>` | reparameterised gradient |
//!
//! Beside the progression, the same model with noise of another shape:
//!
//! | step | decoder | likelihood | inference | how it is fitted |
//! |---|---|---|---|---|
//! | [`FactorAnalysis`] | `Linear` | **`DiagonalGaussian`** | `Exact` | ascent of the profile likelihood, EM |

mod amortized_ppca;
mod apply;
mod closed_form;
mod deep;
mod dyn_model;
mod factor_analysis;
mod fit_methods;
mod linear_autoencoder;
mod linear_gaussian;
mod loadings_table;
mod model;
mod pca;
mod ppca;
mod variational_ppca;

pub use amortized_ppca::{AmortizedPpca, AmortizedPpcaBuilder};
pub use apply::{EncodeOf, LogLikelihoodOf, SquaredErrorOf, TransformOf};
pub use deep::{BinaryVae, DeepBuilder, DeepEncoderPpca, Vae};
pub use dyn_model::{Budget, DynFit, DynModel, ModelKind};
pub use factor_analysis::{FactorAnalysis, FactorAnalysisBuilder, FactorAnalysisFitter};
pub(crate) use fit_methods::fit_methods;
pub use linear_autoencoder::{
    LinearAutoencoder, LinearAutoencoderBuilder, LinearAutoencoderFitter,
};
pub use loadings_table::LoadingsTable;
pub use model::Model;
pub use pca::{OutlierDistances, Pca, PcaBuilder};
pub use ppca::{Ppca, PpcaBuilder, PpcaFitter};
pub use variational_ppca::{VariationalFitter, VariationalPpca, VariationalPpcaBuilder};

/// The name of a type without its modules and parameters, such as `Diagonal`.
fn short_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

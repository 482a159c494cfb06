//! Latent-variable models, from PCA to the variational autoencoder.

pub mod data;
pub mod diagnostics;
mod error;
pub mod fit;
pub mod inference;
pub mod likelihood;
pub mod linalg;
pub mod map;
pub mod mixture;
pub mod model;
pub mod objective;
pub mod posterior;
mod real;
pub mod rotation;
pub mod selection;
pub mod steps;
pub mod testing;

pub use data::{IntoObservations, Observations};
pub use error::{Error, Result};
pub use real::Real;
pub use steps::{AmortizedPpca, FactorAnalysis, LinearAutoencoder, Pca, Ppca, Step, VariationalPpca};

//! Latent-variable models, from PCA to the variational autoencoder.

pub mod data;
mod error;
pub mod linalg;
mod real;

pub use error::{Error, Result};
pub use real::Real;

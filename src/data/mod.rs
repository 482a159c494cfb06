//! Data, checked once at the door.

#[cfg(feature = "files")]
pub mod files;
mod incomplete;
mod moments;
mod observations;
mod patterns;
mod scatter_factor;
mod source;
mod sparse;

pub use incomplete::{IncompleteObservations, IntoIncompleteObservations};
pub use moments::Moments;
pub(crate) use observations::{Incoming, expect, largest_square};
pub use observations::{IntoObservations, Observations};
pub(crate) use patterns::Patterns;
pub use scatter_factor::{Centering, ScatterFactor};
pub(crate) use scatter_factor::{
    check_latent_dim, deviations_resolved, resolution, resolution_of, rounding_of_models,
};
pub use source::{Chunks, Source};
pub use sparse::SparseObservations;

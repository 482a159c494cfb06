//! Data, checked once at the door.

#[cfg(feature = "files")]
pub mod files;
mod incomplete;
mod moments;
mod observations;
mod patterns;
mod root_moment;
mod source;
mod sparse;

pub use incomplete::{IncompleteObservations, IntoIncompleteObservations};
pub use moments::Moments;
pub(crate) use observations::{Incoming, expect, largest_square};
pub use observations::{IntoObservations, Observations};
pub(crate) use patterns::Patterns;
pub use root_moment::{Mean, RootMoment};
pub(crate) use root_moment::{check_latent_dim, deviations_resolved, resolution, resolution_of, rounding_of_models};
pub use source::{Chunks, Source};
pub use sparse::SparseObservations;

//! Data, checked once at the door.

#[cfg(feature = "files")]
pub mod files;
mod observations;
mod root_moment;

pub(crate) use observations::expect;
pub use observations::{IntoObservations, Observations};
pub use root_moment::{Mean, RootMoment};
pub(crate) use root_moment::{centre, check_latent_dim, resolution};

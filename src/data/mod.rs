//! Data, checked once at the door.

mod observations;

pub(crate) use observations::expect;
pub use observations::{IntoObservations, Observations};

//! Where observations come from.

#[cfg(feature = "files")]
pub mod files;

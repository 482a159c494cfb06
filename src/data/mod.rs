//! Input types, validated once on construction, and the [`Data`] trait, through which all models
//! take them.

#[cfg(feature = "files")]
pub mod files;
pub(crate) mod flat;
mod form;
mod incomplete;
mod moments;
mod observations;
mod offset;
mod patterns;
mod rounding;
mod scatter_factor;
mod source;
mod sparse;
mod standardization;

// Public as a bound of `fit`, so that the compiler can report its messages.
#[doc(hidden)]
pub use form::CompleteForm;
#[doc(hidden)] // what `Data::weighted` returns
pub use form::Weighted;
pub use form::{Data, Incomplete, IntoObservations};
pub use incomplete::IncompleteObservations;
#[doc(hidden)] // bound of methods that take a matrix with NaN, or incomplete observations
pub use incomplete::IntoIncompleteObservations;
pub use moments::Moments;
#[doc(hidden)] // the form of complete data
pub use observations::Dense;
pub use observations::Observations;
pub(crate) use observations::{expect, expect_variables, largest_square};
#[doc(hidden)] // what `Data::offset` returns
pub use offset::WithOffset;
pub use offset::{Offset, log_totals};
pub(crate) use patterns::Patterns;
pub(crate) use rounding::{ModelRounding, constant_but_for_rounding};
pub use scatter_factor::Centering;
#[doc(hidden)] // listed in `advanced`
pub use scatter_factor::ScatterFactor;
pub(crate) use scatter_factor::{
    centre_and_resolution, check_latent_dim, resolution, resolution_of,
};
pub use source::{Chunks, Source};
pub use sparse::SparseObservations;
pub use standardization::Standardization;

//! Diagnostics of a fitted model: log p(x) where it is not in closed form, the inference gap and
//! its two terms, and the active latent dimensions.

mod active_units;
mod estimates;
mod gap_summary;
mod importance;
mod inference_gaps;
mod quadrature;

pub use active_units::{ActiveUnits, mutual_information};
pub use estimates::Estimates;
#[doc(hidden)] // a field of the summary
pub use gap_summary::EstimateBasis;
pub use gap_summary::InferenceGapSummary;
#[doc(hidden)] // bound of the gaps: the Gaussian posteriors of this crate have it
pub use gap_summary::KlProjection;
pub use importance::{ImportanceEstimate, ImportanceSampling};
#[doc(hidden)]
pub use inference_gaps::kl_to_exact;
pub use inference_gaps::{GapEstimation, InferenceGapEstimates, InferenceGaps};
pub use quadrature::{QuadratureEstimate, quadrature_log_likelihood};

//! What a fitted model is worth: log p(x) where it is no formula, the gap between it and J and
//! where the gap comes from, and the units in use.

mod active_units;
mod estimates;
mod gap_summary;
mod importance;
mod inference_gaps;

pub use active_units::{ActiveUnits, active_units};
pub use estimates::Estimates;
pub use gap_summary::{EstimateBasis, InferenceGapSummary, KlProjection, inference_gap_summary};
pub use importance::{ImportanceEstimate, ImportanceSampling};
pub use inference_gaps::{
    GapEstimation, InferenceGapEstimates, InferenceGaps, inference_gaps, kl_to_exact,
};

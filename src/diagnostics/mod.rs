//! What a fitted model is worth: log p(x) where it is no formula, the gap between it and J and where the gap comes from, and the units in use.

mod active_units;
mod figures;
mod gaps;
mod importance;

pub use active_units::{ActiveUnits, active_units};
pub use figures::Figures;
pub use gaps::{EstimatedGaps, GapEstimation, Gaps, exact_gaps, kl_to_exact};
pub use importance::{ImportanceEstimate, ImportanceSampling};

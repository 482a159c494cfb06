//! What a fitted model is worth: log p(x) where it is no formula, the gap between it and J and where the gap comes from, and the units in use.

mod active_units;
mod figures;
mod gap_figures;
mod gaps;
mod importance;

pub use active_units::{ActiveUnits, active_units};
pub use figures::Figures;
pub use gap_figures::{EstimatedGaps, GapEstimation, GapFigures, exact_gap_figures, kl_to_exact};
pub use gaps::{BestMember, EstimateBasis, Gaps, exact_gaps};
pub use importance::{ImportanceEstimate, ImportanceSampling};

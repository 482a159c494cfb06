//! What a fitted model is worth: the gap between log p and J, and its two parts.

mod gaps;

pub use gaps::{BestMember, Gaps, exact_gaps};

//! Fits for data that are read in blocks: out-of-core (several passes) and online (one pass).

mod online;
mod out_of_core;

pub use online::OnlineEm;

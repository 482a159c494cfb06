//! Fits of data that are read in blocks: from beginning to end several times, or once.

mod online;
mod out_of_core;

pub use online::OnlineEm;

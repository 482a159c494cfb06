//! What several example programs share: command line, progress, JSON, charts, pictures, and the
//! page that shows them.
//!
//! Nothing here knows a model: the functions take slices of numbers and give text.

// each program uses a part of it
#![allow(dead_code)]

pub mod arguments;
pub mod chart;
pub mod image;
pub mod json;
pub mod page;
pub mod progress;
pub mod refusal;
pub mod scatter;

//! Code that several example programs share: command line, progress, JSON, charts, images, and the
//! HTML page that contains them.
//!
//! It does not depend on any model: the functions take slices of numbers and return text.

// Each program uses a part of it.
#![allow(dead_code)]

pub mod arguments;
pub mod chart;
pub mod image;
pub mod json;
pub mod orientation;
pub mod page;
pub mod progress;
pub mod refusal;
pub mod scatter;

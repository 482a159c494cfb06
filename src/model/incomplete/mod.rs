//! Linear-Gaussian models and observations with holes: what is in closed form of the observed entries alone.

mod block;
mod given_observed;

pub(crate) use block::{Block, Parameters};
pub use given_observed::Conditional;

//! Linear-Gaussian models and observations with holes: what is in closed form of the observed entries alone.

mod block;

pub(crate) use block::{Block, Parameters};

//! Linear-Gaussian models of incomplete data: closed forms that use the observed entries alone.

mod block;
mod given_observed;
mod parameters;

pub(crate) use block::Block;
pub use given_observed::ConditionalMoments;
pub(crate) use parameters::Parameters;

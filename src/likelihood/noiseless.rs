//! No density at all: the linear autoencoder's.

/// The decoder's output is x itself; there is no p(x|z), so no [`Likelihood`](super::Likelihood) either, and what needs one does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noiseless;

//! No density at all: the linear autoencoder's.

use super::ConditionalMean;
use crate::Real;
use crate::map::Parameters;
use nalgebra::{DMatrix, DMatrixView};

/// The decoder's output is x itself; there is no p(x|z), so no [`Likelihood`](super::Likelihood)
/// either, and what needs one does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noiseless;

impl<T: Real> ConditionalMean<T> for Noiseless {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.into_owned()
    }
}

impl<T: Real> Parameters<T> for Noiseless {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

//! The absence of a likelihood, for the linear autoencoder.

use super::ConditionalMean;
use crate::Real;
use crate::map::Parameters;
use nalgebra::{DMatrix, DMatrixView};

/// A deterministic output, x = y. There is no p(x|z), and therefore no
/// [`Likelihood`](super::Likelihood): code that needs one does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noiseless;

impl<T: Real> ConditionalMean<T> for Noiseless {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.into_owned()
    }

    fn is_identity(&self) -> bool {
        true
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

//! A single code for each observation: the autoencoder's.

use super::Posterior;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// A code z_i without any uncertainty; it has no density, and so no evidence lower bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<T: Real>(DMatrix<T>);

impl<T: Real> Point<T> {
    /// The codes, k×n.
    pub fn new(codes: DMatrix<T>) -> Self {
        Self(codes)
    }

    /// Gives the codes away.
    pub fn into_inner(self) -> DMatrix<T> {
        self.0
    }
}

impl<T: Real> Posterior<T> for Point<T> {
    fn mean(&self) -> DMatrixView<'_, T> {
        self.0.as_view()
    }

    fn into_mean(self) -> DMatrix<T> {
        self.0
    }
}

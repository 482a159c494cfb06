//! Point codes: the encoding of an autoencoder.

use super::Posterior;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// A point code z_i for each observation. It has no density, and therefore no evidence lower bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<T: Real>(DMatrix<T>);

impl<T: Real> Point<T> {
    /// Point codes from a k×n matrix.
    pub fn new(codes: DMatrix<T>) -> Self {
        Self(codes)
    }

    /// Returns the codes, k×n, by value.
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

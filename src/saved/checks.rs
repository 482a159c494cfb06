//! Checks of numbers that were read.

use crate::data::expect;
use crate::linalg::{check_finite, product_tr_left};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Returns the entries, to be written.
pub fn values<T: Real>(vector: &DVector<T>) -> Vec<T> {
    vector.iter().copied().collect()
}

/// Returns a vector that was read, which must have this many entries, all of them finite.
pub fn vector<T: Real>(what: &'static str, len: usize, values: Vec<T>) -> Result<DVector<T>> {
    expect(what, len, values.len())?;
    let vector = DVector::from_vec(values);
    check_finite(vector.as_view())?;
    Ok(vector)
}

/// The sign that numbers must have.
#[derive(Clone, Copy)]
pub enum Sign {
    Any,
    NotNegative,
    Positive,
}

/// Checks that all numbers are finite and have the sign.
pub fn check_all<T: Real>(name: &'static str, values: &[T], sign: Sign) -> Result<()> {
    let (must, least): (_, fn(T) -> bool) = match sign {
        Sign::Any => ("finite", |_| true),
        Sign::NotNegative => ("at least 0 and finite", |v| v >= T::zero()),
        Sign::Positive => ("positive and finite", |v| v > T::zero()),
    };
    match values.iter().find(|v| !(v.is_finite() && least(**v))) {
        Some(value) => Err(Error::InvalidParameter { name, value: value.as_f64(), must }),
        None => Ok(()),
    }
}

/// Checks that the columns are orthonormal but for rounding, as principal components are.
pub fn check_orthonormal<T: Real>(components: &DMatrix<T>) -> Result<()> {
    let (d, k) = components.shape();
    if k > d {
        return Err(Error::LatentDim { latent_dim: k, smallest: 1, largest: d });
    }
    let deviation = (product_tr_left(components, components) - DMatrix::identity(k, k)).amax();
    // The rounding of a fit is of the order of ε; √ε leaves room for numbers that were printed with
    // half their digits. NaN, from an overflow, fails as well.
    if deviation <= T::EPSILON.sqrt() {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "the largest inner product of two saved components",
        value: deviation.as_f64(),
        must: "0 but for rounding, as their columns are orthonormal",
    })
}

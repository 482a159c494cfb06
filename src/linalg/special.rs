//! Special functions that the standard library lacks.

/// ln x! = ln Γ(x + 1).
pub(crate) fn ln_factorial(x: f64) -> f64 {
    libm::lgamma(x + 1.0)
}

//! One figure for each observation, and how sure it is.

/// A quantity for each observation, with the standard error that a Monte Carlo estimate of it has
/// (0 where it is exact).
///
/// ```
/// use elbo::diagnostics::Estimates;
/// let exact = Estimates::exact(vec![1.0, 3.0]);
/// assert_eq!((exact.mean(), exact.monte_carlo_error(), exact.standard_error()), (2.0, 0.0, 1.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Estimates {
    values: Vec<f64>,
    errors: Vec<f64>, // empty: exact
}

impl Estimates {
    /// Figures known exactly.
    pub fn exact(values: Vec<f64>) -> Self {
        Self { values, errors: Vec::new() }
    }

    /// Estimated figures with their standard errors, one for each.
    pub(crate) fn estimated(values: Vec<f64>, errors: Vec<f64>) -> Self {
        Self { values, errors }
    }

    /// The figure of each observation.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The standard error of each figure; empty where they are exact.
    pub fn errors(&self) -> &[f64] {
        &self.errors
    }

    /// The mean over the observations; 0 of none.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }

    /// The standard error of the mean **over these observations**: what the sampling of z leaves
    /// open.
    pub fn monte_carlo_error(&self) -> f64 {
        self.errors.iter().map(|e| e * e).sum::<f64>().sqrt() / self.values.len().max(1) as f64
    }

    /// The standard error of the mean as an estimate for **all** observations that these were drawn
    /// from: the sampling of z is part of it.
    pub fn standard_error(&self) -> f64 {
        let (n, mean) = (self.values.len() as f64, self.mean());
        let squares = self.values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        (squares / (n - 1.0).max(1.0) / n.max(1.0)).sqrt()
    }
}

//! Per-observation values with Monte Carlo standard errors.

/// A value for each observation with the standard error of its Monte Carlo estimate (0 where the
/// value is exact).
///
/// ```
/// use elbo::diagnostics::Estimates;
/// let exact = Estimates::exact(vec![1.0, 3.0]);
/// assert_eq!((exact.mean(), exact.monte_carlo_error(), exact.standard_error()), (2.0, 0.0, 1.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Estimates {
    values: Vec<f64>,
    // Standard errors; empty where the values are exact.
    errors: Vec<f64>,
}

impl Estimates {
    /// Exact values, one per observation.
    pub fn exact(values: Vec<f64>) -> Self {
        Self { values, errors: Vec::new() }
    }

    /// Estimated values with their standard errors, one of each per observation.
    pub(crate) fn estimated(values: Vec<f64>, errors: Vec<f64>) -> Self {
        Self { values, errors }
    }

    /// The value of each observation.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The standard error of each value; empty where the values are exact.
    pub fn errors(&self) -> &[f64] {
        &self.errors
    }

    /// The mean over the observations; 0 without observations. It is −∞ if a value is, which is
    /// the estimate of log p(x_i) where every importance weight underflows.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len().max(1) as f64
    }

    /// The standard error of the mean **over these observations**, due to the Monte Carlo sampling
    /// of z.
    pub fn monte_carlo_error(&self) -> f64 {
        self.errors.iter().map(|e| e * e).sum::<f64>().sqrt() / self.values.len().max(1) as f64
    }

    /// The standard error of the mean as an estimate for the population **that these observations
    /// were sampled from**. It includes the Monte Carlo error.
    pub fn standard_error(&self) -> f64 {
        // The values vary by their Monte Carlo errors as well as by the choice of the observations:
        // the variance of the mean of independent estimates contains both.
        let (n, mean) = (self.values.len() as f64, self.mean());
        // A value of −∞ is one of unknown size: so is its distance to the mean.
        if self.values.iter().any(|value| value.is_infinite()) {
            return f64::INFINITY;
        }
        let squares = self.values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        (squares / (n - 1.0).max(1.0) / n.max(1.0)).sqrt()
    }
}

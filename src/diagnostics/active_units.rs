//! Active latent dimensions, from the aggregated posterior.

use crate::Real;
use crate::posterior::GaussianPosterior;
use nalgebra::{DMatrix, DVector};

/// Statistics of the posteriors of many observations that show which latent dimensions are active.
/// Variances have the divisor n.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ActiveUnits<T: Real> {
    /// The activity A_j of each latent dimension: the variance over the observations of the
    /// posterior mean of z_j[^1]; 0 for an inactive unit, near 1 for an active one.
    ///
    /// [^1]: Y. Burda, R. Grosse and R. Salakhutdinov, Importance weighted autoencoders, ICLR 2016,
    /// section 5.2.
    pub activities: DVector<T>,
    /// The covariance of z under the aggregated posterior (1/n) Σ q_i: the covariance of the means
    /// plus the mean covariance. It is I if the aggregated posterior equals the prior.
    pub aggregated_covariance: DMatrix<T>,
    /// The mean of z under the aggregated posterior; 0 if that equals the prior.
    pub aggregated_mean: DVector<T>,
    /// The rate, the mean of KL(q_i ‖ π), in nats per observation.
    pub rate: T,
}

impl<T: Real> ActiveUnits<T> {
    /// The number of units with A_j above a threshold (customarily 0.01).
    pub fn count(&self, threshold: T) -> usize {
        self.activities.iter().filter(|&&a| a > threshold).count()
    }
}

impl<T: Real> ActiveUnits<T> {
    /// Computes the activity of each latent dimension from the posteriors of all observations.
    ///
    /// ```
    /// use elbo::{
    ///     diagnostics::ActiveUnits,
    ///     posterior::{Diagonal, PosteriorFamily},
    /// };
    /// use nalgebra::dmatrix;
    /// // The first unit varies with x; the second equals the prior for every observation.
    /// let q =
    ///     Diagonal::from_parameters(2, dmatrix![1.0, -1.0; 0.0, 0.0; -4.0, -4.0; 0.0, 0.0])?;
    /// let units = ActiveUnits::from_posterior(&q);
    /// assert_eq!(
    ///     (units.activities[0], units.activities[1], units.count(0.01)),
    ///     (1.0, 0.0, 1)
    /// );
    /// assert_eq!(units.aggregated_covariance[(1, 1)], 1.0);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn from_posterior(q: &impl GaussianPosterior<T>) -> Self {
        let n = T::of_usize(q.len());
        let mean = q.mean().column_mean();
        // Centred before squaring: the variances of an inactive unit with a mean far from 0 would
        // cancel.
        let mut deviations = q.mean().into_owned();
        deviations.column_iter_mut().for_each(|mut column| column -= &mean);
        let of_means =
            crate::linalg::product_tr_right(deviations.as_view(), deviations.as_view()) / n;
        Self {
            activities: of_means.diagonal(),
            aggregated_covariance: of_means + q.covariance_sum() / n,
            aggregated_mean: mean,
            rate: q.kl_to_prior_sum() / n,
        }
    }
}

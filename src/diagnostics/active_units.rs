//! Which latent dimensions carry anything.

use crate::Real;
use crate::posterior::GaussianPosterior;
use nalgebra::{DMatrix, DVector};

/// How much each latent dimension says about x, as seen in the posteriors of many observations;
/// variances have the divisor n.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveUnits<T: Real> {
    /// A_j: the variance over the observations of the posterior mean of z_j[^1]; 0 for a dead unit,
    /// near 1 for a busy one.
    ///
    /// [^1]: Y. Burda, R. Grosse and R. Salakhutdinov, Importance weighted autoencoders, ICLR 2016,
    /// section 5.2.
    pub mean_variances: DVector<T>,
    /// The covariance of z under the aggregated posterior (1/n) Σ q_i: that of the means plus the
    /// mean covariance; I if the prior fits.
    pub aggregated_covariance: DMatrix<T>,
    /// The mean of z under the aggregated posterior; 0 if the prior fits.
    pub aggregated_mean: DVector<T>,
    /// The rate: the mean of KL(q_i ‖ π) in nats per observation.
    pub rate: T,
}

impl<T: Real> ActiveUnits<T> {
    /// The number of units with A_j above a threshold; 0.01 is customary.
    pub fn count(&self, threshold: T) -> usize {
        self.mean_variances.iter().filter(|&&a| a > threshold).count()
    }
}

/// Looks at the posteriors of all observations together.
///
/// ```
/// use elbo::{
///     diagnostics::active_units,
///     posterior::{Diagonal, PosteriorFamily},
/// };
/// use nalgebra::dmatrix;
/// // The first unit moves with x; the second is the prior throughout.
/// let q =
///     Diagonal::from_parameters(2, dmatrix![1.0, -1.0; 0.0, 0.0; -4.0, -4.0; 0.0, 0.0])?;
/// let units = active_units(&q);
/// assert_eq!(
///     (units.mean_variances[0], units.mean_variances[1], units.count(0.01)),
///     (1.0, 0.0, 1)
/// );
/// assert_eq!(units.aggregated_covariance[(1, 1)], 1.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn active_units<T: Real>(q: &impl GaussianPosterior<T>) -> ActiveUnits<T> {
    let n = T::of_usize(q.len());
    let mean = q.mean().column_mean();
    let mut deviations = q.mean().into_owned();
    deviations.column_iter_mut().for_each(|mut column| column -= &mean);
    let of_means = crate::linalg::product_tr_right(deviations.as_view(), deviations.as_view()) / n;
    ActiveUnits {
        mean_variances: of_means.diagonal(),
        aggregated_covariance: of_means + q.covariance_sum() / n,
        aggregated_mean: mean,
        rate: q.kl_to_prior_sum() / n,
    }
}

//! Active latent dimensions, from the aggregated posterior.

use crate::linalg::cholesky_lower;
use crate::linalg::parallel::map_blocks;
use crate::posterior::GaussianPosterior;
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

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

/// An estimate of the mutual information of x and z under q in nats, the mean of ln q_i(z_i) −
/// ln (1/n) Σ_j q_j(z_i) with one sample z_i of each q_i.
///
/// It is at most ln n, for any q: a larger information cannot be seen in n observations. Of more
/// than 1,000 observations, these are used: the work is quadratic in their number.
///
/// ```
/// use elbo::diagnostics::mutual_information;
/// use elbo::posterior::{Diagonal, PosteriorFamily};
/// use rand::{SeedableRng, rngs::StdRng};
/// let prior = Diagonal::<f64>::at_prior(2, 100);
/// assert!(mutual_information(&prior, &mut StdRng::seed_from_u64(1))?.abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) for a singular covariance.
pub fn mutual_information<T: Real>(
    q: &impl GaussianPosterior<T>,
    rng: &mut dyn Rng,
) -> Result<f64> {
    const MOST: usize = 1_000;
    let (k, n) = (q.latent_dim(), q.len());
    let mut z = DMatrix::zeros(k, n);
    let noise = DMatrix::from_fn(k, n, |_, _| T::standard_normal(rng));
    q.transform(noise.as_view(), &mut z);
    // Observations at equal distances, so that those of one class in a sorted table do not stand
    // for all.
    let count = n.min(MOST);
    let chosen: Vec<usize> = (0..count).map(|i| i * n / count).collect();
    let factors = chosen
        .iter()
        .map(|&i| cholesky_lower(q.covariance(i).map(|v| v.as_f64()).as_view()))
        .collect::<Result<Vec<_>>>()?;
    let means: Vec<_> = chosen.iter().map(|&i| q.mean().column(i).map(|v| v.as_f64())).collect();
    let log_density = |j: usize, z: &DVector<f64>| {
        let mut deviation = z - &means[j];
        factors[j].solve_lower_triangular_mut(&mut deviation);
        let log_determinant: f64 = factors[j].diagonal().iter().map(|l| l.ln()).sum();
        -0.5 * deviation.norm_squared() - log_determinant
    };
    let of = map_blocks(count, count * count * k * k, |i| {
        let z = z.column(chosen[i]).map(|v| v.as_f64());
        let all: Vec<f64> = (0..count).map(|j| log_density(j, &z)).collect();
        let largest = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = all.iter().map(|value| (value - largest).exp()).sum();
        all[i] - largest - (sum / count as f64).ln()
    });
    Ok(of.into_iter().sum::<f64>() / count as f64)
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

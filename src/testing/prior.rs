//! Conformance check of priors.

use super::differences::compare;
use super::{Failure, ensure};
use crate::Real;
use crate::likelihood::Weights;
use crate::prior::Prior;
use nalgebra::DMatrix;
use rand::Rng;

/// Monte Carlo samples of the statistical checks; the tolerance is 6 standard errors.
const DRAWS: usize = 20_000;

/// Checks a prior at given codes z (k×n): that the weighted sum of the gradient is that of
/// `log_density`; its derivatives by z and by the parameters against central differences; and that
/// both have the mean 0 under the sampler, which holds if the density is normalised and is that of
/// the sampler.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{prior::GaussianPrior, testing::check_prior};
/// use rand::{SeedableRng, rngs::StdRng};
/// let z = nalgebra::dmatrix![0.3, -1.0; 0.5, 2.0];
/// check_prior(&GaussianPrior::<f64>::new(2), &z, &mut StdRng::seed_from_u64(1)).unwrap();
/// ```
pub fn check_prior<T: Real, P: Prior<T>>(
    prior: &P,
    z: &DMatrix<T>,
    rng: &mut dyn Rng,
) -> Result<(), Failure> {
    let (k, n) = z.shape();
    if let Some(latent_dim) = prior.latent_dim() {
        ensure(latent_dim == k, || format!("a prior of {latent_dim} dimensions for z of {k}"))?;
    }
    let weights: Vec<T> = (0..n).map(|i| T::of(0.5 + i as f64)).collect();
    let weighted = |prior: &P, z: &DMatrix<T>| {
        let densities = prior.log_density(z.as_view());
        let terms = || densities.iter().zip(&weights).map(|(&d, &w)| w * d);
        (
            terms().fold(T::zero(), |sum, term| sum + term),
            terms().fold(T::zero(), |sum, term| sum + term.abs()),
        )
    };
    let mut d_z = DMatrix::from_element(k, n, T::one());
    let mut d_parameters = vec![T::of(f64::NAN); prior.parameters().len()];
    let value = prior.add_log_density_gradient(
        z.as_view(),
        Weights::Each(&weights),
        &mut d_z,
        &mut d_parameters,
    );
    let (sum, size) = weighted(prior, z);
    ensure((value - sum).as_f64().abs() <= 100.0 * T::EPSILON.as_f64() * size.as_f64(), || {
        format!("the gradient's value is {value}, and the weighted sum of log_density is {sum}")
    })?;
    // The derivative is added to what was there, 1.
    d_z.add_scalar_mut(-T::one());
    compare("the derivative by z", z.as_slice(), d_z.as_slice(), &mut |moved| {
        Ok(weighted(prior, &DMatrix::from_column_slice(k, n, moved)))
    })?;
    compare("the derivative by the parameters", prior.parameters(), &d_parameters, &mut |moved| {
        let mut other = prior.clone();
        other.parameters_mut().copy_from_slice(moved);
        Ok(weighted(&other, z))
    })?;
    let drawn = prior.sample(k, DRAWS, rng);
    ensure(drawn.shape() == (k, DRAWS), || {
        format!("{DRAWS} samples of {k} dimensions are {}×{}", drawn.nrows(), drawn.ncols())
    })?;
    let mut sums = vec![[0.0f64; 2]; k + d_parameters.len()];
    for z in drawn.column_iter() {
        let mut d_z = DMatrix::zeros(k, 1);
        let z = z.into_owned();
        prior.add_log_density_gradient(
            z.as_view(),
            Weights::Equal(T::one()),
            &mut d_z,
            &mut d_parameters,
        );
        for (sums, score) in sums.iter_mut().zip(d_z.iter().chain(&d_parameters)) {
            sums[0] += score.as_f64();
            sums[1] += score.as_f64().powi(2);
        }
    }
    for (entry, [sum, squares]) in sums.into_iter().enumerate() {
        let (mean, error) = (sum / DRAWS as f64, squares.sqrt() / DRAWS as f64);
        ensure(mean.abs() <= 6.0 * error + T::EPSILON.as_f64(), || {
            format!(
                "over {DRAWS} samples entry {entry} of the score has the mean {mean:e}, which is \
                 not 0 within 6 standard errors of {error:e}"
            )
        })?;
    }
    Ok(())
}

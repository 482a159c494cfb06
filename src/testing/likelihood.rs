//! Conformance check of likelihoods.

use super::differences::compare;
use super::{Failure, ensure};
use crate::likelihood::Likelihood;
use crate::{Observations, Real};
use nalgebra::DMatrix;
use rand::Rng;

/// Monte Carlo samples for each column of the output in the statistical checks. The tolerance is 6
/// standard errors: a correct likelihood fails by chance about once in 5·10⁸ comparisons of a
/// normal mean.
const DRAWS: usize = 4_000;

/// Checks a likelihood at given data and decoder outputs (both d×n): the gradients against central
/// differences; that the sampler's mean equals `mean`; that samples are in the support; and that
/// the score ∂ log p(x|y)/∂y has mean 0 under the sampler, which holds if the density is normalised
/// and is that of the sampler.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{Observations, likelihood::Bernoulli, testing::check_likelihood};
/// use nalgebra::dmatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let (x, logits) = (dmatrix![1.0, 0.0; 0.0, 1.0], dmatrix![0.3, -2.0; 1.5, 0.0]);
/// check_likelihood(
///     &Bernoulli,
///     Observations::new(x.as_view())?,
///     &logits,
///     &mut StdRng::seed_from_u64(1),
/// )
/// .unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn check_likelihood<T, L>(
    likelihood: &L,
    x: Observations<'_, T>,
    output: &DMatrix<T>,
    rng: &mut dyn Rng,
) -> Result<(), Failure>
where
    T: Real,
    L: Likelihood<T>,
{
    let (d, n) = x.values().shape();
    // Not 1, so that a gradient that ignores the scale is found.
    let scale = T::of(1.5);
    let mut d_output = DMatrix::zeros(0, 0);
    // NaN, so that an entry that is not overwritten is found.
    let mut d_parameters = vec![T::of(f64::NAN); likelihood.parameters().len()];
    let value = likelihood.log_density_gradient(
        x.values(),
        output.as_view(),
        scale,
        &mut d_output,
        &mut d_parameters,
    );
    let densities = likelihood.log_density(x.values(), output.as_view());
    ensure(densities.len() == n, || {
        format!("{} log-densities for {n} observations", densities.len())
    })?;
    let sum = densities.sum() * scale;
    let size = densities.lp_norm(1).as_f64().max(1.0);
    ensure((value - sum).as_f64().abs() <= 100.0 * T::EPSILON.as_f64() * size, || {
        format!("log_density_gradient gives {value} where the sum of log_density, scaled, is {sum}")
    })?;
    let of = |likelihood: &L, output: &DMatrix<T>| {
        let densities = likelihood.log_density(x.values(), output.as_view());
        Ok((scale * densities.sum(), scale * densities.lp_norm(1)))
    };
    compare(
        "log_density_gradient by the output",
        output.as_slice(),
        d_output.as_slice(),
        &mut |moved| of(likelihood, &DMatrix::from_column_slice(d, n, moved)),
    )?;
    compare(
        "log_density_gradient by the parameters",
        likelihood.parameters(),
        &d_parameters,
        &mut |moved| {
            let mut other = likelihood.clone();
            other.parameters_mut().copy_from_slice(moved);
            of(&other, output)
        },
    )?;

    // Sums of first and second moments over the samples, of x − mean and of the score: both should
    // have the mean 0.
    let mut moments = vec![[0.0f64; 4]; d * n];
    let mean = likelihood.mean(output.as_view());
    let mut unused = vec![T::zero(); likelihood.parameters().len()];
    for _ in 0..DRAWS {
        let drawn = likelihood.sample(output.as_view(), rng);
        likelihood.check_support(Observations::new(drawn.as_view())?)?;
        likelihood.log_density_gradient(
            drawn.as_view(),
            output.as_view(),
            T::one(),
            &mut d_output,
            &mut unused,
        );
        for (sums, ((&x, &mean), &score)) in
            moments.iter_mut().zip(drawn.iter().zip(mean.iter()).zip(d_output.iter()))
        {
            let (x, score) = ((x - mean).as_f64(), score.as_f64());
            for (sum, term) in sums.iter_mut().zip([x, x * x, score, score * score]) {
                *sum += term;
            }
        }
    }
    for (entry, sums) in moments.iter().enumerate() {
        for (what, sum, squares) in
            [("x − mean", sums[0], sums[1]), ("the score", sums[2], sums[3])]
        {
            let average = sum / DRAWS as f64;
            let error = (squares / DRAWS as f64 / DRAWS as f64).sqrt();
            ensure(average.abs() <= 6.0 * error + T::EPSILON.as_f64(), || {
                format!(
                    "over {DRAWS} draws of entry {entry}, {what} has the mean {average:e}, which is not 0 within 6 standard errors of {error:e}"
                )
            })?;
        }
    }
    Ok(())
}

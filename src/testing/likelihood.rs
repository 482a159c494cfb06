//! Conformance check of likelihoods.

use super::differences::compare;
use super::{Failure, ensure};
use crate::likelihood::{Likelihood, Weights};
use crate::{Observations, Real};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Monte Carlo samples for each column of the output in the statistical checks. The tolerance is 6
/// standard errors: a correct likelihood fails by chance about once in 5·10⁸ comparisons of a
/// normal mean.
const DRAWS: usize = 4_000;

/// Checks a likelihood at given data (d×n) and decoder outputs (n columns): that
/// [`data_dim`](crate::likelihood::ConditionalMean::data_dim) of their rows is d; the gradients
/// against central differences, with equal weights and with a weight for each observation; that a
/// missing entry (NaN) is left out of the sums and has the derivative 0; that the sampler's mean
/// equals `mean`; that samples are in the support; and that the score ∂ log p(x|y)/∂y has mean 0
/// under the sampler, which holds if the density is normalised and is that of the sampler.
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
    let rows = output.nrows();
    let variables = likelihood.data_dim(rows)?;
    ensure(variables == d && output.ncols() == n, || {
        format!(
            "a {rows}×{} output is one of {variables} variables, and x is {d}×{n}",
            output.ncols()
        )
    })?;
    // Not 1, so that a gradient that ignores the scale is found.
    let scale = T::of(1.5);
    let mut d_output = DMatrix::zeros(0, 0);
    // NaN, so that an entry that is not overwritten is found.
    let mut d_parameters = vec![T::of(f64::NAN); likelihood.parameters().len()];
    let value = likelihood.log_density_gradient(
        x.values(),
        output.as_view(),
        Weights::Equal(scale),
        &mut d_output,
        &mut d_parameters,
    );
    ensure(d_output.shape() == (rows, n), || {
        format!(
            "the derivative by a {rows}×{n} output is {}×{}",
            d_output.nrows(),
            d_output.ncols()
        )
    })?;
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
        &mut |moved| of(likelihood, &DMatrix::from_column_slice(rows, n, moved)),
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

    check_weights(likelihood, x, output, &densities)?;
    check_missing(likelihood, x, output)?;

    // Sums of first and second moments over the samples, of x − mean and of the score: both should
    // have the mean 0.
    let (mut of_x, mut of_score) = (vec![[0.0f64; 2]; d * n], vec![[0.0f64; 2]; rows * n]);
    let mean = likelihood.mean(output.as_view());
    ensure(mean.shape() == (d, n), || {
        format!("the mean of {d}×{n} data is {}×{}", mean.nrows(), mean.ncols())
    })?;
    let mut unused = vec![T::zero(); likelihood.parameters().len()];
    for _ in 0..DRAWS {
        let drawn = likelihood.sample(output.as_view(), rng);
        likelihood.check_support(Observations::new(drawn.as_view())?)?;
        likelihood.log_density_gradient(
            drawn.as_view(),
            output.as_view(),
            Weights::Equal(T::one()),
            &mut d_output,
            &mut unused,
        );
        let add = |sums: &mut [f64; 2], value: f64| {
            sums[0] += value;
            sums[1] += value * value;
        };
        for (sums, (&x, &mean)) in of_x.iter_mut().zip(drawn.iter().zip(mean.iter())) {
            add(sums, (x - mean).as_f64());
        }
        of_score.iter_mut().zip(d_output.iter()).for_each(|(sums, s)| add(sums, s.as_f64()));
    }
    for (what, moments) in [("x − mean", of_x), ("the score", of_score)] {
        for (entry, [sum, squares]) in moments.into_iter().enumerate() {
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

/// A weight for each observation: the value is the weighted sum, each column of the derivative that
/// with the weight 1 times its own, and a weight of 0 leaves the observation out.
fn check_weights<T: Real, L: Likelihood<T>>(
    likelihood: &L,
    x: Observations<'_, T>,
    output: &DMatrix<T>,
    densities: &DVector<T>,
) -> Result<(), Failure> {
    let n = x.len();
    let each: Vec<T> = (0..n).map(|i| T::of(i as f64 * 0.75)).collect();
    let gradient = |weights: Weights<'_, T>| {
        let mut d_output = DMatrix::zeros(0, 0);
        let mut d_parameters = vec![T::of(f64::NAN); likelihood.parameters().len()];
        let value = likelihood.log_density_gradient(
            x.values(),
            output.as_view(),
            weights,
            &mut d_output,
            &mut d_parameters,
        );
        (value, d_output, d_parameters)
    };
    let (value, d_output, _) = gradient(Weights::Each(&each));
    let terms = densities.iter().zip(&each).map(|(&density, &weight)| weight * density);
    let (sum, size) = terms.fold((T::zero(), T::one()), |(s, a), t| (s + t, a + t.abs()));
    let tolerance = 100.0 * T::EPSILON.as_f64();
    ensure((value - sum).as_f64().abs() <= tolerance * size.as_f64(), || {
        format!("with a weight for each observation the value is {value}, and the sum is {sum}")
    })?;
    let (_, plain, _) = gradient(Weights::Equal(T::one()));
    for (i, &weight) in each.iter().enumerate() {
        let (expected, found) = (plain.column(i) * weight, d_output.column(i));
        let apart = (&expected - found).amax().as_f64();
        ensure(apart <= tolerance * expected.amax().as_f64().max(1e-30), || {
            format!(
                "the derivative of observation {i} with the weight {weight} is off by {apart:e}"
            )
        })?;
    }
    // The parameters' derivatives are sums over the observations.
    let (_, _, all) = gradient(Weights::Each(&vec![T::of(1.5); n]));
    let (_, _, equal) = gradient(Weights::Equal(T::of(1.5)));
    for (j, (all, equal)) in all.iter().zip(&equal).enumerate() {
        let size = equal.abs().as_f64().max(T::of_usize(x.values().len()).as_f64());
        ensure((*all - *equal).as_f64().abs() <= tolerance * size, || {
            format!(
                "the derivative by parameter {j} is {all} with equal weights in a list, {equal} without"
            )
        })?;
    }
    Ok(())
}

/// Missing entries (NaN): with every second entry of x removed, and with the others removed, the
/// log-densities and the derivatives add up to those of complete data, also with weights; without
/// any entry the log-density is 0.
///
/// (This holds for likelihoods whose variables are independent given the output.)
fn check_missing<T: Real, L: Likelihood<T>>(
    likelihood: &L,
    x: Observations<'_, T>,
    output: &DMatrix<T>,
) -> Result<(), Failure> {
    let n = x.len();
    let each: Vec<T> = (0..n).map(|i| T::of(0.5 + i as f64)).collect();
    let of = |x: &DMatrix<T>| {
        let mut d_output = DMatrix::zeros(0, 0);
        let mut d_parameters = vec![T::of(f64::NAN); likelihood.parameters().len()];
        let value = likelihood.log_density_gradient(
            x.as_view(),
            output.as_view(),
            Weights::Each(&each),
            &mut d_output,
            &mut d_parameters,
        );
        let densities = likelihood.log_density(x.as_view(), output.as_view());
        let sums = d_parameters.into_iter().chain([value]).chain(densities.iter().copied());
        sums.chain(d_output.iter().copied()).map(|v| v.as_f64()).collect::<Vec<f64>>()
    };
    let keep = |parity: usize| {
        DMatrix::from_fn(x.values().nrows(), n, |j, i| {
            if (i + j) % 2 == parity { x.values()[(j, i)] } else { T::of(f64::NAN) }
        })
    };
    let (all, even, odd) = (of(&x.values().into_owned()), of(&keep(0)), of(&keep(1)));
    let largest = all.iter().fold(1.0f64, |a, v| a.max(v.abs()));
    for (at, ((all, even), odd)) in all.iter().zip(&even).zip(&odd).enumerate() {
        // Not `>`: NaN is a failure too.
        let close = (all - even - odd).abs() <= 1000.0 * T::EPSILON.as_f64() * largest;
        ensure(close, || {
            format!(
                "with every second entry missing, number {at} (derivatives by the parameters, the \
                 value, the log-densities, derivatives by the output) is {even}, with the others \
                 missing {odd}, and {all} without missing entries"
            )
        })?;
    }
    let none = of(&keep(2));
    ensure(none.iter().all(|v| *v == 0.0), || {
        "without an observed entry a log-density or a derivative is not 0".to_owned()
    })
}

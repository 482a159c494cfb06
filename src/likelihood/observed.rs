//! Gaussian noise over the observed entries of incomplete data.

use super::Weights;
use super::entries::{Entries, Entry, Entrywise, finite, sum_of_entries, sum_over_observations};
use super::gaussian::gaussian_entry;
use super::gaussian_noise::log_two_pi_times;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// Gaussian noise with given variances: the loop over entries that leaves out missing ones.
///
/// The likelihoods with Gaussian noise use it where a sum has come out NaN. Complete data therefore
/// keep their own loops.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Noise;

impl Entrywise<3, 1> for Noise {
    fn slots(&self) -> [Option<usize>; 1] {
        [Some(0)]
    }

    fn constants(&self, variance: impl Fn(usize) -> f64) -> [f64; 3] {
        let variance = variance(0);
        // The derivative is by ln σ²: half of that by ln σ.
        [1.0 / variance.sqrt(), -0.5 * log_two_pi_times(variance), 0.5]
    }

    #[inline(always)]
    fn entry(x: f64, y: f64, _: f64, constants: [f64; 3]) -> Entry<1> {
        gaussian_entry(x, y, constants)
    }
}

/// The constants of the loop for variables with these variances: the first of all variables, then
/// the second.
pub(super) fn constants<T: Real>(variances: impl Iterator<Item = T>) -> Vec<f64> {
    let of_variance = |v: T| Entrywise::constants(&Noise, |_| v.as_f64());
    let each: Vec<[f64; 3]> = variances.map(of_variance).collect();
    (0..3).flat_map(|c| each.iter().map(move |own| own[c])).collect()
}

/// The log-density of the entries of one observation that are not missing.
pub(super) fn log_density<T: Real>(x: &[T], y: &[T], constants: &[f64]) -> T {
    let entries = Entries { x, y, parameters: &[], constants, gradient: None };
    finite(sum_of_entries::<T, Noise, 3, 1>(&Noise, entries))
}

/// The weighted log-density of the entries that are not missing with its derivatives by the output,
/// and the derivative by the logarithm of each variance.
pub(super) fn gradient<T: Real>(
    x: DMatrixView<'_, T>,
    output: DMatrixView<'_, T>,
    weights: Weights<'_, T>,
    d_output: &mut DMatrix<T>,
    constants: &[f64],
) -> (T, Vec<f64>) {
    let count = x.nrows();
    let sums =
        sum_over_observations(x.shape(), weights, d_output, count, &|i, (): &mut (), gradient| {
            let (x, y) = (x.column(i), output.column(i));
            let (x, y, gradient) = (x.as_slice(), y.as_slice(), Some(gradient));
            let entries = Entries { x, y, parameters: &[], constants, gradient };
            sum_of_entries::<T, Noise, 3, 1>(&Noise, entries)
        });
    (finite(sums.value), sums.d_parameters)
}

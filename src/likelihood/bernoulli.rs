//! Bernoulli likelihood for binary variables, parametrised by logits.

use super::entries::{Entries, any_missing, finite, sum_of_entries, sum_over_observations};
use super::{ConditionalMean, Likelihood, Weights, is_nan};
use crate::linalg::parallel::sum_over;
use crate::linalg::reshape;
use crate::linalg::vector::vectorized;
use crate::map::Parameters;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, RngExt};

/// Bernoulli likelihood: x_j|y_j ~ Bernoulli(sigmoid(y_j)), independent given the logits y. Entries
/// of x are in [0, 1]; a value between 0 and 1 counts as a fraction of ones.
///
/// ```math
/// \log p(x|y) = \sum_j x_j y_j - \ln(1+e^{y_j})
/// ```
///
/// The log-density is computed from the logits, so that it neither overflows nor needs the
/// probabilities to be clipped. It is also a [`Univariate`](super::Univariate) distribution, for
/// tables with variables of several kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bernoulli;

/// Number of partial sums, added in parallel (SIMD lanes). 32 or 64 were not faster
/// (docs/performance.md).
const LANES: usize = 16;

/// One term x y − ln(1 + e^y) of the log-density, computed by the same operations as in the
/// gradient, so that both give bit-identical terms.
#[inline(always)]
fn term<T: Real>(x: T, y: T) -> T {
    x * y - y.softplus_and_sigmoid_from_exp(y.exp_neg_abs()).0
}

/// The log-density of one observation: Σ x y − ln(1 + e^y) over a column.
#[inline(always)]
fn log_density_of<T: Real>(x: &[T], y: &[T]) -> T {
    // Entry l goes to partial sum l mod LANES, the remainder included: the order in which
    // `gradient_of` sums.
    let mut sums = [T::zero(); LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for ((&x, &y), sum) in x.iter().zip(y).zip(&mut sums) {
            *sum += term(x, y);
        }
    }
    for ((&x, &y), sum) in x_rest.iter().zip(y_rest).zip(&mut sums) {
        *sum += term(x, y);
    }
    total_of(sums)
}

/// The sum of partial sums, in their order.
#[inline(always)]
fn total_of<T: Real>(sums: [T; LANES]) -> T {
    sums.into_iter().fold(T::zero(), |total, sum| total + sum)
}

/// Cost of one entry, in multiply-adds: an exponential, a logarithm and a division. It decides from
/// which size on a batch is worth a second thread.
const WORK: usize = 32;

/// Block length for loop fission: within a block all exponentials are computed first, then the
/// rest. It takes 0.42 ns per entry in place of 0.64 (docs/performance.md), probably because the
/// operations of an entry depend on each other, and more entries of a shorter loop body fit into a
/// processor's reorder window.
const BLOCK: usize = 4 * LANES;

/// Computes the gradient of one observation, d ← scale·(x − sigmoid y), and adds the terms x y −
/// ln(1 + e^y) to the partial sums. One exponential serves both functions.
#[inline(always)]
fn gradient_of<T: Real>(x: &[T], y: &[T], scale: T, d: &mut [T], sums: &mut [T; LANES]) {
    let ((x, x_rest), (y, y_rest), (d, d_rest)) =
        (x.as_chunks::<BLOCK>(), y.as_chunks::<BLOCK>(), d.as_chunks_mut::<BLOCK>());
    for ((x, y), d) in x.iter().zip(y).zip(d) {
        gradient_of_some(x, y, scale, d, sums);
    }
    // The remainder in chunks of LANES entries, then entry by entry. Entry l goes to sum l mod
    // LANES in all three loops.
    let ((x, x_rest), (y, y_rest), (d, d_rest)) =
        (x_rest.as_chunks::<LANES>(), y_rest.as_chunks::<LANES>(), d_rest.as_chunks_mut::<LANES>());
    for ((x, y), d) in x.iter().zip(y).zip(d) {
        gradient_of_some(x, y, scale, d, sums);
    }
    for (((x, y), d), sum) in x_rest.iter().zip(y_rest).zip(d_rest).zip(sums) {
        gradient_of_some(&[*x], &[*y], scale, std::array::from_mut(d), std::array::from_mut(sum));
    }
}

/// [`gradient_of`] for N entries with M partial sums. It works on arrays by value: there is no
/// aliasing to disprove, so that LLVM vectorises the loops.
#[inline(always)]
fn gradient_of_some<T: Real, const N: usize, const M: usize>(
    x: &[T; N],
    y: &[T; N],
    scale: T,
    d: &mut [T; N],
    sums: &mut [T; M],
) {
    let (x, y) = (*x, *y);
    // First loop: the exponentials. Second loop: everything else. The compiler does not split a
    // loop by itself.
    let mut powers = y;
    for i in 0..N {
        powers[i] = y[i].exp_neg_abs();
    }
    let (mut terms, mut values) = (x, x);
    for i in 0..N {
        let (softplus, sigmoid) = y[i].softplus_and_sigmoid_from_exp(powers[i]);
        // Flushed, because `scale` may be small: a weight, or 1/n.
        values[i] = (scale * (x[i] - sigmoid)).flushed();
        terms[i] = x[i] * y[i] - softplus;
    }
    // The stores come after the loop, so that the loop itself works on registers.
    *d = values;
    for terms in terms.chunks_exact(M) {
        for l in 0..M {
            sums[l] += terms[l];
        }
    }
}

impl Bernoulli {
    /// The log-density of the entries of one observation that are not missing.
    fn sum_of_observed<T: Real>(&self, x: &[T], y: &[T]) -> f64 {
        let entries = Entries { x, y, parameters: &[], constants: &[], gradient: None };
        sum_of_entries::<T, Self, 0, 0>(self, entries)
    }

    /// [`log_density_gradient`](Likelihood::log_density_gradient) without the missing entries.
    fn gradient_of_observed<T: Real>(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
    ) -> T {
        let sums =
            sum_over_observations(x.shape(), weights, d_output, 0, &|i, (): &mut (), gradient| {
                let (x, y) = (x.column(i), output.column(i));
                let (x, y, gradient) = (x.as_slice(), y.as_slice(), Some(gradient));
                let entries = Entries { x, y, parameters: &[], constants: &[], gradient };
                sum_of_entries::<T, Self, 0, 0>(self, entries)
            });
        finite(sums.value)
    }
}

impl<T: Real> Parameters<T> for Bernoulli {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

impl<T: Real> ConditionalMean<T> for Bernoulli {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.map(T::quick_sigmoid)
    }
}

impl<T: Real> Likelihood<T> for Bernoulli {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        DVector::from_fn(x.ncols(), |i, _| {
            let (x, y) = (x.column(i), output.column(i));
            let (x, y) = (x.as_slice(), y.as_slice());
            let density = vectorized(
                #[inline(always)]
                || log_density_of(x, y),
            );
            // A missing entry makes the sum NaN; complete data are not searched for one.
            if is_nan(density) { finite(self.sum_of_observed(x, y)) } else { density }
        })
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        _d_parameters: &mut [T],
    ) -> T {
        reshape(d_output, x.nrows(), x.ncols());
        let d = x.nrows().max(1);
        let (scale, each) = weights.common();
        // Whole observations per chunk, about 4096 entries: a chunk boundary depends on d alone, so
        // that the tree of sums does not depend on the number of threads.
        let piece = d * (1usize << 12).div_ceil(d);
        // `sum_over` adds the chunks in a fixed binary tree: bit-identical results for any number
        // of threads, without an allocation.
        let total =
            sum_over(d_output.as_mut_slice(), piece, WORK * x.len(), &|first, part: &mut [T]| {
                vectorized(
                    #[inline(always)]
                    || {
                        let mut sums = [T::zero(); LANES];
                        let mut weighted = T::zero();
                        for (i, d_column) in (first / d..).zip(part.chunks_exact_mut(d)) {
                            let (x, y) = (x.column(i), output.column(i));
                            let (x, y) = (x.as_slice(), y.as_slice());
                            match each {
                                None => gradient_of(x, y, scale, d_column, &mut sums),
                                Some(each) => {
                                    let mut own = [T::zero(); LANES];
                                    gradient_of(x, y, each[i], d_column, &mut own);
                                    weighted += each[i] * total_of(own);
                                }
                            }
                        }
                        weighted + total_of(sums)
                    },
                )
            });
        if is_nan(total) && any_missing(&x) {
            return self.gradient_of_observed(x, output, weights, d_output);
        }
        scale * total
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        // Sampled in double precision for both scalar types: f32 and f64 consume the generator
        // alike.
        output.map(|y| {
            if T::of(rng.random::<f64>()) < y.quick_sigmoid() { T::one() } else { T::zero() }
        })
    }

    fn check_support(&self, x: Observations<'_, T>) -> Result<()> {
        for (column, observation) in x.values().column_iter().enumerate() {
            if let Some(row) = observation.iter().position(|&v| v < T::zero() || v > T::one()) {
                return Err(Error::OutsideSupport {
                    row,
                    column,
                    value: observation[row].as_f64(),
                    support: "[0, 1]",
                });
            }
        }
        Ok(())
    }
}

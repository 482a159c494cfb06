//! Matrix products of an affine layer: forward, backward to the input, and the gradient by the
//! weights. The columns of the weights are split into two halves.
//!
//! Each half is contiguous in memory. With several threads the same thread processes the same half
//! in all three products (and nearly so in the optimiser's step), so that the weights stay in its
//! cache: a VAE step of batch 20 took 268 µs in place of 292. The split depends on the sizes alone,
//! and therefore results are bit-identical for any number of threads.
//!
//! Tried and rejected: one strip of the batch per thread through all layers, with one fork per pass
//! instead of one per layer (no gain).

use super::Activation;
use crate::Real;
use crate::linalg::parallel::{Divisible, for_each_part, join, threads};
use crate::linalg::{Operand, gemm_with_max_threads, vector::vectorized};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// A layer with fewer weights is not split.
const UNCUT: usize = 1 << 12;
/// The split is at a multiple of this number of columns, which is near the middle and at the end of
/// a tile of the matrix kernels. A multiple of 16 (208 of 400 columns) was 1 % slower.
const TILE: usize = 8;
/// Outputs per chunk of the pass that adds the bias and applies the activation.
const OUTPUTS: usize = 1 << 12;

/// The number of columns in the first half; all of them in a layer that is not split.
fn cut(outputs: usize, inputs: usize) -> usize {
    if inputs * outputs < UNCUT {
        inputs
    } else {
        inputs.div_ceil(2).next_multiple_of(TILE).min(inputs)
    }
}

/// The number of threads for each half: half of those that `work` justifies, or `None` for a single
/// thread.
fn each(work: usize) -> Option<usize> {
    let all = threads(work);
    (all > 1).then_some(all.div_ceil(2))
}

/// Forward pass: output ← f(W·input + bias), and slope ← f′ unless `slope` is empty. `spare` is a
/// buffer of the size of the output, for the product of the second half.
pub(super) fn forth<T: Real>(
    (weights, bias): (DMatrixView<'_, T>, &[T]),
    activation: Activation,
    input: DMatrixView<'_, T>,
    output: &mut DMatrix<T>,
    slope: &mut [T],
    spare: &mut DMatrix<T>,
) {
    let ((outputs, inputs), n) = (weights.shape(), input.ncols());
    let (cut, work) = (cut(outputs, inputs), inputs * outputs * n);
    let first = (weights.columns(0, cut), input.rows(0, cut));
    let second = (weights.columns(cut, inputs - cut), input.rows(cut, inputs - cut));
    let product = |most, (a, b): (DMatrixView<'_, T>, DMatrixView<'_, T>), c: &mut DMatrix<T>| {
        gemm_with_max_threads(most, T::one(), a.into(), b.into(), T::zero(), c.into());
    };
    // The products of the two halves are formed separately and added once, on one thread as well:
    // accumulated into one matrix, the sums would have another order, and their last bits would
    // depend on the number of threads.
    let beside = match each(work) {
        _ if cut == inputs => {
            product(usize::MAX, first, output);
            &[]
        }
        Some(each) => {
            join(|| product(each, first, output), || product(each, second, spare));
            spare.as_slice()
        }
        None => {
            product(usize::MAX, first, output);
            product(usize::MAX, second, spare);
            spare.as_slice()
        }
    };
    let columns = Outputs { values: output.as_mut_slice(), slopes: slope };
    for_each_part(
        columns,
        outputs * OUTPUTS.div_ceil(outputs),
        4 * outputs * n,
        &|start, part: Outputs<'_, T>| {
            let more = beside.get(start..start + part.values.len()).unwrap_or(&[]);
            if part.slopes.is_empty() {
                // The sum of the halves is fused with the activation: one pass over the outputs.
                activation.add_bias_and_apply(part.values, more, bias);
            } else {
                add(part.values, more);
                activation.add_bias_and_apply_with_slope(part.values, part.slopes, bias);
            }
        },
    );
}

/// Backward pass to the input: d_input ← Wᵗ·delta. The halves of W's columns give disjoint rows.
pub(super) fn back<T: Real>(
    weights: DMatrixView<'_, T>,
    delta: DMatrixView<'_, T>,
    d_input: &mut DMatrix<T>,
) {
    let ((outputs, inputs), n) = (weights.shape(), delta.ncols());
    let cut = cut(outputs, inputs);
    let product = |most, first: usize, count: usize, c: DMatrixViewMut<'_, T>| {
        gemm_with_max_threads(
            most,
            T::one(),
            Operand::from(weights.columns(first, count)).transposed(),
            delta.into(),
            T::zero(),
            c.into(),
        );
    };
    match each(inputs * outputs * n).filter(|_| cut < inputs) {
        Some(each) => {
            let (top, bottom) = d_input.rows_range_pair_mut(..cut, cut..);
            join(|| product(each, 0, cut, top), || product(each, cut, inputs - cut, bottom));
        }
        None => product(usize::MAX, 0, inputs, d_input.as_view_mut()),
    }
}

/// Gradient by the weights: d_weights ← delta·inputᵗ, by columns in one slice. The halves give
/// disjoint columns.
pub(super) fn by_weights<T: Real>(
    delta: DMatrixView<'_, T>,
    input: DMatrixView<'_, T>,
    d_weights: &mut [T],
) {
    let ((outputs, n), inputs) = (delta.shape(), input.nrows());
    let cut = cut(outputs, inputs);
    let product = |most, first: usize, d_weights: &mut [T]| {
        let count = d_weights.len() / outputs;
        let input = Operand::from(input.rows(first, count)).transposed();
        gemm_with_max_threads(
            most,
            T::one(),
            delta.into(),
            input,
            T::zero(),
            DMatrixViewMut::from_slice(d_weights, outputs, count).into(),
        );
    };
    match each(inputs * outputs * n).filter(|_| cut < inputs) {
        Some(each) => {
            let (left, right) = d_weights.split_at_mut(outputs * cut);
            join(|| product(each, 0, left), || product(each, cut, right));
        }
        None => product(usize::MAX, 0, d_weights),
    }
}

/// Adds `more` to `values`, entry by entry.
fn add<T: Real>(values: &mut [T], more: &[T]) {
    vectorized(
        #[inline(always)]
        || {
            for (value, &more) in values.iter_mut().zip(more) {
                *value += more;
            }
        },
    );
}

/// The outputs of a layer and their slopes (empty unless they are stored), split together.
struct Outputs<'a, T> {
    values: &'a mut [T],
    slopes: &'a mut [T],
}

impl<T: Send> Divisible for Outputs<'_, T> {
    fn entries(&self) -> usize {
        self.values.len()
    }
    fn divide(self, at: usize) -> (Self, Self) {
        let (left, right) = self.values.split_at_mut(at);
        // Slopes that are not stored are an empty slice, in both parts.
        let (slopes_left, slopes_right) = self.slopes.split_at_mut(at.min(self.slopes.len()));
        (Self { values: left, slopes: slopes_left }, Self { values: right, slopes: slopes_right })
    }
}

//! The products of an affine layer, its weights in two halves of columns: forth, back, and the
//! derivative by the weights.
//!
//! Each half is one piece of memory, and where there are threads the same one has it in all three
//! products (and nearly so in an optimiser's step), so that weights stay in that thread's cache.
//! The cut depends on the sizes alone, and so do the bits.

use super::Activation;
use crate::Real;
use crate::linalg::parallel::{Halves, for_each_part, join, threads};
use crate::linalg::{Operand, gemm_among, vector::vectorized};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// Weights fewer than these are not cut.
const UNCUT: usize = 1 << 12;
/// The cut is at a multiple of this: as near to the middle as tiles of the matrix kernels end.
const TILE: usize = 8;
/// Outputs that are finished at a time.
const OUTPUTS: usize = 1 << 12;

/// The columns of the first half.
fn cut(outputs: usize, inputs: usize) -> usize {
    if inputs * outputs < UNCUT {
        inputs
    } else {
        inputs.div_ceil(2).next_multiple_of(TILE).min(inputs)
    }
}

/// Half of the threads that `work` deserves for each half; `None` if that is one altogether.
fn each(work: usize) -> Option<usize> {
    let all = threads(work);
    (all > 1).then_some(all.div_ceil(2))
}

/// output ← f(W·input + bias), with f′ beside it where `slope` is not empty; `spare` is room of the
/// output's size.
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
        gemm_among(most, T::one(), a.into(), b.into(), T::zero(), c.into());
    };
    // On one thread as well the second half is added as a whole: product by product, the sums would
    // be in another order.
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
                activation.add_bias_and_apply(part.values, more, bias);
            } else {
                add(part.values, more);
                activation.add_bias_and_apply_with_slope(part.values, part.slopes, bias);
            }
        },
    );
}

/// d_input ← Wᵗ·delta.
pub(super) fn back<T: Real>(
    weights: DMatrixView<'_, T>,
    delta: DMatrixView<'_, T>,
    d_input: &mut DMatrix<T>,
) {
    let ((outputs, inputs), n) = (weights.shape(), delta.ncols());
    let cut = cut(outputs, inputs);
    let product = |most, first: usize, count: usize, c: DMatrixViewMut<'_, T>| {
        gemm_among(
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

/// d_weights ← delta·inputᵗ, by columns in one slice.
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
        gemm_among(
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

/// Outputs and, if they are kept, their slopes.
struct Outputs<'a, T> {
    values: &'a mut [T],
    slopes: &'a mut [T],
}

impl<T: Send> Halves for Outputs<'_, T> {
    fn size(&self) -> usize {
        self.values.len()
    }
    fn halve(self, at: usize) -> (Self, Self) {
        let (left, right) = self.values.split_at_mut(at);
        let (slopes_left, slopes_right) = self.slopes.split_at_mut(at.min(self.slopes.len()));
        (Self { values: left, slopes: slopes_left }, Self { values: right, slopes: slopes_right })
    }
}

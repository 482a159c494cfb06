//! Cholesky factors of small matrices, and triangular solves with a small factor: the blocks at
//! which the recursions of `cholesky` stop.
//!
//! Each loop works on whole SIMD blocks of [`LANES`] numbers, and is compiled for each instruction
//! set. No operation is fused, so that results are bit-identical on all levels.

use super::kernel::vector::with_widest_simd;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// Right-hand sides that are solved side by side, one in each SIMD lane.
// One AVX-512 register of f64, two with AVX2, four with NEON.
pub(super) const LANES: usize = 8;
/// The largest matrix that is factored or solved without matrix products.
// A factor of 32 × 32 numbers of f64 is 8 KiB, and leaves three quarters of an L1 cache of 32 KiB
// to the right-hand sides. Products with fewer inner terms would be dominated by their packing.
pub(super) const SMALL: usize = 32;

/// SIMD blocks of a column of `SMALL` entries.
const BLOCKS: usize = SMALL / LANES;

/// A lower triangle of up to [`SMALL`] rows, whose columns have room for `SMALL` entries.
type Triangle<T> = [[[T; LANES]; BLOCKS]; SMALL];

/// Copies entries in whole SIMD blocks as far as they reach, and adds 0·x_i to `zeros`: the sums
/// stay 0 if all entries are finite, and become NaN otherwise.
// A call of `memcpy` for each column would take longer than the copy, and a single sum would wait
// for the latency of each addition.
#[inline(always)]
fn copy<T: Real, const L: usize>(to: &mut [T], from: &[T], zeros: &mut [T; L]) {
    let ((whole, rest), (to, to_rest)) = (from.as_chunks::<L>(), to.as_chunks_mut::<L>());
    for (to, from) in to.iter_mut().zip(whole) {
        *to = *from;
        *zeros = less(*zeros, T::zero(), *from);
    }
    // The destination may be longer: then the rest goes into a whole block of it.
    let to_rest = to.get_mut(whole.len()).map_or(to_rest, |block| &mut block[..]);
    for ((to, from), zero) in to_rest.iter_mut().zip(rest).zip(zeros) {
        *to = *from;
        *zero -= T::zero() * *from;
    }
}

/// x − factor·y.
// By value: there is no aliasing to disprove, and the compiler makes SIMD instructions of the loop.
#[inline(always)]
fn less<T: Real, const L: usize>(mut x: [T; L], factor: T, y: [T; L]) -> [T; L] {
    for l in 0..L {
        x[l] -= factor * y[l];
    }
    x
}

/// factor·x.
#[inline(always)]
fn times<T: Real, const L: usize>(mut x: [T; L], factor: T) -> [T; L] {
    for x in &mut x {
        *x *= factor;
    }
    x
}

/// Overwrites the lower triangle of a padded n×n matrix by its Cholesky factor; `false` where a
/// pivot is not positive or not finite. Entries above the diagonal are unspecified afterwards.
///
/// Right-looking (Golub & Van Loan, section 4.2.5): column j is subtracted from all later columns
/// as soon as it is known. A column has `B` SIMD blocks of `L` numbers.
// Whole columns are subtracted, so that loops over entries have a constant length. A loop from each
// diagonal on would have a length that differs from column to column, and end in a branch that is
// mispredicted. What is computed above the diagonal is read by nothing below it.
#[inline(always)]
fn factor_padded<T: Real, const B: usize, const L: usize>(n: usize, a: &mut [[[T; L]; B]]) -> bool {
    for j in 0..n {
        let pivot = a[j][j / L][j % L];
        if pivot <= T::zero() || !pivot.is_finite() {
            return false;
        }
        // A product with the reciprocal, as in LAPACK's `potf2`: a division would add its latency
        // to every step. The root of the smallest number of T is 1e-162, or 1e-23 in f32, so that
        // the reciprocal does not overflow.
        let root = pivot.sqrt();
        let reciprocal = T::one() / root;
        let column = a[j].map(|block| times(block, reciprocal));
        a[j] = column;
        a[j][j / L][j % L] = root;
        for c in j + 1..n {
            let factor = a[j][c / L][c % L];
            let next = &mut a[c];
            for (to, from) in next.iter_mut().zip(column) {
                *to = less(*to, factor, from);
            }
        }
    }
    true
}

/// The Cholesky factor of a matrix of at most P = B·L rows.
///
/// `None` where an entry of the matrix or of the factor is not finite, or a pivot is not positive.
#[inline(always)]
fn factor_in<T: Real, const P: usize, const B: usize, const L: usize>(
    a: DMatrixView<'_, T>,
) -> Option<DMatrix<T>> {
    let n = a.nrows();
    let mut room = [[[T::zero(); L]; B]; P];
    let mut zeros = [T::zero(); L];
    for (j, to) in room.iter_mut().enumerate().take(n) {
        copy(to.as_flattened_mut(), a.column(j).data.into_slice(), &mut zeros);
    }
    let finite = |zeros: &[T; L]| zeros.iter().all(|zero| *zero == T::zero());
    if !finite(&zeros) || !factor_padded::<T, B, L>(n, &mut room) {
        return None;
    }
    let mut factor = DMatrix::zeros(n, n);
    for (j, (to, from)) in factor.as_mut_slice().chunks_exact_mut(n).zip(&mut room).enumerate() {
        let from = from.as_flattened_mut();
        for above in &mut from[..j] {
            *above = T::zero();
        }
        copy(to, &from[..n], &mut zeros);
    }
    finite(&zeros).then_some(factor)
}

/// The largest matrix that is factored by plain loops over single entries.
// With at most 8 rows they take less time than to copy the matrix into whole SIMD blocks and back.
const TINY: usize = 8;

/// [`cholesky_small`] for at most [`TINY`] rows.
fn cholesky_tiny<T: Real>(a: DMatrixView<'_, T>) -> Option<DMatrix<T>> {
    let n = a.nrows();
    let mut factor = DMatrix::zeros(n, n);
    let l = factor.as_mut_slice();
    let mut zero = T::zero();
    for (to, j) in l.chunks_exact_mut(n).zip(0..n) {
        let from = a.column(j).data.into_slice();
        for (i, (to, from)) in to.iter_mut().zip(from).enumerate() {
            zero += T::zero() * *from;
            *to = if i >= j { *from } else { T::zero() };
        }
    }
    for j in 0..n {
        let (left, right) = l.split_at_mut((j + 1) * n);
        let column = &mut left[j * n..];
        let pivot = column[j];
        if pivot <= T::zero() || !pivot.is_finite() {
            return None;
        }
        let root = pivot.sqrt();
        column[j] = root;
        let reciprocal = T::one() / root;
        for entry in &mut column[j + 1..] {
            *entry *= reciprocal;
            zero += T::zero() * *entry;
        }
        for (c, next) in right.chunks_exact_mut(n).enumerate() {
            let c = j + 1 + c;
            let factor = column[c];
            for (to, from) in next[c..].iter_mut().zip(&column[c..]) {
                *to -= factor * *from;
            }
        }
    }
    (zero == T::zero()).then_some(factor)
}

/// The Cholesky factor of a square matrix of 1 to [`SMALL`] rows, with zeros above the diagonal.
///
/// `None` where an entry of the matrix or of the factor is not finite, or a pivot is not positive.
pub(super) fn cholesky_small<T: Real>(a: DMatrixView<'_, T>) -> Option<DMatrix<T>> {
    if a.nrows() <= TINY {
        return cholesky_tiny(a);
    }
    // Columns of the next multiple of 8 entries: the loops over a column then have a constant
    // length, and are unrolled.
    with_widest_simd(
        #[inline(always)]
        || match a.nrows() {
            9..=16 => factor_in::<T, 16, 2, LANES>(a),
            17..=24 => factor_in::<T, 24, 3, LANES>(a),
            _ => factor_in::<T, SMALL, BLOCKS, LANES>(a),
        },
    )
}

/// Factors columns `first`..`end` of a matrix, at most [`SMALL`] of them, over all rows from the
/// diagonal down; `false` where a pivot is not positive or not finite.
pub(super) fn factor_panel<T: Real>(a: &mut DMatrix<T>, first: usize, end: usize) -> bool {
    with_widest_simd(
        #[inline(always)]
        || {
            let (d, n) = (a.nrows(), end - first);
            let mut triangle: Triangle<T> = [[[T::zero(); LANES]; BLOCKS]; SMALL];
            let columns = &mut a.as_mut_slice()[first * d..end * d];
            let mut unused = [T::zero(); LANES];
            for (to, column) in triangle.iter_mut().zip(columns.chunks_exact(d)) {
                copy(to.as_flattened_mut(), &column[first..end], &mut unused);
            }
            if !factor_padded::<T, BLOCKS, LANES>(n, &mut triangle) {
                return false;
            }
            for (j, column) in columns.chunks_exact_mut(d).enumerate() {
                column[first + j..end].copy_from_slice(&triangle[j].as_flattened()[j..n]);
            }
            let reciprocals = reciprocals_of(&triangle, n);
            // The rows below: X Lᵗ = A, where each row of X is a system of its own, with factor L.
            let mut room = [[T::zero(); LANES]; SMALL];
            let x = &mut room[..n];
            for from in (end..d).step_by(LANES) {
                let count = LANES.min(d - from);
                for (x, column) in x.iter_mut().zip(columns.chunks_exact(d)) {
                    match column[from..].first_chunk::<LANES>() {
                        Some(entries) => *x = *entries,
                        None => x[..count].copy_from_slice(&column[from..]),
                    }
                }
                forward(&triangle, &reciprocals, x);
                for (x, column) in x.iter().zip(columns.chunks_exact_mut(d)) {
                    match column[from..].first_chunk_mut::<LANES>() {
                        Some(entries) => *entries = *x,
                        None => column[from..].copy_from_slice(&x[..count]),
                    }
                }
            }
            true
        },
    )
}

/// The reciprocals of the first n diagonal entries.
#[inline(always)]
fn reciprocals_of<T: Real>(l: &Triangle<T>, n: usize) -> [T; SMALL] {
    std::array::from_fn(|j| if j < n { T::one() / l[j].as_flattened()[j] } else { T::zero() })
}

/// x ← L⁻¹x for [`LANES`] right-hand sides: entry i of all of them is `x[i]`.
// Four unknowns at a time: entries below are then loaded and stored once for the four of them, and
// the loop is limited by arithmetic and not by stores. Each entry is reduced in the order of the
// unknowns, as one unknown at a time would do.
#[inline(always)]
fn forward<T: Real>(l: &Triangle<T>, reciprocals: &[T; SMALL], x: &mut [[T; LANES]]) {
    let n = x.len();
    let mut first = 0;
    while first < n {
        let count = 4.min(n - first);
        let (solved, below) = x[first..].split_at_mut(count);
        for j in 0..count {
            let (column, at) = (l[first + j].as_flattened(), first + j);
            let (known, rest) = solved.split_at_mut(j + 1);
            let known = &mut known[j];
            *known = times(*known, reciprocals[at]);
            for (i, x) in rest.iter_mut().enumerate() {
                let factor = column[at + 1 + i];
                *x = less(*x, factor, *known);
            }
        }
        // Fewer than four are the last ones: nothing is below them.
        let [a, b, c, d] = match solved {
            [a, b, c, d] => [*a, *b, *c, *d],
            _ => return,
        };
        let columns: [&[T]; 4] =
            std::array::from_fn(|j| &l[first + j].as_flattened()[first + 4..n]);
        for (i, x) in below.iter_mut().enumerate() {
            let f = columns.map(|column| column[i]);
            *x = less(less(less(less(*x, f[0], a), f[1], b), f[2], c), f[3], d);
        }
        first += 4;
    }
}

/// x ← L⁻ᵗx for [`LANES`] right-hand sides: entry i of all of them is `x[i]`.
// As `forward`, from the last unknowns up.
#[inline(always)]
fn backward<T: Real>(l: &Triangle<T>, reciprocals: &[T; SMALL], x: &mut [[T; LANES]]) {
    let mut end = x.len();
    while end > 0 {
        let first = end - 4.min(end);
        let (open, known) = x.split_at_mut(end);
        let open = &mut open[first..];
        if let [a, b, c, d] = open {
            let columns: [&[T]; 4] =
                std::array::from_fn(|j| &l[first + j].as_flattened()[end..end + known.len()]);
            let mut sums = [[T::zero(); LANES]; 4];
            for (i, x) in known.iter().enumerate() {
                for j in 0..4 {
                    let factor = columns[j][i];
                    for lane in 0..LANES {
                        sums[j][lane] += factor * x[lane];
                    }
                }
            }
            for (to, sum) in [a, b, c, d].into_iter().zip(&sums) {
                for lane in 0..LANES {
                    to[lane] -= sum[lane];
                }
            }
        } else {
            // The first rows, fewer than four.
            for (j, to) in open.iter_mut().enumerate() {
                for (factor, x) in l[first + j].as_flattened()[end..].iter().zip(known.iter()) {
                    *to = less(*to, *factor, *x);
                }
            }
        }
        for j in (0..end - first).rev() {
            let (above, solved) = open.split_at_mut(j);
            let known = &mut solved[0];
            *known = times(*known, reciprocals[first + j]);
            for (i, x) in above.iter_mut().enumerate() {
                let factor = l[first + i].as_flattened()[first + j];
                *x = less(*x, factor, *known);
            }
        }
        end = first;
    }
}

/// Overwrites rows `first`..`end` of B, at most [`SMALL`] of them, by the solution with the block
/// of L on the diagonal there, or, if `transposed`, with its transpose.
pub(super) fn solve_small<T: Real>(
    l: &DMatrix<T>,
    first: usize,
    end: usize,
    b: &mut DMatrixViewMut<'_, T>,
    transposed: bool,
) {
    with_widest_simd(
        #[inline(always)]
        || {
            let n = end - first;
            let mut triangle: Triangle<T> = [[[T::zero(); LANES]; BLOCKS]; SMALL];
            let mut unused = [T::zero(); LANES];
            for (j, to) in triangle[..n].iter_mut().enumerate() {
                copy(
                    to.as_flattened_mut(),
                    &l.column(first + j).data.into_slice()[first..end],
                    &mut unused,
                );
            }
            let reciprocals = reciprocals_of(&triangle, n);
            let mut room = [[T::zero(); LANES]; SMALL];
            let m = b.ncols();
            for from in (0..m).step_by(LANES) {
                let count = LANES.min(m - from);
                let x = &mut room[..n];
                // Columns of B into lanes, in squares of 8 × 8, which the compiler transposes in
                // registers.
                for lane in 0..count {
                    let column = &b.column(from + lane).data.into_slice()[first..end];
                    for (x, value) in x.iter_mut().zip(column) {
                        x[lane] = *value;
                    }
                }
                if transposed {
                    backward(&triangle, &reciprocals, x);
                } else {
                    forward(&triangle, &reciprocals, x);
                }
                for lane in 0..count {
                    let mut column = b.column_mut(from + lane);
                    for (value, x) in column.as_mut_slice()[first..end].iter_mut().zip(&*x) {
                        *value = x[lane];
                    }
                }
            }
        },
    );
}

//! Scatter and Gram matrices XXᵗ and XᵗX by blocked symmetric rank-k updates.
//!
//! Data are centred, scaled and weighted panel by panel while the product is formed, without a copy
//! of all data. The order of each sum depends on sizes alone, so that results are bit-identical for
//! any number of threads.

use super::kernel::gemm::{L1_BYTES, Region, gemm_region};
use super::kernel::vector::with_widest_simd;
use super::kernel::{Kernel, Operand, OperandMut, SimdLevel};
use super::parallel::{for_each_chunk, join, map_blocks, map_chunks, threads};
use super::{AlignedVec, zeros};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Unit of panel sizes, in observations (or in variables, for a Gram matrix).
const PANEL: usize = 1024;
/// Largest number of variables for which blocks of observations have a scatter matrix each.
// Such a matrix has at most 288 KiB and stays in the L2 cache of the thread that adds to it. Above
// this size the threads share one matrix and are given strips of its columns.
const NARROW: usize = 192;
/// Largest number of blocks of observations with a scatter matrix each.
// A constant, and not the number of threads: the order of the sums must not depend on the latter.
const BLOCKS: usize = 32;
/// Observations that a task copies and centres, where the threads share one scatter matrix.
const CHUNK: usize = 64;

/// The scatter matrix of the variables, d×d: about `mean` if given, weighted if `weights` are.
///
/// ```math
/// \sum_i w_i (x_i − μ)(x_i − μ)^⊤
/// ```
/// `x` is d×n, `mean` has d entries (0 if `None`), `weights` n (1 if `None`). It is a sum: there is
/// no division by n. One triangle is computed and mirrored. For `f32` data the product of each
/// block of observations is computed in `f32`, and the blocks are summed in `f64`.
///
/// Memory beyond the result: d×d numbers in `f64` (up to 32 times for d ≤ 192; for `f32` data as
/// many in `f32` as well), and copies of at most 2048 observations at a time.
///
/// # Errors
/// [`Error::DimensionMismatch`] when a length disagrees.
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![1.0, 2.0; 0.0, 2.0];
/// let g = elbo::linalg::scatter_matrix(x.as_view(), None, None)?;
/// assert_eq!(g, dmatrix![5.0, 4.0; 4.0, 4.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn scatter_matrix<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
    weights: Option<&DVector<T>>,
) -> Result<DMatrix<T>> {
    check("entries of the mean", x.nrows(), mean)?;
    check("weights", x.ncols(), weights)?;
    let mean = mean.map(wide);
    let moments = scatter_f64(x, mean.as_deref(), weights.map(|w| w.as_slice()), 1.0);
    Ok(moments.map(T::of))
}

/// The Gram matrix of the observations (their inner products), n×n: about `mean` if given.
///
/// ```math
/// G_{ij} = (x_i − μ)^⊤ (x_j − μ)
/// ```
/// `x` is d×n, `mean` has d entries (0 if `None`). Memory beyond the result: n×n numbers in `f64`,
/// and a copy of 1024 variables in `f64` or 2048 in `f32` at a time.
///
/// # Errors
/// [`Error::DimensionMismatch`] when the length of the mean disagrees.
///
/// ```
/// use nalgebra::dmatrix;
/// let x = dmatrix![1.0, 2.0; 0.0, 2.0];
/// let g = elbo::linalg::gram_matrix(x.as_view(), None)?;
/// assert_eq!(g, dmatrix![1.0, 2.0; 2.0, 8.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn gram_matrix<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
) -> Result<DMatrix<T>> {
    check("entries of the mean", x.nrows(), mean)?;
    Ok(gram_f64(x, mean.map(wide).as_deref(), 1.0).map(T::of))
}

fn check<T: Real>(what: &'static str, expected: usize, given: Option<&DVector<T>>) -> Result<()> {
    match given {
        Some(v) if v.len() != expected => {
            Err(Error::DimensionMismatch { what, expected, actual: v.len() })
        }
        _ => Ok(()),
    }
}

/// The entries of a vector in double precision.
pub(crate) fn wide<T: Real>(v: &DVector<T>) -> Vec<f64> {
    v.iter().map(|value| value.as_f64()).collect()
}

/// The scatter matrix Σ w_i s²(x_i − μ)(x_i − μ)ᵗ in double precision.
///
/// The caller chooses the scale s such that squares of `T` do not overflow or underflow.
pub(crate) fn scatter_f64<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&[f64]>,
    weights: Option<&[T]>,
    scale: f64,
) -> DMatrix<f64> {
    Rows { mean, weights, scale, with_sums: false }.moments(x).0
}

/// Parameters of a scatter matrix: the centre, the weights and the scale.
pub(crate) struct Rows<'a, T> {
    pub(crate) mean: Option<&'a [f64]>,
    pub(crate) weights: Option<&'a [T]>,
    pub(crate) scale: f64,
    /// Whether the centred entries and their squares are summed in the same pass.
    pub(crate) with_sums: bool,
}

impl<T: Real> Rows<'_, T> {
    /// The d×d scatter matrix; and, if [`with_sums`](Self::with_sums), the d sums of the centred
    /// entries followed by the d sums of their squares.
    ///
    /// For `f64` the sums of squares stay 0: they are the diagonal of the scatter matrix.
    pub(crate) fn moments(&self, x: DMatrixView<'_, T>) -> (DMatrix<f64>, Vec<f64>) {
        let (d, n) = x.shape();
        let nothing =
            || (zeros(self.stride(d), d), vec![0.0; if self.with_sums { 2 * d } else { 0 }]);
        let (mut moments, sums) = if d > NARROW {
            let mut all = nothing();
            self.add(x, 0, &mut all);
            all
        } else {
            // At least 4d observations a block: its products take 2d³ multiply-adds, beside which
            // the d² additions that merge it are few. A power of 2, so that threads get equal
            // shares.
            let blocks = (n / (4 * d.max(1))).clamp(1, BLOCKS);
            let block = n.div_ceil(1 << blocks.ilog2()).next_multiple_of(8);
            let partial = map_blocks(n.div_ceil(block.max(1)), n * d * d / 2, |b| {
                let (first, count) = (b * block, block.min(n - b * block));
                let mut part = nothing();
                self.add(x.columns(first, count), first, &mut part);
                part
            });
            let both = |(a, mut sums): (DMatrix<f64>, Vec<f64>),
                        (b, more): (DMatrix<f64>, Vec<f64>)| {
                add(&mut sums, &more);
                (a + b, sums)
            };
            partial.into_iter().reduce(both).unwrap_or_else(nothing)
        };
        // The upper triangle of small matrices was computed, in a buffer with padded columns.
        if d <= NARROW {
            moments = moments.view((0, 0), (d, d)).transpose();
        }
        mirror(&mut moments);
        (moments, sums)
    }

    /// Adds the product of a panel to one triangle of the scatter matrix: the lower one in strips
    /// of columns, or, for d ≤ [`NARROW`], the upper one.
    // Register tiles are whole SIMD vectors of rows by a few columns. With d = 50 the last two
    // variables are one narrow column of tiles in the upper triangle. In the lower one they are
    // rows: a vector that is mostly empty for each of the 50 columns.
    fn add_products(
        a: Operand<'_, T>,
        b: Operand<'_, T>,
        moments: &mut DMatrix<f64>,
        ahead: Option<Operand<'_, T>>,
    ) {
        let d = moments.ncols();
        match d > NARROW {
            true => triangle(a, b, moments, ahead),
            // Rows of the panel are padded to whole vectors; of the columns only d are used.
            false => T::accumulate(
                SimdLevel::detect(),
                a,
                b.part(0, 0, b.shape().0, d),
                moments.into(),
                Region::Upper,
                ahead,
            ),
        }
    }

    /// The distance from one copied observation to the next.
    ///
    /// In a small panel it is rounded up to whole vectors of 8, which the kernels read in place,
    /// without packing.
    fn stride(&self, d: usize) -> usize {
        if d > NARROW || self.plain() { d } else { d.next_multiple_of(8) }
    }

    /// Whether the products are of the data themselves, so that no copy is needed.
    fn plain(&self) -> bool {
        self.mean.is_none() && self.weights.is_none() && self.scale == 1.0 && !self.with_sums
    }

    /// Adds the scatter matrix of the observations `x` to a triangle, panel by panel.
    ///
    /// `start` is the index of the first of them in the weights.
    fn add(
        &self,
        x: DMatrixView<'_, T>,
        start: usize,
        (moments, sums): &mut (DMatrix<f64>, Vec<f64>),
    ) {
        let ((d, n), stride) = (x.shape(), self.stride(x.nrows()));
        let panel = self.panel(d);
        if self.plain() {
            for first in (0..n).step_by(panel) {
                let part = x.columns(first, panel.min(n - first));
                Self::add_products(
                    (&part).into(),
                    Operand::from(&part).transposed(),
                    moments,
                    None,
                );
            }
            return;
        }
        let mut centred = AlignedVec::zeros(stride * panel.min(n));
        let mut weighted =
            AlignedVec::zeros(if self.weights.is_some() { centred.len() } else { 0 });
        let mut mean = AlignedVec::zeros(d);
        if let Some(given) = self.mean {
            mean.copy_from_slice(given);
        }
        let mut all_sums = AlignedVec::zeros(sums.len());
        for first in (0..n).step_by(panel) {
            let count = panel.min(n - first);
            let part = x.columns(first, count);
            let len = stride * count;
            if d <= NARROW {
                self.centre(part, &mean, stride, &mut centred[..len], &mut all_sums);
            } else {
                // Centring is limited by memory bandwidth and not by arithmetic. The factor 4 lets
                // a second thread join for smaller panels.
                let partial = map_chunks(
                    &mut centred[..len],
                    stride.max(1) * CHUNK,
                    4 * len,
                    |chunk, piece| {
                        let mut sums = AlignedVec::zeros(sums.len());
                        self.centre(
                            part.columns(chunk * CHUNK, CHUNK.min(count - chunk * CHUNK)),
                            &mean,
                            stride,
                            piece,
                            &mut sums,
                        );
                        sums
                    },
                );
                partial.iter().for_each(|part| add(&mut all_sums, part));
            }
            // Prefetch the next panel only if it is small: the product of a small panel takes less
            // time than the transfer of the next one from memory. The kernels issue the prefetches,
            // a few with every step; all at once, most of them are dropped (docs/performance.md).
            let next = first + count;
            let ahead = (d <= NARROW).then(|| x.columns(next, panel.min(n - next)).into());
            let left = DMatrixView::from_slice(&centred[..len], stride, count);
            let Some(weights) = self.weights else {
                Self::add_products(
                    (&left).into(),
                    Operand::from(&left).transposed(),
                    moments,
                    ahead,
                );
                continue;
            };
            // The weights go into a second copy. Their square roots in the first one would exclude
            // negative weights, and add a rounding.
            for (i, out) in weighted[..len].chunks_exact_mut(stride.max(1)).enumerate() {
                let w = weights[start + first + i];
                out.iter_mut().zip(left.column(i).iter()).for_each(|(o, v)| *o = w * *v);
            }
            let right = DMatrixView::from_slice(&weighted[..len], stride, count);
            Self::add_products((&left).into(), Operand::from(&right).transposed(), moments, ahead);
        }
        add(sums, &all_sums);
    }

    /// The number of observations in one panel.
    fn panel(&self, d: usize) -> usize {
        let single = size_of::<T>() == 4;
        match d {
            // In f32 the product of a panel is formed in a buffer of its own and then added to the
            // sums in f64: large panels make this pass over d² numbers rare.
            _ if d > NARROW && single => 2 * PANEL,
            // 256 observations of f64 are the depth that the blocked product packs at a time. A
            // small panel is still in the cache when its copy is read back.
            _ if d > NARROW || self.plain() => PANEL / 4,
            // As many as the L1 cache holds: 72 for 50 variables in f64. With 16 or 128 in place of
            // 64 the whole took a fifth longer.
            _ => (L1_BYTES / size_of::<T>() / self.stride(d).max(1) / 8 * 8).clamp(32, PANEL),
        }
    }

    /// Writes s(x − μ) to `out`, with the differences in double precision; adds them and their
    /// squares to `sums`, unless it is empty.
    // Tried and slower, for 50 × 1000000 on one thread (docs/performance.md): eight variables at a
    // time over a group of observations, with their sums in registers (119 → 149 ms), as it leaves
    // the order of memory; six vectors and an overlapping seventh in place of the compiler's masked
    // loop (71 → 79 ms).
    fn centre(
        &self,
        x: DMatrixView<'_, T>,
        mean: &[f64],
        stride: usize,
        out: &mut [T],
        sums: &mut [f64],
    ) {
        let scale = self.scale;
        let (first, second) = sums.split_at_mut(sums.len() / 2);
        let columns = x
            .column_iter()
            .map(|column| column.data.into_slice())
            .zip(out.chunks_exact_mut(stride.max(1)));
        // Loops as plain as these are vectorised. With sums and squares side by side in one
        // structure they become gathers: 7 → 18 ms for 784 × 10000.
        with_widest_simd(
            #[inline(always)]
            || match (first.is_empty(), size_of::<T>() == 8) {
                (true, _) => columns.for_each(|(x, out)| {
                    for ((out, x), mean) in out.iter_mut().zip(x).zip(mean) {
                        *out = T::of((x.as_f64() - mean) * scale);
                    }
                }),
                // f64: the diagonal of the scatter matrix is the sum of the same squares. f32: that
                // diagonal is a sum of products in f32, and squares are summed here in f64.
                (false, true) => columns.for_each(|(x, out)| {
                    for (((out, x), mean), sum) in
                        out.iter_mut().zip(x).zip(mean).zip(first.iter_mut())
                    {
                        let deviation = (x.as_f64() - mean) * scale;
                        *out = T::of(deviation);
                        *sum += deviation;
                    }
                }),
                (false, false) => columns.for_each(|(x, out)| {
                    for ((((out, x), mean), sum), square) in
                        out.iter_mut().zip(x).zip(mean).zip(first.iter_mut()).zip(second.iter_mut())
                    {
                        let deviation = (x.as_f64() - mean) * scale;
                        *out = T::of(deviation);
                        *sum += deviation;
                        *square += deviation * deviation;
                    }
                }),
            },
        );
    }
}

fn add(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, part)| *sum += part);
}

/// Writes s(x − μ) to `out`, with the difference in double precision.
pub(crate) fn centre<T: Real>(x: &[T], mean: Option<&[f64]>, scale: f64, out: &mut [T]) {
    with_widest_simd(
        #[inline(always)]
        || match mean {
            Some(mean) => {
                for ((o, v), m) in out.iter_mut().zip(x).zip(mean) {
                    *o = T::of((v.as_f64() - m) * scale);
                }
            }
            None => out.iter_mut().zip(x).for_each(|(o, v)| *o = T::of(v.as_f64() * scale)),
        },
    );
}

/// The Gram matrix s²(x_i − μ)ᵗ(x_j − μ), n×n, in double precision.
pub(crate) fn gram_f64<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&[f64]>,
    scale: f64,
) -> DMatrix<f64> {
    let (d, n) = x.shape();
    let mut sum = zeros(n, n);
    // A panel is rows of X, which are strided: its copy has the same number of bytes in both
    // precisions. As for `Rows::panel`, large panels make the passes over n² sums rare in f32.
    let panel = PANEL * 8 / size_of::<T>();
    let plain = mean.is_none() && scale == 1.0;
    let mut centred = vec![T::zero(); if plain { 0 } else { n * panel.min(d) }];
    for first in (0..d).step_by(panel) {
        let count = panel.min(d - first);
        let part = x.rows(first, count);
        if plain {
            triangle(Operand::from(&part).transposed(), (&part).into(), &mut sum, None);
            continue;
        }
        let len = n * count;
        let mean = mean.map(|m| &m[first..first + count]);
        for_each_chunk(&mut centred[..len], count * 64, len, |chunk, piece| {
            for (i, out) in piece.chunks_exact_mut(count).enumerate() {
                let j = chunk * 64 + i;
                centre(&x.column(j).as_slice()[first..first + count], mean, scale, out);
            }
        });
        let part = DMatrixView::from_slice(&centred[..len], count, n);
        triangle(Operand::from(&part).transposed(), (&part).into(), &mut sum, None);
    }
    mirror(&mut sum);
    sum
}

/// Adds the lower triangle of A·Bᵗ to `sum` (`gemmt`).
///
/// Entries above the diagonal are unspecified afterwards: those in the same register tiles as
/// entries of the triangle are added as well.
pub(crate) fn add_lower(
    a: &DMatrix<f64>,
    b: &DMatrix<f64>,
    sum: nalgebra::DMatrixViewMut<'_, f64>,
) {
    triangle_of(a.into(), Operand::from(b).transposed(), sum.into(), None);
}

/// Adds the lower triangle of A·B to `sum`, and prefetches `ahead` meanwhile.
fn triangle<T: Real>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    sum: &mut DMatrix<f64>,
    ahead: Option<Operand<'_, T>>,
) {
    triangle_of(a, b, sum.into(), ahead);
}

/// Subtracts the lower triangle of A·Bᵗ from C, in the precision of the operands.
///
/// Entries above the diagonal are unspecified afterwards.
pub(super) fn subtract_lower<'a, 'b, 'c, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
    c: impl Into<OperandMut<'c, T>>,
) {
    let (a, b) = (a.into(), b.into().transposed());
    let level = SimdLevel::detect();
    in_strips(a, b, c.into(), None, &|a, b, c, _| {
        gemm_region(level, -T::one(), a, b, T::one(), c, Region::Lower);
    });
}

/// Adds the lower triangle of A·B to `sum`, and prefetches `ahead` meanwhile.
fn triangle_of<T: Real>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    sum: OperandMut<'_, f64>,
    ahead: Option<Operand<'_, T>>,
) {
    let level = SimdLevel::detect();
    in_strips(a, b, sum, ahead, &|a, b, c, ahead| {
        T::accumulate(level, a, b, c, Region::Lower, ahead);
    });
}

/// Updates the lower triangle of C by A·B in strips of columns of equal area: calls `update` with
/// the parts of A, B and C of each strip, and the first time with `ahead`.
// The partition depends on the number of threads, the result does not: the kernels sum each entry
// in the same order whatever part of the matrix they are given.
fn in_strips<T: Real, U: Kernel>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    c: OperandMut<'_, U>,
    ahead: Option<Operand<'_, T>>,
    update: &Update<'_, T, U>,
) {
    let (d, k) = a.shape();
    let strips = threads(d * d / 2 * k).min(d / 48).max(1);
    // Twice as many strips as threads: a thread that is done early takes another one. At most a
    // strip for every 24 columns, which are three tiles of 8.
    let strips = if strips > 1 { 2 * strips } else { 1 };
    // The triangle right of column b has the share (1 − b/d)² of the area: strip s starts where
    // that is 1 − s/strips. Multiples of 8 keep the tiles whole.
    let bound = |s: usize| {
        let left = 1.0 - s as f64 / strips as f64;
        ((d as f64 * (1.0 - left.sqrt())) as usize).next_multiple_of(8).min(d)
    };
    let bounds: Vec<usize> = (0..=strips).map(|s| if s == strips { d } else { bound(s) }).collect();
    strip(a, b, c, &bounds, ahead, update);
}

/// The update of one strip: the parts of A, B and C, and what to prefetch.
type Update<'f, T, U> =
    dyn Fn(Operand<'_, T>, Operand<'_, T>, OperandMut<'_, U>, Option<Operand<'_, T>>) + Sync + 'f;

/// Updates the strips between consecutive `bounds` of columns, each from its diagonal down, in
/// halves.
///
/// `c` is the part of C below and right of entry (b, b), for the first bound b.
fn strip<T: Real, U: Kernel>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    c: OperandMut<'_, U>,
    bounds: &[usize],
    ahead: Option<Operand<'_, T>>,
    update: &Update<'_, T, U>,
) {
    let ((d, k), first) = (a.shape(), bounds[0]);
    if bounds.len() == 2 {
        let columns = bounds[1] - first;
        return update(a.part(first, 0, d - first, k), b.part(0, first, k, columns), c, ahead);
    }
    let half = bounds.len() / 2;
    let (left, right) = c.split_columns(bounds[half] - first);
    let below = right.split_rows(bounds[half] - first).1;
    join(
        || strip(a, b, left, &bounds[..=half], ahead, update),
        || strip(a, b, below, &bounds[half..], None, update),
    );
}

/// Copies the lower triangle onto the upper one.
pub(crate) fn mirror(matrix: &mut DMatrix<f64>) {
    let d = matrix.nrows();
    // One side is read by rows, a cache line an entry. Two blocks of 32 × 32 (8 KiB each) stay in
    // L1, so that each line is used for eight entries.
    for j0 in (0..d).step_by(32) {
        for i0 in (j0..d).step_by(32) {
            for j in j0..(j0 + 32).min(d) {
                for i in i0.max(j + 1)..(i0 + 32).min(d) {
                    matrix[(j, i)] = matrix[(i, j)];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{random, with_threads};

    fn check<T: Real>(d: usize, n: usize, tolerance: f64) {
        let x = random::<T>(d + 1, n, 3);
        let x = x.view((1, 0), (d, n));
        let (mean, weights) = (
            random::<T>(d, 1, 4).column(0).into_owned(),
            random::<T>(n, 1, 5).column(0).into_owned(),
        );
        let exact = x.map(|v| v.as_f64());
        let mut centred = exact.clone();
        centred.column_iter_mut().for_each(|mut c| c -= mean.map(|v| v.as_f64()));
        let mut scaled = centred.clone();
        scaled.column_iter_mut().zip(weights.iter()).for_each(|(mut c, w)| c *= w.as_f64());
        let cases = [
            (scatter_matrix(x, None, None), &exact * exact.transpose()),
            (scatter_matrix(x, Some(&mean), None), &centred * centred.transpose()),
            (scatter_matrix(x, Some(&mean), Some(&weights)), &centred * scaled.transpose()),
            (gram_matrix(x, None), exact.transpose() * &exact),
            (gram_matrix(x, Some(&mean)), centred.transpose() * &centred),
        ];
        for (case, (got, expected)) in cases.into_iter().enumerate() {
            let got = got.unwrap();
            assert_eq!(got, got.transpose());
            let error = (got.map(|v| v.as_f64()) - &expected).amax() / expected.amax().max(1.0);
            assert!(error < tolerance, "case {case} of {d}x{n}: {error:e}");
        }
    }

    #[test]
    fn moments_agree_with_nalgebra() {
        for (d, n) in [(1, 1), (3, 50), (7, 3000), (50, 9), (250, 40), (40, 250), (5, 0), (0, 5)] {
            check::<f64>(d, n, 1e-13);
            check::<f32>(d, n, 1e-6);
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        for (d, n) in [(30, 9000), (300, 1500)] {
            let x = random::<f32>(d, n, 9);
            let run = |t| with_threads(t, || scatter_matrix(x.as_view(), None, None).unwrap());
            assert!(run(1) == run(2) && run(1) == run(3));
        }
    }

    #[test]
    fn lengths_are_checked() {
        let x = random::<f64>(3, 4, 1);
        let short = DVector::zeros(2);
        assert!(matches!(
            scatter_matrix(x.as_view(), Some(&short), None),
            Err(Error::DimensionMismatch { expected: 3, actual: 2, .. })
        ));
        assert!(
            scatter_matrix(x.as_view(), None, Some(&short)).is_err()
                && gram_matrix(x.as_view(), Some(&short)).is_err()
        );
    }
}

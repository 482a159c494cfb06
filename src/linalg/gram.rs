//! Second moments: XXᵗ and XᵗX, centred and weighted while they are formed, in blocks of fixed
//! size.

use super::kernel::gemm::{NEAR_BYTES, Part};
use super::kernel::vector::on_widest;
use super::kernel::{Kernel, Level, Operand, OperandMut};
use super::parallel::{for_each_chunk, join, map_blocks, map_chunks, threads};
use super::{AlignedVec, zeros};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Observations in one packed panel.
const PANEL: usize = 1024;
/// Below this size each thread keeps moments of its own; above it all threads share one.
const NARROW: usize = 192;
/// Blocks of observations that are summed apart when the moments are small.
const BLOCKS: usize = 32;
/// Observations that are copied and centred at a time.
const CHUNK: usize = 64;

/// The matrix of second moments of the variables, about `mean` and weighted if these are given:
/// d×d.
///
/// ```math
/// \sum_i w_i (x_i − μ)(x_i − μ)^⊤
/// ```
/// `x` is d×n, `mean` has d entries, `weights` n. One triangle is computed and mirrored; the memory
/// beyond the result is O(d) times a block of 1024 observations. For `f32` the products of a block
/// are taken in `f32` and summed in `f64`.
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
    let moments = moments_of_rows(x, mean.as_deref(), weights.map(|w| w.as_slice()), 1.0);
    Ok(moments.map(T::of))
}

/// The matrix of inner products of the observations, about `mean` if it is given: n×n.
///
/// ```math
/// G_{ij} = (x_i − μ)^⊤ (x_j − μ)
/// ```
/// `x` is d×n, `mean` has d entries. Memory beyond the result is O(n) times a block of 1024
/// variables.
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
    Ok(moments_of_columns(x, mean.map(wide).as_deref(), 1.0).map(T::of))
}

fn check<T: Real>(what: &'static str, expected: usize, given: Option<&DVector<T>>) -> Result<()> {
    match given {
        Some(v) if v.len() != expected => {
            Err(Error::DimensionMismatch { what, expected, actual: v.len() })
        }
        _ => Ok(()),
    }
}

pub(crate) fn wide<T: Real>(v: &DVector<T>) -> Vec<f64> {
    v.iter().map(|value| value.as_f64()).collect()
}

/// Σ w_i s²(x_i − μ)(x_i − μ)ᵗ in double precision, for a scale s that keeps the squares in range.
pub(crate) fn moments_of_rows<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&[f64]>,
    weights: Option<&[T]>,
    scale: f64,
) -> DMatrix<f64> {
    Rows { mean, weights, scale, with_sums: false }.moments(x).0
}

/// What the moments of the variables are of: deviations from a point, times a scale, with weights.
pub(crate) struct Rows<'a, T> {
    pub(crate) mean: Option<&'a [f64]>,
    pub(crate) weights: Option<&'a [T]>,
    pub(crate) scale: f64,
    /// Whether the deviations and their squares are summed on the way.
    pub(crate) with_sums: bool,
}

impl<T: Real> Rows<'_, T> {
    /// The d×d moments, and the d sums of the deviations followed by the d sums of their squares,
    /// if they are wanted.
    pub(crate) fn moments(&self, x: DMatrixView<'_, T>) -> (DMatrix<f64>, Vec<f64>) {
        let (d, n) = x.shape();
        let nothing =
            || (zeros(self.stride(d), d), vec![0.0; if self.with_sums { 2 * d } else { 0 }]);
        let (mut moments, sums) = if d > NARROW {
            let mut all = nothing();
            self.add(x, 0, &mut all);
            all
        } else {
            // A power of two of them, each with many times the work of adding its moments to the
            // others'.
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
        if d <= NARROW {
            moments = moments.view((0, 0), (d, d)).transpose();
        }
        mirror(&mut moments);
        (moments, sums)
    }

    /// Adds the products of a panel: the lower triangle in strips, or the upper one of small
    /// moments, in which what is beyond the last whole vector of variables makes short rows of
    /// tiles and not a vector for every column.
    fn add_products(
        a: Operand<'_, T>,
        b: Operand<'_, T>,
        moments: &mut DMatrix<f64>,
        ahead: Option<Operand<'_, T>>,
    ) {
        let d = moments.ncols();
        match d > NARROW {
            true => triangle(a, b, moments, ahead),
            // The rows are padded, the columns need not be.
            false => T::accumulate(
                Level::detect(),
                a,
                b.part(0, 0, b.shape().0, d),
                moments.into(),
                Part::Upper,
                ahead,
            ),
        }
    }

    /// From one copied observation to the next: in a small panel whole vectors, which the kernels
    /// read as they lie.
    fn stride(&self, d: usize) -> usize {
        if d > NARROW || self.plain() { d } else { d.next_multiple_of(8) }
    }

    /// Whether the moments are of the data as they are.
    fn plain(&self) -> bool {
        self.mean.is_none() && self.weights.is_none() && self.scale == 1.0 && !self.with_sums
    }

    /// Adds the moments of the observations from `start` on to a triangle, panel by panel.
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
                // A pass over memory: worth a second thread earlier than arithmetic is.
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
            // A small panel is done before the memory would bring the next one.
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
            for (i, out) in weighted[..len].chunks_exact_mut(stride.max(1)).enumerate() {
                let w = weights[start + first + i];
                out.iter_mut().zip(left.column(i).iter()).for_each(|(o, v)| *o = w * *v);
            }
            let right = DMatrixView::from_slice(&weighted[..len], stride, count);
            Self::add_products((&left).into(), Operand::from(&right).transposed(), moments, ahead);
        }
        add(sums, &all_sums);
    }

    /// Observations in one panel. A panel's copy is read back soonest when it is small, and in
    /// single precision each panel costs a pass over the sums.
    fn panel(&self, d: usize) -> usize {
        let single = size_of::<T>() == 4;
        match d {
            _ if d > NARROW && single => 2 * PANEL,
            _ if d > NARROW || self.plain() => PANEL / 4,
            // What the first cache holds.
            _ => (NEAR_BYTES / size_of::<T>() / self.stride(d).max(1) / 8 * 8).clamp(32, PANEL),
        }
    }

    /// out ← s(x − μ), the differences taken in double precision; adds them and their squares to
    /// `sums`, if it has room for them.
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
        // Loops as plain as these become vectors; with sums and squares in one structure they
        // become gathers.
        on_widest(
            #[inline(always)]
            || match (first.is_empty(), size_of::<T>() == 8) {
                (true, _) => columns.for_each(|(x, out)| {
                    for ((out, x), mean) in out.iter_mut().zip(x).zip(mean) {
                        *out = T::of((x.as_f64() - mean) * scale);
                    }
                }),
                // What double precision squares is what it multiplies: the moments' diagonal has it
                // already.
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

/// out ← s(x − μ), the difference taken in double precision.
pub(crate) fn centre<T: Real>(x: &[T], mean: Option<&[f64]>, scale: f64, out: &mut [T]) {
    on_widest(
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

/// s²(x_i − μ)ᵗ(x_j − μ) in double precision.
pub(crate) fn moments_of_columns<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&[f64]>,
    scale: f64,
) -> DMatrix<f64> {
    let (d, n) = x.shape();
    let mut sum = zeros(n, n);
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

/// Adds the lower triangle of A·Bᵗ, and what shares its tiles, to `sum`.
pub(crate) fn add_lower(
    a: &DMatrix<f64>,
    b: &DMatrix<f64>,
    sum: nalgebra::DMatrixViewMut<'_, f64>,
) {
    triangle_of(a.into(), Operand::from(b).transposed(), sum.into(), None);
}

/// Adds A·B to the lower triangle of `sum`, in strips of equal area; what lies `ahead` is asked of
/// memory on the way.
fn triangle<T: Real>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    sum: &mut DMatrix<f64>,
    ahead: Option<Operand<'_, T>>,
) {
    triangle_of(a, b, sum.into(), ahead);
}

fn triangle_of<T: Real>(
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    sum: OperandMut<'_, f64>,
    ahead: Option<Operand<'_, T>>,
) {
    let ((d, k), level) = (a.shape(), Level::detect());
    let strips = threads(d * d / 2 * k).min(d / 48).max(1);
    // Twice as many strips as threads: the end of one is filled by the start of another.
    let strips = if strips > 1 { 2 * strips } else { 1 };
    let bound = |s: usize| {
        let left = 1.0 - s as f64 / strips as f64;
        ((d as f64 * (1.0 - left.sqrt())) as usize).next_multiple_of(8).min(d)
    };
    let bounds: Vec<usize> = (0..=strips).map(|s| if s == strips { d } else { bound(s) }).collect();
    strip(level, a, b, sum, &bounds, ahead);
}

fn strip<T: Kernel>(
    level: Level,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    c: OperandMut<'_, f64>,
    bounds: &[usize],
    ahead: Option<Operand<'_, T>>,
) {
    let ((d, k), first) = (a.shape(), bounds[0]);
    if bounds.len() == 2 {
        let columns = bounds[1] - first;
        return T::accumulate(
            level,
            a.part(first, 0, d - first, k),
            b.part(0, first, k, columns),
            c,
            Part::Lower(0),
            ahead,
        );
    }
    let half = bounds.len() / 2;
    let (left, right) = c.split_columns(bounds[half] - first);
    let below = right.split_rows(bounds[half] - first).1;
    join(
        || strip(level, a, b, left, &bounds[..=half], ahead),
        || strip(level, a, b, below, &bounds[half..], None),
    );
}

/// Copies the lower triangle onto the upper one, in blocks that stay in the cache.
pub(crate) fn mirror(matrix: &mut DMatrix<f64>) {
    let d = matrix.nrows();
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
    fn same_bits_for_any_threads() {
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

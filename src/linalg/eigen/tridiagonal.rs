//! A symmetric matrix brought to tridiagonal form by Householder reflections, in panels, on all
//! threads.
//!
//! Legend: S = Q T Qᵗ with T tridiagonal (diagonal d, off-diagonal e); a panel updates the rest by
//! −V Wᵗ − W Vᵗ.

use crate::linalg::gram::add_lower;
use crate::linalg::kernel::vector::{add_scaled, dot, four_columns, subtract_two, two_dots};
use crate::linalg::parallel::{SERIAL_WORK, map_blocks_at};
use crate::linalg::{gemm, matrix_product, product_tr_left};
use nalgebra::{DMatrix, DMatrixView};

/// Columns reduced between two updates of the rest: few where the matrix stays in the first cache.
fn panel(n: usize) -> usize {
    if n <= 128 { 8 } else { 32 }
}

/// T and the reflections that lead to it.
pub(crate) struct Tridiagonal {
    pub diagonal: Vec<f64>,
    /// One entry fewer than the diagonal.
    pub off_diagonal: Vec<f64>,
    /// Reflection j acts on rows j + 1 …; v below the diagonal of column j, with its leading 1
    /// written out.
    vectors: DMatrix<f64>,
    factors: Vec<f64>,
}

/// Reduces a symmetric matrix, of which the lower triangle is read.
pub(crate) fn tridiagonalize(mut s: DMatrix<f64>) -> Tridiagonal {
    let n = s.nrows();
    let (mut diagonal, mut off_diagonal) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut vectors = DMatrix::zeros(n, n.saturating_sub(1));
    let mut factors = vec![0.0; n.saturating_sub(1)];
    let mut room = vec![0.0; n];
    let mut first = 0;
    while first < n {
        let width = panel(n).min(n - first);
        // W, in rows first…, beside the V of this panel.
        let mut others = DMatrix::<f64>::zeros(n, width);
        for j in first..first + width {
            let done = j - first;
            // Column j of the matrix as the panel has left it.
            {
                let column = &mut s.column_mut(j).data.into_slice_mut()[j..];
                for p in 0..done {
                    let (v, w) = (vectors.column(first + p), others.column(p));
                    subtract_two(column, (w[j], &v.as_slice()[j..]), (v[j], &w.as_slice()[j..]));
                }
                diagonal[j] = column[0];
            }
            if j + 1 == n {
                break;
            }
            let column = &mut s.column_mut(j).data.into_slice_mut()[j + 1..];
            factors[j] = crate::linalg::qr::reflection(column);
            off_diagonal[j] = std::mem::replace(&mut column[0], 1.0);
            vectors.column_mut(j).as_mut_slice()[j + 1..].copy_from_slice(column);
            let factor = factors[j];
            if factor == 0.0 {
                continue;
            }
            let v = vectors.column(j).data.into_slice();
            let (v, w) = (&v[j + 1..], &mut room[j + 1..]);
            times(s.view((j + 1, j + 1), (n - j - 1, n - j - 1)), v, w);
            for p in 0..done {
                let (old, other) = (vectors.column(first + p), others.column(p));
                let (old, other) = (&old.as_slice()[j + 1..], &other.as_slice()[j + 1..]);
                let (along_old, along_other) = two_dots(old, other, v);
                subtract_two(w, (along_other, old), (along_old, other));
            }
            w.iter_mut().for_each(|x| *x *= factor);
            let half = -0.5 * factor * dot(w, v);
            add_scaled(w, half, v);
            others.column_mut(done).as_mut_slice()[j + 1..].copy_from_slice(w);
        }
        let next = first + width;
        if next < n {
            let (v, w) = (
                vectors.view((next, first), (n - next, width)),
                others.view((next, 0), (n - next, width)),
            );
            // [−V, −W] [W, V]ᵗ: one product, of which the lower triangle is wanted.
            let (mut left, mut right) =
                (DMatrix::zeros(n - next, 2 * width), DMatrix::zeros(n - next, 2 * width));
            left.columns_mut(0, width).zip_apply(&v, |to, v| *to = -v);
            left.columns_mut(width, width).zip_apply(&w, |to, w| *to = -w);
            right.columns_mut(0, width).copy_from(&w);
            right.columns_mut(width, width).copy_from(&v);
            add_lower(&left, &right, s.view_mut((next, next), (n - next, n - next)));
        }
        first = next;
    }
    Tridiagonal { diagonal, off_diagonal, vectors, factors }
}

/// Columns whose share of a product is summed apart.
const STRIP: usize = 96;

/// w ← S v for the symmetric S whose lower triangle is given: each entry is read once, for its own
/// row and for its mirror image's.
fn times(s: DMatrixView<'_, f64>, v: &[f64], w: &mut [f64]) {
    let n = v.len();
    w.fill(0.0);
    if n <= STRIP {
        return strip_times(s, v, 0, n, w);
    }
    // A pass over memory: worth a second thread earlier than arithmetic is.
    let shares = map_blocks_at(SERIAL_WORK / 8, n.div_ceil(STRIP), n * n / 2, |b| {
        let first = b * STRIP;
        let mut share = vec![0.0; n - first];
        strip_times(s, v, first, n.min(first + STRIP), &mut share);
        share
    });
    for (b, share) in shares.iter().enumerate() {
        w[b * STRIP..].iter_mut().zip(share).for_each(|(w, share)| *w += share);
    }
}

/// The share of the columns from `first` to `end`; `share` starts at row `first`.
fn strip_times(s: DMatrixView<'_, f64>, v: &[f64], first: usize, end: usize, share: &mut [f64]) {
    let mut j = first;
    while j + 4 <= end {
        let columns: [&[f64]; 4] = std::array::from_fn(|c| &s.column(j + c).data.into_slice()[j..]);
        let (v, at) = (&v[j..], j - first);
        let (above, rest) = share[at..].split_at_mut(4);
        // The square on the diagonal.
        for a in 0..4 {
            above[a] += columns[a][a] * v[a];
            for b in a + 1..4 {
                above[b] += columns[a][b] * v[a];
                above[a] += columns[a][b] * v[b];
            }
        }
        let sums = four_columns(
            columns.map(|column| &column[4..]),
            &v[4..],
            [v[0], v[1], v[2], v[3]],
            rest,
        );
        above.iter_mut().zip(sums).for_each(|(w, sum)| *w += sum);
        j += 4;
    }
    for j in j..end {
        let (column, at) = (&s.column(j).data.into_slice()[j..], j - first);
        share[at] += dot(column, &v[j..]);
        add_scaled(&mut share[at + 1..], v[j], &column[1..]);
    }
}

impl Tridiagonal {
    /// Q·Z for n×m coordinates Z.
    pub fn back(&self, mut z: DMatrix<f64>) -> DMatrix<f64> {
        let n = self.diagonal.len();
        let count = self.factors.len();
        let mut end = count;
        while end > 0 {
            let first = (end - 1) / panel(n) * panel(n);
            let width = end - first;
            let v = self.vectors.view((first + 1, first), (n - first - 1, width));
            let inner = product_tr_left(v, v);
            let mut triangle = DMatrix::<f64>::zeros(width, width);
            for j in 0..width {
                let factor = self.factors[first + j];
                triangle[(j, j)] = factor;
                for i in 0..j {
                    let sum: f64 = (i..j).map(|l| triangle[(i, l)] * inner[(l, j)]).sum();
                    triangle[(i, j)] = -factor * sum;
                }
            }
            let mut part = z.rows_mut(first + 1, n - first - 1);
            let scaled = matrix_product(&triangle, &product_tr_left(v, &part));
            gemm(-1.0, v, &scaled, 1.0, &mut part);
            end = first;
        }
        z
    }
}

//! Reduction of a symmetric matrix to tridiagonal form by Householder reflections, in panels, on
//! several threads.[^1]
//!
//! Legend: S = Q T Qᵗ, n×n, with T tridiagonal (diagonal d, off-diagonal e). Reflection j is H_j =
//! I − τ v vᵗ, and Q = H_0 H_1 …. With p = τ S v and w = p − ½ τ (pᵗv) v, H S H = S − v wᵗ − w vᵗ.
//! The columns v and w of a panel form V and W.
//!
//! A panel reduces some columns and defers the update of the rest, which is then one symmetric
//! rank-2k update S − V Wᵗ − W Vᵗ. Of the 4n³/3 operations, half are in these updates, which run at
//! the speed of a matrix product. The other half are in the products S v, which must read all of
//! the remaining matrix for each column and are limited by memory bandwidth.
//!
//! [^1]: J. J. Dongarra, S. J. Hammarling and D. C. Sorensen, Block reduction of matrices to
//! condensed forms for eigenvalue computations, J. Comput. Appl. Math. 27 (1989); LAPACK's
//! `dsytrd`.

use crate::linalg::gram::add_lower;
use crate::linalg::kernel::vector::{add_scaled, dot, four_columns, subtract_two, two_dots};
use crate::linalg::parallel::{SERIAL_WORK, map_blocks_above};
use crate::linalg::{gemm, matrix_product, product_tr_left};
use nalgebra::{DMatrix, DMatrixView};

/// The number of columns of a panel for an n×n matrix.
// A column needs the deferred updates of the columns before it in its panel, which is extra work.
// Panels are therefore narrow for a small matrix, which stays in cache and gains little from large
// products. At n = 64, panels of 2 to 6 or 10 to 12 columns are slower than 8, by 7 to 23 %
// (docs/performance.md).
fn panel(n: usize) -> usize {
    if n <= 128 { 8 } else { 32 }
}

/// The tridiagonal matrix T, and the reflections of Q.
pub(crate) struct Tridiagonal {
    /// d, n entries.
    pub diagonal: Vec<f64>,
    /// e, n − 1 entries.
    pub off_diagonal: Vec<f64>,
    /// The vectors v, n×(n − 1): that of reflection j is in rows j + 1 … of column j, including its
    /// leading 1.
    vectors: DMatrix<f64>,
    /// The factors τ.
    factors: Vec<f64>,
}

/// Reduces a symmetric matrix to tridiagonal form; only the lower triangle is read.
pub(crate) fn tridiagonalize(mut s: DMatrix<f64>) -> Tridiagonal {
    let n = s.nrows();
    let (mut diagonal, mut off_diagonal) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut vectors = DMatrix::zeros(n, n.saturating_sub(1));
    let mut factors = vec![0.0; n.saturating_sub(1)];
    let mut room = vec![0.0; n];
    let mut first = 0;
    while first < n {
        let width = panel(n).min(n - first);
        // W of this panel; its V is in `vectors`.
        let mut others = DMatrix::<f64>::zeros(n, width);
        for j in first..first + width {
            let done = j - first;
            // 1. Bring column j up to date: apply the updates that this panel has deferred.
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
            // 2. The reflection that zeroes column j below the off-diagonal entry.
            let column = &mut s.column_mut(j).data.into_slice_mut()[j + 1..];
            factors[j] = crate::linalg::qr::reflection(column);
            off_diagonal[j] = std::mem::replace(&mut column[0], 1.0);
            vectors.column_mut(j).as_mut_slice()[j + 1..].copy_from_slice(column);
            let factor = factors[j];
            if factor == 0.0 {
                continue;
            }
            // 3. The vector w. The stored matrix lacks the updates of this panel: subtract
            //    (V Wᵗ + W Vᵗ) v of the columns before from S v.
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
        // 4. The deferred update of the columns after the panel.
        if next < n {
            let (v, w) = (
                vectors.view((next, first), (n - next, width)),
                others.view((next, 0), (n - next, width)),
            );
            // The lower triangle of [−V, −W] [W, V]ᵗ: one product with 2w inner columns.
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

/// The number of columns of a strip, the unit of parallel work in the product S v.
// Each strip sums into a vector of its own, and the vectors are added in a fixed order: results are
// bit-identical for any number of threads.
const STRIP: usize = 96;

/// Overwrites w by S v for a symmetric S of which the lower triangle is stored (BLAS `symv`).
///
/// Each entry s_ij below the diagonal is read once, and used for w_i and for w_j: half of the
/// memory traffic of a product with both triangles.
fn times(s: DMatrixView<'_, f64>, v: &[f64], w: &mut [f64]) {
    let n = v.len();
    w.fill(0.0);
    if n <= STRIP {
        return strip_symv(s, v, 0, n, w);
    }
    // The product is limited by memory bandwidth, so that a second thread pays off from an eighth
    // of the usual number of operations on.
    let shares = map_blocks_above(SERIAL_WORK / 8, n.div_ceil(STRIP), n * n / 2, |b| {
        let first = b * STRIP;
        let mut share = vec![0.0; n - first];
        strip_symv(s, v, first, n.min(first + STRIP), &mut share);
        share
    });
    for (b, share) in shares.iter().enumerate() {
        w[b * STRIP..].iter_mut().zip(share).for_each(|(w, share)| *w += share);
    }
}

/// Adds to `share` what the columns `first`..`end` of the lower triangle contribute to S v; entry 0
/// of `share` belongs to row `first`.
fn strip_symv(s: DMatrixView<'_, f64>, v: &[f64], first: usize, end: usize, share: &mut [f64]) {
    // Four columns at a time: `share` is then read and written once for the four of them.
    let mut j = first;
    while j + 4 <= end {
        let columns: [&[f64]; 4] = std::array::from_fn(|c| &s.column(j + c).data.into_slice()[j..]);
        let (v, at) = (&v[j..], j - first);
        let (above, rest) = share[at..].split_at_mut(4);
        // The 4×4 block on the diagonal.
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
    /// Q·Z for an n×m matrix Z: transforms eigenvectors of T into those of S.
    ///
    /// The reflections of a panel are applied together, as I − V F Vᵗ with an upper triangular F
    /// (compact WY form, Schreiber and Van Loan 1989), so that most of the work is in products.
    pub fn back(&self, mut z: DMatrix<f64>) -> DMatrix<f64> {
        let n = self.diagonal.len();
        let count = self.factors.len();
        // Q = H_0 H_1 …, so that the last panel is applied first.
        let mut end = count;
        while end > 0 {
            let first = (end - 1) / panel(n) * panel(n);
            let width = end - first;
            let v = self.vectors.view((first + 1, first), (n - first - 1, width));
            let inner = product_tr_left(v, v);
            // F; column j has τ_j on the diagonal, and −τ_j F (Vᵗv_j) above it.
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

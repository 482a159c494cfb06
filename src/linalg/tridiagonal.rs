//! A symmetric matrix brought to tridiagonal form by Householder reflections, in panels, on all threads.
//!
//! Legend: S = Q T Qᵗ with T tridiagonal (diagonal d, off-diagonal e); a panel updates the rest by −V Wᵗ − W Vᵗ.

use super::kernel_vector::{add_scaled, dot};
use super::parallel::{SERIAL_WORK, for_each_chunk_at};
use super::{Operand, gemm, matrix_product, product_tr_left};
use nalgebra::{DMatrix, DMatrixView};

/// Columns reduced between two updates of the rest.
const PANEL: usize = 32;

/// T and the reflections that lead to it.
pub(crate) struct Tridiagonal {
    pub diagonal: Vec<f64>,
    /// One entry fewer than the diagonal.
    pub off_diagonal: Vec<f64>,
    /// Reflection j acts on rows j + 1 …; v below the diagonal of column j, with its leading 1 written out.
    vectors: DMatrix<f64>,
    factors: Vec<f64>,
}

/// Reduces a symmetric matrix given whole.
pub(crate) fn tridiagonalize(mut s: DMatrix<f64>) -> Tridiagonal {
    let n = s.nrows();
    let (mut diagonal, mut off_diagonal) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let mut vectors = DMatrix::zeros(n, n.saturating_sub(1));
    let mut factors = vec![0.0; n.saturating_sub(1)];
    let mut first = 0;
    while first < n {
        let width = PANEL.min(n - first);
        // W, in rows first…, beside the V of this panel.
        let mut others = DMatrix::<f64>::zeros(n, width);
        for j in first..first + width {
            let done = j - first;
            // Column j of the matrix as the panel has left it.
            {
                let column = &mut s.column_mut(j).data.into_slice_mut()[j..];
                for p in 0..done {
                    let (v, w) = (vectors.column(first + p), others.column(p));
                    add_scaled(column, -w[j], &v.as_slice()[j..]);
                    add_scaled(column, -v[j], &w.as_slice()[j..]);
                }
                diagonal[j] = column[0];
            }
            if j + 1 == n {
                break;
            }
            let v = {
                let column = &mut s.column_mut(j).data.into_slice_mut()[j + 1..];
                factors[j] = super::qr::reflection(column);
                off_diagonal[j] = std::mem::replace(&mut column[0], 1.0);
                vectors.column_mut(j).as_mut_slice()[j + 1..].copy_from_slice(column);
                vectors.column(j).as_slice()[j + 1..].to_vec()
            };
            let factor = factors[j];
            if factor == 0.0 {
                continue;
            }
            let mut w = vec![0.0; n - j - 1];
            times(s.view((j + 1, j + 1), (n - j - 1, n - j - 1)), &v, &mut w);
            for p in 0..done {
                let (old, other) = (vectors.column(first + p), others.column(p));
                let (old, other) = (&old.as_slice()[j + 1..], &other.as_slice()[j + 1..]);
                let (along_other, along_old) = (dot(other, &v), dot(old, &v));
                add_scaled(&mut w, -along_other, old);
                add_scaled(&mut w, -along_old, other);
            }
            w.iter_mut().for_each(|x| *x *= factor);
            let half = -0.5 * factor * dot(&w, &v);
            add_scaled(&mut w, half, &v);
            others.column_mut(done).as_mut_slice()[j + 1..].copy_from_slice(&w);
        }
        let next = first + width;
        if next < n {
            let (v, w) = (vectors.view((next, first), (n - next, width)), others.view((next, 0), (n - next, width)));
            let mut rest = s.view_mut((next, next), (n - next, n - next));
            gemm(-1.0, v, Operand::from(&w).transposed(), 1.0, &mut rest);
            gemm(-1.0, w, Operand::from(&v).transposed(), 1.0, &mut rest);
        }
        first = next;
    }
    Tridiagonal { diagonal, off_diagonal, vectors, factors }
}

/// w ← S v for a symmetric S given whole: a sum for each entry along a contiguous column.
fn times(s: DMatrixView<'_, f64>, v: &[f64], w: &mut [f64]) {
    let n = v.len();
    // A pass over memory: worth a second thread earlier than arithmetic is.
    for_each_chunk_at(SERIAL_WORK / 4, w, 32, n * n, |chunk, part| {
        for (i, sum) in part.iter_mut().enumerate() {
            *sum = dot(s.column(32 * chunk + i).as_slice(), v);
        }
    });
}

impl Tridiagonal {
    /// Q·Z for n×m coordinates Z.
    pub fn back(&self, mut z: DMatrix<f64>) -> DMatrix<f64> {
        let n = self.diagonal.len();
        let count = self.factors.len();
        let mut end = count;
        while end > 0 {
            let first = (end - 1) / PANEL * PANEL;
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

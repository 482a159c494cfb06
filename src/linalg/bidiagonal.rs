//! Reduction of a square matrix to bidiagonal form by Householder reflections from both sides
//! (Golub and Kahan 1965; Golub & Van Loan, section 5.4).
//!
//! Legend: A = P B Qᵗ, n×n, with B upper bidiagonal (diagonal α, superdiagonal β), and P, Q
//! orthogonal. AᵗA = Q BᵗB Qᵗ with a tridiagonal BᵗB, which is never formed: forming it would
//! square the condition number, and lose the small singular values of A beside large ones.
//!
//! It serves systems (s AᵗA + t I) x = b for many s and t: after one reduction in O(n³), each of
//! them takes O(n).

use super::kernel::vector::{add_scaled, dot};
use super::parallel::for_each_chunk;
use super::qr::reflection;
use nalgebra::DMatrix;

/// The bidiagonal matrix B, and the reflections of Q (those of P are not kept).
pub(crate) struct Bidiagonal {
    /// α, n entries.
    pub diagonal: Vec<f64>,
    /// β, n − 1 entries.
    pub above: Vec<f64>,
    /// The vectors v, n×(n − 1): that of reflection j is in rows j + 1 … of column j, including its
    /// leading 1.
    vectors: DMatrix<f64>,
    /// The factors τ.
    factors: Vec<f64>,
}

/// The number of columns of a chunk, the unit of parallel work.
// Columns are updated independently: results are bit-identical for any number of threads.
const STRIP: usize = 16;

/// Reduces a square matrix to bidiagonal form.
pub(crate) fn bidiagonalize(mut a: DMatrix<f64>) -> Bidiagonal {
    let n = a.nrows();
    let (mut diagonal, mut above) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
    let (mut vectors, mut factors) =
        (DMatrix::zeros(n, n.saturating_sub(1)), vec![0.0; n.saturating_sub(1)]);
    // The last reflection from the right, I − τ x xᵗ, changes A by −w xᵗ with w = τ A x. This
    // update is deferred: one pass over the matrix applies it and the next reflection from the
    // left, so that the matrix is read and written once for both.
    let (mut x, mut w) = (vec![0.0; n], vec![0.0; n]);
    for j in 0..n {
        // 1. Column j: the deferred update, then the reflection that zeroes it below the diagonal.
        let column = &mut a.column_mut(j).data.into_slice_mut()[j..];
        add_scaled(column, -x[j], &w[j..]);
        let factor = reflection(column);
        diagonal[j] = std::mem::replace(&mut column[0], 1.0);
        if j + 1 == n {
            break;
        }
        let v = column.to_vec();
        // 2. The columns after it: the deferred update and the reflection from the left.
        let rest = &mut a.as_mut_slice()[(j + 1) * n..];
        for_each_chunk(rest, STRIP * n, 4 * (n - j) * (n - j), |strip, columns| {
            for (c, column) in columns.chunks_exact_mut(n).enumerate() {
                let column = &mut column[j..];
                add_scaled(column, -x[j + 1 + strip * STRIP + c], &w[j..]);
                let along = factor * dot(&v, column);
                add_scaled(column, -along, &v);
            }
        });
        // 3. The reflection from the right, which zeroes row j after its superdiagonal entry.
        x[j] = 0.0;
        x.iter_mut().enumerate().skip(j + 1).for_each(|(c, x)| *x = a[(j, c)]);
        factors[j] = reflection(&mut x[j + 1..]);
        above[j] = std::mem::replace(&mut x[j + 1], 1.0);
        vectors.column_mut(j).as_mut_slice()[j + 1..].copy_from_slice(&x[j + 1..]);
        // 4. w = τ A x for the rows below j.
        w.fill(0.0);
        for (x, column) in x.iter().zip(a.as_slice().chunks_exact(n)).skip(j + 1) {
            add_scaled(&mut w[j + 1..], factors[j] * x, &column[j + 1..]);
        }
    }
    Bidiagonal { diagonal, above, vectors, factors }
}

impl Bidiagonal {
    /// Q·Z for an n×m matrix Z.
    pub fn back(&self, mut z: DMatrix<f64>) -> DMatrix<f64> {
        for (j, factor) in self.factors.iter().enumerate().rev() {
            let v = &self.vectors.column(j).data.into_slice()[j + 1..];
            for mut column in z.column_iter_mut() {
                let column = &mut column.as_mut_slice()[j + 1..];
                let along = factor * dot(v, column);
                add_scaled(column, -along, v);
            }
        }
        z
    }

    /// Bᵗ, n×n.
    pub fn transposed(&self) -> DMatrix<f64> {
        let mut root =
            DMatrix::from_diagonal(&nalgebra::DVector::from_column_slice(&self.diagonal));
        self.above.iter().enumerate().for_each(|(j, b)| root[(j + 1, j)] = *b);
        root
    }

    /// The diagonal and the superdiagonal of the upper bidiagonal R with s BᵗB + tI = RᵗR, for s, t
    /// ≥ 0.
    ///
    /// R is the triangular factor of [√s B; √t I], by plane rotations in O(n) (Eldén 1977, section
    /// 3). BᵗB is not formed.
    pub fn shifted(&self, scale: f64, shift: f64) -> (Vec<f64>, Vec<f64>) {
        let (scale, shift) = (scale.sqrt(), shift.sqrt());
        let (mut diagonal, mut above) =
            (Vec::with_capacity(self.diagonal.len()), Vec::with_capacity(self.above.len()));
        // The entry of the lower block in the current column: √t, and what the rotation of the
        // column before has left beside it, combined in one number by a rotation within the lower
        // block.
        let mut beside = shift;
        for (j, alpha) in self.diagonal.iter().enumerate() {
            let length = (scale * alpha).hypot(beside);
            diagonal.push(length);
            if let Some(beta) = self.above.get(j).map(|b| scale * b) {
                let (cosine, sine) = if length > 0.0 {
                    (scale * alpha / length, beside / length)
                } else {
                    (1.0, 0.0)
                };
                above.push(cosine * beta);
                beside = shift.hypot(sine * beta);
            }
        }
        (diagonal, above)
    }
}

/// Overwrites x by (RᵗR)⁻¹x for an upper bidiagonal R with a diagonal free of zeros: forward
/// substitution with Rᵗ, then back substitution with R.
pub(crate) fn solve_bidiagonal_gram(diagonal: &[f64], above: &[f64], x: &mut [f64]) {
    let n = x.len();
    for j in 0..n {
        let before = if j > 0 { above[j - 1] * x[j - 1] } else { 0.0 };
        x[j] = (x[j] - before) / diagonal[j];
    }
    for j in (0..n).rev() {
        let after = if j + 1 < n { above[j] * x[j + 1] } else { 0.0 };
        x[j] = (x[j] - after) / diagonal[j];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{random, with_threads};

    /// A random matrix with columns scaled by 1 to 1e-5.
    fn graded(n: usize) -> DMatrix<f64> {
        let mut a = random::<f64>(n, n, 5);
        a.column_iter_mut()
            .enumerate()
            .for_each(|(j, mut column)| column *= 10f64.powi(-((j % 6) as i32)));
        a
    }

    #[test]
    fn the_form_has_the_same_second_moments() {
        for n in [1, 2, 3, 17, 90] {
            let a = graded(n);
            let form = bidiagonalize(a.clone());
            // Q is orthogonal, and A Q = P B has the Gram matrix BᵗB.
            let q = form.back(DMatrix::identity(n, n));
            assert!((q.transpose() * &q - DMatrix::identity(n, n)).amax() < 1e-14 * (n + 4) as f64);
            let (turned, root) = (&a * q, form.transposed());
            let error = (turned.transpose() * turned - &root * root.transpose()).amax();
            assert!(error < 1e-15 * (n + 4) as f64 * a.norm_squared(), "{n}: {error:e}");
        }
    }

    #[test]
    fn shifted_systems_are_solved() {
        let n = 23;
        let form = bidiagonalize(graded(n));
        let root = form.transposed();
        for (scale, shift) in [(1.0, 1e-3), (0.0, 2.0), (0.3, 1e-12)] {
            let (diagonal, above) = form.shifted(scale, shift);
            let expected = random::<f64>(n, 1, 6);
            let matrix = &root * root.transpose() * scale + DMatrix::identity(n, n) * shift;
            let right = &matrix * &expected;
            let mut x = right.clone();
            solve_bidiagonal_gram(&diagonal, &above, x.as_mut_slice());
            assert!((&matrix * x - &right).amax() < 1e-13 * right.amax());
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let a = random::<f64>(150, 150, 7);
        let run = |t| with_threads(t, || bidiagonalize(a.clone()));
        let (one, three) = (run(1), run(3));
        assert!(
            one.diagonal == three.diagonal
                && one.above == three.above
                && one.vectors == three.vectors
        );
    }
}

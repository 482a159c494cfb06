//! Singular value decomposition of a square matrix in double precision by one-sided Jacobi: each
//! singular value is accurate relative to itself, whatever the scales of the columns.[^1]
//!
//! 1. QR with column pivoting, R P = Q T.[^2] Pivoting sorts the columns by size; the rotations of
//!    the rows of T (the columns of Tᵗ) then converge in fewer sweeps than those of the columns of
//!    R.
//! 2. Rotations W make the columns of Tᵗ orthogonal: TᵗW = Y Σ, with the lengths of the columns in
//!    Σ.
//! 3. R = (Q W) Σ (P Y)ᵗ.
//!
//! Where the columns of R have similar lengths, the error of any backward stable method is as small
//! relative to each of them. The rotations then start at the eigenvectors of RᵗR in place of step
//! 1, which takes a half to a third of the time.
//!
//! [^1]: J. Demmel and K. Veselić, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal.
//! Appl. 13 (1992).
//!
//! [^2]: Z. Drmač and K. Veselić, New fast and accurate Jacobi SVD algorithm, SIAM J. Matrix Anal.
//! Appl. 29 (2008).

use super::kernel::vector::{add_scaled, dot, norm, rotate};
use super::{matrix_product, product_tr_left, sqrt_one_plus_square, symmetric_eigen};
use crate::{Error, Result};
use nalgebra::DMatrix;

/// The largest number of sweeps over all pairs of columns; five are usual.
const SWEEPS: usize = 60;

/// The decomposition R = U diag(values) Vᵗ of a square matrix.
pub(crate) struct Square {
    /// U, orthogonal.
    pub left: DMatrix<f64>,
    /// The singular values, in descending order.
    pub values: Vec<f64>,
    /// V, orthogonal.
    pub right: DMatrix<f64>,
}

/// The singular value decomposition of a square matrix with finite entries.
pub(crate) fn square_svd(mut r: DMatrix<f64>) -> Result<Square> {
    let n = r.nrows();
    let largest = r.amax();
    if largest == 0.0 {
        return Ok(Square {
            left: DMatrix::identity(n, n),
            values: vec![0.0; n],
            right: DMatrix::identity(n, n),
        });
    }
    // Division by a power of two is exact. The largest entry is then in [1, 2), and sums of squares
    // do not overflow.
    let unit = 2f64.powi((largest.log2().floor() as i32).clamp(-1021, 1022));
    r /= unit;
    if n >= EIGEN_MIN
        && !graded(&r)
        && let Some(found) = from_eigenvectors(&r, unit)?
    {
        return Ok(found);
    }
    let (order, reflections) = pivoted(&mut r);
    // Tᵗ, whose columns are the rows of T.
    let mut rows = DMatrix::from_fn(n, n, |i, j| if i >= j { r[(j, i)] } else { 0.0 });
    let mut rotations = DMatrix::identity(n, n);
    orthogonalize(&mut rows, &mut rotations)?;
    // W and Y.
    let (values, mut left, inner) = sorted(&rows, &rotations, unit)?;
    // Q W: the reflections of Q are applied from the last to the first.
    for (j, (factor, v)) in reflections.iter().enumerate().rev() {
        for mut column in left.column_iter_mut() {
            let part = &mut column.as_mut_slice()[j..];
            add_scaled(part, -factor * dot(v, part), v);
        }
    }
    // P Y: undo the exchanges of columns.
    let mut right = DMatrix::zeros(n, n);
    for (i, variable) in order.iter().enumerate() {
        right.row_mut(*variable).copy_from(&inner.row(i));
    }
    Ok(Square { left, values, right })
}

/// The least size from which rotations start at eigenvectors.
const EIGEN_MIN: usize = 8;

/// Whether the columns have lengths so different that small singular values would lose accuracy to
/// an error relative to the largest column.
// An error of ε‖R‖ is at most 10 times that of one-sided Jacobi for the shortest column, where
// lengths differ by at most 10.
fn graded(r: &DMatrix<f64>) -> bool {
    let (shortest, longest) = extreme_lengths(r);
    longest > 10.0 * shortest
}

/// The lengths of the shortest and of the longest column.
fn extreme_lengths(a: &DMatrix<f64>) -> (f64, f64) {
    (0..a.ncols())
        .map(|j| norm(a.column(j).as_slice()))
        .fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)))
}

/// The decomposition of R, whose columns are not graded, by rotations from the eigenvectors V of
/// RᵗR: the columns of R V are orthogonal up to ε‖R‖².
///
/// Eigenvectors come from products at full speed, and leave two or three of the usual six sweeps.
/// The rotations then make the short columns, which the Gram matrix determines badly, orthogonal
/// relative to their own lengths.
///
/// `None` where R is singular to working precision: the columns for its null space are rounding
/// errors, which rotations would reduce until their squares underflow, and not make orthogonal.
/// Pivoting leaves exact zeros there.
fn from_eigenvectors(r: &DMatrix<f64>, unit: f64) -> Result<Option<Square>> {
    let mut rotations = symmetric_eigen(product_tr_left(r, r).as_view())?.vectors;
    let mut columns = matrix_product(r, &rotations);
    let (shortest, longest) = extreme_lengths(&columns);
    if shortest <= r.ncols() as f64 * f64::EPSILON * longest {
        return Ok(None);
    }
    orthogonalize(&mut columns, &mut rotations)?;
    let (values, right, left) = sorted(&columns, &rotations, unit)?;
    Ok(Some(Square { left, values, right }))
}

/// The lengths of orthogonal columns, times `unit` and in descending order, and in the same order
/// the columns of `rotations` and the columns divided by their lengths, an orthogonal matrix.
fn sorted(
    columns: &DMatrix<f64>,
    rotations: &DMatrix<f64>,
    unit: f64,
) -> Result<(Vec<f64>, DMatrix<f64>, DMatrix<f64>)> {
    let n = columns.nrows();
    let mut sizes: Vec<(usize, f64)> =
        (0..n).map(|j| (j, norm(columns.column(j).as_slice()))).collect();
    sizes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut vectors = DMatrix::zeros(n, n);
    // A column of length 0 stays 0 for the moment.
    let mut inner = DMatrix::zeros(n, n);
    for (to, (from, size)) in sizes.iter().enumerate() {
        vectors.column_mut(to).copy_from(&rotations.column(*from));
        if *size > 0.0 {
            inner.column_mut(to).copy_from(&(columns.column(*from) / *size));
        }
    }
    if sizes.iter().any(|s| s.1 == 0.0) {
        // There is no direction for a singular value of 0. QR completes the others to an
        // orthonormal basis; they are orthonormal already, and keep their values.
        let complete = super::qr::orthonormalize(inner.as_view())?;
        for (j, _) in sizes.iter().enumerate().filter(|(_, s)| s.1 == 0.0) {
            inner.column_mut(j).copy_from(&complete.column(j));
        }
    }
    Ok((sizes.iter().map(|s| s.1 * unit).collect(), vectors, inner))
}

/// QR with column pivoting in place; returns the order of the columns and the reflections (τ, v).
fn pivoted(r: &mut DMatrix<f64>) -> (Vec<usize>, Vec<(f64, Vec<f64>)>) {
    let n = r.nrows();
    let mut order: Vec<usize> = (0..n).collect();
    let mut reflections = Vec::with_capacity(n);
    // `sizes` are the lengths of the columns below the rows done, updated by subtraction; `exact`
    // are the lengths when they were last computed.
    let mut sizes: Vec<f64> = (0..n).map(|j| norm(r.column(j).as_slice())).collect();
    let mut exact = sizes.clone();
    for j in 0..n {
        let pivot = (j..n).fold(j, |best, c| if sizes[c] > sizes[best] { c } else { best });
        r.swap_columns(j, pivot);
        order.swap(j, pivot);
        sizes.swap(j, pivot);
        exact.swap(j, pivot);
        let (left, right) = r.as_mut_slice().split_at_mut((j + 1) * n);
        let v = &mut left[j * n + j..];
        let factor = super::qr::reflection(v);
        let mut vector = v.to_vec();
        vector[0] = 1.0;
        for (c, column) in right.chunks_exact_mut(n).enumerate() {
            let part = &mut column[j..];
            add_scaled(part, -factor * dot(&vector, part), &vector);
            let c = c + j + 1;
            // The square of the entry just finished is subtracted. A length below 1e-6 of its last
            // exact value has lost 12 of 16 digits of its square to cancellation, and is computed
            // again.
            if sizes[c] > 0.0 {
                let kept = (1.0 - (part[0] / sizes[c]).powi(2)).max(0.0);
                sizes[c] *= kept.sqrt();
                if sizes[c] < 1e-6 * exact[c] {
                    sizes[c] = norm(&part[1..]);
                    exact[c] = sizes[c];
                }
            }
        }
        reflections.push((factor, vector));
    }
    (order, reflections)
}

/// Rotates the columns of `a` until all pairs are orthogonal relative to their own lengths, and
/// applies the same rotations to the columns of `rotations`.
///
/// A pair x, y counts as orthogonal for |xᵗy| ≤ tol ‖x‖ ‖y‖. A criterion relative to the largest
/// column would leave short columns with errors larger than they are.
fn orthogonalize(a: &mut DMatrix<f64>, rotations: &mut DMatrix<f64>) -> Result<()> {
    let n = a.nrows();
    let tolerance = f64::EPSILON * (n as f64).sqrt().max(4.0);
    let mut squares = vec![0.0; n];
    for _ in 0..SWEEPS {
        // Within a sweep the squared lengths are updated; each sweep computes them anew.
        let mut still = true;
        for (j, square) in squares.iter_mut().enumerate() {
            *square = dot(a.column(j).as_slice(), a.column(j).as_slice());
        }
        for p in 0..n {
            for q in p + 1..n {
                // The longer column goes first (de Rijk's pivoting), which takes fewer sweeps.
                if squares[p] < squares[q] {
                    a.swap_columns(p, q);
                    rotations.swap_columns(p, q);
                    squares.swap(p, q);
                }
                // A column of zeros, or one so short that its square underflows.
                if squares[q] == 0.0 {
                    continue;
                }
                let (left, right) = a.as_mut_slice().split_at_mut(q * n);
                let (x, y) = (&mut left[p * n..(p + 1) * n], &mut right[..n]);
                let inner = dot(x, y);
                // A product of two roots, because the product of the squares may underflow.
                if inner.abs() <= tolerance * squares[p].sqrt() * squares[q].sqrt() {
                    continue;
                }
                still = false;
                // The rotation by the smaller of the two angles that make x and y orthogonal, at
                // most π/4 (Golub & Van Loan, section 8.5): the larger one may keep the iteration
                // from converging. `slope` is the cotangent of twice the angle.
                let slope = (squares[q] - squares[p]) / (2.0 * inner);
                let tangent = 1f64.copysign(slope) / (slope.abs() + sqrt_one_plus_square(slope));
                let cosine = 1.0 / sqrt_one_plus_square(tangent);
                rotate(x, y, cosine, cosine * tangent);
                let next = squares[q] + tangent * inner;
                squares[p] -= tangent * inner;
                // Where the subtraction cancels most of the square, compute it from the column.
                squares[q] = if next < 0.1 * squares[q] { dot(y, y) } else { next };
                let (left, right) = rotations.as_mut_slice().split_at_mut(q * n);
                rotate(&mut left[p * n..(p + 1) * n], &mut right[..n], cosine, cosine * tangent);
            }
        }
        if still {
            return Ok(());
        }
    }
    Err(Error::DecompositionLimit { what: "the one-sided Jacobi decomposition", limit: SWEEPS })
}

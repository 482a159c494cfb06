//! Cholesky factorisation of a positive definite matrix, triangular solves and log-determinant.
//!
//! The algorithms are blocked or recursive (Golub & Van Loan, Matrix Computations; Elmroth,
//! Gustavson, Jonsson and Kågström, SIAM Review 46, 2004): for large d nearly all of the work is in
//! matrix products. The recursion ends at blocks of at most 32 rows, those of `triangular`.

use super::gram::subtract_lower;
use super::kernel::Operand;
use super::kernel::vector::{all_finite, with_widest_simd};
use super::moments::check_finite;
use super::parallel::{join, threads};
use super::product::gemm;
use super::triangular::{LANES, SMALL, cholesky_small, factor_panel, solve_small};
use super::zeros;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};

/// Columns that are factored before their outer product is subtracted from the rest.
// A multiple of the height of every micro-kernel's tile (48 rows in f32 and 24 in f64 with AVX-512;
// 24, 12 and 6 elsewhere), and less than the 256 columns of f64 that a product packs at a time: an
// update by one block is one pass over the result.
const BLOCK: usize = 192;

/// The lower Cholesky factor L of a symmetric positive definite d×d matrix.
///
/// Only the lower triangle of `a` is read.
///
/// ```math
/// A = L L^⊤
/// ```
///
/// # Errors
/// [`Error::NotPositiveDefinite`], [`Error::DimensionMismatch`] when it is not square,
/// [`Error::Empty`], [`Error::NotFinite`].
///
/// ```
/// use nalgebra::dmatrix;
/// let l = elbo::linalg::cholesky_lower(dmatrix![4.0, 2.0; 2.0, 2.0].as_view())?;
/// assert_eq!(l, dmatrix![2.0, 0.0; 1.0, 1.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn cholesky_lower<T: Real>(a: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
    let d = a.nrows();
    // A small matrix is checked while it is factored: the pass over its entries would take longer
    // than its factor.
    if (1..=SMALL).contains(&d)
        && a.ncols() == d
        && let Some(l) = cholesky_small(a)
    {
        return Ok(l);
    }
    check_finite(a)?;
    if a.ncols() != d {
        return Err(Error::DimensionMismatch {
            what: "columns of a symmetric matrix",
            expected: d,
            actual: a.ncols(),
        });
    }
    // Column by column: `clone_owned` of a view copies entry by entry, which for d = 64 took as
    // long as the factorisation.
    let mut l = zeros(d, d);
    for j in 0..d {
        l.column_mut(j).as_mut_slice()[j..].copy_from_slice(&a.column(j).as_slice()[j..]);
    }
    factor_lower(&mut l)?;
    l.fill_upper_triangle(T::zero(), 1);
    Ok(l)
}

/// Overwrites the lower triangle of a square matrix by its Cholesky factor.
///
/// Entries above the diagonal are unspecified afterwards.
pub(crate) fn factor_lower<T: Real>(l: &mut DMatrix<T>) -> Result<()> {
    let d = l.nrows();
    // Right-looking: once a block of columns is factored, its outer product is subtracted from all
    // that lies to the right, of which only the lower triangle is needed.
    for first in (0..d).step_by(BLOCK) {
        let end = d.min(first + BLOCK);
        factor_columns(l, first, end)?;
        if end < d {
            let (left, mut right) = l.columns_range_pair_mut(first..end, end..d);
            let rows = left.rows(end, d - end);
            subtract_lower(rows, rows, right.rows_mut(end, d - end));
        }
    }
    // Pivots were checked one by one. An overflow below the diagonal of the last columns is not
    // seen by any pivot.
    if (0..d).all(|j| all_finite(&l.column(j).as_slice()[j..])) {
        Ok(())
    } else {
        Err(Error::NotPositiveDefinite { size: d })
    }
}

/// Factors columns `first..end` of a matrix, over all rows from the diagonal down.
///
/// Recursive: it factors the left half, subtracts its outer product from the right half, and
/// factors the right half. Most of the work within a block is then in products as well.
fn factor_columns<T: Real>(l: &mut DMatrix<T>, first: usize, end: usize) -> Result<()> {
    let d = l.nrows();
    if end - first <= SMALL {
        return match factor_panel(l, first, end) {
            true => Ok(()),
            false => Err(Error::NotPositiveDefinite { size: d }),
        };
    }
    let middle = first + half(end - first);
    factor_columns(l, first, middle)?;
    let (left, mut right) = l.columns_range_pair_mut(first..middle, middle..end);
    let (rows, columns) = (left.rows(middle, d - middle), left.rows(middle, end - middle));
    gemm(
        -T::one(),
        rows,
        Operand::from(&columns).transposed(),
        T::one(),
        right.rows_mut(middle, d - middle),
    );
    factor_columns(l, middle, end)
}

/// About half of more than [`SMALL`] columns or rows, in whole SIMD blocks.
// Halves of whole blocks of 32 would leave a short rest for most sizes; multiples of 8 are whole
// tiles of the products.
fn half(size: usize) -> usize {
    (size / 2).next_multiple_of(LANES)
}

/// Overwrites B (d×m) by L⁻¹B, the solution of LY = B (forward substitution).
///
/// L is d×d and lower triangular, with no zero on its diagonal; entries above the diagonal are not
/// read.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![2.0; 3.0];
/// elbo::linalg::solve_lower(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut());
/// assert_eq!(b, dmatrix![1.0; 2.0]);
/// ```
pub fn solve_lower<T: Real>(l: &DMatrix<T>, b: DMatrixViewMut<'_, T>) {
    solve(l, b, false);
}

/// Overwrites B (d×m) by L⁻ᵗB, the solution of LᵗX = B (back substitution).
///
/// L is d×d and lower triangular, with no zero on its diagonal; entries above the diagonal are not
/// read.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![4.0; 2.0];
/// elbo::linalg::solve_lower_transposed(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut());
/// assert_eq!(b, dmatrix![1.0; 2.0]);
/// ```
pub fn solve_lower_transposed<T: Real>(l: &DMatrix<T>, b: DMatrixViewMut<'_, T>) {
    solve(l, b, true);
}

/// Right-hand sides up to which they are solved one by one.
// Their entries are then in the SIMD lanes, whereas otherwise each right-hand side has a lane, of
// which most would be empty.
const FEW: usize = 3;

fn solve<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>, transposed: bool) {
    let (d, m) = b.shape();
    assert!(l.shape() == (d, d), "a {}x{} factor cannot solve for {d} rows", l.nrows(), l.ncols());
    if d == 0 {
        return;
    }
    // The small blocks of `solve_rows` multiply by reciprocals of the diagonal. That of a subnormal
    // number may overflow where the quotient does not.
    let reciprocals = (0..d).all(|j| (T::one() / l[(j, j)]).is_finite());
    if m <= FEW || !reciprocals {
        for mut column in b.column_iter_mut() {
            match transposed {
                true => solve_one_transposed(l, column.as_mut_slice()),
                false => solve_one(l, column.as_mut_slice()),
            }
        }
        return;
    }
    // The right-hand sides are shared out among the threads in whole SIMD blocks: each of them is
    // then computed by the same operations for any number of threads.
    let pieces = threads(d * d / 2 * m).min(m / (2 * LANES));
    share(l, b, transposed, pieces);
}

/// Solves for all columns of B, on `pieces` threads.
fn share<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>, transposed: bool, pieces: usize) {
    let (d, m) = b.shape();
    if pieces <= 1 {
        return match transposed {
            true => solve_rows_transposed(l, 0, d, &mut b),
            false => solve_rows(l, 0, d, &mut b),
        };
    }
    let left = pieces / 2;
    let at = (m * left / pieces).next_multiple_of(LANES);
    let (first, last) = b.columns_range_pair_mut(..at, at..);
    join(|| share(l, first, transposed, left), || share(l, last, transposed, pieces - left));
}

/// Solves for rows `first`..`end` of B with the block of L on the diagonal there.
///
/// Recursive: it solves for the upper half, subtracts its product with the block of L below from
/// the lower half, and solves for that. Nearly all of the work is then in products.
fn solve_rows<T: Real>(l: &DMatrix<T>, first: usize, end: usize, b: &mut DMatrixViewMut<'_, T>) {
    if end - first <= SMALL {
        return solve_small(l, first, end, b, false);
    }
    let middle = first + half(end - first);
    solve_rows(l, first, middle, b);
    let (solved, open) = b.rows_range_pair_mut(first..middle, middle..end);
    let block = l.view((middle, first), (end - middle, middle - first));
    gemm(-T::one(), block, &solved, T::one(), open);
    solve_rows(l, middle, end, b);
}

/// As [`solve_rows`], with the transpose of the block: from the lower half to the upper one.
fn solve_rows_transposed<T: Real>(
    l: &DMatrix<T>,
    first: usize,
    end: usize,
    b: &mut DMatrixViewMut<'_, T>,
) {
    if end - first <= SMALL {
        return solve_small(l, first, end, b, true);
    }
    let middle = first + half(end - first);
    solve_rows_transposed(l, middle, end, b);
    let (open, solved) = b.rows_range_pair_mut(first..middle, middle..end);
    let block = l.view((middle, first), (end - middle, middle - first));
    gemm(-T::one(), Operand::from(&block).transposed(), &solved, T::one(), open);
    solve_rows_transposed(l, first, middle, b);
}

/// x ← L⁻¹x by columns of L, which are contiguous: each x_j is removed from the rows below as soon
/// as it is known.
fn solve_one<T: Real>(l: &DMatrix<T>, x: &mut [T]) {
    with_widest_simd(
        #[inline(always)]
        || {
            let d = x.len();
            for (j, column) in l.as_slice().chunks_exact(d).enumerate() {
                let value = x[j] / column[j];
                x[j] = value;
                for (x, entry) in x[j + 1..].iter_mut().zip(&column[j + 1..]) {
                    *x -= value * *entry;
                }
            }
        },
    );
}

/// x ← L⁻ᵗx. Rows of Lᵗ are columns of L: inner products read them in order.
fn solve_one_transposed<T: Real>(l: &DMatrix<T>, x: &mut [T]) {
    with_widest_simd(
        #[inline(always)]
        || {
            let d = x.len();
            for (j, column) in l.as_slice().chunks_exact(d).enumerate().rev() {
                let (head, tail) = x.split_at_mut(j + 1);
                let (whole, rest) = tail.as_chunks::<LANES>();
                let (entries, last) = column[j + 1..].as_chunks::<LANES>();
                // One partial sum for each lane, so that additions do not wait for each other.
                let mut sums = [T::zero(); LANES];
                for (x, entries) in whole.iter().zip(entries) {
                    for lane in 0..LANES {
                        sums[lane] += entries[lane] * x[lane];
                    }
                }
                let mut sum = super::vector::total(sums);
                for (x, entry) in rest.iter().zip(last) {
                    sum += *entry * *x;
                }
                head[j] = (head[j] - sum) / column[j];
            }
        },
    );
}

/// Overwrites B (d×m) by (LLᵗ)⁻¹B, the solution of AX = B for A = LLᵗ.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut b = dmatrix![6.0; 4.0];
/// elbo::linalg::solve_cholesky(&dmatrix![2.0, 0.0; 1.0, 1.0], b.as_view_mut()); // A = [4 2; 2 2]
/// assert_eq!(b, dmatrix![1.0; 1.0]);
/// ```
pub fn solve_cholesky<T: Real>(l: &DMatrix<T>, mut b: DMatrixViewMut<'_, T>) {
    solve_lower(l, b.as_view_mut());
    solve_lower_transposed(l, b);
}

/// The log-determinant ln |A| of A = LLᵗ, given its Cholesky factor L.
///
/// A sum of logarithms in `f64`: it does not overflow or underflow where the determinant would.
///
/// ```math
/// \ln|A| = 2 \sum_j \ln L_{jj}
/// ```
///
/// ```
/// use nalgebra::dmatrix;
/// assert!(
///     (elbo::linalg::log_determinant(&dmatrix![2.0, 0.0; 1.0, 1.0]) - 4.0_f64.ln()).abs()
///         < 1e-15
/// );
/// ```
pub fn log_determinant<T: Real>(l: &DMatrix<T>) -> T {
    T::of(l.diagonal().iter().map(|v| 2.0 * v.as_f64().ln()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;

    fn check<T: Real>(d: usize) {
        let x = random::<T>(d, 2 * d, 3);
        let a = &x * x.transpose();
        let l = cholesky_lower(a.as_view()).unwrap();
        let tolerance = 30.0 * T::EPSILON.as_f64() * d as f64;
        assert!((&l * l.transpose() - &a).amax().as_f64() < tolerance * a.amax().as_f64());
        assert!(l.upper_triangle() == DMatrix::from_diagonal(&l.diagonal()));
        let solution = random::<T>(d, 3, 4);
        let mut b = &a * &solution;
        solve_cholesky(&l, b.as_view_mut());
        assert!((b - solution).amax().as_f64() < 1e3 * tolerance, "{d}");
        let expected: f64 =
            a.map(|v| v.as_f64()).symmetric_eigenvalues().iter().map(|v| v.ln()).sum();
        assert!((log_determinant(&l).as_f64() - expected).abs() < 1e4 * tolerance);
    }

    #[test]
    fn factors_and_solutions() {
        for d in [1, 5, 64, 65, 200] {
            check::<f64>(d);
            check::<f32>(d);
        }
    }

    /// Solutions with every number of right-hand sides, by both triangles, against nalgebra's.
    fn solves<T: Real>(d: usize) {
        let l = (random::<T>(d, d, 5) + DMatrix::identity(d, d).scale(T::of(3.0 + d as f64 / 4.0)))
            .lower_triangle();
        // What lies above the diagonal is not read.
        let mut dirty = l.clone();
        for j in 1..d {
            dirty.view_mut((0, j), (j, 1)).fill(T::of(f64::NAN));
        }
        let tolerance = 100.0 * T::EPSILON.as_f64();
        for m in [1, 3, 4, 8, 21] {
            let b = random::<T>(d, m, 6);
            // A view whose columns are longer than d.
            let mut padded = DMatrix::zeros(d + 3, m);
            padded.rows_mut(2, d).copy_from(&b);
            solve_lower(&dirty, padded.rows_mut(2, d).as_view_mut());
            let expected = l.solve_lower_triangular(&b).unwrap();
            assert!((padded.rows(2, d) - expected).amax().as_f64() < tolerance, "{d} {m}");
            assert!(padded.rows(0, 2).amax() == T::zero() && padded.row(d + 2).amax() == T::zero());
            let mut x = b.clone();
            solve_lower_transposed(&dirty, x.as_view_mut());
            let expected = l.tr_solve_lower_triangular(&b).unwrap();
            assert!((x - expected).amax().as_f64() < tolerance, "{d} {m}");
        }
    }

    #[test]
    fn solutions_of_every_size() {
        for d in (1..=34).chain([40, 63, 64, 65, 97, 130]) {
            solves::<f64>(d);
            solves::<f32>(d);
        }
    }

    #[test]
    fn every_size_is_factored() {
        for d in 1..=70 {
            check::<f64>(d);
            check::<f32>(d);
        }
        // A pivot fails at any place, and an entry that is not finite is reported.
        for d in [3, 8, 9, 20, 32, 33, 80] {
            for at in [0, d / 2, d - 1] {
                let mut a = DMatrix::<f64>::identity(d, d);
                a[(at, at)] = -1.0;
                assert_eq!(
                    cholesky_lower(a.as_view()),
                    Err(Error::NotPositiveDefinite { size: d })
                );
                // Also above the diagonal, which is not read otherwise.
                a[(at, at)] = 1.0;
                a[(0, d - 1)] = f64::INFINITY;
                assert!(matches!(cholesky_lower(a.as_view()), Err(Error::NotFinite { .. })));
            }
            // The factor of entries close to overflow, and of subnormal ones.
            for scale in [1e307, 1e-310] {
                let l = cholesky_lower(DMatrix::<f64>::identity(d, d).scale(scale).as_view());
                assert!((l.unwrap()[(d - 1, d - 1)] / scale.sqrt() - 1.0).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn subnormal_diagonals_are_divided_by() {
        let l = DMatrix::<f64>::identity(10, 10) * 1e-310;
        let mut b = l.clone();
        solve_lower(&l, b.as_view_mut());
        assert_eq!(b, DMatrix::identity(10, 10));
        let mut b = l.clone();
        solve_lower_transposed(&l, b.as_view_mut());
        assert_eq!(b, DMatrix::identity(10, 10));
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let x = random::<f64>(400, 500, 3);
        let a = &x * x.transpose();
        let run = |t| {
            crate::linalg::testing::with_threads(t, || {
                let l = cholesky_lower(a.as_view()).unwrap();
                let mut b = x.clone();
                solve_cholesky(&l, b.as_view_mut());
                (l, b)
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5));
    }

    #[test]
    fn refusals() {
        let bad = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 1.0]);
        assert_eq!(cholesky_lower(bad.as_view()), Err(Error::NotPositiveDefinite { size: 2 }));
        assert!(cholesky_lower(DMatrix::<f64>::zeros(2, 2).as_view()).is_err());
        assert!(matches!(
            cholesky_lower(DMatrix::<f64>::zeros(2, 3).as_view()),
            Err(Error::DimensionMismatch { .. })
        ));
        assert!(matches!(
            cholesky_lower(DMatrix::from_element(1, 1, f64::NAN).as_view()),
            Err(Error::NotFinite { .. })
        ));
    }

    #[test]
    fn determinants_that_would_underflow() {
        let l = DMatrix::<f64>::identity(500, 500) * 1e-5;
        assert!((log_determinant(&l) - 1000.0 * 1e-5_f64.ln()).abs() < 1e-8);
    }
}

//! General matrix products (GEMM) with arbitrary strides, on the threads of the current rayon pool.
//!
//! A thread allocates its packing buffers on its first product and keeps them: a training step
//! allocates nothing.

use super::kernel::gemm::{NAIVE_MAX_WORK, gemm_naive, gemm_serial};
use super::kernel::{Kernel, Operand, OperandMut, SimdLevel};
use super::parallel::{join, threads};
use super::zeros;
use crate::Real;
use nalgebra::DMatrix;

/// General matrix product (`gemm` in BLAS): overwrites C by αAB + βC.
///
/// ```math
/// C ← α A B + β C
/// ```
/// A is m×k, B k×n, C m×n. Each is a matrix, a view, or a transpose by [`Operand::transposed`].
/// With β = 0 the old C is not read and may hold NaN.
///
/// Results are bit-identical for any number of threads.
///
/// # Panics
/// When the shapes disagree, as nalgebra's own products do.
///
/// ```
/// use nalgebra::dmatrix;
/// let (a, b) = (dmatrix![1.0, 2.0; 3.0, 4.0], dmatrix![1.0; 10.0]);
/// let mut c = dmatrix![100.0; 100.0];
/// elbo::linalg::gemm(1.0, &a, &b, 1.0, &mut c);
/// assert_eq!(c, dmatrix![121.0; 143.0]);
/// ```
pub fn gemm<'a, 'b, 'c, T: Real>(
    alpha: T,
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
    beta: T,
    c: impl Into<OperandMut<'c, T>>,
) {
    let (a, b, c) = (a.into(), b.into(), c.into());
    let ((m, k), (inner, n)) = (a.shape(), b.shape());
    assert!(
        k == inner && c.shape() == (m, n),
        "product of {m}x{k} and {inner}x{n} into {}x{}: the shapes disagree",
        c.shape().0,
        c.shape().1
    );
    product(SimdLevel::detect(), alpha, a, b, beta, c);
}

/// [`gemm`] with a given instruction-set level: the tests run all of them.
pub(crate) fn product<T: Kernel>(
    level: SimdLevel,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    product_among(level, usize::MAX, alpha, a, b, beta, c);
}

/// [`product`] on at most `most` threads.
fn product_among<T: Kernel>(
    level: SimdLevel,
    most: usize,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    let ((m, k), n) = (a.shape(), b.shape().1);
    let work = m.saturating_mul(n).saturating_mul(k);
    // Packing, tiles and threads cost more than a few hundred multiply-adds.
    if work <= NAIVE_MAX_WORK {
        return gemm_naive(alpha, a, b, beta, c);
    }
    // A view with stride 0 has entries that share memory: threads would race on them.
    let pieces = if c.entries_are_disjoint() { threads(work).min(most) } else { 1 };
    split(level, alpha, a, b, beta, c, pieces);
}

/// [`gemm`] on at most `most` threads.
pub(crate) fn gemm_with_max_threads<T: Real>(
    most: usize,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    product_among(SimdLevel::detect(), most, alpha, a, b, beta, c);
}

/// Entries that are packed in the time of one SIMD multiply-add: the unit of the cost model below.
const PACKING_RATE: usize = 1;

/// Bisects the rows or the columns of C recursively, until there is a part for each thread.
fn split<T: Kernel>(
    level: SimdLevel,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
    pieces: usize,
) {
    if pieces <= 1 {
        return gemm_serial(level, alpha, a, b, beta, c);
    }
    let ((m, n), k) = (c.shape(), a.shape().1);
    let kernels = T::micro_kernels(level);
    let left = pieces / 2;
    let share = |size: usize, step: usize| {
        ((size * left).div_ceil(pieces)).next_multiple_of(step).min(size)
    };
    // The cut is at whole SIMD vectors of rows, or at quarters of a tile's columns, for which there
    // are micro-kernels. Cuts at whole tiles gave one of two threads 144 of 200 rows; with these
    // the VAE steps take 0.88 to 0.93 of the time.
    let (rows, columns) = (share(m, kernels.lanes), share(n, kernels.column_step()));
    // The cheaper of the two cuts: both parts pack the operand that is not cut, and the larger part
    // determines the time.
    let time = |m: usize, n: usize, whole: usize| {
        m.div_ceil(kernels.lanes) * n * k + whole * k / PACKING_RATE
    };
    let larger = |size: usize, part: usize| part.max(size - part);
    let by_rows = time(larger(m, rows), n, n) <= time(m, larger(n, columns), m);
    // Too small to be cut: one part would be everything.
    let undivided = if by_rows { rows == m } else { columns == n };
    if undivided {
        return gemm_serial(level, alpha, a, b, beta, c);
    }
    if by_rows {
        let (top, bottom) = c.split_rows(rows);
        join(
            || split(level, alpha, a.part(0, 0, rows, k), b, beta, top, left),
            || split(level, alpha, a.part(rows, 0, m - rows, k), b, beta, bottom, pieces - left),
        );
    } else {
        let (first, last) = c.split_columns(columns);
        join(
            || split(level, alpha, a, b.part(0, 0, k, columns), beta, first, left),
            || {
                split(
                    level,
                    alpha,
                    a,
                    b.part(0, columns, k, n - columns),
                    beta,
                    last,
                    pieces - left,
                )
            },
        );
    }
}

/// The product AB of an m×k and a k×n matrix, m×n.
///
/// # Panics
/// When the inner sizes disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let c = elbo::linalg::matrix_product(&dmatrix![1.0, 2.0], &dmatrix![3.0; 4.0]);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn matrix_product<'a, 'b, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
) -> DMatrix<T> {
    let (a, b) = (a.into(), b.into());
    let mut c = zeros(a.shape().0, b.shape().1);
    gemm(T::one(), a, b, T::zero(), &mut c);
    c
}

/// The product AᵗB of a k×m and a k×n matrix, m×n, without a copy of Aᵗ.
///
/// # Panics
/// When the numbers of rows disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let c = elbo::linalg::product_tr_left(&dmatrix![1.0; 2.0], &dmatrix![3.0; 4.0]);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn product_tr_left<'a, 'b, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
) -> DMatrix<T> {
    matrix_product(a.into().transposed(), b)
}

/// The product ABᵗ of an m×k and an n×k matrix, m×n, without a copy of Bᵗ.
///
/// # Panics
/// When the numbers of columns disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let c = elbo::linalg::product_tr_right(&dmatrix![1.0, 2.0], &dmatrix![3.0, 4.0]);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn product_tr_right<'a, 'b, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
) -> DMatrix<T> {
    matrix_product(a, b.into().transposed())
}

/// Writes the product AB to `c` (m×n): [`matrix_product`] without an allocation.
///
/// # Panics
/// When the shapes disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut c = dmatrix![0.0];
/// elbo::linalg::matrix_product_into(&dmatrix![1.0, 2.0], &dmatrix![3.0; 4.0], &mut c);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn matrix_product_into<'a, 'b, 'c, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
    c: impl Into<OperandMut<'c, T>>,
) {
    gemm(T::one(), a, b, T::zero(), c);
}

/// Writes the product AᵗB to `c` (m×n): [`product_tr_left`] without an allocation.
///
/// # Panics
/// When the shapes disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut c = dmatrix![0.0];
/// elbo::linalg::product_tr_left_into(&dmatrix![1.0; 2.0], &dmatrix![3.0; 4.0], &mut c);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn product_tr_left_into<'a, 'b, 'c, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
    c: impl Into<OperandMut<'c, T>>,
) {
    gemm(T::one(), a.into().transposed(), b, T::zero(), c);
}

/// Writes the product ABᵗ to `c` (m×n): [`product_tr_right`] without an allocation.
///
/// # Panics
/// When the shapes disagree.
///
/// ```
/// use nalgebra::dmatrix;
/// let mut c = dmatrix![0.0];
/// elbo::linalg::product_tr_right_into(&dmatrix![1.0, 2.0], &dmatrix![3.0, 4.0], &mut c);
/// assert_eq!(c, dmatrix![11.0]);
/// ```
pub fn product_tr_right_into<'a, 'b, 'c, T: Real>(
    a: impl Into<Operand<'a, T>>,
    b: impl Into<Operand<'b, T>>,
    c: impl Into<OperandMut<'c, T>>,
) {
    gemm(T::one(), a, b.into().transposed(), T::zero(), c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{random, with_threads};

    fn check<T: Real>(m: usize, n: usize, k: usize) {
        let (a, b) = (random::<T>(m + 3, k + 2, 1), random::<T>(k + 1, n + 2, 2));
        let (a, b) = (a.view((2, 1), (m, k)), b.view((1, 2), (k, n)));
        let expected = a.clone_owned() * b.clone_owned();
        let bound = T::EPSILON * T::of_usize(4 * (k + 4));
        for level in SimdLevel::available() {
            let start = random::<T>(m + 2, n + 1, 3);
            let mut c = start.clone();
            let part = c.view_mut((1, 1), (m, n));
            product(level, T::of(2.0), a.into(), b.into(), T::of(0.5), part.into());
            let wanted = expected.scale(T::of(2.0)) + start.view((1, 1), (m, n)).scale(T::of(0.5));
            assert!((c.view((1, 1), (m, n)) - &wanted).amax() <= bound, "{level:?} {m} {n} {k}");
            c.view_mut((1, 1), (m, n)).copy_from(&start.view((1, 1), (m, n)));
            assert_eq!(c, start, "{level:?} wrote outside its place");
            // Both transposed, into a transpose.
            let (at, bt) = (a.transpose(), b.transpose());
            let mut ct = DMatrix::from_element(n, m, T::of(f64::NAN));
            let (x, y) = (Operand::from(&at).transposed(), Operand::from(&bt).transposed());
            product(level, T::one(), x, y, T::zero(), OperandMut::from(&mut ct).transposed());
            assert!((ct.transpose() - &expected).amax() <= bound, "{level:?} {m} {n} {k}");
        }
    }

    #[test]
    fn products_agree_with_nalgebra() {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 2, 0),
            (1, 7, 5),
            (7, 1, 5),
            (50, 3, 20),
            (24, 8, 16),
            (49, 50, 51),
            (100, 9, 600),
            (5, 130, 33),
        ] {
            check::<f64>(m, n, k);
            check::<f32>(m, n, k);
        }
    }

    #[test]
    fn strided_rows_and_a_vector() {
        let a = random::<f64>(12, 9, 5);
        let rows = a.rows_with_step(0, 4, 2);
        let v = nalgebra::DVector::from_fn(9, |i, _| i as f64);
        assert!((matrix_product(&rows, &v) - rows.clone_owned() * &v).amax() < 1e-12);
    }

    fn same_bits<T: Real>() {
        let (a, b) = (random::<T>(301, 257, 1), random::<T>(257, 190, 2));
        let one = with_threads(1, || matrix_product(&a, &b));
        for threads in [2, 3, 5] {
            assert_eq!(one, with_threads(threads, || matrix_product(&a, &b)));
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        same_bits::<f64>();
        same_bits::<f32>();
    }
}

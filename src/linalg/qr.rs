//! Thin QR factorisation by Householder reflections, blocked: the reflections of a panel are
//! applied to the remaining columns together, by matrix products.
//!
//! Legend: a reflection is I − τ v vᵗ with v_0 = 1; those of a panel are I − V T Vᵗ with T upper
//! triangular (compact WY form, Schreiber and Van Loan 1989; Golub & Van Loan, section 5.2;
//! LAPACK's `geqrf`).

use super::kernel::Operand;
use super::kernel::vector::{add_scaled, dot, norm};
use super::moments::check_finite;
use super::product::gemm;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// The number of columns of a panel.
// The usual block size of LAPACK's `geqrf`. Wider panels leave more of the work to vector
// operations, narrower ones make thin and slow matrix products.
const PANEL: usize = 32;

/// A QR factorisation in factored form: R, and the reflections whose product is Q.
struct Reflections<T: Real> {
    /// R on and above the diagonal; below it the vectors v, without their leading 1.
    packed: DMatrix<T>,
    /// The factors τ.
    factors: Vec<T>,
    /// The triangular factor T of each panel.
    triangles: Vec<DMatrix<T>>,
}

/// The thin QR factors of an m×n matrix with m ≥ n: Q (m×n) with orthonormal columns, R (n×n) upper
/// triangular with a diagonal ≥ 0.
///
/// ```math
/// A = QR, \quad Q^⊤Q = I
/// ```
/// Q has orthonormal columns also where columns of A are zero or dependent. The error of each
/// column of QR is small relative to that column.
///
/// # Errors
/// [`Error::DimensionMismatch`] when m < n, [`Error::Empty`] for a matrix without entries,
/// [`Error::NotFinite`] when an entry or the norm of a column is not finite.
///
/// ```
/// use nalgebra::dmatrix;
/// let a = dmatrix![3.0, 1.0; 4.0, 2.0; 0.0, 5.0];
/// let (q, r) = elbo::linalg::thin_qr(a.as_view())?;
/// assert!((&q * &r - a).amax() < 1e-14 && (r[(0, 0)] - 5.0_f64).abs() < 1e-14);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn thin_qr<T: Real>(a: DMatrixView<'_, T>) -> Result<(DMatrix<T>, DMatrix<T>)> {
    let reflections = reflect(a)?;
    let (mut q, mut r) = (reflections.basis(), reflections.triangle());
    // A diagonal ≥ 0 makes the factors unique for a matrix of full rank.
    for i in 0..r.nrows() {
        if r[(i, i)] < T::zero() {
            r.row_mut(i).neg_mut();
            q.column_mut(i).neg_mut();
        }
    }
    Ok((q, r))
}

/// The factor R of [`thin_qr`] without Q (n×n, diagonal ≥ 0), so that AᵗA = RᵗR.
///
/// # Errors
/// As for [`thin_qr`].
///
/// ```
/// use nalgebra::dmatrix;
/// let r = elbo::linalg::r_factor(dmatrix![3.0; 4.0].as_view())?;
/// assert!((r[(0, 0)] - 5.0_f64).abs() < 1e-14);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn r_factor<T: Real>(a: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
    let mut r = reflect(a)?.triangle();
    for i in 0..r.nrows() {
        if r[(i, i)] < T::zero() {
            r.row_mut(i).neg_mut();
        }
    }
    Ok(r)
}

/// An orthonormal basis (m×n) of the column space of an m×n matrix, m ≥ n: the Q of [`thin_qr`].
/// Where columns are dependent, further orthonormal directions complete it.
///
/// # Errors
/// As for [`thin_qr`].
///
/// ```
/// use nalgebra::dmatrix;
/// let q = elbo::linalg::orthonormalize(dmatrix![1.0, 1.0; 1.0, 1.0].as_view())?;
/// assert!((q.transpose() * &q - nalgebra::DMatrix::identity(2, 2)).amax() < 1e-14_f64);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn orthonormalize<T: Real>(a: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
    Ok(thin_qr(a)?.0)
}

/// The blocked Householder factorisation of an m×n matrix with m ≥ n.
fn reflect<T: Real>(a: DMatrixView<'_, T>) -> Result<Reflections<T>> {
    check_finite(a)?;
    let (m, n) = a.shape();
    if m < n {
        return Err(Error::DimensionMismatch {
            what: "rows of a tall matrix, at least its columns",
            expected: n,
            actual: m,
        });
    }
    let mut packed = a.clone_owned();
    let (mut factors, mut triangles) = (vec![T::zero(); n], Vec::with_capacity(n.div_ceil(PANEL)));
    for first in (0..n).step_by(PANEL) {
        let width = PANEL.min(n - first);
        // 1. Factor the panel; each reflection is applied to the later columns of the panel only.
        for j in first..first + width {
            let (left, right) = packed.as_mut_slice().split_at_mut((j + 1) * m);
            let v = &mut left[j * m + j..];
            factors[j] = reflection(v);
            // Its leading 1 stands in the place of the diagonal entry while it is applied.
            let diagonal = std::mem::replace(&mut v[0], T::one());
            for column in right.chunks_exact_mut(m).take(first + width - j - 1) {
                let entries = &mut column[j..];
                let factor = factors[j] * dot(v, entries);
                add_scaled(entries, -factor, v);
            }
            v[0] = diagonal;
        }
        // 2. Apply all of them to the columns after the panel, the first one first: that is the
        //    transpose of I − V T Vᵗ, hence Tᵗ.
        let vectors = lower_panel(&packed, first, width);
        let triangle = triangular_factor(&vectors, &factors[first..first + width]);
        let rest = n - first - width;
        if rest > 0 {
            let mut trailing = packed.view_mut((first, first + width), (m - first, rest));
            apply(&vectors, Operand::from(&triangle).transposed(), &mut trailing);
        }
        triangles.push(triangle);
    }
    if packed.iter().any(|v| !v.is_finite()) {
        // The entries of A are finite, but the norm of a column overflows: R cannot be represented.
        return Err(Error::NotFinite { row: 0, column: 0, value: f64::INFINITY });
    }
    Ok(Reflections { packed, factors, triangles })
}

/// The Householder reflection I − τ v vᵗ that zeroes x after its first entry (LAPACK's `larfg`).
///
/// Returns τ, which is 0 where x is zero there already. Overwrites x_0 by the new diagonal entry,
/// and the entries after it by those of v, whose first entry is 1.
pub(crate) fn reflection<T: Real>(x: &mut [T]) -> T {
    let tail = norm(&x[1..]);
    if tail == T::zero() {
        return T::zero();
    }
    // Divided by the larger of |x_0| and the norm of the rest, so that the squares neither overflow
    // nor underflow.
    let unit = x[0].abs().max(tail);
    let (head, tail) = (x[0] / unit, tail / unit);
    let length = (head * head + tail * tail).sqrt();
    // The sign opposite to that of x_0: `divisor` is then a sum of numbers of one sign, without
    // cancellation.
    let diagonal = if head > T::zero() { -length } else { length };
    let divisor = head - diagonal;
    for v in &mut x[1..] {
        *v = (*v / unit) / divisor;
    }
    x[0] = diagonal * unit;
    (diagonal - head) / diagonal
}

/// The matrix V of a panel, with the ones on its diagonal and the zeros above it.
fn lower_panel<T: Real>(packed: &DMatrix<T>, first: usize, width: usize) -> DMatrix<T> {
    let mut vectors = packed.view((first, first), (packed.nrows() - first, width)).clone_owned();
    for j in 0..width {
        vectors.view_mut((0, j), (j, 1)).fill(T::zero());
        vectors[(j, j)] = T::one();
    }
    vectors
}

/// The matrix T of a panel: column j has τ_j on the diagonal and −τ_j T (Vᵗv_j) above it.
fn triangular_factor<T: Real>(vectors: &DMatrix<T>, factors: &[T]) -> DMatrix<T> {
    let width = factors.len();
    let inner = super::product::product_tr_left(vectors, vectors);
    let mut triangle = DMatrix::zeros(width, width);
    for j in 0..width {
        triangle[(j, j)] = factors[j];
        for i in 0..j {
            let sum = (i..j).fold(T::zero(), |s, l| s + triangle[(i, l)] * inner[(l, j)]);
            triangle[(i, j)] = -factors[j] * sum;
        }
    }
    triangle
}

/// Applies the reflections of a panel: C ← (I − V T Vᵗ) C.
fn apply<T: Real>(
    vectors: &DMatrix<T>,
    triangle: Operand<'_, T>,
    c: &mut nalgebra::DMatrixViewMut<'_, T>,
) {
    let products = super::product::product_tr_left(vectors, &*c);
    let scaled = super::product::matrix_product(triangle, &products);
    gemm(-T::one(), vectors, &scaled, T::one(), c);
}

impl<T: Real> Reflections<T> {
    /// R, with zeros below the diagonal.
    fn triangle(&self) -> DMatrix<T> {
        let n = self.packed.ncols();
        DMatrix::from_fn(n, n, |i, j| if i <= j { self.packed[(i, j)] } else { T::zero() })
    }

    /// Q (m×n): the first n columns of the product of all reflections.
    fn basis(&self) -> DMatrix<T> {
        let (m, n) = self.packed.shape();
        let mut q = DMatrix::zeros(m, n);
        q.fill_diagonal(T::one());
        // From the last panel to the first. A panel leaves the rows and columns before its first
        // one alone, because q is still the identity there.
        for (panel, triangle) in self.triangles.iter().enumerate().rev() {
            let first = panel * PANEL;
            let vectors = lower_panel(&self.packed, first, triangle.ncols());
            let mut part = q.view_mut((first, first), (m - first, n - first));
            apply(&vectors, triangle.into(), &mut part);
        }
        debug_assert_eq!(self.factors.len(), n);
        q
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{hard_matrices, orthonormality, random, with_threads};

    fn check<T: Real>(a: &DMatrix<T>) {
        let (q, r) = thin_qr(a.as_view()).unwrap();
        let tolerance = 20.0 * T::EPSILON.as_f64() * (a.ncols() as f64).sqrt();
        assert!(orthonormality(&q) < tolerance, "{:e} of {:?}", orthonormality(&q), a.shape());
        let back = super::super::matrix_product(&q, &r);
        for j in 0..a.ncols() {
            let (error, size) = (
                norm((back.column(j) - a.column(j)).as_slice()),
                norm(a.column(j).clone_owned().as_slice()),
            );
            let (error, size) = (error.as_f64(), size.as_f64());
            assert!(error <= tolerance * size, "column {j}: {error:e} of {size:e}");
            assert!(
                r[(j, j)] >= T::zero()
                    && r.view((j + 1, j), (a.ncols() - j - 1, 1)).iter().all(|v| *v == T::zero())
            );
        }
        let again = r_factor(a.as_view()).unwrap();
        assert_eq!(again, r);
    }

    #[test]
    fn factors_of_hard_matrices() {
        for a in hard_matrices() {
            let a = if a.nrows() >= a.ncols() { a } else { a.transpose() };
            check(&a);
            check(&a.map(|v| v as f32));
        }
    }

    #[test]
    fn extreme_scales() {
        for scale in [1e-300, 1e-160, 1e160, 1e300] {
            check(&random::<f64>(20, 7, 1).scale(scale));
        }
        check(&random::<f32>(20, 7, 1).scale(1e-35));
    }

    #[test]
    fn refusals() {
        assert!(matches!(
            thin_qr(DMatrix::<f64>::zeros(2, 3).as_view()),
            Err(Error::DimensionMismatch { expected: 3, actual: 2, .. })
        ));
        assert!(matches!(
            r_factor(DMatrix::<f64>::zeros(0, 0).as_view()),
            Err(Error::Empty { .. })
        ));
        assert!(orthonormalize(DMatrix::from_element(3, 1, f32::NAN).as_view()).is_err());
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let a = random::<f64>(900, 120, 8);
        let run = |t| with_threads(t, || thin_qr(a.as_view()).unwrap());
        assert!(run(1) == run(2));
    }
}

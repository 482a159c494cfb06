//! Thin QR by Householder reflections, in panels whose reflections are applied together as
//! products.
//!
//! Legend: a reflection is I − τ v vᵗ with v_0 = 1; a panel of them I − V T Vᵗ, T upper triangular.

use super::kernel::Operand;
use super::kernel::vector::{add_scaled, dot, norm};
use super::moments::check_finite;
use super::product::gemm;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// Columns of a panel.
const PANEL: usize = 32;

/// The reflections that bring a matrix to triangular form.
struct Reflections<T: Real> {
    /// R on and above the diagonal, the vectors v below it.
    packed: DMatrix<T>,
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
/// Q is orthonormal for zero and dependent columns too; the error of each column of QR is small
/// against that column.
///
/// # Errors
/// [`Error::DimensionMismatch`] when m < n, [`Error::Empty`] and [`Error::NotFinite`] for what is
/// no data.
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
    for i in 0..r.nrows() {
        if r[(i, i)] < T::zero() {
            r.row_mut(i).neg_mut();
            q.column_mut(i).neg_mut();
        }
    }
    Ok((q, r))
}

/// The factor R alone of [`thin_qr`] (n×n, diagonal ≥ 0): AᵗA = RᵗR.
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

/// Orthonormal columns that span those of an m×n matrix, m ≥ n (and more, where these are
/// dependent): the Q of [`thin_qr`].
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
        for j in first..first + width {
            let (left, right) = packed.as_mut_slice().split_at_mut((j + 1) * m);
            let v = &mut left[j * m + j..];
            factors[j] = reflection(v);
            let diagonal = std::mem::replace(&mut v[0], T::one());
            for column in right.chunks_exact_mut(m).take(first + width - j - 1) {
                let entries = &mut column[j..];
                let factor = factors[j] * dot(v, entries);
                add_scaled(entries, -factor, v);
            }
            v[0] = diagonal;
        }
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
        // Finite data whose norm is not: R cannot be represented.
        return Err(Error::NotFinite { row: 0, column: 0, value: f64::INFINITY });
    }
    Ok(Reflections { packed, factors, triangles })
}

/// Turns x into v below and the new diagonal entry in x_0; returns τ.
pub(crate) fn reflection<T: Real>(x: &mut [T]) -> T {
    let tail = norm(&x[1..]);
    if tail == T::zero() {
        return T::zero();
    }
    // In units of the largest entry nothing over- or underflows.
    let unit = x[0].abs().max(tail);
    let (head, tail) = (x[0] / unit, tail / unit);
    let length = (head * head + tail * tail).sqrt();
    let diagonal = if head > T::zero() { -length } else { length };
    let divisor = head - diagonal;
    for v in &mut x[1..] {
        *v = (*v / unit) / divisor;
    }
    x[0] = diagonal * unit;
    (diagonal - head) / diagonal
}

/// The vectors of a panel, with their ones and zeros written out.
fn lower_panel<T: Real>(packed: &DMatrix<T>, first: usize, width: usize) -> DMatrix<T> {
    let mut vectors = packed.view((first, first), (packed.nrows() - first, width)).clone_owned();
    for j in 0..width {
        vectors.view_mut((0, j), (j, 1)).fill(T::zero());
        vectors[(j, j)] = T::one();
    }
    vectors
}

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

/// C ← (I − V T Vᵗ) C.
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
    fn triangle(&self) -> DMatrix<T> {
        let n = self.packed.ncols();
        DMatrix::from_fn(n, n, |i, j| if i <= j { self.packed[(i, j)] } else { T::zero() })
    }

    /// The first n columns of the product of all reflections.
    fn basis(&self) -> DMatrix<T> {
        let (m, n) = self.packed.shape();
        let mut q = DMatrix::zeros(m, n);
        q.fill_diagonal(T::one());
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
    fn same_bits_for_any_threads() {
        let a = random::<f64>(900, 120, 8);
        let run = |t| with_threads(t, || thin_qr(a.as_view()).unwrap());
        assert!(run(1) == run(2));
    }
}

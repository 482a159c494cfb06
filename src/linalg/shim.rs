//! temporary
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};

/// Whether a factor enters a product transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transpose {
    /// As it is.
    No,
    /// Transposed.
    Yes,
}

/// C ← α op(A) op(B) + β C
pub fn gemm<T: Real>(
    alpha: T,
    a: DMatrixView<'_, T>,
    ta: Transpose,
    b: DMatrixView<'_, T>,
    tb: Transpose,
    beta: T,
    mut c: DMatrixViewMut<'_, T>,
) {
    let a = if ta == Transpose::Yes { a.transpose() } else { a.into_owned() };
    let b = if tb == Transpose::Yes { b.transpose() } else { b.into_owned() };
    c.gemm(alpha, &a, &b, beta);
}

/// A B
pub fn matrix_product<T: Real>(a: DMatrixView<'_, T>, b: DMatrixView<'_, T>) -> DMatrix<T> {
    a * b
}
/// Aᵗ B
pub fn product_tr_left<T: Real>(a: DMatrixView<'_, T>, b: DMatrixView<'_, T>) -> DMatrix<T> {
    a.transpose() * b
}
/// A Bᵗ
pub fn product_tr_right<T: Real>(a: DMatrixView<'_, T>, b: DMatrixView<'_, T>) -> DMatrix<T> {
    a * b.transpose()
}

/// finite
pub fn check_finite<T: Real>(a: DMatrixView<'_, T>) -> Result<()> {
    for (column, c) in a.column_iter().enumerate() {
        for (row, v) in c.iter().enumerate() {
            if !v.is_finite() {
                return Err(Error::NotFinite { row, column, value: v.as_f64() });
            }
        }
    }
    Ok(())
}
/// svd
#[derive(Debug, Clone)]
pub struct ThinSvd<T: Real> {
    /// u
    pub u: DMatrix<T>,
    /// s
    pub singular_values: DVector<T>,
    /// v
    pub v: DMatrix<T>,
}
/// svd
pub fn thin_svd<T: Real>(a: DMatrixView<'_, T>) -> Result<ThinSvd<T>> {
    check_finite(a)?;
    // one-sided jacobi, plain
    let (m, n) = a.shape();
    if m < n {
        let t = a.transpose();
        let s = thin_svd(t.as_view())?;
        return Ok(ThinSvd { u: s.v, singular_values: s.singular_values, v: s.u });
    }
    let mut u = a.into_owned();
    let mut v = DMatrix::<T>::identity(n, n);
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let (alpha, beta, gamma) = (u.column(p).norm_squared(), u.column(q).norm_squared(), u.column(p).dot(&u.column(q)));
                if gamma.abs() <= T::of(4.0) * T::EPSILON * (alpha * beta).sqrt() || gamma == T::zero() {
                    continue;
                }
                rotated = true;
                let zeta = (beta - alpha) / (T::of(2.0) * gamma);
                let t = zeta.signum() / (zeta.abs() + (T::one() + zeta * zeta).sqrt());
                let c = T::one() / (T::one() + t * t).sqrt();
                let s = c * t;
                for mat in [&mut u, &mut v] {
                    for i in 0..mat.nrows() {
                        let (x, y) = (mat[(i, p)], mat[(i, q)]);
                        mat[(i, p)] = c * x - s * y;
                        mat[(i, q)] = s * x + c * y;
                    }
                }
            }
        }
        if !rotated {
            break;
        }
    }
    let norms: Vec<T> = u.column_iter().map(|c| c.norm()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| norms[j].partial_cmp(&norms[i]).unwrap());
    let sv = DVector::from_iterator(n, order.iter().map(|&i| norms[i]));
    let uu = DMatrix::from_fn(m, n, |i, j| if sv[j] > T::zero() { u[(i, order[j])] / sv[j] } else { T::zero() });
    let vv = DMatrix::from_fn(n, n, |i, j| v[(i, order[j])]);
    Ok(ThinSvd { u: uu, singular_values: sv, v: vv })
}
/// r
pub fn r_factor<T: Real>(a: DMatrixView<'_, T>) -> Result<DMatrix<T>> {
    check_finite(a)?;
    Ok(a.into_owned().qr().r())
}
/// qr
pub fn thin_qr<T: Real>(a: DMatrixView<'_, T>) -> Result<(DMatrix<T>, DMatrix<T>)> {
    check_finite(a)?;
    let qr = a.into_owned().qr();
    Ok((qr.q(), qr.r()))
}

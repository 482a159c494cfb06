//! The leading eigenpairs of a large symmetric operator from products with blocks of vectors: block
//! Krylov with Rayleigh–Ritz.
//!
//! Legend: A the operator, Q the orthonormal basis built so far, H = QᵗAQ; A Q y − θ Q y = Q_next B
//! y_last is the residual of a Ritz pair.

use super::symmetric::{SymmetricEigen, leading};
use crate::linalg::kernel::vector::norm;
use crate::linalg::svd::largest_entry;
use crate::linalg::{
    Operand, check_finite, cholesky_lower, gemm, matrix_product, orthonormalize, product_tr_left,
    solve_lower, thin_qr, zeros,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};

/// Products with a block at most.
const PRODUCTS: usize = 400;
/// How often a block is made orthogonal to the basis at most.
const MOST_PASSES: usize = 5;
const SEARCH: &str = "the block Krylov search for eigenvectors";
/// A residual of this share of the largest eigenvalue ends the search in double precision.
pub(super) const SHARE: f64 = 1e-9;

/// The k largest eigenvalues and eigenvectors of a symmetric positive semidefinite operator known
/// by its products alone.
///
/// `apply(v, out)` writes A·V into `out` (both `dimension`×b, with b of its choosing); X(XᵗV) needs
/// no d×d matrix. The start is fixed, so the same operator gives the same bits. Each residual ‖Av −
/// λv‖ is at most 1e-9 of λ_1 (64 ε in `f32`).
///
/// # Errors
/// What `apply` returns; [`Error::Empty`] for dimension 0, [`Error::NotFinite`] when a product is
/// not finite, [`Error::DecompositionLimit`] after 400 products.
///
/// ```
/// use elbo::linalg::{leading_eigenpairs_of, product_tr_left_into, matrix_product};
/// use nalgebra::DMatrix;
/// let x = DMatrix::from_fn(30, 200, |i, j| ((7 * i + 3 * j) % 11) as f64);
/// let eigen = leading_eigenpairs_of(200, 2, |v, mut out| {
///     product_tr_left_into(&x, &matrix_product(&x, v), &mut out);
///     Ok(())
/// })?;
/// let product = x.transpose() * (&x * eigen.vectors.column(0));
/// assert!((product - eigen.vectors.column(0) * eigen.values[0]).norm() < 1e-8 * eigen.values[0]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn leading_eigenpairs_of<T: Real>(
    dimension: usize,
    k: usize,
    mut apply: impl FnMut(DMatrixView<'_, T>, DMatrixViewMut<'_, T>) -> Result<()>,
) -> Result<SymmetricEigen<T>> {
    if dimension == 0 {
        return Err(Error::Empty { rows: 0, columns: 0 });
    }
    let k = k.min(dimension);
    let block = (k.div_ceil(2) + 6).next_multiple_of(8).min(48);
    // Four times what is asked for rarely fills up; then the best part is kept.
    let room = (4 * k + 12 * block).max(10 * block);
    if dimension <= room + block {
        let mut whole = DMatrix::zeros(dimension, dimension);
        apply(DMatrix::identity(dimension, dimension).as_view(), whole.as_view_mut())?;
        return leading(whole.as_view(), k);
    }
    if k == 0 {
        return Ok(SymmetricEigen {
            values: DVector::zeros(0),
            vectors: DMatrix::zeros(dimension, 0),
        });
    }
    search(dimension, k, block, room, true, apply)?
        .ok_or(Error::DecompositionLimit { what: SEARCH, limit: PRODUCTS })
}

/// The search in a basis of at most `room` columns; without `restarts` it is given up (`None`) as
/// soon as the room will not do.
pub(super) fn search<T: Real>(
    dimension: usize,
    k: usize,
    block: usize,
    room: usize,
    restarts: bool,
    mut apply: impl FnMut(DMatrixView<'_, T>, DMatrixViewMut<'_, T>) -> Result<()>,
) -> Result<Option<SymmetricEigen<T>>> {
    let mut search = Search {
        basis: zeros(dimension, room + block),
        inner: zeros(room + block, room + block),
        size: 0,
        block,
    };
    let start = pseudo_random(dimension, block);
    search.basis.columns_mut(0, block).copy_from(&orthonormalize(start.as_view())?);
    let mut next_look = 2 * k + 2 * block;
    // A residual as a share of the largest eigenvalue, and the size it was seen at: all of it, when
    // only what is wanted was there.
    let mut before = Some((k, 1.0));
    let mut product = DMatrix::zeros(dimension, block);
    for _ in 0..PRODUCTS {
        let first = search.size;
        apply(search.basis.columns(first, block), product.as_view_mut())?;
        check_finite(product.as_view())?;
        let beyond = search.extend(&mut product)?;
        // The next product needs a place for the block beyond it.
        let full = search.size + block > room;
        if search.size < next_look && !full {
            continue;
        }
        let wanted = if full { (k + block).min(search.size) } else { k };
        let ritz = leading(search.inner.view((0, 0), (search.size, search.size)), wanted)?;
        let tail = ritz.vectors.rows(search.size - block, block);
        let residuals = &beyond * tail;
        let (limit, largest) = (SHARE.max(64.0 * T::EPSILON.as_f64()), ritz.values[0].abs());
        let worst = (0..k).map(|j| norm(residuals.column(j).as_slice())).fold(0.0, f64::max);
        if worst <= limit * largest {
            return Ok(Some(search.pairs(&ritz, k)));
        }
        let worst = worst / largest;
        // At the rate since the last look (it grows, as a rule): so many columns more.
        let needed = before.map(|(size, residual)| {
            let rate = (residual / worst).ln() / (search.size - size) as f64;
            if rate > 0.0 { (worst / limit).ln() / rate } else { f64::INFINITY }
        });
        if !restarts
            && (full || needed.is_some_and(|needed| needed > 2.0 * (room - search.size) as f64))
        {
            return Ok(None);
        }
        before = Some((search.size, worst));
        let share = needed.map_or(0.2 * search.size as f64, |needed| {
            (0.6 * needed).min(0.5 * search.size as f64)
        });
        next_look = search.size + (share as usize).max(block);
        if full {
            search.restart(&ritz);
            (before, next_look) = (None, search.size + 2 * block);
        }
    }
    Ok(None)
}

struct Search<T: Real> {
    basis: DMatrix<T>,
    /// H, in double precision.
    inner: DMatrix<f64>,
    /// Columns of the basis whose products are known; the next block stands beyond them.
    size: usize,
    block: usize,
}

impl<T: Real> Search<T> {
    /// Takes A times the last block: H grows by it and the next block is what is new in it. Returns
    /// B.
    fn extend(&mut self, product: &mut DMatrix<T>) -> Result<DMatrix<f64>> {
        let (first, block) = (self.size, self.block);
        let known = first + block;
        let mut factor = DMatrix::<f64>::identity(block, block);
        for pass in 0..MOST_PASSES {
            let basis = self.basis.columns(0, known);
            let along = product_tr_left(basis, &*product);
            gemm(-T::one(), basis, &along, T::one(), &mut *product);
            // A Q = Q H + (what is left): later passes correct H in units of the factor taken out
            // so far.
            let along = along.map(|v| v.as_f64());
            let orthogonal = pass > 0 && along.amax() < T::EPSILON.as_f64().sqrt();
            let share = if pass == 0 { along } else { &along * &factor };
            let mut column = self.inner.view_mut((0, first), (known, block));
            column += share;
            let r = orthonormalize_block(product)?;
            factor = r * factor;
            // Twice is enough, unless next to nothing was new: that much of rounding has to be made
            // orthogonal once more.
            if orthogonal {
                break;
            }
        }
        for i in 0..known {
            for j in first..known {
                let value = if i < first {
                    self.inner[(i, j)]
                } else {
                    0.5 * (self.inner[(i, j)] + self.inner[(j, i)])
                };
                self.inner[(i, j)] = value;
                self.inner[(j, i)] = value;
            }
        }
        self.size = known;
        self.basis.columns_mut(known, block).copy_from(product);
        Ok(factor)
    }

    /// The k best pairs, with vectors orthonormal to working precision.
    fn pairs(&self, ritz: &SymmetricEigen<f64>, k: usize) -> SymmetricEigen<T> {
        let coordinates = ritz.vectors.columns(0, k).map(T::of);
        let mut vectors = matrix_product(self.basis.columns(0, self.size), &coordinates);
        for mut column in vectors.column_iter_mut() {
            if largest_entry(column.as_slice()) < T::zero() {
                column.neg_mut();
            }
        }
        SymmetricEigen { values: ritz.values.rows(0, k).map(T::of), vectors }
    }

    /// Keeps the Ritz vectors given and the block beyond them.
    fn restart(&mut self, ritz: &SymmetricEigen<f64>) {
        let (kept, block) = (ritz.values.len(), self.block);
        let best = matrix_product(self.basis.columns(0, self.size), &ritz.vectors.map(T::of));
        let beyond = self.basis.columns(self.size, block).clone_owned();
        self.basis.columns_mut(0, kept).copy_from(&best);
        self.basis.columns_mut(kept, block).copy_from(&beyond);
        self.inner.fill(0.0);
        for j in 0..kept {
            self.inner[(j, j)] = ritz.values[j];
        }
        // How the kept vectors are coupled with the next block comes out of that block's product.
        self.size = kept;
    }
}

/// Orthonormal columns in place and the factor R: twice Cholesky where the columns are well apart,
/// else Householder.
fn orthonormalize_block<T: Real>(w: &mut DMatrix<T>) -> Result<DMatrix<f64>> {
    let b = w.ncols();
    let lengths: Vec<T> = w.column_iter().map(|c| norm(c.clone_owned().as_slice())).collect();
    let largest = lengths.iter().fold(T::zero(), |a, v| a.max(*v));
    if lengths.iter().all(|l| *l > largest * T::of(1e-10) && *l > T::zero()) {
        let mut scaled = w.clone();
        scaled.column_iter_mut().zip(&lengths).for_each(|(mut c, l)| c /= *l);
        let gram = product_tr_left(&scaled, &scaled).map(|v| v.as_f64());
        if let Ok(l) = cholesky_lower(gram.as_view())
            && (0..b).all(|j| l[(j, j)] > 1e3 * T::EPSILON.as_f64().sqrt())
        {
            let mut inverse = DMatrix::<f64>::identity(b, b);
            solve_lower(&l, inverse.as_view_mut());
            gemm(
                T::one(),
                &scaled,
                Operand::from(&inverse.map(T::of)).transposed(),
                T::zero(),
                &mut *w,
            );
            let scale = DMatrix::from_diagonal(&DVector::from_iterator(
                b,
                lengths.iter().map(|v| v.as_f64()),
            ));
            return Ok(l.transpose() * scale);
        }
    }
    let (q, r) = thin_qr(w.as_view())?;
    w.copy_from(&q);
    Ok(r.map(|v| v.as_f64()))
}

/// A fixed start without structure.
pub(crate) fn pseudo_random<T: Real>(rows: usize, columns: usize) -> DMatrix<T> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    DMatrix::from_fn(rows, columns, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{orthonormality, random, with_threads};

    /// A diagonal operator turned by a reflection: its spectrum is known.
    fn check<T: Real>(spectrum: &DVector<f64>, k: usize) {
        let d = spectrum.len();
        let v = random::<T>(d, 1, 5).column(0).normalize();
        let turn = |z: &DMatrix<T>| z - &v * (v.transpose() * z) * T::of(2.0);
        let scale = spectrum.map(T::of);
        let eigen = leading_eigenpairs_of(d, k, |z, mut out| {
            let mut y = turn(&z.clone_owned());
            y.column_iter_mut().for_each(|mut c| c.component_mul_assign(&scale));
            out.copy_from(&turn(&y));
            Ok(())
        })
        .unwrap();
        let mut sorted: Vec<f64> = spectrum.iter().copied().collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let tolerance = if T::EPSILON.as_f64() > 1e-10 { 2e-5 } else { 1e-9 };
        assert!(
            orthonormality(&eigen.vectors) < 1e3 * T::EPSILON.as_f64(),
            "{:e}",
            orthonormality(&eigen.vectors)
        );
        let lost: f64 = (0..k).map(|j| (sorted[j] - eigen.values[j].as_f64()).abs()).sum();
        assert!(lost <= tolerance * sorted[..k].iter().sum::<f64>(), "{lost:e}");
    }

    #[test]
    fn known_spectra() {
        let noise = random::<f64>(700, 1, 3);
        let power = DVector::from_fn(700, |i, _| ((i * 37) % 700 + 1) as f64)
            .map(|r| 100.0 * r.powf(-1.4))
            + noise.map(|v| 0.1 + 0.02 * v);
        check::<f64>(&power, 20);
        check::<f32>(&power, 20);
        check::<f64>(&power, 1);
        // Flat beyond the third, and equal ones among the leading.
        let flat = DVector::from_fn(600, |i, _| if i < 3 { 5.0 } else { 1.0 });
        check::<f64>(&flat, 3);
        check::<f64>(&flat, 6);
        // Rank below k, and nothing at all.
        check::<f64>(&DVector::from_fn(500, |i, _| if i < 2 { 1.0 + i as f64 } else { 0.0 }), 5);
        check::<f64>(&DVector::zeros(500), 2);
        check::<f64>(&DVector::from_element(500, 3.0), 2);
        check::<f64>(&DVector::from_element(20, 3.0), 2);
        // Many equal leading values, more than a block.
        check::<f64>(
            &DVector::from_fn(600, |i, _| if i < 40 { 2.0 } else { 1.0 / (i as f64) }),
            12,
        );
    }

    #[test]
    fn a_bad_operator_is_told() {
        let bad = leading_eigenpairs_of::<f64>(400, 2, |_, mut out| {
            out.fill(f64::NAN);
            Ok(())
        });
        assert!(matches!(bad, Err(Error::NotFinite { .. })));
        let own = leading_eigenpairs_of::<f64>(400, 2, |_, _| {
            Err(Error::NotPositiveDefinite { size: 1 })
        });
        assert_eq!(own, Err(Error::NotPositiveDefinite { size: 1 }));
        assert!(leading_eigenpairs_of::<f64>(0, 1, |_, _| Ok(())).is_err());
    }

    #[test]
    fn same_bits_for_any_threads() {
        let x = random::<f64>(500, 300, 3);
        let run = |t| {
            with_threads(t, || {
                leading_eigenpairs_of(500, 3, |v, mut out| {
                    crate::linalg::matrix_product_into(&x, &product_tr_left(&x, v), &mut out);
                    Ok(())
                })
                .unwrap()
            })
        };
        assert!(run(1) == run(2));
    }
}

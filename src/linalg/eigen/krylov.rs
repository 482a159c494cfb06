//! Leading eigenpairs of a large symmetric positive semidefinite operator, matrix-free: block
//! Krylov (block Lanczos with full orthogonalisation), Rayleigh–Ritz, thick restarts.[^1]
//!
//! Legend: A the operator; b the columns of a block; Q the orthonormal basis built so far, m
//! columns; Q_next the block of b columns after them; H = QᵗAQ (m×m); (θ, y) an eigenpair of H, and
//! (θ, Qy) the Ritz pair that belongs to it.
//!
//! 1. Start: the first block is an orthonormal basis of a fixed pseudo-random b-column matrix.
//! 2. Extend: multiply the last block, W = A Q_last, and orthogonalise it against all of Q by block
//!    Gram–Schmidt, which is repeated until a pass finds no coefficient above √ε. The coefficients
//!    are the new columns of H, the rest is Q_next B with a b×b factor B.
//! 3. Rayleigh–Ritz, not after each block but at chosen sizes: the k leading eigenpairs of H. The
//!    residual of a Ritz pair is A Q y − θ Q y = Q_next B y_last, with y_last the last b entries of
//!    y. Its norm ‖B y_last‖ needs no product with A.
//! 4. Stop when all k residuals are at most `RESIDUAL_TOLERANCE` · θ_1. Within the residual of each
//!    θ lies an eigenvalue of A, and for a separated one the error is quadratic in the residual.
//! 5. Restart when the basis is full: keep the k + b leading Ritz vectors and Q_next.
//!
//! The three-term recurrence of Lanczos would save the products with earlier blocks. It is not
//! used, because it loses orthogonality as soon as a Ritz pair converges, and then finds copies of
//! it.
//!
//! A block of b columns finds at most b copies of a multiple eigenvalue. Where that matters, the
//! caller must test for it, as [`leading_eigenpairs`](super::leading_eigenpairs) does.
//!
//! Tolerances, and what each one protects from:
//!
//! | tolerance | protects from |
//! |---|---|
//! | residuals of 64 ε of T at least | a search in `f32` that rounding never lets end |
//! | last-pass coefficients below √ε | a basis that is not orthogonal: that pass leaves about ε |
//! | column lengths above 1e-10 of the largest | Cholesky of columns that are rounding errors |
//! | Cholesky pivots above 1e3 √ε | Cholesky QR of columns that are nearly dependent |
//! | 400 products, 5 passes | a loop without an end |
//!
//! [^1]: G. H. Golub and R. Underwood, The block Lanczos method for computing eigenvalues (1977);
//! Y. Saad, Numerical Methods for Large Eigenvalue Problems (2011), chapters 6 and 7; K. Wu and
//! H. Simon, Thick-restart Lanczos method, SIAM J. Matrix Anal. Appl. 22 (2000).

use super::symmetric::{SymmetricEigen, leading};
use crate::linalg::kernel::vector::norm;
use crate::linalg::{
    Operand, check_finite, cholesky_lower, gemm, matrix_product, orient, orthonormalize,
    product_tr_left, solve_lower, thin_qr, zeros,
};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector};

/// The largest number of products of A with a block.
const PRODUCTS: usize = 400;
/// The largest number of Gram–Schmidt passes of a block against the basis; two are usual.
const MOST_PASSES: usize = 5;
/// The name of the algorithm in an error.
const SEARCH: &str = "the block Krylov search for eigenvectors";
/// The residual at which a Ritz pair counts as converged, relative to the largest eigenvalue.
// In single precision 64 ε is larger, and is used instead.
pub(super) const RESIDUAL_TOLERANCE: f64 = 1e-9;

/// The k largest eigenvalues and eigenvectors of a symmetric positive semidefinite operator A,
/// computed matrix-free by block Krylov.
///
/// `apply(v, out)` writes A·V into `out` (both `dimension`×b; the algorithm chooses b). With A =
/// XXᵗ, for example, X(XᵗV) needs no d×d matrix. The starting block is fixed, so that the results
/// for one operator are bit-identical. Each residual ‖Av − λv‖ is at most 1e-9 of λ_1 (64 ε in
/// `f32`).
///
/// # Errors
/// Any error of `apply`; [`Error::Empty`] for dimension 0, [`Error::NotFinite`] when a product is
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
    // A multiple of 8 fills the SIMD tiles of the products. A product reads the whole operator
    // (often data that do not stay in cache), so that wide blocks pay here.
    let block = (k.div_ceil(2) + 6).next_multiple_of(8).min(48);
    // A basis of four times k columns, and twelve blocks, rarely fills up; if it does, a restart
    // keeps the best part.
    let room = (4 * k + 12 * block).max(10 * block);
    // The basis would be as large as the space: A times the identity is the matrix itself.
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

/// The k leading eigenpairs by block Krylov with a basis of at most `room` columns, or `None`.
///
/// With `restarts`, `None` means that [`PRODUCTS`] products were not enough. Without, it is
/// returned as soon as the observed convergence shows that `room` columns will not suffice.
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
    // The basis size of the next Rayleigh–Ritz step, whose cost grows with the cube of the size.
    let mut next_look = 2 * k + 2 * block;
    // The basis size at the last Rayleigh–Ritz step, and the largest residual relative to θ_1
    // there. The first estimate of the rate assumes a residual of 1 with k columns.
    let mut before = Some((k, 1.0));
    let mut product = DMatrix::zeros(dimension, block);
    for _ in 0..PRODUCTS {
        let first = search.size;
        apply(search.basis.columns(first, block), product.as_view_mut())?;
        check_finite(product.as_view())?;
        let b_factor = search.extend(&mut product)?;
        // Full when the next block and the Q_next after it would not fit.
        let full = search.size + block > room;
        if search.size < next_look && !full {
            continue;
        }
        // A restart keeps b vectors more than k: the convergence of the k-th pair depends on its
        // gap to the first eigenvalue that the basis does not represent.
        let wanted = if full { (k + block).min(search.size) } else { k };
        let ritz = leading(search.inner.view((0, 0), (search.size, search.size)), wanted)?;
        let tail = ritz.vectors.rows(search.size - block, block);
        let residuals = &b_factor * tail;
        let (limit, largest) =
            (RESIDUAL_TOLERANCE.max(64.0 * T::EPSILON.as_f64()), ritz.values[0].abs());
        let worst = (0..k).map(|j| norm(residuals.column(j).as_slice())).fold(0.0, f64::max);
        if worst <= limit * largest {
            return Ok(Some(search.pairs(&ritz, k)));
        }
        let worst = worst / largest;
        // Columns that are still needed if log(residual) falls linearly with the basis size, at the
        // rate since the last step. As a rule the rate grows, so that this is an overestimate.
        let needed = before.map(|(size, residual)| {
            let rate = (residual / worst).ln() / (search.size - size) as f64;
            if rate > 0.0 { (worst / limit).ln() / rate } else { f64::INFINITY }
        });
        // Hence the factor of 2 before the search is abandoned.
        if !restarts
            && (full || needed.is_some_and(|needed| needed > 2.0 * (room - search.size) as f64))
        {
            return Ok(None);
        }
        before = Some((search.size, worst));
        // The next step comes at 0.6 of the estimate, because the rate grows, but no later than the
        // basis has grown by half, because the estimate may be far too large. Without an estimate
        // it comes after a fifth.
        let share = needed.map_or(0.2 * search.size as f64, |needed| {
            (0.6 * needed).min(0.5 * search.size as f64)
        });
        next_look = search.size + (share as usize).max(block);
        if full {
            search.restart(&ritz);
            // The rate of the full basis does not apply to the smaller one.
            (before, next_look) = (None, search.size + 2 * block);
        }
    }
    Ok(None)
}

/// The state of a search: the basis Q with the block after it, and H = QᵗAQ.
struct Search<T: Real> {
    /// Q and Q_next, in storage for `room` + b columns.
    basis: DMatrix<T>,
    /// H, in double precision also for `f32`: its eigenproblem is small.
    inner: DMatrix<f64>,
    /// m, the number of columns whose products with A are part of H; Q_next is in the columns after
    /// them.
    size: usize,
    /// b.
    block: usize,
}

impl<T: Real> Search<T> {
    /// Extends the basis by Q_next. `product` is A·Q_next; its coefficients become columns of H,
    /// and what is orthogonal to the basis becomes the new Q_next. Returns B.
    fn extend(&mut self, product: &mut DMatrix<T>) -> Result<DMatrix<f64>> {
        let (first, block) = (self.size, self.block);
        let known = first + block;
        // Invariant: W = A·Q_next = Q·(columns of H) + `product` · `factor`.
        let mut factor = DMatrix::<f64>::identity(block, block);
        for pass in 0..MOST_PASSES {
            let basis = self.basis.columns(0, known);
            let along = product_tr_left(basis, &*product);
            gemm(-T::one(), basis, &along, T::one(), &mut *product);
            // The first pass has the coefficients of W itself. Later passes have those of the
            // orthonormalised rest, and multiply them by the factor taken out so far.
            let along = along.map(|v| v.as_f64());
            let orthogonal = pass > 0 && along.amax() < T::EPSILON.as_f64().sqrt();
            let share = if pass == 0 { along } else { &along * &factor };
            let mut column = self.inner.view_mut((0, first), (known, block));
            column += share;
            let r = orthonormalize_block(product)?;
            factor = r * factor;
            // Two passes are enough (Parlett and Kahan), unless W was in the span of the basis up
            // to rounding errors: these, scaled to length 1, have to be orthogonalised again.
            if orthogonal {
                break;
            }
        }
        // H is symmetric up to rounding. Between old and new columns, the coefficients just
        // computed are used for both triangles; within the new block, the mean of both is.
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

    /// The k leading Ritz pairs, with vectors that are orthonormal to working precision, and the
    /// first large entry of each positive.
    fn pairs(&self, ritz: &SymmetricEigen<f64>, k: usize) -> SymmetricEigen<T> {
        let coordinates = ritz.vectors.columns(0, k).map(T::of);
        let mut vectors = matrix_product(self.basis.columns(0, self.size), &coordinates);
        orient(&mut vectors);
        SymmetricEigen { values: ritz.values.rows(0, k).map(T::of), vectors }
    }

    /// Thick restart: reduces the basis to the given Ritz vectors, followed by Q_next.
    // A Q y − θ Q y has a component along Q_next only, so that the reduced basis is again one of
    // the form that `extend` continues. Restarting from Q_next alone would lose what has converged.
    fn restart(&mut self, ritz: &SymmetricEigen<f64>) {
        let (kept, block) = (ritz.values.len(), self.block);
        let best = matrix_product(self.basis.columns(0, self.size), &ritz.vectors.map(T::of));
        let q_next = self.basis.columns(self.size, block).clone_owned();
        self.basis.columns_mut(0, kept).copy_from(&best);
        self.basis.columns_mut(kept, block).copy_from(&q_next);
        // In the basis of Ritz vectors H is diagonal.
        self.inner.fill(0.0);
        for j in 0..kept {
            self.inner[(j, j)] = ritz.values[j];
        }
        // The entries of H that couple the Ritz vectors with Q_next follow from the product of
        // Q_next with A, in `extend`.
        self.size = kept;
    }
}

/// Overwrites W by the orthonormal Q of W = QR and returns R: by Cholesky QR where the columns are
/// clearly independent, otherwise by Householder QR.
///
/// Cholesky QR takes two products and a small factorisation, but its loss of orthogonality grows
/// with the square of the condition number. `Search::extend` calls this function in each of its two
/// or more passes, which makes it CholeskyQR2 (Yamamoto et al. 2015): the second one restores
/// orthogonality to working precision.
fn orthonormalize_block<T: Real>(w: &mut DMatrix<T>) -> Result<DMatrix<f64>> {
    let b = w.ncols();
    // Columns of length 1 make the Gram matrix independent of the scales of the columns.
    let lengths: Vec<T> = w.column_iter().map(|c| norm(c.clone_owned().as_slice())).collect();
    let largest = lengths.iter().fold(T::zero(), |a, v| a.max(*v));
    if lengths.iter().all(|l| *l > largest * T::of(1e-10) && *l > T::zero()) {
        let mut scaled = w.clone();
        scaled.column_iter_mut().zip(&lengths).for_each(|(mut c, l)| c /= *l);
        let gram = product_tr_left(&scaled, &scaled).map(|v| v.as_f64());
        // A pivot l_jj is the sine of the angle between column j and those before it. Above 1e3 √ε,
        // the Gram matrix, whose rounding errors are about ε, determines it to six digits.
        if let Ok(l) = cholesky_lower(gram.as_view())
            && (0..b).all(|j| l[(j, j)] > 1e3 * T::EPSILON.as_f64().sqrt())
        {
            // Q = W D⁻¹ L⁻ᵗ and R = LᵗD, with D the lengths. The inverse of L is small (b×b), and
            // makes one product of the triangular solve.
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

/// A fixed pseudo-random matrix with entries uniform in [−1, 1), for starting blocks.
// Marsaglia's xorshift (2003) with a fixed seed: reproducible, and in general not orthogonal to any
// eigenvector.
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

    /// Compares with a known spectrum: a diagonal operator, transformed by a reflection.
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
        // Flat after the third, and with equal leading eigenvalues.
        let flat = DVector::from_fn(600, |i, _| if i < 3 { 5.0 } else { 1.0 });
        check::<f64>(&flat, 3);
        check::<f64>(&flat, 6);
        // Rank below k, rank 0, and a multiple of the identity.
        check::<f64>(&DVector::from_fn(500, |i, _| if i < 2 { 1.0 + i as f64 } else { 0.0 }), 5);
        check::<f64>(&DVector::zeros(500), 2);
        check::<f64>(&DVector::from_element(500, 3.0), 2);
        check::<f64>(&DVector::from_element(20, 3.0), 2);
        // More equal leading eigenvalues than a block has columns.
        check::<f64>(
            &DVector::from_fn(600, |i, _| if i < 40 { 2.0 } else { 1.0 / (i as f64) }),
            12,
        );
    }

    #[test]
    fn operator_errors_are_returned() {
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
    fn bit_identical_for_any_threads() {
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

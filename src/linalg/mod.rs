//! Dense linear algebra: matrix products, scatter matrices, decompositions, element-wise functions.
//!
//! Matrices are nalgebra's types. Data matrices are d×n: each column is an observation. A
//! decomposition of a finite matrix returns finite numbers or an error. Every iteration has an
//! upper limit. Results are bit-identical for any number of threads.
//!
//! | module | contents |
//! |---|---|
//! | `kernel/` | all `unsafe` code: micro-kernels, blocked GEMM, the fork–join scope |
//! | `parallel` | blocks of work on the threads of the current rayon pool |
//! | `product` | general matrix products (GEMM) with arbitrary strides |
//! | `gram` | XXᵗ and XᵗX, of which one triangle is computed (symmetric rank-k updates) |
//! | `moments`, `centred` | means and sums of squares; mean and scatter matrix in one pass |
//! | `qr`, `bidiagonal` | Householder QR and bidiagonalisation |
//! | `svd`, `jacobi` | thin singular value decomposition by one-sided Jacobi rotations |
//! | `eigen/` | symmetric eigenpairs: all, the leading ones, matrix-free for an operator |
//! | `principal/` | principal components, with automatic or explicit choice of the algorithm |
//! | `cholesky`, `batch` | Cholesky factorisation: of one matrix, of many small ones with SIMD |
//! | `triangular` | small Cholesky factors and triangular solves, the blocks of `cholesky` |
//! | `whitening` | regularised inverse covariance as a preconditioner |
//! | `elementary`, `vector` | exp, ln, softplus, sigmoid, tanh and normal samples on slices |
//!
//! # Why this crate has kernels of its own
//!
//! The `gemm` crate (0.19) was tried first. Speed did not decide: on one thread both are within a
//! few percent of each other for most shapes (1000 × 1000 × 1000 in `f64`: 52.9 GFLOP/s here, 52.8
//! with `gemm`), and `gemm` is ahead for some (50 × 2000 × 784 in `f64`: 37.8 against 45.8). These
//! reasons did:
//!
//! * **Allocations.** A training step must not allocate. `gemm` allocates on every product above
//!   16 × 16. `matrixmultiply`, which nalgebra's products call, allocates its packing buffers on
//!   every call.
//! * **Symmetric products.** Neither crate has a product that computes one triangle only (`syrk` in
//!   BLAS), which halves the work of XXᵗ. faer has one, but it is built on `gemm`.
//! * **Mixed precision.** None of the three sums products of `f32` in `f64`, which is what keeps
//!   the accuracy of the covariance of `f32` data.
//! * **Build.** The default build has 38 crates, and 55 with `gemm`. A cold release build takes 46
//!   CPU seconds, to which `gemm` alone would add some 40.
//! * **Decompositions.** nalgebra's singular value decomposition with vectors is wrong on
//!   rank-deficient data. A one-sided Jacobi method also keeps the relative accuracy of columns
//!   whose scales differ by many orders of magnitude (Demmel & Veselić 1992).
//!
//! The figures are from `docs/performance.md` and `docs/design.md`; the first also lists where this
//! crate is slower. Neither has figures for faer or `matrixmultiply`.

mod batch;
mod bidiagonal;
mod centred;
mod cholesky;
mod eigen;
mod elementary;
mod gram;
mod jacobi;
mod kernel;
mod moments;
pub mod parallel;
mod principal;
mod product;
mod qr;
mod signs;
pub(crate) mod special;
mod svd;
#[cfg(test)]
pub(crate) mod testing;
mod triangular;
pub mod vector;
mod whitening;

pub(crate) use batch::{
    Batch, LANES, Lane, packed, packed_len, read_lane, solve as solve_batch, write_lane,
};
pub(crate) use bidiagonal::{Bidiagonal, bidiagonalize, solve_bidiagonal_gram};
pub(crate) use centred::{Centred, centred_moments};
pub use cholesky::{
    cholesky_lower, log_determinant, solve_cholesky, solve_lower, solve_lower_transposed,
};
pub(crate) use eigen::pseudo_random;
pub use eigen::{SymmetricEigen, leading_eigenpairs, leading_eigenpairs_of, symmetric_eigen};
pub use elementary::Elementary;
pub(crate) use gram::scatter_f64;
pub use gram::{gram_matrix, scatter_matrix};
pub(crate) use kernel::vector::{add_scaled, dot};
pub use kernel::{Kernel, Operand, OperandMut};
pub use moments::{check_finite, column_mean, sums_of_squares};
pub(crate) use moments::{mean_wide, refined_mean, sums_of_squares_f64};
pub(crate) use principal::{Captured, add_product, block_columns, principal_components_centred};
pub use principal::{
    PcaAlgorithm, PrincipalComponents, Solver, covariance_spectrum, principal_components,
    principal_components_by,
};
pub(crate) use product::gemm_with_max_threads;
pub use product::{
    gemm, matrix_product, matrix_product_into, product_tr_left, product_tr_left_into,
    product_tr_right, product_tr_right_into,
};
pub use qr::{orthonormalize, r_factor, thin_qr};
pub(crate) use signs::{first_large, fix_directions, orient};
pub use svd::{ThinSvd, thin_svd};
pub(crate) use vector::squared_norms;
pub use whitening::Whitening;

use crate::Real;
use nalgebra::DMatrix;

/// A zero matrix whose pages are committed on first write; from 4 MiB on it requests huge pages.
///
/// It serves large matrices of which only a part is written, or that several threads fill.
pub(crate) fn zeros<T: Real>(rows: usize, columns: usize) -> DMatrix<T> {
    // `vec!` of a zero calls `calloc`: large blocks come from the system zeroed, and no pass writes
    // them. `DMatrix::zeros` writes each entry, which commits every page on one thread.
    let mut entries = vec![T::zero(); rows * columns];
    kernel::huge_pages::advise_huge_pages(&mut entries);
    DMatrix::from_vec(rows, columns, entries)
}

/// An empty vector with capacity for `entries` values; from 4 MiB on it requests huge pages.
#[cfg(feature = "files")]
pub(crate) fn room<T: Real>(entries: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(entries);
    kernel::huge_pages::advise_huge_pages(room.spare_capacity_mut());
    room
}

/// A zero-initialised vector whose first entry is aligned to a cache line.
///
/// A SIMD load or store that crosses a line boundary costs as much as two.
// Panels of centred data are aligned, where it saves 6 of the 97 µs of the digits' scatter matrix
// (64 × 1797). It matters less elsewhere: in a trial, alignment of all large buffers by an
// allocator made VAE steps 1 to 2.5 % faster (docs/performance.md).
pub(crate) struct AlignedVec<T> {
    room: Vec<T>,
    place: std::ops::Range<usize>,
}

impl<T: Real> AlignedVec<T> {
    pub(crate) fn zeros(len: usize) -> Self {
        // An allocation is aligned to an entry at least, so that the next line starts at most
        // `LINE / size − 1` entries further on.
        let spare = if len == 0 { 0 } else { LINE / size_of::<T>() - 1 };
        let room = vec![T::zero(); len + spare];
        // `align_offset` may return `usize::MAX` (under Miri): the entries are then not aligned.
        let first = room.as_ptr().align_offset(LINE).min(spare);
        Self { room, place: first..first + len }
    }
}

impl<T> std::ops::Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.room[self.place.clone()]
    }
}

impl<T> std::ops::DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.room[self.place.clone()]
    }
}

/// √(1 + x²) without overflow.
///
/// It replaces the system's `hypot`, a call of which takes longer than the rest of the computation
/// of a rotation's angle.
pub(crate) fn sqrt_one_plus_square(x: f64) -> f64 {
    // From |x| = 2²⁷ on, 1 is below the rounding of x², and the result is |x|; below 1e100 the
    // square does not overflow. NaN fails the comparison and is returned.
    if x.abs() < 1e100 { (x * x + 1.0).sqrt() } else { x.abs() }
}

/// Bytes of a cache line on x86-64 and on most AArch64 processors.
const LINE: usize = 64;

/// Resizes a buffer to `rows` × `columns`, without an allocation when its capacity suffices.
///
/// The entries are unspecified afterwards: callers overwrite them.
pub(crate) fn reshape<T: Real>(buffer: &mut DMatrix<T>, rows: usize, columns: usize) {
    // The last mini-batch of an epoch is smaller than the others. `DMatrix::resize_mut` would
    // rearrange the entries; the vector behind the matrix keeps its capacity.
    if buffer.shape() != (rows, columns) {
        let taken = std::mem::replace(buffer, DMatrix::zeros(0, 0));
        let mut memory: Vec<T> = taken.data.into();
        memory.resize(rows * columns, T::zero());
        *buffer = DMatrix::from_vec(rows, columns, memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypotenuses() {
        for x in [0.0, 1e-9, 0.75, -3.0, 1e99, -1e101, 1e200, f64::MAX] {
            assert!(
                (sqrt_one_plus_square(x) / x.hypot(1.0) - 1.0).abs() <= 2.0 * f64::EPSILON,
                "{x}"
            );
        }
        assert!(
            sqrt_one_plus_square(f64::INFINITY) == f64::INFINITY
                && sqrt_one_plus_square(f64::NAN).is_nan()
        );
    }

    #[test]
    fn zeros_start_on_a_line() {
        for len in [0, 1, 7, 64, 1000] {
            let (mut wide, narrow) = (AlignedVec::<f64>::zeros(len), AlignedVec::<f32>::zeros(len));
            assert!(
                len == 0
                    || ((wide.as_ptr() as usize).is_multiple_of(LINE)
                        && (narrow.as_ptr() as usize).is_multiple_of(LINE))
            );
            wide.fill(1.0);
            assert_eq!(
                (wide.len(), narrow.len(), wide.iter().sum::<f64>()),
                (len, len, len as f64)
            );
        }
    }
}

//! The one place that talks to the machine's arithmetic: products, decompositions, element-wise
//! functions, and the threads they run on.
//!
//! Matrices are nalgebra's; data are d×n, an observation a column. Nothing here returns NaN for
//! finite input, runs without a bound, or depends in its bits on the number of threads.
//!
//! | file | what it holds |
//! |---|---|
//! | `kernel/` | all of the crate's `unsafe`: micro-kernels for AVX-512, AVX2 and any processor, the blocked product around them, the team of threads |
//! | `parallel` | blocks of work on the threads of the current pool |
//! | `product`, `gram`, `moments`, `centred` | products of any strides, XXᵗ and XᵗX, means and squares, all of these in one pass |
//! | `qr`, `svd`, `jacobi`, `bidiagonal` | Householder QR, the thin singular value decomposition, a bidiagonal form |
//! | `eigen/` | eigenpairs: all, the leading ones, those of an operator |
//! | `principal/` | principal components by the route that keeps the digits, or by one of choice |
//! | `cholesky`, `batch`, `whitening` | positive definite matrices, one or many small ones at once |
//! | `elementary`, `vector` | exp, ln, softplus, sigmoid, tanh and normal numbers on vectors |

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
mod svd;
#[cfg(test)]
mod testing;
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
pub use eigen::{SymmetricEigen, leading_eigenpairs, leading_eigenpairs_of, symmetric_eigen};
pub use elementary::Elementary;
pub(crate) use gram::moments_of_rows;
pub use gram::{gram_matrix, scatter_matrix};
pub(crate) use kernel::vector::{add_scaled, dot};
pub use kernel::{Kernel, Operand, OperandMut};
pub use moments::{check_finite, column_mean, sums_of_squares};
pub(crate) use moments::{mean_wide, refined_mean, squares_wide};
pub(crate) use principal::{Captured, add_product, block_of, principal_components_centred};
pub use principal::{
    PcaAlgorithm, PrincipalComponents, Solver, covariance_spectrum, principal_components,
    principal_components_by,
};
pub(crate) use product::gemm_among;
pub use product::{
    gemm, matrix_product, matrix_product_into, product_tr_left, product_tr_left_into,
    product_tr_right, product_tr_right_into,
};
pub use qr::{orthonormalize, r_factor, thin_qr};
pub use svd::{ThinSvd, thin_svd};
pub(crate) use vector::squared_norms;
pub use whitening::Whitening;

use crate::Real;
use nalgebra::DMatrix;

/// Zeros, of which the system has those pages alone that are written (large ones from 4 MiB on):
/// for large matrices of which a part is used, or filled by several threads.
pub(crate) fn zeros<T: Real>(rows: usize, columns: usize) -> DMatrix<T> {
    let mut entries = vec![T::zero(); rows * columns];
    kernel::huge_pages::advise_huge_pages(&mut entries);
    DMatrix::from_vec(rows, columns, entries)
}

/// Room for so many entries.
#[cfg(feature = "files")]
pub(crate) fn room<T: Real>(entries: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(entries);
    kernel::huge_pages::advise_huge_pages(room.spare_capacity_mut());
    room
}

/// Zeros, the first of which starts a cache line: a vector that lies across two lines is read and
/// written as slowly as two.
pub(crate) struct AlignedVec<T> {
    room: Vec<T>,
    place: std::ops::Range<usize>,
}

impl<T: Real> AlignedVec<T> {
    pub(crate) fn zeros(len: usize) -> Self {
        let spare = if len == 0 { 0 } else { LINE / size_of::<T>() - 1 };
        let room = vec![T::zero(); len + spare];
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

/// √(1 + x²), also where the square would overflow; a call of the system's `hypot` takes longer
/// than all the rest of a rotation's angle.
pub(crate) fn hypotenuse_with_one(x: f64) -> f64 {
    if x.abs() < 1e100 { (x * x + 1.0).sqrt() } else { x.abs() }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Gives a buffer the wanted shape, keeping its memory when it is large enough already.
pub(crate) fn reshape<T: Real>(buffer: &mut DMatrix<T>, rows: usize, columns: usize) {
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
                (hypotenuse_with_one(x) / x.hypot(1.0) - 1.0).abs() <= 2.0 * f64::EPSILON,
                "{x}"
            );
        }
        assert!(
            hypotenuse_with_one(f64::INFINITY) == f64::INFINITY
                && hypotenuse_with_one(f64::NAN).is_nan()
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

//! Borrowed matrices of any strides, the arguments of the kernels.
//!
//! Legend: `rs`, `cs` are the strides of rows and of columns, as in BLIS: entry (i, j) lies at
//! `data + i·rs + j·cs`.
#![allow(unsafe_code)]

use super::Kernel;
use nalgebra::{Dim, Matrix, RawStorage, RawStorageMut, Scalar};
use std::marker::PhantomData;

/// Borrowed matrix to read: a matrix, a view of any strides, or the transpose of one, without a
/// copy.
///
/// ```
/// use elbo::linalg::{Operand, gemm};
/// use nalgebra::DMatrix;
/// let a = DMatrix::from_row_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let mut c = DMatrix::zeros(3, 3);
/// gemm(1.0, Operand::from(&a).transposed(), &a, 0.0, &mut c); // AᵗA
/// assert_eq!(c[(0, 2)], 27.0);
/// ```
#[derive(Clone, Copy)]
pub struct Operand<'a, T> {
    pub(crate) data: *const T,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) rs: usize,
    pub(crate) cs: usize,
    life: PhantomData<&'a T>,
}
// SAFETY: an operand has the rights of the `&'a T` from which it was made, which is Send if T is
// Sync; the pointer alone keeps the compiler from seeing that.
unsafe impl<T: Sync> Send for Operand<'_, T> {}
// SAFETY: as above: `&'a T` is Sync if T is.
unsafe impl<T: Sync> Sync for Operand<'_, T> {}

impl<'a, T> Operand<'a, T> {
    /// The transpose, by exchanging the strides.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, rs: self.cs, cs: self.rs, ..self }
    }
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
    /// A rectangle of the matrix, which must lie within its shape.
    pub(crate) fn part(&self, row: usize, column: usize, rows: usize, columns: usize) -> Self {
        // Not checked in release builds: the kernels cut each block, from sizes that they have
        // checked once for the whole product.
        debug_assert!(row + rows <= self.rows && column + columns <= self.columns);
        Self {
            // Wrapping: of an empty rectangle the corner may lie beyond the allocation.
            data: self.data.wrapping_add(row * self.rs + column * self.cs),
            rows,
            columns,
            ..*self
        }
    }
}

impl<'a, T: Scalar, R: Dim, C: Dim, S: RawStorage<T, R, C>> From<&'a Matrix<T, R, C, S>>
    for Operand<'a, T>
{
    fn from(matrix: &'a Matrix<T, R, C, S>) -> Self {
        let (rows, columns) = matrix.shape();
        let (rs, cs) = matrix.strides();
        Self { data: matrix.as_ptr(), rows, columns, rs, cs, life: PhantomData }
    }
}

impl<'a, T: Scalar> From<nalgebra::DMatrixView<'a, T>> for Operand<'a, T> {
    fn from(matrix: nalgebra::DMatrixView<'a, T>) -> Self {
        let (rows, columns) = matrix.shape();
        let (rs, cs) = matrix.strides();
        Self { data: matrix.as_ptr(), rows, columns, rs, cs, life: PhantomData }
    }
}

/// Borrowed matrix to write: a matrix, a view of any strides, or the transpose of one.
pub struct OperandMut<'a, T> {
    pub(crate) data: *mut T,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) rs: usize,
    pub(crate) cs: usize,
    life: PhantomData<&'a mut T>,
}
// SAFETY: it has the rights of the `&'a mut T` from which it was made, which is Send if T is. Parts
// of one matrix are made by splitting alone, so that no two of them share an entry.
unsafe impl<T: Send> Send for OperandMut<'_, T> {}

impl<'a, T: Kernel> OperandMut<'a, T> {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
    /// The transpose, by exchanging the strides.
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, rs: self.cs, cs: self.rs, ..self }
    }
    /// Whether no two entries have the same address, without which several threads may not write.
    ///
    /// Sufficient and not necessary: one stride must step over all that the other reaches.
    pub(crate) fn entries_are_disjoint(&self) -> bool {
        let disjoint =
            |small: usize, count: usize, large: usize| small >= 1 && large >= small * count;
        self.rows == 0
            || self.columns == 0
            || (self.rows == 1 && (self.columns == 1 || self.cs >= 1))
            || (self.columns == 1 && self.rs >= 1)
            || disjoint(self.rs, self.rows, self.cs)
            || disjoint(self.cs, self.columns, self.rs)
    }
    /// The first `rows` rows, and the others.
    pub(crate) fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows);
        let rest = Self {
            data: self.data.wrapping_add(rows * self.rs),
            rows: self.rows - rows,
            ..Self { life: PhantomData, ..self }
        };
        (Self { rows, ..self }, rest)
    }
    /// The first `columns` columns, and the others.
    pub(crate) fn split_columns(self, columns: usize) -> (Self, Self) {
        let (left, right) = self.transposed().split_rows(columns);
        (left.transposed(), right.transposed())
    }
}

impl<'a, T: Scalar, R: Dim, C: Dim, S: RawStorageMut<T, R, C>> From<&'a mut Matrix<T, R, C, S>>
    for OperandMut<'a, T>
{
    fn from(matrix: &'a mut Matrix<T, R, C, S>) -> Self {
        let (rows, columns) = matrix.shape();
        let (rs, cs) = matrix.strides();
        Self { data: matrix.as_mut_ptr(), rows, columns, rs, cs, life: PhantomData }
    }
}

impl<'a, T: Scalar> From<nalgebra::DMatrixViewMut<'a, T>> for OperandMut<'a, T> {
    fn from(mut matrix: nalgebra::DMatrixViewMut<'a, T>) -> Self {
        let (rows, columns) = matrix.shape();
        let (rs, cs) = matrix.strides();
        Self { data: matrix.as_mut_ptr(), rows, columns, rs, cs, life: PhantomData }
    }
}

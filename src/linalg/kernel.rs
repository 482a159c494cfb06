//! The seam through which matrix products reach the machine, chosen by the scalar type and, at run time, by the processor.
//!
//! Legend: C (m×n) ← α·A (m×k)·B (k×n) + β·C; `rs`, `cs` are the strides of rows and columns.
#![allow(unsafe_code)]

use super::kernel_gemm::Part;
use nalgebra::{Dim, Matrix, RawStorage, RawStorageMut, Scalar};
use std::marker::PhantomData;

/// How many accumulators a tile spans at most: 3 vectors of rows.
pub(crate) const VECTORS: usize = 3;
/// Tiles of fewer columns come in steps of a quarter.
pub(crate) const QUARTERS: usize = 4;

/// One micro-kernel: a tile of C from a sliver of A (rows side by side, columns a step apart) and one of B, packed or as it lies.
///
/// # Safety
/// `a` holds `depth` columns of `V·lanes` rows, `b` entries for `depth` rows and all the columns of a tile at the strides given, and the
/// tile's `rows × columns` entries of C are writable.
pub(crate) type MicroFn<T> = unsafe fn(from: Slivers<T>, to: Tile<T>);

/// Where a micro-kernel reads.
#[derive(Clone, Copy)]
pub(crate) struct Slivers<T> {
    pub depth: usize,
    pub a: *const T,
    /// From one column of A to the next.
    pub a_step: usize,
    pub b: *const T,
    /// From one row of B to the next, and from one column to the next (kernels for a B by rows take it as 1).
    pub b_rs: usize,
    pub b_cs: usize,
    /// What is asked of memory, and how many bytes to move on there with each step.
    pub ahead: *const i8,
    pub ahead_step: usize,
}

/// The corner of C that a micro-kernel updates.
#[derive(Clone, Copy)]
pub(crate) struct Tile<T> {
    pub c: *mut T,
    pub rs: usize,
    pub cs: usize,
    pub rows: usize,
    pub columns: usize,
    pub alpha: T,
    pub beta: T,
}

/// The micro-kernels of one scalar type on one kind of processor.
pub(crate) struct Micro<T: 'static> {
    /// Numbers in one vector.
    pub lanes: usize,
    /// Columns of a tile.
    pub columns: usize,
    /// The kernels for tiles of 1, 2 and 3 vectors of rows, of 1 to 4 quarters of the columns, and a B whose rows are contiguous.
    pub rows: [[MicroFn<T>; QUARTERS]; VECTORS],
    /// The same for a B of any strides.
    pub strided: [[MicroFn<T>; QUARTERS]; VECTORS],
}

/// Fills a table of kernels from one generic function.
macro_rules! kernels {
    ($tile:ident $(::<$t:ty>)?, $columns:literal, $rows:literal) => {
        [
            kernels!(row $tile, $columns, $rows, 1 $(, $t)?),
            kernels!(row $tile, $columns, $rows, 2 $(, $t)?),
            kernels!(row $tile, $columns, $rows, 3 $(, $t)?),
        ]
    };
    (row $tile:ident, $columns:literal, $rows:literal, $v:literal $(, $t:ty)?) => {
        [
            $tile::<$($t,)? $v, { $columns / 4 }, $rows>,
            $tile::<$($t,)? $v, { $columns / 2 }, $rows>,
            $tile::<$($t,)? $v, { $columns / 4 * 3 }, $rows>,
            $tile::<$($t,)? $v, $columns, $rows>,
        ]
    };
}
pub(crate) use kernels;

/// Which instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best level of this processor (the standard library remembers the answer).
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                return Level::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// Every level that this processor can run, for the tests.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                levels.push(Level::Avx512);
            }
        }
        levels
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A cache line, so that packed slivers start on one.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(#[allow(dead_code)] [u8; 64]);

/// The packed copies of a product, kept by each thread so that a product allocates nothing after the first.
#[derive(Default)]
pub(crate) struct Scratch {
    a: Vec<Line>,
    b: Vec<Line>,
}

impl Scratch {
    /// Two aligned buffers of at least `a` and `b` numbers of type `T` (`f32` or `f64`: any bytes are a number).
    pub(crate) fn buffers<T: Kernel>(&mut self, a: usize, b: usize) -> (*mut T, *mut T) {
        fn grow<T>(lines: &mut Vec<Line>, len: usize) -> *mut T {
            let needed = (len * size_of::<T>()).div_ceil(64);
            if lines.len() < needed {
                lines.resize(needed, Line([0; 64]));
            }
            lines.as_mut_ptr().cast()
        }
        (grow(&mut self.a, a), grow(&mut self.b, b))
    }
}

/// The matrix kernels of one scalar type; sealed.
#[allow(private_interfaces)]
pub trait Kernel: sealed::Sealed + super::Elementary + Scalar + Copy + Send + Sync {
    /// The micro-kernels for `level`.
    #[doc(hidden)]
    fn micro(level: Level) -> &'static Micro<Self>;
    /// Zero, without a detour through another trait.
    #[doc(hidden)]
    const ZERO: Self;
    /// One.
    #[doc(hidden)]
    const ONE: Self;
    /// a·b + c; fused or not as the target is quick at.
    #[doc(hidden)]
    fn multiply_add(a: Self, b: Self, c: Self) -> Self;
    /// a·b.
    #[doc(hidden)]
    fn times(a: Self, b: Self) -> Self;
    /// C ← C + A·B for a part of C, kept in double precision; what lies `ahead` is asked for on the way.
    #[doc(hidden)]
    fn accumulate(
        level: Level,
        a: Operand<'_, Self>,
        b: Operand<'_, Self>,
        c: OperandMut<'_, f64>,
        part: Part,
        ahead: Option<Operand<'_, Self>>,
    );
}

macro_rules! kernel {
    ($t:ty, $portable:ident, $avx2:ident, $avx512:ident, $accumulate:path) => {
        #[allow(private_interfaces)]
        impl Kernel for $t {
            fn micro(level: Level) -> &'static Micro<Self> {
                match level {
                    Level::Portable => &super::kernel_portable::$portable,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => &super::kernel_x86::$avx2,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => &super::kernel_x86::$avx512,
                }
            }
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn multiply_add(a: Self, b: Self, c: Self) -> Self {
                // A fused operation is one instruction on aarch64 and a library call on plain x86-64.
                if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
            }
            #[inline(always)]
            fn times(a: Self, b: Self) -> Self {
                a * b
            }
            fn accumulate(
                level: Level,
                a: Operand<'_, Self>,
                b: Operand<'_, Self>,
                c: OperandMut<'_, f64>,
                part: Part,
                ahead: Option<Operand<'_, Self>>,
            ) {
                $accumulate(level, a, b, c, part, ahead);
            }
        }
    };
}
kernel!(f32, F32, AVX2_F32, AVX512_F32, super::kernel_gemm::accumulate_f32);
kernel!(f64, F64, AVX2_F64, AVX512_F64, super::kernel_gemm::accumulate_f64);

/// A matrix to read, as it lies in memory: a view of any strides, or its transpose, without a copy.
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
// SAFETY: an operand is a shared borrow of numbers.
unsafe impl<T: Sync> Send for Operand<'_, T> {}
// SAFETY: as above.
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
    /// A rectangle of it; the caller stays within the shape.
    pub(crate) fn part(&self, row: usize, column: usize, rows: usize, columns: usize) -> Self {
        debug_assert!(row + rows <= self.rows && column + columns <= self.columns);
        Self { data: self.data.wrapping_add(row * self.rs + column * self.cs), rows, columns, ..*self }
    }
}

impl<'a, T: Scalar, R: Dim, C: Dim, S: RawStorage<T, R, C>> From<&'a Matrix<T, R, C, S>> for Operand<'a, T> {
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

/// A matrix to write, as it lies in memory.
pub struct OperandMut<'a, T> {
    pub(crate) data: *mut T,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) rs: usize,
    pub(crate) cs: usize,
    life: PhantomData<&'a mut T>,
}
// SAFETY: an exclusive borrow of numbers.
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
    /// Whether no two entries share a place, which writing from several threads needs.
    pub(crate) fn entries_are_apart(&self) -> bool {
        let apart = |small: usize, count: usize, large: usize| small >= 1 && large >= small * count;
        self.rows == 0
            || self.columns == 0
            || (self.rows == 1 && (self.columns == 1 || self.cs >= 1))
            || (self.columns == 1 && self.rs >= 1)
            || apart(self.rs, self.rows, self.cs)
            || apart(self.cs, self.columns, self.rs)
    }
    /// Two halves, the first of `rows` rows.
    pub(crate) fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows);
        let rest = Self { data: self.data.wrapping_add(rows * self.rs), rows: self.rows - rows, ..Self { life: PhantomData, ..self } };
        (Self { rows, ..self }, rest)
    }
    /// Two halves, the first of `columns` columns.
    pub(crate) fn split_columns(self, columns: usize) -> (Self, Self) {
        let (left, right) = self.transposed().split_rows(columns);
        (left.transposed(), right.transposed())
    }
}

impl<'a, T: Scalar, R: Dim, C: Dim, S: RawStorageMut<T, R, C>> From<&'a mut Matrix<T, R, C, S>> for OperandMut<'a, T> {
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

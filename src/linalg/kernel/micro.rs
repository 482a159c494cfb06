//! What a micro-kernel is: a tile of C from a sliver of A and one of B.
#![allow(unsafe_code)]

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

/// Transposes a square: the entries of row i, one behind the other from `from + i·rs` on, go to place i behind `to`, `to + step`, …
///
/// # Safety
/// As many rows of as many entries as the square's side can be read, and as many columns written.
pub(crate) type SquareFn<T> = unsafe fn(from: *const T, rs: usize, to: *mut T, step: usize);

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
    /// The side of the squares in which an operand is turned while it is packed, a divisor of the lanes.
    pub side: usize,
    pub turn: SquareFn<T>,
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

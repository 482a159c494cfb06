//! What a micro-kernel is: a tile of C from a sliver of A and one of B.
#![allow(unsafe_code)]

/// How many accumulators a tile spans at most: 3 vectors of rows.
pub(crate) const VECTORS: usize = 3;
/// Tiles of fewer columns come in steps of a quarter.
pub(crate) const QUARTERS: usize = 4;

/// One micro-kernel: a tile of C from a sliver of A (rows side by side, columns a step apart) and
/// one of B, packed or as it lies.
///
/// # Safety
/// `a` holds `depth` columns of `V·lanes` rows, `b` entries for `depth` rows and all the columns of
/// a tile at the strides given, and the tile's `rows × columns` entries of C are writable.
pub(crate) type MicroFn<T> = unsafe fn(from: Slivers<T>, to: Tile<T>);

/// Where a micro-kernel reads.
#[derive(Clone, Copy)]
pub(crate) struct Slivers<T> {
    pub depth: usize,
    pub a: *const T,
    /// From one column of A to the next.
    pub a_step: usize,
    pub b: *const T,
    /// From one row of B to the next, and from one column to the next (kernels for a B by rows take
    /// it as 1).
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

/// Transposes a square: the entries of row i, one behind the other from `from + i·rs` on, go to
/// place i behind `to`, `to + step`, …
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
    /// The kernels for tiles of 1, 2 and 3 vectors of rows, of 1 to 4 quarters of the columns, and
    /// a B whose rows are contiguous.
    pub rows: [[MicroFn<T>; QUARTERS]; VECTORS],
    /// The same for a B of any strides.
    pub strided: [[MicroFn<T>; QUARTERS]; VECTORS],
    /// The side of the squares in which an operand is turned while it is packed.
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

/// The micro-kernels of one kind of vectors, in its own instructions. Their file has `ask`, which
/// asks memory for an address, and names what the kernels use.
macro_rules! vector_kernels {
    ($table:ident, $tile:ident, $t:ty, $vector:ty, $lanes:literal, $columns:literal, $features:literal,
     $zero:ident, $load:ident, $store:ident, $broadcast:ident, $multiply_add:ident, $multiply:ident, $side:expr, $turn:ident) => {
        /// A tile of `V·lanes` rows and `N` columns.
        ///
        /// # Safety
        /// See [`super::micro::MicroFn`]; the processor has the features named.
        #[target_feature(enable = $features)]
        unsafe fn $tile<const V: usize, const N: usize, const ROWS: bool>(
            from: Slivers<$t>,
            to: Tile<$t>,
        ) {
            let mut sum: [[$vector; V]; N] = [[$zero(); V]; N];
            let (mut a, mut b) = (from.a, from.b);
            let (b_rs, b_cs) = (from.b_rs, if ROWS { 1 } else { from.b_cs });
            let mut ahead = from.ahead;
            for _ in 0..from.depth {
                ask(ahead);
                ahead = ahead.wrapping_add(from.ahead_step);
                // SAFETY: `a` holds `depth` columns of V·lanes rows, `b` `depth` rows of as many
                // entries as a tile has columns; the pointers may step beyond the last one, but are
                // not read there.
                unsafe {
                    let mut rows: [$vector; V] = [$zero(); V];
                    for v in 0..V {
                        rows[v] = $load(a.add(v * $lanes));
                    }
                    for j in 0..N {
                        let factor = $broadcast(*b.add(j * b_cs));
                        for v in 0..V {
                            sum[j][v] = $multiply_add(rows[v], factor, sum[j][v]);
                        }
                    }
                }
                a = a.wrapping_add(from.a_step);
                b = b.wrapping_add(b_rs);
            }
            // Whole vectors of contiguous rows are written at once.
            let whole = if to.rs == 1 { to.rows / $lanes } else { 0 };
            let (alpha, beta) = ($broadcast(to.alpha), $broadcast(to.beta));
            for j in 0..N {
                for v in 0..V {
                    if v < whole && j < to.columns {
                        // SAFETY: these rows of the tile are contiguous and writable.
                        unsafe {
                            let c = to.c.add(j * to.cs + v * $lanes);
                            let product = $multiply(alpha, sum[j][v]);
                            let value = if to.beta == 0.0 {
                                product
                            } else {
                                $multiply_add(beta, $load(c), product)
                            };
                            $store(c, value);
                        }
                    }
                }
            }
            if whole * $lanes == to.rows {
                return;
            }
            let mut copy = [[0.0; VECTORS * $lanes]; N];
            for j in 0..N {
                for v in 0..V {
                    // SAFETY: V ≤ VECTORS, so the vector lies within the copy.
                    unsafe { $store(copy[j].as_mut_ptr().add(v * $lanes), sum[j][v]) };
                }
            }
            for j in 0..to.columns {
                for i in whole * $lanes..to.rows {
                    // The same two roundings as above: the bits do not depend on where a tile ends.
                    let product = to.alpha * copy[j][i];
                    // SAFETY: the tile's rows × columns entries are writable.
                    unsafe {
                        let c = to.c.add(i * to.rs + j * to.cs);
                        *c = if to.beta == 0.0 { product } else { to.beta.mul_add(*c, product) };
                    }
                }
            }
        }
        pub(crate) static $table: Micro<$t> = Micro {
            lanes: $lanes,
            columns: $columns,
            rows: kernels!($tile, $columns, true),
            strided: kernels!($tile, $columns, false),
            side: $side,
            turn: $turn,
        };
    };
}
pub(crate) use vector_kernels;

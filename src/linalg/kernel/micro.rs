//! Micro-kernels: the update of one register tile of C. Their interface, and the macro that writes
//! them for AVX2, AVX-512 and NEON.
//!
//! A micro-kernel (Van Zee & van de Geijn 2015) keeps an MR×NR tile of sums in vector registers.
//! For each of kc steps it loads MR entries of A as vectors, broadcasts NR entries of B one after
//! another, and does MR·NR multiply-adds: a rank-1 update of the tile.
//!
//! MR is [`MR_VECTORS`] vectors, NR a field of [`MicroKernels`]. The sums, the vectors of A and one
//! broadcast must fit the registers, and there must be enough independent sums to hide the latency
//! of a fused multiply-add (4 cycles, 2 of them begun in each):
//!
//! | level | registers | MR × NR (f64) | sums + A + B |
//! |---|---|---|---|
//! | AVX-512 | 32 × 512 bits | 24 × 8 | 24 + 3 + 1 |
//! | AVX2 | 16 × 256 bits | 12 × 4 | 12 + 3 + 1 |
//! | NEON | 32 × 128 bits | 6 × 8 | 24 + 3 + 1 |
//! | portable | the compiler's choice | 12 × 4 | – |
//!
//! Each entry of C is one chain of multiply-adds in the order of the steps, whatever the size of
//! the tile; so results do not depend on how C is tiled.
#![allow(unsafe_code)]

/// MR in SIMD vectors.
pub(crate) const MR_VECTORS: usize = 3;
/// Widths for which there are kernels: NR/4, NR/2, 3·NR/4 and NR columns. A narrower tile at the
/// right edge of C then wastes less than a quarter of NR.
pub(crate) const NR_WIDTHS: usize = 4;

/// A micro-kernel: C ← α·A·B + β·C for a tile of C, a micro-panel of A and one of B.
///
/// # Safety
/// `a` holds `kc` columns of `V·lanes` rows, `b` entries for `kc` rows and all the columns for
/// which the kernel was made, at the strides given. The tile's `rows × columns` entries of C are
/// writable and do not overlap A or B.
pub(crate) type MicroKernelFn<T> = unsafe fn(panels: MicroPanels<T>, tile: Tile<T>);

/// What a micro-kernel reads: a micro-panel of A (MR×kc) and one of B (kc×NR), packed or in place.
#[derive(Clone, Copy)]
pub(crate) struct MicroPanels<T> {
    pub kc: usize,
    /// Rows are contiguous.
    pub a: *const T,
    /// From one column of A to the next.
    pub a_cs: usize,
    pub b: *const T,
    pub b_rs: usize,
    /// Taken as 1 by the kernels for a B with contiguous rows.
    pub b_cs: usize,
    /// Address that is prefetched in the first step, and the bytes by which it moves with each.
    pub prefetch: *const i8,
    pub prefetch_step: usize,
}

/// What a micro-kernel writes: a tile of C, at most MR×NR.
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

/// Transposes a square block: row i, contiguous from `from + i·rs` on, becomes column i: its
/// entries go to `to + i`, `to + i + step`, `to + i + 2·step`, …
///
/// # Safety
/// As many rows of as many entries as the side of the block can be read, and as many columns
/// written.
pub(crate) type TransposeFn<T> = unsafe fn(from: *const T, rs: usize, to: *mut T, step: usize);

/// The micro-kernels of one scalar type for one instruction set.
pub(crate) struct MicroKernels<T: 'static> {
    /// Numbers in one SIMD vector; a power of two.
    pub lanes: usize,
    /// Columns of a whole tile.
    pub nr: usize,
    /// For a B with contiguous rows: `[vectors of rows − 1][quarters of NR − 1]`.
    pub contiguous_b: [[MicroKernelFn<T>; NR_WIDTHS]; MR_VECTORS],
    /// For a B of any strides.
    pub strided_b: [[MicroKernelFn<T>; NR_WIDTHS]; MR_VECTORS],
    /// The side of the blocks that `transpose` takes.
    pub transpose_side: usize,
    pub transpose: TransposeFn<T>,
}

impl<T> MicroKernels<T> {
    /// Rows of a whole tile.
    #[inline(always)]
    pub fn mr(&self) -> usize {
        MR_VECTORS * self.lanes
    }

    /// The step in which the number of columns of a tile grows without waste: NR/4.
    #[inline(always)]
    pub fn column_step(&self) -> usize {
        self.nr / NR_WIDTHS
    }

    /// Vectors that so many rows fill. By a shift: the five to seven divisions that a tile once had
    /// took 0.3 µs of a training step of 17 (docs/performance.md).
    #[inline(always)]
    pub fn vectors(&self, rows: usize) -> usize {
        (rows + self.lanes - 1) >> self.lanes.trailing_zeros()
    }

    /// Index of the narrowest kernels for a tile of so many columns, at most NR.
    #[inline(always)]
    pub fn width_index(&self, columns: usize) -> usize {
        // Nearly all tiles are whole: without a division.
        if columns == self.nr { NR_WIDTHS - 1 } else { (NR_WIDTHS * columns).div_ceil(self.nr) - 1 }
    }

    /// `rows`, rounded up to whole vectors.
    #[inline(always)]
    pub fn to_whole_vectors(&self, rows: usize) -> usize {
        (rows + self.lanes - 1) & !(self.lanes - 1)
    }
}

/// The table of kernels for all tile sizes, from one generic function.
macro_rules! kernel_table {
    ($kernel:ident $(::<$t:ty>)?, $nr:literal, $contiguous:literal) => {
        [
            kernel_table!(row $kernel, $nr, $contiguous, 1 $(, $t)?),
            kernel_table!(row $kernel, $nr, $contiguous, 2 $(, $t)?),
            kernel_table!(row $kernel, $nr, $contiguous, 3 $(, $t)?),
        ]
    };
    (row $kernel:ident, $nr:literal, $contiguous:literal, $v:literal $(, $t:ty)?) => {
        [
            $kernel::<$($t,)? $v, { $nr / 4 }, $contiguous>,
            $kernel::<$($t,)? $v, { $nr / 2 }, $contiguous>,
            $kernel::<$($t,)? $v, { $nr / 4 * 3 }, $contiguous>,
            $kernel::<$($t,)? $v, $nr, $contiguous>,
        ]
    };
}
pub(crate) use kernel_table;

/// The micro-kernels of one instruction set, from its intrinsics. The file that calls it has a
/// function `prefetch`, and imports the types that the kernels use.
macro_rules! simd_micro_kernels {
    (
        $table:ident, $kernel:ident, $t:ty, $vector:ty,
        lanes = $lanes:literal, nr = $nr:literal, features = $features:literal,
        $zero:ident, $load:ident, $store:ident, $broadcast:ident, $multiply_add:ident,
        $multiply:ident, transpose = $side:expr, $transpose:ident
    ) => {
        /// The micro-kernel for `V` vectors of rows and `N` columns.
        ///
        /// # Safety
        /// See [`super::micro::MicroKernelFn`]; the processor has the features named.
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const V: usize, const N: usize, const CONTIGUOUS_B: bool>(
            panels: MicroPanels<$t>,
            tile: Tile<$t>,
        ) {
            // V and N are constants, so that all loops over them unroll and the sums stay in
            // registers.
            let mut sum: [[$vector; V]; N] = [[$zero(); V]; N];
            let (mut a, mut b) = (panels.a, panels.b);
            let (b_rs, b_cs) = (panels.b_rs, if CONTIGUOUS_B { 1 } else { panels.b_cs });
            let mut ahead = panels.prefetch;
            for _ in 0..panels.kc {
                prefetch(ahead);
                ahead = ahead.wrapping_add(panels.prefetch_step);
                // SAFETY: `a` holds `kc` columns of V·lanes rows, `b` `kc` rows of N entries; the
                // pointers may step beyond the last one, but are not read there.
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
                a = a.wrapping_add(panels.a_cs);
                b = b.wrapping_add(b_rs);
            }
            // Whole vectors of contiguous rows are stored as vectors.
            let whole = if tile.rs == 1 { tile.rows / $lanes } else { 0 };
            let (alpha, beta) = ($broadcast(tile.alpha), $broadcast(tile.beta));
            for j in 0..N {
                for v in 0..V {
                    if v < whole && j < tile.columns {
                        // SAFETY: these rows of the tile are contiguous and writable.
                        unsafe {
                            let c = tile.c.add(j * tile.cs + v * $lanes);
                            let product = $multiply(alpha, sum[j][v]);
                            // With β = 0 the old C is not read: it may be NaN.
                            let value = if tile.beta == 0.0 {
                                product
                            } else {
                                $multiply_add(beta, $load(c), product)
                            };
                            $store(c, value);
                        }
                    }
                }
            }
            if whole * $lanes == tile.rows {
                return;
            }
            // The rest, entry by entry, from a copy: a register cannot be indexed.
            let mut copy = [[0.0; MR_VECTORS * $lanes]; N];
            for j in 0..N {
                for v in 0..V {
                    // SAFETY: V ≤ MR_VECTORS, so the vector lies within the copy.
                    unsafe { $store(copy[j].as_mut_ptr().add(v * $lanes), sum[j][v]) };
                }
            }
            for j in 0..tile.columns {
                for i in whole * $lanes..tile.rows {
                    // The two roundings of the vector path: results do not depend on where a tile
                    // ends.
                    let product = tile.alpha * copy[j][i];
                    // SAFETY: the tile's rows × columns entries are writable.
                    unsafe {
                        let c = tile.c.add(i * tile.rs + j * tile.cs);
                        *c =
                            if tile.beta == 0.0 { product } else { tile.beta.mul_add(*c, product) };
                    }
                }
            }
        }
        pub(crate) static $table: MicroKernels<$t> = MicroKernels {
            lanes: $lanes,
            nr: $nr,
            contiguous_b: kernel_table!($kernel, $nr, true),
            strided_b: kernel_table!($kernel, $nr, false),
            transpose_side: $side,
            transpose: $transpose,
        };
    };
}
pub(crate) use simd_micro_kernels;

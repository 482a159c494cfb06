//! Blocked matrix product on one thread: C ← α·A·B + β·C, or a triangle of C.
//!
//! The algorithm is that of Goto & van de Geijn (2008), in the five loops and with the names of
//! BLIS (Van Zee & van de Geijn 2015). m, n and k are the sizes of the product:
//!
//! | loop | over | in steps of | what then stays in a cache |
//! |---|---|---|---|
//! | 5, `jc` | columns of C | NC | |
//! | 4, `pc` | the depth k | KC | the packed panel of B (KC×NC), in L3 |
//! | 3, `ic` | rows of C | MC | the packed block of A (MC×KC), in L2 |
//! | 2, `jr` | columns of the block | NR | a micro-panel of B (KC×NR), in L1 |
//! | 1, `ir` | rows of the block | MR | a tile of C (MR×NR), in registers |
//!
//! Loops 5 to 3 are [`gemm_blocked`], 2 and 1 [`macro_kernel`]; the tile is a
//! [micro-kernel](super::micro). *Packing* copies a block into micro-panels, in the order in which
//! the micro-kernel reads them: contiguous, and padded with zeros to whole vectors. Small or narrow
//! operands are read in place instead ([`Packing`]).
//!
//! # Bit-identical results
//!
//! An entry of C is summed over p = 0, …, k − 1 in this order, in parts of KC that depend on k
//! alone. Tiles, blocks, packing and the exchange of A and B do not change its sum. So a caller may
//! split C among threads in any way. Whoever changes the blocking must keep KC a function of k; a
//! change of KC itself changes the last bits of results.
//!
//! # References
//!
//! * K. Goto, R. van de Geijn: Anatomy of high-performance matrix multiplication. ACM TOMS 34
//!   (2008), 12.
//! * F. Van Zee, R. van de Geijn: BLIS: a framework for rapidly instantiating BLAS functionality.
//!   ACM TOMS 41 (2015), 14.
#![allow(unsafe_code)]

use super::micro::{MR_VECTORS, MicroKernels, MicroPanels, Tile, TransposeFn};
use super::portable;
use super::vector::with_widest_simd;
use super::{Kernel, Operand, OperandMut, SimdLevel};
use std::cell::RefCell;
use std::ops::Range;

/// KC in bytes of one row: 256 `f64` or 512 `f32`.
///
/// A micro-panel of B, which loop 1 reads again for each tile, then has NR·2 KiB: 16 KiB with
/// AVX-512 (NR = 8), half of an L1 cache of 32 KiB; the rest is for A and C as they stream through.
const KC_BYTES: usize = 2048;
/// MC·KC in bytes, about: the packed block of A, which loop 2 reads again for each micro-panel of
/// B.
///
/// 400 KiB are less than half of an L2 cache of 1 MiB, and leave room for B and C in one of 512
/// KiB. (Where L2 has 256 KiB, the block comes from L3; that was not measured.) MC is a multiple of
/// MR: 192 rows with AVX-512, in `f64` and in `f32`.
const MC_KC_BYTES: usize = 400 * 1024;
/// Most micro-panels in a block of A, for products of small depth.
const MC_MAX_PANELS: usize = 64;
/// NC: the packed panel of B then has KC·NC entries, 4 MiB, a share of L3.
const NC: usize = 2048;

/// A is read in place if C has at most so many tiles across: each micro-panel of A is then read
/// too few times to repay a copy. With AVX-512 these are 128 columns; a product of batch 100 takes
/// 0.95 of the time that it took with packing from 33 columns on (docs/performance.md).
const UNPACKED_A_MAX_TILES: usize = 16;
/// B is read in place if C has at most so many tiles down.
const UNPACKED_B_MAX_TILES: usize = 8;
/// An operand of at most so many bytes fits L1: it is read in place however often.
pub(crate) const L1_BYTES: usize = 32 * 1024;

/// Multiply-adds up to which plain loops are used: packing and the choice of blocks would cost more
/// than the product.
pub(crate) const NAIVE_MAX_WORK: usize = 256;

/// Which entries of C are computed.
///
/// Of a triangle, whole vectors of rows are: so entries beyond the diagonal may be written too.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Region {
    /// All: `gemm`.
    Full,
    /// The lower triangle with the diagonal: `gemmt`, or `syrk` where B = Aᵗ.
    Lower,
    /// The upper triangle with the diagonal.
    Upper,
}

fn assert_shapes<T, U>(a: Operand<'_, T>, b: Operand<'_, T>, c: &OperandMut<'_, U>) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "shapes of a product disagree"
    );
}

/// C ← α·A·B + β·C on this thread.
pub(crate) fn gemm_serial<T: Kernel>(
    level: SimdLevel,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    assert_shapes(a, b, &c);
    // Tiles are stored fastest along contiguous rows. Where C is stored by rows, compute the
    // transpose: Cᵗ = Bᵗ·Aᵗ.
    let by_rows = c.rs != 1 && c.cs == 1;
    let (a, b, c) =
        if by_rows { (b.transposed(), a.transposed(), c.transposed()) } else { (a, b, c) };
    let kernels = T::micro_kernels(level);
    gemm_blocked(&Product { kernels, alpha, a, b, beta, c, region: Region::Full, prefetch: None });
}

/// C ← α·A·B + β·C for a region of C, which is stored by columns, on this thread.
pub(crate) fn gemm_region<T: Kernel>(
    level: SimdLevel,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
    region: Region,
) {
    assert_shapes(a, b, &c);
    let kernels = T::micro_kernels(level);
    gemm_blocked(&Product { kernels, alpha, a, b, beta, c, region, prefetch: None });
}

/// C ← α·A·B + β·C by three plain loops.
pub(crate) fn gemm_naive<T: Kernel>(
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    assert_shapes(a, b, &c);
    for j in 0..c.columns {
        for i in 0..c.rows {
            let mut sum = T::ZERO;
            // SAFETY: i, j and p lie within the shapes, which agree; C is borrowed for writing.
            unsafe {
                for p in 0..a.columns {
                    sum = T::multiply_add(
                        *a.data.add(i * a.rs + p * a.cs),
                        *b.data.add(p * b.rs + j * b.cs),
                        sum,
                    );
                }
                let c = c.data.add(i * c.rs + j * c.cs);
                let product = T::times(alpha, sum);
                *c = if beta == T::ZERO { product } else { T::multiply_add(beta, *c, product) };
            }
        }
    }
}

/// C ← C + A·B for a region of C; `prefetch` is read into the cache on the way.
pub(crate) fn accumulate_f64(
    level: SimdLevel,
    a: Operand<'_, f64>,
    b: Operand<'_, f64>,
    c: OperandMut<'_, f64>,
    region: Region,
    prefetch: Option<Operand<'_, f64>>,
) {
    assert_shapes(a, b, &c);
    let kernels = f64::micro_kernels(level);
    gemm_blocked(&Product { kernels, alpha: 1.0, a, b, beta: 1.0, c, region, prefetch });
}

/// C ← C + A·B for a region of C: the product in `f32`, its addition to C in `f64`.
///
/// A caller that sums over many observations splits them into panels, each a call: the errors of
/// `f32` then grow with the length of a panel and not with that of the data.
pub(crate) fn accumulate_f32(
    level: SimdLevel,
    a: Operand<'_, f32>,
    b: Operand<'_, f32>,
    c: OperandMut<'_, f64>,
    region: Region,
    prefetch: Option<Operand<'_, f32>>,
) {
    assert_shapes(a, b, &c);
    let (m, n) = c.shape();
    // The sums are stored by columns, as every matrix of moments is.
    assert!(c.rs == 1 && c.cs >= m, "moments by columns");
    PRODUCT_F32.with_borrow_mut(|buffer| {
        if buffer.len() < m * n {
            buffer.resize(m * n, 0.0);
        }
        let mut product = nalgebra::DMatrixViewMut::from_slice(&mut buffer[..m * n], m, n);
        gemm_blocked(&Product {
            kernels: f32::micro_kernels(level),
            alpha: 1.0,
            a,
            b,
            beta: 0.0,
            c: (&mut product).into(),
            region,
            prefetch,
        });
        for j in 0..n {
            let rows = match region {
                Region::Full => 0..m,
                Region::Lower => j.min(m)..m,
                Region::Upper => 0..m.min(j + 1),
            };
            // SAFETY: these rows of column j lie within C and are contiguous (asserted above), and
            // C is borrowed for writing.
            let sums = unsafe {
                std::slice::from_raw_parts_mut(c.data.add(rows.start + j * c.cs), rows.len())
            };
            add_f32(sums, &product.column(j).as_slice()[rows]);
        }
    });
}

fn add_f32(sums: &mut [f64], terms: &[f32]) {
    with_widest_simd(
        #[inline(always)]
        || {
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += f64::from(*term);
            }
        },
    );
}

/// One product on one thread.
struct Product<'p, T: Kernel> {
    kernels: &'p MicroKernels<T>,
    alpha: T,
    a: Operand<'p, T>,
    b: Operand<'p, T>,
    beta: T,
    c: OperandMut<'p, T>,
    region: Region,
    /// Memory that is not part of this product, but of the next.
    prefetch: Option<Operand<'p, T>>,
}

impl<T: Kernel> Product<'_, T> {
    /// Those of a rectangle's rows that are computed: relative to its first, whole vectors but at
    /// the lower edge.
    #[inline(always)]
    fn rows_in_region(&self, rows: Span, columns: Span) -> Span {
        match self.region {
            Region::Full => Span { start: 0, len: rows.len },
            Region::Lower => {
                // Rows above the diagonal entry of the first column, which reaches up furthest.
                let above = columns.start.saturating_sub(rows.start);
                let skipped = above & !(self.kernels.lanes - 1);
                Span { start: skipped, len: rows.len.saturating_sub(skipped) }
            }
            Region::Upper => {
                // Rows down to the diagonal entry of the last column, which reaches down furthest.
                let reach = (columns.start + columns.len).saturating_sub(rows.start);
                Span { start: 0, len: rows.len.min(self.kernels.to_whole_vectors(reach)) }
            }
        }
    }
}

/// Whether an operand is copied into micro-panels.
#[derive(Clone, Copy, PartialEq)]
enum Packing {
    /// All of it: the panels are contiguous.
    All,
    /// The last, incomplete panel alone, which must be padded; the others are read in place.
    Edge,
}

/// Block sizes of a product, and which operands are packed.
struct Blocking {
    mc: usize,
    nc: usize,
    kc: usize,
    /// Blocks of KC in the depth, at least one: with k = 0, C is still multiplied by β.
    k_blocks: usize,
    pack_a: Packing,
    pack_b: Packing,
}

impl Blocking {
    fn of<T: Kernel>(product: &Product<'_, T>) -> Self {
        let Product { kernels, a, b, c, .. } = product;
        let (m, n, k) = (c.rows, c.columns, a.columns);
        let (mr, nr) = (kernels.mr(), kernels.nr);
        // Equal blocks in place of whole ones and a short rest. From k alone: the order of the sums
        // must not depend on m or n.
        let (k_blocks, kc) = equal_blocks(k, KC_BYTES / size_of::<T>());
        let mc = if m <= mr {
            mr
        } else {
            let panels = MC_KC_BYTES / size_of::<T>() / kc.max(1) / mr;
            equal_blocks(m, panels.clamp(1, MC_MAX_PANELS) * mr).1.next_multiple_of(mr)
        };
        // A micro-kernel reads A as vectors of contiguous rows, but may read B at any strides.
        let a_fits_l1 = m * k * size_of::<T>() <= L1_BYTES;
        let a_in_place = a.rs == 1 && (n <= UNPACKED_A_MAX_TILES * nr || a_fits_l1);
        let b_fits_l1 = b.cs == 1 && n * k * size_of::<T>() <= L1_BYTES;
        let b_in_place = m <= UNPACKED_B_MAX_TILES * mr || b_fits_l1;
        let packing = |in_place| if in_place { Packing::Edge } else { Packing::All };
        Self {
            mc,
            nc: n.min(NC),
            kc,
            k_blocks,
            pack_a: packing(a_in_place),
            pack_b: packing(b_in_place),
        }
    }
}

/// The least number of equal blocks of at most `largest` that cover `size`, and their size.
fn equal_blocks(size: usize, largest: usize) -> (usize, usize) {
    if size <= largest {
        return (1, size);
    }
    let blocks = size.div_ceil(largest);
    (blocks, size.div_ceil(blocks))
}

/// A range of rows or columns.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: usize,
    len: usize,
}

/// How rows or columns are cut into blocks or tiles, each of up to `max_units` units.
#[derive(Clone, Copy)]
struct Tiling {
    unit: usize,
    max_units: usize,
}

impl Tiling {
    /// Tiles of up to MR rows, by whole vectors.
    fn of_rows(lanes: usize) -> Self {
        Self { unit: lanes, max_units: MR_VECTORS }
    }
    /// Tiles of NR columns.
    fn of_columns(nr: usize) -> Self {
        Self { unit: nr, max_units: 1 }
    }
    /// Blocks of one size.
    fn of_blocks(size: usize) -> Self {
        Self { unit: size, max_units: 1 }
    }

    /// The tiles of a range of `size`; the last may be smaller. (`step_by` would divide first.)
    ///
    /// Four vectors of rows are split 2 + 2 and not 3 + 1: a tile of one vector has too few
    /// independent sums to hide the latency of a multiply-add (151 GFLOP/s beside 255 to 264,
    /// docs/performance.md).
    #[inline(always)]
    fn tiles(self, size: usize) -> impl Iterator<Item = Span> {
        let tile = move |start: usize| {
            let left = size.saturating_sub(start);
            let four_left = self.max_units == MR_VECTORS
                && left > MR_VECTORS * self.unit
                && left <= (MR_VECTORS + 1) * self.unit;
            let units = if four_left { 2 } else { self.max_units };
            (left > 0).then(|| Span { start, len: left.min(units * self.unit) })
        };
        std::iter::successors(tile(0), move |last| tile(last.start + last.len))
    }
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
    static PRODUCT_F32: RefCell<Vec<f32>> = RefCell::default();
}

/// A cache line, so that packed panels start on one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct CacheLine(#[allow(dead_code)] [u8; 64]);

/// Buffers for the packed block of A and the packed panel of B. Each thread keeps its own, so that
/// a product allocates nothing after the first of its size.
#[derive(Default)]
struct Workspace {
    a: Vec<CacheLine>,
    b: Vec<CacheLine>,
}

impl Workspace {
    /// Buffers of at least `a` and `b` numbers of type `T`: `f32` or `f64`, of which any bytes are
    /// a value.
    fn buffers<T: Kernel>(&mut self, a: usize, b: usize) -> (*mut T, *mut T) {
        fn grow<T>(lines: &mut Vec<CacheLine>, len: usize) -> *mut T {
            let needed = (len * size_of::<T>()).div_ceil(64);
            if lines.len() < needed {
                lines.resize(needed, CacheLine([0; 64]));
            }
            lines.as_mut_ptr().cast()
        }
        (grow(&mut self.a, a), grow(&mut self.b, b))
    }
}

/// Loops 5 to 3: blocks of columns, of depth, and of rows.
fn gemm_blocked<T: Kernel>(product: &Product<'_, T>) {
    let Product { kernels, a, b, c, .. } = product;
    let (m, n, k) = (c.rows, c.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    let blocking = Blocking::of(product);
    let (rows, columns) = (Tiling::of_rows(kernels.lanes), Tiling::of_columns(kernels.nr));
    let mut prefetcher = Prefetcher::of(product);
    // Nothing forks while this is borrowed: a thread that waits for a stolen job may run another
    // product.
    WORKSPACE.with_borrow_mut(|workspace| {
        let packed_rows = if blocking.pack_a == Packing::All { blocking.mc } else { kernels.mr() };
        let packed_columns = match blocking.pack_b {
            Packing::All => blocking.nc.next_multiple_of(kernels.nr),
            Packing::Edge => kernels.nr,
        };
        let (a_buffer, b_buffer) =
            workspace.buffers::<T>(packed_rows * blocking.kc, packed_columns * blocking.kc);
        for jc in Tiling::of_blocks(blocking.nc).tiles(n) {
            for k_block in 0..blocking.k_blocks {
                // Equal blocks, rounded up, may leave nothing for the last one.
                let pc = (k_block * blocking.kc).min(k);
                let kc = blocking.kc.min(k - pc);
                // Bᵗ, so that the panels of both operands are cut along rows.
                let b_panel = b.part(pc, jc.start, kc, jc.len).transposed();
                // SAFETY: the buffer has room for `blocking.kc` entries of each column that is
                // packed, rounded up to whole tiles.
                let b_panels =
                    unsafe { Panels::new(kernels, b_panel, columns, blocking.pack_b, b_buffer) };
                // The first block of depth scales C, the others add to it.
                let beta = if k_block == 0 { product.beta } else { T::ONE };
                for ic in Tiling::of_blocks(blocking.mc).tiles(m) {
                    if product.rows_in_region(ic, jc).len == 0 {
                        continue;
                    }
                    let a_block = a.part(ic.start, pc, ic.len, kc);
                    // SAFETY: likewise, for the rows that are packed.
                    let a_panels =
                        unsafe { Panels::new(kernels, a_block, rows, blocking.pack_a, a_buffer) };
                    let block = Block { rows: ic, columns: jc, kc, beta };
                    macro_kernel(product, block, &a_panels, &b_panels, &mut prefetcher);
                }
            }
        }
    });
}

/// A block of C, and the depth that is added to it.
#[derive(Clone, Copy)]
struct Block<T> {
    rows: Span,
    columns: Span,
    kc: usize,
    beta: T,
}

/// Loops 2 and 1: the tiles of a block of C.
#[inline(always)]
fn macro_kernel<T: Kernel>(
    product: &Product<'_, T>,
    block: Block<T>,
    a: &Panels<'_, T>,
    b: &Panels<'_, T>,
    prefetcher: &mut Prefetcher,
) {
    let Product { kernels, c, alpha, .. } = product;
    let Block { kc, beta, .. } = block;
    for jr in Tiling::of_columns(kernels.nr).tiles(block.columns.len) {
        let b_panel = b.panel(jr.start, kernels.nr);
        let width = kernels.width_index(jr.len);
        let by_height = if b_panel.rs == 1 { &kernels.contiguous_b } else { &kernels.strided_b };
        let tile_columns = Span { start: block.columns.start + jr.start, len: jr.len };
        for ir in Tiling::of_rows(kernels.lanes).tiles(block.rows.len) {
            let tile_rows = Span { start: block.rows.start + ir.start, len: ir.len };
            let wanted = product.rows_in_region(tile_rows, tile_columns);
            if wanted.len == 0 {
                continue;
            }
            let a_panel = a.panel(ir.start, kernels.to_whole_vectors(ir.len));
            let (prefetch, prefetch_step) = prefetcher.next_tile(b_panel.data, kc);
            let panels = MicroPanels {
                kc,
                a: a_panel.data.wrapping_add(wanted.start),
                a_cs: a_panel.cs,
                b: b_panel.data,
                b_rs: b_panel.cs,
                b_cs: b_panel.rs,
                prefetch,
                prefetch_step,
            };
            let row = tile_rows.start + wanted.start;
            let tile = Tile {
                c: c.data.wrapping_add(row * c.rs + tile_columns.start * c.cs),
                rs: c.rs,
                cs: c.cs,
                rows: wanted.len,
                columns: jr.len,
                alpha: *alpha,
                beta,
            };
            let kernel = by_height[kernels.vectors(wanted.len) - 1][width];
            // SAFETY: a packed panel holds `kc` groups, padded with zeros to whole vectors (to NR);
            // one that is read in place is whole and lies within its operand; the tile lies within
            // C, which is borrowed for writing. The level of the kernels was detected.
            unsafe { kernel(panels, tile) };
        }
    }
}

/// Micro-panels of one block of an operand, cut along its rows (of Bᵗ for B).
struct Panels<'p, T> {
    block: Operand<'p, T>,
    packed: *const T,
    /// Rows before this one are read in place.
    in_place: usize,
    packing: Packing,
}

/// One micro-panel: its rows lie `rs` apart, its kc columns `cs`.
struct Panel<T> {
    data: *const T,
    rs: usize,
    cs: usize,
}

impl<'p, T: Kernel> Panels<'p, T> {
    /// Packs what is to be packed of a block.
    ///
    /// # Safety
    /// `buffer` has room for the rows that are packed, rounded up to whole units of the tiling,
    /// times the columns. It is not written while the panels are in use.
    unsafe fn new(
        kernels: &MicroKernels<T>,
        block: Operand<'p, T>,
        tiling: Tiling,
        packing: Packing,
        buffer: *mut T,
    ) -> Self {
        let (rows, kc) = block.shape();
        let in_place = match packing {
            Packing::All => 0,
            Packing::Edge if rows % tiling.unit == 0 => rows,
            Packing::Edge => tiling.tiles(rows).last().map_or(0, |tile| tile.start),
        };
        // SAFETY: the caller's promise.
        unsafe { pack(kernels, block.part(in_place, 0, rows - in_place, kc), tiling, buffer) };
        Self { block, packed: buffer, in_place, packing }
    }

    /// The micro-panel of the tile that starts at `row`; `width` is that of a packed one.
    #[inline(always)]
    fn panel(&self, row: usize, width: usize) -> Panel<T> {
        match self.packing {
            Packing::All => {
                let data = self.packed.wrapping_add(row * self.block.columns);
                Panel { data, rs: 1, cs: width }
            }
            Packing::Edge if row < self.in_place => {
                let Operand { data, rs, cs, .. } = self.block;
                Panel { data: data.wrapping_add(row * rs), rs, cs }
            }
            Packing::Edge => Panel { data: self.packed, rs: 1, cs: width },
        }
    }
}

/// Prefetch schedule: memory that is needed after this product, split evenly over its tiles.
///
/// A micro-kernel issues one prefetch in each of its kc steps. Issuing the 38 of a tile at once
/// gained nothing: in a microbenchmark a burst of 29 was served, and most of a burst of 57 dropped,
/// because the number of outstanding cache misses is limited (docs/performance.md).
struct Prefetcher {
    next: *const i8,
    bytes_left: usize,
    bytes_per_tile: usize,
}

impl Prefetcher {
    fn of<T: Kernel>(product: &Product<'_, T>) -> Self {
        let Some(operand) = product.prefetch.filter(|operand| operand.columns > 0) else {
            return Self { next: std::ptr::null(), bytes_left: 0, bytes_per_tile: 0 };
        };
        // The operand is stored by columns.
        let entries = (operand.columns - 1) * operand.cs + operand.rows;
        let bytes_left = entries * size_of::<T>();
        let (c, kernels) = (&product.c, product.kernels);
        let tiles = c.rows.div_ceil(kernels.mr()) * c.columns.div_ceil(kernels.nr);
        // A triangle has half of the tiles, and a few on the diagonal.
        let tiles = tiles / if product.region == Region::Full { 1 } else { 2 } + 1;
        let bytes_per_tile = bytes_left.div_ceil(tiles);
        Self { next: operand.data.cast(), bytes_left, bytes_per_tile }
    }

    /// The address at which the next tile begins to prefetch, and the bytes by which it moves on in
    /// each of `kc` steps. If nothing is left, the kernel prefetches `idle` over and over, which it
    /// reads anyway: cheaper than a second kernel without prefetches.
    #[inline(always)]
    fn next_tile<T>(&mut self, idle: *const T, kc: usize) -> (*const i8, usize) {
        if self.bytes_left == 0 {
            return (idle.cast(), 0);
        }
        let (start, bytes) = (self.next, self.bytes_per_tile.min(self.bytes_left));
        self.next = self.next.wrapping_add(bytes);
        self.bytes_left -= bytes;
        (start, bytes.div_ceil(kc.max(1)))
    }
}

/// Copies a block into one micro-panel for each tile of its rows, padded with zeros to whole units.
/// The columns of a panel follow each other, `width` entries each.
///
/// # Safety
/// `to` has room for the rows, rounded up to whole units, times the columns.
unsafe fn pack<T: Kernel>(
    kernels: &MicroKernels<T>,
    block: Operand<'_, T>,
    tiling: Tiling,
    to: *mut T,
) {
    let (rows, kc) = block.shape();
    for tile in tiling.tiles(rows) {
        // Tiles before the last are whole, so that panel i starts after i·kc entries.
        let copy = PanelCopy {
            from: block.data.wrapping_add(tile.start * block.rs),
            rs: block.rs,
            cs: block.cs,
            rows: tile.len,
            kc,
            // SAFETY: within the room.
            to: unsafe { to.add(tile.start * kc) },
            width: tile.len.next_multiple_of(tiling.unit),
        };
        // SAFETY: reads stay within the rectangle of `block`; the panel has room for width·kc.
        unsafe { copy.run(kernels) };
    }
}

/// The copy of rows × kc entries into one micro-panel of width × kc.
struct PanelCopy<T> {
    from: *const T,
    rs: usize,
    cs: usize,
    rows: usize,
    kc: usize,
    to: *mut T,
    width: usize,
}

impl<T: Kernel> PanelCopy<T> {
    /// # Safety
    /// `from` has `rows` rows and `kc` columns at the strides given; `to` has room for width·kc
    /// entries, width ≥ rows.
    unsafe fn run(&self, kernels: &MicroKernels<T>) {
        // SAFETY (all calls): the caller's promise.
        unsafe {
            match (self.rs == 1, self.rows == self.width) {
                (true, true) => self.whole_columns(),
                (true, false) => self.contiguous_columns(),
                (false, _) if self.cs == 1 => self.contiguous_rows(kernels),
                (false, _) => self.entries(0..self.rows, 0..self.kc),
            }
            self.pad();
        }
    }

    /// Whole panels of contiguous columns: copies of a length that the compiler has, for all that
    /// MR and NR can be. They become a few vector moves in place of a call of `memcpy`.
    unsafe fn whole_columns(&self) {
        // SAFETY: the promise of `run`, with width = rows and rs = 1.
        unsafe {
            match self.width {
                2 => self.columns_of::<2>(),
                4 => self.columns_of::<4>(),
                6 => self.columns_of::<6>(),
                8 => self.columns_of::<8>(),
                12 => self.columns_of::<12>(),
                16 => self.columns_of::<16>(),
                24 => self.columns_of::<24>(),
                32 => self.columns_of::<32>(),
                48 => self.columns_of::<48>(),
                _ => self.contiguous_columns(),
            }
        }
    }

    /// # Safety
    /// That of [`run`](Self::run); width = rows = W, rs = 1.
    unsafe fn columns_of<const W: usize>(&self) {
        for p in 0..self.kc {
            // SAFETY: column p of both.
            unsafe {
                let column = self.from.add(p * self.cs).cast::<[T; W]>().read();
                self.to.add(p * W).cast::<[T; W]>().write(column);
            }
        }
    }

    /// Incomplete panels of contiguous columns: four entries at a time, too few to be worth a call
    /// of `memcpy` for each column.
    ///
    /// # Safety
    /// That of [`run`](Self::run); rs = 1.
    unsafe fn contiguous_columns(&self) {
        let fours = self.rows / 4 * 4;
        for p in 0..self.kc {
            for i in (0..fours).step_by(4) {
                // SAFETY: four of a column's `rows` contiguous entries.
                unsafe {
                    let four = self.from.add(p * self.cs + i).cast::<[T; 4]>().read();
                    self.to.add(p * self.width + i).cast::<[T; 4]>().write(four);
                }
            }
        }
        // SAFETY: rows and columns of both.
        unsafe { self.entries(fours..self.rows, 0..self.kc) };
    }

    /// Contiguous rows: transposed in square blocks in registers, by the widest vectors first, then
    /// the rows that are left in 4×4 blocks, then entry by entry.
    ///
    /// # Safety
    /// That of [`run`](Self::run); cs = 1. The processor is that of the kernels.
    unsafe fn contiguous_rows(&self, kernels: &MicroKernels<T>) {
        let four = portable::transpose_4x4::<T> as TransposeFn<T>;
        let mut done = 0;
        for (side, transpose) in
            [(kernels.transpose_side, kernels.transpose), (portable::LANES, four)]
        {
            let rows = done..done + (self.rows - done) / side * side;
            let columns = self.kc / side * side;
            for p in (0..columns).step_by(side) {
                for i in rows.clone().step_by(side) {
                    // SAFETY: the block lies within the rows and columns of both.
                    unsafe {
                        let from = self.from.add(i * self.rs + p);
                        transpose(from, self.rs, self.to.add(p * self.width + i), self.width);
                    }
                }
            }
            done = rows.end;
            // SAFETY: rows and columns of both.
            unsafe { self.entries(rows, columns..self.kc) };
        }
        // SAFETY: likewise.
        unsafe { self.entries(done..self.rows, 0..self.kc) };
    }

    /// Any entries, one by one.
    ///
    /// # Safety
    /// That of [`run`](Self::run); the rows and columns lie within its.
    unsafe fn entries(&self, rows: Range<usize>, columns: Range<usize>) {
        // Eight columns at a time: of contiguous rows, whole cache lines are then read.
        for p0 in columns.clone().step_by(8) {
            for i in rows.clone() {
                for p in p0..columns.end.min(p0 + 8) {
                    // SAFETY: within the rows and columns of both.
                    unsafe {
                        *self.to.add(p * self.width + i) =
                            *self.from.add(i * self.rs + p * self.cs);
                    }
                }
            }
        }
    }

    /// Zeros below the rows of each column, so that a kernel may read whole vectors.
    ///
    /// # Safety
    /// That of [`run`](Self::run).
    unsafe fn pad(&self) {
        if self.rows == self.width {
            return;
        }
        for p in 0..self.kc {
            for i in self.rows..self.width {
                // SAFETY: within the room.
                unsafe { *self.to.add(p * self.width + i) = T::ZERO };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Real;
    use crate::linalg::testing::random;
    use nalgebra::DMatrix;

    /// How the entries of an operand lie in memory.
    #[derive(Clone, Copy, Debug)]
    enum Layout {
        /// By columns, which are longer than the operand's.
        Columns,
        /// By rows: the transpose of a matrix by columns.
        Rows,
        /// Every second entry of every second column.
        Strided,
    }
    const LAYOUTS: [Layout; 3] = [Layout::Columns, Layout::Rows, Layout::Strided];

    /// A matrix in the middle of NaNs: to read one of them would show in the result.
    struct Stored<T: Real> {
        memory: DMatrix<T>,
        shape: (usize, usize),
        strides: (usize, usize),
    }

    impl<T: Real> Stored<T> {
        const OFFSET: usize = 5;

        fn new(matrix: &DMatrix<T>, layout: Layout) -> Self {
            let shape = matrix.shape();
            let strides = match layout {
                Layout::Columns => (1, shape.0 + 3),
                Layout::Rows => (shape.1 + 3, 1),
                Layout::Strided => (2, 2 * shape.0 + 2),
            };
            let len = Self::OFFSET + (shape.0 + 2) * strides.0 + (shape.1 + 2) * strides.1;
            let mut memory = DMatrix::from_element(len, 1, T::of(f64::NAN));
            for (i, j) in (0..shape.1).flat_map(|j| (0..shape.0).map(move |i| (i, j))) {
                memory[Self::OFFSET + i * strides.0 + j * strides.1] = matrix[(i, j)];
            }
            Self { memory, shape, strides }
        }

        fn operand(&self) -> Operand<'_, T> {
            let mut operand = Operand::from(&self.memory);
            operand.data = operand.data.wrapping_add(Self::OFFSET);
            (operand.rows, operand.columns) = self.shape;
            (operand.rs, operand.cs) = self.strides;
            operand
        }

        fn operand_mut(&mut self) -> OperandMut<'_, T> {
            let mut operand = OperandMut::from(&mut self.memory);
            operand.data = operand.data.wrapping_add(Self::OFFSET);
            (operand.rows, operand.columns) = self.shape;
            (operand.rs, operand.cs) = self.strides;
            operand
        }

        /// The matrix, after a check that what lies around it is still NaN.
        fn into_matrix(mut self) -> DMatrix<T> {
            let (rs, cs) = self.strides;
            let matrix = DMatrix::from_fn(self.shape.0, self.shape.1, |i, j| {
                let nan = T::of(f64::NAN);
                std::mem::replace(&mut self.memory[Self::OFFSET + i * rs + j * cs], nan)
            });
            assert!(self.memory.iter().all(|v| v.as_f64().is_nan()), "written outside of C");
            matrix
        }
    }

    /// A·B in `f64`, by the definition; a column of A at a time, as it lies in memory.
    fn definition<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> DMatrix<f64> {
        let a = a.map(|v| v.as_f64());
        let mut product = DMatrix::zeros(a.nrows(), b.ncols());
        let rows = a.nrows().max(1);
        for (sums, b) in product.as_mut_slice().chunks_exact_mut(rows).zip(b.column_iter()) {
            for (a, b) in a.as_slice().chunks_exact(rows).zip(b.iter()) {
                let b = b.as_f64();
                sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += a * b);
            }
        }
        product
    }

    fn agrees<T: Real>(level: SimdLevel, m: usize, n: usize, k: usize, layouts: &[[Layout; 3]]) {
        let (a, b, c) = (random::<T>(m, k, 1), random::<T>(k, n, 2), random::<T>(m, n, 3));
        // k + 2 roundings, each of a partial sum of numbers in (−1, 1), which stays below 4√k with
        // all but certainty.
        let tolerance = T::EPSILON.as_f64() * 4.0 * (k as f64 + 4.0).powf(1.5);
        let product = definition(&a, &b);
        for (alpha, beta) in [(1.0, 0.0), (2.0, 0.5)] {
            let expected = product.zip_map(&c, |sum, c| alpha * sum + beta * c.as_f64());
            for &[of_a, of_b, of_c] in layouts {
                let (a, b) = (Stored::new(&a, of_a), Stored::new(&b, of_b));
                // With β = 0 the old C is not read.
                let c = if beta == 0.0 { c.map(|_| T::of(f64::NAN)) } else { c.clone() };
                let mut c = Stored::new(&c, of_c);
                let (x, y) = (a.operand(), b.operand());
                gemm_serial(level, T::of(alpha), x, y, T::of(beta), c.operand_mut());
                let found = c.into_matrix();
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (found.as_f64() - expected).abs();
                    assert!(
                        error <= tolerance,
                        "{m}x{n}x{k} {level:?} {of_a:?} {of_b:?} {of_c:?}: {error:e}"
                    );
                }
            }
        }
    }

    fn all_layouts() -> Vec<[Layout; 3]> {
        let pairs = LAYOUTS.into_iter().flat_map(|a| LAYOUTS.map(|b| (a, b)));
        pairs.flat_map(|(a, b)| LAYOUTS.map(|c| [a, b, c])).collect()
    }

    fn tile_edges<T: Real>() {
        for level in SimdLevel::available() {
            let kernels = T::micro_kernels(level);
            let (lanes, mr, nr) = (kernels.lanes, kernels.mr(), kernels.nr);
            for m in [1, lanes, mr - 1, mr, mr + 1, mr + lanes, mr + lanes + 1] {
                for n in [1, nr / 2 + 1, nr, nr + 1] {
                    for k in [0, 1, 9] {
                        agrees::<T>(level, m, n, k, &all_layouts());
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_around_the_edges_of_a_tile() {
        tile_edges::<f64>();
        tile_edges::<f32>();
    }

    fn block_edges<T: Real>() {
        for level in SimdLevel::available() {
            let kernels = T::micro_kernels(level);
            let (mr, nr) = (kernels.mr(), kernels.nr);
            let kc = KC_BYTES / size_of::<T>();
            for k in [kc - 1, kc, kc + 1, 2 * kc + 1] {
                agrees::<T>(level, mr + 1, nr + 1, k, &all_layouts());
            }
            // Large enough that both operands are packed, in more than one block.
            let some = LAYOUTS.map(|layout| [layout; 3]);
            let mc = MC_KC_BYTES / size_of::<T>() / kc / mr * mr;
            let wide = UNPACKED_A_MAX_TILES * nr;
            for (m, n) in [(mc, wide + 1), (mc + 1, wide), (mc + mr + 1, wide + nr)] {
                agrees::<T>(level, m, n, kc, &some);
            }
            for n in [NC - 1, NC, NC + 1] {
                agrees::<T>(level, UNPACKED_B_MAX_TILES * mr + 1, n, 3, &some);
            }
        }
    }

    #[test]
    fn shapes_around_the_edges_of_blocks() {
        block_edges::<f64>();
        block_edges::<f32>();
    }

    /// Any part of C by itself is bit-identical to that of the whole.
    fn parts_of_c<T: Real>() {
        let (m, n, k) = (210, 150, 600);
        let (a, b) = (random::<T>(m, k, 1), random::<T>(k, n, 2));
        let (a, b) = (Operand::from(&a), Operand::from(&b));
        for level in SimdLevel::available() {
            let mut whole = DMatrix::<T>::zeros(m, n);
            gemm_serial(level, T::ONE, a, b, T::ZERO, (&mut whole).into());
            for (row, rows, column, columns) in
                [(0, 7, 0, n), (3, 200, 140, 10), (100, 110, 1, 1), (209, 1, 0, n)]
            {
                let mut part = DMatrix::<T>::zeros(rows, columns);
                let (x, y) = (a.part(row, 0, rows, k), b.part(0, column, k, columns));
                gemm_serial(level, T::ONE, x, y, T::ZERO, (&mut part).into());
                assert_eq!(part, whole.view((row, column), (rows, columns)), "{level:?}");
            }
        }
    }

    #[test]
    fn a_part_of_c_is_bit_identical() {
        parts_of_c::<f64>();
        parts_of_c::<f32>();
    }

    #[test]
    fn four_vectors_are_split_in_two() {
        let lengths = |size| Tiling::of_rows(8).tiles(size).map(|tile| tile.len).collect();
        let cases: [(usize, Vec<usize>); 7] = [
            (0, vec![]),
            (5, vec![5]),
            (24, vec![24]),
            (25, vec![16, 9]),
            (32, vec![16, 16]),
            (33, vec![24, 9]),
            (80, vec![24, 24, 16, 16]),
        ];
        for (size, expected) in cases {
            let found: Vec<usize> = lengths(size);
            assert_eq!(found, expected, "{size}");
        }
        assert_eq!(equal_blocks(600, 256), (3, 200));
        assert_eq!(equal_blocks(0, 256), (1, 0));
    }

    /// A region of C + A·Aᵗ of which some first columns are computed; nothing is written outside C.
    fn triangles<T: Real>(rows: usize, columns: usize, depth: usize) {
        let a = random::<T>(rows, depth, 1);
        let start = random::<f64>(rows + 2, columns + 1, 2);
        let wide = a.map(|v| v.as_f64());
        let products = &wide * wide.rows(0, columns).transpose();
        // A sum of so many roundings, none larger than the largest sum of squares times ε.
        let tolerance = T::EPSILON.as_f64() * (depth + 4) as f64 * products.amax().max(1.0);
        for level in SimdLevel::available() {
            for region in [Region::Full, Region::Lower, Region::Upper] {
                let mut c: DMatrix<f64> = start.clone();
                let columns_of_a = a.rows(0, columns);
                let (left, right) = (Operand::from(&a), Operand::from(&columns_of_a).transposed());
                let part = c.view_mut((1, 1), (rows, columns));
                T::accumulate(level, left, right, part.into(), region, Some(left));
                for (i, j) in (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))) {
                    let wanted = match region {
                        Region::Full => true,
                        Region::Lower => i >= j,
                        Region::Upper => i <= j,
                    };
                    let place = (i + 1, j + 1);
                    let error = (c[place] - start[place] - products[(i, j)]).abs();
                    assert!(
                        !wanted || error < tolerance,
                        "{level:?} {rows}x{columns}x{depth} ({i}, {j}): {error:e}"
                    );
                }
                c.view_mut((1, 1), (rows, columns)).copy_from(&start.view((1, 1), (rows, columns)));
                assert_eq!(c, start, "{level:?} wrote outside of C");
            }
        }
    }

    #[test]
    fn triangles_of_c() {
        for (rows, columns, depth) in [
            (1, 1, 3),
            (8, 5, 7),
            (56, 50, 72),
            (50, 50, 33),
            (49, 49, 300),
            (130, 130, 700),
            (24, 17, 0),
            (32, 9, 40),
            (64, 9, 40),
        ] {
            triangles::<f64>(rows, columns, depth);
            triangles::<f32>(rows, columns, depth);
        }
    }
}

//! The blocked product around the micro-kernels: packs blocks that fit the caches, and walks the
//! tiles of C.
//!
//! Each entry of C is summed in one order, whatever tile it falls in, so any split of C into parts
//! gives the same bits.
#![allow(unsafe_code)]

use super::micro::{Micro, QUARTERS, Slivers, SquareFn, Tile, VECTORS};
use super::portable;
use super::vector::on_widest;
use super::{Kernel, Level, Operand, OperandMut};
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static NARROW: RefCell<Vec<f32>> = RefCell::default();
}

/// A cache line, so that packed slivers start on one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

/// The packed copies of a product, kept by each thread so that a product allocates nothing after
/// the first.
#[derive(Default)]
struct Scratch {
    a: Vec<Line>,
    b: Vec<Line>,
}

impl Scratch {
    /// Two aligned buffers of at least `a` and `b` numbers of type `T` (`f32` or `f64`: any bytes
    /// are a number).
    fn buffers<T: Kernel>(&mut self, a: usize, b: usize) -> (*mut T, *mut T) {
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

/// Which entries of C are wanted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// All.
    Whole,
    /// Only vectors of rows that meet the lower triangle; C's corner lies this many rows below (or
    /// above) its diagonal.
    Lower(isize),
    /// Only those that meet the upper triangle; C's corner lies on its diagonal.
    Upper,
}

/// Depth of a packed block: a sliver of B stays in the first cache.
const DEPTH_BYTES: usize = 2048;
/// Bytes of a packed block of A: half of a small second cache.
const A_BYTES: usize = 400 * 1024;
/// Columns of a packed block of B.
const B_COLUMNS: usize = 2048;

/// A side of C up to so many tiles is narrow: the other operand is used so seldom that packing it
/// does not pay.
const NARROW_TILES: usize = 16;

/// An operand this small stays near the processor: it is read in place however often.
pub(crate) const NEAR_BYTES: usize = 32 * 1024;

/// C ← α·A·B + β·C on this thread.
pub(crate) fn product_serial<T: Kernel>(
    level: Level,
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
    part: Part,
) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "shapes of a product disagree"
    );
    let micro = T::micro(level);
    // Tiles are written fastest along contiguous rows: exchange the sides where C lies by rows.
    let exchange = part == Part::Whole && c.rs != 1 && c.cs == 1;
    let (a, b, c) =
        if exchange { (b.transposed(), a.transposed(), c.transposed()) } else { (a, b, c) };
    blocks(&Job { micro, alpha, a, b, beta, c, part, ahead: None });
}

/// Below so many multiply-adds a product is done by plain loops: packing would cost more than it.
pub(crate) const TINY: usize = 256;

/// C ← α·A·B + β·C by plain loops.
pub(crate) fn product_tiny<T: Kernel>(
    alpha: T,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    beta: T,
    c: OperandMut<'_, T>,
) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "shapes of a product disagree"
    );
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

/// One product on one thread.
struct Job<'j, T: Kernel> {
    micro: &'j Micro<T>,
    alpha: T,
    a: Operand<'j, T>,
    b: Operand<'j, T>,
    beta: T,
    c: OperandMut<'j, T>,
    part: Part,
    /// What is asked of memory between the tiles.
    ahead: Option<Operand<'j, T>>,
}

impl<T: Kernel> Job<'_, T> {
    /// What is wanted of a rectangle's rows, to whole vectors: the first of them, and how many.
    fn wanted(
        &self,
        (row, rows): (usize, usize),
        (column, columns): (usize, usize),
    ) -> (usize, usize) {
        let lanes = self.micro.lanes;
        match self.part {
            Part::Whole => (0, rows),
            Part::Lower(offset) => {
                let above = usize::try_from(column as isize - row as isize - offset).unwrap_or(0)
                    / lanes
                    * lanes;
                (above, rows.saturating_sub(above))
            }
            Part::Upper => {
                (0, rows.min((column + columns).saturating_sub(row).next_multiple_of(lanes)))
            }
        }
    }
}

/// One operand of a block: packed slivers, or whole slivers as they lie and the last, incomplete
/// one packed.
struct Side<T> {
    packed: *const T,
    /// Where the slivers that were left in place start, if they were.
    direct: Option<*const T>,
    /// Slivers before this row (or column) are whole.
    whole: usize,
}

/// Memory that is read soon, shared out among the tiles: each asks for a little with every step of
/// its depth, so that none is refused for the number of those that are waited for.
struct Ahead {
    from: *const i8,
    bytes: usize,
    each: usize,
}

impl Ahead {
    fn of<T>(soon: Option<Operand<'_, T>>, tiles: impl FnOnce() -> usize) -> Self {
        let Some(soon) = soon.filter(|soon| soon.columns > 0) else {
            return Self { from: std::ptr::null(), bytes: 0, each: 0 };
        };
        let bytes = ((soon.columns - 1) * soon.cs + soon.rows) * size_of::<T>();
        Self { from: soon.data.cast(), bytes, each: bytes.div_ceil(tiles()) }
    }

    /// Where the next tile starts to ask, and how far it moves on with each step; without anything
    /// ahead it stays at `here`, which is read anyway.
    fn share<T>(&mut self, here: *const T, depth: usize) -> (*const i8, usize) {
        if self.bytes == 0 {
            return (here.cast(), 0);
        }
        let (from, now) = (self.from, self.each.min(self.bytes));
        self.from = self.from.wrapping_add(now);
        self.bytes -= now;
        (from, now.div_ceil(depth.max(1)))
    }
}

/// How many equal parts of at most so many a size makes, and how large they are.
fn in_parts(size: usize, most: usize) -> (usize, usize) {
    if size <= most {
        return (1, size);
    }
    let parts = size.div_ceil(most);
    (parts, size.div_ceil(parts))
}

/// How a side of C is cut into blocks or tiles: each of `most` units of so many places, counted up
/// (`step_by` divides first).
#[derive(Clone, Copy)]
struct Cut {
    unit: usize,
    most: usize,
}

impl Cut {
    /// The first place of each tile, and how many there are. Four vectors of rows are two and two:
    /// one alone waits for its sums, and takes 0.6 of the time of three for a third of their work.
    /// (Columns and blocks come one unit at a time.)
    fn tiles(self, size: usize) -> impl Iterator<Item = (usize, usize)> {
        let tile = move |start: usize| {
            let left = size.saturating_sub(start);
            let four = self.most == VECTORS
                && left > VECTORS * self.unit
                && left <= (VECTORS + 1) * self.unit;
            (left > 0).then(|| (start, left.min(if four { 2 } else { self.most } * self.unit)))
        };
        std::iter::successors(tile(0), move |(start, count)| tile(start + count))
    }
}

fn blocks<T: Kernel>(job: &Job<'_, T>) {
    let (Job { micro, a, b, c, .. }, lanes, wide) = (job, job.micro.lanes, job.micro.columns);
    let (m, n, k) = (c.rows, c.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    let tall = lanes * VECTORS;
    let (by_rows, by_columns) = (Cut { unit: lanes, most: VECTORS }, Cut { unit: wide, most: 1 });
    let in_blocks = |unit: usize, size: usize| Cut { unit, most: 1 }.tiles(size);
    // A small product has many of these to a multiply-add, and dividing is slow: sizes of vectors
    // are powers of two.
    let shift = lanes.trailing_zeros();
    let vectors = |rows: usize| (rows + lanes - 1) >> shift;
    // Depth in equal parts, from k alone: the order of the sums must not depend on m or n.
    let (parts, depth) = in_parts(k, DEPTH_BYTES / size_of::<T>());
    let rows = if m <= tall {
        tall
    } else {
        let most = (A_BYTES / size_of::<T>() / depth.max(1) / tall).clamp(1, 64) * tall;
        in_parts(m, most).1.next_multiple_of(tall)
    };
    let columns = n.min(B_COLUMNS);
    let direct_a = a.rs == 1 && (n <= NARROW_TILES * wide || m * k * size_of::<T>() <= NEAR_BYTES);
    // Spread over the tiles, so that none waits.
    let tiles =
        || m.div_ceil(tall) * n.div_ceil(wide) / if job.part == Part::Whole { 1 } else { 2 } + 1;
    let mut ahead = Ahead::of(job.ahead, tiles);
    let direct_b =
        m <= tall * NARROW_TILES / 2 || (b.cs == 1 && n * k * size_of::<T>() <= NEAR_BYTES);
    SCRATCH.with_borrow_mut(|scratch| {
        let (room_a, room_b) = (
            if direct_a { tall } else { rows },
            if direct_b { wide } else { columns.next_multiple_of(wide) },
        );
        let (packed_a, packed_b) = scratch.buffers::<T>(room_a * depth, room_b * depth);
        for (j0, width) in in_blocks(columns, n) {
            for block in 0..parts {
                let p0 = (block * depth).min(k);
                let deep = depth.min(k - p0);
                let beta = if block == 0 { job.beta } else { T::ONE };
                // SAFETY: the buffer has room for `depth` entries of each of the columns to pack,
                // rounded up to whole tiles.
                let right = unsafe {
                    side(
                        micro,
                        b.part(p0, j0, deep, width).transposed(),
                        by_columns,
                        direct_b,
                        packed_b,
                    )
                };
                for (i0, height) in in_blocks(rows, m) {
                    if job.wanted((i0, height), (j0, width)).1 == 0 {
                        continue;
                    }
                    // SAFETY: likewise, for the rows to pack.
                    let left = unsafe {
                        side(micro, a.part(i0, p0, height, deep), by_rows, direct_a, packed_a)
                    };
                    for (j, across) in by_columns.tiles(width) {
                        let (b_from, b_rs, b_cs) = match right.direct {
                            Some(start) if j < right.whole => {
                                (start.wrapping_add(j * b.cs), b.rs, b.cs)
                            }
                            Some(_) => (right.packed, wide, 1),
                            None => (right.packed.wrapping_add(j * deep), wide, 1),
                        };
                        let quarters = if across == wide {
                            QUARTERS
                        } else {
                            (QUARTERS * across).div_ceil(wide)
                        };
                        let kernels = if b_cs == 1 { &micro.rows } else { &micro.strided };
                        for (i, high) in by_rows.tiles(height) {
                            let (first, rows) = job.wanted((i0 + i, high), (j0 + j, across));
                            if rows == 0 {
                                continue;
                            }
                            let sliver = vectors(high) << shift;
                            let (a_from, a_step) = match left.direct {
                                Some(start) if i < left.whole => (start.wrapping_add(i), a.cs),
                                Some(_) => (left.packed, sliver),
                                None => (left.packed.wrapping_add(i * deep), sliver),
                            };
                            let a_from = a_from.wrapping_add(first);
                            let (ahead, ahead_step) = ahead.share(b_from, deep);
                            let from = Slivers {
                                depth: deep,
                                a: a_from,
                                a_step,
                                b: b_from,
                                b_rs,
                                b_cs,
                                ahead,
                                ahead_step,
                            };
                            let to = Tile {
                                c: c.data.wrapping_add((i0 + i + first) * c.rs + (j0 + j) * c.cs),
                                rs: c.rs,
                                cs: c.cs,
                                rows,
                                columns: across,
                                alpha: job.alpha,
                                beta,
                            };
                            // SAFETY: a packed sliver holds `deep` groups, padded with zeros to
                            // whole vectors; one in place is whole and lies within its operand; the
                            // tile lies within C.
                            unsafe { kernels[vectors(rows) - 1][quarters - 1](from, to) };
                        }
                    }
                }
            }
        }
    });
}

/// Packs an operand, or only its last incomplete sliver if the whole ones can be read in place.
///
/// # Safety
/// `to` has room for the rows that are packed, rounded up to whole units, times the columns.
unsafe fn side<T: Kernel>(
    micro: &Micro<T>,
    a: Operand<'_, T>,
    cut: Cut,
    direct: bool,
    to: *mut T,
) -> Side<T> {
    let (m, k) = a.shape();
    let whole = match direct {
        true if m % cut.unit == 0 => m,
        true => cut.tiles(m).last().map_or(0, |(start, _)| start),
        false => 0,
    };
    // SAFETY: the caller's promise.
    unsafe { pack(micro, a.part(whole, 0, m - whole, k), cut, to) };
    Side { packed: to, direct: direct.then_some(a.data), whole }
}

/// C ← C + A·B for a part of C.
pub(crate) fn accumulate_f64(
    level: Level,
    a: Operand<'_, f64>,
    b: Operand<'_, f64>,
    c: OperandMut<'_, f64>,
    part: Part,
    ahead: Option<Operand<'_, f64>>,
) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "shapes of a product disagree"
    );
    blocks(&Job { micro: f64::micro(level), alpha: 1.0, a, b, beta: 1.0, c, part, ahead });
}

/// The same for single precision: the product in `f32`, its sum in `f64`.
pub(crate) fn accumulate_f32(
    level: Level,
    a: Operand<'_, f32>,
    b: Operand<'_, f32>,
    c: OperandMut<'_, f64>,
    part: Part,
    ahead: Option<Operand<'_, f32>>,
) {
    assert!(
        a.rows == c.rows && b.columns == c.columns && a.columns == b.rows,
        "shapes of a product disagree"
    );
    let (m, n) = c.shape();
    NARROW.with_borrow_mut(|buffer| {
        if buffer.len() < m * n {
            buffer.resize(m * n, 0.0);
        }
        let mut narrow = nalgebra::DMatrixViewMut::from_slice(&mut buffer[..m * n], m, n);
        blocks(&Job {
            micro: f32::micro(level),
            alpha: 1.0,
            a,
            b,
            beta: 0.0,
            c: (&mut narrow).into(),
            part,
            ahead,
        });
        // What is summed lies by columns, as every matrix of moments does.
        assert!(c.rs == 1 && c.cs >= m, "moments by columns");
        for j in 0..n {
            let rows = match part {
                Part::Whole => 0..m,
                Part::Lower(offset) => usize::try_from(j as isize - offset).unwrap_or(0).min(m)..m,
                Part::Upper => 0..m.min(j + 1),
            };
            // SAFETY: these rows of column j lie within C, one behind the other, and C is borrowed
            // for writing.
            let sums = unsafe {
                std::slice::from_raw_parts_mut(c.data.add(rows.start + j * c.cs), rows.len())
            };
            add_wide(sums, &narrow.column(j).as_slice()[rows]);
        }
    });
}

fn add_wide(sums: &mut [f64], more: &[f32]) {
    on_widest(
        #[inline(always)]
        || {
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += f64::from(*more);
            }
        },
    );
}

/// Copies `a` into a sliver for each tile, of whole units of rows, each column of a sliver
/// contiguous.
///
/// # Safety
/// `to` has room for the rows, rounded up to whole units, times the columns.
unsafe fn pack<T: Kernel>(micro: &Micro<T>, a: Operand<'_, T>, cut: Cut, to: *mut T) {
    let (m, k) = a.shape();
    for (i, tall) in cut.tiles(m) {
        let width = tall.next_multiple_of(cut.unit);
        // SAFETY: sliver i starts after i·k entries and has width·k; reads stay within `a`'s
        // rectangle.
        unsafe {
            let (from, to) = (a.data.wrapping_add(i * a.rs), to.add(i * k));
            if a.rs == 1 && tall == width {
                match width {
                    2 => pack_columns::<T, 2>(from, a.cs, k, to),
                    4 => pack_columns::<T, 4>(from, a.cs, k, to),
                    6 => pack_columns::<T, 6>(from, a.cs, k, to),
                    8 => pack_columns::<T, 8>(from, a.cs, k, to),
                    12 => pack_columns::<T, 12>(from, a.cs, k, to),
                    16 => pack_columns::<T, 16>(from, a.cs, k, to),
                    24 => pack_columns::<T, 24>(from, a.cs, k, to),
                    32 => pack_columns::<T, 32>(from, a.cs, k, to),
                    48 => pack_columns::<T, 48>(from, a.cs, k, to),
                    _ => pack_any(micro, from, (1, a.cs), (tall, width), k, to),
                }
            } else {
                pack_any(micro, from, (a.rs, a.cs), (tall, width), k, to);
            }
        }
    }
}

/// # Safety
/// `from` has `k` columns of `W` contiguous entries, `cs` apart; `to` has room for `W·k`.
unsafe fn pack_columns<T: Kernel, const W: usize>(from: *const T, cs: usize, k: usize, to: *mut T) {
    for p in 0..k {
        // SAFETY: the caller's promise.
        unsafe { to.add(p * W).cast::<[T; W]>().write(from.add(p * cs).cast::<[T; W]>().read()) };
    }
}

/// # Safety
/// `from` has `tall` rows and `k` columns of the strides given; `to` has room for `width·k`,
/// `width ≥ tall`.
unsafe fn pack_any<T: Kernel>(
    micro: &Micro<T>,
    from: *const T,
    (rs, cs): (usize, usize),
    (tall, width): (usize, usize),
    k: usize,
    to: *mut T,
) {
    let one_by_one = |rows: Range<usize>, columns: Range<usize>| {
        // Eight columns at a time: rows that are contiguous are read by whole cache lines.
        for p0 in columns.clone().step_by(8) {
            for i in rows.clone() {
                for p in p0..columns.end.min(p0 + 8) {
                    // SAFETY: within the rows and columns of both.
                    unsafe { *to.add(p * width + i) = *from.add(i * rs + p * cs) };
                }
            }
        }
    };
    let mut done = 0;
    if rs == 1 {
        // Fewer entries than a call would be worth.
        let fours = tall / 4 * 4;
        for p in 0..k {
            for i in (0..fours).step_by(4) {
                // SAFETY: four of a column's `tall` contiguous entries.
                unsafe {
                    to.add(p * width + i)
                        .cast::<[T; 4]>()
                        .write(from.add(p * cs + i).cast::<[T; 4]>().read())
                };
            }
        }
        done = fours;
    } else if cs == 1 {
        // Rows that are contiguous go through registers, in squares: the largest first, and what
        // they leave.
        for (side, turn) in
            [(micro.side, micro.turn), (portable::LANES, portable::turn::<T> as SquareFn<T>)]
        {
            let (rows, columns) = (done..done + (tall - done) / side * side, k / side * side);
            for p in (0..columns).step_by(side) {
                for i in rows.clone().step_by(side) {
                    // SAFETY: the square lies within the rows and columns of both; the processor is
                    // the kernels'.
                    unsafe { turn(from.add(i * rs + p), rs, to.add(p * width + i), width) };
                }
            }
            done = rows.end;
            one_by_one(rows, columns..k);
        }
    }
    one_by_one(done..tall, 0..k);
    for p in 0..k {
        for i in tall..width {
            // SAFETY: within the room.
            unsafe { *to.add(p * width + i) = T::ZERO };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;
    use nalgebra::DMatrix;

    /// A triangle of C + AᵗA, of some first columns alone, on every level of this processor;
    /// nothing is written outside C.
    fn check<T: Kernel + crate::Real>(rows: usize, columns: usize, depth: usize) {
        let a = random::<T>(rows, depth, 1);
        let start = random::<f64>(rows + 2, columns + 1, 2);
        let wide = a.map(|v| v.as_f64());
        let products = &wide * wide.rows(0, columns).transpose();
        // A sum of so many roundings, none larger than the largest sum of squares times ε.
        let tolerance = T::EPSILON.as_f64() * (depth + 4) as f64 * products.amax().max(1.0);
        for level in Level::available() {
            for part in [Part::Whole, Part::Lower(0), Part::Upper] {
                let mut c: DMatrix<f64> = start.clone();
                let columns_of_a = a.rows(0, columns);
                let (left, right) = (Operand::from(&a), Operand::from(&columns_of_a).transposed());
                T::accumulate(
                    level,
                    left,
                    right,
                    c.view_mut((1, 1), (rows, columns)).into(),
                    part,
                    Some(left),
                );
                for j in 0..columns {
                    for i in 0..rows {
                        let wanted = match part {
                            Part::Whole => true,
                            Part::Lower(_) => i >= j,
                            Part::Upper => i <= j,
                        };
                        let error =
                            (c[(i + 1, j + 1)] - start[(i + 1, j + 1)] - products[(i, j)]).abs();
                        assert!(
                            !wanted || error < tolerance,
                            "{level:?} {rows}x{columns}x{depth} ({i}, {j}): {error:e}"
                        );
                    }
                }
                c.view_mut((1, 1), (rows, columns)).copy_from(&start.view((1, 1), (rows, columns)));
                assert_eq!(c, start, "{level:?} wrote outside its place");
            }
        }
    }

    #[test]
    fn triangles_on_every_level() {
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
            check::<f64>(rows, columns, depth);
            check::<f32>(rows, columns, depth);
        }
    }
}

//! Micro-kernels in plain Rust: what every processor runs, and what the others are tested against.
#![allow(unsafe_code)]
// Tiles are written as the formula is, by indices.
#![allow(clippy::needless_range_loop)]

use super::Kernel;
use super::micro::{Micro, Slivers, Tile, kernels};

pub(super) const LANES: usize = 4;
const COLUMNS: usize = 4;

/// A tile of `V·LANES` rows and `N ≤ COLUMNS` columns.
///
/// # Safety
/// See [`super::micro::MicroFn`].
unsafe fn tile<T: Kernel, const V: usize, const N: usize, const ROWS: bool>(
    from: Slivers<T>,
    to: Tile<T>,
) {
    let mut sum = [[[T::ZERO; LANES]; V]; N];
    let (rs, cs) = (from.b_rs, if ROWS { 1 } else { from.b_cs });
    for p in 0..from.depth {
        // SAFETY: `a` holds `depth` columns of V·LANES rows.
        let a = unsafe { &*from.a.add(p * from.a_step).cast::<[[T; LANES]; V]>() };
        for j in 0..N {
            // SAFETY: `b` holds `depth` rows of COLUMNS entries at these strides.
            let b = unsafe { *from.b.add(p * rs + j * cs) };
            for v in 0..V {
                for l in 0..LANES {
                    sum[j][v][l] = T::multiply_add(a[v][l], b, sum[j][v][l]);
                }
            }
        }
    }
    for j in 0..to.columns {
        for i in 0..to.rows {
            let product = T::times(to.alpha, sum[j][i / LANES][i % LANES]);
            // SAFETY: the tile's rows × columns entries are writable.
            unsafe {
                let c = to.c.add(i * to.rs + j * to.cs);
                *c = if to.beta == T::ZERO {
                    product
                } else {
                    T::multiply_add(to.beta, *c, product)
                };
            }
        }
    }
}

/// A square of four by four, through registers.
///
/// # Safety
/// See [`super::micro::SquareFn`].
pub(super) unsafe fn turn<T: Kernel>(from: *const T, rs: usize, to: *mut T, step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let row = |i: usize| from.add(i * rs).cast::<[T; LANES]>().read();
        let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
        for l in 0..LANES {
            to.add(l * step).cast::<[T; LANES]>().write([r0[l], r1[l], r2[l], r3[l]]);
        }
    }
}

macro_rules! table {
    ($name:ident, $t:ty) => {
        pub(crate) static $name: Micro<$t> = Micro {
            lanes: LANES,
            columns: COLUMNS,
            rows: kernels!(tile::<$t>, 4, true),
            strided: kernels!(tile::<$t>, 4, false),
            side: LANES,
            turn: turn::<$t>,
        };
    };
}
table!(F32, f32);
table!(F64, f64);

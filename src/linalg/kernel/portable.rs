//! Micro-kernels in plain Rust, for processors without AVX2 or NEON.
//!
//! The compiler makes vectors of the innermost loops, of whatever width the target has. Sums are
//! not fused on x86-64, where `mul_add` would be a library call; so the results differ from those
//! of the SIMD kernels in the last bits.
#![allow(unsafe_code)]
// Tiles are written as the formula is, by indices.
#![allow(clippy::needless_range_loop)]

use super::Kernel;
use super::micro::{MicroKernels, MicroPanels, Tile, kernel_table};

/// Length of the arrays that stand for vectors: two SSE2 registers of `f64`, one of `f32`.
pub(super) const LANES: usize = 4;

/// The micro-kernel for `V` arrays of rows and `N` columns.
///
/// # Safety
/// See [`super::micro::MicroKernelFn`].
unsafe fn micro_kernel<T: Kernel, const V: usize, const N: usize, const CONTIGUOUS_B: bool>(
    panels: MicroPanels<T>,
    tile: Tile<T>,
) {
    let mut sum = [[[T::ZERO; LANES]; V]; N];
    let (b_rs, b_cs) = (panels.b_rs, if CONTIGUOUS_B { 1 } else { panels.b_cs });
    for p in 0..panels.kc {
        // SAFETY: `a` holds `kc` columns of V·LANES rows.
        let a = unsafe { &*panels.a.add(p * panels.a_cs).cast::<[[T; LANES]; V]>() };
        for j in 0..N {
            // SAFETY: `b` holds `kc` rows of N entries at these strides.
            let b = unsafe { *panels.b.add(p * b_rs + j * b_cs) };
            for v in 0..V {
                for l in 0..LANES {
                    sum[j][v][l] = T::multiply_add(a[v][l], b, sum[j][v][l]);
                }
            }
        }
    }
    for j in 0..tile.columns {
        for i in 0..tile.rows {
            let product = T::times(tile.alpha, sum[j][i / LANES][i % LANES]);
            // SAFETY: the tile's rows × columns entries are writable.
            unsafe {
                let c = tile.c.add(i * tile.rs + j * tile.cs);
                *c = if tile.beta == T::ZERO {
                    product
                } else {
                    T::multiply_add(tile.beta, *c, product)
                };
            }
        }
    }
}

/// Transposes 4×4 entries in registers.
///
/// # Safety
/// See [`super::micro::TransposeFn`].
pub(super) unsafe fn transpose_4x4<T: Kernel>(from: *const T, rs: usize, to: *mut T, step: usize) {
    // SAFETY: the caller's promise: four rows of four entries are read, four columns written.
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
        pub(crate) static $name: MicroKernels<$t> = MicroKernels {
            lanes: LANES,
            nr: 4,
            contiguous_b: kernel_table!(micro_kernel::<$t>, 4, true),
            strided_b: kernel_table!(micro_kernel::<$t>, 4, false),
            transpose_side: LANES,
            transpose: transpose_4x4::<$t>,
        };
    };
}
table!(F32, f32);
table!(F64, f64);

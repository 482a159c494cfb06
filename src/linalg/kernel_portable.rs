//! Micro-kernels in plain Rust: what every processor runs, and what the others are tested against.
#![allow(unsafe_code)]

use super::kernel::{Kernel, Micro, Tile};

const LANES: usize = 4;
const COLUMNS: usize = 4;

/// A tile of `V·LANES` rows and `COLUMNS` columns.
///
/// # Safety
/// See [`super::kernel::MicroFn`].
unsafe fn tile<T: Kernel, const V: usize>(k: usize, a: *const T, b: *const T, to: Tile<T>) {
    let mut sum = [[[T::ZERO; LANES]; V]; COLUMNS];
    for p in 0..k {
        // SAFETY: `a` holds k groups of V·LANES entries and `b` k groups of COLUMNS.
        let (a, b) = unsafe { (&*a.add(p * V * LANES).cast::<[[T; LANES]; V]>(), &*b.add(p * COLUMNS).cast::<[T; COLUMNS]>()) };
        for j in 0..COLUMNS {
            for v in 0..V {
                for l in 0..LANES {
                    sum[j][v][l] = T::multiply_add(a[v][l], b[j], sum[j][v][l]);
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
                *c = if to.beta == T::ZERO { product } else { T::multiply_add(to.beta, *c, product) };
            }
        }
    }
}

pub(crate) static F32: Micro<f32> = Micro { lanes: LANES, columns: COLUMNS, run: [tile::<f32, 1>, tile::<f32, 2>, tile::<f32, 3>] };
pub(crate) static F64: Micro<f64> = Micro { lanes: LANES, columns: COLUMNS, run: [tile::<f64, 1>, tile::<f64, 2>, tile::<f64, 3>] };

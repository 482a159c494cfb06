//! Micro-kernels for x86-64 with fused multiply-add: AVX2 (12 accumulators) and AVX-512 (24).
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

use super::micro::{Micro, Slivers, Tile, kernels};
use std::arch::x86_64::*;

macro_rules! micro {
    ($table:ident, $tile:ident, $t:ty, $vector:ty, $lanes:literal, $columns:literal, $features:literal,
     $zero:ident, $load:ident, $store:ident, $broadcast:ident, $multiply_add:ident, $multiply:ident) => {
        /// A tile of `V·lanes` rows and `N` columns.
        ///
        /// # Safety
        /// See [`super::micro::MicroFn`]; the processor has the features named.
        #[target_feature(enable = $features)]
        unsafe fn $tile<const V: usize, const N: usize, const ROWS: bool>(from: Slivers<$t>, to: Tile<$t>) {
            let mut sum: [[$vector; V]; N] = [[$zero(); V]; N];
            let (mut a, mut b) = (from.a, from.b);
            let (b_rs, b_cs) = (from.b_rs, if ROWS { 1 } else { from.b_cs });
            let mut ahead = from.ahead;
            for _ in 0..from.depth {
                // No address makes it fail.
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                ahead = ahead.wrapping_add(from.ahead_step);
                // SAFETY: `a` holds `depth` columns of V·lanes rows, `b` `depth` rows of as many entries as a tile has columns; the
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
                a = a.wrapping_add(from.a_step);
                b = b.wrapping_add(b_rs);
            }
            if to.rows == V * $lanes && to.columns == N && to.rs == 1 {
                let (alpha, beta) = ($broadcast(to.alpha), $broadcast(to.beta));
                for j in 0..N {
                    for v in 0..V {
                        // SAFETY: the tile is whole and its columns are contiguous and writable.
                        unsafe {
                            let c = to.c.add(j * to.cs + v * $lanes);
                            let product = $multiply(alpha, sum[j][v]);
                            let value = if to.beta == 0.0 { product } else { $multiply_add(beta, $load(c), product) };
                            $store(c, value);
                        }
                    }
                }
                return;
            }
            let mut copy = [[0.0; V_MAX * $lanes]; N];
            for j in 0..N {
                for v in 0..V {
                    // SAFETY: V ≤ V_MAX, so the vector lies within the copy.
                    unsafe { $store(copy[j].as_mut_ptr().add(v * $lanes), sum[j][v]) };
                }
            }
            for j in 0..to.columns {
                for i in 0..to.rows {
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
        pub(crate) static $table: Micro<$t> =
            Micro { lanes: $lanes, columns: $columns, rows: kernels!($tile, $columns, true), strided: kernels!($tile, $columns, false) };
    };
}
const V_MAX: usize = super::micro::VECTORS;

#[rustfmt::skip]
micro!(AVX512_F64, avx512_f64, f64, __m512d, 8, 8, "avx512f,avx512dq,avx2,fma", _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_mul_pd);
#[rustfmt::skip]
micro!(AVX512_F32, avx512_f32, f32, __m512, 16, 8, "avx512f,avx512dq,avx2,fma", _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_mul_ps);
#[rustfmt::skip]
micro!(AVX2_F64, avx2_f64, f64, __m256d, 4, 4, "avx2,fma", _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_mul_pd);
#[rustfmt::skip]
micro!(AVX2_F32, avx2_f32, f32, __m256, 8, 4, "avx2,fma", _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_mul_ps);

//! Micro-kernels for x86-64 with fused multiply-add: AVX2 (12 accumulators) and AVX-512 (24).
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

use super::micro::{Micro, Slivers, Tile, kernels};
use std::arch::x86_64::*;

macro_rules! micro {
    ($table:ident, $tile:ident, $t:ty, $vector:ty, $lanes:literal, $columns:literal, $features:literal,
     $zero:ident, $load:ident, $store:ident, $broadcast:ident, $multiply_add:ident, $multiply:ident, $side:literal, $turn:ident) => {
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
                            let value = if to.beta == 0.0 { product } else { $multiply_add(beta, $load(c), product) };
                            $store(c, value);
                        }
                    }
                }
            }
            if whole * $lanes == to.rows {
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
const V_MAX: usize = super::micro::VECTORS;

#[rustfmt::skip]
micro!(AVX512_F64, avx512_f64, f64, __m512d, 8, 8, "avx512f,avx512dq,avx2,fma", _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_mul_pd, 8, eight_f64);
#[rustfmt::skip]
micro!(AVX512_F32, avx512_f32, f32, __m512, 16, 8, "avx512f,avx512dq,avx2,fma", _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_mul_ps, 8, eight_f32);
#[rustfmt::skip]
micro!(AVX2_F64, avx2_f64, f64, __m256d, 4, 4, "avx2,fma", _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_mul_pd, 4, four_f64);
#[rustfmt::skip]
micro!(AVX2_F32, avx2_f32, f32, __m256, 8, 4, "avx2,fma", _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_mul_ps, 8, eight_f32);

/// A square of eight by eight.
///
/// # Safety
/// See [`super::micro::SquareFn`]; the processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn eight_f64(from: *const f64, rs: usize, to: *mut f64, step: usize) {
    // SAFETY: the caller's promise.
    let row: [__m512d; 8] = std::array::from_fn(|i| unsafe { _mm512_loadu_pd(from.add(i * rs)) });
    // Neighbouring rows: the even columns of both, and the odd ones.
    let pair: [__m512d; 8] = std::array::from_fn(|i| match i % 2 {
        0 => _mm512_unpacklo_pd(row[i], row[i + 1]),
        _ => _mm512_unpackhi_pd(row[i - 1], row[i]),
    });
    // Columns c and c + 4 of four rows side by side.
    let four = |c: usize, first: usize| match c {
        0 | 1 => _mm512_shuffle_f64x2::<0b10_00_10_00>(pair[first + c], pair[first + 2 + c]),
        _ => _mm512_shuffle_f64x2::<0b11_01_11_01>(pair[first + c - 2], pair[first + c]),
    };
    for c in 0..4 {
        let (upper, lower) = (four(c, 0), four(c, 4));
        // SAFETY: the caller's promise.
        unsafe {
            _mm512_storeu_pd(to.add(c * step), _mm512_shuffle_f64x2::<0b10_00_10_00>(upper, lower));
            _mm512_storeu_pd(to.add((c + 4) * step), _mm512_shuffle_f64x2::<0b11_01_11_01>(upper, lower));
        }
    }
}

/// A square of four by four.
///
/// # Safety
/// See [`super::micro::SquareFn`]; the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn four_f64(from: *const f64, rs: usize, to: *mut f64, step: usize) {
    // SAFETY: the caller's promise.
    let row: [__m256d; 4] = std::array::from_fn(|i| unsafe { _mm256_loadu_pd(from.add(i * rs)) });
    for odd in 0..2 {
        let pair = |i: usize| if odd == 0 { _mm256_unpacklo_pd(row[i], row[i + 1]) } else { _mm256_unpackhi_pd(row[i], row[i + 1]) };
        let (upper, lower) = (pair(0), pair(2));
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_pd(to.add(odd * step), _mm256_permute2f128_pd::<0x20>(upper, lower));
            _mm256_storeu_pd(to.add((odd + 2) * step), _mm256_permute2f128_pd::<0x31>(upper, lower));
        }
    }
}

/// A square of eight by eight.
///
/// # Safety
/// See [`super::micro::SquareFn`]; the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn eight_f32(from: *const f32, rs: usize, to: *mut f32, step: usize) {
    // SAFETY: the caller's promise.
    let row: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * rs)) });
    // Columns 0, 1, 4, 5 of two neighbouring rows, and columns 2, 3, 6, 7; as pairs of numbers that go together from here.
    let pair: [__m256d; 8] = std::array::from_fn(|i| {
        _mm256_castps_pd(match i % 2 {
            0 => _mm256_unpacklo_ps(row[i], row[i + 1]),
            _ => _mm256_unpackhi_ps(row[i - 1], row[i]),
        })
    });
    for c in 0..4 {
        // Columns c and c + 4 of four rows.
        let four = |first: usize| {
            let (a, b) = (pair[first + c / 2], pair[first + 2 + c / 2]);
            if c % 2 == 0 { _mm256_unpacklo_pd(a, b) } else { _mm256_unpackhi_pd(a, b) }
        };
        let (upper, lower) = (four(0), four(4));
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_ps(to.add(c * step), _mm256_castpd_ps(_mm256_permute2f128_pd::<0x20>(upper, lower)));
            _mm256_storeu_ps(to.add((c + 4) * step), _mm256_castpd_ps(_mm256_permute2f128_pd::<0x31>(upper, lower)));
        }
    }
}

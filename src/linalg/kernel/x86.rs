//! Micro-kernels for x86-64 with fused multiply-add: AVX2 and AVX-512; and the transposes of square
//! blocks in registers that packing uses.
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]

use super::micro::{MR_VECTORS, MicroKernels, MicroPanels, Tile, kernel_table, simd_micro_kernels};
use std::arch::x86_64::*;

/// Prefetches a cache line into all levels.
#[inline(always)]
fn prefetch(address: *const i8) {
    // SAFETY: a hint, which cannot fault at any address; SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
}

// The features of AVX-512 are those that `SimdLevel::detect` looks for, and AVX2 and FMA, which
// every processor with AVX-512 has.
simd_micro_kernels!(
    AVX512_F64,
    avx512_f64,
    f64,
    __m512d,
    lanes = 8,
    nr = 8,
    features = "avx512f,avx512dq,avx2,fma",
    _mm512_setzero_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_set1_pd,
    _mm512_fmadd_pd,
    _mm512_mul_pd,
    transpose = 8,
    transpose_8x8_f64
);
simd_micro_kernels!(
    AVX512_F32,
    avx512_f32,
    f32,
    __m512,
    lanes = 16,
    nr = 8,
    features = "avx512f,avx512dq,avx2,fma",
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_mul_ps,
    transpose = 8,
    transpose_8x8_f32
);
simd_micro_kernels!(
    AVX2_F64,
    avx2_f64,
    f64,
    __m256d,
    lanes = 4,
    nr = 4,
    features = "avx2,fma",
    _mm256_setzero_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_set1_pd,
    _mm256_fmadd_pd,
    _mm256_mul_pd,
    transpose = 4,
    transpose_4x4_f64
);
simd_micro_kernels!(
    AVX2_F32,
    avx2_f32,
    f32,
    __m256,
    lanes = 8,
    nr = 4,
    features = "avx2,fma",
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_mul_ps,
    transpose = 8,
    transpose_8x8_f32
);

/// Transposes 8×8 `f64`: three rounds of shuffles, by distances 1, 2 and 4.
///
/// # Safety
/// See [`super::micro::TransposeFn`]; the processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_8x8_f64(from: *const f64, rs: usize, to: *mut f64, step: usize) {
    // SAFETY: the caller's promise: each row has as many entries as the vector.
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
        // SAFETY: the caller's promise: columns c and c + 4 of the result are writable.
        unsafe {
            _mm512_storeu_pd(to.add(c * step), _mm512_shuffle_f64x2::<0b10_00_10_00>(upper, lower));
            _mm512_storeu_pd(
                to.add((c + 4) * step),
                _mm512_shuffle_f64x2::<0b11_01_11_01>(upper, lower),
            );
        }
    }
}

/// Transposes 4×4 `f64`: two rounds of shuffles, by distances 1 and 2.
///
/// # Safety
/// See [`super::micro::TransposeFn`]; the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn transpose_4x4_f64(from: *const f64, rs: usize, to: *mut f64, step: usize) {
    // SAFETY: the caller's promise: each row has as many entries as the vector.
    let row: [__m256d; 4] = std::array::from_fn(|i| unsafe { _mm256_loadu_pd(from.add(i * rs)) });
    for odd in 0..2 {
        let pair = |i: usize| {
            if odd == 0 {
                _mm256_unpacklo_pd(row[i], row[i + 1])
            } else {
                _mm256_unpackhi_pd(row[i], row[i + 1])
            }
        };
        let (upper, lower) = (pair(0), pair(2));
        // SAFETY: the caller's promise: columns c and c + 4 of the result are writable.
        unsafe {
            _mm256_storeu_pd(to.add(odd * step), _mm256_permute2f128_pd::<0x20>(upper, lower));
            _mm256_storeu_pd(
                to.add((odd + 2) * step),
                _mm256_permute2f128_pd::<0x31>(upper, lower),
            );
        }
    }
}

/// Transposes 8×8 `f32`: three rounds of shuffles, by distances 1, 2 and 4. The kernels for
/// AVX-512 use it as well.
///
/// # Safety
/// See [`super::micro::TransposeFn`]; the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn transpose_8x8_f32(from: *const f32, rs: usize, to: *mut f32, step: usize) {
    // SAFETY: the caller's promise: each row has as many entries as the vector.
    let row: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * rs)) });
    // Columns 0, 1, 4, 5 of two neighbouring rows, and columns 2, 3, 6, 7: pairs of f32 that stay
    // together from here on, and so are handled as one f64.
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
        // SAFETY: the caller's promise: columns c and c + 4 of the result are writable.
        unsafe {
            _mm256_storeu_ps(
                to.add(c * step),
                _mm256_castpd_ps(_mm256_permute2f128_pd::<0x20>(upper, lower)),
            );
            _mm256_storeu_ps(
                to.add((c + 4) * step),
                _mm256_castpd_ps(_mm256_permute2f128_pd::<0x31>(upper, lower)),
            );
        }
    }
}

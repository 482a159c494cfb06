//! Micro-kernels for aarch64, every processor of which has NEON. They have the shape of those for
//! AVX-512, since there are 32 registers too; they were tested under an emulator and never timed on
//! such a processor (docs/performance.md).
#![allow(unsafe_code)]
#![cfg(target_arch = "aarch64")]

use super::micro::{MR_VECTORS, MicroKernels, MicroPanels, Tile, kernel_table, simd_micro_kernels};
use super::portable::{LANES, transpose_4x4};
use std::arch::aarch64::*;

/// Prefetches a cache line into all levels.
#[inline(always)]
fn prefetch(address: *const i8) {
    // The intrinsic is unstable, so the instruction is written out.
    // SAFETY: a hint, which cannot fault at any address.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{0}]",
            in(reg) address,
            options(nostack, readonly, preserves_flags)
        )
    };
}

/// Intrinsics with the arguments of those of x86-64: `vfmaq` takes the sum first.
macro_rules! operations {
    ($zero:ident, $multiply_add:ident, $t:ty, $vector:ty, $all:ident, $fused:ident) => {
        #[inline]
        #[target_feature(enable = "neon")]
        fn $zero() -> $vector {
            $all(0.0)
        }
        #[inline]
        #[target_feature(enable = "neon")]
        fn $multiply_add(a: $vector, b: $vector, c: $vector) -> $vector {
            $fused(c, a, b)
        }
    };
}
operations!(zero_f64, multiply_add_f64, f64, float64x2_t, vdupq_n_f64, vfmaq_f64);
operations!(zero_f32, multiply_add_f32, f32, float32x4_t, vdupq_n_f32, vfmaq_f32);

simd_micro_kernels!(
    NEON_F64,
    neon_f64,
    f64,
    float64x2_t,
    lanes = 2,
    nr = 8,
    features = "neon",
    zero_f64,
    vld1q_f64,
    vst1q_f64,
    vdupq_n_f64,
    multiply_add_f64,
    vmulq_f64,
    transpose = LANES,
    transpose_4x4
);
simd_micro_kernels!(
    NEON_F32,
    neon_f32,
    f32,
    float32x4_t,
    lanes = 4,
    nr = 8,
    features = "neon",
    zero_f32,
    vld1q_f32,
    vst1q_f32,
    vdupq_n_f32,
    multiply_add_f32,
    vmulq_f32,
    transpose = LANES,
    transpose_4x4
);

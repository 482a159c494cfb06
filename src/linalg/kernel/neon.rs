//! Micro-kernels for aarch64, every processor of which has NEON: 24 accumulators of 128 bits.
#![allow(unsafe_code)]
#![cfg(target_arch = "aarch64")]

use super::micro::{Micro, Slivers, Tile, VECTORS, kernels, vector_kernels};
use super::portable::{LANES, turn};
use std::arch::aarch64::*;

/// Asks memory for what is read soon.
#[inline(always)]
fn ask(address: *const i8) {
    // SAFETY: a hint: no address makes it fail.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, readonly, preserves_flags))
    };
}

/// The operations in the order of arguments that the kernels have.
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

#[rustfmt::skip]
vector_kernels!(NEON_F64, neon_f64, f64, float64x2_t, 2, 8, "neon", zero_f64, vld1q_f64, vst1q_f64, vdupq_n_f64, multiply_add_f64, vmulq_f64, LANES, turn);
#[rustfmt::skip]
vector_kernels!(NEON_F32, neon_f32, f32, float32x4_t, 4, 8, "neon", zero_f32, vld1q_f32, vst1q_f32, vdupq_n_f32, multiply_add_f32, vmulq_f32, LANES, turn);

//! Matrix kernels: dispatch by scalar type and, at run time, by CPU features. All of the crate's
//! `unsafe` code is in this folder.
//!
//! Legend: C (m×n) ← α·A (m×k)·B (k×n) + β·C.
//!
//! | file | what it holds |
//! |---|---|
//! | `operand` | borrowed matrices of any strides |
//! | `gemm` | the blocked product: cache blocks, packing, the loops around the micro-kernels |
//! | `micro` | the interface of the micro-kernels, and the macro for their SIMD versions |
//! | `x86`, `neon`, `portable` | the micro-kernels for AVX-512 and AVX2, NEON, and any processor |
//! | `simd_level` | the instruction sets, and their detection |
//! | `vector` | loops over slices, compiled for each instruction set |
//! | `fork_join`, `job_slots`, `sync` | a fork–join scope whose workers spin |
//! | `huge_pages` | huge pages for large buffers |

#[cfg(feature = "rayon")]
pub(crate) mod fork_join;
pub(crate) mod gemm;
pub(crate) mod huge_pages;
#[cfg(feature = "rayon")]
mod job_slots;
mod micro;
mod neon;
mod operand;
mod portable;
pub(crate) mod simd_level;
#[cfg(feature = "rayon")]
mod sync;
pub(crate) mod vector;
mod x86;

pub(crate) use gemm::Region;
pub(crate) use micro::MicroKernels;
pub use operand::{Operand, OperandMut};
pub(crate) use simd_level::SimdLevel;

use nalgebra::Scalar;

// Sealed: the micro-kernels are written for these two types, and the buffers of `gemm` rely on any
// bytes being a value of them.
mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Scalar types with matrix kernels: `f32` and `f64`; sealed.
#[allow(private_interfaces)]
pub trait Kernel: sealed::Sealed + crate::linalg::Elementary + Scalar + Copy + Send + Sync {
    /// The micro-kernels for an instruction set, which the processor must have.
    #[doc(hidden)]
    fn micro_kernels(level: SimdLevel) -> &'static MicroKernels<Self>;
    /// Zero, as a constant: `num_traits` has a function.
    #[doc(hidden)]
    const ZERO: Self;
    /// One.
    #[doc(hidden)]
    const ONE: Self;
    /// a·b + c: fused where that is one instruction, else with two roundings.
    #[doc(hidden)]
    fn multiply_add(a: Self, b: Self, c: Self) -> Self;
    /// a·b.
    #[doc(hidden)]
    fn times(a: Self, b: Self) -> Self;
    /// C ← C + A·B for a region of C, whose sums are `f64`. The memory of `prefetch` is brought
    /// into the cache meanwhile.
    #[doc(hidden)]
    fn accumulate(
        level: SimdLevel,
        a: Operand<'_, Self>,
        b: Operand<'_, Self>,
        c: OperandMut<'_, f64>,
        region: Region,
        prefetch: Option<Operand<'_, Self>>,
    );
}

// A macro, as the names of the tables differ and a static cannot be generic.
macro_rules! kernel {
    ($t:ty, $portable:ident, $avx2:ident, $avx512:ident, $neon:ident, $accumulate:path) => {
        #[allow(private_interfaces)]
        impl Kernel for $t {
            fn micro_kernels(level: SimdLevel) -> &'static MicroKernels<Self> {
                match level {
                    SimdLevel::Portable => &portable::$portable,
                    #[cfg(target_arch = "x86_64")]
                    SimdLevel::Avx2 => &x86::$avx2,
                    #[cfg(target_arch = "x86_64")]
                    SimdLevel::Avx512 => &x86::$avx512,
                    #[cfg(target_arch = "aarch64")]
                    SimdLevel::Neon => &neon::$neon,
                }
            }
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn multiply_add(a: Self, b: Self, c: Self) -> Self {
                // A fused operation is one instruction on aarch64. On x86-64 without FMA, for which
                // this crate is compiled by default, it is a library call.
                if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
            }
            #[inline(always)]
            fn times(a: Self, b: Self) -> Self {
                a * b
            }
            // The two types differ here: sums of f32 products need a buffer of their own.
            fn accumulate(
                level: SimdLevel,
                a: Operand<'_, Self>,
                b: Operand<'_, Self>,
                c: OperandMut<'_, f64>,
                region: Region,
                prefetch: Option<Operand<'_, Self>>,
            ) {
                $accumulate(level, a, b, c, region, prefetch);
            }
        }
    };
}
kernel!(f32, F32, AVX2_F32, AVX512_F32, NEON_F32, gemm::accumulate_f32);
kernel!(f64, F64, AVX2_F64, AVX512_F64, NEON_F64, gemm::accumulate_f64);

//! The seam through which matrix products reach the machine, chosen by the scalar type and, at run
//! time, by the processor: all of the crate's `unsafe`.
//!
//! Legend: C (m×n) ← α·A (m×k)·B (k×n) + β·C.
//!
//! | file | what it holds |
//! |---|---|
//! | `operand` | matrices of any strides |
//! | `micro`, `x86`, `neon`, `portable` | a tile of C: what computes it with AVX-512, AVX2, NEON and on any processor |
//! | `gemm` | the blocked product around the tiles |
//! | `vector`, `level` | loops over slices with the widest vectors that this processor has |
//! | `team` | threads that stay awake between forks |
//! | `pages` | large pages for large memory |

#[cfg(feature = "rayon")]
pub(crate) mod fork_join;
pub(crate) mod gemm;
pub(crate) mod huge_pages;
pub(crate) mod level;
mod micro;
mod neon;
mod operand;
mod portable;
pub(crate) mod vector;
mod x86;

pub(crate) use gemm::Part;
pub(crate) use level::Level;
pub(crate) use micro::{Micro, QUARTERS};
pub use operand::{Operand, OperandMut};

use nalgebra::Scalar;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// The matrix kernels of one scalar type; sealed.
#[allow(private_interfaces)]
pub trait Kernel: sealed::Sealed + crate::linalg::Elementary + Scalar + Copy + Send + Sync {
    /// The micro-kernels for `level`.
    #[doc(hidden)]
    fn micro(level: Level) -> &'static Micro<Self>;
    /// Zero, without a detour through another trait.
    #[doc(hidden)]
    const ZERO: Self;
    /// One.
    #[doc(hidden)]
    const ONE: Self;
    /// a·b + c; fused or not as the target is quick at.
    #[doc(hidden)]
    fn multiply_add(a: Self, b: Self, c: Self) -> Self;
    /// a·b.
    #[doc(hidden)]
    fn times(a: Self, b: Self) -> Self;
    /// C ← C + A·B for a part of C, kept in double precision; what lies `ahead` is asked for on the
    /// way.
    #[doc(hidden)]
    fn accumulate(
        level: Level,
        a: Operand<'_, Self>,
        b: Operand<'_, Self>,
        c: OperandMut<'_, f64>,
        part: Part,
        ahead: Option<Operand<'_, Self>>,
    );
}

macro_rules! kernel {
    ($t:ty, $portable:ident, $avx2:ident, $avx512:ident, $neon:ident, $accumulate:path) => {
        #[allow(private_interfaces)]
        impl Kernel for $t {
            fn micro(level: Level) -> &'static Micro<Self> {
                match level {
                    Level::Portable => &portable::$portable,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => &x86::$avx2,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => &x86::$avx512,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => &neon::$neon,
                }
            }
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn multiply_add(a: Self, b: Self, c: Self) -> Self {
                // A fused operation is one instruction on aarch64 and a library call on plain
                // x86-64.
                if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
            }
            #[inline(always)]
            fn times(a: Self, b: Self) -> Self {
                a * b
            }
            fn accumulate(
                level: Level,
                a: Operand<'_, Self>,
                b: Operand<'_, Self>,
                c: OperandMut<'_, f64>,
                part: Part,
                ahead: Option<Operand<'_, Self>>,
            ) {
                $accumulate(level, a, b, c, part, ahead);
            }
        }
    };
}
kernel!(f32, F32, AVX2_F32, AVX512_F32, NEON_F32, gemm::accumulate_f32);
kernel!(f64, F64, AVX2_F64, AVX512_F64, NEON_F64, gemm::accumulate_f64);

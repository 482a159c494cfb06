//! Instruction-set levels of the kernels, and their detection at run time.

/// Instruction set of the kernels. Ordered: a higher level has wider vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SimdLevel {
    /// Plain Rust, for the features that the build target has.
    Portable,
    /// 256-bit vectors with fused multiply-add (AVX2 and FMA).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors (AVX-512 F and DQ).
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 128-bit vectors with fused multiply-add; part of every aarch64 processor.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl SimdLevel {
    /// The highest level of this processor. The standard library caches the result of CPUID, so
    /// that a call is a load and a few tests.
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                // Every processor with AVX-512 has AVX2 and FMA, which the kernels use as well.
                return SimdLevel::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return SimdLevel::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        return SimdLevel::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        SimdLevel::Portable
    }

    /// Every level that this processor can run, so that tests cover those that are not detected.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut levels = vec![SimdLevel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(SimdLevel::Avx2);
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                levels.push(SimdLevel::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(SimdLevel::Neon);
        levels
    }
}

//! What the tests of this folder share.

use crate::Real;
use nalgebra::DMatrix;

/// Uniform numbers in (−1, 1) from a small generator of its own, the same on every machine.
pub(crate) fn random<T: Real>(rows: usize, columns: usize, seed: u64) -> DMatrix<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1;
    DMatrix::from_fn(rows, columns, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::of((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

/// Runs `f` in a pool of so many threads.
pub(crate) fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "rayon")]
    {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(f)
    }
    #[cfg(not(feature = "rayon"))]
    {
        let _ = threads;
        f()
    }
}

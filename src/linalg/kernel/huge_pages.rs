//! Transparent huge pages for buffers of 4 MiB and more: 1/512 of the page faults.
//!
//! A fault on a 4-KiB page cost 1.2 µs, and the transform of 50 × 1000000 numbers spent over a
//! third of its 107 ms on 19,500 of them (docs/performance.md). Where Linux is set to `madvise`, as
//! in many distributions, a buffer gets huge pages only if the program advises it.
#![allow(unsafe_code)]

/// Buffers of fewer bytes are left alone: two huge pages of 2 MiB. In a smaller buffer there may be
/// no aligned one.
const MIN_BYTES: usize = 4 << 20;
/// The largest base page of the systems supported (64 KiB on some aarch64 kernels): `madvise` takes
/// a range that begins at a page.
const BASE_PAGE: usize = 64 << 10;

/// Advises the system to back memory with huge pages (`madvise(MADV_HUGEPAGE)`).
///
/// To be called before the memory is first written: pages that exist are not replaced at once. A
/// hint: on failure, and on other systems than Linux, nothing changes.
pub(crate) fn advise_huge_pages<T>(memory: &mut [T]) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(BASE_PAGE);
    if bytes >= MIN_BYTES && skipped < bytes {
        // SAFETY: the range begins after `skipped` < `bytes` bytes and ends before `bytes`, so it
        // lies within memory that is borrowed here for writing.
        unsafe { advise(start.wrapping_add(skipped), (bytes - skipped) / BASE_PAGE * BASE_PAGE) };
    }
}

/// # Safety
/// The range lies within one allocation that the caller has borrowed for writing.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
unsafe fn advise(start: *mut u8, length: usize) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    // The value on all architectures of Linux but some that are excluded above. Declared here since
    // the libc crate would be a dependency for one function.
    const MADV_HUGEPAGE: c_int = 14;
    // SAFETY: this advice changes no byte of the range, and fails with an error code, ignored here,
    // where the kernel has no huge pages.
    unsafe { madvise(start.cast(), length, MADV_HUGEPAGE) };
}

/// A no-op: there is no `madvise`, or Miri does not have it.
///
/// # Safety
/// Always safe; `unsafe` to have the signature of the other.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(miri)
)))]
unsafe fn advise(_start: *mut u8, _length: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_unchanged() {
        for len in [0, 1, MIN_BYTES / 8 - 1, MIN_BYTES / 8, MIN_BYTES / 8 + 12_345] {
            let mut memory: Vec<f64> = (0..len).map(|i| i as f64).collect();
            advise_huge_pages(&mut memory[len.min(3)..]);
            assert!(memory.iter().enumerate().all(|(i, &v)| v == i as f64));
        }
    }
}

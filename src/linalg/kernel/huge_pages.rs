//! Large pages for large memory: the system then has a five-hundredth of the pages to find.
#![allow(unsafe_code)]

/// Memory of fewer bytes is left as it is: a large page has 2 MiB.
const LEAST: usize = 4 << 20;
/// Advice is for whole pages; no system has larger small ones.
const PAGE: usize = 64 << 10;

/// Asks the system to back memory that nobody has written to yet with large pages; a hint, which it
/// may refuse.
pub(crate) fn advise_huge_pages<T>(memory: &mut [T]) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE);
    if bytes >= LEAST && skipped < bytes {
        // SAFETY: the range lies within memory that is borrowed here for writing.
        unsafe { advise(start.wrapping_add(skipped), (bytes - skipped) / PAGE * PAGE) };
    }
}

/// # Safety
/// The range is the caller's.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
unsafe fn advise(start: *mut u8, length: usize) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const HUGE_PAGES: c_int = 14;
    // SAFETY: advice of this kind changes nothing that is in the range, which is the caller's; a
    // refusal is no loss.
    unsafe { madvise(start.cast(), length, HUGE_PAGES) };
}

/// # Safety
/// None is needed: there is nobody to ask.
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
    fn memory_keeps_what_is_in_it() {
        for len in [0, 1, LEAST / 8 - 1, LEAST / 8, LEAST / 8 + 12_345] {
            let mut memory: Vec<f64> = (0..len).map(|i| i as f64).collect();
            advise_huge_pages(&mut memory[len.min(3)..]);
            assert!(memory.iter().enumerate().all(|(i, &v)| v == i as f64));
        }
    }
}

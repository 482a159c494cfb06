//! Synchronisation types of [`job_slots`](super::job_slots), taken from `std`.
//!
//! `job_slots` uses no other. So `companions/loom`, which has a module of this name with loom's
//! types, compiles the very same file, and loom explores its interleavings.
#![allow(unsafe_code)]

pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// [`std::cell::UnsafeCell`] with the interface of loom's: an access is a closure, so that loom
/// sees where it begins and ends, and can report two that overlap.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

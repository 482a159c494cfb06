//! Model check of `src/linalg/kernel/job_slots.rs` with [loom](https://docs.rs/loom).
//!
//! ```text
//! cargo test --manifest-path companions/loom/Cargo.toml --release
//! ```
//!
//! The file is compiled as it is, against loom's atomics and cell. loom runs each model below once
//! for every interleaving of its threads, and for every value that a load may return under the C11
//! memory model; it reports an access to a cell that is not ordered after the last write.
//!
//! # The check can fail
//!
//! Each of these changes in `job_slots.rs` was tried by itself, and each of the five models failed:
//!
//! | change | loom reports |
//! |---|---|
//! | `Slot::put`: Release → Relaxed | concurrent write accesses to `UnsafeCell` |
//! | `Slot::take`: Acquire → Relaxed | concurrent write accesses to `UnsafeCell` |
//! | `Latch::set`: Release → Relaxed | concurrent read and write accesses |
//! | `Latch::is_set`: Acquire → Relaxed | concurrent read and write accesses |
//! | `execute` sets the latch before it stores the result | concurrent accesses, or a freed cell |
//!
//! # What is not modelled
//!
//! The scope around the slots (`fork_join.rs`): its counter and its flag order no memory. loom does
//! not track raw pointers, so an access to a frame that has ended is found only through the cells
//! in it.
#![cfg(test)]
#![allow(unsafe_code)]

/// What `job_slots` imports from `super::sync`, by loom.
mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
}

#[path = "../../../src/linalg/kernel/job_slots.rs"]
mod job_slots;

use job_slots::JobSlots;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Memory that two threads use in turn, ordered by the fork and the join alone: loom reports an
/// access that they do not order.
struct Shared(UnsafeCell<u32>);

// SAFETY: that accesses do not race is what the models check.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }
    fn get(&self) -> u32 {
        // SAFETY: loom reports a race before the access.
        self.0.with(|value| unsafe { *value })
    }
    fn set(&self, new: u32) {
        // SAFETY: likewise.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}

/// Runs a caller beside a worker that polls `polls` times.
fn check<const N: usize>(polls: usize, caller: fn(&JobSlots<N>)) {
    loom::model(move || {
        let slots = Arc::new(JobSlots::<N>::new());
        let worker = thread::spawn({
            let slots = slots.clone();
            move || {
                for _ in 0..polls {
                    slots.steal_and_run();
                }
            }
        });
        caller(&slots);
        worker.join().unwrap();
        // As when a scope closes.
        assert!(!slots.steal_and_run(), "a job is left in a slot");
    });
}

/// One fork: the right closure sees what the caller wrote before it, and the caller what the
/// closure wrote; it runs once.
#[test]
fn one_fork() {
    check::<1>(1, |slots| {
        let (input, output) = (Shared::new(0), Shared::new(0));
        input.set(3);
        let (left, right) = slots.join(
            || 5,
            || {
                output.set(output.get() + input.get());
                7
            },
            thread::yield_now,
        );
        assert_eq!((left, right, output.get()), (5, 7, 3));
        // The frame is used again.
        input.set(0);
        output.set(0);
    });
}

/// Two forks at the same address in the same slot: a thief that has read the address of the first
/// may steal the second (ABA).
#[test]
fn second_job_at_the_same_address() {
    check::<1>(2, |slots| {
        for round in 1..3 {
            let value = Shared::new(round);
            let (left, right) = slots.join(|| round, || value.get(), thread::yield_now);
            assert_eq!((left, right), (round, round));
            value.set(0);
        }
    });
}

/// A fork within the right closure, which worker and caller may each run or steal.
#[test]
fn fork_in_the_right_closure() {
    check::<2>(2, |slots| {
        let value = Shared::new(1);
        let (left, right) = slots.join(
            || 1,
            || {
                value.set(2);
                let (inner_left, inner_right) =
                    slots.join(|| 10, || 100 * value.get(), thread::yield_now);
                value.set(3);
                inner_left + inner_right
            },
            thread::yield_now,
        );
        assert_eq!((left, right, value.get()), (1, 210, 3));
    });
}

/// A fork within the left closure that may find the only slot taken, and then runs by itself.
#[test]
fn fork_in_the_left_closure_with_one_slot() {
    check::<1>(2, |slots| {
        let (outer, inner) = (Shared::new(1), Shared::new(2));
        let (left, right) = slots.join(
            || slots.join(|| 10, || inner.get(), thread::yield_now),
            || outer.get(),
            thread::yield_now,
        );
        assert_eq!((left, right), ((10, 2), 1));
        outer.set(0);
        inner.set(0);
    });
}

/// Two workers compete for one job.
#[test]
fn two_thieves() {
    loom::model(|| {
        let slots = Arc::new(JobSlots::<1>::new());
        let worker = || {
            let slots = slots.clone();
            thread::spawn(move || slots.steal_and_run())
        };
        let (first, second) = (worker(), worker());
        let runs = Shared::new(0);
        slots.join(|| (), || runs.set(runs.get() + 1), thread::yield_now);
        assert_eq!(runs.get(), 1);
        let stolen = [first, second].map(|worker| worker.join().unwrap());
        assert!(stolen != [true, true], "two threads ran one job");
    });
}

//! Lock-free core of the fork–join scope: jobs on the stacks of their callers, and an array of
//! slots through which other threads steal them.
//!
//! [`fork_join`](super::fork_join) says what this is for. This file is by itself so that
//! `companions/loom` can compile it against loom's atomics and check every interleaving of a few
//! small programs:
//!
//! ```text
//! cargo test --manifest-path companions/loom/Cargo.toml --release
//! ```
//!
//! # Life of a job
//!
//! | step | thread | slot | closure | outcome | latch |
//! |---|---|---|---|---|---|
//! | [`JobSlots::join`] makes the job | caller | empty | there | pending | unset |
//! | [`Slot::put`] | caller | the job | there | pending | unset |
//! | [`Slot::take`] or [`Slot::take_back`] | worker or caller | empty | there | pending | unset |
//! | [`StackJob::execute`] runs the closure | the same | empty | taken | pending | unset |
//! | and stores the outcome | the same | empty | taken | there | unset |
//! | [`Latch::set`] | the same | empty | taken | there | set |
//! | `join` takes the outcome, its frame ends | caller | empty | – | – | – |
//!
//! # Why a pointer to a stack frame stays valid
//!
//! A job lives in the frame of `join`. Other threads find its address in a slot alone. `join` does
//! not return, and does not unwind either, before the job is out of its slot *and* its latch is
//! set: the left closure runs under `catch_unwind`, and its panic is resumed after that. A thread
//! reads or writes the job only between a successful compare-exchange that removed the address
//! from the slot and the store to the latch, which is its last access.
//!
//! # Memory ordering
//!
//! Every atomic access, and why its ordering suffices:
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | `put`: compare-exchange null → job | Release | the Acquire of `take` |
//! | `take`: compare-exchange job → null | Acquire | the Release of `put` |
//! | `take_back`: compare-exchange job → null | Relaxed | – |
//! | loads of a slot before a compare-exchange | Relaxed | – |
//! | failed compare-exchanges | Relaxed | – |
//! | `Latch::set`: store true | Release | the Acquire of `is_set` |
//! | `Latch::is_set`: load | Acquire | the Release of `set` |
//!
//! * `put` → `take`: what the caller wrote before the fork, the closure and its captures included,
//!   happens before the worker reads it.
//! * `set` → `is_set`: the result, and all else that the closure wrote, happens before the caller
//!   reads it. The same edge puts the worker's last access to the frame before the end of the
//!   frame, and before whatever is written to that memory next.
//! * `take_back` succeeds only where it reads the store of this very thread's `put`: nobody else
//!   ever stores this address while the frame is alive. There is nothing to acquire.
//! * A slot that is emptied publishes nothing. The next `put` needs to know that it is empty and
//!   no more, so the null that `take` stores need not be a Release.
//! * The load before a compare-exchange only spares the cache line an exclusive request where the
//!   exchange would fail. No decision rests on its value but that to try.
//! * Nothing is `SeqCst`. A thread pool needs that where a worker announces that it goes to sleep,
//!   and then looks at the queue once more (store, then load of another variable). A worker here
//!   never sleeps, so no wake-up can be lost.
//!
//! # ABA
//!
//! A thief loads the address P and is descheduled. The caller takes P back, returns, forks again at
//! the same stack depth, and puts another job at P into the same slot: the common case. The
//! thief's compare-exchange then succeeds on the second job. That is harmless, for three reasons:
//! nothing was read through P before; the thief now owns the second job alone; and its Acquire
//! reads the second `put`'s store, and so sees that job whole. The pointer is all that is carried
//! across the gap. A design that put a "next" pointer or a version in the job would lose this.
//!
//! # What may be changed
//!
//! * The number of slots, and the order in which they are searched: freely.
//! * Stronger orderings: freely. Weaker ones: only with a passing loom run. Each of the four that
//!   pair was weakened to `Relaxed` by itself, and loom reported a race each time.
//! * Not the last line of [`StackJob::execute`]: no access to the job may follow it.
//! * Not the two `catch_unwind`: an unwinding caller would free a frame that a worker uses.
#![allow(unsafe_code)]

use super::sync::{AtomicBool, AtomicPtr, Ordering, UnsafeCell};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;

/// Flag of a job that has finished; set once.
struct Latch(AtomicBool);

impl Latch {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The part of a [`StackJob`] that does not depend on the type of its closure.
///
/// A slot holds one pointer to it. rayon-core's `JobRef` is a pointer and a function, which one
/// atomic cannot hold; so the function is here.
pub(super) struct JobHeader {
    execute: unsafe fn(*const JobHeader),
    latch: Latch,
}

/// What a job's closure has come to.
enum Outcome<R> {
    /// It has not ended.
    Pending,
    Returned(R),
    Panicked(Box<dyn Any + Send>),
}

/// The right closure of a fork, in the stack frame of the caller.
///
/// `repr(C)` puts the header first, so that a pointer to it is one to the whole.
#[repr(C)]
struct StackJob<F, R> {
    header: JobHeader,
    /// Taken by the thread that runs it. A cell of its own: an enum of closure and outcome would be
    /// moved as a whole, which took 8 of the 62 ns of a fork.
    closure: UnsafeCell<Option<F>>,
    outcome: UnsafeCell<Outcome<R>>,
}

impl<F: FnOnce() -> R, R> StackJob<F, R> {
    fn new(closure: F) -> Self {
        Self {
            header: JobHeader { execute: Self::execute, latch: Latch::new() },
            closure: UnsafeCell::new(Some(closure)),
            outcome: UnsafeCell::new(Outcome::Pending),
        }
    }

    /// The address of the job, with the right to access all of it.
    fn as_header(&self) -> *mut JobHeader {
        std::ptr::from_ref(self).cast::<JobHeader>().cast_mut()
    }

    /// Runs the closure and sets the latch.
    ///
    /// # Safety
    /// `header` is that of a living `StackJob<F, R>`. No other thread accesses the job until the
    /// latch is set: the calling thread has removed it from its slot, or it never was in one.
    unsafe fn execute(header: *const JobHeader) {
        // SAFETY: the job is alive, and the header its first field.
        let job = unsafe { &*header.cast::<Self>() };
        // SAFETY (both cells): this thread alone accesses them before the latch is set; the owner's
        // later access is ordered by the latch.
        if let Some(closure) = job.closure.with_mut(|closure| unsafe { (*closure).take() }) {
            // A panic must not unwind into a worker: the caller resumes it.
            let outcome = match catch_unwind(AssertUnwindSafe(closure)) {
                Ok(result) => Outcome::Returned(result),
                Err(panic) => Outcome::Panicked(panic),
            };
            job.outcome.with_mut(|place| unsafe { *place = outcome });
        }
        // The last access. As soon as the caller sees the latch its frame may end, even before
        // `set` returns. A reference to the latch may dangle then: it is all `UnsafeCell`, which
        // neither LLVM's `dereferenceable` nor the aliasing models cover.
        // SAFETY: until this store, the caller waits.
        unsafe { (*header).latch.set() };
    }

    /// The result, or the panic, of a job whose latch is set.
    fn into_result(self) -> R {
        match self.outcome.into_inner() {
            Outcome::Returned(result) => result,
            Outcome::Panicked(panic) => resume_unwind(panic),
            Outcome::Pending => unreachable!("the latch of this job is not set"),
        }
    }
}

/// Place for one job that waits for a thread: null, or its address.
struct Slot(AtomicPtr<JobHeader>);

impl Slot {
    fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Stores a job in an empty slot; returns whether it was empty.
    fn put(&self, job: *mut JobHeader) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
            && self
                .0
                .compare_exchange(null_mut(), job, Ordering::Release, Ordering::Relaxed)
                .is_ok()
    }

    /// Removes and returns whatever job is there. Where another thread changes the slot meanwhile,
    /// `None` is returned: the thief goes on to the next slot.
    fn take(&self) -> Option<*mut JobHeader> {
        let job = self.0.load(Ordering::Relaxed);
        let taken = !job.is_null()
            && self
                .0
                .compare_exchange(job, null_mut(), Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        taken.then_some(job)
    }

    /// Removes `job`, which this thread has put there; returns false where it has been stolen.
    fn take_back(&self, job: *mut JobHeader) -> bool {
        self.0.compare_exchange(job, null_mut(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Jobs that wait for a thread, at most `N`.
///
/// An unordered array in place of a deque: at most a few jobs wait at a time (a fork tree over T
/// threads has about log₂ T open levels in each), a push or a steal is one compare-exchange, and
/// nothing is allocated. The order of stealing is that of the slots and says nothing of age or
/// size: a job takes the *first* empty slot.
pub(super) struct JobSlots<const N: usize> {
    slots: [Slot; N],
}

impl<const N: usize> JobSlots<N> {
    pub(super) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::new()) }
    }

    /// Puts a job into the first empty slot, if there is one.
    fn push(&self, job: *mut JobHeader) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.put(job))
    }

    /// Steals one job and runs it; returns whether there was one.
    pub(super) fn steal_and_run(&self) -> bool {
        match self.slots.iter().find_map(Slot::take) {
            // SAFETY: a job in a slot is alive until its latch is set, which only the thread that
            // took it does: this one.
            Some(job) => unsafe { ((*job).execute)(job) },
            None => return false,
        }
        true
    }

    /// Runs both closures, the right one on another thread if one steals it in time.
    ///
    /// While a stolen job is not finished, the caller steals other jobs, its own sub-jobs among
    /// them; where there is none it calls `idle`.
    ///
    /// # Panics
    /// With the panic of either closure, after both have ended; with the left one's if both panic.
    /// If the left one has panicked, a right one that waits in a slot is run all the same; where
    /// every slot was full, it is dropped.
    // Inlined, since a call moves both closures once more: 4 % of the time of a fork.
    #[inline(always)]
    pub(super) fn join<A, B: Send>(
        &self,
        left: impl FnOnce() -> A,
        right: impl FnOnce() -> B + Send,
        mut idle: impl FnMut(),
    ) -> (A, B) {
        let job = StackJob::new(right);
        let address = job.as_header();
        let Some(slot) = self.push(address) else {
            // Every slot is full, so that all threads have enough to steal.
            let left = left();
            // SAFETY: the job is alive, and was in no slot.
            unsafe { (job.header.execute)(address) };
            return (left, job.into_result());
        };
        // From here to the latch nothing may unwind: other threads have the address.
        let left = catch_unwind(AssertUnwindSafe(left));
        if slot.take_back(address) {
            // SAFETY: the job is alive, and this thread has removed it from its slot.
            unsafe { (job.header.execute)(address) };
        } else {
            // Stolen.
            while !job.header.latch.is_set() {
                if !self.steal_and_run() {
                    idle();
                }
            }
        }
        match left {
            Ok(left) => (left, job.into_result()),
            Err(panic) => resume_unwind(panic),
        }
    }
}

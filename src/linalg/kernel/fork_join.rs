//! Fork–join scope whose workers spin between forks.
//!
//! Inside [`fork_join_scope`], [`join`] hands its right closure to workers that poll for jobs
//! without sleeping. Outside of a scope it is [`rayon::join`].
//!
//! # Why not rayon alone
//!
//! A training step of batch 20 forks some twenty times, each time for some ten microseconds of
//! work. A worker of rayon's that finds no job for some thirty rounds goes to sleep on a condition
//! variable, and must be woken by the operating system for the next fork. With workers that spin
//! between forks the step took 0.85 of the time (docs/design.md). A fork whose right closure
//! nobody steals costs less than a tenth of a microsecond.
//!
//! What was considered, and why it is not used:
//!
//! * [`rayon::join`]: the workers sleep, see above. It still serves computations with few, long
//!   forks: around EM with missing values, factor analysis and scoring a scope gained nothing
//!   (docs/performance.md).
//! * [`rayon::in_place_scope`] with one `spawn` for each task: `spawn` allocates a boxed job,
//!   where a training step must allocate nothing; and its workers sleep as those of `join` do.
//! * Threads of this crate's own: they would ignore the caller's choice of pool and number of
//!   threads. So the workers are jobs in the *current* rayon pool.
//!
//! # How it works
//!
//! The *caller* opens a scope, which is an array of [job slots](super::job_slots) shared by an
//! `Arc`. Its first fork spawns one *worker* fewer than the pool has threads. `join` pushes the
//! right closure into a slot, runs the left one, and takes the right one back unless it has been
//! stolen meanwhile; a caller that waits for a stolen job runs other jobs. A worker steals and runs
//! jobs until the scope is closed, or until it has found none for [`IDLE_LIMIT`]; then it gives its
//! thread back to the pool, and the next fork spawns another. Jobs may fork in turn, since a worker
//! has the scope as its current one.
//!
//! The argument for memory ordering, ABA and the lifetime of jobs is in [`super::job_slots`], which
//! loom checks. The two atomics of [`Scope`] itself guard no memory, and so are `Relaxed`:
//! `workers` is a count for decisions that affect speed only, and a worker that sees `closed` late
//! polls empty slots a little longer. The slots are empty when a scope closes, because each `join`
//! has waited for its job; and they live as long as the last worker, which holds the `Arc`.
//!
//! # What may be changed
//!
//! All constants below: results do not depend on which thread runs a job. Who calls [`join`] must
//! keep that so, by splitting work by its size alone and reducing in a fixed order.
//!
//! # Known limits
//!
//! * Spinning workers burn their time slices while the caller works alone, and a worker that has
//!   found a job within [`SPIN_LIMIT`] does not yield at all. With more runnable threads than cores
//!   they take time from the caller, or from other processes.
//! * A caller that waits for a stolen job may begin an unrelated, longer one, and returns when that
//!   ends: latency, not correctness. Its stack grows by the frames of that job.
//! * A thread of the pool that waits inside rayon (in a job that uses rayon's iterators) may pick
//!   up the worker of another scope, and is then late by up to [`IDLE_LIMIT`] after its last job.
//! * A worker that has left is replaced by [`rayon::spawn`], which allocates. A step "allocates
//!   nothing" only while its workers stay, which a busy machine may prevent.
//! * `workers` counts those that are spawned and have not begun. Where the pool is busy with other
//!   work there may be no worker at all; each caller then takes its jobs back.

use super::job_slots::JobSlots;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Jobs that wait in a scope at most; a caller runs further ones by itself.
///
/// A caller has one waiting job for each level of its fork tree, and a tree that is cut into twice
/// as many pieces as there are threads has few levels. Sixteen pointers are two cache lines, which
/// is what an idle worker reads in each poll.
const SLOTS: usize = 16;
/// Polls between two reads of the clock, so that most polls cost only the loads of the slots.
const POLLS_PER_CLOCK_READ: usize = 64;
/// Polls of a waiting caller between two calls of `yield_now`.
const POLLS_PER_YIELD: usize = 8 * POLLS_PER_CLOCK_READ;
/// Idle time during which a worker spins without yielding: longer than the time between two forks
/// of a training step, of which one of batch 20 has some twenty in 210 µs (on two threads).
const SPIN_LIMIT: Duration = Duration::from_micros(100);
/// Idle time after which a worker gives its thread back to the pool. Between the two limits it
/// polls, but yields to other threads.
const IDLE_LIMIT: Duration = Duration::from_millis(2);

thread_local! {
    /// The scope of which this thread is the caller or a worker.
    static CURRENT_SCOPE: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// What an idle worker does, by the time since it has last found a job.
enum Idle {
    Spin,
    Yield,
    Leave,
}

impl Idle {
    fn after(idle: Duration) -> Self {
        if idle > IDLE_LIMIT {
            Self::Leave
        } else if idle > SPIN_LIMIT {
            Self::Yield
        } else {
            Self::Spin
        }
    }
}

/// Jobs and workers of one computation.
struct Scope {
    slots: JobSlots<SLOTS>,
    /// Workers that run or are spawned; the caller is not counted.
    workers: AtomicUsize,
    /// Whether the computation has ended, so that workers leave.
    closed: AtomicBool,
}

impl Scope {
    fn new() -> Self {
        Self {
            slots: JobSlots::new(),
            workers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The body of a worker: runs jobs until the scope is closed or none was found for long.
    fn work(self: Arc<Self>) {
        // A thread that waits inside rayon may have a scope already, which it gets back.
        let outer = CURRENT_SCOPE.replace(Some(self.clone()));
        let mut idle_since = Instant::now();
        'polling: loop {
            for _ in 0..POLLS_PER_CLOCK_READ {
                if self.slots.steal_and_run() {
                    idle_since = Instant::now();
                }
                if self.closed.load(Ordering::Relaxed) {
                    break 'polling;
                }
                std::hint::spin_loop();
            }
            match Idle::after(idle_since.elapsed()) {
                Idle::Spin => {}
                Idle::Yield => std::thread::yield_now(),
                Idle::Leave => break,
            }
        }
        CURRENT_SCOPE.set(outer);
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Spawns workers in the current pool, until there is one fewer than `threads`.
    fn spawn_workers(self: &Arc<Self>, threads: usize) {
        // Reads once in the usual case that all are there. The compare-exchange inside counts each
        // worker once, also when two jobs fork at the same time.
        let reserve = |workers| (workers + 1 < threads).then_some(workers + 1);
        while self.workers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).is_ok() {
            let scope = self.clone();
            rayon::spawn(move || scope.work());
        }
    }

    #[inline(always)]
    fn join<A, B: Send>(
        &self,
        left: impl FnOnce() -> A,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        let mut polls = 0;
        self.slots.join(left, right, || {
            std::hint::spin_loop();
            polls += 1;
            // The thief may need this very core to finish.
            if polls % POLLS_PER_YIELD == 0 {
                std::thread::yield_now();
            }
        })
    }
}

/// Closes the scope of a caller, also when its computation panics.
struct CloseOnDrop(Arc<Scope>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        CURRENT_SCOPE.set(None);
    }
}

/// Runs `computation` in a scope, or in the one that this thread is in already.
pub(crate) fn fork_join_scope<R>(computation: impl FnOnce() -> R) -> R {
    if CURRENT_SCOPE.with_borrow(|scope| scope.is_some()) {
        return computation();
    }
    let guard = CloseOnDrop(Arc::new(Scope::new()));
    CURRENT_SCOPE.set(Some(guard.0.clone()));
    computation()
}

/// Whether this thread is in a scope that has workers, so that a fork is cheap.
pub(crate) fn has_spinning_workers() -> bool {
    CURRENT_SCOPE.with_borrow(|scope| {
        scope.as_ref().is_some_and(|scope| scope.workers.load(Ordering::Relaxed) > 0)
    })
}

/// Runs both closures, in parallel if a thread is free: of this thread's scope if it is in one,
/// else of the current rayon pool.
pub(crate) fn join<A: Send, B: Send>(
    left: impl FnOnce() -> A + Send,
    right: impl FnOnce() -> B + Send,
) -> (A, B) {
    // The borrow must end before the closures run, which may open scopes of their own.
    match CURRENT_SCOPE.with_borrow(|scope| scope.clone()) {
        Some(scope) => {
            scope.spawn_workers(rayon::current_num_threads());
            scope.join(left, right)
        }
        None => rayon::join(left, right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::with_threads;
    use std::panic::catch_unwind;

    fn sum(from: u64, to: u64) -> u64 {
        if to - from < 8 {
            return (from..to).sum();
        }
        let middle = from + (to - from) / 2;
        let (left, right) = join(|| sum(from, middle), || sum(middle, to));
        left + right
    }

    #[test]
    fn forks_within_forks() {
        for threads in [1, 2, 5] {
            let found = with_threads(threads, || {
                fork_join_scope(|| (0..200).map(|i| sum(0, 100 + i)).collect::<Vec<_>>())
            });
            assert!(found.iter().enumerate().all(|(i, s)| *s == (0..100 + i as u64).sum::<u64>()));
        }
        // From a thread of no pool, a scope in a scope, and after a pause in which the workers have
        // left.
        fork_join_scope(|| {
            assert_eq!(fork_join_scope(|| sum(0, 1000)), 499_500);
            std::thread::sleep(2 * IDLE_LIMIT);
            assert_eq!(sum(0, 1000), 499_500);
        });
        assert!(CURRENT_SCOPE.with_borrow(|scope| scope.is_none()));
    }

    #[test]
    fn more_forks_than_slots() {
        fn count_down(n: usize) -> usize {
            if n == 0 {
                return 0;
            }
            let (left, right) = join(|| count_down(n - 1), || 1);
            left + right
        }
        for threads in [1, 2, 5] {
            let forks = 3 * SLOTS;
            let found = with_threads(threads, || fork_join_scope(|| count_down(forks)));
            assert_eq!(found, forks);
        }
    }

    #[test]
    fn many_scopes_share_one_pool() {
        let found = with_threads(2, || {
            use rayon::prelude::*;
            (0..16u64)
                .into_par_iter()
                .map(|i| fork_join_scope(|| (0..50).map(|j| sum(0, i * 10 + j)).sum::<u64>()))
                .collect::<Vec<_>>()
        });
        let expected: Vec<u64> =
            (0..16u64).map(|i| (0..50).map(|j| (0..i * 10 + j).sum::<u64>()).sum()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_panic_on_either_side_reaches_the_caller() {
        for side in [true, false] {
            let caught = catch_unwind(|| {
                with_threads(2, || {
                    fork_join_scope(|| join(|| assert!(side, "left"), || assert!(!side, "right")))
                });
            });
            assert!(caught.is_err());
        }
        assert_eq!(with_threads(2, || fork_join_scope(|| sum(0, 1000))), 499_500);
    }
}

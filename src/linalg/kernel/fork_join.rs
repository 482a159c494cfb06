//! A team of threads that stay awake while one computation forks and joins many times, where a
//! thread that sleeps takes its time to wake.
//!
//! The leader puts the second half of each fork on a board, runs the first, and takes the second
//! back unless a helper was quicker. The helpers are jobs in the current rayon pool; one that finds
//! nothing to do for a while gives its thread back.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Halves that wait on the board at most; a fork beyond them is run by its own thread.
const PLACES: usize = 16;
/// Looks at the board between two looks at the clock.
const LOOKS: usize = 64;
/// How long a helper looks at an empty board without pause,
const EAGER: Duration = Duration::from_micros(100);
/// and how long altogether, before its thread goes back to the pool.
const PATIENT: Duration = Duration::from_millis(2);

thread_local! {
    static TEAM: RefCell<Option<Arc<Board>>> = const { RefCell::new(None) };
}

/// The second half of a fork, on the stack of the thread that forked.
struct Half {
    /// Runs the closure behind `self`.
    run: unsafe fn(*const Half),
    done: AtomicBool,
}

#[repr(C)]
struct HalfOf<F, R> {
    head: Half,
    closure: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<Result<R, Box<dyn Any + Send>>>>,
}

impl<F: FnOnce() -> R, R> HalfOf<F, R> {
    fn new(closure: F) -> Self {
        Self {
            head: Half { run: Self::run, done: AtomicBool::new(false) },
            closure: UnsafeCell::new(Some(closure)),
            result: UnsafeCell::new(None),
        }
    }

    /// # Safety
    /// `half` is the head of a living `HalfOf<F, R>` that was taken off the board, and so is run by
    /// this thread alone.
    unsafe fn run(half: *const Half) {
        // SAFETY: the head is the first field of a `repr(C)` struct; nobody else touches closure
        // and result until `done` is set.
        unsafe {
            let whole = &*half.cast::<Self>();
            if let Some(closure) = (*whole.closure.get()).take() {
                *whole.result.get() = Some(catch_unwind(AssertUnwindSafe(closure)));
            }
            // The last touch: the fork may end, and this memory with it, as soon as it is seen.
            (*half).done.store(true, Ordering::Release);
        }
    }
}

/// Where halves wait for a thread.
struct Board {
    places: [AtomicPtr<Half>; PLACES],
    helpers: AtomicUsize,
    over: AtomicBool,
}

impl Board {
    fn new() -> Self {
        Self {
            places: [const { AtomicPtr::new(null_mut()) }; PLACES],
            helpers: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Puts a half up, if there is a place.
    fn offer(&self, half: *mut Half) -> Option<&AtomicPtr<Half>> {
        self.places.iter().find(|place| {
            place.load(Ordering::Relaxed).is_null()
                && place
                    .compare_exchange(null_mut(), half, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Takes the oldest half, which is the largest, and runs it.
    fn help(&self) -> bool {
        for place in &self.places {
            let half = place.load(Ordering::Relaxed);
            if !half.is_null()
                && place
                    .compare_exchange(half, null_mut(), Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                // SAFETY: what stands on the board is alive until its `done` is set, which only the
                // thread that took it does.
                unsafe { ((*half).run)(half) };
                return true;
            }
        }
        false
    }

    /// What a helper does: looks for halves until the team is over, or there were none for long.
    fn work(self: Arc<Self>) {
        let before = TEAM.replace(Some(self.clone()));
        let mut idle_since = Instant::now();
        'looking: loop {
            for _ in 0..LOOKS {
                if self.help() {
                    idle_since = Instant::now();
                }
                if self.over.load(Ordering::Relaxed) {
                    break 'looking;
                }
                std::hint::spin_loop();
            }
            match idle_since.elapsed() {
                idle if idle > PATIENT => break,
                idle if idle > EAGER => std::thread::yield_now(),
                _ => {}
            }
        }
        TEAM.set(before);
        self.helpers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls helpers from the current pool, a thread less than it has.
    fn gather(self: &Arc<Self>, threads: usize) {
        while self.helpers.load(Ordering::Relaxed) + 1 < threads {
            self.helpers.fetch_add(1, Ordering::Relaxed);
            let board = self.clone();
            rayon::spawn(move || board.work());
        }
    }

    fn fork<A, B: Send>(
        &self,
        left: impl FnOnce() -> A,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        let half = HalfOf::new(right);
        let pointer = (&raw const half).cast_mut().cast::<Half>();
        let Some(place) = self.offer(pointer) else {
            let left = left();
            // SAFETY: it never was on the board.
            unsafe { (half.head.run)(pointer) };
            return (left, finish(half));
        };
        let left = catch_unwind(AssertUnwindSafe(left));
        if place.compare_exchange(pointer, null_mut(), Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            // SAFETY: taken back, so that no other thread has it.
            unsafe { (half.head.run)(pointer) };
        } else {
            // Somebody is at it: `half` must live until then. Meanwhile there may be other halves,
            // its own among them.
            let mut looks = 0;
            while !half.head.done.load(Ordering::Acquire) {
                if !self.help() {
                    std::hint::spin_loop();
                    looks += 1;
                    if looks % (8 * LOOKS) == 0 {
                        std::thread::yield_now();
                    }
                }
            }
        }
        match left {
            Ok(left) => (left, finish(half)),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// The result of a half that is done.
fn finish<F, R>(half: HalfOf<F, R>) -> R {
    match half.result.into_inner() {
        Some(Ok(result)) => result,
        Some(Err(panic)) => resume_unwind(panic),
        None => unreachable!("a half that is done has a result"),
    }
}

/// Ends the team also when the computation panics.
struct Leading(Arc<Board>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
        TEAM.set(None);
    }
}

/// Runs `computation` as the leader of a team, unless this thread is in one.
pub(crate) fn fork_join_scope<R>(computation: impl FnOnce() -> R) -> R {
    if TEAM.with_borrow(|team| team.is_some()) {
        return computation();
    }
    let leading = Leading(Arc::new(Board::new()));
    TEAM.set(Some(leading.0.clone()));
    computation()
}

/// Whether this thread is in a team that has helpers.
pub(crate) fn is_gathered() -> bool {
    TEAM.with_borrow(|team| {
        team.as_ref().is_some_and(|board| board.helpers.load(Ordering::Relaxed) > 0)
    })
}

/// Runs both closures, side by side if a thread is there: of the team if this thread is in one,
/// else of the pool.
pub(crate) fn join<A: Send, B: Send>(
    left: impl FnOnce() -> A + Send,
    right: impl FnOnce() -> B + Send,
) -> (A, B) {
    match TEAM.with_borrow(|team| team.clone()) {
        Some(board) => {
            board.gather(rayon::current_num_threads());
            board.fork(left, right)
        }
        None => rayon::join(left, right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::with_threads;

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
        // Led by a thread of no pool, within each other, and after a pause in which the helpers
        // have gone.
        fork_join_scope(|| {
            assert_eq!(fork_join_scope(|| sum(0, 1000)), 499_500);
            std::thread::sleep(2 * PATIENT);
            assert_eq!(sum(0, 1000), 499_500);
        });
        assert!(TEAM.with_borrow(|team| team.is_none()));
    }

    #[test]
    fn many_leaders_share_one_pool() {
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
    fn a_panic_on_either_side_reaches_the_leader() {
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

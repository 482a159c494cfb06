//! Parallel loops and sums whose results are bit-identical for any number of threads.
//!
//! Work is split into blocks that depend on its size alone, and results are reduced in a fixed
//! order (a binary tree over the blocks). Threads change who computes a block, and nothing else.
//!
//! The *current* rayon pool is used, so that a caller's own pool is respected. Work below
//! [`SERIAL_WORK`] does not touch rayon, so that small problems start no pool.

/// Multiply-adds below which a second thread costs more than it gains.
pub const SERIAL_WORK: usize = 1 << 19;
/// Inside a [`fork_join_scope`] that has workers, the threshold for a second thread is divided by
/// this: a fork costs less where no thread must be woken.
#[cfg(feature = "rayon")]
const SPINNING_DIVISOR: usize = 4;

/// Number of threads to use for `work`, in multiply-adds or what takes as long: 1, or those of the
/// pool.
///
/// ```
/// assert_eq!(elbo::linalg::parallel::threads(100), 1);
/// ```
pub fn threads(work: usize) -> usize {
    threads_above(SERIAL_WORK, work)
}

/// [`threads`] with another threshold than [`SERIAL_WORK`].
fn threads_above(threshold: usize, work: usize) -> usize {
    #[cfg(feature = "rayon")]
    {
        let spinning = super::kernel::fork_join::has_spinning_workers();
        let threshold = if spinning { threshold / SPINNING_DIVISOR } else { threshold };
        // `current_num_threads` starts the global pool, so the test comes first.
        if work < threshold { 1 } else { rayon::current_num_threads() }
    }
    #[cfg(not(feature = "rayon"))]
    {
        let _ = (threshold, work);
        1
    }
}

/// Runs both closures and returns both results; in parallel if another thread is free.
pub(crate) fn join<A: Send, B: Send>(
    left: impl FnOnce() -> A + Send,
    right: impl FnOnce() -> B + Send,
) -> (A, B) {
    #[cfg(feature = "rayon")]
    {
        super::kernel::fork_join::join(left, right)
    }
    #[cfg(not(feature = "rayon"))]
    {
        (left(), right())
    }
}

/// Runs a computation that forks many times, with workers that spin between the forks.
///
/// It saves the time to wake a sleeping thread: a training step of batch 20 forks some twenty
/// times, and takes 0.85 of the time. Gradient training and principal components open a scope by
/// themselves; this function is for training loops of your own. No worker is started before the
/// first fork, and one that finds no work for two milliseconds returns to the pool. The result is
/// bit-identical without a scope.
///
/// ```
/// let sum: f64 = elbo::linalg::parallel::fork_join_scope(|| {
///     (0..3)
///         .map(|_| {
///             elbo::linalg::parallel::map_blocks(4, 1 << 20, |block| block as f64)
///                 .iter()
///                 .sum::<f64>()
///         })
///         .sum()
/// });
/// assert_eq!(sum, 18.0);
/// ```
pub fn fork_join_scope<R>(computation: impl FnOnce() -> R) -> R {
    #[cfg(feature = "rayon")]
    {
        super::kernel::fork_join::fork_join_scope(computation)
    }
    #[cfg(not(feature = "rayon"))]
    {
        computation()
    }
}

/// Calls `f(index, piece)` for each piece of `chunk` entries of `data` (the last may be shorter).
///
/// ```
/// let mut squares = vec![0.0; 10];
/// elbo::linalg::parallel::for_each_chunk(&mut squares, 4, 10, |block, piece| {
///     for (i, s) in piece.iter_mut().enumerate() { *s = ((4 * block + i) as f64).powi(2); }
/// });
/// assert_eq!(squares[9], 81.0);
/// ```
pub fn for_each_chunk<T: Send>(
    data: &mut [T],
    chunk: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    for_each_chunk_above(SERIAL_WORK, data, chunk, work, f);
}

/// [`for_each_chunk`] with another threshold for a second thread than [`SERIAL_WORK`].
pub(crate) fn for_each_chunk_above<T: Send>(
    threshold: usize,
    data: &mut [T],
    chunk: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    // A chunk of 0 entries would never reach the end.
    let chunk = chunk.max(1);
    for_each_from(data, chunk, 0, threads_above(threshold, work) > 1, &|first, piece| {
        f(first / chunk, piece)
    });
}

/// A slice, or several slices that are split at the same entries.
pub(crate) trait Divisible: Sized + Send {
    /// Number of entries.
    fn entries(&self) -> usize;
    /// The first `at` entries, and the others.
    fn divide(self, at: usize) -> (Self, Self);
}

/// Calls `f(first, piece)` for each piece of `chunk` entries, where `first` is the index of its
/// first entry.
pub(crate) fn for_each_part<P: Divisible>(
    pieces: P,
    chunk: usize,
    work: usize,
    f: &(impl Fn(usize, P) + Sync),
) {
    for_each_from(pieces, chunk.max(1), 0, threads(work) > 1, f);
}

/// The pieces from entry `first` on. They are split in halves, of whole chunks, down to one chunk:
/// a fork tree of logarithmic depth. (Where `threaded` is false, the same tree on this thread.)
fn for_each_from<P: Divisible>(
    pieces: P,
    chunk: usize,
    first: usize,
    threaded: bool,
    f: &(impl Fn(usize, P) + Sync),
) {
    let count = pieces.entries().div_ceil(chunk);
    match count {
        0 => return,
        1 => return f(first, pieces),
        _ => {}
    }
    // At a whole chunk, so that pieces are the same for any number of threads.
    let at = count / 2 * chunk;
    let (left, right) = pieces.divide(at);
    if threaded {
        join(
            || for_each_from(left, chunk, first, true, f),
            || for_each_from(right, chunk, first + at, true, f),
        );
    } else {
        for_each_from(left, chunk, first, false, f);
        for_each_from(right, chunk, first + at, false, f);
    }
}

/// Sum of `f(first, piece)` over pieces of `chunk` entries, where `first` is the index of a piece's
/// first entry.
///
/// The terms are added along the binary tree by which the pieces are split, on one thread as on
/// many: the result is bit-identical. Nothing is allocated, as a list of the terms would be.
pub(crate) fn sum_over<P: Divisible, S: Send + std::ops::Add<Output = S>>(
    pieces: P,
    chunk: usize,
    work: usize,
    f: &(impl Fn(usize, P) -> S + Sync),
) -> S {
    let threaded = threads(work) > 1;
    sum_from(pieces, chunk.max(1), 0, threaded, f)
}

fn sum_from<P: Divisible, S: Send + std::ops::Add<Output = S>>(
    pieces: P,
    chunk: usize,
    first: usize,
    threaded: bool,
    f: &(impl Fn(usize, P) -> S + Sync),
) -> S {
    let count = pieces.entries().div_ceil(chunk);
    if count <= 1 {
        return f(first, pieces);
    }
    let at = count / 2 * chunk;
    let (left, right) = pieces.divide(at);
    // Both arms add in the same order: floating-point addition is not associative.
    let (left, right) = if threaded {
        join(
            || sum_from(left, chunk, first, true, f),
            || sum_from(right, chunk, first + at, true, f),
        )
    } else {
        (sum_from(left, chunk, first, false, f), sum_from(right, chunk, first + at, false, f))
    };
    left + right
}

impl<T: Sync> Divisible for &[T] {
    fn entries(&self) -> usize {
        self.len()
    }
    fn divide(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl<T: Send> Divisible for &mut [T] {
    fn entries(&self) -> usize {
        self.len()
    }
    fn divide(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

/// The results of `f(index, piece)` for the pieces of `chunk` entries of `data`, in their order.
pub(crate) fn map_chunks<T: Send, R: Send>(
    data: &mut [T],
    chunk: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    // Data and results are split together; `first` is the index of the first piece.
    fn fill<T: Send, R: Send>(
        data: &mut [T],
        results: &mut [Option<R>],
        chunk: usize,
        first: usize,
        f: &(impl Fn(usize, &mut [T]) -> R + Sync),
    ) {
        let count = results.len();
        if count <= 1 {
            results.iter_mut().for_each(|result| *result = Some(f(first, data)));
            return;
        }
        let (left, right) = data.split_at_mut(count / 2 * chunk);
        let (begin, end) = results.split_at_mut(count / 2);
        join(
            || fill(left, begin, chunk, first, f),
            || fill(right, end, chunk, first + count / 2, f),
        );
    }
    let chunk = chunk.max(1);
    if threads(work) <= 1 {
        return data.chunks_mut(chunk).enumerate().map(|(block, piece)| f(block, piece)).collect();
    }
    let mut results: Vec<Option<R>> = (0..data.len().div_ceil(chunk)).map(|_| None).collect();
    fill(data, &mut results, chunk, 0, &f);
    results.into_iter().flatten().collect()
}

/// The results of `f(0), …, f(blocks − 1)`, in that order.
///
/// ```
/// assert_eq!(elbo::linalg::parallel::map_blocks(3, 10, |block| 2 * block), [0, 2, 4]);
/// ```
pub fn map_blocks<R: Send>(blocks: usize, work: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    map_blocks_above(SERIAL_WORK, blocks, work, f)
}

/// [`map_blocks`] with another threshold for a second thread than [`SERIAL_WORK`].
pub(crate) fn map_blocks_above<R: Send>(
    threshold: usize,
    blocks: usize,
    work: usize,
    f: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    if threads_above(threshold, work) <= 1 {
        return (0..blocks).map(f).collect();
    }
    // One slot for each block, so that the order does not depend on which thread is first.
    let mut results: Vec<Option<R>> = (0..blocks).map(|_| None).collect();
    for_each_chunk_above(threshold, &mut results, 1, work, |block, slot| slot[0] = Some(f(block)));
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_data_have_no_pieces() {
        for_each_chunk(&mut [0.0; 0], 4, 1 << 30, |_, _| panic!("a piece of nothing"));
        let mut calls = vec![0; 10];
        for_each_chunk(&mut calls, 3, 0, |block, piece| piece.fill(block));
        assert_eq!(calls, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
    }
}

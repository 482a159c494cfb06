//! Threads with the same bits for any number of them: work is cut in fixed blocks, results are met
//! in a fixed order.
//!
//! The *current* rayon pool is used, so a user's own pool is respected; small work never asks for a
//! pool, and so starts none.

/// Multiply-adds below which a second thread costs more than it brings.
pub const SERIAL_WORK: usize = 1 << 19;
/// A thread that is [awake](together) pays for so many times less.
#[cfg(feature = "rayon")]
const AWAKE: usize = 4;

/// How many threads `work` (in multiply-adds, or what takes as long) deserves.
///
/// ```
/// assert_eq!(elbo::linalg::parallel::threads(100), 1);
/// ```
pub fn threads(work: usize) -> usize {
    threads_from(SERIAL_WORK, work)
}

fn threads_from(least: usize, work: usize) -> usize {
    #[cfg(feature = "rayon")]
    {
        let least = if super::kernel::fork_join::is_gathered() { least / AWAKE } else { least };
        if work < least { 1 } else { rayon::current_num_threads() }
    }
    #[cfg(not(feature = "rayon"))]
    {
        let _ = (least, work);
        1
    }
}

/// Runs both closures, side by side when there are threads.
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

/// Runs a computation that forks many times; its other threads stay awake between the forks.
///
/// A thread that sleeps takes its time to wake, and a training step forks some twenty times.
/// Gradient training and principal components work so by themselves; it serves those who write a
/// training loop of their own. No thread is started before the first fork, and one that finds
/// nothing to do for a few milliseconds goes back to the pool. The result is the same without it.
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

/// Calls `f(block, piece)` for each piece of `chunk` entries of `data` (the last may be shorter).
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
    for_each_chunk_at(SERIAL_WORK, data, chunk, work, f);
}

/// The same with another least work for a second thread.
pub(crate) fn for_each_chunk_at<T: Send>(
    least: usize,
    data: &mut [T],
    chunk: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let chunk = chunk.max(1);
    part_from(data, chunk, 0, threads_from(least, work) > 1, &|first, piece| {
        f(first / chunk, piece)
    });
}

/// Pieces of one or more slices that are halved together.
pub(crate) trait Halves: Sized + Send {
    /// Entries.
    fn size(&self) -> usize;
    /// The first `at` entries, and the rest.
    fn halve(self, at: usize) -> (Self, Self);
}

/// Calls `f` for pieces of `chunk` entries, each given with its first entry's place.
pub(crate) fn for_each_part<P: Halves>(
    pieces: P,
    chunk: usize,
    work: usize,
    f: &(impl Fn(usize, P) + Sync),
) {
    part_from(pieces, chunk.max(1), 0, threads(work) > 1, f);
}

fn part_from<P: Halves>(
    pieces: P,
    chunk: usize,
    first: usize,
    threaded: bool,
    f: &(impl Fn(usize, P) + Sync),
) {
    let count = pieces.size().div_ceil(chunk);
    match count {
        0 => return,
        1 => return f(first, pieces),
        _ => {}
    }
    let at = count / 2 * chunk;
    let (left, right) = pieces.halve(at);
    if threaded {
        join(
            || part_from(left, chunk, first, true, f),
            || part_from(right, chunk, first + at, true, f),
        );
    } else {
        part_from(left, chunk, first, false, f);
        part_from(right, chunk, first + at, false, f);
    }
}

/// The sum of `f` over pieces of `chunk` entries, each given with its first entry's place, met in a
/// fixed tree: the same bits for any number of threads, and no allocation.
pub(crate) fn sum_over<P: Halves, S: Send + std::ops::Add<Output = S>>(
    pieces: P,
    chunk: usize,
    work: usize,
    f: &(impl Fn(usize, P) -> S + Sync),
) -> S {
    let threaded = threads(work) > 1;
    sum_from(pieces, chunk.max(1), 0, threaded, f)
}

fn sum_from<P: Halves, S: Send + std::ops::Add<Output = S>>(
    pieces: P,
    chunk: usize,
    first: usize,
    threaded: bool,
    f: &(impl Fn(usize, P) -> S + Sync),
) -> S {
    let count = pieces.size().div_ceil(chunk);
    if count <= 1 {
        return f(first, pieces);
    }
    let at = count / 2 * chunk;
    let (left, right) = pieces.halve(at);
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

impl<T: Send> Halves for &mut [T] {
    fn size(&self) -> usize {
        self.len()
    }
    fn halve(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

/// What `f(block, piece)` returns for each piece of `chunk` entries of `data`, in their order.
pub(crate) fn map_chunks<T: Send, R: Send>(
    data: &mut [T],
    chunk: usize,
    work: usize,
    f: impl Fn(usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
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
    map_blocks_at(SERIAL_WORK, blocks, work, f)
}

/// The same with another least work for a second thread.
pub(crate) fn map_blocks_at<R: Send>(
    least: usize,
    blocks: usize,
    work: usize,
    f: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    if threads_from(least, work) <= 1 {
        return (0..blocks).map(f).collect();
    }
    let mut results: Vec<Option<R>> = (0..blocks).map(|_| None).collect();
    for_each_chunk_at(least, &mut results, 1, work, |block, slot| slot[0] = Some(f(block)));
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_called_for_nothing() {
        for_each_chunk(&mut [0.0; 0], 4, 1 << 30, |_, _| panic!("a piece of nothing"));
        let mut calls = vec![0; 10];
        for_each_chunk(&mut calls, 3, 0, |block, piece| piece.fill(block));
        assert_eq!(calls, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
    }
}

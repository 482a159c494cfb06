//! Data larger than memory: sources that are read block by block, as often as needed.

use crate::{Error, Observations, Real, Result};
use nalgebra::DMatrix;

/// Observations in blocks that can be read repeatedly from the beginning: a file larger than
/// memory, a matrix, an iterator of chunks.
///
/// An implementation of [`data_dim`](Self::data_dim) and [`pass`](Self::pass) suffices for every
/// fit, score and transform that takes a source. Each pass must yield the same observations.
///
/// Sources are [`Observations`], read in blocks; [`Chunks`], made of iterators; and, with the
/// feature `files`, [`NpyBlocks`](crate::data::files::NpyBlocks).
pub trait Source<T: Real> {
    /// The number d of variables.
    fn data_dim(&self) -> usize;

    /// Calls `visit` with every block, from the first to the last. An error of `visit` ends the
    /// pass and is returned.
    ///
    /// # Errors
    /// Errors of reading, and those of `visit`.
    fn pass(&mut self, visit: &mut dyn FnMut(Observations<'_, T>) -> Result<()>) -> Result<()>;
}

impl<T: Real> Source<T> for Observations<'_, T> {
    fn data_dim(&self) -> usize {
        Observations::data_dim(self)
    }

    fn pass(&mut self, visit: &mut dyn FnMut(Observations<'_, T>) -> Result<()>) -> Result<()> {
        // Views of the matrix, not copies: blocks bound the working memory of `visit`.
        let block = crate::linalg::block_columns(Observations::data_dim(self));
        (0..self.len())
            .step_by(block)
            .try_for_each(|first| visit(self.columns(first, block.min(self.len() - first))?))
    }
}

/// A [`Source`] of iterators over chunks (d×b each); `restart` is called for each pass and returns
/// the iterator.
///
/// ```
/// use elbo::{Ppca, data::Chunks};
/// let x = nalgebra::dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.8;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1];
/// // Four chunks of two observations, for example from four files.
/// let chunk = |c: usize| Ok::<_, elbo::Error>(x.columns(2 * c, 2).into_owned());
/// let mut source = Chunks::new(3, || (0..4).map(chunk));
/// let model = Ppca::fit(1, &mut source)?.model;
/// assert!((model.score(&mut source)? - model.score(&x)?).abs() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Chunks<F> {
    data_dim: usize,
    restart: F,
}

impl<F> Chunks<F> {
    /// Returns a source of d variables from a closure that returns the iterator of a new pass.
    pub fn new(data_dim: usize, restart: F) -> Self {
        Self { data_dim, restart }
    }
}

impl<T: Real, E: Into<Error>, I: IntoIterator<Item = Result<DMatrix<T>, E>>, F: FnMut() -> I>
    Source<T> for Chunks<F>
{
    fn data_dim(&self) -> usize {
        self.data_dim
    }

    fn pass(&mut self, visit: &mut dyn FnMut(Observations<'_, T>) -> Result<()>) -> Result<()> {
        // A new iterator for each pass: an iterator cannot be rewound.
        let mut before = 0;
        for chunk in (self.restart)() {
            let chunk = chunk.map_err(Into::into)?;
            visit(checked(&chunk, before)?)?;
            before += chunk.ncols();
        }
        Ok(())
    }
}

/// Validates a chunk. The column in an error is counted from the beginning of the pass, at which
/// `before` observations precede the chunk.
fn checked<T: Real>(chunk: &DMatrix<T>, before: usize) -> Result<Observations<'_, T>> {
    Observations::new(chunk.as_view()).map_err(|error| match error {
        Error::NotFinite { row, column, value } => {
            Error::NotFinite { row, column: before + column, value }
        }
        Error::TooLarge { row, column, value, limit } => {
            Error::TooLarge { row, column: before + column, value, limit }
        }
        other => other,
    })
}

#[cfg(feature = "files")]
impl<T: Real> Source<T> for crate::data::files::NpyBlocks<T> {
    fn data_dim(&self) -> usize {
        Self::data_dim(self)
    }

    fn pass(&mut self, visit: &mut dyn FnMut(Observations<'_, T>) -> Result<()>) -> Result<()> {
        // The previous pass may have ended with an error, in the middle of the file.
        self.rewind();
        let mut before = 0;
        for block in self.by_ref() {
            let block = block?;
            visit(checked(&block, before)?)?;
            before += block.ncols();
        }
        Ok(())
    }
}

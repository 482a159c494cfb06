//! Block-wise reader of `.npy` files larger than memory.

use super::array::{flatten, storage};
use super::npy_header::NpyHeader;
use super::options::numbered_name;
use super::source::Source;
use super::table::check;
use super::{FileError, Location, Missing};
use crate::Real;
use nalgebra::DMatrix;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::Path;

/// Iterator over an `.npy` file of n×d numbers in blocks of d×b; takes memory for one block,
/// whatever n is.
///
/// It can be [rewound](Self::rewind), for algorithms that pass over the data more than once.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("elbo-doc-blocks-{}.npy", std::process::id()));
/// use elbo::data::files::{write_npy, Missing, NpyBlocks};
/// write_npy(&path, &nalgebra::dmatrix![1.0, 2.0, 3.0; 4.0, 5.0, 6.0])?;
/// let mut blocks = NpyBlocks::<f64>::open(&path, 2, Missing::Reject)?;
/// assert_eq!((blocks.observations(), blocks.data_dim()), (3, 2));
/// let mut total = 0.0;
/// for block in &mut blocks {
///     total += block?.sum();
/// }
/// assert_eq!(total, 21.0);
/// blocks.rewind();
/// assert_eq!(blocks.next().unwrap()?.ncols(), 2);
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::data::files::FileError>(())
/// ```
#[derive(Debug)]
pub struct NpyBlocks<T: Real> {
    file: File,
    header: NpyHeader,
    missing: Missing,
    /// Fortran order: the index of each variable's run of n values in the file. C order: empty.
    places: Vec<usize>,
    n: usize,
    d: usize,
    /// Observations in a block.
    block: usize,
    /// The first observation of the next block.
    next: usize,
    buffer: Vec<u8>,
    scalar: PhantomData<T>,
}

impl<T: Real> NpyBlocks<T> {
    /// Opens a file for reading `block` observations at a time.
    ///
    /// # Errors
    /// Those of [`read`](super::read): the sizes in the header are checked against the length of
    /// the file. [`FileError::DimensionMismatch`] for a block of 0. [`FileError::Magic`] for a
    /// compressed file, which does not support seeking.
    pub fn open(path: impl AsRef<Path>, block: usize, missing: Missing) -> Result<Self, FileError> {
        let path = path.as_ref();
        // Without a limit: only the header is read here, and only blocks are held in memory.
        let mut source = Source::open(path, u64::MAX)?;
        let Some(actual) = source.length() else {
            return Err(FileError::Magic { format: "a plain npy file", found: vec![0x1f, 0x8b] });
        };
        let header = NpyHeader::read(&mut source)?;
        let (n, d) = flatten(&header.shape)?;
        let expected = header.offset.saturating_add(header.bytes()?);
        // The length is exact: a later read beyond the end means that the file has changed.
        if expected != actual {
            return Err(FileError::Length { expected, actual });
        }
        if block == 0 {
            return Err(FileError::DimensionMismatch {
                what: "observations in a block",
                expected: 1,
                actual: 0,
            });
        }
        let places = if header.fortran { storage(&header.shape[1..]) } else { Vec::new() };
        let file = File::open(path).map_err(FileError::reading)?;
        Ok(Self {
            file,
            header,
            missing,
            places,
            n,
            d,
            block,
            next: 0,
            buffer: Vec::new(),
            scalar: PhantomData,
        })
    }

    /// Returns the number n of observations in the file.
    pub fn observations(&self) -> usize {
        self.n
    }

    /// Returns the dimension d of an observation.
    pub fn data_dim(&self) -> usize {
        self.d
    }

    /// Restarts the iteration at the first observation.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Reads `count` consecutive elements, starting at element `first` (counted from 0).
    ///
    /// # Errors
    /// [`FileError::Inexact`] for an integer that is no `f64`; `position` returns the row and the
    /// variable of an element of this run.
    fn run(
        &mut self,
        first: usize,
        count: usize,
        position: impl Fn(usize) -> (usize, usize),
    ) -> Result<impl Iterator<Item = T> + '_, FileError> {
        let element = self.header.element;
        let item = element.item;
        self.buffer.resize(count * item, 0);
        let start = self.header.offset + (first * item) as u64;
        self.file.seek(SeekFrom::Start(start)).map_err(FileError::reading)?;
        self.file.read_exact(&mut self.buffer).map_err(FileError::reading)?;
        let items = self.buffer.chunks_exact(item);
        let inexact = |(index, item)| element.inexact(item).map(|text| (index, text));
        if let Some((index, text)) = items.clone().enumerate().find_map(inexact) {
            let (row, variable) = position(index);
            let (place, column) = (Location::Row(row as u64 + 1), numbered_name(variable));
            return Err(FileError::Inexact { place, column, text });
        }
        Ok(items.map(move |item| T::of(element.value(item))))
    }

    /// Reads the next b observations and checks their values, as a whole file is checked.
    fn read_block(&mut self, b: usize) -> Result<DMatrix<T>, FileError> {
        let (n, d, first) = (self.n, self.d, self.next);
        let mut values = DMatrix::zeros(d, b);
        if self.header.fortran {
            // The values of a variable are contiguous: one read of b values for each variable.
            for variable in 0..d {
                let start = first + n * self.places[variable];
                values
                    .row_mut(variable)
                    .iter_mut()
                    .zip(self.run(start, b, |index| (first + index, variable))?)
                    .for_each(|(to, from)| *to = from);
            }
        } else {
            // b rows are contiguous, and already d×b in column-major order: one read.
            let position = |index| (first + index / d, index % d);
            let run = self.run(first * d, b * d, position)?;
            values.iter_mut().zip(run).for_each(|(to, from)| *to = from);
        }
        for (row, observation) in values.column_iter().enumerate() {
            for (variable, &value) in observation.iter().enumerate() {
                let place = Location::Row((first + row) as u64 + 1);
                check(value, place, || numbered_name(variable), self.missing)?;
            }
        }
        Ok(values)
    }
}

impl<T: Real> Iterator for NpyBlocks<T> {
    type Item = Result<DMatrix<T>, FileError>;

    /// Returns the next block, the last of which may be smaller; after an error, `None`.
    fn next(&mut self) -> Option<Self::Item> {
        let b = self.block.min(self.n - self.next);
        if b == 0 {
            return None;
        }
        let block = self.read_block(b);
        // An error ends the pass, so that no caller continues it without the block that failed.
        self.next = if block.is_ok() { self.next + b } else { self.n };
        Some(block)
    }
}

//! Complete data in memory: a d×n table, one observation per column, validated once.

use crate::linalg::parallel;
use crate::linalg::vector::{subtract, vectorized};
use crate::linalg::{AlignedVec, gemm, matrix_product, mean_wide, refined_mean, reshape, zeros};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVector, DVectorView};
use std::sync::atomic::{AtomicBool, Ordering};

/// A validated view of complete data: d×n, one observation per **column**, not empty, every entry
/// finite and small enough that sums of squares do not overflow.
///
/// The constructor validates the data, so that functions that take `Observations` need not do so
/// again. The view may be a mini-batch: it then has the size N of the
/// [population](Self::population) from which it was drawn, and sums over it are scaled by N/n.
///
/// ```
/// use elbo::Observations;
/// // Four observations of three variables, row-major n×d: read as d×n without a transpose.
/// let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
/// let x = Observations::from_rows(&rows, 4, 3)?;
/// assert_eq!((x.data_dim(), x.len()), (3, 4));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Observations<'a, T: Real> {
    values: DMatrixView<'a, T>,
    population: usize,
}

impl<'a, T: Real> Observations<'a, T> {
    /// Validates a d×n view.
    ///
    /// # Errors
    /// [`Error::Empty`] without a row or a column, [`Error::NotFinite`] for NaN or ±∞,
    /// [`Error::TooLarge`] where the sum of squares could overflow; the last two contain the row
    /// (variable) and the column (observation), counted from 0.
    pub fn new(values: DMatrixView<'a, T>) -> Result<Self> {
        let (rows, columns) = values.shape();
        if rows == 0 || columns == 0 {
            return Err(Error::Empty { rows, columns });
        }
        let limit = largest_square::<T>(rows, columns).sqrt();
        let fit =
            |columns: std::ops::Range<usize>| are_within(values.columns_range(columns), limit);
        // Blocks of about 2¹⁶ entries, validated in parallel. Only a block that fails is searched
        // for its first bad column, so that valid data are read once.
        let block = (1usize << 16).div_ceil(rows);
        let bad =
            parallel::map_blocks(columns.div_ceil(block), rows.saturating_mul(columns), |b| {
                let block = b * block..columns.min((b + 1) * block);
                if fit(block.clone()) {
                    None
                } else {
                    block.into_iter().find(|&column| !fit(column..column + 1))
                }
            });
        // Results are in the order of the blocks: the error is that of the first bad entry in
        // column order, whatever the number of threads.
        if let Some(column) = bad.into_iter().flatten().next() {
            let observation = values.column(column);
            let fails = |v: &T| v.abs().partial_cmp(&limit).is_none_or(|order| order.is_gt());
            let row = observation.iter().position(fails).unwrap_or(0);
            let value = observation[row].as_f64();
            return Err(if value.is_finite() {
                Error::TooLarge { row, column, value, limit: limit.as_f64() }
            } else {
                Error::NotFinite { row, column, value }
            });
        }
        Ok(Self { values, population: columns })
    }

    /// Validates a row-major n×d buffer, one observation per row. It has the memory layout of a
    /// column-major d×n matrix and is not copied.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when the buffer does not hold n·d numbers; else as
    /// [`Self::new`].
    pub fn from_rows(rows: &'a [T], observations: usize, data_dim: usize) -> Result<Self> {
        let expected = observations.saturating_mul(data_dim);
        if rows.len() != expected {
            return Err(Error::DimensionMismatch {
                what: "numbers in the buffer",
                expected,
                actual: rows.len(),
            });
        }
        Self::new(DMatrixView::from_slice(rows, data_dim, observations))
    }

    /// A view that is valid already: columns of validated data, or a copy of some of them.
    pub(crate) fn trusted(values: DMatrixView<'a, T>, population: usize) -> Self {
        Self { values, population }
    }

    /// The d×n values.
    pub fn values(&self) -> DMatrixView<'a, T> {
        self.values
    }

    /// The number d of variables.
    pub fn data_dim(&self) -> usize {
        self.values.nrows()
    }

    /// The number n of observations in the view.
    #[allow(clippy::len_without_is_empty)] // never empty, by construction
    pub fn len(&self) -> usize {
        self.values.ncols()
    }

    /// The number N of observations in the population: n, unless this is a mini-batch.
    pub fn population(&self) -> usize {
        self.population
    }

    /// N/n, by which every sum over these observations is scaled; 1 unless this is a mini-batch.
    pub fn scale(&self) -> T {
        T::of_usize(self.population) / T::of_usize(self.len())
    }

    /// These observations as a mini-batch out of a population of N observations.
    pub fn of_population(self, population: usize) -> Self {
        Self { population, ..self }
    }

    /// The `count` consecutive observations from `start` on, as complete data and not as a
    /// mini-batch: their population is `count`.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when the range passes the end, [`Error::Empty`] when it is
    /// empty.
    pub fn columns(&self, start: usize, count: usize) -> Result<Observations<'_, T>> {
        let end = start.saturating_add(count);
        if end > self.len() {
            return Err(Error::DimensionMismatch {
                what: "observations",
                expected: self.len(),
                actual: end,
            });
        }
        if count == 0 {
            return Err(Error::Empty { rows: self.data_dim(), columns: 0 });
        }
        Ok(Observations::trusted(self.values.columns(start, count), count))
    }

    /// Copies the chosen observations, in the given order, into the caller's buffer and returns
    /// them as a mini-batch of this population.
    ///
    /// The buffer is resized to d×(the number chosen); it is reallocated only if its capacity is
    /// too small.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for an index out of range, [`Error::Empty`] without indices.
    ///
    /// ```
    /// use elbo::Observations;
    /// use nalgebra::{DMatrix, dmatrix};
    /// let x = dmatrix![1.0, 2.0, 3.0];
    /// let mut buffer = DMatrix::zeros(0, 0);
    /// let batch = Observations::new(x.as_view())?.gather(&[2, 0], &mut buffer)?;
    /// assert_eq!((batch.values()[0], batch.scale()), (3.0, 1.5)); // scale N/n
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn gather<'b>(
        &self,
        chosen: &[usize],
        buffer: &'b mut DMatrix<T>,
    ) -> Result<Observations<'b, T>> {
        if let Some(&beyond) = chosen.iter().find(|&&i| i >= self.len()) {
            return Err(Error::DimensionMismatch {
                what: "observations",
                expected: self.len(),
                actual: beyond.saturating_add(1),
            });
        }
        let d = self.data_dim();
        if chosen.is_empty() {
            return Err(Error::Empty { rows: d, columns: 0 });
        }
        reshape(buffer, d, chosen.len());
        // A copy is limited by memory latency: one number counts as eight operations of
        // arithmetic, so that smaller copies are worth a second thread.
        let (work, each) = (8 * d * chosen.len(), GATHERED.div_ceil(d));
        parallel::for_each_chunk(buffer.as_mut_slice(), each * d, work, |block, piece| {
            let first = block * each;
            for (to, &from) in piece.chunks_exact_mut(d).zip(&chosen[first..]) {
                to.copy_from_slice(self.values.column(from).data.into_slice());
            }
        });
        Ok(Observations::trusted(buffer.as_view(), self.population))
    }

    /// The mean x̄ of each variable (d×1), accumulated in double precision.
    pub fn mean(&self) -> DVector<T> {
        self.wide_mean().map(T::of)
    }

    /// The mean in double precision.
    pub(crate) fn wide_mean(&self) -> DVector<f64> {
        DVector::from_vec(self.mean_and_squares(|mean| mean).0)
    }

    /// The mean, each entry rounded by `round`, and the sums of squares of the data centred on it.
    pub(crate) fn mean_and_squares(&self, round: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
        // `mean_wide` returns an error only for empty or non-finite data, which validation has
        // excluded.
        let mean = mean_wide(self.values).unwrap_or_else(|_| vec![0.0; self.data_dim()]);
        refined_mean(self.values, mean, round)
    }

    /// The variance of each variable (d×1), divisor n.
    pub fn variances(&self) -> DVector<T> {
        let (_, squares) = self.mean_and_squares(|mean| mean);
        DVector::from_iterator(
            self.data_dim(),
            squares.into_iter().map(|s| T::of(s / self.len() as f64)),
        )
    }

    /// The number of observations in a block whose copy fits in the L1 or L2 cache.
    pub(crate) fn block(&self) -> usize {
        block_columns(self.data_dim())
    }

    /// Returns the results of `f` for each block of consecutive observations, in order: for work
    /// that copies its input, of which only one block per thread is then in memory.
    ///
    /// # Errors
    /// The error of the first block that fails.
    pub(crate) fn in_blocks<V: Send>(
        &self,
        work_each: usize,
        f: impl Fn(Observations<'_, T>) -> Result<V> + Sync,
    ) -> Result<Vec<V>> {
        let (n, block) = (self.len(), self.block());
        let part = |b: usize| {
            f(Observations::trusted(self.values.columns(b * block, block.min(n - b * block)), n))
        };
        parallel::map_blocks(n.div_ceil(block), n.saturating_mul(work_each), part)
            .into_iter()
            .collect()
    }

    /// Returns an error unless the data have the dimension `expected` of a model.
    pub(crate) fn expect_dim(&self, expected: usize) -> Result<()> {
        expect_variables(expected, self.values.shape())
    }
}

/// The number of observations of d variables in a block: a copy fits in the L1 cache, or in the L2
/// cache where that would be fewer than 64 observations.
// 2¹² numbers are 32 KiB in double precision, 2¹⁵ are 256 KiB. At least 16 columns keep the product
// with a block a matrix product; at most 4096 bound the block for small d.
fn block_columns(d: usize) -> usize {
    (1usize << 12).div_ceil(d).max((1usize << 15).div_ceil(d).min(64)).clamp(16, 4096)
}

/// Whether every entry is finite and within ±limit.
fn are_within<T: Real>(values: DMatrixView<'_, T>, limit: T) -> bool {
    vectorized(
        #[inline(always)]
        || {
            values.column_iter().all(|column| {
                // One comparison per entry covers all cases: NaN and ±∞ fail it too. `&` and not
                // `&&`: without a branch the loop is vectorised.
                column.data.into_slice().iter().fold(true, |fits, v| fits & (v.abs() <= limit))
            })
        },
    )
}

/// Complete data in memory, d×n, validated or to be validated in the first pass over them.
///
/// Validation fused into the pass that maps or sums the data reads large data from memory once
/// instead of twice: with it, `transform` of 50 × 1,000,000 takes 52 ms in place of 67 on one
/// thread.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a, T: Real> {
    values: DMatrixView<'a, T>,
    population: usize,
    validated: bool,
}

impl<'a, T: Real> Dense<'a, T> {
    pub(crate) fn unvalidated(values: DMatrixView<'a, T>) -> Self {
        Self { values, population: values.ncols(), validated: false }
    }

    /// The data as validated observations.
    ///
    /// # Errors
    /// As [`Observations::new`].
    pub fn validate(self) -> Result<Observations<'a, T>> {
        if self.validated {
            Ok(Observations::trusted(self.values, self.population))
        } else {
            Observations::new(self.values)
        }
    }

    /// The values, which may not be validated yet.
    pub(crate) fn view(&self) -> DMatrixView<'a, T> {
        self.values
    }

    /// The values if they are not validated yet; the caller must then validate them.
    pub(crate) fn to_validate(self) -> Option<DMatrixView<'a, T>> {
        (!self.validated).then_some(self.values)
    }

    /// A(x_i − c) of each observation for a k×d matrix A: k×n.
    pub(crate) fn deviations_mapped(
        &self,
        centre: DVectorView<'_, T>,
        map: &DMatrix<T>,
    ) -> Result<DMatrix<T>> {
        self.deviations_to(centre, map.nrows(), |deviations, mapped| {
            gemm(T::one(), map, deviations, T::zero(), mapped)
        })
    }

    /// A(x_i − c) of each observation as [`Self::deviations_mapped`], computed in double precision
    /// and rounded at the end.
    pub(crate) fn deviations_mapped_wide(
        &self,
        centre: DVectorView<'_, T>,
        map: &DMatrix<f64>,
    ) -> Result<DMatrix<T>> {
        self.deviations_to(centre, map.nrows(), |deviations, mut mapped| {
            mapped.zip_apply(&matrix_product(map, deviations), |to, from| *to = T::of(from));
        })
    }

    /// Applies `map` to the centred data x_i − c block by block and returns its output, k×n. The
    /// centred block is in a buffer that stays in the cache; unvalidated data are validated there.
    fn deviations_to<U: Real>(
        &self,
        centre: DVectorView<'_, T>,
        k: usize,
        map: impl Fn(DMatrixView<'_, U>, DMatrixViewMut<'_, T>) + Sync,
    ) -> Result<DMatrix<T>> {
        let values = self.values;
        let (d, n) = values.shape();
        // Invalid data are reported before a wrong dimension, as for data validated beforehand.
        if values.is_empty() || d != centre.len() {
            self.validate()?;
        }
        expect_variables(centre.len(), (d, n))?;
        let (block, limit) = (block_columns(d), largest_square::<T>(d, n).sqrt());
        let refused = AtomicBool::new(false);
        let mut mapped = zeros(k, n);
        // Four chunks per thread balance the load. A chunk is a whole number of blocks.
        let work = values.len() * k;
        let pieces = if parallel::threads(work) > 1 { 4 * parallel::threads(work) } else { 1 };
        let chunk = block * n.div_ceil(pieces * block);
        parallel::for_each_chunk(mapped.as_mut_slice(), k * chunk, work, |c, part| {
            let mut deviations = AlignedVec::zeros(d * block.min(part.len() / k));
            for (b, part) in part.chunks_mut(k * block).enumerate() {
                let (first, count) = (c * chunk + b * block, part.len() / k);
                let (values, deviations) =
                    (values.columns(first, count), &mut deviations[..d * count]);
                // Only noted here: which entry is reported must not depend on the order of the
                // threads. The join at the end of the loop orders the relaxed store.
                if !self.validated && !are_within(values, limit) {
                    refused.store(true, Ordering::Relaxed);
                    return;
                }
                subtract(values, centre.as_slice(), deviations);
                map(
                    DMatrixView::from_slice(deviations, d, count),
                    DMatrixViewMut::from_slice(part, k, count),
                );
            }
        });
        // A second pass finds the first bad entry and returns its error.
        if refused.into_inner() {
            self.validate()?;
        }
        Ok(mapped)
    }
}

impl<'a, T: Real> From<Observations<'a, T>> for Dense<'a, T> {
    fn from(x: Observations<'a, T>) -> Self {
        Self { values: x.values, population: x.population, validated: true }
    }
}

/// Numbers per chunk of a parallel copy.
// 16 KiB in double precision, rounded up to whole observations.
const GATHERED: usize = 2048;

/// Returns an error for d×n data of another number of variables than a model has. It mentions the
/// orientation if n is that number, as for a table with its observations in rows.
pub(crate) fn expect_variables(expected: usize, (d, n): (usize, usize)) -> Result<()> {
    let what = if expected == n && expected != d {
        "variables of an observation (data are d×n, an observation a column: is the table transposed?)"
    } else {
        "variables of an observation"
    };
    expect(what, expected, d)
}

/// Returns an error for a size that differs from the expected one.
pub(crate) fn expect(what: &'static str, expected: usize, actual: usize) -> Result<()> {
    if expected == actual {
        Ok(())
    } else {
        Err(Error::DimensionMismatch { what, expected, actual })
    }
}

/// The square of the largest absolute value that an entry of d×n data may have.
// Entries of centred data are at most twice as large, their squares 4 times: sums over all d·n
// squares reach a quarter of the largest number.
pub(crate) fn largest_square<T: Real>(data_dim: usize, observations: usize) -> T {
    T::MAX / (T::of(16.0) * T::of_usize(data_dim) * T::of_usize(observations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntoObservations;

    #[test]
    fn names_the_place_of_what_it_refuses() {
        let mut x = DMatrix::from_element(3, 4, 1.0f64);
        x[(1, 2)] = f64::NAN;
        assert!(matches!(
            (&x).into_observations(),
            Err(Error::NotFinite { row: 1, column: 2, .. })
        ));
        x[(1, 2)] = 1e200;
        let refused = (&x).into_observations().unwrap_err();
        assert!(matches!(refused, Error::TooLarge { row: 1, column: 2, .. }), "{refused}");
        assert!(matches!(
            (&DMatrix::<f32>::zeros(0, 3)).into_observations(),
            Err(Error::Empty { rows: 0, columns: 3 })
        ));
        assert!(Observations::from_rows(&[1.0, 2.0], 2, 2).is_err());
        assert!(Observations::<f64>::from_rows(&[], usize::MAX, 2).is_err());
    }

    fn joined_check_refuses_what_the_first_one_does<T: Real>() {
        let (mut x, map) = (
            DMatrix::from_fn(3, 5000, |i, j| T::of_usize((i * 7 + j) % 11)),
            DMatrix::from_element(2, 3, T::one()),
        );
        let centre = DVector::from_element(3, T::of(2.0));
        let of = |x: &DMatrix<T>| {
            Dense::unvalidated(x.as_view()).deviations_mapped(centre.as_view(), &map)
        };
        let checked = Dense::from((&x).into_observations().unwrap())
            .deviations_mapped(centre.as_view(), &map);
        assert_eq!(of(&x), checked);
        assert_eq!(
            of(&x.rows(0, 2).into_owned()).unwrap_err(),
            Error::DimensionMismatch {
                what: "variables of an observation",
                expected: 3,
                actual: 2
            }
        );
        assert_eq!(of(&DMatrix::zeros(3, 0)).unwrap_err(), Error::Empty { rows: 3, columns: 0 });
        for bad in [T::one() / T::zero(), T::zero() / T::zero(), T::MAX] {
            x[(1, 4321)] = bad;
            // NaN is not equal to itself: the errors are compared as text.
            let (joined, first) = (of(&x).unwrap_err(), (&x).into_observations().unwrap_err());
            assert_eq!(joined.to_string(), first.to_string());
            let short = x.rows(0, 2).into_owned();
            assert_eq!(
                of(&short).unwrap_err().to_string(),
                (&short).into_observations().unwrap_err().to_string()
            );
        }
    }

    #[test]
    fn a_check_that_joins_a_pass() {
        joined_check_refuses_what_the_first_one_does::<f64>();
        joined_check_refuses_what_the_first_one_does::<f32>();
    }

    #[test]
    fn mean_keeps_its_digits_beside_a_large_offset() {
        let x = DMatrix::from_fn(1, 1000, |_, j| 1e8 + (j % 10) as f64 * 0.1);
        let x = (&x).into_observations().unwrap();
        assert!((x.mean()[0] - (1e8 + 0.45)).abs() < 2e-8);
        assert!((x.variances()[0] - 0.0825).abs() < 1e-7);
        let y = DMatrix::from_fn(1, 1_000, |_, j| 1000.0f32 + (j % 10) as f32);
        assert_eq!((&y).into_observations().unwrap().mean()[0], 1004.5);
    }
}

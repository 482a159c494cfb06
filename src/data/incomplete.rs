//! Incomplete data, a type of its own: a call that needs complete data does not compile with it.

use super::{Observations, expect, expect_variables, largest_square};
use crate::linalg::{parallel::map_blocks, vector::vectorized};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView};

/// A validated view of incomplete data: d×n, one observation per column; missing values are NaN, or
/// given by a mask.
///
/// Every observed entry is finite and small enough that sums of squares do not overflow. An
/// observation without an observed entry is valid: it has likelihood 1, and its posterior is the
/// prior.
///
/// ```
/// use elbo::data::IncompleteObservations;
/// use nalgebra::dmatrix;
/// let table = dmatrix![1.0, f64::NAN, 3.0; 4.0, f64::NAN, f64::NAN];
/// let x = IncompleteObservations::new(table.as_view())?;
/// assert_eq!((x.data_dim(), x.len(), x.missing()), (2, 3, 3));
/// assert_eq!(x.observed_of_variables(), [2, 1]);
/// assert_eq!(x.without_entries(), 1); // the second observation
/// assert_eq!(x.get(1, 2), None);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// A fit to incomplete data draws random numbers, so that `Ppca::fit`, which takes no generator,
/// does not compile with them:
///
/// ```compile_fail
/// use elbo::{Ppca, data::IncompleteObservations};
/// let table = nalgebra::dmatrix![1.0, f64::NAN, 3.0; 4.0, 5.0, 7.0];
/// let x = IncompleteObservations::new(table.as_view())?;
/// Ppca::fit(1, x)?; // use `Ppca::builder(1).fit(x, rng)`
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct IncompleteObservations<'a, T: Real> {
    values: DMatrixView<'a, T>,
    observed: Option<&'a DMatrix<bool>>,
    missing: usize,
}

impl<'a, T: Real> IncompleteObservations<'a, T> {
    /// Validates a d×n view in which NaN marks a missing value.
    ///
    /// # Errors
    /// [`Error::Empty`] without a row or a column, [`Error::NotFinite`] for ±∞, [`Error::TooLarge`]
    /// where the sum of squares could overflow; the last two contain the row (variable) and the
    /// column (observation), counted from 0.
    pub fn new(values: DMatrixView<'a, T>) -> Result<Self> {
        Self { values, observed: None, missing: 0 }.checked()
    }

    /// Validates a d×n view with a mask of its observed entries. The values of entries whose mask
    /// is false are not read.
    ///
    /// ```
    /// use elbo::data::IncompleteObservations;
    /// use nalgebra::dmatrix;
    /// let (table, observed) = (dmatrix![1.0, -99.0; 4.0, 5.0], dmatrix![true, false; true, true]);
    /// assert_eq!(IncompleteObservations::with_mask(table.as_view(), &observed)?.missing(), 1);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for a mask of another shape, [`Error::NotFinite`] where an
    /// observed entry is NaN; else as [`Self::new`].
    pub fn with_mask(values: DMatrixView<'a, T>, observed: &'a DMatrix<bool>) -> Result<Self> {
        expect("rows of the mask", values.nrows(), observed.nrows())?;
        expect("columns of the mask", values.ncols(), observed.ncols())?;
        Self { values, observed: Some(observed), missing: 0 }.checked()
    }

    /// The number of NaN entries; `None` if an entry is infinite or beyond ±limit.
    fn holes_within(&self, limit: T) -> Option<usize> {
        let (rows, columns) = self.values.shape();
        // Blocks of about 2¹⁶ entries, as for complete data, each counted without a branch.
        let block = (1usize << 16).div_ceil(rows);
        let holes = map_blocks(columns.div_ceil(block), rows.saturating_mul(columns), |b| {
            let block = b * block..columns.min((b + 1) * block);
            let (mut within, mut beyond) = (0, false);
            vectorized(
                #[inline(always)]
                || {
                    for column in block.clone() {
                        for value in self.values.column(column).data.into_slice() {
                            // NaN is neither within nor beyond: both comparisons are false.
                            within += usize::from(value.abs() <= limit);
                            beyond |= value.abs() > limit;
                        }
                    }
                },
            );
            (!beyond).then_some(rows * block.len() - within)
        });
        holes.into_iter().sum()
    }

    /// Validates the observed entries and counts the missing ones.
    fn checked(mut self) -> Result<Self> {
        let (rows, columns) = self.values.shape();
        if rows == 0 || columns == 0 {
            return Err(Error::Empty { rows, columns });
        }
        let limit = largest_square::<T>(rows, columns).sqrt();
        if self.observed.is_none()
            && let Some(missing) = self.holes_within(limit)
        {
            self.missing = missing;
            return Ok(self);
        }
        // With a mask, or to find the entry that an error reports.
        for (column, observation) in self.values.column_iter().enumerate() {
            let mask = self.observed.map(|observed| observed.column(column));
            for (row, &value) in observation.iter().enumerate() {
                if mask.as_ref().map_or(value.as_f64().is_nan(), |mask| !mask[row]) {
                    self.missing += 1;
                } else if value.abs().partial_cmp(&limit).is_none_or(|order| order.is_gt()) {
                    let value = value.as_f64();
                    return Err(if value.is_finite() {
                        Error::TooLarge { row, column, value, limit: limit.as_f64() }
                    } else {
                        Error::NotFinite { row, column, value }
                    });
                }
            }
        }
        Ok(self)
    }

    /// The entry of variable `row` of observation `column`; `None` if it is missing.
    ///
    /// # Panics
    /// Outside the shape.
    pub fn get(&self, row: usize, column: usize) -> Option<T> {
        let value = self.values[(row, column)];
        let missing = self.observed.map_or(value.as_f64().is_nan(), |mask| !mask[(row, column)]);
        (!missing).then_some(value)
    }

    /// Copies one observation in double precision, with NaN for missing values.
    #[inline]
    pub(crate) fn column_into(&self, column: usize, out: &mut [f64]) {
        let values = self.values.column(column);
        let values = values.as_slice();
        vectorized(
            #[inline(always)]
            || {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = value.as_f64();
                }
            },
        );
        // A second loop: the conversion above is vectorised, and most data have no mask.
        if let Some(mask) = self.observed {
            for (out, &observed) in out.iter_mut().zip(mask.column(column).iter()) {
                if !observed {
                    *out = f64::NAN;
                }
            }
        }
    }

    /// Writes x − μ of one observation, 0 for missing values, and the mask of its observed entries
    /// (1 or 0).
    #[inline]
    pub(crate) fn deviations_into(
        &self,
        column: usize,
        mean: &[f64],
        out: &mut [f64],
        observed: Option<&mut [f64]>,
    ) {
        // Without a mask the deviations are computed from the data at once, without a copy.
        if self.observed.is_some() {
            self.column_into(column, out);
            deviations(None::<&[T]>, mean, out, observed);
        } else {
            deviations(Some(self.values.column(column).as_slice()), mean, out, observed);
        }
    }

    /// A copy of the values with NaN for every missing entry.
    pub(crate) fn marked(&self) -> DMatrix<T> {
        let missing = T::of(f64::NAN);
        DMatrix::from_fn(self.data_dim(), self.len(), |row, column| {
            self.get(row, column).unwrap_or(missing)
        })
    }

    /// The number d of variables.
    pub fn data_dim(&self) -> usize {
        self.values.nrows()
    }

    /// The number n of observations.
    #[allow(clippy::len_without_is_empty)] // never empty, by construction
    pub fn len(&self) -> usize {
        self.values.ncols()
    }

    /// The number of missing entries.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// The number of observed entries.
    pub fn observed(&self) -> usize {
        self.data_dim() * self.len() - self.missing
    }

    /// The number of observed entries of each variable.
    pub fn observed_of_variables(&self) -> Vec<usize> {
        let mut counts = vec![0; self.data_dim()];
        for column in 0..self.len() {
            for (row, count) in counts.iter_mut().enumerate() {
                *count += usize::from(self.get(row, column).is_some());
            }
        }
        counts
    }

    /// The number of observations without an observed entry.
    pub fn without_entries(&self) -> usize {
        (0..self.len())
            .filter(|&column| (0..self.data_dim()).all(|row| self.get(row, column).is_none()))
            .count()
    }

    /// The data as complete [`Observations`], if no value is missing.
    pub fn complete(&self) -> Option<Observations<'a, T>> {
        // Without missing values the mask is true everywhere, and every entry has been validated.
        (self.missing == 0).then(|| Observations::trusted(self.values, self.values.ncols()))
    }

    /// Returns an error unless the data have the dimension `expected` of a model.
    pub(crate) fn expect_dim(&self, expected: usize) -> Result<()> {
        expect_variables(expected, (self.data_dim(), self.len()))
    }
}

/// Writes x − μ to `out`, 0 for NaN, and the mask of observed entries; x is `values`, or the
/// contents of `out`.
// Two loops for each case, over slices whose lengths are those of the zipped iterators: both are
// vectorised.
fn deviations<T: Real>(
    values: Option<&[T]>,
    mean: &[f64],
    out: &mut [f64],
    observed: Option<&mut [f64]>,
) {
    vectorized(
        #[inline(always)]
        || match values {
            Some(values) => {
                if let Some(observed) = observed {
                    for (observed, value) in observed.iter_mut().zip(values) {
                        *observed = if value.as_f64().is_nan() { 0.0 } else { 1.0 };
                    }
                }
                for ((out, value), mean) in out.iter_mut().zip(values).zip(mean) {
                    let value = value.as_f64();
                    *out = if value.is_nan() { 0.0 } else { value - mean };
                }
            }
            None => {
                if let Some(observed) = observed {
                    for (observed, value) in observed.iter_mut().zip(out.iter()) {
                        *observed = if value.is_nan() { 0.0 } else { 1.0 };
                    }
                }
                for (out, mean) in out.iter_mut().zip(mean) {
                    *out = if out.is_nan() { 0.0 } else { *out - mean };
                }
            }
        },
    );
}

/// Types that convert to [`IncompleteObservations`]: a matrix by reference or a view (NaN is
/// missing), [`Observations`], and `IncompleteObservations`.
pub trait IntoIncompleteObservations<'a, T: Real> {
    /// Validates the data, unless they are validated already.
    ///
    /// # Errors
    /// As [`IncompleteObservations::new`].
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>>;
}

impl<'a, T: Real> IntoIncompleteObservations<'a, T> for IncompleteObservations<'a, T> {
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>> {
        Ok(self)
    }
}

impl<'a, T: Real> IntoIncompleteObservations<'a, T> for &IncompleteObservations<'a, T> {
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>> {
        Ok(*self)
    }
}

impl<'a, T: Real> IntoIncompleteObservations<'a, T> for Observations<'a, T> {
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>> {
        Ok(IncompleteObservations { values: self.values(), observed: None, missing: 0 })
    }
}

impl<'a, T: Real> IntoIncompleteObservations<'a, T> for &'a DMatrix<T> {
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>> {
        IncompleteObservations::new(self.as_view())
    }
}

impl<'a, T: Real> IntoIncompleteObservations<'a, T> for DMatrixView<'a, T> {
    fn into_incomplete(self) -> Result<IncompleteObservations<'a, T>> {
        IncompleteObservations::new(self)
    }
}

//! Sparse observations: a view of a matrix in compressed columns, which is never made dense.
//!
//! Legend: x_i an observation with few entries, V (d×b) directions, y_i = Vᵗ(x_i − μ).

use super::{Centering, expect};
use crate::linalg::parallel::map_blocks;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Number of blocks of observations in [`SparseObservations::scatter_product`]. Each accumulates a
/// d×b matrix, so that few blocks save memory. The number is fixed, and not that of the threads, so
/// that results are bit-identical for any number of threads.
const BLOCKS: usize = 4;

/// View of a sparse d×n matrix in compressed sparse columns (CSC), one observation per **column**;
/// validated once.
///
/// Compressed sparse rows (CSR) of n×d, one observation per row, as in scikit-learn and text
/// vectorisers, have the same memory layout. Stored zeros are allowed. With the feature `sparse`,
/// the matrices of nalgebra-sparse are viewed without a copy.
///
/// ```
/// use elbo::{Ppca, data::SparseObservations};
/// // Four documents over three words: how often each word occurs in each document.
/// let (offsets, words, counts) =
///     ([0, 2, 3, 5, 7], [0, 2, 1, 0, 1, 1, 2], [2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 2.0]);
/// let x = SparseObservations::from_csc(3, 4, &offsets, &words, &counts)?;
/// let model = Ppca::<f64>::fit(1, x)?.model;
/// let dense = Ppca::fit(1, &x.to_dense())?.model;
/// let scores = model.log_likelihood(x)?;
/// assert!((scores - dense.log_likelihood(&x.to_dense())?).amax() < 1e-10);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SparseObservations<'a, T: Real> {
    data_dim: usize,
    offsets: &'a [usize],
    rows: &'a [usize],
    values: &'a [T],
}

impl<'a, T: Real> SparseObservations<'a, T> {
    /// Creates a view of compressed columns and validates it. The entries of observation i are
    /// those from `offsets[i]` to `offsets[i + 1]`; `rows` holds the variable of each entry.
    ///
    /// # Errors
    /// [`Error::Empty`] without a variable or an observation; [`Error::DimensionMismatch`] for a
    /// wrong number of offsets or rows; [`Error::SparseOffsets`]; [`Error::SparseRow`];
    /// [`Error::SparseOrder`] if the rows of an observation do not increase (duplicates are not
    /// summed); [`Error::NotFinite`] and [`Error::TooLarge`], with the variable and the
    /// observation.
    pub fn from_csc(
        data_dim: usize,
        observations: usize,
        offsets: &'a [usize],
        rows: &'a [usize],
        values: &'a [T],
    ) -> Result<Self> {
        if data_dim == 0 || observations == 0 {
            return Err(Error::Empty { rows: data_dim, columns: observations });
        }
        expect("offsets of a sparse table", observations.saturating_add(1), offsets.len())?;
        expect("rows of a sparse table, one an entry", values.len(), rows.len())?;
        let entries = values.len();
        // As for dense data: the squares of all entries can be summed without overflow. Centring at
        // most doubles an entry, which quadruples its square; 16 leaves another factor of 4.
        let limit =
            (T::MAX / (T::of(16.0) * T::of_usize(data_dim) * T::of_usize(observations))).sqrt();
        for (column, bounds) in offsets.windows(2).enumerate() {
            let (start, end) = (bounds[0], bounds[1]);
            // Offsets must rise from 0 to the number of entries. Each is checked before it is used
            // as an index, so that forged offsets give an error and no panic.
            let first = column == 0 && start != 0;
            let last = column + 1 == observations && end != entries;
            if start > end || end > entries || first || last {
                return Err(Error::SparseOffsets { column, start, end, entries });
            }
            let mut before = None;
            for (&row, &value) in rows[start..end].iter().zip(&values[start..end]) {
                if row >= data_dim {
                    return Err(Error::SparseRow { row, column, rows: data_dim });
                }
                if let Some(before) = before.filter(|&before| before >= row) {
                    return Err(Error::SparseOrder { row, before, column });
                }
                before = Some(row);
                if !value.is_finite() {
                    return Err(Error::NotFinite { row, column, value: value.as_f64() });
                }
                if value.abs() > limit {
                    return Err(Error::TooLarge {
                        row,
                        column,
                        value: value.as_f64(),
                        limit: limit.as_f64(),
                    });
                }
            }
        }
        Ok(Self { data_dim, offsets, rows, values })
    }

    /// Creates a view of a CSC matrix (d×n) of nalgebra-sparse, without a copy.
    ///
    /// ```
    /// use elbo::data::SparseObservations;
    /// use nalgebra_sparse::CscMatrix;
    /// let matrix = CscMatrix::from(&nalgebra::dmatrix![1.0, 0.0, 2.0; 0.0, 0.0, 3.0]);
    /// assert_eq!(SparseObservations::from_csc_matrix(&matrix)?.entries(), 3);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Self::from_csc`].
    #[cfg(feature = "sparse")]
    pub fn from_csc_matrix(matrix: &'a nalgebra_sparse::CscMatrix<T>) -> Result<Self> {
        Self::from_csc(
            matrix.nrows(),
            matrix.ncols(),
            matrix.col_offsets(),
            matrix.row_indices(),
            matrix.values(),
        )
    }

    /// Creates a view of a CSR matrix of nalgebra-sparse with one observation per **row** (n×d),
    /// without a copy: its arrays are those of the d×n matrix in compressed columns.
    ///
    /// ```
    /// use elbo::data::SparseObservations;
    /// use nalgebra_sparse::CsrMatrix;
    /// let documents = CsrMatrix::from(&nalgebra::dmatrix![1.0, 0.0, 2.0; 0.0, 0.0, 3.0]);
    /// let x = SparseObservations::from_csr_rows(&documents)?;
    /// assert_eq!((x.len(), x.data_dim()), (2, 3));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Self::from_csc`].
    #[cfg(feature = "sparse")]
    pub fn from_csr_rows(matrix: &'a nalgebra_sparse::CsrMatrix<T>) -> Result<Self> {
        Self::from_csc(
            matrix.ncols(),
            matrix.nrows(),
            matrix.row_offsets(),
            matrix.col_indices(),
            matrix.values(),
        )
    }

    /// Returns the number d of variables.
    pub fn data_dim(&self) -> usize {
        self.data_dim
    }

    /// Returns the number n of observations.
    #[allow(clippy::len_without_is_empty)] // never empty, by construction
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the number of stored entries.
    pub fn entries(&self) -> usize {
        self.values.len()
    }

    /// Returns a dense copy, d×n.
    pub fn to_dense(&self) -> DMatrix<T> {
        let mut dense = DMatrix::zeros(self.data_dim, self.len());
        for i in 0..self.len() {
            self.observation(i).for_each(|(row, value)| dense[(row, i)] = value);
        }
        dense
    }

    /// Returns the stored entries of observation i, as (variable, value).
    pub(crate) fn observation(&self, i: usize) -> impl Iterator<Item = (usize, T)> + '_ {
        let entries = self.offsets[i]..self.offsets[i + 1];
        self.rows[entries.clone()].iter().copied().zip(self.values[entries].iter().copied())
    }

    /// Returns μ, rounded to the precision of the data.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] for a single observation about an estimated mean.
    pub(crate) fn centre(&self, mean: Centering) -> Result<DVector<f64>> {
        let mut centre = DVector::zeros(self.data_dim);
        if mean == Centering::None {
            return Ok(centre);
        }
        if self.len() < 2 {
            return Err(Error::TooFewObservations { actual: self.len(), least: 2 });
        }
        for (&row, value) in self.rows.iter().zip(self.values) {
            centre[row] += value.as_f64();
        }
        centre /= self.len() as f64;
        // The mean of the residuals, which corrects the rounding error of the first sum. Entries
        // that are not stored have the residual −mean.
        let mut rest = DVector::<f64>::zeros(self.data_dim);
        let mut stored = vec![0usize; self.data_dim];
        for (&row, value) in self.rows.iter().zip(self.values) {
            rest[row] += value.as_f64() - centre[row];
            stored[row] += 1;
        }
        for ((rest, mean), stored) in rest.iter_mut().zip(centre.iter()).zip(&stored) {
            *rest -= mean * (self.len() - stored) as f64;
        }
        centre += rest / self.len() as f64;
        // Rounded to the precision of the data, in which models store it.
        Ok(centre.map(|m| T::of(m).as_f64()))
    }

    /// Returns Σ‖x_i − μ‖² as a sum of squares, without cancellation: (x_ji − μ_j)² for each stored
    /// entry, μ_j² for each other.
    pub(crate) fn squared_deviations(&self, mean: &DVector<f64>) -> f64 {
        let mut stored = vec![0usize; self.data_dim];
        let mut sum = 0.0;
        for (&row, value) in self.rows.iter().zip(self.values) {
            stored[row] += 1;
            sum += (value.as_f64() - mean[row]).powi(2);
        }
        sum + mean
            .iter()
            .zip(&stored)
            .map(|(m, &stored)| m * m * (self.len() - stored) as f64)
            .sum::<f64>()
    }

    /// Folds `f(accumulator, i, y_i, ‖x_i − μ‖²)` over the observations of each block, in parallel;
    /// returns the accumulators in the order of the blocks. `directions` is Vᵗ, b×d.
    fn projected<R: Send>(
        &self,
        directions: &DMatrix<f64>,
        mean: &DVector<f64>,
        blocks: usize,
        start: impl Fn() -> R + Sync,
        f: impl Fn(&mut R, usize, &DVector<f64>, f64) + Sync,
    ) -> Vec<R> {
        let (n, b) = (self.len(), directions.nrows());
        // y_i = Vᵗx_i − Vᵗμ and ‖x_i − μ‖² = ‖μ‖² + Σ x_ji(x_ji − 2μ_j): only stored entries are
        // visited. Each needs row j of V, which is contiguous in Vᵗ.
        let offset = directions * mean;
        let mean_square = mean.norm_squared();
        let size = n.div_ceil(blocks);
        map_blocks(n.div_ceil(size), self.entries().saturating_mul(b), |block| {
            let mut own = start();
            let mut y = DVector::zeros(b);
            for i in block * size..n.min((block + 1) * size) {
                y.copy_from(&offset);
                y.neg_mut();
                let mut square = mean_square;
                for (row, value) in self.observation(i) {
                    let value = value.as_f64();
                    y.axpy(value, &directions.column(row), 1.0);
                    square += value * (value - 2.0 * mean[row]);
                }
                // Cancellation may leave a small negative number where x_i is close to μ.
                f(&mut own, i, &y, square.max(0.0));
            }
            own
        })
    }

    /// Returns n·S·V = Σ (x_i − μ) y_iᵗ, d×b.
    ///
    /// It is Σ x_i y_iᵗ − μ (Σ y_i)ᵗ with centred y_i: the correction is small, because Σ y_i is 0
    /// up to rounding, whereas XXᵗV − n μμᵗV would suffer cancellation.
    pub(crate) fn scatter_product(
        &self,
        v: DMatrixView<'_, f64>,
        mean: &DVector<f64>,
    ) -> DMatrix<f64> {
        let (d, b) = v.shape();
        let start = || (DMatrix::<f64>::zeros(b, d), DVector::<f64>::zeros(b));
        let parts =
            self.projected(&v.transpose(), mean, BLOCKS, start, |(product, sum), i, y, _| {
                for (row, value) in self.observation(i) {
                    product.column_mut(row).axpy(value.as_f64(), y, 1.0);
                }
                *sum += y;
            });
        // Reduced in the order of the blocks, so that the sum does not depend on the threads.
        let added = parts.into_iter().reduce(|(a, s), (b, t)| (a + b, s + t));
        let (product, sum) = added.unwrap_or_else(start);
        let mut product = product.transpose();
        product.ger(-1.0, mean, &sum, 1.0);
        product
    }

    /// Returns the coordinates Qᵗ(x_i − μ), k×n, and ‖x_i − μ‖² for each observation.
    pub(crate) fn projections(
        &self,
        directions: &DMatrix<f64>,
        mean: &DVector<f64>,
    ) -> (DMatrix<f64>, Vec<f64>) {
        let k = directions.ncols();
        // 16 blocks and not `BLOCKS`: they hold no d×b matrix, so that more of them cost no memory
        // and balance the threads better.
        let parts = self.projected(
            &directions.transpose(),
            mean,
            16,
            || (Vec::new(), Vec::new()),
            |(codes, squares), _, y, square| {
                codes.extend_from_slice(y.as_slice());
                squares.push(square);
            },
        );
        let (codes, squares): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (DMatrix::from_vec(k, self.len(), codes.concat()), squares.concat())
    }
}

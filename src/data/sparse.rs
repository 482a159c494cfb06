//! Observations most of whose entries are 0, read where they are and never made dense.
//!
//! Legend: x_i an observation with few entries, V (d×b) some directions, y_i = Vᵗ(x_i − μ).

use super::{Centering, expect};
use crate::linalg::parallel::map_blocks;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Blocks of observations whose products are summed apart, each in a d×b matrix of its own.
const BLOCKS: usize = 4;

/// A view of a sparse d×n table in compressed columns, one observation a **column**; checked once.
///
/// Compressed rows of n×d, one observation a row (what text tools and scikit-learn hold), are the
/// same memory. A stored 0 is allowed. With the feature `sparse`, the matrices of nalgebra-sparse
/// are read without a copy.
///
/// ```
/// use elbo::{Ppca, data::SparseObservations};
/// // Four documents over three words: how often each word stands in each.
/// let (offsets, words, counts) =
///     ([0, 2, 3, 5, 7], [0, 2, 1, 0, 1, 1, 2], [2.0, 1.0, 1.0, 1.0, 3.0, 1.0, 2.0]);
/// let x = SparseObservations::from_csc(3, 4, &offsets, &words, &counts)?;
/// let model = Ppca::<f64>::builder(1).fit_sparse(x)?;
/// let dense = Ppca::fit(1, &x.to_dense())?;
/// assert!(
///     (model.log_likelihood_sparse(x)? - dense.log_likelihood(&x.to_dense())?).amax()
///         < 1e-10
/// );
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
    /// Checks a table in compressed columns: the entries of observation i are those from
    /// `offsets[i]` to `offsets[i + 1]`.
    ///
    /// # Errors
    /// [`Error::Empty`] without a variable or an observation; [`Error::DimensionMismatch`] for a
    /// wrong number of offsets or rows; [`Error::SparseOffsets`], [`Error::SparseRow`] and
    /// [`Error::SparseOrder`] (rows of an observation that do not rise: duplicates are not summed);
    /// [`Error::NotFinite`] and [`Error::TooLarge`], which name variable and observation.
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
        let limit =
            (T::MAX / (T::of(16.0) * T::of_usize(data_dim) * T::of_usize(observations))).sqrt();
        for (column, bounds) in offsets.windows(2).enumerate() {
            let (start, end) = (bounds[0], bounds[1]);
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

    /// A matrix of nalgebra-sparse, d×n in compressed columns.
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

    /// A matrix of nalgebra-sparse with an observation a **row**, n×d in compressed rows: the same
    /// memory.
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

    /// d.
    pub fn data_dim(&self) -> usize {
        self.data_dim
    }

    /// n.
    #[allow(clippy::len_without_is_empty)] // never empty, by construction
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of stored entries.
    pub fn entries(&self) -> usize {
        self.values.len()
    }

    /// The same table with every 0 written out, d×n.
    pub fn to_dense(&self) -> DMatrix<T> {
        let mut dense = DMatrix::zeros(self.data_dim, self.len());
        for i in 0..self.len() {
            self.observation(i).for_each(|(row, value)| dense[(row, i)] = value);
        }
        dense
    }

    fn observation(&self, i: usize) -> impl Iterator<Item = (usize, T)> + '_ {
        let entries = self.offsets[i]..self.offsets[i + 1];
        self.rows[entries.clone()].iter().copied().zip(self.values[entries].iter().copied())
    }

    /// μ; refuses a single observation about its own mean.
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
        // What the first sum rounded away, zeros included.
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
        // In the precision of the data, in which models hold it.
        Ok(centre.map(|m| T::of(m).as_f64()))
    }

    /// Σ‖x_i − μ‖², by squares alone: entries stored and zeros apart.
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

    /// Calls `f(block, i, y_i, ‖x_i − μ‖²)` for each observation, and keeps what the blocks make; V
    /// is given transposed, b×d.
    fn projected<R: Send>(
        &self,
        directions: &DMatrix<f64>,
        mean: &DVector<f64>,
        blocks: usize,
        start: impl Fn() -> R + Sync,
        f: impl Fn(&mut R, usize, &DVector<f64>, f64) + Sync,
    ) -> Vec<R> {
        let (n, b) = (self.len(), directions.nrows());
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
                f(&mut own, i, &y, square.max(0.0));
            }
            own
        })
    }

    /// Σ (x_i − μ) y_iᵗ, d×b: the product S·V times n, with centred y, so that a mean cancels out
    /// of nothing but itself.
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
        let added = parts.into_iter().reduce(|(a, s), (b, t)| (a + b, s + t));
        let (product, sum) = added.unwrap_or_else(start);
        let mut product = product.transpose();
        product.ger(-1.0, mean, &sum, 1.0);
        product
    }

    /// Qᵗ(x_i − μ), k×n, and ‖x_i − μ‖² for each observation.
    pub(crate) fn projections(
        &self,
        directions: &DMatrix<f64>,
        mean: &DVector<f64>,
    ) -> (DMatrix<f64>, Vec<f64>) {
        let k = directions.ncols();
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

//! Mergeable sufficient statistics: the mean and a square-root factor of the scatter matrix.
//!
//! | file | contents |
//! |---|---|
//! | `covariance` | moments from a mean and a covariance that someone else computed |
//! | `flat` | the flat form of numbers, by which moments are written and read |
//!
//! Legend: x̄ the mean, R (d×r) a square-root factor of the scatter matrix, RRᵗ =
//! Σ w_i (x_i−x̄)(x_i−x̄)ᵗ, w the sum of the weights.

mod covariance;
mod flat;

use super::{Centering, ScatterFactor, Source, expect};
use crate::linalg::{cholesky_lower, product_tr_right, r_factor, scatter_f64};
use crate::{Error, IntoObservations, Observations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Sufficient statistics of linear-Gaussian fits, accumulated over chunks of data that need not be
/// kept: count, weight, mean and scatter matrix.
///
/// Two of them [merge](Self::merge) into the statistics of all their data, in any order and for any
/// partition into chunks, up to rounding.
///
/// The scatter matrix Σ(x−x̄)(x−x̄)ᵗ is stored as a square-root factor R, whose condition number is
/// the square root of that of the scatter matrix: R keeps twice the digits, so that standard
/// deviations ten orders of magnitude apart remain accurate. A merge appends to R the columns of
/// the other factor and √(w_a w_b/w)(x̄_b−x̄_a) (Chan, Golub & LeVeque[^1]); QR then compresses R
/// to d columns. All sums are in double precision, also for `f32` data. Memory: O(d²) and one
/// block, or O(nd) while n < d: no d×d matrix is formed of fewer observations than variables.
///
/// **Accuracy of merges.** The same blocks merged by the same tree give bit-identical results. Two
/// trees of m blocks differ in the mean by at most mε|x̄| (ε = 2⁻⁵²; √m ε|x̄| is typical), and in a
/// variance s² by a relative c·ε·m + (mεx̄/s)² at most, with c of the order of d: digits are lost
/// only where the standard deviation is within mε of the mean.
///
/// **Elsewhere computed.** [`Self::to_values`] and [`Self::from_values`] write and read moments as
/// numbers, for any file or message format; with the feature `serde` they implement `Serialize` and
/// `Deserialize`. [`Self::from_covariance`] takes a published mean and covariance with its count.
///
/// ```
/// use elbo::{Ppca, data::Moments};
/// let x = nalgebra::dmatrix![
///     1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.8;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1];
/// let (mut first, mut second) = (Moments::new(3), Moments::new(3));
/// first.update(x.columns(0, 5))?; // in one place
/// second.update(x.columns(5, 3))?; // in another
/// first.merge(&second)?;
/// let streamed = Ppca::<f64>::fit(1, &first)?.model;
/// let whole = Ppca::fit(1, &x)?.model;
/// assert!((streamed.loadings() - whole.loadings()).norm() < 1e-12);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// [^1]: T. F. Chan, G. H. Golub and R. J. LeVeque, Algorithms for computing the sample variance,
/// The American Statistician 37 (1983), equation 2.1b.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    mean: DVector<f64>,
    root: DMatrix<f64>,
    weight: f64,
    count: usize,
}

impl Moments {
    /// Creates the statistics of no observations, of d variables.
    pub fn new(data_dim: usize) -> Self {
        Self {
            mean: DVector::zeros(data_dim),
            root: DMatrix::zeros(data_dim, 0),
            weight: 0.0,
            count: 0,
        }
    }

    /// Computes the statistics of some observations.
    ///
    /// # Errors
    /// Those of [`Self::update`].
    pub fn of<'a, T: Real>(x: impl IntoObservations<'a, T>) -> Result<Self> {
        let x = x.into_observations()?;
        let mut moments = Self::new(x.data_dim());
        moments.update(x)?;
        Ok(moments)
    }

    /// Computes the statistics of all observations of a source, in one pass.
    pub(crate) fn of_source<T: Real>(source: &mut dyn Source<T>) -> Result<Self> {
        let mut moments = Self::new(source.data_dim());
        source.pass(&mut |x| moments.update(x))?;
        Ok(moments)
    }

    /// Adds observations, each with weight 1. A mini-batch counts the observations it contains, not
    /// the [population](Observations::population) that it was sampled from.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::DimensionMismatch`] for another number of
    /// variables; [`Error::NotFinite`] when a sum overflows. An error leaves the statistics
    /// unchanged.
    pub fn update<'a, T: Real>(&mut self, x: impl IntoObservations<'a, T>) -> Result<()> {
        self.take(x.into_observations()?, None)
    }

    /// Adds observations with a weight w_i ≥ 0 each. For mean and covariance, a weight of 2 is
    /// equivalent to adding the observation twice, and a weight of 0 to leaving it out.
    ///
    /// ```
    /// use elbo::data::Moments;
    /// use nalgebra::dmatrix;
    /// let mut weighted = Moments::new(1);
    /// weighted.update_weighted(&dmatrix![1.0, 4.0], &[2.0, 1.0])?;
    /// assert_eq!((weighted.weight(), weighted.mean()[0]), (3.0, 2.0));
    /// assert!((weighted.covariance()[(0, 0)] - 2.0).abs() < 1e-14);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::update`]; [`Error::InvalidWeight`] for a weight that is negative or not
    /// finite; [`Error::DimensionMismatch`] for another number of weights.
    pub fn update_weighted<'a, T: Real>(
        &mut self,
        x: impl IntoObservations<'a, T>,
        weights: &[T],
    ) -> Result<()> {
        let x = x.into_observations()?;
        expect("weights", x.len(), weights.len())?;
        let good = |w: &T| w.is_finite() && *w >= T::zero();
        if let Some(observation) = weights.iter().position(|w| !good(w)) {
            return Err(Error::InvalidWeight { observation, value: weights[observation].as_f64() });
        }
        self.take(x, Some(weights))
    }

    /// Adds the statistics of other observations.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for another number of variables, [`Error::NotFinite`] when a
    /// sum overflows, [`Error::InvalidParameter`] when the count does. An error leaves the
    /// statistics unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        expect("variables of an observation", self.data_dim(), other.data_dim())?;
        // `absorb` may fail after it has changed its target: it runs on a copy.
        let mut both = self.clone();
        both.absorb(other)?;
        *self = both;
        Ok(())
    }

    /// Adds observations block by block; `self` is unchanged after an error.
    fn take<T: Real>(&mut self, x: Observations<'_, T>, weights: Option<&[T]>) -> Result<()> {
        x.expect_dim(self.data_dim())?;
        let (d, n) = (x.data_dim(), x.len());
        // Block size: 4d observations amortise the factorisation of a block, and their centred copy
        // takes 4d² numbers, about as many as R. For small d, 2¹⁶ entries (512 KiB).
        let (values, block) = (x.values(), (4 * d).max((1 << 16) / d));
        // Several blocks are added to a copy, so that an error in a later one leaves `self` as it
        // was. A single block is computed on its own; `merge` then makes the copy.
        let mut all = if n > block { self.clone() } else { Self::new(d) };
        for first in (0..n).step_by(block) {
            let count = block.min(n - first);
            let part = Observations::trusted(values.columns(first, count), count);
            if let Some(part) = Self::of_block(part, weights.map(|w| &w[first..first + count]))? {
                all.absorb(&part)?;
            }
        }
        if n <= block {
            return if all.count == 0 { Ok(()) } else { self.merge(&all) };
        }
        *self = all;
        Ok(())
    }

    /// Computes the statistics of one block; `None` if all of its weights are 0.
    fn of_block<T: Real>(x: Observations<'_, T>, weights: Option<&[T]>) -> Result<Option<Self>> {
        let (d, n) = (x.data_dim(), x.len());
        let Some(weights) = weights else {
            // `wide_mean` accumulates in double precision, also for `f32` data.
            let mean = x.wide_mean();
            return Ok(Some(Self {
                root: shortened(deviations(x, &mean, None))?,
                mean,
                weight: n as f64,
                count: n,
            }));
        };
        let weight: f64 = weights.iter().map(|w| w.as_f64()).sum();
        let count = weights.iter().filter(|w| **w > T::zero()).count();
        if count == 0 {
            return Ok(None);
        }
        // Each weight is divided by their sum first, so that no weighted sum can overflow.
        let shares: Vec<f64> = weights.iter().map(|w| w.as_f64() / weight).collect();
        let mut mean = DVector::<f64>::zeros(d);
        // Two passes: the second adds the mean of the residuals, which corrects the rounding error
        // of the first where the mean is large beside the standard deviations.
        for _ in 0..2 {
            let mut rest = DVector::<f64>::zeros(d);
            for (column, share) in x.values().column_iter().zip(&shares) {
                rest.iter_mut()
                    .zip(column.iter())
                    .zip(mean.iter())
                    .for_each(|((rest, x), mean)| *rest += share * (x.as_f64() - mean));
            }
            mean += rest;
        }
        let roots: Vec<f64> = weights.iter().map(|w| w.as_f64().sqrt()).collect();
        Ok(Some(Self { root: shortened(deviations(x, &mean, Some(&roots)))?, mean, weight, count }))
    }

    /// Merges `other` into `self`; after an error, `self` is in an unspecified state.
    fn absorb(&mut self, other: &Self) -> Result<()> {
        if other.count == 0 {
            return Ok(());
        }
        if self.count == 0 {
            self.clone_from(other);
            return self.check();
        }
        let Some(count) = self.count.checked_add(other.count) else {
            return Err(Error::InvalidParameter {
                name: "the number of observations of two moments together",
                value: self.count as f64 + other.count as f64,
                must: "at most that of the largest integer",
            });
        };
        // (2.1b) of Chan, Golub & LeVeque: the scatter between the two parts has rank one, which is
        // one more column of R. R is never squared, so that no digits are lost in the merge.
        let weight = self.weight + other.weight;
        let apart = &other.mean - &self.mean;
        let (known, more) = (self.root.ncols(), other.root.ncols());
        self.root.resize_horizontally_mut(known + more + 1, 0.0);
        self.root.columns_mut(known, more).copy_from(&other.root);
        // √(w_a/w)·√w_b and not √(w_a w_b/w): the product of the weights may overflow.
        let share = (self.weight / weight).sqrt() * other.weight.sqrt();
        self.root.set_column(known + more, &(&apart * share));
        self.mean += apart * (other.weight / weight);
        self.weight = weight;
        self.count = count;
        // Compression is deferred until R has 3d + 64 columns, so that one factorisation serves
        // several merges; the constant 64 does that for small d, where merges may be of single
        // observations.
        if self.root.ncols() > 3 * self.data_dim() + 64 {
            self.root = shortened(std::mem::replace(&mut self.root, DMatrix::zeros(0, 0)))?;
        }
        self.check()
    }

    /// Returns an error if a sum has overflowed.
    fn check(&self) -> Result<()> {
        crate::linalg::check_finite(self.mean.as_view())?;
        if !self.weight.is_finite() {
            return Err(Error::NotFinite { row: 0, column: self.count, value: self.weight });
        }
        if self.root.ncols() == 0 {
            Ok(())
        } else {
            crate::linalg::check_finite(self.root.as_view())
        }
    }

    /// Returns the number d of variables.
    pub fn data_dim(&self) -> usize {
        self.mean.len()
    }

    /// Returns the number of observations with a weight above 0.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the sum w of the weights, the divisor of the variances.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Returns the mean x̄, d×1.
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// Returns the covariance S = RRᵗ/w, d×d, with divisor Σw (n without weights); 0 without
    /// observations.
    pub fn covariance(&self) -> DMatrix<f64> {
        // Without observations R has no columns and w is 0: avoid 0/0.
        let root = &self.root / self.weight.max(f64::MIN_POSITIVE).sqrt();
        product_tr_right(&root, &root)
    }

    /// Returns the square-root factor of the second moment about x̄ or about 0, the input of the
    /// linear-Gaussian fits.
    ///
    /// # Errors
    /// [`Error::TooFewObservations`] for fewer than 2 about an estimated mean, or none about 0;
    /// [`Error::ZeroVariance`]; [`Error::Underflow`].
    pub fn scatter_factor(&self, mean: Centering) -> Result<ScatterFactor> {
        let least = if mean == Centering::Mean { 2 } else { 1 };
        if self.count < least {
            return Err(Error::TooFewObservations { actual: self.count, least });
        }
        let mut root = &self.root / self.weight.sqrt();
        let mut centre = self.mean.clone();
        // About 0, the second moment is S + x̄x̄ᵗ: x̄ is one more column of the factor.
        if mean == Centering::None {
            let columns = root.ncols();
            root = root.insert_column(columns, 0.0);
            root.set_column(columns, &centre);
            centre.fill(0.0);
        }
        let root = if root.ncols() > self.data_dim() { shortened(root)? } else { root };
        ScatterFactor::from_root(root, centre, self.count)
    }
}

/// Returns the centred data √w_i (x_i − x̄), d×n; `roots` holds √w_i.
fn deviations<T: Real>(
    x: Observations<'_, T>,
    mean: &DVector<f64>,
    roots: Option<&[f64]>,
) -> DMatrix<f64> {
    let mut deviations = x.values().map(|v| v.as_f64());
    for (i, mut column) in deviations.column_iter_mut().enumerate() {
        column -= mean;
        if let Some(roots) = roots {
            column *= roots[i];
        }
    }
    deviations
}

/// Returns a factor of the same RRᵗ with at most d columns: by Cholesky where every pivot keeps
/// eleven digits, otherwise by QR of Rᵗ (Householder), which keeps all.
fn shortened(root: DMatrix<f64>) -> Result<DMatrix<f64>> {
    let (d, columns) = root.shape();
    if columns <= d {
        return Ok(root);
    }
    // Cholesky is tried from 10⁶ multiply-adds on; below, there is little time to gain. RRᵗ squares
    // the condition number: a pivot of 10⁻⁵ of its diagonal entry has lost five of sixteen digits.
    // Diagonal entries above 10⁻²⁵⁰ stay clear of the subnormal numbers, which lack digits.
    if columns * d * d > 1_000_000 {
        let moment = scatter_f64(root.as_view(), None, None, 1.0);
        if let Ok(factor) = cholesky_lower(moment.as_view())
            && (0..d)
                .all(|j| moment[(j, j)] > 1e-250 && factor[(j, j)].powi(2) > 1e-5 * moment[(j, j)])
        {
            return Ok(factor);
        }
    }
    Ok(r_factor(root.transpose().as_view())?.transpose())
}

//! Statistics of an M-step that are sent between processes: merged with typed errors, written and
//! read as numbers.
//!
//! | position | number |
//! |---|---|
//! | 0, 1, 2 | the [header](crate::data::flat) |
//! | 3, 4, 5 | d, k, and the count n |
//! | 6 … | Σ e² (d), Σ e m̃ᵗ (d×(k+1)), Σ m̃m̃ᵗ ((k+1)×(k+1)) and Σ Cov (k×k), each by columns |

use super::linear_gaussian::ResidualStatistics;
use crate::data::expect;
use crate::data::flat::{Kind, body, header, integer, invalid};
use crate::linalg::check_finite;
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};

const SIZES: usize = 3;

impl<T: Real> ResidualStatistics<T> {
    /// Adds the statistics of other observations, computed with the same model.
    ///
    /// The same statistics added by the same tree give bit-identical results; two trees of m parts
    /// differ by at most mε of the sums of the absolute values.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) for statistics of another
    /// model; `self` is then unchanged.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        expect("variables of the statistics", self.dimensions().0, other.dimensions().0)?;
        expect("latent dimensions of the statistics", self.dimensions().1, other.dimensions().1)?;
        *self += other;
        Ok(())
    }

    /// Returns the statistics as a list of numbers, for any file or message format; with the feature
    /// `serde` they implement `Serialize` and `Deserialize`.
    pub fn to_values(&self) -> Vec<f64> {
        let (d, k) = self.dimensions();
        let sums = self.squared_residuals.iter().chain(self.residual_products.iter());
        let products = self.mean_products.iter().chain(self.covariances.iter());
        header(Kind::ResidualStatistics)
            .into_iter()
            .chain([d as f64, k as f64, self.count.as_f64()])
            .chain(sums.chain(products).map(|v| v.as_f64()))
            .collect()
    }

    /// Returns the statistics that [`Self::to_values`] has written, bit-identical for the same
    /// scalar.
    ///
    /// # Errors
    /// [`Error::FormatVersion`](crate::Error::FormatVersion);
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) for another length;
    /// [`Error::NotFinite`](crate::Error::NotFinite);
    /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for other numbers, sizes that are
    /// no integers, a count that is not positive and a negative sum of squares.
    ///
    /// ```
    /// use elbo::model::{ExactPosterior, LinearGaussian, MStep, ResidualStatistics};
    /// use elbo::IntoObservations;
    /// use nalgebra::{dmatrix, dvector};
    /// let model = LinearGaussian::from_parameters(dmatrix![1.0; 0.5], dvector![0.0, 0.0], 0.7)?;
    /// let x = dmatrix![1.0, 2.0, -1.0; 0.5, 0.0, 1.0];
    /// // Two processes send the statistics of their observations; the M-step takes the sum.
    /// let of = |part| -> elbo::Result<Vec<f64>> {
    ///     let x = elbo::Observations::new(part)?;
    ///     Ok(model.statistics(x, &model.posterior(x)?)?.to_values())
    /// };
    /// let mut all = ResidualStatistics::<f64>::from_values(&of(x.columns(0, 2))?)?;
    /// all.merge(ResidualStatistics::from_values(&of(x.columns(2, 1))?)?)?;
    /// let x = (&x).into_observations()?;
    /// let whole = model.statistics(x, &model.posterior(x)?)?;
    /// assert!((all.mean_second_moment() - whole.mean_second_moment()).amax() < 1e-15);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn from_values(values: &[f64]) -> Result<Self> {
        let (sizes, entries) = body(values, Kind::ResidualStatistics, SIZES)?;
        let d = integer("the number of variables of the statistics", sizes[0])?;
        let k = integer("the number of latent dimensions of the statistics", sizes[1])?;
        let lengths = lengths(d, k).ok_or_else(|| {
            invalid("the number of latent dimensions", sizes[1], "small enough for its squares")
        })?;
        let expected = lengths.iter().fold(0_usize, |sum, n| sum.saturating_add(*n));
        expect("numbers of the statistics", expected, entries.len())?;
        check_finite(DMatrix::from_column_slice(entries.len(), 1, entries).as_view())?;
        let count = sizes[2];
        if !(count > 0.0 && count.is_finite()) {
            return Err(invalid("the count of the statistics", count, "positive and finite"));
        }
        let mut rest = entries;
        let mut matrix = |rows: usize, columns: usize| {
            let (first, others) = rest.split_at(rows * columns);
            rest = others;
            DMatrix::from_iterator(rows, columns, first.iter().map(|v| T::of(*v)))
        };
        let squared_residuals = DVector::from_column_slice(matrix(d, 1).as_slice());
        if let Some(negative) = squared_residuals.iter().find(|v| **v < T::zero()) {
            return Err(invalid("a sum of squared residuals", negative.as_f64(), "at least 0"));
        }
        Ok(Self {
            count: T::of(count),
            squared_residuals,
            residual_products: matrix(d, k + 1),
            mean_products: matrix(k + 1, k + 1),
            covariances: matrix(k, k),
        })
    }

    /// d and k.
    fn dimensions(&self) -> (usize, usize) {
        (self.squared_residuals.len(), self.covariances.nrows())
    }
}

/// The numbers of each part; `None` where they overflow.
fn lengths(d: usize, k: usize) -> Option<[usize; 4]> {
    let extended = k.checked_add(1)?;
    let square = extended.checked_mul(extended)?;
    Some([d, d.checked_mul(extended)?, square, k * k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::linalg::testing::random;
    use crate::model::{ExactPosterior, LinearGaussian, MStep};
    use crate::{IntoObservations, Observations};

    fn statistics<T: Real>(d: usize, k: usize) -> ResidualStatistics<T> {
        let mean = DVector::zeros(d);
        let model = LinearGaussian::from_parameters(random::<T>(d, k, 1), mean, T::one()).unwrap();
        let x = random::<T>(d, 9, 2);
        let x: Observations<'_, T> = (&x).into_observations().unwrap();
        model.statistics(x, &model.posterior(x).unwrap()).unwrap()
    }

    #[test]
    fn numbers_and_back() {
        let (double, single) = (statistics::<f64>(4, 2), statistics::<f32>(3, 1));
        assert_eq!(ResidualStatistics::from_values(&double.to_values()).unwrap(), double);
        assert_eq!(ResidualStatistics::from_values(&single.to_values()).unwrap(), single);
    }

    #[test]
    fn corrupt_numbers_are_refused_and_nothing_is_merged() {
        let good = statistics::<f64>(3, 2);
        let values = good.to_values();
        let read = ResidualStatistics::<f64>::from_values;
        for length in 0..values.len() {
            assert!(matches!(read(&values[..length]), Err(Error::DimensionMismatch { .. })));
        }
        for position in 0..values.len() {
            let mut bad = values.clone();
            bad[position] = f64::NAN;
            assert!(read(&bad).is_err(), "{position}");
        }
        for (position, bad) in [(1, 1.0), (2, 3.0), (3, 2.5), (4, 1e9), (5, 0.0), (6, -1.0)] {
            let mut forged = values.clone();
            forged[position] = bad;
            assert!(read(&forged).is_err(), "{position} {bad}");
        }
        assert!(crate::data::Moments::from_values(&values).is_err());
        let mut target = good.clone();
        assert!(target.merge(statistics(3, 1)).is_err() && target.merge(statistics(4, 2)).is_err());
        assert_eq!(target, good);
        target.merge(good.clone()).unwrap();
        assert_eq!(target.count(), 18.0);
    }
}

//! The flat form of moments: numbers that any file or message format can hold.
//!
//! | position | number |
//! |---|---|
//! | 0, 1, 2 | the [header](crate::data::flat) |
//! | 3, 4 | d, and r, the number of columns of R |
//! | 5, 6 | the count of the observations, and the sum of their weights |
//! | 7 … | the mean (d), and R (d×r) by columns |

use super::Moments;
use crate::data::expect;
use crate::data::flat::{Kind, body, header, integer, invalid};
use crate::{Error, Result};
use nalgebra::{DMatrix, DVector};

/// The numbers after the header and before the mean.
const SIZES: usize = 4;

impl Moments {
    /// Returns the moments as a list of numbers, for any file or message format; `from_values`
    /// returns bit-identical moments.
    ///
    /// 7 + d + d·r numbers: a mark, the kind and the version of the form, d, r, the count, the sum of
    /// the weights, the mean, and by columns the square-root factor (d×r) of the scatter matrix,
    /// RRᵗ = Σ w_i(x_i − x̄)(x_i − x̄)ᵗ, with r at most 3d + 64.
    ///
    /// ```
    /// use elbo::data::Moments;
    /// let x = nalgebra::dmatrix![1.0, 2.0, 4.0; 2.0, 1.0, 0.0];
    /// // Each of two processes sends the moments of its observations; a third merges them.
    /// let sent = [Moments::of(x.columns(0, 2))?.to_values(), Moments::of(x.columns(2, 1))?.to_values()];
    /// let mut all = Moments::new(2);
    /// for values in &sent {
    ///     all.merge(&Moments::from_values(values)?)?;
    /// }
    /// assert!((all.covariance() - Moments::of(&x)?.covariance()).amax() < 1e-15);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn to_values(&self) -> Vec<f64> {
        let (d, columns) = self.root.shape();
        // A count above 2⁵³ is rounded here and then refused by `from_values`: no data have it.
        let sizes = [d as f64, columns as f64, self.count as f64, self.weight];
        header(Kind::Moments)
            .into_iter()
            .chain(sizes)
            .chain(self.mean.iter().copied())
            .chain(self.root.iter().copied())
            .collect()
    }

    /// Returns the moments that [`Self::to_values`] has written.
    ///
    /// The numbers are checked like any input: an error for a truncated or longer list, for another
    /// kind of numbers, and for moments that no data have.
    ///
    /// # Errors
    /// [`Error::FormatVersion`]; [`Error::DimensionMismatch`] for another length;
    /// [`Error::NotFinite`]; [`Error::InvalidParameter`] for a first number that is not the mark, a
    /// size that is no integer, and a count or a weight that contradict each other.
    pub fn from_values(values: &[f64]) -> Result<Self> {
        let (sizes, entries) = body(values, Kind::Moments, SIZES)?;
        let data_dim = integer("the number of variables of moments", sizes[0])?;
        let columns = integer("the number of columns of the factor of moments", sizes[1])?;
        let count = integer("the count of moments", sizes[2])?;
        let expected = columns.checked_add(1).and_then(|c| c.checked_mul(data_dim));
        expect("numbers of moments", expected.unwrap_or(usize::MAX), entries.len())?;
        let (mean, root) = entries.split_at(data_dim);
        let moments = Self {
            mean: DVector::from_column_slice(mean),
            root: DMatrix::from_column_slice(data_dim, columns, root),
            weight: sizes[3],
            count,
        };
        moments.check_consistent()?;
        Ok(moments)
    }

    /// Returns an error unless some data have these moments.
    fn check_consistent(&self) -> Result<()> {
        if self.data_dim() == 0 {
            return Err(Error::Empty { rows: 0, columns: self.count });
        }
        self.check()?;
        let (count, weight) = (self.count, self.weight);
        if weight < 0.0 || (weight > 0.0) != (count > 0) {
            return Err(invalid(
                "the weight of moments",
                weight,
                "positive, and 0 without observations",
            ));
        }
        // One observation, or none, does not deviate from its mean; none has no mean.
        if (count < 2 && self.root.amax() > 0.0) || (count == 0 && self.mean.amax() > 0.0) {
            return Err(invalid(
                "the count of moments",
                count as f64,
                "at least 2 for a variance, and at least 1 for a mean",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;

    fn moments(d: usize, n: usize) -> Moments {
        Moments::of(&random::<f64>(d, n, 3)).unwrap()
    }

    #[test]
    fn numbers_and_back() {
        let mut weighted = moments(3, 9);
        weighted.update_weighted(&random::<f64>(3, 2, 1), &[0.5, 0.0]).unwrap();
        for some in [Moments::new(4), moments(3, 1), moments(3, 2), moments(3, 40), weighted] {
            assert_eq!(Moments::from_values(&some.to_values()).unwrap(), some);
        }
    }

    #[test]
    fn corrupt_numbers_are_refused() {
        let good = moments(3, 7).to_values();
        for length in 0..good.len() {
            let refused = Moments::from_values(&good[..length]).unwrap_err();
            assert!(matches!(refused, Error::DimensionMismatch { .. }), "{length}: {refused}");
        }
        let with = |position: usize, value: f64| {
            let mut values = good.clone();
            values[position] = value;
            Moments::from_values(&values)
        };
        assert!(matches!(with(0, 1.0), Err(Error::InvalidParameter { .. })));
        assert!(matches!(with(1, 2.0), Err(Error::InvalidParameter { .. })));
        assert!(matches!(with(2, 2.0), Err(Error::FormatVersion { found: 2, known: 1 })));
        assert!(with(0, f64::NAN).is_err() && with(1, f64::NAN).is_err());
        assert!(with(2, f64::NAN).is_err());
        for bad in [f64::NAN, f64::INFINITY, -1.0, 2.5, 1e300, 9e15, 0.0] {
            assert!(with(3, bad).is_err() && with(4, bad).is_err(), "{bad}");
        }
        for bad in [f64::NAN, -1.0, 0.5, 1e17, 0.0, 1.0] {
            assert!(matches!(with(5, bad), Err(Error::InvalidParameter { .. })), "{bad}");
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert!(with(6, bad).is_err(), "{bad}");
        }
        for position in 7..good.len() {
            assert!(matches!(with(position, f64::NAN), Err(Error::NotFinite { .. })));
        }
        let longer: Vec<f64> = good.iter().copied().chain([0.0]).collect();
        assert!(Moments::from_values(&longer).is_err());
        assert!(Moments::from_values(&Moments::new(0).to_values()).is_err());
    }

    #[test]
    fn counts_that_overflow_are_refused_and_nothing_is_merged() {
        let covariance = DMatrix::identity(2, 2);
        let huge = || Moments::from_covariance(DVector::zeros(2), &covariance, usize::MAX).unwrap();
        let mut one = huge();
        assert!(matches!(one.merge(&huge()), Err(Error::InvalidParameter { .. })));
        assert_eq!(one, huge());
    }
}

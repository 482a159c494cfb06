//! Moments from a mean, a covariance and a count that someone else computed.

use super::Moments;
use crate::data::expect;
use crate::linalg::{check_finite, symmetric_eigen};
use crate::{Error, Result};
use nalgebra::{DMatrix, DVector};

/// What rounding may leave of the asymmetry of a correlation matrix, and of its negative
/// eigenvalues: some eight times that of numbers in single precision.
const ROUNDING: f64 = 1e-6;

impl Moments {
    /// Creates the moments of n observations from their mean (d×1) and covariance (d×d), for fits
    /// to data that are not at hand: of a published covariance or correlation matrix, or of a
    /// covariance from an SQL engine.
    ///
    /// `FactorAnalysis`, `Ppca`, `Pca` and the linear autoencoder are fitted to the result as to any
    /// moments. The covariance has the divisor n: one with the divisor n − 1 is multiplied by
    /// (n − 1)/n first. A correlation matrix is the covariance of standardised data, whose mean is
    /// 0. The mean of unknown data may be given as 0: it affects no variance, but scores and codes
    /// of x.
    ///
    /// A covariance has squared scales. Beside a variance s² it determines no variance of a
    /// direction below 10⁻¹⁶s², which moments of the data themselves do.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NotFinite`], [`Error::DimensionMismatch`];
    /// [`Error::TooFewObservations`] for n < 2; [`Error::NotSymmetric`] where two entries differ by
    /// more than 10⁻⁶ of the standard deviations; [`Error::InvalidParameter`] for a negative
    /// variance and for a correlation matrix with an eigenvalue below −10⁻⁶: it is the covariance
    /// of no data. Correlations that were computed from pairs of variables of incomplete data, or
    /// rounded for print, may be such.
    ///
    /// ```
    /// use elbo::{FactorAnalysis, Pca, data::Moments};
    /// use nalgebra::{dmatrix, dvector};
    /// // The correlations of four tests of 200 persons.
    /// let correlations = dmatrix![
    ///     1.0, 0.48, 0.40, 0.32;
    ///     0.48, 1.0, 0.30, 0.24;
    ///     0.40, 0.30, 1.0, 0.20;
    ///     0.32, 0.24, 0.20, 1.0];
    /// let moments = Moments::from_covariance(dvector![0.0, 0.0, 0.0, 0.0], &correlations, 200)?;
    /// assert!((moments.covariance() - &correlations).amax() < 1e-14);
    /// let factors = FactorAnalysis::<f64>::fit(1, &moments)?.model;
    /// assert!((factors.loadings()[(0, 0)] - 0.8).abs() < 1e-3); // 0.8, 0.6, 0.5, 0.4
    /// assert!(Pca::<f64>::fit(4, &moments)?.model.explained_variance()[0] > 1.9);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn from_covariance(
        mean: DVector<f64>,
        covariance: &DMatrix<f64>,
        count: usize,
    ) -> Result<Self> {
        let d = mean.len();
        expect("rows of the covariance", d, covariance.nrows())?;
        expect("columns of the covariance", d, covariance.ncols())?;
        check_finite(mean.as_view())?;
        check_finite(covariance.as_view())?;
        if count < 2 {
            return Err(Error::TooFewObservations { actual: count, least: 2 });
        }
        let deviations = deviations(covariance)?;
        let correlations = correlations(covariance, &deviations)?;
        // By correlations, so that variables of small scale keep their digits: C = DRD.
        let eigen = symmetric_eigen(correlations.as_view())?;
        let smallest = eigen.values[d - 1];
        if smallest < -ROUNDING {
            return Err(Error::InvalidParameter {
                name: "the smallest eigenvalue of the correlation matrix",
                value: smallest,
                must: "at least 0 but for rounding (is the matrix of pairs of variables with missing \
                       values, or rounded for print?)",
            });
        }
        let weight = count as f64;
        let mut root = eigen.vectors;
        for (mut column, &value) in root.column_iter_mut().zip(eigen.values.iter()) {
            column *= value.max(0.0).sqrt();
        }
        for (mut row, &deviation) in root.row_iter_mut().zip(deviations.iter()) {
            row *= deviation * weight.sqrt();
        }
        let moments = Self { mean, root, weight, count };
        moments.check()?;
        Ok(moments)
    }
}

/// The standard deviations of the variables.
fn deviations(covariance: &DMatrix<f64>) -> Result<DVector<f64>> {
    let variances = covariance.diagonal();
    match variances.iter().find(|&&variance| variance < 0.0) {
        None => Ok(variances.map(f64::sqrt)),
        Some(&value) => Err(Error::InvalidParameter {
            name: "a variance of the covariance matrix",
            value,
            must: "at least 0",
        }),
    }
}

/// The correlation matrix of a covariance, symmetric: the mean of each pair of entries over the
/// standard deviations, and 0 for a variable without variance.
fn correlations(covariance: &DMatrix<f64>, deviations: &DVector<f64>) -> Result<DMatrix<f64>> {
    let d = deviations.len();
    let mut correlations = DMatrix::zeros(d, d);
    for column in 0..d {
        for row in column..d {
            let (value, transposed) = (covariance[(row, column)], covariance[(column, row)]);
            // In two steps: the product of two deviations may overflow or underflow.
            let share = |v: f64| v / deviations[row] / deviations[column];
            let constant = deviations[row] == 0.0 || deviations[column] == 0.0;
            let (one, other) =
                if constant { (0.0, 0.0) } else { (share(value), share(transposed)) };
            let agree =
                if constant { value == transposed } else { (one - other).abs() <= ROUNDING };
            if !agree {
                return Err(Error::NotSymmetric { row, column, value, transposed });
            }
            // A variable without variance has no covariance either; |r| ≤ 1 otherwise.
            let size = if constant { value.abs() } else { one.abs() - 1.0 };
            if size > if constant { 0.0 } else { ROUNDING } {
                return Err(Error::InvalidParameter {
                    name: "an entry of the covariance matrix",
                    value,
                    must: "at most the product of the standard deviations of its two variables",
                });
            }
            correlations[(row, column)] =
                if row == column && !constant { 1.0 } else { 0.5 * (one + other) };
            correlations[(column, row)] = correlations[(row, column)];
        }
    }
    Ok(correlations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::random;
    use nalgebra::{dmatrix, dvector};

    #[test]
    fn moments_of_a_covariance_are_those_of_its_data() {
        let mut x = random::<f64>(5, 40, 1);
        x.row_mut(1).scale_mut(1e-9);
        x.row_mut(3).fill(2.5);
        let of_data = Moments::of(&x).unwrap();
        let covariance = of_data.covariance();
        let found = Moments::from_covariance(of_data.mean().clone(), &covariance, 40).unwrap();
        assert_eq!((found.count(), found.weight(), found.mean()), (40, 40.0, of_data.mean()));
        let back = found.covariance();
        for (at, (a, b)) in back.iter().zip(covariance.iter()).enumerate() {
            let (i, j) = (at % 5, at / 5);
            let size = (covariance[(i, i)] * covariance[(j, j)]).sqrt();
            assert!((a - b).abs() <= 1e-14 * size, "{i} {j}: {a:e} {b:e}");
        }
        // They merge with moments of data.
        let mut both = found.clone();
        both.merge(&of_data).unwrap();
        assert_eq!(both.count(), 80);
        assert!((both.covariance() - covariance).amax() < 1e-14);
    }

    #[test]
    fn matrices_that_are_no_covariance_are_refused() {
        let of = |c: DMatrix<f64>, n| Moments::from_covariance(DVector::zeros(2), &c, n);
        let good = dmatrix![2.0, 1.0; 1.0, 2.0];
        assert!(of(good.clone(), 2).is_ok());
        assert!(matches!(of(good.clone(), 1), Err(Error::TooFewObservations { .. })));
        assert!(matches!(of(dmatrix![1.0], 9), Err(Error::DimensionMismatch { .. })));
        assert!(matches!(
            of(dmatrix![1.0, 0.5; 0.4, 1.0], 9),
            Err(Error::NotSymmetric { row: 1, column: 0, .. })
        ));
        assert!(matches!(of(dmatrix![1.0, f64::NAN; 0.0, 1.0], 9), Err(Error::NotFinite { .. })));
        let bad = [
            dmatrix![1.0, 1.2; 1.2, 1.0],
            dmatrix![-1.0, 0.0; 0.0, 1.0],
            dmatrix![0.0, 0.1; 0.1, 1.0],
        ];
        for bad in bad {
            assert!(matches!(of(bad, 9), Err(Error::InvalidParameter { .. })));
        }
        // Three correlations that contradict each other.
        let contradiction = dmatrix![1.0, 0.9, -0.9; 0.9, 1.0, 0.9; -0.9, 0.9, 1.0];
        let refused = Moments::from_covariance(DVector::zeros(3), &contradiction, 50).unwrap_err();
        assert!(refused.to_string().contains("smallest eigenvalue"), "{refused}");
        // A singular matrix is a covariance, rounding or not.
        let copy = dmatrix![1.0, 1.0 + 1e-9; 1.0, 1.0];
        assert!(Moments::from_covariance(dvector![0.0, 1e9], &copy, 7).is_ok());
        let nothing = Moments::from_covariance(DVector::zeros(0), &DMatrix::zeros(0, 0), 5);
        assert!(matches!(nothing, Err(Error::Empty { .. })));
    }
}

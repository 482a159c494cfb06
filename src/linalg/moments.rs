//! Means and sums of squares of the variables, accumulated in double precision.

use super::kernel::vector::with_widest_simd;
use super::parallel::map_blocks;
use crate::{Error, Real, Result};
use nalgebra::{DMatrixView, DVector};

/// Observations in one partial sum.
// Blocks of fixed size, reduced in a fixed order: results are bit-identical for any number of
// threads. The rounding error of a sum grows with 512 + n/512 and not with n.
const BLOCK: usize = 512;

/// The mean of the observations, a vector of d entries.
///
/// ```math
/// \bar x = \frac 1 n \sum_i x_i
/// ```
/// `x` is d×n. Sums are accumulated in `f64`, in blocks that are reduced in a fixed order.
///
/// # Errors
/// [`Error::Empty`] without observations or variables; [`Error::NotFinite`] with the first entry
/// that is not finite.
///
/// ```
/// use nalgebra::dmatrix;
/// let mean = elbo::linalg::column_mean(dmatrix![1.0, 3.0; 0.0, 1.0].as_view())?;
/// assert_eq!(mean.as_slice(), [2.0, 0.5]);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn column_mean<T: Real>(x: DMatrixView<'_, T>) -> Result<DVector<T>> {
    Ok(DVector::from_iterator(x.nrows(), mean_wide(x)?.into_iter().map(T::of)))
}

/// The sum of squared deviations of each variable from its mean, a vector of d entries.
///
/// ```math
/// \sum_i (x_{ji} − μ_j)^2
/// ```
/// `x` is d×n and `mean` has d entries (0 if `None`). The entries are centred before they are
/// squared, so that nothing cancels. There is no division by n.
///
/// # Errors
/// [`Error::DimensionMismatch`] when the mean does not have d entries.
///
/// ```
/// use nalgebra::{dmatrix, dvector};
/// let squares =
///     elbo::linalg::sums_of_squares(dmatrix![1.0, 3.0].as_view(), Some(&dvector![2.0]))?;
/// assert_eq!(squares[0], 2.0);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn sums_of_squares<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&DVector<T>>,
) -> Result<DVector<T>> {
    let d = x.nrows();
    if let Some(m) = mean
        && m.len() != d
    {
        return Err(Error::DimensionMismatch {
            what: "entries of the mean",
            expected: d,
            actual: m.len(),
        });
    }
    let mean = mean.map(super::gram::wide);
    Ok(DVector::from_iterator(
        d,
        sums_of_squares_f64(x, mean.as_deref(), 1.0).into_iter().map(T::of),
    ))
}

/// Returns an error if a matrix is empty or has an entry that is NaN or infinite.
///
/// # Errors
/// [`Error::Empty`]; [`Error::NotFinite`] with the first such entry, column by column.
///
/// ```
/// use nalgebra::dmatrix;
/// assert!(elbo::linalg::check_finite(dmatrix![1.0, f64::NAN].as_view()).is_err());
/// ```
pub fn check_finite<T: Real>(x: DMatrixView<'_, T>) -> Result<()> {
    let (rows, columns) = x.shape();
    if rows == 0 || columns == 0 {
        return Err(Error::Empty { rows, columns });
    }
    // The common case is one pass of SIMD without branches; the row is only searched for in a
    // column that has failed.
    let bad = map_blocks(columns.div_ceil(BLOCK), rows * columns, |b| {
        let first = b * BLOCK;
        (first..columns.min(first + BLOCK))
            .find(|&j| !super::kernel::vector::all_finite(x.column(j).as_slice()))
    });
    match bad.into_iter().flatten().next() {
        None => Ok(()),
        Some(column) => {
            let row = x.column(column).iter().position(|v| !v.is_finite()).unwrap_or(0);
            Err(Error::NotFinite { row, column, value: x[(row, column)].as_f64() })
        }
    }
}

/// The sum of partial sums, in their order.
fn sums(d: usize, partial: Vec<Vec<f64>>) -> Vec<f64> {
    let mut total = vec![0.0; d];
    for part in partial {
        total.iter_mut().zip(&part).for_each(|(t, p)| *t += p);
    }
    total
}

/// The mean of the observations in double precision.
///
/// # Errors
/// As for [`column_mean`].
pub(crate) fn mean_wide<T: Real>(x: DMatrixView<'_, T>) -> Result<Vec<f64>> {
    let (d, n) = x.shape();
    if d == 0 || n == 0 {
        return Err(Error::Empty { rows: d, columns: n });
    }
    let partial = map_blocks(n.div_ceil(BLOCK), d * n, |b| {
        let mut sum = vec![0.0; d];
        for j in b * BLOCK..n.min((b + 1) * BLOCK) {
            let column = x.column(j);
            with_widest_simd(
                #[inline(always)]
                || sum.iter_mut().zip(column.as_slice()).for_each(|(s, v)| *s += v.as_f64()),
            );
        }
        sum
    });
    let mut mean = sums(d, partial);
    mean.iter_mut().for_each(|m| *m /= n as f64);
    // A NaN or infinity anywhere makes the mean so: finite data need no pass for their check.
    if mean.iter().any(|m| !m.is_finite()) {
        check_finite(x)?;
        // All entries are finite, but their sum overflows: divide each by n before the sum.
        let share = 1.0 / n as f64;
        mean = vec![0.0; d];
        for column in x.column_iter() {
            mean.iter_mut().zip(column.as_slice()).for_each(|(m, v)| *m += v.as_f64() * share);
        }
    }
    Ok(mean)
}

/// Returns a mean corrected for its rounding error and rounded by `round`, and the sums of squares
/// about it, in one pass.
///
/// The corrected two-pass algorithm (Chan, Golub & LeVeque 1983): the mean of x_i − m̂ is the error
/// of the computed mean m̂. It matters where the mean is large beside the standard deviation.
pub(crate) fn refined_mean<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Vec<f64>,
    round: impl Fn(f64) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let (d, n) = x.shape();
    let partial = map_blocks(n.div_ceil(BLOCK), 3 * d * n, |b| {
        let mut sum = vec![0.0; 2 * d];
        let (first, second) = sum.split_at_mut(d);
        for j in b * BLOCK..n.min((b + 1) * BLOCK) {
            let column = x.column(j);
            with_widest_simd(
                #[inline(always)]
                || {
                    for (((s, q), v), m) in
                        first.iter_mut().zip(second.iter_mut()).zip(column.as_slice()).zip(&mean)
                    {
                        let deviation = v.as_f64() - m;
                        *s += deviation;
                        *q += deviation * deviation;
                    }
                },
            );
        }
        sum
    });
    let sums = sums(2 * d, partial);
    let (first, second) = sums.split_at(d);
    let refined: Vec<f64> =
        mean.iter().zip(first).map(|(m, rest)| round(m + rest / n as f64)).collect();
    let squares = (0..d).map(|j| {
        // From squares about m̂ to squares about the returned mean. Where less than 1e-10 is left,
        // the variable is constant but for rounding, and the sum is 0.
        let moved = refined[j] - mean[j];
        let square = second[j] - 2.0 * moved * first[j] + n as f64 * moved * moved;
        if square > 1e-10 * second[j] { square } else { 0.0 }
    });
    let squares = squares.collect();
    (refined, squares)
}

/// The sums of squares Σ_i s²(x_ji − μ_j)² in double precision, for a scale s.
pub(crate) fn sums_of_squares_f64<T: Real>(
    x: DMatrixView<'_, T>,
    mean: Option<&[f64]>,
    scale: f64,
) -> Vec<f64> {
    let (d, n) = x.shape();
    let zeros = vec![0.0; if mean.is_none() { d } else { 0 }];
    let mean = mean.unwrap_or(&zeros);
    let partial = map_blocks(n.div_ceil(BLOCK), 2 * d * n, |b| {
        let mut sum = vec![0.0; d];
        for j in b * BLOCK..n.min((b + 1) * BLOCK) {
            let column = x.column(j);
            with_widest_simd(
                #[inline(always)]
                || {
                    for ((s, v), m) in sum.iter_mut().zip(column.as_slice()).zip(mean) {
                        let deviation = (v.as_f64() - m) * scale;
                        *s += deviation * deviation;
                    }
                },
            );
        }
        sum
    });
    sums(d, partial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{random, with_threads};

    #[test]
    fn a_large_offset_does_not_cancel() {
        let noise = random::<f64>(4, 5000, 1);
        let x = noise.map(|v| v + 1e9);
        let mean = column_mean(x.as_view()).unwrap();
        let squares = sums_of_squares(x.as_view(), Some(&mean)).unwrap();
        let centre = column_mean(noise.as_view()).unwrap();
        let expected = sums_of_squares(noise.as_view(), Some(&centre)).unwrap();
        assert!((squares - &expected).amax() < 1e-5 * expected.amax());
    }

    #[test]
    fn single_precision_keeps_its_accuracy() {
        let x = nalgebra::DMatrix::from_element(2, 60_000, 0.1f32);
        assert_eq!(column_mean(x.as_view()).unwrap()[0], 0.1);
    }

    #[test]
    fn huge_and_bad_numbers() {
        let huge = nalgebra::DMatrix::from_element(1, 10, f64::MAX);
        assert!((column_mean(huge.as_view()).unwrap()[0] / f64::MAX - 1.0).abs() < 1e-14);
        let mut x = random::<f32>(3, 2000, 2);
        assert!(check_finite(x.as_view()).is_ok());
        x[(2, 1500)] = f32::NEG_INFINITY;
        assert!(matches!(
            check_finite(x.as_view()),
            Err(Error::NotFinite { row: 2, column: 1500, .. })
        ));
        assert!(column_mean(x.as_view()).is_err());
        assert!(matches!(column_mean(x.rows(0, 0)), Err(Error::Empty { rows: 0, columns: 2000 })));
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let x = random::<f64>(30, 30_000, 3);
        let run = |t| with_threads(t, || column_mean(x.as_view()).unwrap());
        assert_eq!(run(1), run(3));
    }
}

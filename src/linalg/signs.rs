//! One rule for what a decomposition leaves open: the signs of directions, and the basis of a
//! subspace in which all directions have the same variance.
//!
//! Both rules compare with a tolerance. "The largest entry is positive" is no rule where two
//! entries have the same size: rounding then decides, which differs between algorithms, between
//! precisions, and with the order of the observations.

use crate::Real;
use nalgebra::{DMatrix, DMatrixViewMut};

/// Entries within this share of the largest one count as equally large.
// Far above the error of a direction from any algorithm, in single precision and from iterative
// fits too, so that entries that are equal in exact arithmetic are recognised as such. One number
// for all precisions: with one for each, they would disagree on entries in between.
const TIE: f64 = 1e-3;

/// The first of the entries whose size is within [`TIE`] of the largest; `None` if all are 0.
pub(crate) fn first_large<T: Real>(entries: &[T]) -> Option<usize> {
    let largest = entries.iter().fold(0.0, |largest: f64, v| largest.max(v.as_f64().abs()));
    let least = (1.0 - TIE) * largest;
    if largest > 0.0 { entries.iter().position(|v| v.as_f64().abs() >= least) } else { None }
}

/// Returns whether the sign of a direction must be changed: the first of its large entries is
/// negative.
pub(crate) fn is_reversed<T: Real>(direction: &[T]) -> bool {
    first_large(direction).is_some_and(|j| direction[j] < T::zero())
}

/// Changes the sign of each column whose first large entry is negative.
///
/// The large entries of a column are those whose size is within 10⁻³ of the largest one.
pub(crate) fn orient<T: Real>(directions: &mut DMatrix<T>) {
    for mut column in directions.column_iter_mut() {
        if is_reversed(column.as_slice()) {
            column.neg_mut();
        }
    }
}

/// Fixes the signs of principal directions (orthonormal columns, in order of decreasing variance)
/// by [`orient`], and the basis of each subspace of equal variances.
///
/// Variances are equal if they differ by less than 10⁻²√ε of themselves, which is above their
/// rounding error. Any orthonormal basis of such a subspace serves. The one chosen depends on the
/// subspace alone: its first vector is the projection of the unit vector that is closest to the
/// subspace (the first of several), and the others are chosen likewise in its complement. A
/// subspace that continues beyond the last column is not determined by the columns.
pub(crate) fn fix_directions<T: Real>(
    directions: &mut DMatrix<T>,
    variances: impl ExactSizeIterator<Item = f64>,
) {
    let equal = 1e-2 * T::EPSILON.as_f64().sqrt();
    let variances: Vec<f64> = variances.collect();
    let mut first = 0;
    for group in variances.chunk_by(|a, b| *b > 0.0 && a - b <= equal * a) {
        if group.len() > 1 {
            settle(directions.columns_mut(first, group.len()));
        }
        first += group.len();
    }
    orient(directions);
}

/// Rotates orthonormal columns to the basis that [`fix_directions`] describes.
fn settle<T: Real>(mut basis: DMatrixViewMut<'_, T>) {
    let (d, columns) = basis.shape();
    for t in 0..columns - 1 {
        let rest = basis.columns(t, columns - t);
        // The length of a row is that of the projection of its unit vector.
        let lengths: Vec<T> = rest.row_iter().map(|row| row.norm()).collect();
        let Some(row) = first_large(&lengths) else { return };
        // The Householder reflection of the columns that leaves this row one entry, in column t.
        let mut reflector: Vec<T> = rest.row(row).iter().copied().collect();
        let sign = if reflector[0] < T::zero() { -T::one() } else { T::one() };
        reflector[0] += sign * lengths[row];
        let square = reflector.iter().fold(T::zero(), |sum, &v| sum + v * v);
        let factor = T::of(2.0) / square;
        for i in 0..d {
            let along = reflector
                .iter()
                .enumerate()
                .fold(T::zero(), |sum, (j, &v)| sum + v * basis[(i, t + j)]);
            for (j, &v) in reflector.iter().enumerate() {
                basis[(i, t + j)] -= factor * along * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::orthonormalize;
    use crate::linalg::testing::random;
    use nalgebra::dmatrix;

    #[test]
    fn equal_sizes_are_a_tie_whatever_rounding_says() {
        assert!(is_reversed(&[-0.6, 0.6 + 1e-12]) && is_reversed(&[-0.6 - 1e-12, 0.6]));
        assert!(!is_reversed(&[0.6f32, -0.600_01]) && !is_reversed(&[0.1, 0.9, -0.9]));
        assert!(is_reversed(&[0.1, -0.9, 0.8]) && !is_reversed(&[-0.1, 0.9]));
        assert!(!is_reversed(&[0.0, -0.0]) && !is_reversed::<f64>(&[]));
        assert!(is_reversed(&[-1e-300, 1e-300]) && is_reversed(&[-f64::MAX, f64::MAX]));
    }

    #[test]
    fn a_subspace_of_equal_variances_has_one_basis() {
        let span = orthonormalize(random::<f64>(7, 3, 1).as_view()).unwrap();
        let single = orthonormalize(random::<f64>(7, 4, 2).as_view()).unwrap().columns(3, 1) * 1.0;
        let settled = |rotation: &DMatrix<f64>| {
            let mut u = DMatrix::zeros(7, 4);
            u.columns_mut(0, 3).copy_from(&(&span * rotation));
            u.column_mut(3).copy_from(&single.column(0));
            fix_directions(&mut u, [2.0, 2.0 - 1e-15, 2.0 - 2e-15, 1.0].into_iter());
            u
        };
        let plain = settled(&DMatrix::identity(3, 3));
        for seed in 3..9 {
            let rotation = orthonormalize(random::<f64>(3, 3, seed).as_view()).unwrap();
            assert!((settled(&rotation) - &plain).amax() < 1e-14, "{seed}");
        }
        // The same subspace, orthonormal; the fourth column has another variance.
        let u = plain.columns(0, 3);
        assert!((u * u.transpose() - &span * span.transpose()).amax() < 1e-14);
        assert_eq!(plain.column(3).abs(), single.column(0).abs());
        // A plane of two variables has their axes as its basis.
        let (sine, cosine) = 0.3f64.sin_cos();
        let mut turned = dmatrix![cosine, -sine; 0.0, 0.0; sine, cosine];
        fix_directions(&mut turned, [5.0, 5.0].into_iter());
        assert!((turned - dmatrix![1.0, 0.0; 0.0, 0.0; 0.0, 1.0]).amax() < 1e-15);
    }

    #[test]
    fn distinct_variances_and_zeros_are_left_alone() {
        let u = orthonormalize(random::<f32>(6, 4, 4).as_view()).unwrap();
        let mut fixed = u.clone();
        fix_directions(&mut fixed, [2.0, 1.0, 0.0, 0.0].into_iter());
        assert_eq!(fixed.abs(), u.abs());
    }
}

//! Mean, sums of squares and scatter matrix in one pass over the data.
//!
//! The shifted-data algorithm (Chan, Golub & LeVeque 1983): sums are taken about a point c near the
//! mean and corrected afterwards. Large data are read from memory once, where the mean, the sums of
//! squares and the scatter matrix take a pass each otherwise.
//!
//! Legend: c the shift, s = Σ(x_i − c), μ = c + s/n, m = μ − c. Then Σ(x_i−μ)(x_i−μ)ᵗ =
//! Σ(x_i−c)(x_i−c)ᵗ − m sᵗ − s mᵗ + n m mᵗ.

use super::gram::Rows;
use super::vector::vectorized;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// Observations whose mean is the shift c.
// The mean of 512 random observations is within about 1/√512 = 0.04 standard deviations of μ. The
// correction then takes about 0.2 % of a sum of squares, and costs no digit.
const SAMPLE: usize = 512;
/// The largest fraction of a sum of squares about c that the correction may remove.
// What is left is at least half of the sum: the subtraction loses one bit at most. Where more would
// be removed (sorted or periodic data, of which the sample is not typical) a second pass follows.
const MAX_CORRECTION: f64 = 0.5;

/// The mean of the data, with the sums of squares and the scatter matrix about it.
pub(crate) struct Centred {
    /// μ, rounded by the caller's function.
    pub(crate) mean: Vec<f64>,
    /// Σ (x_ji − μ_j)².
    pub(crate) squares: Vec<f64>,
    /// Σ (x_i − μ)(x_i − μ)ᵗ.
    pub(crate) moments: DMatrix<f64>,
}

impl Centred {
    /// Returns whether the sums prove that every entry is finite and its square is below `limit`.
    ///
    /// No square is larger than Σ x_ji² = Σ (x_ji − μ_j)² + n μ_j². `false` proves nothing.
    pub(crate) fn proves_below(&self, limit: f64, observations: usize) -> bool {
        // An entry that is NaN or infinite makes its mean so, and the comparison false. The factor
        // ½ covers the rounding of the sums.
        let squares = self
            .squares
            .iter()
            .zip(&self.mean)
            .map(|(square, mean)| square + observations as f64 * mean * mean);
        squares.sum::<f64>() <= 0.5 * limit
    }
}

/// Returns the mean, rounded by `round`, with the sums of squares and the scatter matrix about it.
///
/// One pass about the mean of a sample; a second pass, about the mean that the first has found,
/// where the sample's mean is far from it.
pub(crate) fn centred_moments<T: Real>(
    x: DMatrixView<'_, T>,
    round: impl Fn(f64) -> f64,
) -> Centred {
    let (found, near) = about(x, &sample_mean(x), &round);
    if near { found } else { about(x, &found.mean, &round).0 }
}

/// The mean of at most [`SAMPLE`] observations, taken at equal distances over the data.
fn sample_mean<T: Real>(x: DMatrixView<'_, T>) -> Vec<f64> {
    let (d, n) = x.shape();
    let step = n.div_ceil(SAMPLE).max(1);
    // Each entry is divided before it is added, so that no sum overflows.
    let share = 1.0 / n.div_ceil(step) as f64;
    let mut mean = vec![0.0; d];
    vectorized(
        #[inline(always)]
        || {
            for i in (0..n).step_by(step) {
                for (mean, v) in mean.iter_mut().zip(x.column(i).data.into_slice()) {
                    *mean += v.as_f64() * share;
                }
            }
        },
    );
    mean
}

/// One pass about the shift c = `point`: the corrected moments, and whether c was close enough.
fn about<T: Real>(
    x: DMatrixView<'_, T>,
    point: &[f64],
    round: &impl Fn(f64) -> f64,
) -> (Centred, bool) {
    let (d, n) = (x.nrows(), x.ncols() as f64);
    let (mut moments, sums) =
        Rows { mean: Some(point), weights: None, scale: 1.0, with_sums: true }.moments(x);
    let (first, second) = sums.split_at(d);
    let mean: Vec<f64> = point.iter().zip(first).map(|(c, s)| round(c + s / n)).collect();
    let moved: Vec<f64> = mean.iter().zip(point).map(|(mean, c)| mean - c).collect();
    let mut squares = vec![0.0; d];
    let mut near = true;
    for j in 0..d {
        // In f64 the diagonal of the scatter matrix is the sum of squares. In f32 the matrix is a
        // sum of products in f32, and the squares were summed separately in f64.
        let whole = if size_of::<T>() == 8 { moments[(j, j)] } else { second[j] };
        let shift = moved[j] * (n * moved[j] - 2.0 * first[j]);
        // For a constant variable c is off by the rounding of a sum of up to 512 terms, at most
        // 512 ε |c|. A sum of squares as small as that is not a reason for a second pass.
        let rounding = n * (SAMPLE as f64 * f64::EPSILON * point[j]).powi(2);
        // Less than 1e-10 of the sum is left by cancellation: the variable is constant but for
        // rounding, and its variance is 0.
        squares[j] = if whole + shift > 1e-10 * whole { whole + shift } else { 0.0 };
        near &= -shift <= MAX_CORRECTION * whole || whole <= rounding;
    }
    // μ is rounded to T, so that m ≠ s/n: all three terms of the correction are needed.
    for j in 0..d {
        for i in 0..d {
            let constant = squares[i] == 0.0 || squares[j] == 0.0;
            let shift = moved[i] * (n * moved[j] - first[j]) - first[i] * moved[j];
            moments[(i, j)] = if constant { 0.0 } else { moments[(i, j)] + shift };
        }
    }
    (Centred { mean, squares, moments }, near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{random, with_threads};
    use crate::linalg::{mean_wide, refined_mean, scatter_matrix};

    /// Compares [`centred_moments`] with separate passes for mean, squares and scatter matrix.
    fn check<T: Real>(x: &DMatrix<T>, tolerance: f64) {
        let found = centred_moments(x.as_view(), |m| T::of(m).as_f64());
        let (mean, squares) =
            refined_mean(x.as_view(), mean_wide(x.as_view()).unwrap(), |m| T::of(m).as_f64());
        let wide = x.map(|v| v.as_f64());
        let moments =
            scatter_matrix(wide.as_view(), Some(&nalgebra::DVector::from_vec(mean.clone())), None)
                .unwrap();
        for j in 0..x.nrows() {
            // The two means may be rounded to neighbouring numbers of `T`.
            assert!(
                (found.mean[j] - mean[j]).abs()
                    <= 4.0 * T::EPSILON.as_f64() * mean[j].abs().max(squares[j].sqrt()),
                "mean {j}"
            );
            assert!(
                (found.squares[j] - squares[j]).abs() <= tolerance * squares[j],
                "square {j}: {} {}",
                found.squares[j],
                squares[j]
            );
            for i in 0..x.nrows() {
                let size = (squares[i] * squares[j]).sqrt();
                assert!(
                    (found.moments[(i, j)] - moments[(i, j)]).abs() <= tolerance * size,
                    "moment {i} {j}"
                );
            }
        }
    }

    #[test]
    fn one_pass_equals_three() {
        for (d, n) in [(1, 2), (3, 7), (5, 3000), (50, 1200), (200, 700)] {
            let x = random::<f64>(d, n, 1);
            check(&x, 1e-12);
            check(&x.map(|v| v as f32), 1e-5);
            check(&x.map(|v| 1e6 + v), 1e-10);
        }
    }

    #[test]
    fn a_sample_far_from_the_mean_costs_a_second_pass() {
        // All sampled observations are outliers.
        let n = 5000;
        let step = n / SAMPLE + 1;
        let noise = random::<f64>(4, n, 2);
        let x =
            DMatrix::from_fn(4, n, |j, i| noise[(j, i)] + if i % step == 0 { 1e7 } else { 0.0 });
        assert!(!about(x.as_view(), &sample_mean(x.as_view()), &|m| m).1);
        check(&x, 1e-12);
    }

    #[test]
    fn constants_have_no_variance_and_no_covariance() {
        let mut x = random::<f64>(3, 900, 3);
        x.row_mut(1).fill(0.1);
        let found = centred_moments(x.as_view(), |m| m);
        assert!(
            found.squares[1] == 0.0
                && found.moments.row(1).iter().all(|m| *m == 0.0)
                && found.squares[0] > 0.0
        );
        assert!(about(x.as_view(), &sample_mean(x.as_view()), &|m| m).1);
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        let mut x = random::<f64>(9, 700, 5);
        let bounded = |x: &DMatrix<f64>| centred_moments(x.as_view(), |m| m).proves_below(1e5, 700);
        assert!(bounded(&x));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e3, f64::MAX] {
            for place in [(0, 0), (8, 699), (3, 100)] {
                let good = std::mem::replace(&mut x[place], bad);
                assert!(!bounded(&x), "{bad} at {place:?}");
                x[place] = good;
            }
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        for (d, n) in [(30, 30_000), (300, 3000)] {
            let x = random::<f32>(d, n, 4);
            let run = |t| with_threads(t, || centred_moments(x.as_view(), |m| m));
            let (one, three) = (run(1), run(3));
            assert!(
                one.mean == three.mean
                    && one.squares == three.squares
                    && one.moments == three.moments
            );
        }
    }
}

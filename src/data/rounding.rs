//! Which variance is more than rounding: of the data, of the arithmetic, and of a model whose
//! parameters are stored in the precision of the data.

use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DVector};

/// Returns whether a variable is constant but for rounding: its standard deviation about its mean m
/// is at most (ε + 15 ε₆₄)|m|, with ε the machine epsilon of the scalar of the data and ε₆₄ = 2⁻⁵².
///
/// * Rounding of the entries: a constant c that is rounded once deviates by up to ½ε|c|, and by ε|c|
///   if it was computed by two ways that round differently (0.3 and 0.1 + 0.2). A sum of m numbers
///   of one sign, such as percentages that add up to 99.99999999999999 … 100.00000000000003, has
///   m − 1 roundings of at most ½ε|c| each; they are of either sign, so that their standard
///   deviation is below ½ε|c|√(m/3), which is ε|c| for m = 12 (independent and uniform) and reaches
///   16ε|c| for m = 3072 only.
/// * Rounding of the arithmetic, in double precision for every scalar: 15 ε₆₄|c| for the mean and
///   the deviations from it, and for sums of many terms. Fits take (16ε₆₄)² of the second moment
///   for rounding error as well (`RESOLUTION`).
///
/// So it is 16ε|m| in double and ε|m| in single precision: numbers of single precision are computed
/// with exactly, and differences of two units in the last place of an entry are data.
///
/// The rule is relative to the mean: a variable of scale 10⁻²⁰ about 0 is not constant, whatever
/// the scale of the others.
pub(crate) fn constant_but_for_rounding(
    mean: f64,
    mean_square_deviation: f64,
    epsilon: f64,
) -> bool {
    let rounding = (epsilon + 15.0 * f64::EPSILON) * mean.abs();
    // Standard deviations and not variances: the square of the rounding of a small mean underflows.
    mean_square_deviation.sqrt() <= rounding
}

/// What rounding of the parameters of a model to the scalar of the data takes from it; nothing in
/// double precision, where the rounding of the data themselves is larger.
///
/// A fit computes mean and variances in double precision for every scalar. Its model then stores
/// the mean μ as μ − δ: to the model, the data have the second moment S + δδᵗ. The mean
/// log-likelihood of a model with the covariance C falls by ½δᵗC⁻¹δ, which is at most ½ nat for each
/// direction whose variance is at least the square of the part of δ along it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelRounding {
    /// δ, the mean minus the stored mean, d×1.
    pub(crate) mean: DVector<f64>,
    /// The variance that rounding of the loadings adds in any direction: ε²‖W‖², with ‖W‖² ≤ tr S,
    /// where rounding to nearest leaves a quarter of that at most.
    pub(crate) loadings: f64,
    /// ε²‖μ‖², the mean square of the error of an affine map of x, Vx − Vμ with orthonormal rows,
    /// that is computed in the scalar of the data: its two terms cancel.
    pub(crate) affine: f64,
    precision: &'static str,
}

impl ModelRounding {
    /// The rounding of a model in precision `T` with this mean.
    pub(crate) fn of<T: Real>(mean: &DVector<f64>, total_variance: f64) -> Self {
        if size_of::<T>() == size_of::<f64>() {
            return Self::none(mean.len());
        }
        let epsilon = T::EPSILON.as_f64();
        Self {
            mean: mean.map(|m| m - T::of(m).as_f64()),
            loadings: epsilon * epsilon * total_variance,
            affine: epsilon * epsilon * mean.norm_squared(),
            precision: "f32",
        }
    }

    /// The rounding of a model in double precision of d variables.
    pub(crate) fn none(data_dim: usize) -> Self {
        Self { mean: DVector::zeros(data_dim), loadings: 0.0, affine: 0.0, precision: "f64" }
    }

    /// Returns the noise variance from which on the variance of the model is, in each direction, at
    /// least the square of the error of the mean along it: along each of the d×k `directions`,
    /// whose variances are given, and in the mean outside them.
    pub(crate) fn noise(&self, directions: &DMatrix<f64>, variances: &DVector<f64>) -> f64 {
        let (d, k) = directions.shape();
        if self.mean.norm_squared() == 0.0 {
            return 0.0;
        }
        let along = directions.tr_mul(&self.mean);
        let outside = (&self.mean - directions * &along).norm_squared() / (d - k).max(1) as f64;
        along
            .iter()
            .zip(variances.iter())
            .map(|(along, variance)| (along * along, variance))
            .filter(|(square, variance)| square > variance)
            .fold(if d > k { outside } else { 0.0 }, |least, (square, _)| least.max(square))
    }

    /// The error for data beside an offset that leaves them too few digits in this precision.
    pub(crate) fn offset_error(&self, mean: &DVector<f64>) -> Error {
        let variable = mean.iamax();
        let exponent = mean[variable].abs().max(f64::MIN_POSITIVE).log2().floor() as i32;
        let spacing = f64::from(f32::EPSILON) * 2f64.powi(exponent);
        Error::Offset { variable, mean: mean[variable], spacing, precision: self.precision }
    }

    /// Checks that an affine map of the data keeps a direction of this variance: the error of its
    /// result must be smaller.
    ///
    /// # Errors
    /// [`Error::Offset`].
    pub(crate) fn check_affine(&self, variance: f64, mean: &DVector<f64>) -> Result<()> {
        if variance >= self.affine { Ok(()) } else { Err(self.offset_error(mean)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IntoObservations, Real};
    use nalgebra::DMatrix;

    fn is_constant<T: Real>(values: &[T]) -> bool {
        let x = DMatrix::from_row_slice(1, values.len(), values);
        let x = (&x).into_observations().unwrap();
        let (mean, squares) = x.mean_and_squares(|mean| mean);
        constant_but_for_rounding(mean[0], squares[0] / x.len() as f64, T::EPSILON.as_f64())
    }

    #[test]
    fn rounding_is_no_variation() {
        assert!(is_constant(&[0.3, 0.300_000_000_000_000_04]));
        assert!(is_constant(&[99.999_999_999_999_99, 100.0, 100.000_000_000_000_03, 100.0]));
        assert!(is_constant(&[0.1f32 + 0.2, 0.3, 0.3, 0.3]));
        assert!(is_constant(&[0.0; 3]) && is_constant(&[-7.25; 4]) && is_constant(&[1e-300; 3]));
        // Shares of a whole, added in another order in each row.
        let sums: Vec<f64> = (0..40)
            .map(|row| {
                let share = |part: usize| 1.0 + ((part * 7 + row * 3) % 11) as f64 / 3.0;
                let whole: f64 = (0..30).map(share).sum();
                (0..30).map(|part| 100.0 * share((part + row) % 30) / whole).sum()
            })
            .collect();
        assert!(sums.iter().any(|sum| *sum != sums[0]), "{sums:?}");
        assert!(is_constant(&sums));
    }

    #[test]
    fn small_scales_and_offsets_are_data() {
        assert!(!is_constant(&[1e-20, -1e-20, 2e-20, -1.5e-20]));
        assert!(!is_constant(&[1e-160, -1e-160, 3e-160]));
        assert!(!is_constant(&[1e9, 1e9 + 0.01, 1e9 - 0.01]));
        // Units in the last place of numbers of single precision.
        assert!(!is_constant(&[
            4_194_304.0f32,
            4_194_304.5,
            4_194_305.5,
            4_194_306.0,
            4_194_307.0
        ]));
        assert!(!is_constant(&[1.7e9f32, 1.7e9 + 256.0, 1.7e9 - 512.0]));
    }
}

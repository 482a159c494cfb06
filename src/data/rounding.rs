//! Which variance is more than the rounding of the data.

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

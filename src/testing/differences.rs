//! Comparison of a gradient with central differences.

use super::Failure;
use crate::Real;

/// The largest number of coordinates compared; of a longer gradient, evenly spaced ones are
/// compared.
const COORDINATES: usize = 300;

/// A function of the parameters: its value, and the size of the terms that it sums, which bounds
/// its rounding error.
type Value<'f, T> = dyn FnMut(&[T]) -> Result<(T, T), Failure> + 'f;

/// Compares each entry of `gradient` with the central difference of `value` along that coordinate
/// of `at`.
///
/// `value` returns the function and the magnitude of the terms that it sums, which determines its
/// rounding error.
pub(super) fn compare<T: Real>(
    what: &str,
    at: &[T],
    gradient: &[T],
    value: &mut Value<'_, T>,
) -> Result<(), Failure> {
    if gradient.len() != at.len() {
        return Err(Failure::new(format!(
            "{what}: the gradient has {} entries for {} parameters",
            gradient.len(),
            at.len()
        )));
    }
    // ∛ε balances the truncation error h² of a central difference against its rounding error ε/h.
    let step = T::EPSILON.as_f64().cbrt();
    let stride = at.len().div_ceil(COORDINATES).max(1);
    let largest = gradient.iter().fold(0.0f64, |a, g| a.max(g.as_f64().abs()));
    let mut moved = at.to_vec();
    for i in (0..at.len()).step_by(stride) {
        let analytic = gradient[i].as_f64();
        let mut seen = Vec::new();
        // A kink (of a rectifier, or of a clamped parameter) between the two points spoils one step
        // size, but hardly all three.
        let agrees = [1.0, 0.1, 4.0].into_iter().try_fold(
            false,
            |agrees, factor| -> Result<bool, Failure> {
                if agrees {
                    return Ok(true);
                }
                let h = T::of(factor * step * at[i].as_f64().abs().max(1.0));
                moved[i] = at[i] + h;
                let (above, size_above) = value(&moved)?;
                let up = moved[i] - at[i];
                moved[i] = at[i] - h;
                let (below, size_below) = value(&moved)?;
                // The difference of the points as they were rounded, not 2h.
                let width = (up + (at[i] - moved[i])).as_f64();
                moved[i] = at[i];
                let numeric = (above.as_f64() - below.as_f64()) / width;
                seen.push(numeric);
                // Tolerance: the rounding of both values divided by the width, plus ∛ε·max(factor²,
                // 0.1) of the derivative (the truncation error grows with h²). 1 % of the largest
                // entry and 1e-3 keep the second term above 0 for entries near 0.
                let rounding = 32.0
                    * T::EPSILON.as_f64()
                    * (size_above.as_f64().abs() + size_below.as_f64().abs())
                    / width;
                let relative = step
                    * (factor * factor).max(0.1)
                    * (analytic.abs().max(numeric.abs()) + 0.01 * largest + 1e-3);
                Ok((analytic - numeric).abs() <= rounding + relative)
            },
        )?;
        if !agrees {
            return Err(Failure::new(format!(
                "{what}: the derivative by parameter {i} is {analytic:e}, and differences say {seen:?} (step {step:e} and parts of it)"
            )));
        }
    }
    Ok(())
}

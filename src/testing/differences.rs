//! Central differences against a gradient.

use super::Failure;
use crate::Real;

/// At most so many coordinates are tried; of longer gradients, coordinates evenly spread.
const COORDINATES: usize = 300;

/// Compares each entry of `gradient` with the central difference of `value` as that coordinate of
/// `at` is moved.
///
/// `value` gives the function and the size of the terms that it sums, against which its rounding is
/// seen.
pub(super) fn compare<T: Real>(
    what: &str,
    at: &[T],
    gradient: &[T],
    value: &mut dyn FnMut(&[T]) -> Result<(T, T), Failure>,
) -> Result<(), Failure> {
    if gradient.len() != at.len() {
        return Err(Failure::new(format!(
            "{what}: the gradient has {} entries for {} parameters",
            gradient.len(),
            at.len()
        )));
    }
    let step = T::EPSILON.as_f64().cbrt();
    let stride = at.len().div_ceil(COORDINATES).max(1);
    let largest = gradient.iter().fold(0.0f64, |a, g| a.max(g.as_f64().abs()));
    let mut moved = at.to_vec();
    for i in (0..at.len()).step_by(stride) {
        let analytic = gradient[i].as_f64();
        let mut seen = Vec::new();
        // A kink (of a rectifier, of a bound) between the two points spoils one step size, and
        // hardly all.
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
                let width = (up + (at[i] - moved[i])).as_f64();
                moved[i] = at[i];
                let numeric = (above.as_f64() - below.as_f64()) / width;
                seen.push(numeric);
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

//! Special functions that the standard library lacks.
//!
//! ln Γ of a single number, the error function, and no digamma are in `libm`; no other light crate
//! has a digamma that vectorises. ψ and the differences of ln Γ are therefore of this module: the
//! recurrence Γ(z) = Γ(z + 8) / (z(z + 1)…(z + 7)), and Stirling's series with eight terms at z +
//! 8, where its error is below a unit in the last place.

use super::Elementary;
use std::sync::LazyLock;

/// Counts below this have their ln x! in a table.
const TABLE: usize = 256;

static LN_FACTORIALS: LazyLock<[f64; TABLE]> =
    LazyLock::new(|| std::array::from_fn(|x| libm::lgamma(x as f64 + 1.0)));

/// ½ ln 2π.
pub(crate) const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// The coefficients B_2k / (2k(2k − 1)) of Stirling's series.
const STIRLING: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 360.0,
    1.0 / 1260.0,
    -1.0 / 1680.0,
    1.0 / 1188.0,
    -691.0 / 360_360.0,
    1.0 / 156.0,
    -3617.0 / 122_400.0,
];

/// Stirling's series S(z) = ln Γ(z) − (z − ½) ln z + z − ½ ln 2π, and S′(z), given 1/z for z of at
/// least 8.
#[inline(always)]
fn stirling_series(inverse: f64) -> (f64, f64) {
    let square = inverse * inverse;
    let (mut value, mut derivative) = (0.0, 0.0);
    for k in (0..STIRLING.len()).rev() {
        value = value * square + STIRLING[k];
        derivative = derivative * square + (2 * k + 1) as f64 * STIRLING[k];
    }
    (value * inverse, -derivative * square)
}

/// ln x! of a large count.
#[inline(always)]
fn ln_factorial_of_large(x: f64) -> f64 {
    (x + 0.5) * x.quick_ln() - x + HALF_LN_TWO_PI + stirling_series(1.0 / x).0
}

/// ln x! = ln Γ(x + 1).
pub(crate) fn ln_factorial(x: f64) -> f64 {
    if x >= TABLE as f64 {
        return ln_factorial_of_large(x);
    }
    if x >= 0.0 && x.fract() == 0.0 { LN_FACTORIALS[x as usize] } else { libm::lgamma(x + 1.0) }
}

/// ln x! of several counts; a vectorised loop where one of them is not in the table.
#[inline(always)]
pub(crate) fn ln_factorials<const N: usize>(x: &[f64; N]) -> [f64; N] {
    // Adding 2⁵² writes a count into the low bits: a conversion that vectorises.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let table = &*LN_FACTORIALS;
    let small = x.iter().fold(true, |small, &x| small & (x < TABLE as f64));
    let mut values = *x;
    if small {
        for l in 0..N {
            values[l] = table[(x[l] + WHOLE).to_bits() as usize % TABLE];
        }
        return values;
    }
    for l in 0..N {
        values[l] = ln_factorial_of_large(if x[l] > 255.0 { x[l] } else { 255.0 });
    }
    for l in 0..N {
        if x[l] < TABLE as f64 {
            values[l] = ln_factorial(x[l]);
        }
    }
    values
}

/// The binomial coefficient ln (n choose x), accurate where the factorials would cancel.
pub(crate) fn ln_binomial(n: f64, x: f64) -> f64 {
    if n < TABLE as f64 {
        return ln_factorial(n) - ln_factorial(x) - ln_factorial(n - x);
    }
    let fewer = x.min(n - x);
    if fewer == 0.0 {
        return 0.0;
    }
    let r = n - fewer + 1.0;
    ln_rising(fewer, &RisingConstants::new(r).0).0 + fewer * r.ln() - ln_factorial(fewer)
}

/// The product z(z + 1)…(z + 7), and that times Σ_{i<8} 1/(z + i).
#[inline(always)]
fn product_of_eight(z: f64) -> (f64, f64) {
    // The factors z + i and z + 7 − i have the product t + i(7 − i) with t = z(z + 7).
    let t = z * (z + 7.0);
    let (outer, inner) = (t * (t + 12.0), (t + 6.0) * (t + 10.0));
    let derivative = (2.0 * t + 12.0) * inner + outer * (2.0 * t + 16.0);
    (outer * inner, (2.0 * z + 7.0) * derivative)
}

/// What [`ln_rising`] needs of r: r, 1/r, 1/(r + 8), ln((r + 8)/r), S and S′ at r + 8, and of the
/// eight factors from r on the inverse of the product and the sum of the inverses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RisingConstants(pub [f64; 8]);

impl RisingConstants {
    /// For an r between 1e-40 and 1e30.
    pub(crate) fn new(r: f64) -> Self {
        let inverse = 1.0 / (r + 8.0);
        let (series, d_series) = stirling_series(inverse);
        let (product, inverses) = product_of_eight(r);
        let ln_shift = (8.0 / r).ln_1p();
        Self([r, 1.0 / r, inverse, ln_shift, series, d_series, 1.0 / product, inverses / product])
    }
}

/// G = ln Γ(x + r) − ln Γ(r) − x ln r for x ≥ 0, which is Σ_{i<x} ln(1 + i/r) for a count, and its
/// derivative by r, ψ(x + r) − ψ(r) − x/r.
///
/// It is computed as a difference, so that it keeps its digits where r is large: then G is about
/// x(x − 1)/2r beside ln Γ(r) of the size r ln r. Divisions take most of its time: 1/(x + r + 8)
/// and that by the product of eight factors are one.
#[inline(always)]
pub(crate) fn ln_rising(x: f64, constants: &[f64; 8]) -> (f64, f64) {
    let [r, inverse, inverse_shifted, ln_shift, series, d_series, inverse_product, inverses] =
        *constants;
    let total = x + (r + 8.0);
    let (product, inverses_above) = product_of_eight(x + r);
    let of_both = 1.0 / (total * product);
    let inverse_total = product * of_both;
    let growth = (x * inverse_shifted).quick_ln_1p();
    let (above, d_above) = stirling_series(inverse_total);
    let value = x * ln_shift + (total - 0.5) * growth - x + (above - series)
        - (product * inverse_product).quick_ln();
    let derivative = growth + 0.5 * x * inverse_shifted * inverse_total + (d_above - d_series)
        - (inverses_above * (total * of_both) - inverses)
        - x * inverse;
    (value, derivative)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digamma function ψ(x) for x > 0.
    fn digamma(x: f64) -> f64 {
        let shifted = x + 8.0;
        let (product, inverses) = product_of_eight(x);
        shifted.ln() - 0.5 / shifted + stirling_series(1.0 / shifted).1 - inverses / product
    }

    #[test]
    fn factorials_of_all_sizes() {
        let mut sum = 0.0;
        for x in 1..2000 {
            sum += f64::from(x).ln();
            assert!((ln_factorial(f64::from(x)) - sum).abs() <= 1e-13 * sum.max(1.0), "{x}");
        }
        let mixed = [0.0, 1.0, 255.0, 256.0, 1e6, 3.0, 1e15, 17.0];
        for x in [mixed, mixed.map(|x: f64| x.min(200.0))] {
            assert_eq!(ln_factorials(&x), x.map(ln_factorial));
        }
        assert!((ln_factorial(0.5) - libm::lgamma(1.5)).abs() < 1e-15);
    }

    #[test]
    fn digamma_at_known_places() {
        let gamma = 0.577_215_664_901_532_9;
        assert!((digamma(1.0) + gamma).abs() < 1e-15);
        assert!((digamma(0.5) + gamma + 2.0 * 2f64.ln()).abs() < 1e-14);
        assert!((digamma(1e6) - (1e6f64.ln() - 5e-7 - 1e-12 / 12.0)).abs() < 1e-14);
        assert!((digamma(1e-3) - (digamma(1.001) - 1e3)).abs() < 1e-12);
    }

    #[test]
    fn rising_factorials_against_their_sum() {
        for r in [1e-6, 0.01, 0.5, 1.0, 3.7, 40.0, 1e4, 1e8, 1e12] {
            let constants = RisingConstants::new(r).0;
            let (mut sum, mut derivative) = (0.0, 0.0);
            for x in 0..300 {
                let (value, d_value) = ln_rising(f64::from(x), &constants);
                let size = f64::from(x).max(1.0);
                // Rounding of terms of the size x max(1, ln 1/r).
                let scale = 4e-15 * size * (8.0f64 / r).ln_1p().max(1.0);
                assert!((value - sum).abs() <= scale, "{r} {x}: {value} {sum}");
                assert!((d_value - derivative).abs() * r <= 1e-14 * size, "{r} {x}");
                sum += (f64::from(x) / r).ln_1p();
                derivative -= f64::from(x) / (r * (r + f64::from(x)));
            }
        }
    }

    #[test]
    fn binomial_coefficients() {
        assert!((ln_binomial(10.0, 3.0) - 120f64.ln()).abs() < 1e-14);
        assert!((ln_binomial(300.0, 298.0) - 44_850f64.ln()).abs() < 1e-13);
        // n(n − 1)/2 for n = 10⁸: the factorials alone would have an error of 1e-7.
        assert!((ln_binomial(1e8, 2.0) - (1e8f64 * (1e8 - 1.0) / 2.0).ln()).abs() < 1e-13);
        assert_eq!(ln_binomial(300.0, 0.0), 0.0);
    }
}

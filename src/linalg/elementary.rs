//! Elementary functions for SIMD: without branches, tables or calls, so that loops over them are
//! vectorised; see [`super::vector`].
//!
//! Results are bit-identical on every processor, because no operation is a fused multiply-add. The
//! algorithms and constants are those of fdlibm and Cephes, with two exceptions. The exponential in
//! `f64` is a Taylor polynomial of degree 13. The artanh of softplus is a minimax polynomial in t²
//! (Remez exchange) for (2 artanh(t/2) − t)/t³ with t up to ⅔; its error is below a tenth of a unit
//! in the last place.
// Published constants have the digits that were published.
#![allow(clippy::excessive_precision)]

/// Elementary functions of `f32` and `f64` that vectorise in loops; a supertrait of
/// [`crate::Real`].
///
/// Largest errors in units in the last place, over all finite numbers: exp 2, exp_m1 3, ln 2,
/// ln_1p 2, softplus 3, sigmoid 3, tanh 3. For infinities and NaN the results are those of the
/// standard library.
///
/// ```
/// use elbo::linalg::Elementary;
/// assert!((1.5_f64.quick_exp() - 1.5_f64.exp()).abs() < 1e-15);
/// ```
pub trait Elementary: Copy {
    /// eˣ.
    fn quick_exp(self) -> Self;
    /// eˣ − 1, without cancellation for small x.
    fn quick_exp_m1(self) -> Self;
    /// ln x; −∞ at 0, NaN below.
    fn quick_ln(self) -> Self;
    /// ln(1 + x), without cancellation for small x; −∞ at −1, NaN below.
    fn quick_ln_1p(self) -> Self;
    /// The softplus ln(1 + eˣ), without overflow, and with full relative accuracy where it is tiny;
    /// 0 for x below −80 (−700 in `f64`), where it would soon be a subnormal number.
    fn quick_softplus(self) -> Self;
    /// The logistic sigmoid 1 / (1 + e⁻ˣ), with full relative accuracy where it is tiny; 0 for x
    /// below −80 (−700 in `f64`), where it would soon be a subnormal number.
    fn quick_sigmoid(self) -> Self;
    /// [`quick_softplus`](Self::quick_softplus) and [`quick_sigmoid`](Self::quick_sigmoid), which
    /// share one exponential.
    fn quick_softplus_and_sigmoid(self) -> (Self, Self);
    /// (eˣ, eˣ − 1) for |x| up to 80 (700 in `f64`), within 3 units in the last place.
    #[doc(hidden)]
    fn exp_and_exp_m1_bounded(self) -> (Self, Self);
    /// x, or 0 where |x| is below [`NEGLIGIBLE`](crate::Real::NEGLIGIBLE).
    ///
    /// An operation with a subnormal operand or result takes some hundred cycles on many
    /// processors. Values that decay or are multiplied by each other in every step of a fit are
    /// therefore flushed to 0 long before they become subnormal; NaN stays NaN.
    #[doc(hidden)]
    fn flushed(self) -> Self;
    /// e^(−|x|), where |x| is limited to 80 (700 in `f64`).
    ///
    /// With the limit neither this value e nor ln(1 + e) is subnormal; see
    /// [`flushed`](Self::flushed).
    #[doc(hidden)]
    fn exp_neg_abs(self) -> Self;
    /// [`quick_softplus_and_sigmoid`](Self::quick_softplus_and_sigmoid), given e = e^(−|x|).
    ///
    /// It allows loop fission: one loop computes all exponentials of a block, a second one the
    /// rest. More entries of a short loop body fit a processor's out-of-order window.
    #[doc(hidden)]
    fn softplus_and_sigmoid_from_exp(self, e: Self) -> (Self, Self);
    /// tanh x.
    fn quick_tanh(self) -> Self;
    /// (sin 2πu, cos 2πu) for u in [0, 1], with absolute errors below 2 ε.
    fn quick_sin_cos_turns(self) -> (Self, Self);
}

// An `if` may become a branch that the compiler follows into the code behind it, and the loop is
// then not vectorised. Softplus in f64 went from 14.1 to 11.0 ns an entry by this
// (docs/performance.md).
use std::hint::select_unpredictable as choose;

/// Evaluates a polynomial by Horner's scheme; the highest coefficient comes first.
macro_rules! horner {
    ($x:expr; $first:expr $(, $rest:expr)*) => {{ let sum = $first; $( let sum = sum * $x + $rest; )* sum }};
}

/// Evaluates a polynomial by Horner's scheme in x², over pairs of coefficients.
///
/// This is the first level of Estrin's scheme. The chain of dependent operations is half as long as
/// that of `horner!`, which waits for the latency of each of its operations.
macro_rules! estrin {
    ($x:expr, $square:expr; $a:expr, $b:expr $(, $c:expr, $d:expr)*) => {{ let sum = $a * $x + $b; $( let sum = sum * $square + ($c * $x + $d); )* sum }};
}

macro_rules! elementary {
    ($t:ident, $bits:ident, mantissa $mantissa:literal, bias $bias:literal,
     clamp ($low:literal, $high:literal), least ($least:literal), ln2 ($ln2_hi:literal, $ln2_lo:literal),
     exp [$($exp:expr),*], ln [$($ln:expr),*], sin [$($sin:expr),*], cos [$($cos:expr),*],
     tanh |$s:ident| $tanh:expr, artanh [$($artanh:expr),*], root $root:literal) => {
        impl Elementary for $t {
            #[inline(always)]
            fn quick_exp(self) -> Self {
                let (tail, first, second) = power_parts(self);
                (1.0 + tail) * first * second
            }

            #[inline(always)]
            fn quick_exp_m1(self) -> Self {
                let (tail, first, second) = power_parts(self);
                // eˣ − 1 = 2ᵏ·tail + (2ᵏ − 1). The second term is exact wherever the 1 is not lost
                // to rounding anyway, and is 0 for small x (k = 0): nothing cancels. For x > 8 the
                // plain difference is as accurate, and 2ᵏ alone may overflow where eˣ does not.
                let near = tail * first * second + (first * second - 1.0);
                let value = choose(self > 8.0, (1.0 + tail) * first * second - 1.0, near);
                // Returns −0 for −0.
                choose(self == 0.0, self, value)
            }

            #[inline(always)]
            fn quick_ln(self) -> Self {
                // Subnormal numbers are multiplied by a power of 2 that makes them normal, which is
                // taken off the exponent again.
                const SMALL: $t = ((1 as $bits) << ($mantissa + 2)) as $t;
                let tiny = self < <$t>::MIN_POSITIVE;
                let x = choose(tiny, self * SMALL, self);
                let (k, f) = split(x.to_bits());
                let k = choose(tiny, k - ($mantissa + 2) as $t, k);
                let value = from_parts(k, f, 0.0);
                let value = choose(self == 0.0, <$t>::NEG_INFINITY, value);
                let value = choose(self < 0.0, <$t>::NAN, value);
                choose(self < <$t>::INFINITY, value, self)
            }

            #[inline(always)]
            fn quick_ln_1p(self) -> Self {
                let u = 1.0 + self;
                // u = 1 + x is rounded. The lost part is exact (the larger summand is subtracted
                // first), and ln(1 + x) = ln u + lost/u up to terms of second order.
                let lost = choose(self < 1.0, self - (u - 1.0), 1.0 - (u - self));
                let (k, f) = split(u.to_bits());
                let value = from_parts(k, f, lost / u);
                let value = choose(u == 0.0, <$t>::NEG_INFINITY, value);
                let value = choose(self < -1.0, <$t>::NAN, value);
                // Here ln(1 + x) = x to rounding; the formula above would lose the sign of −0.
                let value = choose(self.abs() < 0.25 * <$t>::EPSILON, self, value);
                choose(self < <$t>::INFINITY, value, self)
            }

            #[inline(always)]
            fn quick_softplus(self) -> Self {
                self.quick_softplus_and_sigmoid().0
            }

            #[inline(always)]
            fn quick_sigmoid(self) -> Self {
                self.quick_softplus_and_sigmoid().1
            }

            #[inline(always)]
            fn quick_softplus_and_sigmoid(self) -> (Self, Self) {
                let (softplus, sigmoid) = self.softplus_and_sigmoid_from_exp(self.exp_neg_abs());
                let tiny = self < $least;
                (choose(tiny, 0.0, softplus), choose(tiny, 0.0, sigmoid))
            }

            #[inline(always)]
            fn flushed(self) -> Self {
                choose(self.abs() < <$t as crate::Real>::NEGLIGIBLE, 0.0, self)
            }

            #[inline(always)]
            fn exp_neg_abs(self) -> Self {
                let x = -self.abs();
                choose(x < $least, $least, x).exp_and_exp_m1_bounded().0
            }

            #[inline(always)]
            fn exp_and_exp_m1_bounded(self) -> (Self, Self) {
                let (k, tail) = reduced(self);
                let power = power(k);
                ((1.0 + tail) * power, tail * power + (power - 1.0))
            }

            #[inline(always)]
            fn softplus_and_sigmoid_from_exp(self, e: Self) -> (Self, Self) {
                // ln(1 + e) = 2 artanh s = t + t·t²(1/12 + …) with s = t/2 = e/(2 + e), at most ⅓.
                // Unlike a logarithm it needs no splitting of its argument into exponent and
                // mantissa.
                let t = (e + e) / (2.0 + e);
                // ln(1 + e) = e to rounding for small e, whose square could be subnormal.
                let square = choose(e < 0.25 * <$t>::EPSILON, 0.0, t * t);
                let value = t + t * (square * estrin!(square, square * square; $($artanh),*));
                (choose(self > 0.0, self, 0.0) + value, choose(self < 0.0, e, 1.0) / (1.0 + e))
            }

            #[inline(always)]
            fn quick_tanh(self) -> Self {
                let size = self.abs();
                let $s = self * self;
                let small = self + self * $s * $tanh;
                // 1 − 2/(e^{2|x|} + 1) cancels for small |x|; below 0.625, the limit in Cephes, a
                // rational (f64) or polynomial (f32) approximation of (tanh x − x)/x³ is used.
                let large = 1.0 - 2.0 / ((size + size).quick_exp() + 1.0);
                choose(size < 0.625, small, large).copysign(self)
            }

            #[inline(always)]
            fn quick_sin_cos_turns(self) -> (Self, Self) {
                // u in turns makes the reduction exact: 4u and its distance from the nearest whole
                // number have no rounding error, where x − k·π/2 in radians would have one.
                let quarters = self * 4.0;
                let shifted = quarters + ROUND;
                let quadrant = shifted.to_bits();
                let y = (quarters - (shifted - ROUND)) * std::$t::consts::FRAC_PI_2;
                let s = y * y;
                let sin = y + y * s * horner!(s; $($sin),*);
                let cos = 1.0 - (0.5 * s - s * s * horner!(s; $($cos),*));
                // The low two bits of 4u + ROUND are the quadrant: odd ones exchange sine and
                // cosine, and the second bit is the sign of the sine (one quadrant later, of the
                // cosine).
                let odd = quadrant & 1 == 1;
                let (a, b) = (choose(odd, cos, sin), choose(odd, sin, cos));
                let a = choose(quadrant & 2 == 2, -a, a);
                let b = choose(quadrant.wrapping_add(1) & 2 == 2, -b, b);
                (a, b)
            }
        }

        // 1.5·2^mantissa: adding it rounds to the nearest whole number, which is then in the low
        // bits. The half keeps the sum in the same binade for negative numbers.
        const ROUND: $t = 1.5 * ((1 as $bits) << $mantissa) as $t;

        /// Returns (k, tail) with eˣ = 2^k (1 + tail) and a whole k.
        #[inline(always)]
        fn reduced(x: $t) -> ($t, $t) {
            let k = (x * std::$t::consts::LOG2_E + ROUND) - ROUND;
            // Reduction of Cody and Waite: ln 2 = ln2_hi + ln2_lo, where the low bits of ln2_hi are
            // 0, so that k·ln2_hi is exact for normal results. |r| is at most ½ ln 2.
            let r = (x - k * $ln2_hi) - k * $ln2_lo;
            let square = r * r;
            (k, r + square * estrin!(r, square; $($exp),*))
        }

        /// Returns 2^k for a whole k for which 2^k is a normal number.
        #[inline(always)]
        fn power(k: $t) -> $t {
            // The sum has k plus the exponent's bias in its low bits: a conversion to an integer
            // without an instruction for it, which AVX2 does not have for 64 bits.
            const EXPONENT: $t = ((1 as $bits) << $mantissa) as $t + $bias as $t;
            <$t>::from_bits((k + EXPONENT).to_bits() << $mantissa)
        }

        /// Returns (tail, first, second) with eˣ = (1 + tail)·first·second.
        ///
        /// `first` and `second` are powers of 2. One would not do: where eˣ is subnormal, or close
        /// to overflow, 2^k is not a normal number.
        #[inline(always)]
        fn power_parts(x: $t) -> ($t, $t, $t) {
            // Beyond these limits eˣ is 0 or infinite in any case, and both powers stay normal. NaN
            // passes both comparisons unchanged.
            let x = choose(x > $high, $high, x);
            let (k, tail) = reduced(choose(x < $low, $low, x));
            let half = (k * 0.5 + ROUND) - ROUND;
            (tail, power(half), power(k - half))
        }

        /// Returns (k, f) with x = 2^k (1 + f) and 1 + f between √½ and √2, given the bits of a
        /// positive normal x.
        #[inline(always)]
        fn split(bits: $bits) -> ($t, $t) {
            const ONE: $bits = (1.0 as $t).to_bits();
            const WHOLE: $t = ((1 as $bits) << $mantissa) as $t;
            let shifted = bits.wrapping_add(ONE - $root);
            // As in `power`, the exponent becomes a number by way of the low bits of 2^mantissa.
            let k = <$t>::from_bits((shifted >> $mantissa) | WHOLE.to_bits()) - (WHOLE + $bias as $t);
            let f = <$t>::from_bits((shifted & (((1 as $bits) << $mantissa) - 1)) + $root) - 1.0;
            (k, f)
        }

        /// Returns k ln 2 + ln(1 + f) + c, for a small correction c.
        #[inline(always)]
        fn from_parts(k: $t, f: $t, c: $t) -> $t {
            // As in fdlibm: ln(1 + f) = f − f²/2 + s(f²/2 + tail) with s = f/(2 + f). Small terms
            // are added first, and the largest, k·ln2_hi, which is exact, last.
            let half_square = 0.5 * f * f;
            let s = f / (2.0 + f);
            let z = s * s;
            let tail = z * horner!(z; $($ln),*);
            k * $ln2_hi - ((half_square - (s * (half_square + tail) + (k * $ln2_lo + c))) - f)
        }
    };
}

mod double {
    use super::{Elementary, choose};
    // exp: 1/13! … 1/2!; the next term is below 5e-18 for |r| ≤ ½ ln 2. ln, sin and cos: fdlibm.
    // tanh: Cephes. root: the bits of √½.
    elementary!(
        f64, u64, mantissa 52, bias 1023,
        clamp (-746.0, 710.0), least (-700.0), ln2 (6.931_471_803_691_238_164_90e-1, 1.908_214_929_270_587_700_02e-10),
        exp [1.0 / 6_227_020_800.0, 1.0 / 479_001_600.0, 1.0 / 39_916_800.0, 1.0 / 3_628_800.0, 1.0 / 362_880.0, 1.0 / 40_320.0,
             1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5],
        ln [1.479_819_860_511_658_591e-1, 1.531_383_769_920_937_332e-1, 1.818_357_216_161_805_012e-1, 2.222_219_843_214_978_396e-1,
            2.857_142_874_366_239_149e-1, 3.999_999_999_940_941_908e-1, 6.666_666_666_666_735_130e-1],
        sin [1.589_690_995_211_550_102_21e-10, -2.505_076_025_340_686_341_95e-8, 2.755_731_370_707_006_767_89e-6,
             -1.984_126_982_985_794_931_34e-4, 8.333_333_333_322_489_461_24e-3, -1.666_666_666_666_663_243_48e-1],
        cos [-1.135_964_755_778_819_482_65e-11, 2.087_572_321_298_174_827_90e-9, -2.755_731_435_139_066_330_35e-7,
             2.480_158_728_947_672_941_78e-5, -1.388_888_888_887_410_957_49e-3, 4.166_666_666_666_660_190_37e-2],
        tanh |s| horner!(s; -9.643_991_794_250_522_386_28e-1, -9.928_772_310_019_185_865_64e1, -1.614_687_684_417_084_479_52e3)
            / horner!(s; 1.0, 1.128_116_784_916_329_314_02e2, 2.235_488_390_601_004_485_83e3, 4.844_063_053_251_254_860_48e3),
        artanh [8.115_101_133_461_898_8e-8, 1.590_745_154_082_524_53e-7, 9.236_213_944_569_789_5e-7, 4.059_134_823_303_230_91e-6, 1.878_242_182_575_201_9e-5,
                8.877_804_649_412_884_6e-5, 4.340_278_119_107_557_46e-4, 2.232_142_855_300_930_47e-3, 1.250_000_000_004_914_47e-2, 8.333_333_333_333_287_97e-2],
        root 0x3fe6_a09e_667f_3bcd
    );
}

mod single {
    use super::{Elementary, choose};
    // exp, sin, cos and tanh: Cephes. ln: e_logf.c of FreeBSD, after fdlibm. root: the bits of √½.
    elementary!(
        f32, u32, mantissa 23, bias 127,
        clamp (-104.0, 89.0), least (-80.0), ln2 (6.931_381_225_6e-1, 9.058_000_614_5e-6),
        exp [1.987_569_15e-4, 1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 0.5],
        ln [0.242_790_788_41, 0.284_987_866_88, 0.400_009_721_52, 0.666_666_626_93],
        sin [-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1],
        cos [2.443_315_711_809_948e-5, -1.388_731_625_493_765e-3, 4.166_664_568_298_827e-2],
        tanh |s| horner!(s; -5.704_988_727_45e-3, 2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1),
        artanh [5.473_530_411_7e-4, 2.187_432_572_78e-3, 1.250_678_105_84e-2, 8.333_301_640_58e-2],
        root 0x3f35_04f3
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance of two numbers in units in the last place; 0 for two NaN.
    fn steps(a: f64, b: f64) -> u64 {
        if a.is_nan() || b.is_nan() {
            return if a.is_nan() && b.is_nan() { 0 } else { u64::MAX };
        }
        let key = |v: f64| {
            if v < 0.0 { -((v.to_bits() & (u64::MAX >> 1)) as i64) } else { v.to_bits() as i64 }
        };
        key(a).abs_diff(key(b))
    }
    fn steps_single(a: f32, b: f64) -> u64 {
        if a.is_nan() || b.is_nan() {
            return if a.is_nan() && b.is_nan() { 0 } else { u64::MAX };
        }
        let key = |v: f32| {
            if v < 0.0 { -((v.to_bits() & (u32::MAX >> 1)) as i64) } else { v.to_bits() as i64 }
        };
        key(a).abs_diff(key(b as f32))
    }

    fn inputs() -> Vec<f64> {
        let mut all = vec![
            0.0,
            f64::MIN_POSITIVE,
            5e-324,
            1e-310,
            f64::MAX,
            f64::INFINITY,
            1.0,
            0.5,
            0.625,
            2.0,
            700.0,
            709.7,
            709.9,
            745.0,
            745.2,
            746.0,
            800.0,
            88.7,
            88.8,
            103.9,
            104.1,
        ];
        let mut state = 0x1234_5678_9abc_def1_u64;
        for i in 0..200_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
            all.push(match i % 5 {
                0 => unit,
                1 => unit * 20.0,
                2 => unit * 750.0,
                3 => 10f64.powf(-40.0 * unit),
                _ => f64::from_bits(state >> 1),
            });
        }
        let negative: Vec<f64> = all.iter().map(|v| -v).collect();
        all.extend(negative);
        all.push(f64::NAN);
        all
    }

    fn check(
        name: &str,
        limit: u64,
        quick: fn(f64) -> f64,
        single: fn(f32) -> f32,
        exact: fn(f64) -> f64,
    ) {
        let (mut worst, mut worst_single) = ((0, 0.0), (0, 0.0));
        // Softplus and sigmoid are 0 far below 0, where they would soon be subnormal.
        let (least, least_single) = match name {
            "softplus" | "sigmoid" => (-700.0, -80.0),
            _ => (f64::NEG_INFINITY, f32::NEG_INFINITY),
        };
        for x in inputs() {
            let expected = if x < least { 0.0 } else { exact(x) };
            let error = steps(quick(x), expected);
            worst = if error > worst.0 { (error, x) } else { worst };
            let y = x as f32;
            let expected = if y < least_single { 0.0 } else { exact(f64::from(y)) };
            let error = steps_single(single(y), expected);
            worst_single = if error > worst_single.0 { (error, x) } else { worst_single };
        }
        assert!(
            worst.0 <= limit,
            "{name} f64: {} steps at {:e}: {:e} for {:e}",
            worst.0,
            worst.1,
            quick(worst.1),
            exact(worst.1)
        );
        assert!(
            worst_single.0 <= limit,
            "{name} f32: {} steps at {:e}: {:e}",
            worst_single.0,
            worst_single.1,
            single(worst_single.1 as f32)
        );
    }

    #[test]
    fn all_classes_of_floats() {
        check("exp", 2, f64::quick_exp, f32::quick_exp, f64::exp);
        check("exp_m1", 3, f64::quick_exp_m1, f32::quick_exp_m1, f64::exp_m1);
        check("ln", 2, f64::quick_ln, f32::quick_ln, f64::ln);
        check("ln_1p", 2, f64::quick_ln_1p, f32::quick_ln_1p, f64::ln_1p);
        check("softplus", 3, f64::quick_softplus, f32::quick_softplus, |x| {
            x.max(0.0) + (-x.abs()).exp().ln_1p() + 0.0 * if x.is_nan() { x } else { 0.0 }
        });
        check("sigmoid", 3, f64::quick_sigmoid, f32::quick_sigmoid, |x| {
            if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
        });
        check("tanh", 3, f64::quick_tanh, f32::quick_tanh, f64::tanh);
        assert!(
            (-0.0_f64).quick_tanh().is_sign_negative()
                && (-0.0_f32).quick_ln_1p().is_sign_negative()
        );
    }

    #[test]
    fn exponentials_within_a_range() {
        for x in inputs().into_iter().filter(|x| x.abs() <= 700.0) {
            let (exp, less_1) = x.exp_and_exp_m1_bounded();
            assert!(
                steps(exp, x.exp()) <= 2
                    && (steps(less_1, x.exp_m1()) <= 3 || (x == 0.0 && less_1 == 0.0)),
                "{x:e}: {exp:e} {less_1:e}"
            );
            assert!(steps(x.exp_neg_abs(), (-x.abs()).exp()) <= 2, "{x:e}");
            let y = x as f32;
            if y.abs() <= 80.0 {
                let (exp, less_1) = y.exp_and_exp_m1_bounded();
                let wide = f64::from(y);
                assert!(
                    steps_single(exp, wide.exp()) <= 2
                        && (steps_single(less_1, wide.exp_m1()) <= 3
                            || (y == 0.0 && less_1 == 0.0)),
                    "{y:e}"
                );
                assert!(steps_single(y.exp_neg_abs(), (-wide.abs()).exp()) <= 2, "{y:e}");
            }
        }
        // Beyond the limit the value is that at the limit; NaN stays NaN.
        assert!(
            1e30_f32.exp_neg_abs() == 80f32.exp_neg_abs()
                && f64::INFINITY.exp_neg_abs() == 700f64.exp_neg_abs()
        );
        assert!(f32::NAN.exp_neg_abs().is_nan() && f64::NAN.exp_neg_abs().is_nan());
    }

    #[test]
    fn turns() {
        for i in 0..=4000 {
            let u = f64::from(i) / 4000.0;
            let (sin, cos) = u.quick_sin_cos_turns();
            let (exact_sin, exact_cos) = (std::f64::consts::TAU * u).sin_cos();
            assert!((sin - exact_sin).abs() < 1e-15 && (cos - exact_cos).abs() < 1e-15, "{u}");
            let (sin, cos) = (u as f32).quick_sin_cos_turns();
            let (exact_sin, exact_cos) = (std::f64::consts::TAU * f64::from(u as f32)).sin_cos();
            assert!(
                (f64::from(sin) - exact_sin).abs() < 2.4e-7
                    && (f64::from(cos) - exact_cos).abs() < 2.4e-7,
                "{u}"
            );
        }
    }
}

//! Loops over slices (BLAS level 1), compiled for each instruction set and chosen at run time.
//!
//! Results are bit-identical on every processor: no operation is fused (Rust never contracts
//! a·b + c by itself), and each sum has a fixed number of partial sums, whatever the width of a
//! vector.
#![allow(unsafe_code)]

/// Compiles a function three times, for the features of the build target, AVX2 and AVX-512, and
/// calls the one with the widest vectors that this processor has.
///
/// NEON needs no version of its own: it is part of the aarch64 target.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        pub(crate) fn $name:ident $(<$g:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name $(<$g: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$g: $bound>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$g: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
                fn avx512 $(<$g: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                if has_avx512() {
                    // SAFETY: the processor has these features, just detected.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has these features, just detected.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
use super::SimdLevel;
use crate::Real;

/// Whether the loops of this file may use AVX-512. They need VL too (its instructions on shorter
/// vectors), which the micro-kernels do not.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Runs a closure compiled for the widest vectors of this processor. The closure must be marked
/// `#[inline(always)]`: a call would keep the features of the build target.
#[inline]
pub(crate) fn with_widest_simd<R>(run: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    return with_simd_up_to(SimdLevel::Avx512, run);
    #[cfg(not(target_arch = "x86_64"))]
    with_simd_up_to(SimdLevel::Portable, run)
}

/// [`with_widest_simd`] with vectors no wider than those of `level`.
#[inline]
pub(crate) fn with_simd_up_to<R>(level: SimdLevel, run: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2")]
        fn avx512<R>(run: impl FnOnce() -> R) -> R {
            run()
        }
        if level >= SimdLevel::Avx512 && has_avx512() {
            // SAFETY: the processor has these features, just detected.
            return unsafe { avx512(run) };
        }
        if level >= SimdLevel::Avx2 && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has this feature, just detected.
            return unsafe { avx2(run) };
        }
    }
    let _ = level;
    run()
}

/// Partial sums of a reduction: two AVX-512 vectors of `f64`, or four AVX2 ones, so that additions
/// do not wait for each other. Fixed, since the order of a sum depends on it.
const WIDTH: usize = 16;

dispatch! {
    /// Inner product Σ a_i b_i, summed in the same order on every processor.
    pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
        let len = a.len().min(b.len());
        let (a, b) = (&a[..len], &b[..len]);
        let mut sums = [T::zero(); WIDTH];
        let (blocks_a, blocks_b) = (a.chunks_exact(WIDTH), b.chunks_exact(WIDTH));
        let rest = blocks_a.remainder().iter().zip(blocks_b.remainder());
        let rest = rest.fold(T::zero(), |s, (x, y)| s + *x * *y);
        for (x, y) in blocks_a.zip(blocks_b) {
            for i in 0..WIDTH {
                sums[i] += x[i] * y[i];
            }
        }
        // The partial sums, as a tree.
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                sums[i] += sums[i + half];
            }
        }
        sums[0] + rest
    }
}

dispatch! {
    /// b ← b + factor·a (BLAS `axpy`).
    pub(crate) fn add_scaled<T: Real>(b: &mut [T], factor: T, a: &[T]) {
        for (y, x) in b.iter_mut().zip(a) {
            *y += factor * *x;
        }
    }
}

dispatch! {
    /// b ← b − f·x − g·y for x = (f, x) and y = (g, y): one pass over b in place of two.
    pub(crate) fn subtract_two(b: &mut [f64], x: (f64, &[f64]), y: (f64, &[f64])) {
        for ((b, &x_i), &y_i) in b.iter_mut().zip(x.1).zip(y.1) {
            *b -= x.0 * x_i + y.0 * y_i;
        }
    }
}

/// The sum of eight partial sums, as a tree.
#[inline(always)]
fn sum_of_eight(s: &[f64; 8]) -> f64 {
    ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

dispatch! {
    /// Inner products Σ x_i v_i and Σ y_i v_i, in one pass over v.
    pub(crate) fn two_dots(x: &[f64], y: &[f64], v: &[f64]) -> (f64, f64) {
        const LANES: usize = 8;
        let (x, y) = (&x[..v.len()], &y[..v.len()]);
        let (v, v_rest) = v.as_chunks::<LANES>();
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        let mut sums = [[0.0; LANES]; 2];
        for ((x, y), v) in x.iter().zip(y).zip(v) {
            for l in 0..LANES {
                sums[0][l] += x[l] * v[l];
                sums[1][l] += y[l] * v[l];
            }
        }
        let mut totals = (sum_of_eight(&sums[0]), sum_of_eight(&sums[1]));
        for ((x, y), v) in x_rest.iter().zip(y_rest).zip(v_rest) {
            totals.0 += x * v;
            totals.1 += y * v;
        }
        totals
    }
}

dispatch! {
    /// w ← w + Σ factors_c·column_c, and the inner products column_c·v, for four columns.
    ///
    /// One pass over the columns serves both products of a symmetric matrix of which one triangle
    /// is stored: the columns come from memory once, and w and v once for four of them.
    pub(crate) fn four_columns(
        columns: [&[f64]; 4],
        v: &[f64],
        factors: [f64; 4],
        w: &mut [f64],
    ) -> [f64; 4] {
        const LANES: usize = 8;
        let len = w.len();
        let [a, b, c, d] = columns.map(|column| &column[..len]);
        let v = &v[..len];
        let (w, w_rest) = w.as_chunks_mut::<LANES>();
        let whole = LANES * w.len();
        let mut sums = [[0.0; LANES]; 4];
        let blocks = |x| <[f64]>::as_chunks::<LANES>(x).0;
        let blocks_of_columns = blocks(a).iter().zip(blocks(b)).zip(blocks(c)).zip(blocks(d));
        for ((w, v), (((a, b), c), d)) in w.iter_mut().zip(blocks(v)).zip(blocks_of_columns) {
            for i in 0..LANES {
                sums[0][i] += a[i] * v[i];
                sums[1][i] += b[i] * v[i];
                sums[2][i] += c[i] * v[i];
                sums[3][i] += d[i] * v[i];
                w[i] += (factors[0] * a[i] + factors[1] * b[i])
                    + (factors[2] * c[i] + factors[3] * d[i]);
            }
        }
        let mut totals = sums.map(|sums| sum_of_eight(&sums));
        for (i, w) in w_rest.iter_mut().enumerate() {
            let i = whole + i;
            totals[0] += a[i] * v[i];
            totals[1] += b[i] * v[i];
            totals[2] += c[i] * v[i];
            totals[3] += d[i] * v[i];
            *w += (factors[0] * a[i] + factors[1] * b[i])
                + (factors[2] * c[i] + factors[3] * d[i]);
        }
        totals
    }
}

dispatch! {
    /// Plane rotation (a, b) ← (c·a − s·b, s·a + c·b) (BLAS `rot`, with the sign of s reversed).
    pub(crate) fn rotate<T: Real>(a: &mut [T], b: &mut [T], c: T, s: T) {
        for (x, y) in a.iter_mut().zip(b) {
            let (old_x, old_y) = (*x, *y);
            *x = c * old_x - s * old_y;
            *y = s * old_x + c * old_y;
        }
    }
}

dispatch! {
    /// Whether every entry is finite.
    pub(crate) fn all_finite<T: Real>(a: &[T]) -> bool {
        // v·0 is 0 for a finite v and NaN for others, and NaN stays in a sum: no branch for each
        // entry.
        let mut sums = [T::zero(); WIDTH];
        let blocks = a.chunks_exact(WIDTH);
        let rest = blocks.remainder().iter().fold(T::zero(), |s, v| s + *v * T::zero());
        for block in blocks {
            for i in 0..WIDTH {
                sums[i] += block[i] * T::zero();
            }
        }
        sums.iter().fold(rest, |s, v| s + *v) == T::zero()
    }
}

dispatch! {
    /// max |a_i|, or 0 of nothing. NaN may be skipped.
    pub(crate) fn max_abs<T: Real>(a: &[T]) -> T {
        let mut most = [T::zero(); WIDTH];
        let blocks = a.chunks_exact(WIDTH);
        let rest = blocks.remainder().iter().fold(T::zero(), |m, v| m.max(v.abs()));
        for block in blocks {
            for i in 0..WIDTH {
                let size = block[i].abs();
                // A select, which becomes one instruction; `max` must treat NaN by more.
                most[i] = if size > most[i] { size } else { most[i] };
            }
        }
        most.iter().fold(rest, |m, v| m.max(*v))
    }
}

/// Shifts for which [`count_above`] counts at once: one division waits for the one before it in its
/// lane, so that several lanes are needed to keep the divider busy.
pub(crate) const LANES: usize = 16;

dispatch! {
    /// Plane rotations (i, c, s) of the neighbouring columns i and i + 1, one after another.
    pub(crate) fn rotate_neighbours(
        block: &mut [f64],
        rows: usize,
        rotations: &[(usize, f64, f64)],
    ) {
        for &(i, c, s) in rotations {
            let (a, b) = block[i * rows..(i + 2) * rows].split_at_mut(rows);
            for (x, y) in a.iter_mut().zip(b) {
                let (old_x, old_y) = (*x, *y);
                *x = c * old_x - s * old_y;
                *y = s * old_x + c * old_y;
            }
        }
    }
}

dispatch! {
    /// Number of eigenvalues above each shift x of a symmetric tridiagonal matrix T, with diagonal
    /// `d` and squared off-diagonal `squares`: by Sylvester's law of inertia, the number of
    /// positive pivots of T − x (Golub & Van Loan, Sturm sequences).
    pub(crate) fn count_above(
        d: &[f64],
        squares: &[f64],
        least: f64,
        shifts: &[f64; LANES],
    ) -> [f64; LANES] {
        let mut pivots = [1.0; LANES];
        let mut counts = [0.0; LANES];
        for (value, square) in d.iter().zip(squares) {
            for l in 0..LANES {
                let pivot = value - shifts[l] - square / pivots[l];
                // A zero pivot would be divided by in the next step.
                let pivot = if pivot.abs() < least { -least } else { pivot };
                counts[l] += if pivot > 0.0 { 1.0 } else { 0.0 };
                pivots[l] = pivot;
            }
        }
        counts
    }
}

dispatch! {
    /// quotients_j ← z_j/(d_j − λ) for λ = origin + distance: the terms of the secular equation,
    /// with poles d and weights z.
    pub(crate) fn secular_quotients(
        poles: &[f64],
        weights: &[f64],
        origin: f64,
        distance: f64,
        quotients: &mut [f64],
    ) {
        for ((quotient, d), z) in quotients.iter_mut().zip(poles).zip(weights) {
            *quotient = z / ((d - origin) - distance);
        }
    }
}

/// Euclidean norm ‖a‖ without overflow or underflow (BLAS `nrm2`).
pub(crate) fn norm<T: Real>(a: &[T]) -> T {
    let square = dot(a, a);
    // The plain sum of squares is accurate unless it has overflowed, or is so small that squares
    // may have lost digits as subnormal numbers. Only then is a second pass over scaled entries
    // needed.
    if square.as_f64() > T::TINY_SQUARE && square.is_finite() {
        return square.sqrt();
    }
    let largest = max_abs(a);
    if largest == T::zero() || !largest.is_finite() {
        return largest;
    }
    largest * a.iter().fold(T::zero(), |s, v| s + (*v / largest) * (*v / largest)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each elementary function over a slice, at each level, is bit-identical to single calls.
    fn identical_on_every_level<T: Real>(bits: impl Fn(T) -> u64) {
        let special = [
            0.0, -0.0, 1e-45, -1e-310, 1e-38, 0.3466, -0.3466, 8.0, 87.5, -87.5, 709.5, -745.0,
            1e30, -1e30,
        ];
        let mut x: Vec<T> = special
            .into_iter()
            .chain([f64::INFINITY, f64::NEG_INFINITY, f64::NAN])
            .map(T::of)
            .collect();
        x.extend((0..4001).map(|i| T::of((f64::from(i) - 2000.0) * 0.0137)));
        let functions: [fn(T) -> T; 8] = [
            T::quick_exp,
            T::quick_exp_m1,
            T::quick_ln,
            T::quick_ln_1p,
            T::quick_softplus,
            T::quick_sigmoid,
            T::quick_tanh,
            T::exp_neg_abs,
        ];
        macro_rules! check {
            ($($index:literal $name:ident),*) => {$(
                for level in SimdLevel::available() {
                    let mut y = x.clone();
                    with_simd_up_to(
                        level,
                        #[inline(always)]
                        || {
                            for v in y.iter_mut() {
                                *v = v.$name();
                            }
                        },
                    );
                    for (x, y) in x.iter().zip(&y) {
                        let single = functions[$index](*x);
                        assert!(
                            bits(single) == bits(*y) || (single.is_nan() && y.is_nan()),
                            "{} at {x} on {level:?}",
                            stringify!($name)
                        );
                    }
                }
            )*};
        }
        trait IsNan {
            fn is_nan(&self) -> bool;
        }
        impl<T: Real> IsNan for T {
            #[allow(clippy::eq_op)]
            fn is_nan(&self) -> bool {
                self != self
            }
        }
        check!(
            0 quick_exp, 1 quick_exp_m1, 2 quick_ln, 3 quick_ln_1p, 4 quick_softplus,
            5 quick_sigmoid, 6 quick_tanh, 7 exp_neg_abs
        );
    }

    #[test]
    fn every_level_is_bit_identical_to_single_calls() {
        identical_on_every_level::<f64>(f64::to_bits);
        identical_on_every_level::<f32>(|v| u64::from(v.to_bits()));
    }

    #[test]
    fn four_columns_at_once() {
        for len in [0, 1, 7, 8, 23, 64] {
            let column =
                |c: usize| (0..len).map(|i| ((i * 7 + c * 3) % 11) as f64).collect::<Vec<f64>>();
            let columns: [Vec<f64>; 4] = std::array::from_fn(column);
            let (v, mut w) = (column(9), vec![1.0; len]);
            let sums = four_columns(
                std::array::from_fn(|c| columns[c].as_slice()),
                &v,
                [1.0, -2.0, 3.0, 0.5],
                &mut w,
            );
            for c in 0..4 {
                assert_eq!(sums[c], columns[c].iter().zip(&v).map(|(a, b)| a * b).sum::<f64>());
            }
            for i in 0..len {
                assert_eq!(
                    w[i],
                    1.0 + columns[0][i] - 2.0 * columns[1][i]
                        + 3.0 * columns[2][i]
                        + 0.5 * columns[3][i]
                );
            }
        }
    }

    #[test]
    fn two_vectors_at_once() {
        for len in [0, 1, 8, 23, 64] {
            let column =
                |c: usize| (0..len).map(|i| ((i * 7 + c * 3) % 11) as f64).collect::<Vec<f64>>();
            let (x, y, v) = (column(0), column(1), column(2));
            assert_eq!(two_dots(&x, &y, &v), (dot(&x, &v), dot(&y, &v)));
            let mut b = v.clone();
            subtract_two(&mut b, (2.0, &x), (-0.5, &y));
            assert!((0..len).all(|i| b[i] == v[i] - 2.0 * x[i] + 0.5 * y[i]));
        }
    }

    #[test]
    fn sums_and_rotations() {
        let a: Vec<f64> = (0..37).map(f64::from).collect();
        assert_eq!(dot(&a, &a), (0..37).map(|i| f64::from(i * i)).sum::<f64>());
        let (mut x, mut y) = (a.clone(), vec![1.0; 37]);
        rotate(&mut x, &mut y, 0.6, 0.8);
        assert!((x[10] - 5.2).abs() < 1e-15 && (y[10] - 8.6).abs() < 1e-14);
        add_scaled(&mut y, 2.0, &a);
        assert!((y[10] - 28.6).abs() < 1e-14);
    }

    #[test]
    fn norms_of_extreme_vectors() {
        assert_eq!(norm(&[3e-200, 4e-200]), 5e-200);
        assert!((norm(&[3e200_f64, 4e200]) / 5e200 - 1.0).abs() < 1e-15);
        assert!((norm(&[3e-30_f32, 4e-30]) / 5e-30 - 1.0).abs() < 1e-6);
        assert_eq!(norm::<f64>(&[]), 0.0);
        assert_eq!(norm(&[0.0, f64::INFINITY]), f64::INFINITY);
    }
}

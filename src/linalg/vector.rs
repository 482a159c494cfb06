//! Element-wise functions of slices with run-time CPU dispatch (AVX-512, AVX2, or the instructions
//! that every processor of the target has, such as NEON), and standard normal samples.
//!
//! [`vectorized`] dispatches any loop of the caller in the same way, so that several operations on
//! an entry can be one pass over memory.

use super::kernel::vector::with_widest_simd;
use crate::Real;
use nalgebra::{DMatrix, DMatrixView};
use rand::Rng;

/// Runs a closure that is compiled for the widest SIMD registers of this processor.
///
/// The closure is a loop over slices. It is vectorised when its body is simple: arithmetic,
/// selections by a comparison, the functions of [`super::Elementary`]. Results are bit-identical on
/// every processor, because the compiler does not introduce fused multiply-adds.
///
/// Write a plain `for` loop in a closure marked `#[inline(always)]`. Code that is not inlined keeps
/// the instruction set of the default target: with `for_each`, softplus in `f64` took 11 to 14 ns
/// an entry, and 3.1 with `for`.
///
/// ```
/// use elbo::linalg::{Elementary, vector::vectorized};
/// let (logits, mut means) = (vec![0.0_f32; 100], vec![0.0; 100]);
/// vectorized(
///     #[inline(always)]
///     || {
///         for (m, l) in means.iter_mut().zip(&logits) {
///             *m = l.quick_sigmoid();
///         }
///     },
/// );
/// assert_eq!(means[7], 0.5);
/// ```
#[inline]
pub fn vectorized<R>(run: impl FnOnce() -> R) -> R {
    with_widest_simd(run)
}

/// Writes the differences a − b of each column a of a matrix and a vector b, column by column.
///
/// They are computed in the wider of the two precisions.
pub(crate) fn subtract<T: Real, U: Real>(
    columns: DMatrixView<'_, T>,
    b: &[T],
    differences: &mut [U],
) {
    let wider = size_of::<U>() > size_of::<T>();
    vectorized(
        #[inline(always)]
        || {
            for (column, to) in
                columns.column_iter().zip(differences.chunks_exact_mut(b.len().max(1)))
            {
                for ((to, &a), &b) in to.iter_mut().zip(column.data.into_slice()).zip(b) {
                    *to = U::of(if wider { a.as_f64() - b.as_f64() } else { (a - b).as_f64() });
                }
            }
        },
    );
}

/// Entries of a block of [`in_lanes`].
// One AVX-512 register of f64. With columns of eight log-variances as one block each, in place of
// single entries, the VAE step of the digits took 0.74 of the time.
pub(crate) const LANES: usize = 8;

/// Overwrites outputs by f(inputs, outputs), in blocks of [`LANES`] entries; slices of one length.
///
/// The last block is padded with zeros, so that even short slices are processed by SIMD and not
/// entry by entry. `f` receives fixed-size arrays by value: there is no aliasing to disprove, and
/// the compiler vectorises the loop over the entries of a block that `f` contains.
#[inline(always)]
pub(crate) fn in_lanes<T: Real, const N: usize, const M: usize>(
    inputs: [&[T]; N],
    outputs: [&mut [T]; M],
    mut f: impl FnMut([[T; LANES]; N], [[T; LANES]; M]) -> [[T; LANES]; M],
) {
    let len = inputs.first().map_or(0, |input| input.len());
    debug_assert!(
        inputs.iter().all(|input| input.len() == len)
            && outputs.iter().all(|output| output.len() == len)
    );
    let inputs = inputs.map(|input| input.as_chunks::<LANES>());
    let mut outputs = outputs.map(|output| output.as_chunks_mut::<LANES>());
    for c in 0..len / LANES {
        let values =
            f(inputs.map(|(whole, _)| whole[c]), outputs.each_ref().map(|(whole, _)| whole[c]));
        for m in 0..M {
            outputs[m].0[c] = values[m];
        }
    }
    if !len.is_multiple_of(LANES) {
        let values = f(
            inputs.map(|(_, rest)| padded(rest)),
            outputs.each_ref().map(|(_, rest)| padded(rest)),
        );
        for ((_, rest), values) in outputs.iter_mut().zip(&values) {
            rest.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
        }
    }
}

/// A block that starts with `values` and ends with zeros.
#[inline(always)]
fn padded<T: Real>(values: &[T]) -> [T; LANES] {
    std::array::from_fn(|l| if l < values.len() { values[l] } else { T::zero() })
}

/// The sum Σ f(x_i), in blocks of [`LANES`] entries with a partial sum for each lane.
#[inline(always)]
pub(crate) fn sum_in_lanes<T: Real>(x: &[T], f: impl Fn(T) -> T) -> T {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sums = [T::zero(); LANES];
    for x in whole {
        for l in 0..LANES {
            sums[l] += f(x[l]);
        }
    }
    // f of a padded zero need not be 0: those lanes are left out of the sums.
    if !rest.is_empty() {
        let last = padded(rest);
        for l in 0..LANES {
            sums[l] += if l < rest.len() { f(last[l]) } else { T::zero() };
        }
    }
    total(sums)
}

/// The sum of one partial sum for each lane, reduced pairwise in a fixed order.
#[inline(always)]
pub(crate) fn total<T: Real>(mut sums: [T; LANES]) -> T {
    for half in [4, 2, 1] {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
    }
    sums[0]
}

/// The squared Euclidean norm of each column, accumulated in double precision.
pub(crate) fn squared_norms<T: Real>(columns: &DMatrix<T>) -> Vec<f64> {
    let mut norms = vec![0.0; columns.ncols()];
    squared_norms_into(columns.as_slice(), columns.nrows(), &mut norms);
    norms
}

/// Writes the squared Euclidean norms of columns of `rows` entries each, stored one after another.
pub(crate) fn squared_norms_into<T: Real>(columns: &[T], rows: usize, norms: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || {
            for (norm, column) in norms.iter_mut().zip(columns.chunks_exact(rows.max(1))) {
                let (whole, rest) = column.as_chunks::<LANES>();
                // Independent sums: one alone would wait for the latency of each addition.
                let mut sums = [0.0; LANES];
                for values in whole {
                    for l in 0..LANES {
                        let value = values[l].as_f64();
                        sums[l] += value * value;
                    }
                }
                for (sum, value) in sums.iter_mut().zip(rest) {
                    *sum += value.as_f64() * value.as_f64();
                }
                *norm = total(sums);
            }
        },
    );
}

macro_rules! in_place {
    ($(#[$doc:meta])* $name:ident, $quick:ident) => {
        $(#[$doc])*
        pub fn $name<T: Real>(x: &mut [T]) {
            vectorized(
                #[inline(always)]
                || {
                    for v in x.iter_mut() {
                        *v = v.$quick();
                    }
                },
            );
        }
    };
}

in_place! {
    /// Overwrites each x by eˣ, within 2 units in the last place.
    ///
    /// ```
    /// let mut x = [0.0_f64, f64::NEG_INFINITY];
    /// elbo::linalg::vector::exp(&mut x);
    /// assert_eq!(x, [1.0, 0.0]);
    /// ```
    exp, quick_exp
}
in_place! {
    /// Overwrites each x by ln x, within 2 units in the last place.
    ///
    /// ```
    /// let mut x = [1.0_f64, 0.0];
    /// elbo::linalg::vector::ln(&mut x);
    /// assert_eq!(x, [0.0, f64::NEG_INFINITY]);
    /// ```
    ln, quick_ln
}
in_place! {
    /// Overwrites each x by ln(1 + x), within 2 units in the last place.
    ///
    /// ```
    /// let mut x = [1e-30_f64];
    /// elbo::linalg::vector::ln_1p(&mut x);
    /// assert_eq!(x, [1e-30]);
    /// ```
    ln_1p, quick_ln_1p
}
in_place! {
    /// Overwrites each x by its softplus ln(1 + eˣ), within 3 units in the last place.
    ///
    /// ```
    /// let mut x = [1000.0_f64];
    /// elbo::linalg::vector::softplus(&mut x);
    /// assert_eq!(x, [1000.0]);
    /// ```
    softplus, quick_softplus
}
in_place! {
    /// Overwrites each x by its logistic sigmoid 1 / (1 + e⁻ˣ), within 3 units in the last place.
    ///
    /// ```
    /// let mut x = [0.0_f64, f64::INFINITY];
    /// elbo::linalg::vector::sigmoid(&mut x);
    /// assert_eq!(x, [0.5, 1.0]);
    /// ```
    sigmoid, quick_sigmoid
}
in_place! {
    /// Overwrites each x by tanh x, within 3 units in the last place.
    ///
    /// ```
    /// let mut x = [0.0_f64, f64::NEG_INFINITY];
    /// elbo::linalg::vector::tanh(&mut x);
    /// assert_eq!(x, [0.0, -1.0]);
    /// ```
    tanh, quick_tanh
}

/// Pairs of samples from one block of random bytes.
// 2 KiB of bytes and as much for u and v: all stay in the L1 cache, and the generator is called
// once for 256 samples.
const PAIRS: usize = 128;

/// Fills a slice with independent samples of N(0, 1) by the Box–Muller transform.
///
/// ```math
/// \sqrt{-2 \ln u}\,(\cos 2πv, \sin 2πv)
/// ```
/// Each pair takes 64 random bits in `f32` (samples up to 6.8 in size) and 128 in `f64` (up to
/// 8.6). An empty slice takes none. Equal bits give bit-identical samples on every platform.
///
/// ```
/// use rand::{SeedableRng, rngs::StdRng};
/// let mut noise = vec![0.0_f64; 1000];
/// elbo::linalg::vector::fill_standard_normal(&mut noise, &mut StdRng::seed_from_u64(1));
/// assert!(noise.iter().sum::<f64>().abs() < 150.0);
/// ```
pub fn fill_standard_normal<T: Real, R: Rng + ?Sized>(out: &mut [T], rng: &mut R) {
    // Box and Muller's and not a rejection method such as the ziggurat: it has no branches, so that
    // it is vectorised, and takes a fixed number of random bits.
    let wide = size_of::<T>() == 8;
    let mut bytes = [0_u8; 16 * PAIRS];
    for piece in out.chunks_mut(2 * PAIRS) {
        let pairs = piece.len().div_ceil(2);
        let bytes = &mut bytes[..pairs * if wide { 16 } else { 8 }];
        rng.fill_bytes(bytes);
        let (mut u, mut v) = ([T::one(); PAIRS], [T::zero(); PAIRS]);
        // u in (0, 1], as its logarithm must be finite; v in [0, 1). In f32 u has 32 bits, as its
        // smallest value limits the tails; v has the 24 bits that an f32 holds.
        if wide {
            for ((u, v), b) in u.iter_mut().zip(&mut v).zip(bytes.chunks_exact(16)) {
                let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| b[from + i]));
                *u = T::of(((word(0) >> 11) as f64 + 1.0) * 2f64.powi(-53));
                *v = T::of((word(8) >> 11) as f64 * 2f64.powi(-53));
            }
        } else {
            for ((u, v), b) in u.iter_mut().zip(&mut v).zip(bytes.chunks_exact(8)) {
                let word = |from: usize| u32::from_le_bytes(std::array::from_fn(|i| b[from + i]));
                *u = T::of((f64::from(word(0)) + 0.5) * 2f64.powi(-32));
                *v = T::of(f64::from(word(4) >> 8) * 2f64.powi(-24));
            }
        }
        vectorized(
            #[inline(always)]
            || {
                for (u, v) in u.iter_mut().zip(&mut v) {
                    let square = T::of(-2.0) * u.quick_ln();
                    // Near u = 1 a rounding error could make ln u positive, and the root NaN.
                    let radius = if square > T::zero() { square } else { T::zero() }.sqrt();
                    let (sin, cos) = v.quick_sin_cos_turns();
                    *u = radius * cos;
                    *v = radius * sin;
                }
            },
        );
        // The first half of a piece has the cosines. For an odd length the last sine is dropped.
        let (first, second) = piece.split_at_mut(pairs);
        first.copy_from_slice(&u[..first.len()]);
        second.copy_from_slice(&v[..second.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn slices_agree_with_single_calls() {
        let x: Vec<f64> = (0..1003).map(|i| f64::from(i) * 0.37 - 180.0).collect();
        let mut y = x.clone();
        softplus(&mut y);
        assert!(
            x.iter().zip(&y).all(
                |(x, y)| crate::linalg::Elementary::quick_softplus(*x).to_bits() == y.to_bits()
            )
        );
    }

    fn moments<T: Real>() {
        let count = 400_001;
        let mut x = vec![T::zero(); count];
        fill_standard_normal(&mut x, &mut StdRng::seed_from_u64(7));
        let x: Vec<f64> = x.iter().map(|v| v.as_f64()).collect();
        let mean_of = |f: &dyn Fn(f64) -> f64| x.iter().map(|v| f(*v)).sum::<f64>() / count as f64;
        let standard_error = 1.0 / (count as f64).sqrt();
        assert!(mean_of(&|v| v).abs() < 5.0 * standard_error);
        assert!((mean_of(&|v| v * v) - 1.0).abs() < 5.0 * 2f64.sqrt() * standard_error);
        assert!((mean_of(&|v| v.powi(4)) - 3.0).abs() < 5.0 * 96f64.sqrt() * standard_error);
        assert!(
            (mean_of(&|v| f64::from(u8::from(v.abs() < 1.0))) - 0.682_689_492).abs()
                < 5.0 * 0.466 * standard_error
        );
        assert!(
            (mean_of(&|v| f64::from(u8::from(v > 3.0))) - 0.001_349_898).abs()
                < 5.0 * 0.0368 * standard_error
        );
        let correlation = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / count as f64;
        assert!(correlation.abs() < 5.0 * standard_error && x.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn normal_numbers_are_normal() {
        moments::<f64>();
        moments::<f32>();
        fill_standard_normal::<f64, _>(&mut [], &mut StdRng::seed_from_u64(1));
    }
}

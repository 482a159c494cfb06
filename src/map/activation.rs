//! Activation functions of an [`Mlp`](super::Mlp) with their derivatives, fused with the addition
//! of the bias into one pass over memory.

use crate::Real;
use crate::linalg::parallel::for_each_chunk;
use crate::linalg::vector::vectorized;
use nalgebra::DMatrixView;

/// An elementwise activation function a ↦ f(a).
///
/// ```
/// use elbo::map::Activation;
/// assert_eq!(Activation::Relu.apply(-2.0), 0.0);
/// assert_eq!(Activation::Identity.apply(-2.0), -2.0);
/// assert!((Activation::Softplus.apply(0.0f64) - 2f64.ln()).abs() < 1e-15);
/// ```
// Saved by name or, in a binary format, by position: a new function is added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Activation {
    /// Hyperbolic tangent: f(a) = tanh a.
    #[default]
    Tanh,
    /// Rectified linear unit: f(a) = max(a, 0). The derivative at 0 is defined as 0.
    Relu,
    /// Softplus: f(a) = ln(1 + eᵃ).
    Softplus,
    /// Gaussian error linear unit in its tanh form: f(a) = ½a(1 + tanh(√(2/π)(a + 0.044715a³))),
    /// which is within 5e-4 of a·Φ(a)[^1].
    ///
    /// [^1]: D. Hendrycks and K. Gimpel, Gaussian error linear units, arXiv:1606.08415, section 2.
    Gelu,
    /// Sigmoid linear unit (swish): f(a) = a/(1 + e⁻ᵃ).
    Silu,
    /// No activation: f(a) = a.
    Identity,
}

impl Activation {
    /// The value f(a).
    #[inline]
    pub fn apply<T: Real>(self, a: T) -> T {
        self.value_and_slope(a).0
    }

    /// The derivative f′(a).
    #[inline]
    pub fn derivative<T: Real>(self, a: T) -> T {
        self.value_and_slope(a).1
    }

    #[inline]
    fn value_and_slope<T: Real>(self, a: T) -> (T, T) {
        match self {
            Self::Tanh => {
                let y = a.quick_tanh();
                (y, T::one() - y * y)
            }
            Self::Relu => (rectified(a), rectifier_slope(T::one(), a)),
            Self::Softplus => softplus(a),
            Self::Gelu => gelu(a),
            Self::Silu => silu(a),
            Self::Identity => (a, T::one()),
        }
    }

    /// Whether f′(a) cannot be computed from f(a) alone, so that the forward pass stores it beside
    /// the output.
    pub(crate) fn keeps_slope(self) -> bool {
        matches!(self, Self::Softplus | Self::Gelu | Self::Silu)
    }

    /// Overwrites `values` by f(values + more + bias), in columns of `bias.len()` rows; an empty
    /// `more` is no summand.
    pub(crate) fn add_bias_and_apply<T: Real>(self, values: &mut [T], more: &[T], bias: &[T]) {
        // The match is outside the loop: each arm compiles to a vectorised loop of its own.
        match self {
            Self::Tanh => with_bias(values, more, bias, T::quick_tanh),
            Self::Relu => with_bias(values, more, bias, rectified),
            Self::Softplus => with_bias(values, more, bias, |a| softplus(a).0),
            Self::Gelu => with_bias(values, more, bias, |a| gelu(a).0),
            Self::Silu => with_bias(values, more, bias, |a| silu(a).0),
            Self::Identity => with_bias(values, more, bias, |a| a),
        }
    }

    /// Overwrites `values` by f(values + bias) and `slopes` by f′(values + bias).
    pub(crate) fn add_bias_and_apply_with_slope<T: Real>(
        self,
        values: &mut [T],
        slopes: &mut [T],
        bias: &[T],
    ) {
        match self {
            Self::Softplus => with_bias_and_slope(values, slopes, bias, softplus),
            Self::Gelu => with_bias_and_slope(values, slopes, bias, gelu),
            Self::Silu => with_bias_and_slope(values, slopes, bias, silu),
            _ => with_bias_and_slope(values, slopes, bias, |a| self.value_and_slope(a)),
        }
    }

    /// Multiplies `delta` by f′, computed from the outputs f(a), elementwise.
    pub(crate) fn carry_back<T: Real>(self, delta: &mut [T], outputs: &[T]) {
        match self {
            Self::Tanh => scaled(delta, outputs, |d, y| (d * (T::one() - y * y)).flushed()),
            Self::Relu => scaled(delta, outputs, rectifier_slope),
            // Identity has f′ = 1; the others store their slopes and use `carry_back_by_slope`.
            _ => {}
        }
    }
}

/// Multiplies `delta` by the stored slopes f′, elementwise.
pub(crate) fn carry_back_by_slope<T: Real>(delta: &mut [T], slopes: &[T]) {
    scaled(delta, slopes, |d, slope| (d * slope).flushed());
}

/// Rows summed at a time, so that the sums stay in registers; a column of at most this many rows is
/// short.
const ROWS: usize = 64;
/// Entries of a short column handled at a time, and rows summed at a time where fewer than [`ROWS`]
/// are left. Fixed-size arrays for short columns saved 0.3 of the 17.2 µs of a step of the digits'
/// VAE. For long columns as well they were slower (784-400-20 on two threads: 1190 → 1235 µs),
/// because the compiler then vectorised the outer loop with gathers (docs/performance.md).
const FEW: usize = 16;

/// Overwrites `sums` by the sum of the columns.
pub(crate) fn sum_columns<T: Real>(columns: DMatrixView<'_, T>, sums: &mut [T]) {
    for_each_chunk(sums, ROWS, columns.len(), |block, sums| {
        vectorized(
            #[inline(always)]
            || {
                // Blocks of 64 rows, then of 16, then single rows: the length of the inner loop is
                // a constant in all but the last.
                let first = block * ROWS;
                if let Ok(sums) = <&mut [T; ROWS]>::try_from(&mut *sums) {
                    return sum_rows(columns, first, sums);
                }
                let (few, rest) = sums.as_chunks_mut::<FEW>();
                for (c, sums) in few.iter_mut().enumerate() {
                    sum_rows(columns, first + c * FEW, sums);
                }
                let first = first + few.len() * FEW;
                for (i, sum) in rest.iter_mut().enumerate() {
                    *sum = columns
                        .column_iter()
                        .fold(T::zero(), |sum, column| sum + column.data.into_slice()[first + i]);
                }
            },
        );
    });
}

/// Overwrites `sums` by the sums of N rows from row `first` on; N is small enough for the partial
/// sums to stay in registers.
#[inline(always)]
fn sum_rows<T: Real, const N: usize>(columns: DMatrixView<'_, T>, first: usize, sums: &mut [T; N]) {
    let mut partial = [T::zero(); N];
    for column in columns.column_iter() {
        // Column by column, in the order of memory.
        let part = &column.data.into_slice()[first..first + N];
        for i in 0..N {
            partial[i] += part[i];
        }
    }
    *sums = partial;
}

/// Overwrites `values` by f(values + more + bias); the loop of
/// [`Activation::add_bias_and_apply`].
#[inline(always)]
fn with_bias<T: Real>(values: &mut [T], more: &[T], bias: &[T], f: impl Fn(T) -> T) {
    let size = bias.len();
    vectorized(
        #[inline(always)]
        || {
            if !more.is_empty() {
                for (column, more) in values.chunks_exact_mut(size).zip(more.chunks_exact(size)) {
                    for ((value, &more), &bias) in column.iter_mut().zip(more).zip(bias) {
                        *value = f(*value + more + bias);
                    }
                }
            } else if size <= ROWS && size.is_multiple_of(FEW) {
                // A loop of unknown length spends much of its time on short columns in the scalar
                // code before and after its vectors. Long columns are faster with the plain loop.
                for column in values.chunks_exact_mut(size) {
                    for (values, bias) in
                        column.as_chunks_mut::<FEW>().0.iter_mut().zip(bias.as_chunks::<FEW>().0)
                    {
                        let mut sums = *values;
                        for i in 0..FEW {
                            sums[i] = f(sums[i] + bias[i]);
                        }
                        *values = sums;
                    }
                }
            } else {
                for column in values.chunks_exact_mut(size) {
                    for (value, &bias) in column.iter_mut().zip(bias) {
                        *value = f(*value + bias);
                    }
                }
            }
        },
    );
}

/// Overwrites `values` and `slopes` by f and f′ of values + bias.
#[inline(always)]
fn with_bias_and_slope<T: Real>(
    values: &mut [T],
    slopes: &mut [T],
    bias: &[T],
    f: impl Fn(T) -> (T, T),
) {
    vectorized(
        #[inline(always)]
        || {
            for (values, slopes) in
                values.chunks_exact_mut(bias.len()).zip(slopes.chunks_exact_mut(bias.len()))
            {
                for ((value, slope), &bias) in values.iter_mut().zip(slopes).zip(bias) {
                    (*value, *slope) = f(*value + bias);
                }
            }
        },
    );
}

/// Overwrites each entry of `delta` by f(delta, beside).
#[inline(always)]
fn scaled<T: Real>(delta: &mut [T], beside: &[T], f: impl Fn(T, T) -> T) {
    vectorized(
        #[inline(always)]
        || {
            for (delta, &beside) in delta.iter_mut().zip(beside) {
                *delta = f(*delta, beside);
            }
        },
    );
}

/// max(a, 0) by a comparison, which compiles to a select.
#[inline(always)]
fn rectified<T: Real>(a: T) -> T {
    if a > T::zero() { a } else { T::zero() }
}

/// Returns d where y is positive, else 0.
#[inline(always)]
fn rectifier_slope<T: Real>(d: T, y: T) -> T {
    if y > T::zero() { d } else { T::zero() }
}

/// (f, f′) of the softplus, f′ = sigmoid a. Far below 0 both are flushed to 0: outputs and slopes
/// are factors of the products of the next layer and of the backward pass, which took 19 times as
/// long an entry with subnormal ones.
#[inline(always)]
fn softplus<T: Real>(a: T) -> (T, T) {
    let (value, slope) = a.quick_softplus_and_sigmoid();
    (value.flushed(), slope.flushed())
}

/// (f, f′) of the sigmoid linear unit: f′ = s + a·s·(1 − s) with s = sigmoid a; flushed to 0 as
/// those of [`softplus`].
#[inline(always)]
fn silu<T: Real>(a: T) -> (T, T) {
    let s = a.quick_sigmoid();
    ((a * s).flushed(), (s * (T::one() + a * (T::one() - s))).flushed())
}

/// (f, f′) of the Gaussian error linear unit in its tanh form.
#[inline(always)]
fn gelu<T: Real>(a: T) -> (T, T) {
    let (half, root, cubic, bound) =
        (T::of(0.5), T::of(0.797_884_560_802_865_4), T::of(0.044715), T::of(30.0));
    // Beyond ±30 the tanh is ±1 in both precisions. With a clamped to ±30, the cube cannot
    // overflow.
    let inner = if a > bound { bound } else { a };
    let inner = if inner < -bound { -bound } else { inner };
    let t = (root * (inner + cubic * inner * inner * inner)).quick_tanh();
    let slope = root * (T::one() + T::of(3.0) * cubic * inner * inner);
    // The factor a itself is clamped below only: there it is multiplied by 1 + t = 0, and −∞·0
    // would be NaN. Above it must grow without bound.
    let outer = if a < -bound { -bound } else { a };
    (
        half * outer * (T::one() + t),
        half * (T::one() + t) + half * inner * (T::one() - t * t) * slope,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;

    const ALL: [Activation; 6] = [
        Activation::Tanh,
        Activation::Relu,
        Activation::Softplus,
        Activation::Gelu,
        Activation::Silu,
        Activation::Identity,
    ];

    #[test]
    fn every_derivative_is_that_of_differences() {
        for activation in ALL {
            for a in [-35.0f64, -3.0, -0.7, -0.01, 0.02, 0.9, 4.0, 33.0] {
                let h = 1e-6;
                let difference = (activation.apply(a + h) - activation.apply(a - h)) / (2.0 * h);
                assert!(
                    (activation.derivative(a) - difference).abs() < 1e-8,
                    "{activation:?} at {a}"
                );
            }
        }
    }

    #[test]
    fn nothing_overflows_far_out() {
        for activation in ALL {
            for a in [-1e30f32, -200.0, 200.0, 1e30] {
                assert!(
                    activation.apply(a).is_finite() && activation.derivative(a).is_finite(),
                    "{activation:?} at {a}"
                );
            }
        }
    }

    #[test]
    fn columns_are_summed_row_by_row() {
        let columns = DMatrix::from_fn(150, 7, |i, j| (i * j) as f64 - 3.0);
        let mut sums = vec![1.0; 150];
        sum_columns(columns.as_view(), &mut sums);
        assert!((columns.column_sum() - nalgebra::DVector::from_vec(sums)).amax() < 1e-12);
    }

    #[test]
    fn columns_of_every_size_get_their_bias() {
        for size in [1, 16, 48, 64, 80, 100] {
            let value = |i: usize| (i * 7 % 23) as f64 - 11.0;
            let (start, more, bias): (Vec<f64>, Vec<f64>, Vec<f64>) = (
                (0..3 * size).map(value).collect(),
                (0..3 * size).map(|i| value(i + 5)).collect(),
                (0..size).map(|i| value(i + 9)).collect(),
            );
            for more in [&more[..], &[]] {
                let mut values = start.clone();
                Activation::Relu.add_bias_and_apply(&mut values, more, &bias);
                for (i, value) in values.into_iter().enumerate() {
                    assert_eq!(
                        value,
                        (start[i] + more.get(i).unwrap_or(&0.0) + bias[i % size]).max(0.0)
                    );
                }
            }
        }
    }

    #[test]
    fn one_pass_does_what_two_do() {
        for activation in ALL {
            let before: Vec<f64> = (0..12).map(|i| (i as f64 - 5.5) * 0.4).collect();
            let bias = [0.3, -0.2, 0.1];
            let expected: Vec<f64> =
                before.iter().enumerate().map(|(i, a)| activation.apply(a + bias[i % 3])).collect();
            let (mut one, mut two, mut slopes) = (before.clone(), before.clone(), vec![0.0; 12]);
            activation.add_bias_and_apply(&mut one, &[], &bias);
            activation.add_bias_and_apply_with_slope(&mut two, &mut slopes, &bias);
            assert_eq!((&one, &two), (&expected, &expected));
            let (mut by_output, mut by_slope) = (vec![1.0; 12], vec![1.0; 12]);
            carry_back_by_slope(&mut by_slope, &slopes);
            assert_eq!(by_slope, slopes);
            if !activation.keeps_slope() {
                activation.carry_back(&mut by_output, &one);
                assert!(
                    by_output.iter().zip(&slopes).all(|(a, b)| (a - b).abs() < 1e-15),
                    "{activation:?}"
                );
            }
        }
    }
}

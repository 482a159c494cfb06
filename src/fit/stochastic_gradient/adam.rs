//! The Adam optimiser: steps of the size of the learning rate, whatever the scale of the gradient.

use crate::data::expect;
use crate::linalg::parallel::{Divisible, sum_over};
use crate::linalg::vector::vectorized;
use crate::{Error, Real, Result};
use std::hint::select_unpredictable;

/// Settings of [`Adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    /// Decay rate of the first moment of the gradient (β₁).
    pub beta_1: f64,
    /// Decay rate of the second moment (β₂).
    pub beta_2: f64,
    /// Constant that is added to the square root of the second moment (ε); it refers to the
    /// gradient of J *per observation*.
    pub epsilon: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 }
    }
}

impl AdamSettings {
    /// Validates the settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] unless 0 ≤ β₁, β₂ < 1 and ε ≥ 0.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("beta_1", self.beta_1), ("beta_2", self.beta_2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::InvalidParameter {
                    name,
                    value,
                    must: "at least 0 and below 1",
                });
            }
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(Error::InvalidParameter {
                name: "epsilon",
                value: self.epsilon,
                must: "at least 0 and finite",
            });
        }
        Ok(())
    }
}

/// State of the Adam optimiser for one slice of parameters; it **ascends**.
///
/// ```math
/// m \leftarrow \beta_1 m + (1-\beta_1) g,\quad v \leftarrow \beta_2 v + (1-\beta_2) g^2,\quad
/// p \leftarrow p + s\,\eta\,\frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)}+\epsilon},\quad
/// g = s\,\frac{\partial J}{\partial p}
/// ```
///
/// The scales s (1 by default) are a diagonal preconditioner: the ascent is that of p/s, so that
/// loadings in the units of x move in those units[^1].
///
/// ```
/// use elbo::fit::{Adam, AdamSettings};
/// let mut adam = Adam::new(2, AdamSettings::default())?.with_scales(vec![1.0, 1000.0])?;
/// let mut p = [0.0f64, 0.0];
/// adam.step(&mut p, &[3.0, 5.0], 0.1, 1.0);
/// // The first step has the size of the learning rate.
/// assert!((p[0] - 0.1).abs() < 1e-8 && (p[1] - 100.0).abs() < 1e-5);
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// Numbers that are about to become subnormal are flushed to 0, without a change of the caller's
/// floating-point environment: a gradient whose square would be, and moments that have decayed.
///
/// [^1]: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm
/// 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam<T> {
    settings: AdamSettings,
    first: Vec<T>,
    second: Vec<T>,
    scales: Vec<T>,   // empty: all 1
    powers: [f64; 2], // β₁ᵗ and β₂ᵗ
}

impl<T: Real> Adam<T> {
    /// Creates the state for `count` parameters.
    ///
    /// # Errors
    /// As [`AdamSettings::check`].
    pub fn new(count: usize, settings: AdamSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            settings,
            first: vec![T::zero(); count],
            second: vec![T::zero(); count],
            scales: Vec::new(),
            powers: [1.0; 2],
        })
    }

    /// Sets one scale per parameter; an empty vector means 1 for all.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] if their number differs from that of the parameters;
    /// [`Error::InvalidParameter`] unless all are positive and finite.
    pub fn with_scales(self, scales: Vec<T>) -> Result<Self> {
        if !scales.is_empty() {
            expect("scales of the parameters", self.first.len(), scales.len())?;
        }
        if let Some(bad) = scales.iter().find(|&&s| !(s > T::zero() && s.is_finite())) {
            return Err(Error::InvalidParameter {
                name: "the scale of a parameter",
                value: bad.as_f64(),
                must: "positive and finite",
            });
        }
        Ok(Self { scales, ..self })
    }

    /// Sets the moments and the powers β₁ᵗ and β₂ᵗ that [`first_moment`](Self::first_moment),
    /// [`second_moment`](Self::second_moment) and [`powers`](Self::powers) of another state have
    /// returned: the steps that follow are bit-identical to its own.
    ///
    /// ```
    /// use elbo::fit::{Adam, AdamSettings};
    /// let mut whole = Adam::new(1, AdamSettings::default())?;
    /// let (mut p, mut q) = ([1.0f64], [1.0f64]);
    /// whole.step(&mut p, &[0.5], 0.1, 1.0);
    /// q.copy_from_slice(&p);
    /// let (first, second) = (whole.first_moment().to_vec(), whole.second_moment().to_vec());
    /// let resumed = Adam::new(1, whole.settings())?;
    /// let mut resumed = resumed.with_state(first, second, whole.powers())?;
    /// whole.step(&mut p, &[0.25], 0.1, 1.0);
    /// resumed.step(&mut q, &[0.25], 0.1, 1.0);
    /// assert_eq!(p, q);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] unless there are two moments for each parameter;
    /// [`Error::InvalidParameter`] for a moment that is not finite, a second moment below 0, and a
    /// power outside \[0, 1\].
    pub fn with_state(self, first: Vec<T>, second: Vec<T>, powers: [f64; 2]) -> Result<Self> {
        expect("first moments of the parameters", self.first.len(), first.len())?;
        expect("second moments of the parameters", self.second.len(), second.len())?;
        let check = |name, value: Option<f64>, must| match value {
            Some(value) => Err(Error::InvalidParameter { name, value, must }),
            None => Ok(()),
        };
        let bad = first.iter().find(|m| !m.is_finite());
        check("a first moment", bad.map(|m| m.as_f64()), "finite")?;
        let bad = second.iter().find(|&&v| !(v >= T::zero() && v.is_finite()));
        check("a second moment", bad.map(|v| v.as_f64()), "at least 0 and finite")?;
        let bad = powers.into_iter().find(|power| !(0.0..=1.0).contains(power));
        check("a power of a decay rate", bad, "between 0 and 1")?;
        Ok(Self { first, second, powers, ..self })
    }

    /// The settings.
    pub fn settings(&self) -> AdamSettings {
        self.settings
    }

    /// The moving average m of the gradient, an entry for each parameter.
    pub fn first_moment(&self) -> &[T] {
        &self.first
    }

    /// The moving average v of the squared gradient, an entry for each parameter.
    pub fn second_moment(&self) -> &[T] {
        &self.second
    }

    /// The scales s of the parameters; empty where all are 1.
    pub fn scales(&self) -> &[T] {
        &self.scales
    }

    /// β₁ᵗ and β₂ᵗ after t steps.
    pub fn powers(&self) -> [f64; 2] {
        self.powers
    }

    /// Resets both moments and the step count.
    pub fn reset(&mut self) {
        self.first.fill(T::zero());
        self.second.fill(T::zero());
        self.powers = [1.0; 2];
    }

    /// Moves the parameters up along `gradient_scale`·gradient, and returns the squared norm of
    /// this gradient (in the metric of the scales), which is not finite if an entry is not.
    ///
    /// Slices of different lengths are processed up to the shortest.
    pub fn step(
        &mut self,
        parameters: &mut [T],
        gradient: &[T],
        learning_rate: f64,
        gradient_scale: T,
    ) -> T {
        let AdamSettings { beta_1, beta_2, epsilon } = self.settings;
        for (power, beta) in self.powers.iter_mut().zip([beta_1, beta_2]) {
            // 1e-300 is far below the last digit of 1 − βᵗ; without this, the power would end as a
            // subnormal number for ever, which slows every step.
            *power = if *power < 1e-300 { 0.0 } else { *power * beta };
        }
        // Both bias corrections are absorbed into the learning rate and ε: ηm̂/(√v̂ + ε) =
        // η(c₂/c₁)m/(√v + c₂ε) with c₁ = 1 − β₁ᵗ and c₂ = √(1 − β₂ᵗ).
        let root = (1.0 - self.powers[1]).sqrt();
        let constants = Constants {
            beta_1: T::of(beta_1),
            beta_2: T::of(beta_2),
            rate: T::of(learning_rate * root / (1.0 - self.powers[0])),
            // Never 0: a parameter whose gradient has always been 0 would move by 0/0.
            epsilon: T::of(epsilon * root).max(T::of(1e-30)),
            // (1 − β₂) g² is then at least 4 times the smallest normal number.
            least_gradient: (T::of(4.0) * T::MIN_POSITIVE / T::of(1.0 - beta_2)).sqrt(),
        };
        let len = parameters.len().min(gradient.len()).min(self.first.len());
        let part = Part {
            parameters: &mut parameters[..len],
            gradient: &gradient[..len],
            first: &mut self.first[..len],
            second: &mut self.second[..len],
            scales: if self.scales.is_empty() { &[] } else { &self.scales[..len] },
        };
        sum_over(part, PIECE, len * WORK, &|_, part: Part<'_, T>| {
            vectorized(
                #[inline(always)]
                || {
                    if part.scales.is_empty() {
                        constants.ascend(part, gradient_scale)
                    } else {
                        constants.ascend_scaled(part, gradient_scale)
                    }
                },
            )
        })
    }
}

/// Number of entries per task. Fixed, so that the sum of squares is reduced in the same order for
/// any number of threads.
const PIECE: usize = 1 << 14;
/// Cost of one entry, in multiply-adds: the square root and the division keep a core busy for 0.25
/// ns an entry, from L1 as from L3.
const WORK: usize = 8;

/// A contiguous range of parameters with their gradient, moments and scales (empty: all 1).
struct Part<'a, T> {
    parameters: &'a mut [T],
    gradient: &'a [T],
    first: &'a mut [T],
    second: &'a mut [T],
    scales: &'a [T],
}

impl<T: Real> Divisible for Part<'_, T> {
    fn entries(&self) -> usize {
        self.parameters.len()
    }
    fn divide(self, at: usize) -> (Self, Self) {
        let (parameters, gradient) = (self.parameters.split_at_mut(at), self.gradient.split_at(at));
        let (first, second) = (self.first.split_at_mut(at), self.second.split_at_mut(at));
        let scales = self.scales.split_at(at.min(self.scales.len()));
        (
            Self {
                parameters: parameters.0,
                gradient: gradient.0,
                first: first.0,
                second: second.0,
                scales: scales.0,
            },
            Self {
                parameters: parameters.1,
                gradient: gradient.1,
                first: first.1,
                second: second.1,
                scales: scales.1,
            },
        )
    }
}

// Two AVX-512 vectors of f64, one of f32: independent partial sums hide the latency of the
// additions. Blocks of 64 with one loop per operation took 1.2 ns an entry in place of 0.25.
const BLOCK: usize = 16;

struct Constants<T> {
    beta_1: T,
    beta_2: T,
    rate: T,
    epsilon: T,
    least_gradient: T,
}

impl<T: Real> Constants<T> {
    /// The entry of the gradient, or 0 if its square would be subnormal.
    #[inline(always)]
    fn gradient(&self, g: T) -> T {
        select_unpredictable(g.abs() < self.least_gradient, T::zero(), g)
    }

    /// Updates both moments, and returns the step.
    ///
    /// Without flushing, the moments of a parameter whose gradient has become 0 (a dead unit, a
    /// constant input) would be subnormal for ever from some 800 steps in `f32` and 6,700 in `f64`
    /// on, and such an entry then takes ten times as long (8 ns in place of 0.8).
    #[inline(always)]
    fn change(&self, g: T, first: &mut T, second: &mut T) -> T {
        let m = self.beta_1 * *first + (T::one() - self.beta_1) * g;
        let v = (self.beta_2 * *second + (T::one() - self.beta_2) * g * g).flushed();
        // With v = 0 the gradient has been negligible for long, and m/√v would have no meaning.
        let negligible = (v == T::zero()) | (m.abs() < T::NEGLIGIBLE);
        (*first, *second) = (select_unpredictable(negligible, T::zero(), m), v);
        // Square root and division, not an iteration for 1/√x by multiplications: that took 0.38 ns
        // an entry in place of 0.25.
        self.rate * *first / (v.sqrt() + self.epsilon)
    }

    /// Updates all entries in one pass over the arrays. Partial sums, one per position in a block,
    /// keep the additions of the squared norm independent of each other.
    #[inline(always)]
    fn ascend(&self, part: Part<'_, T>, gradient_scale: T) -> T {
        let Part { parameters, gradient, first, second, .. } = part;
        let mut squares = [T::zero(); BLOCK];
        let (parameters, parameters_rest) = parameters.as_chunks_mut::<BLOCK>();
        let (gradient, gradient_rest) = gradient.as_chunks::<BLOCK>();
        let ((first, first_rest), (second, second_rest)) =
            (first.as_chunks_mut::<BLOCK>(), second.as_chunks_mut::<BLOCK>());
        for (((p, g), m), v) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
            // Fixed-size arrays and a plain loop: the compiler turns this into SIMD instructions.
            for i in 0..BLOCK {
                let g = self.gradient(gradient_scale * g[i]);
                squares[i] += g * g;
                p[i] += self.change(g, &mut m[i], &mut v[i]);
            }
        }
        for (((p, &g), m), v) in
            parameters_rest.iter_mut().zip(gradient_rest).zip(first_rest).zip(second_rest)
        {
            let g = self.gradient(gradient_scale * g);
            squares[0] += g * g;
            *p += self.change(g, m, v);
        }
        // Reduced in a fixed order, whatever the instruction set.
        squares.into_iter().fold(T::zero(), |sum, part| sum + part)
    }

    #[inline(always)]
    fn ascend_scaled(&self, part: Part<'_, T>, gradient_scale: T) -> T {
        let Part { parameters, gradient, first, second, scales } = part;
        let mut squares = T::zero();
        for ((((p, &g), m), v), &scale) in
            parameters.iter_mut().zip(gradient).zip(first).zip(second).zip(scales)
        {
            let g = self.gradient(scale * (gradient_scale * g));
            squares += g * g;
            *p += scale * self.change(g, m, v);
        }
        squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches_the_top<T: Real>(scales: Vec<T>, curvature: [f64; 2], tolerance: f64) {
        // J = −½ Σ c_i (p_i − t_i)², in units that differ by orders of magnitude.
        let target = [T::of(3.0), T::of(-2e-6)];
        let mut adam = Adam::new(2, AdamSettings::default()).unwrap().with_scales(scales).unwrap();
        let mut p = [T::zero(); 2];
        for t in 0..4000 {
            let gradient: Vec<T> =
                (0..2).map(|i| T::of(curvature[i]) * (target[i] - p[i])).collect();
            adam.step(&mut p, &gradient, 0.1 * (1.0 - t as f64 / 4000.0), T::one());
        }
        for i in 0..2 {
            let scale = [1.0, 1e-6][i];
            assert!((p[i] - target[i]).as_f64().abs() < tolerance * scale, "{:?}", p[i]);
        }
    }

    #[test]
    fn scales_make_units_equal() {
        reaches_the_top::<f64>(vec![1.0, 1e-6], [1.0, 1e12], 1e-5);
        reaches_the_top::<f32>(vec![1.0, 1e-6], [1.0, 1e12], 1e-3);
    }

    #[test]
    fn says_when_the_gradient_is_not_finite() {
        let mut adam = Adam::new(2, AdamSettings::default()).unwrap();
        assert_eq!(adam.step(&mut [0.0f64; 2], &[3.0, 4.0], 0.1, 0.5), 6.25);
        assert!(!adam.step(&mut [0.0f64; 2], &[3.0, f64::NAN], 0.1, 0.5).is_finite());
        assert!(Adam::<f64>::new(1, AdamSettings { beta_1: 1.0, ..Default::default() }).is_err());
        assert!(
            Adam::<f64>::new(1, AdamSettings::default()).unwrap().with_scales(vec![0.0]).is_err()
        );
    }
}

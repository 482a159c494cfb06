//! The loop over the entries of x that likelihoods of independent variables share: vectorised, in
//! double precision, and with a fixed order of sums.

use super::{Weights, is_missing};
use crate::Real;
use crate::linalg::parallel::sum_over;
use crate::linalg::reshape;
use crate::linalg::vector::vectorized;
use nalgebra::{DMatrix, DMatrixView};
use std::hint::select_unpredictable as choose;

/// Entries that are computed together, and partial sums.
pub(super) const LANES: usize = 16;

/// Cost of one entry, in multiply-adds: some exponentials and logarithms. It decides from which
/// size on a batch is worth a second thread.
const WORK: usize = 64;

/// ln p(x|y; ξ) of one entry and its derivatives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<const P: usize> {
    pub(super) density: f64,
    pub(super) d_output: f64,
    pub(super) d_parameters: [f64; P],
}

/// A distribution whose log-density is arithmetic without branches, so that loops over entries are
/// vectorised: C constants depend on ξ alone and are computed once for each variable, and P
/// derivatives by parameters, of which some may be fixed.
///
/// Everything is computed in double precision, also for `f32`: x y − e^y − ln x! of a count of a
/// million is −8 between terms of the size 10⁷.
pub(super) trait Entrywise<const C: usize, const P: usize> {
    /// The place of each of the P derivatives among the parameters ξ; `None` for a fixed parameter.
    fn slots(&self) -> [Option<usize>; P];

    /// The constants, given the parameters ξ.
    fn constants(&self, parameter: impl Fn(usize) -> f64) -> [f64; C];

    /// A function of x and the constants that does not depend on y, such as ln x!.
    #[inline(always)]
    fn of_x(x: &[f64; LANES], _constants: &[[f64; LANES]; C]) -> [f64; LANES] {
        *x
    }

    /// One entry.
    fn entry(x: f64, y: f64, of_x: f64, constants: [f64; C]) -> Entry<P>;
}

/// Entries of one observation that belong to consecutive variables with one kind of distribution.
// Public because a trait has a method with it; it is not documented, and has no public fields.
#[doc(hidden)]
#[derive(Debug)]
pub struct Entries<'a, T> {
    pub(super) x: &'a [T],
    pub(super) y: &'a [T],
    /// The parameters ξ, one variable after the other.
    pub(super) parameters: &'a [T],
    /// The constants of the distributions: the first of all variables, then the second.
    pub(super) constants: &'a [f64],
    /// `None` where only the log-density is needed.
    pub(super) gradient: Option<Gradient<'a, T>>,
}

#[derive(Debug)]
pub(super) struct Gradient<'a, T> {
    pub(super) weight: f64,
    /// Overwritten by the weight times the derivative.
    pub(super) d_output: &'a mut [T],
    /// Sums, to which weighted derivatives are added; arranged as the constants.
    pub(super) d_parameters: &'a mut [f64],
    /// A buffer of any length.
    pub(super) scratch: &'a mut Vec<T>,
}

impl<T> Gradient<'_, T> {
    /// The part of some variables and their parameters.
    pub(super) fn part(
        &mut self,
        variables: std::ops::Range<usize>,
        parameters: std::ops::Range<usize>,
    ) -> Gradient<'_, T> {
        Gradient {
            weight: self.weight,
            d_output: &mut self.d_output[variables],
            d_parameters: &mut self.d_parameters[parameters],
            scratch: self.scratch,
        }
    }
}

/// Rounds to T; what is beyond the largest number of T becomes that number, with its sign.
#[inline(always)]
pub(super) fn finite<T: Real>(value: f64) -> T {
    let largest = T::MAX.as_f64();
    let value = choose(value > largest, largest, value);
    T::of(choose(value < -largest, -largest, value))
}

/// The numbers from `first` on, padded by `fill`.
#[inline(always)]
fn load<T: Real>(from: &[T], first: usize, fill: f64) -> [f64; LANES] {
    match from.get(first..first + LANES) {
        Some(whole) => std::array::from_fn(|l| whole[l].as_f64()),
        None => std::array::from_fn(|l| from.get(first + l).map_or(fill, |value| value.as_f64())),
    }
}

/// The log-density of entries: Σ ln p(x|y; ξ) over those that are not missing; with a gradient, its
/// weighted derivatives too.
pub(super) fn sum_of_entries<T, D, const C: usize, const P: usize>(
    distribution: &D,
    entries: Entries<'_, T>,
) -> f64
where
    T: Real,
    D: Entrywise<C, P>,
{
    let slots = distribution.slots();
    vectorized(
        #[inline(always)]
        || match entries.gradient {
            None => run::<T, D, C, P>(&entries, slots, None),
            Some(_) => {
                let Entries { x, y, parameters, constants, gradient } = entries;
                let values = Entries { x, y, parameters, constants, gradient: None };
                run::<T, D, C, P>(&values, slots, gradient)
            }
        },
    )
}

#[inline(always)]
fn run<T, D, const C: usize, const P: usize>(
    entries: &Entries<'_, T>,
    slots: [Option<usize>; P],
    mut gradient: Option<Gradient<'_, T>>,
) -> f64
where
    T: Real,
    D: Entrywise<C, P>,
{
    let len = entries.x.len();
    let mut sums = [0.0; LANES];
    for first in (0..len).step_by(LANES) {
        // A missing entry, and the padding of the last block, are computed for x = 1 and left out.
        let x = load(entries.x, first, f64::NAN);
        let y = load(entries.y, first, 0.0);
        let constants: [[f64; LANES]; C] =
            std::array::from_fn(|c| load(&entries.constants[c * len..][..len], first, 1.0));
        let mut filled = x;
        for l in 0..LANES {
            filled[l] = choose(x[l].is_nan(), 1.0, x[l]);
        }
        let of_x = D::of_x(&filled, &constants);
        let (mut densities, mut slopes, mut by_parameters) = (x, x, [x; P]);
        for l in 0..LANES {
            let entry =
                D::entry(filled[l], y[l], of_x[l], std::array::from_fn(|c| constants[c][l]));
            let missing = x[l].is_nan();
            densities[l] = choose(missing, 0.0, entry.density);
            slopes[l] = choose(missing, 0.0, entry.d_output);
            for (values, d) in by_parameters.iter_mut().zip(entry.d_parameters) {
                values[l] = choose(missing, 0.0, d);
            }
        }
        for l in 0..LANES {
            sums[l] += densities[l];
        }
        let Some(gradient) = &mut gradient else { continue };
        let end = (first + LANES).min(len);
        for (to, slope) in gradient.d_output[first..end].iter_mut().zip(slopes) {
            *to = finite::<T>(gradient.weight * slope).flushed();
        }
        for (slot, values) in slots.iter().zip(by_parameters) {
            if let Some(slot) = slot {
                let sums = &mut gradient.d_parameters[slot * len..][first..end];
                for (sum, d) in sums.iter_mut().zip(values) {
                    *sum += gradient.weight * d;
                }
            }
        }
    }
    sums.into_iter().fold(0.0, |total, sum| total + sum)
}

/// The log-density of one entry, with its derivatives by the parameters that are not fixed.
pub(super) fn single<T, D, const C: usize, const P: usize>(
    distribution: &D,
    x: T,
    y: T,
    parameters: &[T],
    d_parameters: &mut [T],
) -> (T, T)
where
    T: Real,
    D: Entrywise<C, P>,
{
    let constants = distribution.constants(|p| parameters[p].as_f64());
    let (x, y) = (x.as_f64(), y.as_f64());
    // A block of one value: the same operations as in the loop.
    let of_x = D::of_x(&[x; LANES], &constants.map(|c| [c; LANES]))[0];
    let entry = D::entry(x, y, of_x, constants);
    for (slot, d) in distribution.slots().iter().zip(entry.d_parameters) {
        if let Some(to) = slot.and_then(|slot| d_parameters.get_mut(slot)) {
            *to = finite(d);
        }
    }
    (finite(entry.density), finite(entry.d_output))
}

/// The methods of [`Univariate`](super::Univariate) that an [`Entrywise`] distribution has.
macro_rules! univariate_by_entries {
    ($constants:literal, $derivatives:literal) => {
        fn parameter_count(&self) -> usize {
            let slots: [_; $derivatives] =
                $crate::likelihood::entries::Entrywise::<$constants, $derivatives>::slots(self);
            slots.iter().flatten().count()
        }

        fn log_density(&self, x: T, y: T, parameters: &[T]) -> T {
            $crate::likelihood::entries::single::<T, Self, $constants, $derivatives>(
                self,
                x,
                y,
                parameters,
                &mut [],
            )
            .0
        }

        fn log_density_gradient(
            &self,
            x: T,
            y: T,
            parameters: &[T],
            d_parameters: &mut [T],
        ) -> (T, T) {
            $crate::likelihood::entries::single::<T, Self, $constants, $derivatives>(
                self,
                x,
                y,
                parameters,
                d_parameters,
            )
        }

        fn constant_count(&self) -> usize {
            $constants
        }

        fn constants(&self, parameters: &[T], constants: &mut [f64]) {
            let values: [f64; $constants] = $crate::likelihood::entries::Entrywise::<
                $constants,
                $derivatives,
            >::constants(self, |p| parameters[p].as_f64());
            constants.copy_from_slice(&values);
        }

        fn shares_loop_with(&self, other: &Self) -> bool {
            let slots = $crate::likelihood::entries::Entrywise::<$constants, $derivatives>::slots;
            slots(self) == slots(other)
        }

        fn sum_of_entries(&self, entries: $crate::likelihood::entries::Entries<'_, T>) -> f64 {
            $crate::likelihood::entries::sum_of_entries::<T, Self, $constants, $derivatives>(
                self, entries,
            )
        }
    };
}
pub(super) use univariate_by_entries;

/// [`sum_of_entries`] of any distribution, one entry after the other.
pub(super) fn sum_one_by_one<T: Real, U: super::Univariate<T>>(
    distribution: &U,
    entries: Entries<'_, T>,
) -> f64 {
    let Entries { x, y, parameters, mut gradient, .. } = entries;
    let (count, len) = (distribution.parameter_count(), x.len());
    let mut sum = 0.0;
    for l in 0..len {
        let own = &parameters[l * count..][..count];
        match &mut gradient {
            None if is_missing(x[l]) => {}
            None => sum += distribution.log_density(x[l], y[l], own).as_f64(),
            Some(gradient) if is_missing(x[l]) => gradient.d_output[l] = T::zero(),
            Some(gradient) => {
                gradient.scratch.resize(count, T::zero());
                let (density, slope) =
                    distribution.log_density_gradient(x[l], y[l], own, gradient.scratch);
                sum += density.as_f64();
                gradient.d_output[l] = finite::<T>(gradient.weight * slope.as_f64()).flushed();
                for (c, d) in gradient.scratch.iter().enumerate() {
                    gradient.d_parameters[c * len + l] += gradient.weight * d.as_f64();
                }
            }
        }
    }
    sum
}

/// A weighted sum of log-densities, and that of their derivatives by the parameters.
pub(super) struct Sums {
    pub(super) value: f64,
    pub(super) d_parameters: Vec<f64>,
}

impl std::ops::Add for Sums {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self.value += other.value;
        self.d_parameters.iter_mut().zip(other.d_parameters).for_each(|(sum, d)| *sum += d);
        self
    }
}

/// Sums Σ_i w_i f(i, buffer, gradient) over the observations, in parallel and in a fixed order,
/// where f returns the log-density of observation i, overwrites its part of `d_output` and adds to
/// the `parameters` sums. A buffer B is kept from one observation to the next.
pub(super) fn sum_over_observations<T: Real, B: Default>(
    shape: (usize, usize),
    weights: Weights<'_, T>,
    d_output: &mut DMatrix<T>,
    parameters: usize,
    f: &(impl Fn(usize, &mut B, Gradient<'_, T>) -> f64 + Sync),
) -> Sums {
    let (d, n) = shape;
    reshape(d_output, d, n);
    let rows = d.max(1);
    // Whole observations, about 4096 entries, and enough of them that the sums of the parameters'
    // derivatives cost little. The boundaries depend on d alone.
    let observations = (1usize << 12).div_ceil(rows).max(if parameters == 0 { 1 } else { 16 });
    sum_over(
        d_output.as_mut_slice(),
        rows * observations,
        WORK * d * n,
        &|first, part: &mut [T]| {
            let mut sums = Sums { value: 0.0, d_parameters: vec![0.0; parameters] };
            let (mut scratch, mut buffer) = (Vec::new(), B::default());
            for (i, d_column) in (first / rows..).zip(part.chunks_exact_mut(rows)) {
                let weight = weights.of(i).as_f64();
                let gradient = Gradient {
                    weight,
                    d_output: d_column,
                    d_parameters: &mut sums.d_parameters,
                    scratch: &mut scratch,
                };
                sums.value += weight * f(i, &mut buffer, gradient);
            }
            sums
        },
    )
}

/// Whether an entry of x is missing. (A NaN in a sum may also stem from the decoder's output.)
pub(super) fn any_missing<T: Real>(x: &DMatrixView<'_, T>) -> bool {
    x.iter().any(|&x| is_missing(x))
}

//! Eigenvectors of a tridiagonal matrix by inverse iteration: side by side where the eigenvalues
//! are far apart, else one after another.
//!
//! Legend: diagonal d, off-diagonal e, both of a matrix T whose largest entry is about 1;
//! eigenvalues λ.

use super::bisection::Bisection;
use crate::linalg::kernel::vector::{LANES, add_scaled, dot, norm};
use crate::linalg::vector::vectorized;
use nalgebra::DMatrix;

/// Eigenvalues nearer to each other than this share of the largest entry need their vectors set at
/// right angles.
const NEAR: f64 = 1e-3;
/// Solutions side by side: each brings an error down by the width of a bracket over the distance of
/// the next eigenvalue.
const SOLUTIONS: usize = 3;

fn size_of(d: &[f64], e: &[f64]) -> f64 {
    d.iter().chain(e).fold(0.0_f64, |a, b| a.max(b.abs())).max(f64::MIN_POSITIVE)
}

/// The largest ‖Tx − λx‖ of a vector that is good to all digits.
fn tolerance(n: usize, size: f64) -> f64 {
    16.0 * f64::EPSILON * size * (n as f64).sqrt().max(4.0)
}

/// Numbers from ½ to 1½, the same every time.
struct Start(u64);

impl Start {
    fn new() -> Self {
        Self(0x2545_F491_4F6C_DD1D)
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64 + 0.5
    }
}

/// A number of each of the matrices T − λ side by side.
type Side = [f64; LANES];

/// A row of the factors of these, with row exchanges.
#[derive(Clone, Copy)]
struct SideRow {
    inverse: Side,
    first: Side,
    second: Side,
    multiplier: Side,
    /// 1 where the rows were exchanged, else 0.
    exchanged: Side,
}

/// The pairs of brackets (falling) that are narrow beside the distances of the eigenvalues; `None`
/// if some are not, or a vector is not found to full accuracy, or is that of an eigenvalue further
/// down. The eigenvalues are the Rayleigh quotients, which have twice the vectors' digits.
pub(super) fn isolated_pairs(
    d: &[f64],
    e: &[f64],
    search: &Bisection<'_>,
) -> Option<(Vec<f64>, DMatrix<f64>)> {
    let (n, size, brackets) = (d.len(), size_of(d, e), search.brackets());
    let slack = tolerance(n, size);
    if brackets.windows(2).any(|pair| pair[0].0 - pair[1].1 <= NEAR * size) {
        return None;
    }
    let mut values = Vec::with_capacity(brackets.len());
    let mut vectors = DMatrix::<f64>::zeros(n, brackets.len());
    let mut start = Start::new();
    let mut rows = vec![
        SideRow {
            inverse: [0.0; LANES],
            first: [0.0; LANES],
            second: [0.0; LANES],
            multiplier: [0.0; LANES],
            exchanged: [0.0; LANES]
        };
        n
    ];
    let mut x = vec![[0.0; LANES]; n];
    for group in brackets.chunks(LANES) {
        let shifts: Side = std::array::from_fn(|l| {
            group.get(l).or(group.last()).map_or(0.0, |(low, high)| 0.5 * (low + high))
        });
        x.iter_mut().for_each(|x| *x = [start.next(); LANES]);
        let (quotients, residuals) = vectorized(
            #[inline(always)]
            || {
                factor(d, e, &shifts, f64::EPSILON * size, &mut rows);
                for _ in 0..SOLUTIONS {
                    solve(&rows, &mut x);
                    normalize(&mut x);
                }
                quotients(d, e, &x)
            },
        );
        let above = search.above(&quotients.map(|quotient| quotient + slack));
        for (l, (low, high)) in group.iter().enumerate() {
            // A residual that is not a number fails as well. A bracket may hold eigenvalues that
            // are not asked for: those found already are all that lie above.
            let is_next = above[l] <= values.len() as f64;
            if !(residuals[l] <= slack
                && low - slack <= quotients[l]
                && quotients[l] <= high + slack
                && is_next)
            {
                return None;
            }
            let mut vector = vectors.column_mut(values.len());
            vector.iter_mut().zip(&x).for_each(|(to, from)| *to = from[l]);
            values.push(quotients[l]);
        }
    }
    Some((values, vectors))
}

#[inline(always)]
fn factor(d: &[f64], e: &[f64], shifts: &Side, least: f64, rows: &mut [SideRow]) {
    let n = d.len();
    let held = |pivot: f64| if pivot.abs() < least { least } else { pivot };
    let (mut pivot, mut beside) =
        (shifts.map(|shift| d[0] - shift), [e.first().copied().unwrap_or(0.0); LANES]);
    for i in 0..n - 1 {
        let (below, after, row) = (e[i], e.get(i + 1).copied().unwrap_or(0.0), &mut rows[i]);
        for l in 0..LANES {
            let next = d[i + 1] - shifts[l];
            let exchanged = below.abs() > pivot[l].abs();
            row.inverse[l] = 1.0 / if exchanged { below } else { held(pivot[l]) };
            row.multiplier[l] = row.inverse[l] * if exchanged { pivot[l] } else { below };
            row.first[l] = if exchanged { next } else { beside[l] };
            row.second[l] = if exchanged { after } else { 0.0 };
            row.exchanged[l] = if exchanged { 1.0 } else { 0.0 };
            pivot[l] =
                (if exchanged { beside[l] } else { next }) - row.multiplier[l] * row.first[l];
            beside[l] = if exchanged { -row.multiplier[l] * after } else { after };
        }
    }
    rows[n - 1].inverse = pivot.map(|pivot| 1.0 / held(pivot));
}

#[inline(always)]
fn solve(rows: &[SideRow], x: &mut [Side]) {
    let n = x.len();
    for i in 0..n - 1 {
        let (row, mut this, mut next) = (&rows[i], x[i], x[i + 1]);
        for l in 0..LANES {
            let (a, b) = (this[l], next[l]);
            this[l] = if row.exchanged[l] > 0.5 { b } else { a };
            next[l] = (if row.exchanged[l] > 0.5 { a } else { b }) - row.multiplier[l] * this[l];
        }
        (x[i], x[i + 1]) = (this, next);
    }
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    for (row, x) in rows.iter().zip(x).rev() {
        for l in 0..LANES {
            let value =
                (x[l] - row.first[l] * first[l] - row.second[l] * second[l]) * row.inverse[l];
            second[l] = first[l];
            first[l] = value;
            x[l] = value;
        }
    }
}

#[inline(always)]
fn normalize(x: &mut [Side]) {
    let mut squares = [0.0; LANES];
    for x in x.iter() {
        for l in 0..LANES {
            squares[l] += x[l] * x[l];
        }
    }
    let scales = squares.map(|square: f64| 1.0 / square.sqrt());
    for x in x {
        for l in 0..LANES {
            x[l] *= scales[l];
        }
    }
}

/// xᵗTx and ‖Tx − (xᵗTx)x‖ for unit vectors x.
#[inline(always)]
fn quotients(d: &[f64], e: &[f64], x: &[Side]) -> (Side, Side) {
    let n = x.len();
    let (mut quotients, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let image = |i: usize, l: usize| {
        let before = if i > 0 { e[i - 1] * x[i - 1][l] } else { 0.0 };
        let after = if i + 1 < n { e[i] * x[i + 1][l] } else { 0.0 };
        before + d[i] * x[i][l] + after
    };
    for (i, own) in x.iter().enumerate() {
        for l in 0..LANES {
            quotients[l] += own[l] * image(i, l);
        }
    }
    for (i, own) in x.iter().enumerate() {
        for l in 0..LANES {
            let rest = image(i, l) - quotients[l] * own[l];
            squares[l] += rest * rest;
        }
    }
    (quotients, squares.map(f64::sqrt))
}

/// Eigenvectors of the values given (falling) by inverse iteration; `None` when one is not found to
/// full accuracy.
pub(super) fn vectors_of(d: &[f64], e: &[f64], values: &[f64]) -> Option<DMatrix<f64>> {
    let n = d.len();
    let size = size_of(d, e);
    let mut vectors = DMatrix::<f64>::zeros(n, values.len());
    let mut factors = Pivoted::new(n);
    let mut start = Start::new();
    let mut group = 0;
    let mut last_shift = f64::INFINITY;
    for (j, value) in values.iter().enumerate() {
        if j > 0 && values[j - 1] - value > NEAR * size {
            group = j;
        }
        // Equal values are set apart a little, so that their solutions differ.
        let shift = value.min(last_shift - 4.0 * f64::EPSILON * size);
        last_shift = shift;
        factors.factor(d, e, shift, f64::EPSILON * size);
        let mut x: Vec<f64> = (0..n).map(|_| start.next()).collect();
        let mut found = false;
        for attempt in 0..8 {
            factors.solve(&mut x);
            let grown = norm(&x);
            if !(grown > 0.0 && grown.is_finite()) {
                return None;
            }
            x.iter_mut().for_each(|v| *v /= grown);
            for _ in 0..2 {
                for p in group..j {
                    let known = vectors.column(p);
                    let along = dot(known.as_slice(), &x);
                    add_scaled(&mut x, -along, known.as_slice());
                }
            }
            let length = norm(&x);
            if length < 1e-12 {
                return None;
            }
            x.iter_mut().for_each(|v| *v /= length);
            // One more after the first good one costs little and buys the last digits.
            if attempt >= 1 && residual(d, e, *value, &x) <= tolerance(n, size) {
                found = true;
                break;
            }
        }
        if !found {
            return None;
        }
        vectors.column_mut(j).as_mut_slice().copy_from_slice(&x);
    }
    Some(vectors)
}

fn residual(d: &[f64], e: &[f64], value: f64, x: &[f64]) -> f64 {
    let n = d.len();
    let mut sum = 0.0;
    for i in 0..n {
        let mut r = (d[i] - value) * x[i];
        if i > 0 {
            r += e[i - 1] * x[i - 1];
        }
        if i + 1 < n {
            r += e[i] * x[i + 1];
        }
        sum += r * r;
    }
    sum.sqrt()
}

/// The factors of T − λ with row exchanges: U has two bands above its diagonal.
struct Pivoted {
    diagonal: Vec<f64>,
    /// 1 / diagonal: a division in every step of a solution would be waited for.
    inverses: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    multipliers: Vec<f64>,
    exchanged: Vec<bool>,
}

impl Pivoted {
    fn new(n: usize) -> Self {
        let zeros = || vec![0.0; n];
        Self {
            diagonal: zeros(),
            inverses: zeros(),
            first: zeros(),
            second: zeros(),
            multipliers: zeros(),
            exchanged: vec![false; n],
        }
    }

    fn factor(&mut self, d: &[f64], e: &[f64], shift: f64, least: f64) {
        let n = d.len();
        let (mut pivot, mut beside) = (d[0] - shift, e.first().copied().unwrap_or(0.0));
        for i in 0..n.saturating_sub(1) {
            let (below, next, after) =
                (e[i], d[i + 1] - shift, e.get(i + 1).copied().unwrap_or(0.0));
            self.exchanged[i] = below.abs() > pivot.abs();
            if self.exchanged[i] {
                let m = pivot / below;
                (self.diagonal[i], self.first[i], self.second[i], self.multipliers[i]) =
                    (below, next, after, m);
                (pivot, beside) = (beside - m * next, -m * after);
            } else {
                let safe = if pivot.abs() < least { least } else { pivot };
                let m = below / safe;
                (self.diagonal[i], self.first[i], self.second[i], self.multipliers[i]) =
                    (safe, beside, 0.0, m);
                (pivot, beside) = (next - m * beside, after);
            }
        }
        self.diagonal[n - 1] = if pivot.abs() < least { least } else { pivot };
        self.inverses
            .iter_mut()
            .zip(&self.diagonal)
            .for_each(|(inverse, pivot)| *inverse = 1.0 / pivot);
    }

    fn solve(&self, x: &mut [f64]) {
        let n = x.len();
        for i in 0..n - 1 {
            if self.exchanged[i] {
                x.swap(i, i + 1);
            }
            x[i + 1] -= self.multipliers[i] * x[i];
        }
        for i in (0..n).rev() {
            let mut value = x[i];
            if i + 1 < n {
                value -= self.first[i] * x[i + 1];
            }
            if i + 2 < n {
                value -= self.second[i] * x[i + 2];
            }
            x[i] = value * self.inverses[i];
        }
    }
}

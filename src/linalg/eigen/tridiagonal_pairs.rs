//! Eigenvalues and eigenvectors of a tridiagonal matrix: all by implicit QL, or the leading ones by bisection and inverse iteration.
//!
//! Legend: diagonal d, off-diagonal e, both of a matrix whose largest entry is about 1.

use crate::linalg::kernel::vector::{LANES, add_scaled, count_above, dot, norm, rotate_neighbours};
use crate::linalg::parallel::for_each_chunk;
use crate::{Error, Result};
use nalgebra::DMatrix;

/// QL steps for one eigenvalue at most; two are usual.
const STEPS: usize = 80;
/// Rows of the vectors that stay in the cache while rotations pass over them.
const ROWS: usize = 64;

/// All eigenvalues, in no order, and the eigenvectors as columns in that order.
pub(crate) fn all_pairs(diagonal: &[f64], off_diagonal: &[f64]) -> Result<(Vec<f64>, DMatrix<f64>)> {
    let n = diagonal.len();
    let mut blocks: Vec<DMatrix<f64>> =
        (0..n).step_by(ROWS).map(|first| DMatrix::from_fn(ROWS.min(n - first), n, |i, j| f64::from(u8::from(first + i == j)))).collect();
    let mut pending: Vec<(usize, f64, f64)> = Vec::new();
    let flush = |pending: &mut Vec<(usize, f64, f64)>, blocks: &mut [DMatrix<f64>]| {
        for_each_chunk(blocks, 1, 3 * n * pending.len(), |_, block| {
            let rows = block[0].nrows();
            rotate_neighbours(block[0].as_mut_slice(), rows, pending);
        });
        pending.clear();
    };
    let values = implicit_ql(diagonal, off_diagonal, |rotation| {
        pending.push(rotation);
        if pending.len() >= 16 * n.max(64) {
            flush(&mut pending, &mut blocks);
        }
    })?;
    flush(&mut pending, &mut blocks);
    let mut vectors = DMatrix::zeros(n, n);
    for (b, block) in blocks.iter().enumerate() {
        vectors.rows_mut(b * ROWS, block.nrows()).copy_from(block);
    }
    Ok((values, vectors))
}

/// The eigenvalues; each rotation (i, c, s) of columns i and i + 1 is told to `rotation`.
fn implicit_ql(diagonal: &[f64], off_diagonal: &[f64], mut rotation: impl FnMut((usize, f64, f64))) -> Result<Vec<f64>> {
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e = off_diagonal.to_vec();
    e.push(0.0);
    let size = d.iter().chain(&e).fold(0.0_f64, |a, b| a.max(b.abs()));
    for l in 0..n {
        for step in 0.. {
            // Relative to the whole too: among zeros to working precision nothing else ends.
            let negligible = |i: usize| e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs()).max(0.05 * size);
            let m = (l..n - 1).find(|i| negligible(*i)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == STEPS {
                return Err(Error::DecompositionLimit { what: "the symmetric eigenvalue decomposition", limit: STEPS });
            }
            let slope = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (slope + slope.hypot(1.0).copysign(slope));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let square = f * f + g * g;
                // Where squares keep their digits a root will do.
                let r = if square > 1e-280 { square.sqrt() } else { f.hypot(g) };
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = true;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                rotation((i, c, s));
            }
            if !split {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    Ok(d)
}

/// The k largest eigenvalues, falling, by bisection.
pub(crate) fn largest_values(d: &[f64], e: &[f64], k: usize) -> Vec<f64> {
    let n = d.len();
    // squares[i] goes with row i: the entry before it.
    let squares: Vec<f64> = std::iter::once(0.0).chain(e.iter().map(|v| v * v)).collect();
    let radius = |i: usize| (if i > 0 { e[i - 1].abs() } else { 0.0 }) + e.get(i).map_or(0.0, |v| v.abs());
    let low = (0..n).map(|i| d[i] - radius(i)).fold(f64::INFINITY, f64::min);
    let high = (0..n).map(|i| d[i] + radius(i)).fold(f64::NEG_INFINITY, f64::max);
    let size = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
    let (low, high) = (low - 2.0 * f64::EPSILON * size, high + 2.0 * f64::EPSILON * size);
    let least = f64::MIN_POSITIVE * squares.iter().fold(1.0_f64, |a, b| a.max(*b));
    let mut values = Vec::with_capacity(k);
    for first in (0..k).step_by(LANES) {
        let mut lows = [low; LANES];
        // The last group's values are bounds for this one.
        let mut highs = [values.last().map_or(high, |v: &f64| v + 4.0 * f64::EPSILON * size); LANES];
        for _ in 0..128 {
            let mut middles = [0.0; LANES];
            let mut open = false;
            for l in 0..LANES {
                middles[l] = 0.5 * (lows[l] + highs[l]);
                open |= highs[l] - lows[l] > f64::EPSILON * size;
            }
            if !open {
                break;
            }
            let counts = count_above(d, &squares, least, &middles);
            for l in 0..LANES {
                let (wanted, count) = ((first + l + 1).min(k) as f64, counts[l]);
                if count >= wanted {
                    lows[l] = middles[l];
                } else {
                    highs[l] = middles[l];
                }
            }
        }
        values.extend((0..LANES.min(k - first)).map(|l| 0.5 * (lows[l] + highs[l])));
    }
    // Bisection may order equal values by their last bit only.
    for j in 1..k {
        values[j] = values[j].min(values[j - 1]);
    }
    values
}

/// Eigenvectors of the values given (falling) by inverse iteration; `None` when one is not found to full accuracy.
pub(crate) fn vectors_of(d: &[f64], e: &[f64], values: &[f64]) -> Option<DMatrix<f64>> {
    let n = d.len();
    let size = d.iter().chain(e).fold(0.0_f64, |a, b| a.max(b.abs())).max(f64::MIN_POSITIVE);
    let mut vectors = DMatrix::<f64>::zeros(n, values.len());
    let mut factors = Pivoted::new(n);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut group = 0;
    let mut last_shift = f64::INFINITY;
    for (j, value) in values.iter().enumerate() {
        if j > 0 && values[j - 1] - value > 1e-3 * size {
            group = j;
        }
        // Equal values are set apart a little, so that their solutions differ.
        let shift = value.min(last_shift - 4.0 * f64::EPSILON * size);
        last_shift = shift;
        factors.factor(d, e, shift, f64::EPSILON * size);
        let mut x: Vec<f64> = (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as f64 / (1u64 << 53) as f64 + 0.5
            })
            .collect();
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
            if attempt >= 1 && residual(d, e, *value, &x) <= 16.0 * f64::EPSILON * size * (n as f64).sqrt().max(4.0) {
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
        Self { diagonal: zeros(), inverses: zeros(), first: zeros(), second: zeros(), multipliers: zeros(), exchanged: vec![false; n] }
    }

    fn factor(&mut self, d: &[f64], e: &[f64], shift: f64, least: f64) {
        let n = d.len();
        let (mut pivot, mut beside) = (d[0] - shift, e.first().copied().unwrap_or(0.0));
        for i in 0..n.saturating_sub(1) {
            let (below, next, after) = (e[i], d[i + 1] - shift, e.get(i + 1).copied().unwrap_or(0.0));
            self.exchanged[i] = below.abs() > pivot.abs();
            if self.exchanged[i] {
                let m = pivot / below;
                (self.diagonal[i], self.first[i], self.second[i], self.multipliers[i]) = (below, next, after, m);
                (pivot, beside) = (beside - m * next, -m * after);
            } else {
                let safe = if pivot.abs() < least { least } else { pivot };
                let m = below / safe;
                (self.diagonal[i], self.first[i], self.second[i], self.multipliers[i]) = (safe, beside, 0.0, m);
                (pivot, beside) = (next - m * beside, after);
            }
        }
        self.diagonal[n - 1] = if pivot.abs() < least { least } else { pivot };
        self.inverses.iter_mut().zip(&self.diagonal).for_each(|(inverse, pivot)| *inverse = 1.0 / pivot);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::testing::{orthonormality, random};

    fn check(d: &[f64], e: &[f64]) {
        let n = d.len();
        let t = DMatrix::from_fn(n, n, |i, j| match i.abs_diff(j) {
            0 => d[i],
            1 => e[i.min(j)],
            _ => 0.0,
        });
        let size = t.amax().max(1e-300);
        let (mut values, vectors) = all_pairs(d, e).unwrap();
        assert!(orthonormality(&vectors) < 1e-13 * (n as f64).sqrt());
        let back = &vectors * DMatrix::from_diagonal(&values.clone().into()) * vectors.transpose();
        assert!((back - &t).amax() < 1e-13 * size * (n as f64).sqrt());
        values.sort_by(|a, b| b.total_cmp(a));
        for k in [1, n / 3, n] {
            let largest = largest_values(d, e, k);
            assert!(largest.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-14 * size * (n as f64)), "k={k} of {n}");
            if let Some(some) = vectors_of(d, e, &largest) {
                assert!(orthonormality(&some) < 1e-12, "{n}: {:e}", orthonormality(&some));
                let error = &t * &some - &some * DMatrix::from_diagonal(&largest.into());
                assert!(error.amax() < 1e-12 * size);
            }
        }
    }

    #[test]
    fn tridiagonal_matrices() {
        for n in [1, 2, 3, 17, 64, 130] {
            let (d, e) = (random::<f64>(n, 1, 1), random::<f64>(n, 1, 2));
            let e = &e.as_slice()[1..];
            check(d.as_slice(), e);
            check(&vec![0.0; n], e);
            check(&vec![1.0; n], &vec![0.0; n - 1]);
            check(d.as_slice(), &vec![0.0; n - 1]);
            // Wilkinson's: pairs that agree to the last digit.
            let wilkinson: Vec<f64> = (0..n).map(|i| (i as f64 - (n / 2) as f64).abs() / n as f64).collect();
            check(&wilkinson, &vec![1.0 / n as f64; n - 1]);
        }
    }

    #[test]
    fn inverse_iteration_is_not_given_up_on_plain_matrices() {
        let (d, e) = (random::<f64>(200, 1, 1), random::<f64>(199, 1, 2));
        let values = largest_values(d.as_slice(), e.as_slice(), 30);
        assert!(vectors_of(d.as_slice(), e.as_slice(), &values).is_some());
        let ones = vec![1.0; 40];
        assert!(vectors_of(&ones, &ones[1..].iter().map(|_| 0.0).collect::<Vec<_>>(), &ones[..20]).is_some());
    }
}

//! The largest eigenvalues of a tridiagonal matrix, each between two bounds that are drawn
//! together.
//!
//! Legend: diagonal d, off-diagonal e, both of a matrix T whose largest entry is about 1.

use crate::linalg::kernel::vector::{LANES, count_above};

/// Brackets of the k largest eigenvalues, falling.
pub(super) struct Bisection<'a> {
    diagonal: &'a [f64],
    /// The square that goes with row i: of the entry before it.
    squares: Vec<f64>,
    /// The least size of a pivot.
    least: f64,
    /// The largest size of an eigenvalue.
    size: f64,
    brackets: Vec<(f64, f64)>,
}

impl<'a> Bisection<'a> {
    /// Brackets that hold all eigenvalues.
    pub(super) fn new(d: &'a [f64], e: &[f64], k: usize) -> Self {
        let n = d.len();
        let squares: Vec<f64> = std::iter::once(0.0).chain(e.iter().map(|v| v * v)).collect();
        let radius = |i: usize| {
            (if i > 0 { e[i - 1].abs() } else { 0.0 }) + e.get(i).map_or(0.0, |v| v.abs())
        };
        let low = (0..n).map(|i| d[i] - radius(i)).fold(f64::INFINITY, f64::min);
        let high = (0..n).map(|i| d[i] + radius(i)).fold(f64::NEG_INFINITY, f64::max);
        let size = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let (low, high) = (low - 2.0 * f64::EPSILON * size, high + 2.0 * f64::EPSILON * size);
        let least = f64::MIN_POSITIVE * squares.iter().fold(1.0_f64, |a, b| a.max(*b));
        Self { diagonal: d, squares, least, size, brackets: vec![(low, high); k] }
    }

    /// Bisects until each bracket is narrower than this share of the size of T.
    pub(super) fn narrow(&mut self, share: f64) {
        let k = self.brackets.len();
        for first in (0..k).step_by(LANES) {
            // The last group's values are bounds for this one.
            let bound = if first > 0 {
                self.brackets[first - 1].1 + 4.0 * f64::EPSILON * self.size
            } else {
                f64::INFINITY
            };
            let of = |l: usize| self.brackets[(first + l).min(k - 1)];
            let mut lows: [f64; LANES] = std::array::from_fn(|l| of(l).0);
            let mut highs: [f64; LANES] = std::array::from_fn(|l| of(l).1.min(bound));
            for _ in 0..128 {
                let middles: [f64; LANES] = std::array::from_fn(|l| 0.5 * (lows[l] + highs[l]));
                if (0..LANES).all(|l| highs[l] - lows[l] <= share * self.size) {
                    break;
                }
                let counts = self.above(&middles);
                for l in 0..LANES {
                    let wanted = (first + l + 1).min(k) as f64;
                    if counts[l] >= wanted {
                        lows[l] = middles[l];
                    } else {
                        highs[l] = middles[l];
                    }
                }
            }
            for l in 0..LANES.min(k - first) {
                self.brackets[first + l] = (lows[l], highs[l]);
            }
        }
    }

    /// How many eigenvalues lie above each shift.
    pub(super) fn above(&self, shifts: &[f64; LANES]) -> [f64; LANES] {
        count_above(self.diagonal, &self.squares, self.least, shifts)
    }

    pub(super) fn brackets(&self) -> &[(f64, f64)] {
        &self.brackets
    }

    /// The middles of the brackets, falling.
    pub(super) fn values(&self) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.brackets.iter().map(|(low, high)| 0.5 * (low + high)).collect();
        // Bisection may order equal values by their last bit only.
        for j in 1..values.len() {
            values[j] = values[j].min(values[j - 1]);
        }
        values
    }
}

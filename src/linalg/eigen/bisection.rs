//! The k largest eigenvalues of a symmetric tridiagonal matrix by bisection with Sturm counts.[^1]
//!
//! Legend: diagonal d, off-diagonal e, both of an n×n matrix T whose largest entry is about 1; x a
//! shift.
//!
//! Sturm count: T − xI = L D Lᵗ has the pivots q_0 = d_0 − x and q_i = d_i − x − e_{i−1}²/q_{i−1}.
//! By Sylvester's law of inertia, as many pivots are positive as T has eigenvalues above x. One
//! count takes O(n) operations, and a count of either kind halves the bracket of an eigenvalue. The
//! recurrence is stable although it does not exchange rows: the count is exact for a matrix whose
//! entries differ from those of T by a few roundings.
//!
//! A pivot waits for the division of the one before it. Sixteen shifts are therefore counted side
//! by side, one in each SIMD lane.
//!
//! [^1]: W. Barth, R. S. Martin and J. H. Wilkinson, Calculation of the eigenvalues of a symmetric
//! tridiagonal matrix by the method of bisection, Numerische Mathematik 9 (1967); Golub & Van Loan,
//! section 8.4.

use crate::linalg::kernel::vector::{LANES, count_above};

/// Brackets (lower end, upper end) of the k largest eigenvalues, in descending order.
pub(super) struct Bisection<'a> {
    diagonal: &'a [f64],
    /// For row i the square e_{i−1}² of the off-diagonal entry before it; 0 for the first row.
    squares: Vec<f64>,
    /// The smallest absolute value of a pivot; smaller ones are replaced by −`least`.
    least: f64,
    /// An upper bound on the absolute values of all eigenvalues.
    size: f64,
    brackets: Vec<(f64, f64)>,
}

impl<'a> Bisection<'a> {
    /// k brackets, each of which contains all eigenvalues.
    pub(super) fn new(d: &'a [f64], e: &[f64], k: usize) -> Self {
        let n = d.len();
        let squares: Vec<f64> = std::iter::once(0.0).chain(e.iter().map(|v| v * v)).collect();
        // Gershgorin: every eigenvalue lies within |e_{i−1}| + |e_i| of some d_i.
        let radius = |i: usize| {
            (if i > 0 { e[i - 1].abs() } else { 0.0 }) + e.get(i).map_or(0.0, |v| v.abs())
        };
        let low = (0..n).map(|i| d[i] - radius(i)).fold(f64::INFINITY, f64::min);
        let high = (0..n).map(|i| d[i] + radius(i)).fold(f64::NEG_INFINITY, f64::max);
        let size = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        // The sums above are rounded: widen the interval by more than their error.
        let (low, high) = (low - 2.0 * f64::EPSILON * size, high + 2.0 * f64::EPSILON * size);
        // The smallest pivot for which e²/q does not overflow (`pivmin` in LAPACK's `dstebz`).
        let least = f64::MIN_POSITIVE * squares.iter().fold(1.0_f64, |a, b| a.max(*b));
        Self { diagonal: d, squares, least, size, brackets: vec![(low, high); k] }
    }

    /// Bisects until no bracket is wider than `share` times the bound on the eigenvalues.
    ///
    /// Invariant: bracket j (from 0) has at least j + 1 eigenvalues above its lower end and at most
    /// j above its upper end.
    pub(super) fn narrow(&mut self, share: f64) {
        let k = self.brackets.len();
        for first in (0..k).step_by(LANES) {
            // The eigenvalues of this group do not exceed the last one of the group before. The
            // margin of 4 ε allows for rounding in that one's upper end.
            let bound = if first > 0 {
                self.brackets[first - 1].1 + 4.0 * f64::EPSILON * self.size
            } else {
                f64::INFINITY
            };
            // Unused lanes of the last group repeat the last bracket.
            let of = |l: usize| self.brackets[(first + l).min(k - 1)];
            let mut lows: [f64; LANES] = std::array::from_fn(|l| of(l).0);
            let mut highs: [f64; LANES] = std::array::from_fn(|l| of(l).1.min(bound));
            // A width of 2 · size takes 54 halvings to reach ε · size. The limit is a precaution.
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

    /// The number of eigenvalues above each of the shifts.
    pub(super) fn above(&self, shifts: &[f64; LANES]) -> [f64; LANES] {
        count_above(self.diagonal, &self.squares, self.least, shifts)
    }

    /// The brackets, in descending order.
    pub(super) fn brackets(&self) -> &[(f64, f64)] {
        &self.brackets
    }

    /// The midpoints of the brackets, in descending order.
    pub(super) fn values(&self) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.brackets.iter().map(|(low, high)| 0.5 * (low + high)).collect();
        // Midpoints of equal eigenvalues may differ in the last bit, in either order.
        for j in 1..values.len() {
            values[j] = values[j].min(values[j - 1]);
        }
        values
    }
}

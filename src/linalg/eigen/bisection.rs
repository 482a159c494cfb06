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

/// An interval that contains an eigenvalue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bracket {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Bracket {
    pub(super) fn midpoint(&self) -> f64 {
        0.5 * (self.low + self.high)
    }

    /// Whether a value lies in the interval widened by `slack` on both sides.
    pub(super) fn contains(&self, value: f64, slack: f64) -> bool {
        self.low - slack <= value && value <= self.high + slack
    }
}

/// Brackets of the k largest eigenvalues, in descending order.
pub(super) struct Bisection<'a> {
    diagonal: &'a [f64],
    /// For row i the square e_{i−1}² of the off-diagonal entry before it; 0 for the first row.
    squares: Vec<f64>,
    /// The smallest absolute value of a pivot; smaller ones are replaced by −`least`.
    least: f64,
    /// An upper bound on the absolute values of all eigenvalues.
    size: f64,
    brackets: Vec<Bracket>,
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
        Self { diagonal: d, squares, least, size, brackets: vec![Bracket { low, high }; k] }
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
                self.brackets[first - 1].high + 4.0 * f64::EPSILON * self.size
            } else {
                f64::INFINITY
            };
            // Unused lanes of the last group repeat the last bracket.
            let of = |l: usize| self.brackets[(first + l).min(k - 1)];
            let mut lows: [f64; LANES] = std::array::from_fn(|l| of(l).low);
            let mut highs: [f64; LANES] = std::array::from_fn(|l| of(l).high.min(bound));
            // A width of 2 · size takes 54 halvings to reach ε · size. The limit is a precaution.
            for _ in 0..128 {
                let middles: [f64; LANES] = std::array::from_fn(|l| 0.5 * (lows[l] + highs[l]));
                if (0..LANES).all(|l| highs[l] - lows[l] <= share * self.size) {
                    break;
                }
                let counts = self.count_above(&middles);
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
                self.brackets[first + l] = Bracket { low: lows[l], high: highs[l] };
            }
        }
    }

    /// The number of eigenvalues above each of the shifts.
    pub(super) fn count_above(&self, shifts: &[f64; LANES]) -> [f64; LANES] {
        count_above(self.diagonal, &self.squares, self.least, shifts)
    }

    /// The brackets, in descending order.
    pub(super) fn brackets(&self) -> &[Bracket] {
        &self.brackets
    }

    /// The midpoints of the brackets, in descending order.
    pub(super) fn values(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.brackets.iter().map(Bracket::midpoint).collect();
        // Midpoints of equal eigenvalues may differ in the last bit, in either order.
        for j in 1..values.len() {
            values[j] = values[j].min(values[j - 1]);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eigenvalues 2 + 2 cos(jπ/(n+1)) of the tridiagonal matrix (1, 2, 1), in descending
    /// order.
    fn eigenvalues(n: usize) -> Vec<f64> {
        (1..=n)
            .map(|j| 2.0 + 2.0 * (j as f64 * std::f64::consts::PI / (n + 1) as f64).cos())
            .collect()
    }

    #[test]
    fn sturm_counts_are_the_numbers_of_larger_eigenvalues() {
        for n in [1, 2, 15] {
            let (d, e) = (vec![2.0; n], vec![1.0; n - 1]);
            let search = Bisection::new(&d, &e, 1);
            let shifts: [f64; LANES] = std::array::from_fn(|l| 0.29 * l as f64 - 0.1);
            let counts = search.count_above(&shifts);
            for (shift, count) in shifts.iter().zip(counts) {
                let larger = eigenvalues(n).iter().filter(|value| *value > shift).count();
                assert_eq!(count, larger as f64, "{n}, {shift}");
            }
        }
    }

    #[test]
    fn a_pivot_of_zero_does_not_disturb_a_count() {
        // At the shift 2 the first pivot is 0: the eigenvalues are 2 ± √2 and 2.
        let search = Bisection::new(&[2.0; 3], &[1.0; 2], 1);
        let counts = search.count_above(&[2.0 - 1e-9; LANES]);
        assert_eq!(counts, [2.0; LANES]);
        let at_zero_pivot = search.count_above(&[2.0; LANES])[0];
        assert!(at_zero_pivot == 1.0 || at_zero_pivot == 2.0);
    }

    #[test]
    fn brackets_close_in_on_the_largest_eigenvalues() {
        // More than one group of lanes.
        let (n, k) = (60, 20);
        let (d, e) = (vec![2.0; n], vec![1.0; n - 1]);
        let mut search = Bisection::new(&d, &e, k);
        search.narrow(1e-6);
        for (bracket, value) in search.brackets().iter().zip(eigenvalues(n)) {
            assert!(bracket.high - bracket.low <= 4.1e-6 && bracket.contains(value, 1e-14));
        }
        search.narrow(f64::EPSILON);
        for (value, expected) in search.values().iter().zip(eigenvalues(n)) {
            assert!((value - expected).abs() < 1e-14, "{value}");
        }
    }
}

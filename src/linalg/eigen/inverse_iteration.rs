//! Eigenvectors of a symmetric tridiagonal matrix by inverse iteration: sixteen at a time where the
//! eigenvalues are well separated, otherwise one after another.
//!
//! Legend: d the diagonal and e the off-diagonal of an n×n matrix T whose largest absolute entry,
//! `size`, is about 1; eigenvalues λ_i; σ a shift near λ_j.
//!
//! Inverse iteration[^1] repeats: solve (T − σI) y = x, then x ← y/‖y‖. A solve multiplies the
//! component of x along the eigenvector of λ_i by 1/(λ_i − σ). Against the wanted component, each
//! other one shrinks by the factor |λ_j − σ| / |λ_i − σ|. T − σI is almost singular, and the
//! solution has a large error, but almost all of it lies along the wanted eigenvector as well. A
//! solve takes O(n) operations with the LU factors of T − σI (partial pivoting, so that U has two
//! superdiagonals).
//!
//! | function | used when | eigenvalues given to | orthogonal by |
//! |---|---|---|---|
//! | `isolated_pairs` | all gaps exceed `CLUSTER_GAP` | 4e-9, returned to ε | the gaps alone |
//! | `vectors_of` | otherwise | ε | Gram–Schmidt within each cluster |
//!
//! Both return `None` if a vector does not pass its tests; the caller then uses the next slower
//! algorithm (`vectors_of` after `isolated_pairs`, implicit QL after `vectors_of`).
//!
//! Tolerances, and what each one protects from:
//!
//! | tolerance | value | protects from |
//! |---|---|---|
//! | `CLUSTER_GAP` | 1e-3 `size` | vectors that are not orthogonal: their error is residual/gap |
//! | `SOLVES` | 3 solves | a vector that has not converged, with brackets of 4e-9 and that gap |
//! | `residual_tolerance` | 16 ε `size` max(√n, 4) | accepting such a vector |
//! | `least_pivot` | ε `size` | division by 0; it perturbs T by no more than rounding does |
//! | `SHIFT_SPACING` | 4 ε `size` | equal eigenvalues that all lead to the same vector |
//! | `LEAST_REMAINDER` | 1e-12 | normalising rounding errors after Gram–Schmidt |
//!
//! [^1]: J. H. Wilkinson, The Algebraic Eigenvalue Problem (1965), chapter 5; I. C. F. Ipsen,
//! Computing an eigenvector with inverse iteration, SIAM Review 39 (1997); Golub & Van Loan,
//! section 8.2.

use super::bisection::{Bisection, Bracket};
use super::tridiagonal_pairs::Eigenpairs;
use crate::linalg::kernel::vector::{LANES, add_scaled, dot, norm};
use crate::linalg::vector::vectorized;
use nalgebra::{DMatrix, DMatrixView};

/// The gap, relative to the largest entry, below which neighbouring eigenvalues form a cluster,
/// whose vectors must be orthogonalised.
// The value of LAPACK's `dstein` (there relative to the 1-norm of T). A vector with residual r is
// within r/gap of the eigenvector (Davis and Kahan), so that residuals at rounding level lose three
// digits of orthogonality at most.
const CLUSTER_GAP: f64 = 1e-3;
/// The number of solves with each factorisation in [`isolated_pairs`].
// It depends on `CLUSTER_GAP` and on the width of the brackets, 4e-9 of a Gershgorin bound that is
// at most 3 times the largest entry. The shift is within 6e-9 of its eigenvalue, and the next
// wanted one is at least 1e-3 away: a solve reduces an error by 6e-6, and three solves by 2e-16,
// which is ε.
const SOLVES: usize = 3;

/// The largest number of solves for one vector in [`vectors_of`].
// A vector that needs more is left to implicit QL.
const MAX_SOLVES: usize = 8;
/// The smallest distance between the shifts of equal eigenvalues, relative to the largest entry.
// A few ulps: the LU factors differ, and so do the solutions, but the shifts are still eigenvalues
// to working precision.
const SHIFT_SPACING: f64 = 4.0 * f64::EPSILON;
/// The length after Gram–Schmidt below which a unit vector counts as linearly dependent on the
/// vectors of its cluster.
// Of so short a remainder few digits are more than rounding errors.
const LEAST_REMAINDER: f64 = 1e-12;

/// A symmetric tridiagonal matrix T.
#[derive(Clone, Copy)]
struct Tridiagonal<'a> {
    d: &'a [f64],
    e: &'a [f64],
    /// The largest absolute entry, at least the smallest normal number.
    size: f64,
}

impl<'a> Tridiagonal<'a> {
    fn new(d: &'a [f64], e: &'a [f64]) -> Self {
        let size = d.iter().chain(e).fold(0.0_f64, |a, b| a.max(b.abs())).max(f64::MIN_POSITIVE);
        Self { d, e, size }
    }

    /// The largest residual ‖Tx − λx‖ of a unit vector x that is accepted as an eigenvector.
    // Rounding alone leaves a residual of a few ε in each of the n entries.
    fn residual_tolerance(&self) -> f64 {
        16.0 * f64::EPSILON * self.size * (self.d.len() as f64).sqrt().max(4.0)
    }

    /// The smallest absolute value of a pivot of the LU factorisation.
    // A pivot is 0 to working precision where the shift is an eigenvalue to working precision.
    fn least_pivot(&self) -> f64 {
        f64::EPSILON * self.size
    }

    /// ‖Tx − λx‖.
    fn residual(&self, lambda: f64, x: &[f64]) -> f64 {
        let (d, e, n) = (self.d, self.e, self.d.len());
        let mut sum = 0.0;
        for i in 0..n {
            let mut r = (d[i] - lambda) * x[i];
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
}

/// A pivot, replaced by `least` if its absolute value is smaller.
#[inline(always)]
fn at_least(pivot: f64, least: f64) -> f64 {
    if pivot.abs() < least { least } else { pivot }
}

/// A pseudo-random generator of starting vectors: entries uniform in [½, 1½), fixed seed.
// A structured vector may be orthogonal to an eigenvector, a random one hardly ever is. The seed is
// fixed so that results are reproducible. The generator is Marsaglia's xorshift (2003).
struct StartVectors(u64);

impl StartVectors {
    fn new() -> Self {
        Self(0x2545_F491_4F6C_DD1D)
    }

    fn next_entry(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64 + 0.5
    }
}

/// One value for each shift of a group: SIMD lane l belongs to the matrix T − σ_l I.
type Lanes = [f64; LANES];

/// The eigenpairs of brackets that are well separated.
///
/// The eigenvalues are the Rayleigh quotients xᵗTx, whose error is quadratic in that of the vector
/// x: they have twice as many correct digits, so that coarse brackets suffice. `None` if two
/// brackets are closer than [`CLUSTER_GAP`], if a vector has a residual above the tolerance, or if
/// a vector belongs to another eigenvalue than the wanted one.
pub(super) fn isolated_pairs(d: &[f64], e: &[f64], search: &Bisection<'_>) -> Option<Eigenpairs> {
    let (t, brackets) = (Tridiagonal::new(d, e), search.brackets());
    if !are_separated(brackets, CLUSTER_GAP * t.size) {
        return None;
    }
    let slack = t.residual_tolerance();
    let mut pairs = Eigenpairs {
        values: Vec::with_capacity(brackets.len()),
        vectors: DMatrix::zeros(d.len(), brackets.len()),
    };
    let mut start = StartVectors::new();
    let mut lu = LanesLu::new(d.len());
    let mut x = vec![[0.0; LANES]; d.len()];
    for group in brackets.chunks(LANES) {
        x.iter_mut().for_each(|x| *x = [start.next_entry(); LANES]);
        let found = iterate_lanes(&t, &shifts_of(group), &mut lu, &mut x);
        // Sturm counts just above the quotients: the number of eigenvalues that are larger.
        let larger = search.count_above(&found.quotients.map(|quotient| quotient + slack));
        for (l, bracket) in group.iter().enumerate() {
            let (quotient, next) = (found.quotients[l], pairs.values.len());
            // The pair is accepted if (1) its residual is at rounding level, where NaN fails as
            // well; (2) the value lies in its bracket, so that no two lanes return the same vector;
            // and (3) no eigenvalue above it is missing. The third test is for the last bracket:
            // inverse iteration converges to the eigenvalue nearest to the shift, which may be a
            // smaller one that is not wanted.
            let is_next = larger[l] <= next as f64;
            if !(found.residuals[l] <= slack && bracket.contains(quotient, slack) && is_next) {
                return None;
            }
            let mut vector = pairs.vectors.column_mut(next);
            vector.iter_mut().zip(&x).for_each(|(to, from)| *to = from[l]);
            pairs.values.push(quotient);
        }
    }
    Some(pairs)
}

/// Whether each bracket ends by more than `gap` above the next.
// These are the gaps among the wanted eigenvalues. The last bracket may still contain, or be close
// to, eigenvalues that are not wanted; the tests of the vectors cover that case.
fn are_separated(brackets: &[Bracket], gap: f64) -> bool {
    brackets.windows(2).all(|pair| pair[0].low - pair[1].high > gap)
}

/// The midpoints of the brackets of a group.
// Unused lanes of the last group repeat its last shift.
fn shifts_of(group: &[Bracket]) -> Lanes {
    std::array::from_fn(|l| group.get(l).or(group.last()).map_or(0.0, Bracket::midpoint))
}

/// Rayleigh quotients xᵗTx and residuals ‖Tx − (xᵗTx)x‖ of the unit vectors x in each lane.
struct RayleighPairs {
    quotients: Lanes,
    residuals: Lanes,
}

/// Overwrites x by approximate eigenvectors, one per lane, for the eigenvalues nearest to the
/// shifts.
fn iterate_lanes(
    t: &Tridiagonal<'_>,
    shifts: &Lanes,
    lu: &mut LanesLu,
    x: &mut [Lanes],
) -> RayleighPairs {
    vectorized(
        #[inline(always)]
        || {
            lu.factor(t, shifts);
            for _ in 0..SOLVES {
                lu.solve(x);
                normalize(x);
            }
            rayleigh_pairs(t, x)
        },
    )
}

/// Row i of the LU factors of T − σ_l I with partial pivoting, for all lanes l.
#[derive(Clone, Copy)]
struct LanesLuRow {
    /// 1 / U_ii.
    inverse: Lanes,
    /// U_{i,i+1}.
    first: Lanes,
    /// U_{i,i+2}, which is 0 where rows were not exchanged.
    second: Lanes,
    /// The multiple of row i that was subtracted from row i + 1.
    multiplier: Lanes,
    /// 1 where rows i and i + 1 were exchanged, otherwise 0.
    exchanged: Lanes,
}

/// The LU factors of T − σ_l I with partial pivoting, for all lanes l (LAPACK's `dgttrf` and
/// `dgttrs`).
///
/// The lanes exchange different rows. Each of them selects its values, without a branch, so that
/// the inner loop becomes SIMD instructions.
struct LanesLu {
    rows: Vec<LanesLuRow>,
}

impl LanesLu {
    fn new(n: usize) -> Self {
        let zero = [0.0; LANES];
        let row = LanesLuRow {
            inverse: zero,
            first: zero,
            second: zero,
            multiplier: zero,
            exchanged: zero,
        };
        Self { rows: vec![row; n] }
    }

    /// Factors T − σ_l I. A pivot smaller than the least one is replaced by it, unless its row was
    /// exchanged.
    #[inline(always)]
    fn factor(&mut self, t: &Tridiagonal<'_>, shifts: &Lanes) {
        let (d, e, rows) = (t.d, t.e, &mut self.rows[..]);
        let (n, least) = (d.len(), t.least_pivot());
        // Row i after the elimination of those before it: the diagonal entry and the one beside it.
        let (mut pivot, mut beside) =
            (shifts.map(|shift| d[0] - shift), [e.first().copied().unwrap_or(0.0); LANES]);
        for i in 0..n - 1 {
            let (below, after, row) = (e[i], e.get(i + 1).copied().unwrap_or(0.0), &mut rows[i]);
            for l in 0..LANES {
                let next = d[i + 1] - shifts[l];
                let exchanged = below.abs() > pivot[l].abs();
                row.inverse[l] = 1.0 / if exchanged { below } else { at_least(pivot[l], least) };
                row.multiplier[l] = row.inverse[l] * if exchanged { pivot[l] } else { below };
                row.first[l] = if exchanged { next } else { beside[l] };
                row.second[l] = if exchanged { after } else { 0.0 };
                row.exchanged[l] = if exchanged { 1.0 } else { 0.0 };
                pivot[l] =
                    (if exchanged { beside[l] } else { next }) - row.multiplier[l] * row.first[l];
                beside[l] = if exchanged { -row.multiplier[l] * after } else { after };
            }
        }
        rows[n - 1].inverse = pivot.map(|pivot| 1.0 / at_least(pivot, least));
    }

    /// Overwrites x by (T − σ_l I)⁻¹x in each lane l.
    #[inline(always)]
    fn solve(&self, x: &mut [Lanes]) {
        let (n, rows) = (x.len(), &self.rows[..]);
        // Forward elimination, with the exchanges of the factorisation.
        for i in 0..n - 1 {
            let (row, mut this, mut next) = (&rows[i], x[i], x[i + 1]);
            for l in 0..LANES {
                let (a, b) = (this[l], next[l]);
                let exchanged = row.exchanged[l] > 0.5;
                this[l] = if exchanged { b } else { a };
                next[l] = (if exchanged { a } else { b }) - row.multiplier[l] * this[l];
            }
            (x[i], x[i + 1]) = (this, next);
        }
        // Back substitution; `first` and `second` are the entries i + 1 and i + 2 of the solution.
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
}

/// Scales the vector in each lane to unit length.
// A solve lets x grow by some 1/ε, since pivots are at least ε · size. The pivot of an exchanged
// row may be smaller, where off-diagonal entries are tiny; if that overflows, the result is NaN,
// and the residual test rejects it.
#[inline(always)]
fn normalize(x: &mut [Lanes]) {
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

/// The Rayleigh quotients and residuals of the unit vectors x.
#[inline(always)]
fn rayleigh_pairs(t: &Tridiagonal<'_>, x: &[Lanes]) -> RayleighPairs {
    let (d, e, n) = (t.d, t.e, x.len());
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
    // A second pass, because ‖Tx‖² − (xᵗTx)² would cancel: the residual is as small as rounding.
    for (i, own) in x.iter().enumerate() {
        for l in 0..LANES {
            let rest = image(i, l) - quotients[l] * own[l];
            squares[l] += rest * rest;
        }
    }
    RayleighPairs { quotients, residuals: squares.map(f64::sqrt) }
}

/// Orthonormal eigenvectors for `values`, which are eigenvalues in descending order and accurate to
/// working precision; `None` if one of them does not reach a residual at rounding level.
///
/// The method is that of LAPACK's `dstein`: inverse iteration for one value after another, and
/// within a cluster of values (gaps below [`CLUSTER_GAP`]) Gram–Schmidt against the vectors found
/// before.
pub(super) fn vectors_of(d: &[f64], e: &[f64], values: &[f64]) -> Option<DMatrix<f64>> {
    let (n, t) = (d.len(), Tridiagonal::new(d, e));
    let mut vectors = DMatrix::<f64>::zeros(n, values.len());
    let mut lu = TridiagonalLu::new(n);
    let mut start = StartVectors::new();
    // The first index of the cluster that value j belongs to.
    let mut cluster = 0;
    let mut last_shift = f64::INFINITY;
    for (j, &value) in values.iter().enumerate() {
        if j > 0 && values[j - 1] - value > CLUSTER_GAP * t.size {
            cluster = j;
        }
        let shift = value.min(last_shift - SHIFT_SPACING * t.size);
        last_shift = shift;
        lu.factor(&t, shift);
        let mut x: Vec<f64> = (0..n).map(|_| start.next_entry()).collect();
        iterate(&t, &lu, value, vectors.columns(cluster, j - cluster), &mut x)?;
        vectors.column_mut(j).as_mut_slice().copy_from_slice(&x);
    }
    Some(vectors)
}

/// Overwrites x by the eigenvector of `value` that is orthogonal to those of its cluster that are
/// known; `None` if its residual does not become small, or x is a combination of the known ones.
fn iterate(
    t: &Tridiagonal<'_>,
    lu: &TridiagonalLu,
    value: f64,
    known: DMatrixView<'_, f64>,
    x: &mut [f64],
) -> Option<()> {
    for solves in 1..=MAX_SOLVES {
        lu.solve(x);
        scale_to_unit(x, 0.0)?;
        orthogonalize(x, known);
        scale_to_unit(x, LEAST_REMAINDER)?;
        // At least two solves: the second costs little and improves the last digits.
        if solves >= 2 && t.residual(value, x) <= t.residual_tolerance() {
            return Some(());
        }
    }
    None
}

/// Scales x to unit length; `None` if its length is at most `least`, or not finite.
fn scale_to_unit(x: &mut [f64], least: f64) -> Option<()> {
    let length = norm(x);
    if !(length > least && length.is_finite()) {
        return None;
    }
    x.iter_mut().for_each(|v| *v /= length);
    Some(())
}

/// Subtracts from x its projection on the span of orthonormal vectors.
// Gram–Schmidt twice: the first pass leaves rounding errors relative to what it removes, the second
// removes these (Parlett and Kahan's "twice is enough").
fn orthogonalize(x: &mut [f64], known: DMatrixView<'_, f64>) {
    for _ in 0..2 {
        for vector in known.column_iter() {
            let along = dot(vector.as_slice(), x);
            add_scaled(x, -along, vector.as_slice());
        }
    }
}

/// The LU factors of T − σI with partial pivoting: U has two superdiagonals.
struct TridiagonalLu {
    /// U_ii.
    diagonal: Vec<f64>,
    /// 1 / U_ii. Each step of a back substitution waits for the one before, and would wait for a
    /// division as well.
    inverses: Vec<f64>,
    /// U_{i,i+1}.
    first: Vec<f64>,
    /// U_{i,i+2}.
    second: Vec<f64>,
    /// The multiple of row i that was subtracted from row i + 1.
    multipliers: Vec<f64>,
    /// Whether rows i and i + 1 were exchanged.
    exchanged: Vec<bool>,
}

impl TridiagonalLu {
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

    /// Factors T − `shift`·I. A pivot smaller than the least one is replaced by it, unless its row
    /// was exchanged.
    fn factor(&mut self, t: &Tridiagonal<'_>, shift: f64) {
        let (d, e, n, least) = (t.d, t.e, t.d.len(), t.least_pivot());
        // Row i after the elimination of those before it: the diagonal entry and the one beside it.
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
                let safe = at_least(pivot, least);
                let m = below / safe;
                (self.diagonal[i], self.first[i], self.second[i], self.multipliers[i]) =
                    (safe, beside, 0.0, m);
                (pivot, beside) = (next - m * beside, after);
            }
        }
        self.diagonal[n - 1] = at_least(pivot, least);
        self.inverses
            .iter_mut()
            .zip(&self.diagonal)
            .for_each(|(inverse, pivot)| *inverse = 1.0 / pivot);
    }

    /// Overwrites x by (T − σI)⁻¹x: forward elimination, then back substitution.
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

    /// Random diagonals of a tridiagonal matrix, and the matrix.
    struct Example {
        d: Vec<f64>,
        e: Vec<f64>,
        dense: DMatrix<f64>,
    }

    fn example(n: usize, diagonal_scale: f64) -> Example {
        let d: Vec<f64> = random::<f64>(n, 1, 1).iter().map(|v| diagonal_scale * v).collect();
        let e = random::<f64>(n, 1, 2).as_slice()[1..].to_vec();
        let dense = DMatrix::from_fn(n, n, |i, j| match i.abs_diff(j) {
            0 => d[i],
            1 => e[i.min(j)],
            _ => 0.0,
        });
        Example { d, e, dense }
    }

    #[test]
    fn the_lu_factors_solve_shifted_systems_with_and_without_exchanges() {
        for n in [1, 2, 3, 17] {
            // A small diagonal makes exchanges, a large one makes none.
            for (scale, shift) in [(0.01, 0.003), (10.0, 50.0), (1.0, 0.2)] {
                let Example { d, e, dense } = example(n, scale);
                let (t, x) = (Tridiagonal::new(&d, &e), random::<f64>(n, 1, 7));
                let mut lu = TridiagonalLu::new(n);
                lu.factor(&t, shift);
                if n > 1 && scale != 1.0 {
                    assert_eq!(lu.exchanged.contains(&true), scale < 1.0, "{n}, {scale}");
                }
                // Partial pivoting bounds every multiplier by 1.
                assert!(lu.multipliers.iter().all(|m| m.abs() <= 1.0));
                let mut y = x.as_slice().to_vec();
                lu.solve(&mut y);
                let y = DMatrix::from_column_slice(n, 1, &y);
                let back = dense * &y - &y * shift;
                assert!((back - x).amax() < 1e-12 * y.amax().max(1.0), "{n}, {scale}");
            }
        }
    }

    #[test]
    fn a_pivot_of_zero_is_replaced() {
        let (d, e) = ([1.0, 2.0, 3.0], [0.0, 0.0]);
        let t = Tridiagonal::new(&d, &e);
        let mut lu = TridiagonalLu::new(3);
        lu.factor(&t, 2.0);
        let mut x = vec![1.0; 3];
        lu.solve(&mut x);
        // The solution is the eigenvector of 2, up to its length 1/(ε size).
        assert_eq!(x, [-1.0, 1.0 / (3.0 * f64::EPSILON), 1.0]);
    }

    #[test]
    fn the_factors_of_all_lanes_are_those_of_single_shifts() {
        for n in [1, 2, 30] {
            let Example { d, e, .. } = example(n, 0.3);
            let t = Tridiagonal::new(&d, &e);
            let shifts: Lanes = std::array::from_fn(|l| 0.1 * l as f64 - 0.73);
            let mut lanes = LanesLu::new(n);
            lanes.factor(&t, &shifts);
            let right = random::<f64>(n, 1, 9);
            let mut x: Vec<Lanes> = right.iter().map(|v| [*v; LANES]).collect();
            lanes.solve(&mut x);
            for (l, shift) in shifts.iter().enumerate() {
                let mut single = TridiagonalLu::new(n);
                single.factor(&t, *shift);
                let exchanged: Vec<bool> =
                    lanes.rows.iter().map(|row| row.exchanged[l] > 0.5).collect();
                assert_eq!(exchanged, single.exchanged);
                let mut y = right.as_slice().to_vec();
                single.solve(&mut y);
                let size = y.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
                assert!(x.iter().zip(&y).all(|(a, b)| (a[l] - b).abs() < 1e-11 * size), "{n}, {l}");
            }
        }
    }

    #[test]
    fn the_rayleigh_quotient_of_an_eigenvector_is_its_eigenvalue() {
        // The eigenvectors of (1, 2, 1) are sines; lane l has that of 2 + 2 cos((l + 1)π/(n + 1)).
        let n = 20;
        let (d, e) = (vec![2.0; n], vec![1.0; n - 1]);
        let angle = |l: usize| (l + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
        let mut x: Vec<Lanes> =
            (0..n).map(|i| std::array::from_fn(|l| ((i + 1) as f64 * angle(l)).sin())).collect();
        normalize(&mut x);
        let t = Tridiagonal::new(&d, &e);
        let found = rayleigh_pairs(&t, &x);
        for l in 0..LANES {
            assert!((found.quotients[l] - (2.0 + 2.0 * angle(l).cos())).abs() < 1e-14, "{l}");
            assert!(found.residuals[l] < t.residual_tolerance(), "{l}");
            let vector: Vec<f64> = x.iter().map(|x| x[l]).collect();
            assert!((t.residual(found.quotients[l], &vector) - found.residuals[l]).abs() < 1e-15);
        }
    }

    #[test]
    fn a_vector_almost_in_the_span_becomes_orthogonal_to_working_precision() {
        let known = random::<f64>(40, 5, 3).qr().q();
        let mut x: Vec<f64> =
            (&known * random::<f64>(5, 1, 4) + 1e-9 * random::<f64>(40, 1, 5)).as_slice().to_vec();
        scale_to_unit(&mut x, 0.0).unwrap();
        orthogonalize(&mut x, known.as_view());
        assert!(norm(&x) < 1e-8);
        scale_to_unit(&mut x, LEAST_REMAINDER).unwrap();
        let along = known.tr_mul(&DMatrix::from_column_slice(40, 1, &x));
        assert!(along.amax() < 1e-15, "{:e}", along.amax());
    }

    #[test]
    fn lengths_that_cannot_be_normalised_are_rejected() {
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            assert!(scale_to_unit(&mut [bad, 0.0], 0.0).is_none(), "{bad}");
        }
        assert!(scale_to_unit(&mut [1e-13, 0.0], LEAST_REMAINDER).is_none());
        let mut x = [3e-200, 4e-200];
        scale_to_unit(&mut x, 0.0).unwrap();
        assert!((x[0] - 0.6).abs() < 1e-15 && (x[1] - 0.8).abs() < 1e-15);
    }

    #[test]
    fn a_cluster_gets_orthonormal_vectors() {
        // Four equal eigenvalues, and two more within the gap of a cluster.
        let d: [f64; 8] = [1.0, 0.5, 1.0, 1.0 + 1e-5, 0.2, 1.0, 1.0 - 1e-7, 1.0];
        let e = [0.0; 7];
        let mut values = d;
        values.sort_by(|a, b| b.total_cmp(a));
        let vectors = vectors_of(&d, &e, &values[..6]).unwrap();
        assert!(orthonormality(&vectors) < 1e-14);
        let t = Tridiagonal::new(&d, &e);
        for (j, value) in values[..6].iter().enumerate() {
            let x = vectors.column(j);
            assert!(t.residual(*value, x.as_slice()) <= t.residual_tolerance());
        }
        // A third vector of a plane does not exist.
        assert!(vectors_of(&[1.0; 2], &[0.0], &[1.0; 3]).is_none());
    }

    #[test]
    fn brackets_must_be_separated_by_the_gap() {
        let bracket = |low, high| Bracket { low, high };
        let apart = [bracket(2.0, 2.1), bracket(1.0, 1.1), bracket(0.5, 0.6)];
        assert!(are_separated(&apart, 0.3) && !are_separated(&apart, 0.5));
        assert!(are_separated(&apart[..1], 1.0));
        let shifts = shifts_of(&apart);
        assert_eq!((shifts[0], shifts[2], shifts[LANES - 1]), (2.05, 0.55, 0.55));
    }
}

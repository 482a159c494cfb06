//! Eigenvectors of a symmetric tridiagonal matrix by inverse iteration: sixteen at a time where the
//! eigenvalues are well separated, otherwise one after another.
//!
//! Legend: diagonal d, off-diagonal e, both of an n×n matrix T whose largest absolute entry,
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
//! | `isolated_pairs` | all gaps exceed `NEAR` | 4e-9, returned to ε | the gaps alone |
//! | `vectors_of` | otherwise | ε | Gram–Schmidt within each cluster |
//!
//! Both return `None` if a vector does not pass its tests; the caller then uses the next slower
//! algorithm (`vectors_of` after `isolated_pairs`, implicit QL after `vectors_of`).
//!
//! Tolerances, and what each one protects from:
//!
//! | tolerance | value | protects from |
//! |---|---|---|
//! | `NEAR` | 1e-3 `size` | vectors that are not orthogonal: their error is residual/gap |
//! | `SOLVES` | 3 solves | a vector that has not converged, with brackets of 4e-9 and that gap |
//! | `tolerance` | 16 ε `size` max(√n, 4) | accepting such a vector; less than that is rounding |
//! | least pivot | ε `size` | division by 0; it perturbs T by no more than rounding does |
//! | spacing of shifts | 4 ε `size` | equal eigenvalues that all lead to the same vector |
//! | shortest remainder | 1e-12 | normalising rounding errors after Gram–Schmidt |
//!
//! [^1]: J. H. Wilkinson, The Algebraic Eigenvalue Problem (1965), chapter 5; I. C. F. Ipsen,
//! Computing an eigenvector with inverse iteration, SIAM Review 39 (1997); Golub & Van Loan,
//! section 8.2.

use super::bisection::Bisection;
use crate::linalg::kernel::vector::{LANES, add_scaled, dot, norm};
use crate::linalg::vector::vectorized;
use nalgebra::DMatrix;

/// The gap, relative to the largest entry, below which neighbouring eigenvalues form a cluster,
/// whose vectors must be orthogonalised.
// The value of LAPACK's `dstein` (there relative to the 1-norm of T). A vector with residual r is
// within r/gap of the eigenvector (Davis and Kahan), so that residuals at rounding level lose three
// digits of orthogonality at most.
const NEAR: f64 = 1e-3;
/// The number of solves with each factorisation in [`isolated_pairs`].
// It depends on `NEAR` and on the width of the brackets, 4e-9 of a Gershgorin bound that is at most
// 3 times the largest entry. The shift is within 6e-9 of its eigenvalue, and the next wanted one is
// at least 1e-3 away: a solve reduces an error by 6e-6, and three solves by 2e-16, which is ε.
const SOLVES: usize = 3;

/// The largest absolute entry of T, at least the smallest normal number.
fn size_of(d: &[f64], e: &[f64]) -> f64 {
    d.iter().chain(e).fold(0.0_f64, |a, b| a.max(b.abs())).max(f64::MIN_POSITIVE)
}

/// The largest residual ‖Tx − λx‖ of a unit vector x that is accepted as an eigenvector.
// Rounding alone leaves a residual of a few ε in each of the n entries.
fn tolerance(n: usize, size: f64) -> f64 {
    16.0 * f64::EPSILON * size * (n as f64).sqrt().max(4.0)
}

/// A pseudo-random generator of starting vectors: entries uniform in [½, 1½), fixed seed.
// A structured start may be orthogonal to an eigenvector, a random one hardly ever is. The seed is
// fixed so that results are reproducible. The generator is Marsaglia's xorshift (2003).
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

/// One value for each shift of a group: lane l belongs to the matrix T − σ_l I.
type Side = [f64; LANES];

/// Row i of the LU factors of T − σ_l I with partial pivoting, for all lanes l.
#[derive(Clone, Copy)]
struct LuRow {
    /// 1 / U_ii.
    inverse: Side,
    /// U_{i,i+1}.
    first: Side,
    /// U_{i,i+2}, which is 0 where rows were not exchanged.
    second: Side,
    /// The multiple of row i that was subtracted from row i + 1.
    multiplier: Side,
    /// 1 where rows i and i + 1 were exchanged, otherwise 0.
    exchanged: Side,
}

/// The eigenvalues (in descending order) and eigenvectors of brackets that are well separated.
///
/// The eigenvalues are the Rayleigh quotients xᵗTx, whose error is quadratic in that of the vector
/// x: they have twice as many correct digits, so that coarse brackets suffice. `None` if two
/// brackets are closer than [`NEAR`], if a vector has a residual above [`tolerance`], or if a
/// vector belongs to another eigenvalue than the wanted one.
pub(super) fn isolated_pairs(
    d: &[f64],
    e: &[f64],
    search: &Bisection<'_>,
) -> Option<(Vec<f64>, DMatrix<f64>)> {
    let (n, size, brackets) = (d.len(), size_of(d, e), search.brackets());
    let slack = tolerance(n, size);
    // Neighbours among the wanted eigenvalues. The last bracket may still contain, or be close to,
    // eigenvalues that are not wanted; the tests below cover that case.
    if brackets.windows(2).any(|pair| pair[0].0 - pair[1].1 <= NEAR * size) {
        return None;
    }
    let mut values = Vec::with_capacity(brackets.len());
    let mut vectors = DMatrix::<f64>::zeros(n, brackets.len());
    let mut start = Start::new();
    let mut rows = vec![
        LuRow {
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
        // Unused lanes of the last group repeat its last shift.
        let shifts: Side = std::array::from_fn(|l| {
            group.get(l).or(group.last()).map_or(0.0, |(low, high)| 0.5 * (low + high))
        });
        x.iter_mut().for_each(|x| *x = [start.next(); LANES]);
        let (quotients, residuals) = vectorized(
            #[inline(always)]
            || {
                factor(d, e, &shifts, f64::EPSILON * size, &mut rows);
                for _ in 0..SOLVES {
                    solve(&rows, &mut x);
                    normalize(&mut x);
                }
                quotients(d, e, &x)
            },
        );
        // Sturm counts just above the quotients: the number of eigenvalues that are larger.
        let above = search.above(&quotients.map(|quotient| quotient + slack));
        for (l, (low, high)) in group.iter().enumerate() {
            // The pair is accepted if (1) its residual is at rounding level, where NaN fails as
            // well; (2) the value lies in its bracket, so that no two lanes return the same vector;
            // and (3) no eigenvalue above it is missing. The third test is for the last bracket:
            // inverse iteration converges to the eigenvalue nearest to the shift, which may be a
            // smaller one that is not wanted.
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

/// LU factorisation of T − σ_l I with partial pivoting, for all lanes (LAPACK's `dgttrf`).
///
/// The lanes exchange different rows. Each of them selects its values, without a branch, so that
/// the inner loop becomes SIMD instructions.
#[inline(always)]
fn factor(d: &[f64], e: &[f64], shifts: &Side, least: f64, rows: &mut [LuRow]) {
    let n = d.len();
    // A pivot is 0 to working precision where the shift is an eigenvalue to working precision.
    let held = |pivot: f64| if pivot.abs() < least { least } else { pivot };
    // Row i after the elimination of those before it: the diagonal entry and the one beside it.
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

/// Overwrites x by (T − σ_l I)⁻¹x in each lane l.
#[inline(always)]
fn solve(rows: &[LuRow], x: &mut [Side]) {
    let n = x.len();
    // Forward elimination, with the exchanges of the factorisation.
    for i in 0..n - 1 {
        let (row, mut this, mut next) = (&rows[i], x[i], x[i + 1]);
        for l in 0..LANES {
            let (a, b) = (this[l], next[l]);
            this[l] = if row.exchanged[l] > 0.5 { b } else { a };
            next[l] = (if row.exchanged[l] > 0.5 { a } else { b }) - row.multiplier[l] * this[l];
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

/// Scales the vector in each lane to unit length.
// A solve lets x grow by some 1/ε, since pivots are at least ε · size. The pivot of an exchanged
// row may be smaller, where off-diagonal entries are tiny; if that overflows, the result is NaN,
// and the residual test rejects it.
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

/// The Rayleigh quotient xᵗTx and the residual ‖Tx − (xᵗTx)x‖ of the unit vector x in each lane.
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
    // A second pass, because ‖Tx‖² − (xᵗTx)² would cancel: the residual is as small as rounding.
    for (i, own) in x.iter().enumerate() {
        for l in 0..LANES {
            let rest = image(i, l) - quotients[l] * own[l];
            squares[l] += rest * rest;
        }
    }
    (quotients, squares.map(f64::sqrt))
}

/// Orthonormal eigenvectors for `values`, which are eigenvalues in descending order and accurate to
/// working precision; `None` if one of them does not reach a residual of [`tolerance`].
///
/// The method is that of LAPACK's `dstein`: inverse iteration for one value after another, and
/// within a cluster of values (gaps below [`NEAR`]) Gram–Schmidt against the vectors found before.
pub(super) fn vectors_of(d: &[f64], e: &[f64], values: &[f64]) -> Option<DMatrix<f64>> {
    let n = d.len();
    let size = size_of(d, e);
    let mut vectors = DMatrix::<f64>::zeros(n, values.len());
    let mut factors = TridiagonalLu::new(n);
    let mut start = Start::new();
    // The first index of the cluster that value j belongs to.
    let mut group = 0;
    let mut last_shift = f64::INFINITY;
    for (j, value) in values.iter().enumerate() {
        if j > 0 && values[j - 1] - value > NEAR * size {
            group = j;
        }
        // Equal values get shifts that differ by a few ulps, so that their solutions differ, too.
        let shift = value.min(last_shift - 4.0 * f64::EPSILON * size);
        last_shift = shift;
        factors.factor(d, e, shift, f64::EPSILON * size);
        let mut x: Vec<f64> = (0..n).map(|_| start.next()).collect();
        let mut found = false;
        // A vector that needs more than eight solves is left to implicit QL.
        for attempt in 0..8 {
            factors.solve(&mut x);
            let grown = norm(&x);
            if !(grown > 0.0 && grown.is_finite()) {
                return None;
            }
            x.iter_mut().for_each(|v| *v /= grown);
            // Gram–Schmidt twice: the first pass leaves rounding errors relative to what it
            // removes, the second removes these (Parlett and Kahan's "twice is enough").
            for _ in 0..2 {
                for p in group..j {
                    let known = vectors.column(p);
                    let along = dot(known.as_slice(), &x);
                    add_scaled(&mut x, -along, known.as_slice());
                }
            }
            // So little of the unit vector is left that its digits are rounding errors.
            let length = norm(&x);
            if length < 1e-12 {
                return None;
            }
            x.iter_mut().for_each(|v| *v /= length);
            // At least two solves: the second costs little and improves the last digits.
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

/// ‖Tx − λx‖ for λ = `value`.
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

    /// Factors T − `shift`·I. A pivot smaller than `least` is replaced by it, unless its row was
    /// exchanged.
    fn factor(&mut self, d: &[f64], e: &[f64], shift: f64, least: f64) {
        let n = d.len();
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

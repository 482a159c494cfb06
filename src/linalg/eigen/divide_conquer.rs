//! All eigenpairs of a symmetric tridiagonal matrix by divide and conquer.[^1]
//!
//! Legend: T, n×n, is split between two rows, where its off-diagonal entry is e. With ρ = |e|,
//! T = diag(T_1, T_2) + ρ v vᵗ, where v has two entries ±1. From T_1 = Q_1 D_1 Q_1ᵗ and T_2 = Q_2
//! D_2 Q_2ᵗ, T is orthogonally similar to D + ρ z zᵗ, with D = diag(D_1, D_2).
//!
//! 1. Deflation: where ρ|z_j| is negligible, an entry of D is an eigenvalue; where two entries of D
//!    agree to rounding, a rotation makes one of their z_j zero.
//! 2. The other eigenvalues λ are the roots of the secular equation 1/ρ + Σ z_j²/(d_j − λ) = 0, one
//!    between each two neighbours in D. Each is stored as its distance from the nearer of them, so
//!    that all d_j − λ have a small relative error.
//! 3. Eigenvectors of D + ρ z zᵗ have entries ẑ_i/(d_i − λ). The vector ẑ is the one for which the
//!    computed λ are exact (Löwner's formula): eigenvectors are then orthogonal to working
//!    precision, however close eigenvalues are.[^2]
//! 4. The eigenvectors of T are products of those with diag(Q_1, Q_2).
//!
//! Nearly all of the 4n³/3 operations, of which deflation saves a part, are in the matrix products
//! of step 4. Rotations of implicit QL take some 3n³ without reuse.
//!
//! [^1]: J. J. M. Cuppen, A divide and conquer method for the symmetric tridiagonal eigenproblem,
//! Numerische Mathematik 36 (1981); LAPACK's `stedc`.
//!
//! [^2]: M. Gu and S. C. Eisenstat, A divide-and-conquer algorithm for the symmetric tridiagonal
//! eigenproblem, SIAM J. Matrix Anal. Appl. 16 (1995).

use super::tridiagonal_pairs::Eigenpairs;
use crate::Result;
use crate::linalg::kernel::vector::{norm, rotate, secular_quotients, two_dots, with_widest_simd};
use crate::linalg::parallel::{join, map_chunks, threads};
use crate::linalg::{gemm, zeros};
use nalgebra::DMatrix;

/// The largest matrix whose pairs are computed by implicit QL.
// A merge of two small halves takes longer than QL: with 32 rows in place of 64, a matrix of 100
// rows took 1.1 times as long. (LAPACK's `stedc` stops at 25.)
pub(super) const LEAF: usize = 64;

/// The largest number of evaluations of the secular equation for one root; some four are usual.
const EVALUATIONS: usize = 200;
/// Roots in a block, the unit of parallel work.
const ROOTS: usize = 16;

/// All eigenpairs of the tridiagonal matrix with diagonal `d` and off-diagonal `e`; `leaf` computes
/// those of at most [`LEAF`] rows. `None` if an eigenvalue is not found.
pub(super) fn divide_and_conquer(
    d: &[f64],
    e: &[f64],
    leaf: &(impl Fn(&[f64], &[f64]) -> Result<Eigenpairs> + Sync),
) -> Result<Option<Eigenpairs>> {
    let n = d.len();
    if n <= LEAF {
        return leaf(d, e).map(Some);
    }
    let m = n / 2;
    let coupling = e[m - 1];
    let (mut upper, mut lower) = (d[..m].to_vec(), d[m..].to_vec());
    upper[m - 1] -= coupling.abs();
    lower[0] -= coupling.abs();
    let first = || divide_and_conquer(&upper, &e[..m - 1], leaf);
    let second = || divide_and_conquer(&lower, &e[m..], leaf);
    let (first, second) =
        if threads(n * n * n / 3) > 1 { join(first, second) } else { (first(), second()) };
    Ok(match (first?, second?) {
        (Some(first), Some(second)) => merge(first, second, coupling),
        _ => None,
    })
}

/// Which rows of a column of diag(Q_1, Q_2) are not zero.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    Upper,
    /// After a rotation with a column of the other half.
    Both,
    Lower,
}

/// The pairs of diag(T_1, T_2) + ρ v vᵗ from those of T_1 and T_2.
fn merge(first: Eigenpairs, second: Eigenpairs, coupling: f64) -> Option<Eigenpairs> {
    let m = first.values.len();
    let mut d = first.values;
    d.extend(second.values);
    let n = d.len();
    let mut q = zeros(n, n);
    q.view_mut((0, 0), (m, m)).copy_from(&first.vectors);
    q.view_mut((m, m), (n - m, n - m)).copy_from(&second.vectors);
    // z = diag(Q_1, Q_2)ᵗ v / √2, of length 1; ρ is doubled instead.
    let (half, rho) = (0.5f64.sqrt(), 2.0 * coupling.abs());
    let mut z: Vec<f64> = (0..n)
        .map(|j| if j < m { q[(m - 1, j)] } else { q[(m, j)] * 1f64.copysign(coupling) } * half)
        .collect();
    let mut rows: Vec<Rows> =
        (0..n).map(|j| if j < m { Rows::Upper } else { Rows::Lower }).collect();
    // Equal values keep the order of their indices, so that the result is reproducible.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| d[*a].total_cmp(&d[*b]).then(a.cmp(b)));

    // 1. Deflation, with the tolerance of LAPACK's `laed2`: what is neglected is a few roundings of
    //    the norm of this matrix.
    let largest = d.iter().fold(rho, |largest, d| largest.max(d.abs()));
    let tolerance = 4.0 * f64::EPSILON * largest;
    let (mut kept, mut deflated): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for &j in &order {
        if rho * z[j].abs() <= tolerance {
            deflated.push(j);
            continue;
        }
        if let Some(&before) = kept.last() {
            // The rotation that makes z of the column before zero puts (d_j − d_before)·c·s outside
            // the diagonal: it is done where that is negligible.
            let length = z[j].hypot(z[before]);
            let (c, s) = (z[j] / length, z[before] / length);
            let gap = d[j] - d[before];
            if (gap * c * s).abs() <= tolerance {
                (z[j], z[before]) = (length, 0.0);
                let (left, right) = q.as_mut_slice().split_at_mut(before.max(j) * n);
                let low = before.min(j) * n;
                let (left, right) = (&mut left[low..low + n], &mut right[..n]);
                let (x, y) = if before < j { (left, right) } else { (right, left) };
                rotate(x, y, c, s);
                (d[before], d[j]) = (d[before] + gap * s * s, d[j] - gap * s * s);
                if rows[before] != rows[j] {
                    (rows[before], rows[j]) = (Rows::Both, Rows::Both);
                }
                kept.pop();
                deflated.push(before);
            }
        }
        kept.push(j);
    }

    // 2. The roots of the secular equation.
    let k = kept.len();
    let mut vectors = zeros(n, n);
    let mut values = Vec::with_capacity(n);
    if k > 0 {
        let poles: Vec<f64> = kept.iter().map(|j| d[*j]).collect();
        let weights: Vec<f64> = kept.iter().map(|j| z[*j]).collect();
        let mut gaps = zeros(k, k);
        let found = map_chunks(gaps.as_mut_slice(), ROOTS * k, 16 * k * k, |block, gaps| {
            let mut roots = [0.0; ROOTS];
            for (i, (gaps, to)) in gaps.chunks_exact_mut(k).zip(&mut roots).enumerate() {
                *to = secular_root(&poles, &weights, rho, block * ROOTS + i, gaps)?;
            }
            let count = gaps.len() / k;
            Some(roots.into_iter().take(count))
        });
        for block in found {
            values.extend(block?);
        }
        // 3. The eigenvectors of D + ρ z zᵗ. Their rows are sorted by the rows of Q that they
        //    combine, so that no product reads the zeros of diag(Q_1, Q_2).
        let exact = lowner(&poles, &weights, &gaps);
        let mut places: Vec<usize> = (0..k).collect();
        places.sort_by_key(|i| (rows[kept[*i]] as usize, *i));
        let mut inner = zeros(k, k);
        for (to, gaps) in
            inner.as_mut_slice().chunks_exact_mut(k).zip(gaps.as_mut_slice().chunks_exact_mut(k))
        {
            with_widest_simd(
                #[inline(always)]
                || {
                    for (gap, z) in gaps.iter_mut().zip(&exact) {
                        *gap = z / *gap;
                    }
                },
            );
            let length = norm(gaps);
            for (to, place) in to.iter_mut().zip(&places) {
                *to = gaps[*place] / length;
            }
        }
        // 4. Products with the columns of Q, the upper and the lower rows apart.
        let count = |of: Rows| kept.iter().filter(|j| rows[**j] == of).count();
        let (upper, lower) = (count(Rows::Upper), count(Rows::Lower));
        let columns = |range: std::ops::Range<usize>, from: usize, height: usize| {
            let mut packed = zeros(height, range.len());
            for (c, place) in places[range].iter().enumerate() {
                let column = &q.column(kept[*place]).data.into_slice()[from..from + height];
                packed.column_mut(c).as_mut_slice().copy_from_slice(column);
            }
            packed
        };
        let left = columns(0..k - lower, 0, m);
        gemm(1.0, &left, inner.rows(0, k - lower), 0.0, vectors.view_mut((0, 0), (m, k)));
        let left = columns(upper..k, m, n - m);
        gemm(1.0, &left, inner.rows(upper, k - upper), 0.0, vectors.view_mut((m, 0), (n - m, k)));
    }
    for (c, j) in deflated.iter().enumerate() {
        values.push(d[*j]);
        vectors.column_mut(k + c).copy_from(&q.column(*j));
    }
    Some(Eigenpairs { values, vectors })
}

/// Root `i` of the secular equation: it lies between poles i and i + 1, or above the last one.
///
/// Writes d_j − λ for all poles to `gaps`. `None` if the limit of evaluations is reached.
///
/// The sums over the poles below and above λ are each replaced by a constant and one pole, with the
/// same value and slope at the current point (R.-C. Li's "middle way", LAPACK Working Note 89). The
/// root of that model is the next point; a bracket, halved where the model fails, guarantees
/// convergence.
fn secular_root(
    poles: &[f64],
    weights: &[f64],
    rho: f64,
    i: usize,
    gaps: &mut [f64],
) -> Option<f64> {
    let k = poles.len();
    let (below, above) = (i + 1, k - i - 1);
    let inverse = 1.0 / rho;
    // The sums over the poles below and above λ, each with its slope. The quotients z_j/(d_j − λ)
    // are stored in `gaps`: with quotients and both sums in one loop, the compiler does not use
    // whole SIMD registers.
    let mut evaluate = |origin: f64, x: f64| {
        secular_quotients(poles, weights, origin, x, gaps);
        let (near, far) = gaps.split_at(below);
        let (psi, psi_slope) = two_dots(weights, near, near);
        let (phi, phi_slope) = two_dots(&weights[below..], far, far);
        (psi, psi_slope, phi, phi_slope)
    };
    // The origin is the nearer pole, and x = λ − origin is in the bracket from `low` to `high`.
    let (origin, mut low, mut high, mut x);
    if above == 0 {
        let squares: f64 = weights.iter().map(|z| z * z).sum();
        // The equation is positive at the upper end; a margin covers the rounding of the sum.
        (origin, low, high) = (poles[i], 0.0, rho * squares * (1.0 + 1e-13 * k as f64));
        x = 0.5 * high;
    } else {
        let width = poles[i + 1] - poles[i];
        let middle = 0.5 * width;
        let (psi, _, phi, _) = evaluate(poles[i], middle);
        let value = inverse + psi + phi;
        (origin, low, high) =
            if value >= 0.0 { (poles[i], 0.0, middle) } else { (poles[i + 1], -middle, 0.0) };
        // The first point: all other poles are a constant, with its value in the middle.
        let squares = (weights[i] * weights[i], weights[i + 1] * weights[i + 1]);
        let constant = value + squares.0 / middle - squares.1 / middle;
        let (a, b) = if value >= 0.0 {
            (constant * width + squares.0 + squares.1, squares.0 * width)
        } else {
            (-constant * width + squares.0 + squares.1, -squares.1 * width)
        };
        x = root_within(constant, a, b, low, high).unwrap_or(0.5 * (low + high));
    }
    for evaluation in 0..EVALUATIONS {
        let (psi, psi_slope, phi, phi_slope) = evaluate(origin, x);
        let (value, slope) = (inverse + psi + phi, psi_slope + phi_slope);
        // Terms below λ are negative, those above positive. Gu and Eisenstat's criterion: the value
        // is at the level of the rounding of its own terms.
        let size = inverse + (phi - psi) + x.abs() * slope;
        if value.abs() <= 2.0 * f64::EPSILON * size {
            break;
        }
        // The equation increases from −∞ to ∞ (to 1/ρ above the last pole).
        if value > 0.0 {
            high = x;
        } else {
            low = x;
        }
        let middle = 0.5 * (low + high);
        // No number is left between the ends.
        if middle <= low || middle >= high {
            break;
        }
        if evaluation + 1 == EVALUATIONS {
            return None;
        }
        let near = (poles[i] - origin) - x;
        let step = if above == 0 {
            // c + s/(Δ − η) = 0 for one pole.
            let constant = value - near * psi_slope;
            Some(near + near * near * psi_slope / constant)
        } else {
            let far = (poles[i + 1] - origin) - x;
            let constant = value - near * psi_slope - far * phi_slope;
            root_within(
                constant,
                (near + far) * value - near * far * slope,
                near * far * value,
                low - x,
                high - x,
            )
        };
        let newton = x - value / slope;
        let next = step.map_or(newton, |step| x + step);
        // Every fourth time the bracket is halved, so that its width cannot stay large.
        x = if next > low && next < high && evaluation % 4 != 3 {
            next
        } else if evaluation % 4 != 3 && newton > low && newton < high {
            newton
        } else {
            middle
        };
    }
    with_widest_simd(
        #[inline(always)]
        || {
            for (gap, pole) in gaps.iter_mut().zip(poles) {
                *gap = (pole - origin) - x;
            }
        },
    );
    Some(origin + x)
}

/// The root of c x² − a x + b = 0 between `low` and `high` that is nearer to 0.
fn root_within(c: f64, a: f64, b: f64, low: f64, high: f64) -> Option<f64> {
    let root = (a * a - 4.0 * b * c).max(0.0).sqrt();
    // The sum of two numbers of one sign; the other root follows from the product of both.
    let q = 0.5 * (a + root.copysign(a));
    let (x, y) = (q / c, b / q);
    let inside = |x: f64| x > low && x < high;
    match (inside(x), inside(y)) {
        (true, true) => Some(if x.abs() < y.abs() { x } else { y }),
        (true, false) => Some(x),
        (false, true) => Some(y),
        (false, false) => None,
    }
}

/// The vector ẑ for which the computed λ are the exact eigenvalues of D + ρ ẑ ẑᵗ, up to its length.
///
/// ẑ_i² is proportional to Π_j (λ_j − d_i) / Π_{j ≠ i} (d_j − d_i); the sign is that of z_i.
fn lowner(poles: &[f64], weights: &[f64], gaps: &DMatrix<f64>) -> Vec<f64> {
    let mut products = vec![1.0; poles.len()];
    with_widest_simd(
        #[inline(always)]
        || {
            for (j, gaps) in gaps.as_slice().chunks_exact(poles.len()).enumerate() {
                // Each root is between two poles: the quotients are about 1, and their products
                // neither overflow nor underflow.
                for range in [0..j, j + 1..poles.len()] {
                    let entries = products[range.clone()].iter_mut();
                    for ((product, gap), pole) in
                        entries.zip(&gaps[range.clone()]).zip(&poles[range])
                    {
                        *product *= gap / (pole - poles[j]);
                    }
                }
                products[j] *= gaps[j];
            }
        },
    );
    products.iter().zip(weights).map(|(p, z)| p.abs().sqrt().copysign(*z)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tridiagonal_pairs::implicit_ql_pairs;
    use super::*;
    use crate::linalg::testing::{orthonormality, random, with_threads};

    fn leaf(d: &[f64], e: &[f64]) -> Result<Eigenpairs> {
        implicit_ql_pairs(d, e)
    }

    fn product(d: &[f64], e: &[f64], x: &DMatrix<f64>) -> DMatrix<f64> {
        let n = d.len();
        DMatrix::from_fn(n, x.ncols(), |i, j| {
            let above = if i > 0 { e[i - 1] * x[(i - 1, j)] } else { 0.0 };
            let below = if i + 1 < n { e[i] * x[(i + 1, j)] } else { 0.0 };
            above + d[i] * x[(i, j)] + below
        })
    }

    /// Residuals, orthogonality and eigenvalues (against those of QL) to a few roundings.
    fn check(d: &[f64], e: &[f64]) {
        let n = d.len();
        let size = d.iter().chain(e).fold(0.0f64, |size, v| size.max(v.abs()));
        let Eigenpairs { mut values, vectors } = divide_and_conquer(d, e, &leaf).unwrap().unwrap();
        let tolerance = 20.0 * f64::EPSILON * (n as f64).sqrt();
        assert!(orthonormality(&vectors) < tolerance, "{n}: {:e}", orthonormality(&vectors));
        let scaled = &vectors * DMatrix::from_diagonal(&values.clone().into());
        let error = (product(d, e, &vectors) - scaled).amax();
        assert!(error <= tolerance * size, "{n}: {error:e} of {size:e}");
        let mut expected = implicit_ql_pairs(d, e).unwrap().values;
        values.sort_by(f64::total_cmp);
        expected.sort_by(f64::total_cmp);
        for (value, expected) in values.iter().zip(&expected) {
            assert!((value - expected).abs() <= 3.0 * tolerance * size, "{n}");
        }
    }

    #[test]
    fn spectra_of_every_kind() {
        for n in [65, 90, 131, 257] {
            let (d, e) = (random::<f64>(n, 1, 1), random::<f64>(n, 1, 2));
            let (d, e) = (d.as_slice(), &e.as_slice()[1..]);
            check(d, e);
            // Entries of e that are 0 or below rounding, so that nothing couples the halves.
            check(d, &vec![0.0; n - 1]);
            check(d, &vec![1e-17; n - 1]);
            check(&vec![0.0; n], e);
            // Everything is deflated, or nothing.
            check(&vec![1.0; n], &vec![0.0; n - 1]);
            check(&vec![0.0; n], &vec![0.0; n - 1]);
            check(&vec![2.0; n], &vec![-1.0; n - 1]);
            check(&vec![1.0; n], &vec![1e-9; n - 1]);
            // Wilkinson's matrix W⁺, whose eigenvalues come in pairs that agree to the last digit,
            // and copies of it that are glued together by small entries.
            let wilkinson: Vec<f64> =
                (0..n).map(|i| (i as f64 - (n / 2) as f64).abs() / n as f64).collect();
            check(&wilkinson, &vec![1.0 / n as f64; n - 1]);
            let copies: Vec<f64> = (0..n).map(|i| ((i % 21) as f64 - 10.0).abs() / 10.0).collect();
            for glue in [1e-4, 1e-8, 1e-14] {
                let glued: Vec<f64> =
                    (1..n).map(|i| if i % 21 == 0 { glue } else { 0.1 }).collect();
                check(&copies, &glued);
            }
            // Graded over 300 orders of magnitude, in both directions.
            let graded: Vec<f64> =
                (0..n).map(|i| 10f64.powf(-300.0 * i as f64 / n as f64)).collect();
            let reversed: Vec<f64> = graded.iter().rev().copied().collect();
            check(&graded, &graded[1..]);
            check(&reversed, &reversed[..n - 1]);
            // A cluster at 1 with one value far away, and a spectrum of three values.
            let cluster: Vec<f64> =
                (0..n).map(|i| if i == n / 3 { -1.0 } else { 1.0 + 1e-15 * i as f64 }).collect();
            check(&cluster, &vec![1e-13; n - 1]);
            let three: Vec<f64> = (0..n).map(|i| (i % 3) as f64 * 0.5).collect();
            check(&three, &vec![1e-5; n - 1]);
            check(&three, e);
        }
    }

    #[test]
    fn roots_of_hard_secular_equations() {
        // Poles that are close, weights that are small: the residual is that of rounding, and the
        // roots interlace with the poles.
        for k in [1, 2, 3, 9, 40] {
            for (gap, weight) in [(1.0, 1.0), (1e-12, 1.0), (1e-3, 1e-14), (1e-14, 1e-7)] {
                for rho in [1e-10, 1.0, 1e10] {
                    let poles: Vec<f64> = (0..k).map(|j| 0.3 + gap * j as f64).collect();
                    let weights: Vec<f64> =
                        (0..k).map(|j| if j % 2 == 0 { weight } else { -0.3 }).collect();
                    let mut gaps = vec![0.0; k];
                    for i in 0..k {
                        let root = secular_root(&poles, &weights, rho, i, &mut gaps).unwrap();
                        assert!(root >= poles[i] && (i + 1 == k || root <= poles[i + 1]));
                        assert!(gaps[..=i].iter().all(|gap| *gap < 0.0));
                        assert!(gaps[i + 1..].iter().all(|gap| *gap > 0.0));
                        let terms = weights.iter().zip(&gaps).map(|(z, gap)| z * z / gap);
                        let (mut sum, mut size) = (1.0 / rho, 1.0 / rho);
                        for term in terms {
                            sum += term;
                            size += term.abs();
                        }
                        assert!(
                            sum.abs() < 1e-13 * size,
                            "{k} {gap:e} {weight:e} {rho:e}: {i}: {sum:e} of {size:e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn bit_identical_for_any_threads() {
        let (d, e) = (random::<f64>(300, 1, 1), random::<f64>(299, 1, 2));
        let run = |t| {
            with_threads(t, || {
                let pairs = divide_and_conquer(d.as_slice(), e.as_slice(), &leaf).unwrap().unwrap();
                (pairs.values, pairs.vectors)
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5));
    }
}

//! Eigenvalues and eigenvectors of a symmetric tridiagonal matrix: all pairs by divide and conquer
//! or implicit QL, or the k largest by bisection and inverse iteration.
//!
//! Legend: diagonal d, off-diagonal e, both of an n×n matrix T whose largest entry is about 1.
//!
//! `leading_pairs` uses the first of these that applies and succeeds:
//!
//! 1. For 3k < n, bisection to brackets of `COARSE` (some 29 halvings). If the k eigenvalues are
//!    well separated: inverse iteration for sixteen of them at a time, and Rayleigh quotients for
//!    the last digits of the eigenvalues.
//! 2. For 3k < n, bisection to the last digit, then inverse iteration for one value after another,
//!    with Gram–Schmidt within clusters.
//! 3. Divide and conquer, which gives all pairs, of which the k largest are kept. It ends at
//!    matrices of at most 64 rows, which are solved by implicit QL with Wilkinson's shift;[^1] QL
//!    also replaces it should a root of its secular equation not be found.
//!
//! The first two take O(kn) operations for each halving and each solve; the third takes O(n³), most
//! of them in matrix products (in QL, to apply its rotations to the eigenvectors).
//!
//! [^1]: A. Dubrulle, R. S. Martin and J. H. Wilkinson, The implicit QL algorithm, Numerische
//! Mathematik 12 (1968); Golub & Van Loan, section 8.3.

use super::bisection::Bisection;
use super::divide_conquer::divide_and_conquer;
use super::inverse_iteration::{isolated_pairs, vectors_of};
use crate::linalg::kernel::vector::rotate_neighbours;
use crate::linalg::parallel::for_each_chunk;
use crate::linalg::sqrt_one_plus_square;
use crate::{Error, Result};
use nalgebra::DMatrix;

/// The largest number of QL steps for one eigenvalue; two are usual.
const STEPS: usize = 80;
/// The number of rows of the eigenvector matrix that form a block.
// A block is 512 n bytes, and stays in cache while some thousand rotations pass over it. The
// rotations act on columns, so that blocks of rows are independent tasks with bit-identical
// results.
const ROWS: usize = 64;

/// The width of a bracket, relative to the bound on the eigenvalues, that suffices for inverse
/// iteration where eigenvalues are well separated.
// Depends on `CLUSTER_GAP` and `SOLVES` in `inverse_iteration`: change the three together.
const COARSE: f64 = 4e-9;

/// Eigenvalues, and the eigenvectors as columns in the same order.
pub(super) struct Eigenpairs {
    pub(super) values: Vec<f64>,
    pub(super) vectors: DMatrix<f64>,
}

/// The k largest eigenvalues, in descending order, and their eigenvectors (n×k).
pub(super) fn leading_pairs(
    diagonal: &[f64],
    off_diagonal: &[f64],
    k: usize,
) -> Result<Eigenpairs> {
    let d = diagonal.len();
    // For few pairs only: Gram–Schmidt in a cluster of g vectors takes O(ng²) operations, whereas
    // QL gives orthogonal vectors for any spectrum.
    if let Some(pairs) = (3 * k < d).then(|| few_pairs(diagonal, off_diagonal, k)).flatten() {
        return Ok(pairs);
    }
    let Eigenpairs { values, vectors } = all_pairs(diagonal, off_diagonal)?;
    // Equal values keep the order of their indices, so that the result is reproducible.
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order.truncate(k);
    Ok(Eigenpairs {
        values: order.iter().map(|i| values[*i]).collect(),
        vectors: vectors.select_columns(&order),
    })
}

/// The k largest eigenvalues and their eigenvectors by bisection and inverse iteration; `None` if a
/// vector does not reach full accuracy.
fn few_pairs(d: &[f64], e: &[f64], k: usize) -> Option<Eigenpairs> {
    let mut search = Bisection::new(d, e, k);
    search.narrow(COARSE);
    if let Some(pairs) = isolated_pairs(d, e, &search) {
        return Some(pairs);
    }
    // Clusters: their vectors need eigenvalues to the last digit. The brackets are narrowed
    // further.
    search.narrow(f64::EPSILON);
    let values = search.values();
    let vectors = vectors_of(d, e, &values)?;
    Some(Eigenpairs { values, vectors })
}

/// All eigenvalues, in no particular order, and the eigenvectors as columns in the same order.
fn all_pairs(diagonal: &[f64], off_diagonal: &[f64]) -> Result<Eigenpairs> {
    match divide_and_conquer(diagonal, off_diagonal, &implicit_ql_pairs)? {
        Some(pairs) => Ok(pairs),
        None => implicit_ql_pairs(diagonal, off_diagonal),
    }
}

/// [`all_pairs`] by implicit QL.
pub(super) fn implicit_ql_pairs(diagonal: &[f64], off_diagonal: &[f64]) -> Result<Eigenpairs> {
    let n = diagonal.len();
    let mut blocks: Vec<DMatrix<f64>> = (0..n)
        .step_by(ROWS)
        .map(|first| {
            DMatrix::from_fn(ROWS.min(n - first), n, |i, j| f64::from(u8::from(first + i == j)))
        })
        .collect();
    // Rotations are collected and applied many at a time. One sweep alone would read the whole
    // matrix of vectors from memory for six operations on each pair of entries.
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
        // Sixteen sweeps of n rotations; at least 1024, so that small problems fork rarely.
        if pending.len() >= 16 * n.max(64) {
            flush(&mut pending, &mut blocks);
        }
    })?;
    flush(&mut pending, &mut blocks);
    let mut vectors = DMatrix::zeros(n, n);
    for (b, block) in blocks.iter().enumerate() {
        vectors.rows_mut(b * ROWS, block.nrows()).copy_from(block);
    }
    Ok(Eigenpairs { values, vectors })
}

/// All eigenvalues by implicit QL with Wilkinson's shift.
///
/// `rotation` is called with each rotation (i, c, s), in order. Column i of the eigenvector matrix
/// becomes c·v_i − s·v_{i+1}, and column i + 1 becomes s·v_i + c·v_{i+1}.
fn implicit_ql(
    diagonal: &[f64],
    off_diagonal: &[f64],
    mut rotation: impl FnMut((usize, f64, f64)),
) -> Result<Vec<f64>> {
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e = off_diagonal.to_vec();
    e.push(0.0);
    let size = d.iter().chain(&e).fold(0.0_f64, |a, b| a.max(b.abs()));
    // Invariant: rows before l are diagonal. The steps for l end when e_l is negligible; d_l is
    // then an eigenvalue.
    for l in 0..n {
        for step in 0.. {
            // Relative to the neighbouring diagonal entries, which keeps small eigenvalues of
            // graded matrices accurate, but not below 0.05 ε of the largest entry: between diagonal
            // entries that are 0 to working precision the relative test would never succeed.
            let negligible = |i: usize| {
                e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs()).max(0.05 * size)
            };
            // The block l ≤ i ≤ m has no negligible off-diagonal entry.
            let m = (l..n - 1).find(|i| negligible(*i)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == STEPS {
                return Err(Error::DecompositionLimit {
                    what: "the symmetric eigenvalue decomposition",
                    limit: STEPS,
                });
            }
            // Wilkinson's shift: the eigenvalue of the leading 2×2 block that is nearer to d_l.
            let slope = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (slope + sqrt_one_plus_square(slope).copysign(slope));
            // One QL step: the rotation of the last two columns makes an entry outside the three
            // diagonals, and each further rotation moves it up by one row, and out at row l.
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let square = f * f + g * g;
                // `hypot` is slow, and needed only where the squares underflow; entries are about 1
                // at most, so that they do not overflow.
                let r = if square > 1e-280 { square.sqrt() } else { f.hypot(g) };
                e[i + 1] = r;
                // The block splits at i + 1: undo the shift in progress and look for blocks again.
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
        let Eigenpairs { mut values, vectors } = all_pairs(d, e).unwrap();
        assert!(orthonormality(&vectors) < 1e-13 * (n as f64).sqrt());
        let back = &vectors * DMatrix::from_diagonal(&values.clone().into()) * vectors.transpose();
        assert!((back - &t).amax() < 1e-13 * size * (n as f64).sqrt());
        values.sort_by(|a, b| b.total_cmp(a));
        for k in [1, n / 3, n] {
            let mut search = Bisection::new(d, e, k);
            search.narrow(f64::EPSILON);
            let largest = search.values();
            assert!(
                largest.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-14 * size * (n as f64)),
                "k={k} of {n}"
            );
            let all_digits =
                vectors_of(d, e, &largest).map(|vectors| Eigenpairs { values: largest, vectors });
            for Eigenpairs { values: found, vectors } in
                [all_digits, few_pairs(d, e, k), leading_pairs(d, e, k).ok()].into_iter().flatten()
            {
                assert!(
                    found
                        .iter()
                        .zip(&values)
                        .all(|(a, b)| (a - b).abs() < 1e-14 * size * (n as f64)),
                    "k={k} of {n}"
                );
                assert!(orthonormality(&vectors) < 1e-12, "{n}: {:e}", orthonormality(&vectors));
                let error = &t * &vectors - &vectors * DMatrix::from_diagonal(&found.into());
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
            // Wilkinson's matrix W⁺: pairs of eigenvalues that agree to the last digit.
            let wilkinson: Vec<f64> =
                (0..n).map(|i| (i as f64 - (n / 2) as f64).abs() / n as f64).collect();
            check(&wilkinson, &vec![1.0 / n as f64; n - 1]);
        }
    }

    #[test]
    fn inverse_iteration_is_not_given_up_on_plain_matrices() {
        let (d, e) = (random::<f64>(200, 1, 1), random::<f64>(199, 1, 2));
        assert!(few_pairs(d.as_slice(), e.as_slice(), 30).is_some());
        let ones = vec![1.0; 40];
        assert!(
            vectors_of(&ones, &ones[1..].iter().map(|_| 0.0).collect::<Vec<_>>(), &ones[..20])
                .is_some()
        );
    }

    #[test]
    fn eigenvalues_far_apart_are_found_side_by_side() {
        // The tridiagonal matrix (1, 2, 1) has eigenvalues 2 + 2 cos(jπ/(n+1)).
        let n = 20;
        let (d, e) = (vec![2.0; n], vec![1.0; n - 1]);
        let mut search = Bisection::new(&d, &e, 6);
        search.narrow(COARSE);
        let Eigenpairs { values, vectors } = isolated_pairs(&d, &e, &search).unwrap();
        for (j, value) in values.iter().enumerate() {
            let angle = (j + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
            assert!((value - (2.0 + 2.0 * angle.cos())).abs() < 4e-15, "{j}");
            let scale = vectors[(0, j)] / angle.sin();
            assert!(
                (0..n)
                    .all(|i| (vectors[(i, j)] - scale * ((i + 1) as f64 * angle).sin()).abs()
                        < 1e-13),
                "{j}"
            );
        }
        // Two eigenvalues that agree in all digits are not separated.
        let (d, e) = ([1.0, 2.0, 2.0, 0.0, 0.5], [0.0; 4]);
        let mut search = Bisection::new(&d, &e, 3);
        search.narrow(COARSE);
        assert!(isolated_pairs(&d, &e, &search).is_none());
    }

    #[test]
    fn a_neighbour_that_is_not_asked_for_is_not_taken_instead() {
        // The smallest wanted eigenvalue, and an unwanted one below it in the same bracket.
        for (gap, place) in [1e-6, 1e-8, 3e-9, 1e-9, 3e-10, 1e-11, 1e-13]
            .iter()
            .flat_map(|gap| (0..40).map(move |p| (*gap, p)))
        {
            let wanted = 1.0 + 0.0123 * f64::from(place);
            let mut d: Vec<f64> = (0..12).map(|i| -0.05 * f64::from(i)).collect();
            (d[2], d[7], d[4], d[9]) = (3.0, 2.0, wanted, wanted - gap);
            let Eigenpairs { values, vectors } = leading_pairs(&d, &[0.0; 11], 3).unwrap();
            assert!(
                (values[2] - wanted).abs() < 2e-13,
                "{gap:e} at {place}: {:e}",
                values[2] - wanted
            );
            // A gap below the tolerance of a residual does not separate the two vectors.
            assert!(
                gap < 1e-12 || vectors[(4, 2)].abs() > 1.0 - 1e-6,
                "{gap:e} at {place}: {}",
                vectors[(4, 2)]
            );
        }
    }
}

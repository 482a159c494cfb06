//! Eigenvalues and eigenvectors of a tridiagonal matrix: all by implicit QL, or the leading ones by
//! bisection and inverse iteration.
//!
//! Legend: diagonal d, off-diagonal e, both of a matrix whose largest entry is about 1.

use super::bisection::Bisection;
use super::inverse_iteration::{isolated_pairs, vectors_of};
use crate::linalg::hypotenuse_with_one;
use crate::linalg::kernel::vector::rotate_neighbours;
use crate::linalg::parallel::for_each_chunk;
use crate::{Error, Result};
use nalgebra::DMatrix;

/// QL steps for one eigenvalue at most; two are usual.
const STEPS: usize = 80;
/// Rows of the vectors that stay in the cache while rotations pass over them.
const ROWS: usize = 64;

/// Brackets of this share of the largest entry are narrow enough for inverse iteration, where
/// eigenvalues are far apart.
const COARSE: f64 = 4e-9;

/// The k largest eigenvalues, falling, and their eigenvectors: one by one while they are few, else
/// out of all.
pub(crate) fn leading_pairs(
    diagonal: &[f64],
    off_diagonal: &[f64],
    k: usize,
) -> Result<(Vec<f64>, DMatrix<f64>)> {
    let d = diagonal.len();
    if let Some(pairs) = (3 * k < d).then(|| few_pairs(diagonal, off_diagonal, k)).flatten() {
        return Ok(pairs);
    }
    let (values, vectors) = all_pairs(diagonal, off_diagonal)?;
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order.truncate(k);
    Ok((order.iter().map(|i| values[*i]).collect(), vectors.select_columns(&order)))
}

/// The same by bisection and inverse iteration; `None` when a vector is not found to full accuracy.
fn few_pairs(d: &[f64], e: &[f64], k: usize) -> Option<(Vec<f64>, DMatrix<f64>)> {
    let mut search = Bisection::new(d, e, k);
    search.narrow(COARSE);
    if let Some(pairs) = isolated_pairs(d, e, &search) {
        return Some(pairs);
    }
    search.narrow(f64::EPSILON);
    let values = search.values();
    let vectors = vectors_of(d, e, &values)?;
    Some((values, vectors))
}

/// All eigenvalues, in no order, and the eigenvectors as columns in that order.
fn all_pairs(diagonal: &[f64], off_diagonal: &[f64]) -> Result<(Vec<f64>, DMatrix<f64>)> {
    let n = diagonal.len();
    let mut blocks: Vec<DMatrix<f64>> = (0..n)
        .step_by(ROWS)
        .map(|first| {
            DMatrix::from_fn(ROWS.min(n - first), n, |i, j| f64::from(u8::from(first + i == j)))
        })
        .collect();
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
    for l in 0..n {
        for step in 0.. {
            // Relative to the whole too: among zeros to working precision nothing else ends.
            let negligible = |i: usize| {
                e[i].abs() <= f64::EPSILON * (d[i].abs() + d[i + 1].abs()).max(0.05 * size)
            };
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
            let slope = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (slope + hypotenuse_with_one(slope).copysign(slope));
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
            let mut search = Bisection::new(d, e, k);
            search.narrow(f64::EPSILON);
            let largest = search.values();
            assert!(
                largest.iter().zip(&values).all(|(a, b)| (a - b).abs() < 1e-14 * size * (n as f64)),
                "k={k} of {n}"
            );
            let all_digits = vectors_of(d, e, &largest).map(|vectors| (largest, vectors));
            for (found, vectors) in
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
            // Wilkinson's: pairs that agree to the last digit.
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
        // The second difference has eigenvalues 2 + 2 cos(jπ/(n+1)).
        let n = 20;
        let (d, e) = (vec![2.0; n], vec![1.0; n - 1]);
        let mut search = Bisection::new(&d, &e, 6);
        search.narrow(COARSE);
        let (values, vectors) = isolated_pairs(&d, &e, &search).unwrap();
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
        // Two that agree in all digits are not far apart.
        let (d, e) = ([1.0, 2.0, 2.0, 0.0, 0.5], [0.0; 4]);
        let mut search = Bisection::new(&d, &e, 3);
        search.narrow(COARSE);
        assert!(isolated_pairs(&d, &e, &search).is_none());
    }

    #[test]
    fn a_neighbour_that_is_not_asked_for_is_not_taken_instead() {
        // The last of those wanted, and one below it that lies in the same bracket.
        for (gap, place) in [1e-6, 1e-8, 3e-9, 1e-9, 3e-10, 1e-11, 1e-13]
            .iter()
            .flat_map(|gap| (0..40).map(move |p| (*gap, p)))
        {
            let wanted = 1.0 + 0.0123 * f64::from(place);
            let mut d: Vec<f64> = (0..12).map(|i| -0.05 * f64::from(i)).collect();
            (d[2], d[7], d[4], d[9]) = (3.0, 2.0, wanted, wanted - gap);
            let (values, vectors) = leading_pairs(&d, &[0.0; 11], 3).unwrap();
            assert!(
                (values[2] - wanted).abs() < 2e-13,
                "{gap:e} at {place}: {:e}",
                values[2] - wanted
            );
            // Below the tolerance of a residual the two are not told apart.
            assert!(
                gap < 1e-12 || vectors[(4, 2)].abs() > 1.0 - 1e-6,
                "{gap:e} at {place}: {}",
                vectors[(4, 2)]
            );
        }
    }
}

//! Tables, oracles and small helpers.

use elbo::data::files::{Format, ReadOptions, decode};
use elbo::{IntoObservations, Observations};
use nalgebra::allocator::Allocator;
use nalgebra::{DMatrix, DVector, DefaultAllocator, Dim, Dyn, OMatrix};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use std::f64::consts::TAU;
use std::sync::{Mutex, PoisonError};

pub fn iris() -> DMatrix<f64> {
    csv(include_bytes!("../../../examples/data/iris.csv.gz"))
}

pub fn wine() -> DMatrix<f64> {
    csv(include_bytes!("../../../examples/data/wine.csv.gz"))
}

pub fn digits() -> DMatrix<f64> {
    decode(
        include_bytes!("../../../examples/data/digits-images.idx3-ubyte.gz"),
        Format::Idx,
        &ReadOptions::default(),
    )
    .unwrap()
    .values
}

fn csv(bytes: &[u8]) -> DMatrix<f64> {
    decode(bytes, Format::Csv, &ReadOptions::default()).unwrap().values
}

pub fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

pub fn normal<R: Rng>(rows: usize, columns: usize, rng: &mut R) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |_, _| elbo::Real::standard_normal(rng))
}

pub fn observed(x: &DMatrix<f64>) -> Observations<'_, f64> {
    x.into_observations().unwrap()
}

/// Tables that break careless arithmetic, each with a latent dimension below its rank.
pub fn hostile() -> Vec<(&'static str, DMatrix<f64>, usize)> {
    let rng = &mut rng(77);
    // Column variances from 1e-4 to 1e6, with a common factor.
    let factor = normal(2, 300, rng);
    let graded = DMatrix::from_fn(12, 300, |j, i| {
        10f64.powf(-2.0 + 5.0 * j as f64 / 11.0)
            * (factor[(j % 2, i)] + 0.5 * <f64 as elbo::Real>::standard_normal(rng))
    });
    let wide = normal(1500, 38, rng) + normal(1500, 3, rng) * normal(3, 38, rng) * 4.0;
    let few = normal(3, 120, rng);
    let duplicated = DMatrix::from_fn(6, 120, |j, i| few[(j % 3, i)] * (1.0 + (j % 3) as f64));
    let mut constant = normal(5, 80, rng);
    constant.row_mut(1).scale_mut(3.0);
    constant.row_mut(2).fill(7.25);
    constant.row_mut(4).fill(0.0);
    let spread = normal(5, 100, rng);
    let offset =
        DMatrix::from_fn(5, 100, |j, i| 1e7 * (j as f64 + 1.0) + (1.0 + j as f64) * spread[(j, i)]);
    vec![
        ("variances over ten orders of magnitude", graded, 3),
        ("38 observations of 1500 variables", wide, 3),
        ("duplicated columns", duplicated, 2),
        ("constant columns", constant, 2),
        ("a large mean", offset, 2),
    ]
}

/// The eigenvalues of S about `mean`, falling, by the singular values of the deviations: all d of
/// them. One-sided Jacobi on scaled columns, written for the tests alone, so that it shares nothing
/// with the library. Computed once for each table, of which many tests use the same.
pub fn eigenvalues(x: &DMatrix<f64>, centered: bool) -> DVector<f64> {
    type Known = (DMatrix<f64>, bool, DVector<f64>);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    // Locked while they are computed, so that no other test computes the same. A list remains
    // valid when a test panics.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().find(|(table, about_mean, _)| *about_mean == centered && table == x);
    if let Some((_, _, values)) = found {
        return values.clone();
    }
    let values = jacobi_eigenvalues(x, centered);
    known.push((x.clone(), centered, values.clone()));
    values
}

fn jacobi_eigenvalues(x: &DMatrix<f64>, centered: bool) -> DVector<f64> {
    let (d, n) = x.shape();
    let mut a = if d <= n { x.transpose() } else { x.clone() };
    if centered {
        let mean = mean(x);
        for i in 0..n {
            for j in 0..d {
                let value = x[(j, i)] - mean[j];
                if d <= n { a[(i, j)] = value } else { a[(j, i)] = value }
            }
        }
    }
    let columns = a.ncols();
    let largest = a.norm_squared();
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..columns {
            for q in p + 1..columns {
                let (pp, qq, pq) = (
                    a.column(p).norm_squared(),
                    a.column(q).norm_squared(),
                    a.column(p).dot(&a.column(q)),
                );
                // Also where a column is nothing but rounding: it has no direction to be orthogonal
                // in.
                if pq.abs() <= 1e-14 * (pp * qq).sqrt() || pp.min(qq) <= 1e-28 * largest {
                    continue;
                }
                rotated = true;
                let zeta = (qq - pp) / (2.0 * pq);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                let (old_p, old_q) = (a.column(p).into_owned(), a.column(q).into_owned());
                a.set_column(p, &(&old_p * c - &old_q * (c * t)));
                a.set_column(q, &(&old_p * (c * t) + &old_q * c));
            }
        }
        if !rotated {
            break;
        }
    }
    let mut values: Vec<f64> = a.column_iter().map(|c| c.norm_squared() / n as f64).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values.resize(d, 0.0);
    DVector::from_vec(values)
}

/// The mean, by a second pass over the deviations.
pub fn mean(x: &DMatrix<f64>) -> DVector<f64> {
    let first = x.column_mean();
    let rest = DVector::from_iterator(
        x.nrows(),
        (0..x.nrows()).map(|j| x.row(j).iter().map(|v| v - first[j]).sum::<f64>()),
    );
    first + rest / x.ncols() as f64
}

/// S, divisor n, about the mean.
pub fn covariance(x: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = mean(x);
    let mut deviations = x.clone();
    deviations.column_iter_mut().for_each(|mut c| c -= &mean);
    &deviations * deviations.transpose() / x.ncols() as f64
}

/// σ̂², the mean of the eigenvalues after the k-th.
pub fn noise(eigenvalues: &DVector<f64>, k: usize) -> f64 {
    let d = eigenvalues.len();
    eigenvalues.rows_range(k..).iter().rev().sum::<f64>() / (d - k) as f64
}

/// Oracle 1: max log p per observation.
pub fn likelihood_optimum(eigenvalues: &DVector<f64>, k: usize) -> f64 {
    let d = eigenvalues.len() as f64;
    let inside: f64 = eigenvalues.rows_range(..k).iter().map(|l| l.ln()).sum();
    -0.5 * (d * TAU.ln() + inside + (d - k as f64) * noise(eigenvalues, k).ln() + d)
}

/// Oracle 6: max J per observation with an isotropic q; `None` where the weakest direction would be
/// given up, which the formula does not cover.
pub fn isotropic_optimum(eigenvalues: &DVector<f64>, k: usize) -> Option<f64> {
    let d = eigenvalues.len() as f64;
    let (noise, m) = (noise(eigenvalues, k), mean_root(eigenvalues, k));
    (eigenvalues[k - 1].sqrt() * m > noise)
        .then(|| -0.5 * (d * TAU.ln() + d + (d - k as f64) * noise.ln() + 2.0 * k as f64 * m.ln()))
}

/// The mean of √λ_j over the k leading ones.
pub fn mean_root(eigenvalues: &DVector<f64>, k: usize) -> f64 {
    eigenvalues.rows_range(..k).iter().map(|l| l.sqrt()).sum::<f64>() / k as f64
}

/// ln|A| of a positive definite matrix.
pub fn log_determinant(matrix: &DMatrix<f64>) -> f64 {
    2.0 * matrix
        .clone()
        .cholesky()
        .expect("positive definite")
        .l()
        .diagonal()
        .iter()
        .map(|v| v.ln())
        .sum::<f64>()
}

#[track_caller]
pub fn assert_relative(actual: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (actual - expected).abs();
    assert!(
        error <= tolerance * expected.abs(),
        "{what}: {actual} is not {expected} to {tolerance:e} relative (off by {error:e})"
    );
}

#[track_caller]
pub fn assert_within(actual: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (actual - expected).abs();
    assert!(
        error <= tolerance,
        "{what}: {actual} is not {expected} to {tolerance:e} (off by {error:e})"
    );
}

#[track_caller]
pub fn assert_close<C: Dim>(
    actual: &OMatrix<f64, Dyn, C>,
    expected: &OMatrix<f64, Dyn, C>,
    tolerance: f64,
    what: &str,
) where
    DefaultAllocator: Allocator<Dyn, C>,
{
    assert_eq!(actual.shape(), expected.shape(), "{what}");
    let error = (actual - expected).amax();
    assert!(
        error <= tolerance * expected.amax(),
        "{what}: off by {error:e} where the largest entry is {:e}",
        expected.amax()
    );
}

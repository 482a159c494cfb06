//! Missing values: exact likelihoods, the maximum from every seed, invariances, imputation,
//! refusals.

mod exactness;
mod factors;
mod imputation;
mod invariance;
mod maximum;
mod refusals;
mod weights;

use elbo::Model;
use elbo::data::files::{Format, ReadOptions, decode};
use elbo::inference::Exact;
use elbo::likelihood::GaussianNoise;
use elbo::map::Linear;
use nalgebra::{DMatrix, DVector};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

const HOLE: f64 = f64::NAN;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

/// n observations of d variables: k factors, white noise of deviation `noise`, a share of holes at
/// random.
fn table(d: usize, n: usize, k: usize, noise: f64, holes: f64, seed: u64) -> DMatrix<f64> {
    let mut rng = rng(seed);
    let loadings = DMatrix::from_fn(d, k, |_, _| normal(&mut rng));
    let codes = DMatrix::from_fn(k, n, |_, _| normal(&mut rng));
    let mean = DVector::from_fn(d, |_, _| 2.0 * normal(&mut rng));
    let mut x = loadings * codes;
    for mut column in x.column_iter_mut() {
        column += &mean;
    }
    x.apply(|value| {
        *value += noise * normal(&mut rng);
        if rng.random::<f64>() < holes {
            *value = HOLE;
        }
    });
    x
}

/// Fisher's iris, 4×150, with entry (observation i, variable j) removed where (7i + 3j) mod 11 = 0.
fn iris_with_holes() -> DMatrix<f64> {
    let bytes = include_bytes!("../../../examples/data/iris.csv.gz");
    let mut values = decode::<f64>(bytes, Format::Csv, &ReadOptions::default()).unwrap().values;
    for i in 0..150 {
        for j in 0..4 {
            if (7 * i + 3 * j) % 11 == 0 {
                values[(j, i)] = HOLE;
            }
        }
    }
    values
}

/// ln N(x_o; μ_o, C_oo) by the covariance itself, and the conditional mean and covariance of what
/// is missing.
fn brute_force(model: &elbo::Ppca, x: &DVector<f64>) -> (f64, DVector<f64>, DMatrix<f64>) {
    marginal(&model.mean().into_owned(), &covariance(model), x)
}

/// WWᵗ and the noise.
fn covariance<N: GaussianNoise<f64>>(model: &Model<f64, Linear<f64>, N, Exact>) -> DMatrix<f64> {
    let noise = model.likelihood().variances(model.mean().len());
    model.loadings() * model.loadings().transpose() + DMatrix::from_diagonal(&noise)
}

fn marginal(
    centre: &DVector<f64>,
    covariance: &DMatrix<f64>,
    x: &DVector<f64>,
) -> (f64, DVector<f64>, DMatrix<f64>) {
    let (seen, hidden): (Vec<usize>, Vec<usize>) = (0..x.len()).partition(|&j| !x[j].is_nan());
    let part = |rows: &[usize], columns: &[usize]| {
        DMatrix::from_fn(rows.len(), columns.len(), |a, b| covariance[(rows[a], columns[b])])
    };
    let mean = |rows: &[usize]| DVector::from_iterator(rows.len(), rows.iter().map(|&j| centre[j]));
    if seen.is_empty() {
        return (0.0, mean(&hidden), part(&hidden, &hidden));
    }
    let deviation = DVector::from_iterator(seen.len(), seen.iter().map(|&j| x[j])) - mean(&seen);
    let factor = part(&seen, &seen).cholesky().unwrap();
    let solved = factor.solve(&deviation);
    let value = -0.5
        * (seen.len() as f64 * std::f64::consts::TAU.ln()
            + factor.ln_determinant()
            + deviation.dot(&solved));
    let across = part(&hidden, &seen);
    let conditional = part(&hidden, &hidden) - &across * factor.solve(&across.transpose());
    (value, mean(&hidden) + across * solved, conditional)
}

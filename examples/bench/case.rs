//! The command line, the cases of each task, and their data.

use elbo::Real;
use elbo::data::files::{Missing, ReadOptions, read};
use nalgebra::DMatrix;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq)]
pub enum Dtype {
    F32,
    F64,
}

impl Dtype {
    pub fn name(self) -> &'static str {
        if self == Self::F32 { "f32" } else { "f64" }
    }
}

pub struct Arguments {
    pub task: String,
    pub peer: String,
    pub case: String,
    pub dtype: Dtype,
    pub threads: usize,
    /// Seed of the network's initialisation, its batches and its Monte Carlo samples.
    pub seed: u64,
    pub max_reps: usize,
    /// Seconds for each timed function.
    pub budget: f64,
}

impl Arguments {
    pub fn parse() -> Result<Self, String> {
        let threads = std::env::var("PERF_THREADS").ok().and_then(|v| v.parse().ok()).unwrap_or(2);
        let mut found = Self {
            task: "pca".into(),
            peer: "elbo".into(),
            case: String::new(),
            dtype: Dtype::F64,
            threads,
            seed: 1,
            max_reps: 9,
            budget: 4.0,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("option {name} needs a value"))?;
            let wrong = || format!("option {name}: {value:?} is not what it takes");
            match name.as_str() {
                "--task" => found.task = value,
                "--peer" => found.peer = value,
                "--case" => found.case = value,
                "--dtype" => {
                    found.dtype = match value.as_str() {
                        "f32" => Dtype::F32,
                        "f64" => Dtype::F64,
                        _ => return Err(wrong()),
                    }
                }
                "--threads" => {
                    found.threads = value.parse().ok().filter(|&t| t > 0).ok_or_else(wrong)?
                }
                "--seed" => found.seed = value.parse().map_err(|_| wrong())?,
                "--max-reps" => {
                    found.max_reps = value.parse().ok().filter(|&t| t > 0).ok_or_else(wrong)?
                }
                "--budget" => found.budget = value.parse().map_err(|_| wrong())?,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        if found.case.is_empty() { Err("option --case CASE is needed".into()) } else { Ok(found) }
    }
}

/// n, d and k of a case: one of the known names, or `NxD,K`.
pub fn shape(case: &str) -> Result<(usize, usize, usize), String> {
    let known = [
        ("digits", (1797, 64, 10)),
        ("10000x784", (10_000, 784, 50)),
        ("60000x784", (60_000, 784, 50)),
        ("2000x784", (2_000, 784, 50)),
        ("200x4000", (200, 4_000, 10)),
        ("2000x5000", (2_000, 5_000, 20)),
        ("1000000x50", (1_000_000, 50, 10)),
        ("10000x100", (10_000, 100, 10)),
        ("2000x50", (2_000, 50, 5)),
        ("20000x100", (20_000, 100, 10)),
    ];
    if let Some((_, shape)) = known.iter().find(|(name, _)| *name == case) {
        return Ok(*shape);
    }
    let other = || {
        let (size, k) = case.split_once(',')?;
        let (n, d) = size.split_once('x')?;
        Some((n.parse().ok()?, d.parse().ok()?, k.parse().ok()?))
    };
    other().ok_or_else(|| format!("case {case:?} is neither a known name nor NxD,K"))
}

fn folder() -> PathBuf {
    std::env::var_os("PERF_DATA").map_or_else(|| "perf-data".into(), PathBuf::from)
}

/// The path of a file in the data folder, if it exists.
fn file(name: &str) -> Option<PathBuf> {
    Some(folder().join(name)).filter(|path| path.exists())
}

/// A table from the data folder, d×n, or `None` when there is no such file.
pub fn table<T: Real>(name: &str) -> Result<Option<DMatrix<T>>, String> {
    let Some(path) = file(name) else { return Ok(None) };
    let options = ReadOptions::default().missing(Missing::Allow);
    read(&path, &options)
        .map(|table| Some(table.values))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The largest share of the variance that k directions can capture, where the data folder has it.
pub fn optimum(case: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file(&format!("pca_{case}_f64.json"))?).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value.get("optimum")?.as_f64()
}

/// Data for PCA: from the data folder, or factors of decreasing variance and white noise.
pub fn complete<T: Real>(arguments: &Arguments) -> Result<(DMatrix<T>, usize), String> {
    let (n, d, k) = shape(&arguments.case)?;
    let name = arguments.case.split(',').next().unwrap_or_default();
    match table(&format!("pca_{name}_{}.npy", arguments.dtype.name()))? {
        Some(x) => Ok((x, k)),
        None => Ok((made(n, d, k), k)),
    }
}

fn made<T: Real>(n: usize, d: usize, k: usize) -> DMatrix<T> {
    let rng = &mut StdRng::seed_from_u64(7);
    let normal = |rows: usize, columns: usize, rng: &mut StdRng| {
        DMatrix::<T>::from_fn(rows, columns, |_, _| T::standard_normal(rng))
    };
    let rank = (2 * k).min(d);
    let mut loadings = normal(d, rank, rng) / T::of((d as f64).sqrt());
    for (j, mut column) in loadings.column_iter_mut().enumerate() {
        column *= T::of(10.0 * ((j + 1) as f64).powf(-0.7));
    }
    let codes = normal(rank, n, rng);
    let mean = normal(d, 1, rng);
    let mut x = elbo::linalg::matrix_product(&loadings, &codes);
    for mut column in x.column_iter_mut() {
        for (value, mean) in column.iter_mut().zip(mean.iter()) {
            *value += *mean + T::of(0.3) * T::standard_normal(rng);
        }
    }
    x
}

/// Data with 20 % missing values (NaN): from the data folder, or made from those for PCA.
pub fn with_holes<T: Real>(arguments: &Arguments) -> Result<(DMatrix<T>, usize), String> {
    let (n, d, k) = shape(&arguments.case)?;
    if let Some(x) = table(&format!("missing_{}_f64.npy", arguments.case))? {
        return Ok((x, k));
    }
    let mut x = made::<T>(n, d, k);
    let rng = &mut StdRng::seed_from_u64(11);
    for value in x.iter_mut() {
        if rng.random::<f64>() < 0.2 {
            *value = T::of(f64::NAN);
        }
    }
    Ok((x, k))
}

/// Widths of the encoder, latent dimension, batch, and the data of a VAE case.
pub struct DeepCase<T: Real> {
    pub widths: Vec<usize>,
    pub latent_dim: usize,
    pub batch: usize,
    pub seed: u64,
    pub x: DMatrix<T>,
}

pub fn deep<T: Real>(arguments: &Arguments) -> Result<DeepCase<T>, String> {
    let known: [(&str, &[usize], usize, usize); 4] = [
        ("mnist400", &[784, 400], 20, 128),
        ("deep200b20", &[784, 200, 200], 50, 20),
        ("deep200b100", &[784, 200, 200], 50, 100),
        ("digits", &[64, 32], 8, 64),
    ];
    let named = known.iter().find(|(name, ..)| *name == arguments.case);
    let (widths, latent_dim, batch) = match named {
        Some((_, widths, latent_dim, batch)) => (widths.to_vec(), *latent_dim, *batch),
        None => {
            let other = || {
                let (sizes, batch) = arguments.case.split_once(',')?;
                let mut sizes: Vec<usize> =
                    sizes.split('-').map(|size| size.parse().ok()).collect::<Option<_>>()?;
                let latent_dim = sizes.pop().filter(|_| !sizes.is_empty())?;
                Some((sizes, latent_dim, batch.parse().ok()?))
            };
            other().ok_or_else(|| {
                format!("case {:?} is neither a known name nor D-H1-H2-K,BATCH", arguments.case)
            })?
        }
    };
    if widths.contains(&0) || latent_dim == 0 || batch == 0 {
        return Err(format!("case {:?} has a size of 0", arguments.case));
    }
    let d = widths[0];
    let x = match table(&format!("vae_{d}_{}.npy", arguments.dtype.name()))? {
        Some(x) => x,
        None => binary(d, 60_000.min(40_000_000 / d)),
    };
    Ok(DeepCase { widths, latent_dim, batch, seed: arguments.seed, x })
}

fn binary<T: Real>(d: usize, n: usize) -> DMatrix<T> {
    let rng = &mut StdRng::seed_from_u64(3);
    fn normal<R: Rng>(rows: usize, columns: usize, rng: &mut R) -> DMatrix<f64> {
        DMatrix::from_fn(rows, columns, |_, _| f64::standard_normal(rng))
    }
    let (w, z) = (normal(d, 12, rng), normal(12, n, rng));
    let logits = elbo::linalg::matrix_product(&w, &z);
    logits.map(|l| {
        T::of(f64::from(u8::from(rng.random::<f64>() < 1.0 / (1.0 + (-(0.8 * l - 1.5)).exp()))))
    })
}

//! Out-of-core probabilistic PCA: a table is written to a file, fitted and scored block by block,
//! so that it is never in memory as a whole.
//!
//! `cargo run --release --example out_of_core [-- OBSERVATIONS VARIABLES]` (default: 200000, 128)

#[path = "support/mod.rs"]
mod support;

use elbo::data::Source;
use elbo::data::files::{Missing, NpyBlocks};
use elbo::fit::Solver;
use elbo::{Ppca, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;
use support::arguments::{or_end, sizes};

const LATENT: usize = 8;

/// Writes samples of a model with eight latent dimensions and noise variance 0.25 as f32, block by
/// block.
fn write_table(path: &Path, n: usize, d: usize, block: usize) -> Result<u64, Box<dyn Error>> {
    let rng = &mut Generator::seed_from_u64(7);
    let mut normal =
        |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f32::standard_normal(rng));
    let loadings = normal(d, LATENT);
    let mut file = BufWriter::new(File::create(path)?);
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {d}), }}");
    let padded = format!("{text:<width$}\n", width = (text.len() + 11).next_multiple_of(64) - 11);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&u16::try_from(padded.len())?.to_le_bytes())?;
    file.write_all(padded.as_bytes())?;
    for first in (0..n).step_by(block) {
        let count = block.min(n - first);
        let x = &loadings * normal(LATENT, count) + normal(d, count) * 0.5;
        for value in x.iter() {
            file.write_all(&(value + 3.0).to_le_bytes())?;
        }
    }
    file.flush()?;
    Ok(std::fs::metadata(path)?.len())
}

/// Peak resident memory in MiB; `None` where the system does not report it.
fn peak() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn report(what: &str, start: Instant, size: f64) {
    let seconds = start.elapsed().as_secs_f64();
    match peak() {
        Some(peak) => println!(
            "{what}: {seconds:.2} s; peak so far {peak:.0} MiB, {:.1} % of the file",
            100.0 * peak / size
        ),
        None => println!("{what}: {seconds:.2} s; this system does not report the peak of memory"),
    }
}

fn run(path: &Path, n: usize, d: usize) -> Result<(), Box<dyn Error>> {
    // Blocks of 2 MiB of single-precision numbers, whatever the number of variables.
    let block = (1usize << 19).div_ceil(d);
    let start = Instant::now();
    let size = write_table(path, n, d, block)? as f64 / (1 << 20) as f64;
    println!(
        "{n} observations of {d} variables: a file of {size:.0} MiB, read in blocks of {block} \
         observations"
    );
    report("written", start, size);
    let mut source = NpyBlocks::<f32>::open(path, block, Missing::Reject)?;

    let start = Instant::now();
    let model = Ppca::fit(LATENT, &mut source)?;
    report(
        &format!(
            "fitted, passes: {}, solver: {:?}",
            model.solver.map_or(0, |report| report.passes),
            model.solver
        ),
        start,
        size,
    );
    println!("  noise variance {:.6}, of the data 0.25", model.model.noise_variance());

    let start = Instant::now();
    let again = Ppca::builder(LATENT)
        .fitter(Solver::Krylov)
        .fit(&mut source, &mut Generator::seed_from_u64(0))?;
    report(
        &format!(
            "matrix-free, passes: {}, solver: {:?}",
            again.solver.map_or(0, |report| report.passes),
            again.solver
        ),
        start,
        size,
    );
    println!("  noise variance {:.6}", again.model.noise_variance());

    let start = Instant::now();
    let mut online = Ppca::<f32>::builder(LATENT).online();
    online.fit_pass(&mut source)?;
    report("stepwise EM, one pass", start, size);
    println!("  noise variance {:.6}", online.model()?.noise_variance());

    let start = Instant::now();
    let mut total = 0.0;
    source.pass(&mut |x| {
        total += model.model.log_likelihood(x)?.iter().map(|&value| f64::from(value)).sum::<f64>();
        Ok(())
    })?;
    report("scored", start, size);
    println!("  log-likelihood {total:.1} nats, {:.4} per observation", total / n as f64);
    Ok(())
}

fn main() {
    // Each block must hold more observations than there are latent dimensions.
    let [n, d] = sizes([
        ("OBSERVATIONS", 200_000, 32..=1_000_000_000),
        ("VARIABLES", 128, LATENT + 1..=10_000),
    ]);
    or_end(std::fs::create_dir_all("target").map_err(|error| format!("target: {error}")));
    let path = format!("target/out_of_core-{}.npy", std::process::id());
    let result = run(path.as_ref(), n, d);
    std::fs::remove_file(&path).ok();
    or_end(result);
}

//! Many observations of many variables: the time and accuracy of each algorithm for the principal
//! components, and the algorithm that is selected automatically.
//!
//! `cargo run --release --example wide [-- VARIABLES OBSERVATIONS]` (default: 3000 and 8000)

#[path = "support/mod.rs"]
mod support;

use elbo::fit::Solver;
use elbo::{Ppca, Real};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};
use std::error::Error;
use std::time::Instant;
use support::arguments::{or_end, sizes};

fn main() {
    // More of each than latent dimensions, and no more than memory may hold.
    let [d, n] = sizes([("VARIABLES", 3000, 31..=100_000), ("OBSERVATIONS", 8000, 31..=1_000_000)]);
    or_end(run(d, n));
}

fn run(d: usize, n: usize) -> Result<(), Box<dyn Error>> {
    let rng = &mut Generator::seed_from_u64(3);
    let mut normal =
        |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f32::standard_normal(rng));
    // Thirty directions whose standard deviations fall as 1/j: at k = 10 neighbouring eigenvalues
    // are close, which is the hard case for iterative algorithms.
    let mut loadings = normal(d, 30);
    loadings.column_iter_mut().enumerate().for_each(|(j, mut column)| column /= 1.0 + j as f32);
    let x = &loadings * normal(30, n) + normal(d, n);
    println!("{n} observations of {d} variables in single precision, 10 latent dimensions");
    let rough = Solver::Randomized { oversampling: 10, power_iterations: 1 };
    let fine = Solver::Randomized { oversampling: 10, power_iterations: 4 };
    for solver in [Solver::Auto, Solver::Krylov, rough, fine, Solver::Covariance] {
        let start = Instant::now();
        let fit = Ppca::builder(10).fitter(solver).fit(&x, rng)?;
        let report = fit.solver.ok_or("no report of a closed form")?;
        let seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let score =
            fit.model.log_likelihood(&x)?.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        let accuracy = report.accuracy.map_or(String::new(), |share| {
            format!(", residual {share:.0e} of the largest variance")
        });
        println!(
            "{solver:?}\n  algorithm {:?}{accuracy}: {seconds:.2} s; log p {score:.4} per \
             observation, computed in {:.2} s",
            report.solver,
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

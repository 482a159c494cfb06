//! Factor analysis to the maximum of the likelihood.

mod support;

use elbo::FactorAnalysis;
use nalgebra::DMatrix;
use std::hint::black_box;
use support::case::complete;
use support::{case, criterion, full, growth, on_threads, timed};

fn fit(k: usize, x: &DMatrix<f64>) {
    drop(black_box(FactorAnalysis::fit(k, x).expect("a fit")));
}

fn main() {
    let mut c = criterion();
    for name in if full() { ["10000x100"] } else { ["2000x40,4"] } {
        let (x, k) = complete::<f64>(&case(name)).expect("a known case");
        on_threads(&mut c, &format!("factor_analysis/{name}"), || fit(k, &x));
    }
    growth(
        "factor_analysis",
        if full() { [10_000, 100, 10] } else { [2_000, 40, 4] },
        |[n, d, k]| {
            let (x, k) = complete::<f64>(&case(&format!("{n}x{d},{k}"))).expect("a case");
            timed(|| fit(k, &x))
        },
    );
    c.final_summary();
}

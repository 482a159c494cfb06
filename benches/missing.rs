//! Probabilistic PCA of data with a fifth of their entries missing, to the maximum of the
//! observed-data likelihood.

mod support;

use elbo::Ppca;
use elbo::data::Incomplete;
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};
use std::hint::black_box;
use support::case::with_holes;
use support::{case, criterion, full, growth, on_threads, timed};

fn fit(k: usize, x: &DMatrix<f64>) {
    let fitted = Ppca::builder(k).fit(Incomplete(x), &mut StdRng::seed_from_u64(0));
    drop(black_box(fitted.expect("a fit")));
}

fn main() {
    let mut c = criterion();
    for name in if full() { ["2000x50", "20000x100"] } else { ["500x20,3", "2000x50"] } {
        let (x, k) = with_holes::<f64>(&case(name)).expect("a known case");
        on_threads(&mut c, &format!("missing/{name}"), || fit(k, &x));
    }
    growth("missing", if full() { [20_000, 50, 5] } else { [2_000, 20, 3] }, |[n, d, k]| {
        let (x, k) = with_holes::<f64>(&case(&format!("{n}x{d},{k}"))).expect("a case");
        timed(|| fit(k, &x))
    });
    c.final_summary();
}

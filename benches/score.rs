//! The log-likelihood of each observation.

mod support;

use elbo::Ppca;
use std::hint::black_box;
use support::case::complete;
use support::{case, criterion, full, growth, on_threads, timed};

fn main() {
    let mut c = criterion();
    let small = ["1000x784,50", "100x1000,10"];
    let table = ["2000x784", "200x4000"];
    for name in if full() { table } else { small } {
        let (x, k) = complete::<f64>(&case(name)).expect("a known case");
        let model = Ppca::fit(k, &x).expect("a fit").model;
        on_threads(&mut c, &format!("score/{name}"), || drop(black_box(model.log_likelihood(&x))));
    }
    growth("score", if full() { [10_000, 400, 20] } else { [4_000, 200, 20] }, |[n, d, k]| {
        let (x, k) = complete::<f64>(&case(&format!("{n}x{d},{k}"))).expect("a case");
        let model = Ppca::fit(k, &x).expect("a fit").model;
        timed(|| model.log_likelihood(&x))
    });
    c.final_summary();
}

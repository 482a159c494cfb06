//! Probabilistic PCA in closed form: fit and transform, in both precisions.

mod support;

use elbo::{Ppca, Real};
use std::hint::black_box;
use support::case::{complete, shape};
use support::{case, criterion, full, growth, on_threads, timed};

fn cases<T: Real>(c: &mut criterion::Criterion, dtype: &str) {
    let small = ["digits", "2000x784,50", "400x1500,10", "50000x50,10"];
    let table = ["digits", "10000x784", "60000x784", "2000x5000", "1000000x50"];
    for name in if full() { &table[..] } else { &small[..] } {
        let (x, k) = complete::<T>(&case(name)).expect("a known case");
        let model = Ppca::fit(k, &x).expect("a fit").model;
        on_threads(c, &format!("pca/fit/{name}/{dtype}"), || drop(black_box(Ppca::fit(k, &x))));
        on_threads(c, &format!("pca/transform/{name}/{dtype}"), || {
            drop(black_box(model.transform(&x)))
        });
    }
}

fn main() {
    let mut c = criterion();
    cases::<f64>(&mut c, "f64");
    cases::<f32>(&mut c, "f32");
    growth("pca/fit", if full() { [10_000, 400, 20] } else { [2_000, 200, 10] }, |[n, d, k]| {
        let name = format!("{n}x{d},{k}");
        assert_eq!(shape(&name), Ok((n, d, k)));
        let (x, k) = complete::<f64>(&case(&name)).expect("a case");
        timed(|| Ppca::fit(k, &x))
    });
    c.final_summary();
}

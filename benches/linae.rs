//! The linear autoencoder by gradient, to 1e-6 of the optimum.

mod support;

use elbo::LinearAutoencoder;
use elbo::fit::AutoencoderDescent;
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};
use std::hint::black_box;
use support::case::complete;
use support::{case, criterion, full, growth, on_threads, timed};

fn fit(k: usize, x: &DMatrix<f64>) {
    let fitted = LinearAutoencoder::builder(k)
        .fitter(AutoencoderDescent::default())
        .fit(x, &mut StdRng::seed_from_u64(0));
    drop(black_box(fitted.expect("a fit")));
}

fn main() {
    let mut c = criterion();
    for name in if full() { ["10000x784"] } else { ["2000x150,10"] } {
        let (x, k) = complete::<f64>(&case(name)).expect("a known case");
        on_threads(&mut c, &format!("linae/{name}"), || fit(k, &x));
    }
    growth("linae", if full() { [10_000, 200, 20] } else { [2_000, 60, 5] }, |[n, d, k]| {
        let (x, k) = complete::<f64>(&case(&format!("{n}x{d},{k}"))).expect("a case");
        timed(|| fit(k, &x))
    });
    c.final_summary();
}

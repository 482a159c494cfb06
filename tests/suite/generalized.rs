//! A linear decoder under likelihoods other than the Gaussian: published maxima, identities, forms
//! of data and bad input.

mod forms;
mod identities;
mod maxima;

use elbo::data::files::{ReadOptions, read};
use nalgebra::{DMatrix, dmatrix};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The 30 answer patterns of LSAT6 to five items (5×30) and how many of 1000 persons gave them
/// (Bock & Lieberman 1970).
fn lsat6() -> (DMatrix<f64>, Vec<f64>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/lsat6.csv");
    let table = read::<f64>(path, &ReadOptions::default()).unwrap().values;
    let persons = table.row(5).iter().copied().collect();
    (table.rows(0, 5).into_owned(), persons)
}

/// Counts of six variables in fourteen observations with offsets, drawn from a model with two
/// latent dimensions.
fn counts() -> (DMatrix<f64>, Vec<f64>) {
    let x = dmatrix![
        2.0, 7.0, 6.0, 7.0, 10.0, 0.0; 44.0, 1.0, 9.0, 16.0, 0.0, 31.0;
        7.0, 1.0, 1.0, 0.0, 0.0, 9.0; 6.0, 0.0, 2.0, 7.0, 1.0, 7.0;
        1.0, 3.0, 2.0, 0.0, 1.0, 1.0; 9.0, 1.0, 6.0, 3.0, 0.0, 2.0;
        1.0, 2.0, 13.0, 1.0, 3.0, 2.0; 0.0, 0.0, 0.0, 9.0, 0.0, 0.0;
        10.0, 1.0, 0.0, 5.0, 0.0, 2.0; 4.0, 0.0, 2.0, 7.0, 1.0, 1.0;
        6.0, 3.0, 11.0, 11.0, 1.0, 4.0; 7.0, 0.0, 0.0, 4.0, 0.0, 0.0;
        47.0, 1.0, 4.0, 34.0, 0.0, 16.0; 5.0, 0.0, 9.0, 6.0, 0.0, 6.0];
    let offsets =
        vec![0.47, 0.29, -0.8, 0.11, -0.44, 0.01, 0.02, -0.8, -0.09, -0.1, 0.38, -0.47, 0.3, -0.44];
    (x.transpose(), offsets)
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

//! Step 3: variational EM, with one isotropic q_i for each flower.
//!
//! Changed component: the inference (exact posterior → a table of local variational parameters
//! φ_i). The table has no row for a new flower: `model.transform` does not compile.

use elbo::VariationalPpca;
use elbo::data::files::{Format, ReadOptions, decode};
use elbo::posterior::Isotropic;
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iris =
        decode::<f64>(include_bytes!("data/iris.csv.gz"), Format::Csv, &ReadOptions::default())?;
    let x = &iris.values; // d×n: an observation is a column
    let k = 2;

    let model = VariationalPpca::<f64, Isotropic<f64>>::builder(k)
        .fit(x, &mut StdRng::seed_from_u64(0))?
        .model;
    let j = model.elbo(x)?.values().sum();
    let codes = model.codes().into_owned();
    let reconstruction = model.inverse_transform(&codes)?;

    println!(
        "variational EM: {} flowers, {} measurements, {} latent dimensions",
        x.ncols(),
        x.nrows(),
        model.latent_dim()
    );
    println!("J, the ELBO in nats                       {:>12.4}", j);
    println!(
        "squared error of the reconstruction       {:>12.4}",
        (x - &reconstruction).norm_squared()
    );
    println!("the first flower                          {:>8.2?}", x.column(0).as_slice());
    println!("its code                                  {:>8.2?}", codes.column(0).as_slice());
    println!(
        "its reconstruction                        {:>8.2?}",
        reconstruction.column(0).as_slice()
    );
    Ok(())
}

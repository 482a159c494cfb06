//! Step 1: the linear autoencoder, z = Ux and x' = Wz, in closed form.
//!
//! An encoder and a decoder, without a density: the objective J is the negative squared error.

use elbo::LinearAutoencoder;
use elbo::data::files::{Format, ReadOptions, decode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iris =
        decode::<f64>(include_bytes!("data/iris.csv.gz"), Format::Csv, &ReadOptions::default())?;
    let x = &iris.values; // d×n: an observation is a column
    let k = 2;

    let model = LinearAutoencoder::fit(k, x)?.model;
    let j = -model.squared_error(x)?;
    let codes = model.transform(x)?;
    let reconstruction = model.inverse_transform(&codes)?;

    println!(
        "linear autoencoder: {} flowers, {} measurements, {} latent dimensions",
        x.ncols(),
        x.nrows(),
        model.latent_dim()
    );
    println!("J, the negative squared error             {:>12.4}", j);
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

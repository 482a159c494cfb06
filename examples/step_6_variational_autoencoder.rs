//! Step 6: the variational autoencoder, with a deep decoder as well.
//!
//! Changed component: the decoder (linear → deep). E_q log p(x|z) has no closed form: the
//! reparameterisation trick estimates J too, not only its gradient.

use elbo::Vae;
use elbo::data::files::{Format, ReadOptions, decode};
use elbo::posterior::Isotropic;
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iris =
        decode::<f64>(include_bytes!("data/iris.csv.gz"), Format::Csv, &ReadOptions::default())?;
    let x = &iris.values; // d×n: an observation is a column
    let k = 2;

    let model = Vae::<f64, Isotropic<f64>>::builder(k).fit(x, &mut StdRng::seed_from_u64(0))?.model;
    let j = model.estimate_elbo(100, x, &mut StdRng::seed_from_u64(1))?.values().sum();
    let codes = model.transform(x)?;
    let reconstruction = model.inverse_transform(&codes)?;

    println!(
        "variational autoencoder: {} flowers, {} measurements, {} latent dimensions",
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

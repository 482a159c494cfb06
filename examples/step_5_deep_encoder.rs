//! Step 5: a deep encoder, with q_i = q(z|φ(x_i)) and φ a multilayer perceptron.
//!
//! Changed component: the map of the encoder (affine → deep). The gradient is estimated from Monte
//! Carlo samples z = μ + σε (the reparameterisation trick).

use elbo::DeepEncoderPpca;
use elbo::data::files::{Format, ReadOptions, decode};
use elbo::posterior::Isotropic;
use elbo::steps::DeepInitialization;
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iris =
        decode::<f64>(include_bytes!("data/iris.csv.gz"), Format::Csv, &ReadOptions::default())?;
    let x = &iris.values; // d×n: an observation is a column
    let k = 2;

    let model = DeepEncoderPpca::<f64, Isotropic<f64>>::builder(k)
        .fit(x, &mut StdRng::seed_from_u64(0))?
        .model;
    let j = model.elbo(x)?.values().sum();
    let codes = model.transform(x)?;
    let reconstruction = model.inverse_transform(&codes)?;

    println!(
        "deep encoder: {} flowers, {} measurements, {} latent dimensions",
        x.ncols(),
        x.nrows(),
        model.latent_dim()
    );
    println!("J, the ELBO in nats                       {:>12.4}", j);

    // No encoder is better than an affine one here: the fit starts at its optimum. From random
    // weights the network has to learn the affine map, and ends below.
    let random = DeepEncoderPpca::<f64, Isotropic<f64>>::builder(k)
        .initialization(DeepInitialization::Random)
        .fit(x, &mut StdRng::seed_from_u64(0))?
        .model;
    println!("  trained from random weights             {:>12.4}", random.elbo(x)?.values().sum());
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

//! Samples from the linear autoencoder.
//! expect: a linear autoencoder has no density p(x|z)
//! expect: probabilistic PCA is the linear autoencoder with one: use `Ppca`

pub fn ask(step: &elbo::LinearAutoencoder, generator: &mut rand::rngs::StdRng) -> nalgebra::DMatrix<f64> {
    step.sample(3, generator)
}

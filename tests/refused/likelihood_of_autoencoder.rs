//! The log-likelihood of the linear autoencoder, which has no density.
//! expect: a linear autoencoder has no
//! expect: probabilistic PCA is the linear autoencoder with one: use `Ppca`

pub fn ask(step: &elbo::LinearAutoencoder, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DVector<f64>> {
    step.log_likelihood(x)
}

//! The log-likelihood of the linear autoencoder, which has no density.
//! expect: the integral over z is only tractable for a linear decoder with Gaussian noise
//! expect: a linear autoencoder has no density p(x|z)
//! expect: use `Ppca`

pub fn ask(step: &elbo::LinearAutoencoder, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DVector<f64>> {
    step.log_likelihood(x)
}

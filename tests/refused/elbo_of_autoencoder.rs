//! The evidence lower bound of the linear autoencoder, which has no density.
//! expect: a linear autoencoder has no density p(x|z)

pub fn ask(step: &elbo::LinearAutoencoder, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DVector<f64>> {
    step.elbo(x).map(|terms| terms.values())
}

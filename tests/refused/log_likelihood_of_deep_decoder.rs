//! The closed-form log-likelihood of a deep decoder.
//! expect: has no closed-form log-likelihood
//! expect: is only tractable for a linear decoder with Gaussian noise

use elbo::Model;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::IsotropicGaussian;
use elbo::map::Mlp;
use elbo::posterior::Isotropic;

type Vae = Model<f64, Mlp<f64>, IsotropicGaussian<f64>, Amortized<GaussianEncoder<Mlp<f64>, Isotropic<f64>>>>;

pub fn ask(step: &Vae, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DVector<f64>> {
    step.log_likelihood(x)
}

//! The closed-form posterior of a deep decoder.
//! expect: has no closed-form posterior: p(z|x) is only Gaussian for a linear decoder with Gaussian noise
//! expect: approximate it: `inference::PerPoint` (one q_i a point) or `inference::Amortized` (a map)

use elbo::inference::{Exact, Inference};
use elbo::likelihood::IsotropicGaussian;
use elbo::map::Mlp;
use elbo::model::{ExactPosterior, GenerativeModel};

type Deep = GenerativeModel<Mlp<f64>, IsotropicGaussian<f64>>;

fn needs_the_posterior<M: ExactPosterior<f64>>(_: &M) {}

pub fn ask(model: &Deep, x: elbo::Observations<'_, f64>) {
    needs_the_posterior(model);
    let _ = Exact.infer(model, x);
}

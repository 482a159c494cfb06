//! Coordinate ascent with a deep decoder, which has no M-step in closed form.
//! expect: has no closed-form M-step under
//! expect: move θ by the gradient: `fit::StochasticGradient`

use elbo::fit::ExpectationMaximization;
use elbo::inference::PerPoint;
use elbo::likelihood::IsotropicGaussian;
use elbo::map::Mlp;
use elbo::model::GenerativeModel;
use elbo::objective::Elbo;
use elbo::posterior::Isotropic;

type Deep = GenerativeModel<Mlp<f64>, IsotropicGaussian<f64>>;

pub fn ask(model: Deep, q: PerPoint<Isotropic<f64>>, x: elbo::Observations<'_, f64>, generator: &mut rand::rngs::StdRng) {
    let _ = ExpectationMaximization::default().fit(&Elbo::reparameterized(1), model, q, x, generator);
}

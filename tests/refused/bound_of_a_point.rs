//! The evidence lower bound of point codes, which have no density.
//! expect: is not a Gaussian posterior: it has no density, so no Kullback-Leibler divergence and no evidence lower bound

use elbo::model::LinearGaussian;
use elbo::objective::Elbo;
use elbo::posterior::Point;

pub fn ask(model: &LinearGaussian<f64>, q: &Point<f64>, x: elbo::Observations<'_, f64>) {
    let _ = Elbo::closed_form().terms(model, q, x);
}

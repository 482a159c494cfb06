//! The evidence lower bound of a deep decoder in closed form.
//! expect: has no closed-form expected log-likelihood
//! expect: `estimate_elbo` of a model

pub fn ask(step: &elbo::Vae, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DVector<f64>> {
    step.elbo(x).map(|terms| terms.values())
}

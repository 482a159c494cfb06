//! An affine encoder fitted to incomplete data, for which it has no fit.
//! expect: cannot be fitted to data of the form `IncompleteObservations
//! expect: it is fitted to complete data in memory

pub fn ask(x: &nalgebra::DMatrix<f64>, generator: &mut rand::rngs::StdRng) {
    let _ = elbo::AmortizedPpca::<f64>::builder(2).fit(elbo::data::Incomplete(x), generator);
}

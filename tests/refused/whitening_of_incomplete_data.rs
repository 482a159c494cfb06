//! A method that needs every entry, called with incomplete data.
//! expect: is not complete data in memory

pub fn ask(model: &elbo::Pca, x: elbo::data::IncompleteObservations<'_, f64>) {
    let _ = model.whiten(x);
}

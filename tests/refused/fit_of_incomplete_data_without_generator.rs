//! A fit that draws random numbers, called without a generator.
//! expect: draws random numbers
//! expect: pass a generator: `Model::builder(k).fit(data, &mut rng)`

pub fn ask(x: &nalgebra::DMatrix<f64>) {
    let _ = elbo::Ppca::fit(2, elbo::data::Incomplete(x));
}

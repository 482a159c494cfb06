//! A reconstruction by a table of φ_i.
//! expect: cannot encode a new x
//! expect: says nothing of any other

use elbo::{VariationalPpca, posterior::Full};

pub fn ask(step: &VariationalPpca<f64, Full<f64>>, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DMatrix<f64>> {
    step.reconstruct(x)
}

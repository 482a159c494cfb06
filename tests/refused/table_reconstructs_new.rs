//! The same for a reconstruction, under another family. expect: cannot encode a new x: a table of
//! φ_i has one row for each observation of the fit and says nothing of any other

use elbo::{VariationalPpca, posterior::Full};

pub fn ask(step: &VariationalPpca<f64, Full<f64>>, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DMatrix<f64>> {
    step.reconstruct(x)
}

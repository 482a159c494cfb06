//! A table of φ_i that is to encode an x that it was not fitted to.
//! expect: cannot encode a new x
//! expect: says nothing of any other
//! expect: use the exact posterior (`Exact`) or an encoder (`Amortized`)

pub fn ask(step: &elbo::VariationalPpca, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DMatrix<f64>> {
    step.transform(x)
}

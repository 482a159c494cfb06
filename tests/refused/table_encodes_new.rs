//! A table of φ_i asked to encode an x that it was not fitted to. expect: cannot encode a new x: a
//! table of φ_i has one row for each observation of the fit and says nothing of any other expect:
//! use the exact posterior (`Exact`) or an encoder (`Amortized`)

pub fn ask(step: &elbo::VariationalPpca, x: &nalgebra::DMatrix<f64>) -> elbo::Result<nalgebra::DMatrix<f64>> {
    step.transform(x)
}

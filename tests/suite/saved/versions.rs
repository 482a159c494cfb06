//! Format versions: what is read of an earlier one, and what is refused by its number.

use super::{refusal, saved};
use elbo::{FactorAnalysis, Ppca};

/// A file of format version 1.
const FIRST: &str = r#"{"format_version":1,"kind":"f64: linear, isotropic_gaussian, exact",
    "decoder":{"weights":{"rows":2,"columns":1,"values":[1.5,-0.25]},"bias":[0.1,0.2],"bias_is_fixed":false},
    "likelihood":{"given":0.5,"log_variance":-0.6931471805599453,"fixed":false,"analytic":true,"floor":0.0},
    "inference":{}}"#;

#[test]
fn a_file_of_version_1_is_read_where_its_form_is_unchanged() {
    let model: Ppca = serde_json::from_str(FIRST).unwrap();
    assert_eq!(model.loadings(), nalgebra::dmatrix![1.5; -0.25]);
    assert_eq!(model.noise_variance(), 0.5);
    // It is written in the version of today.
    assert!(serde_json::to_string(&model).unwrap().starts_with(r#"{"format_version":2,"#));
}

#[test]
fn noise_of_each_variable_of_version_1_is_refused_by_the_number() {
    // Version 1 had no `analytic` there: the file is complete in its own version.
    let first = r#"{"format_version":1,"kind":"f64: linear, diagonal_gaussian, exact",
        "decoder":{"weights":{"rows":1,"columns":1,"values":[1.5]},"bias":[0.1],"bias_is_fixed":false},
        "likelihood":{"given":[0.5],"log_variances":[-0.6931471805599453],"floors":[0.0],"fixed":false},
        "inference":{}}"#;
    let said = serde_json::from_str::<FactorAnalysis>(first).unwrap_err().to_string();
    assert!(
        said.starts_with("the saved model has format version 1, and only version 2 is known"),
        "{said}"
    );
}

#[test]
fn another_version_is_refused_by_its_number() {
    for other in [0, 3, 7, u32::MAX] {
        let mut value = saved();
        value["format_version"] = other.into();
        let said = refusal::<Ppca>(value);
        assert!(
            said.starts_with(&format!("the saved model has format version {other}, and ")),
            "{said}"
        );
    }
    // Also where the format says nothing of what follows: the version is the first thing that is
    // read.
    let bytes = postcard::to_allocvec(&(9u32, "something else", [1u8; 3])).unwrap();
    assert!(postcard::from_bytes::<Ppca>(&bytes).is_err());
}

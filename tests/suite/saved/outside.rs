//! Components that are defined outside the crate: a map, a likelihood and an encoder of one's own
//! are saved inside a model.

use super::{refusal, round_trip};
use elbo::inference::{Amortized, Encoder, GaussianEncoder};
use elbo::likelihood::{
    ConditionalMean, Independent, IsotropicGaussian, Likelihood, Univariate, Weights,
};
use elbo::map::{DifferentiableMap, Linear, Parameters};
use elbo::posterior::{Diagonal, Point};
use elbo::saved::Saved;
use elbo::{Error, Model, Observations, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, dmatrix, dvector};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// An affine map times a constant factor, which is no parameter.
#[derive(Debug, Clone, PartialEq)]
struct Amplified {
    map: Linear<f64>,
    factor: f64,
}

impl Parameters<f64> for Amplified {
    fn parameters(&self) -> &[f64] {
        self.map.parameters()
    }
    fn parameters_mut(&mut self) -> &mut [f64] {
        self.map.parameters_mut()
    }
}

impl DifferentiableMap<f64> for Amplified {
    type Tape = DMatrix<f64>;
    fn input_dim(&self) -> usize {
        self.map.input_dim()
    }
    fn output_dim(&self) -> usize {
        self.map.output_dim()
    }
    fn forward<'t>(
        &self,
        input: DMatrixView<'_, f64>,
        tape: &'t mut DMatrix<f64>,
    ) -> DMatrixView<'t, f64> {
        *tape = self.map.apply(input) * self.factor;
        tape.as_view()
    }
    fn output<'t>(&self, tape: &'t DMatrix<f64>) -> DMatrixView<'t, f64> {
        tape.as_view()
    }
    fn backward(
        &self,
        input: DMatrixView<'_, f64>,
        _tape: &mut DMatrix<f64>,
        d_output: DMatrixView<'_, f64>,
        d_parameters: &mut [f64],
        d_input: Option<&mut DMatrix<f64>>,
    ) {
        let d_output = d_output * self.factor;
        let mut tape = Default::default();
        self.map.forward(input, &mut tape);
        self.map.backward(input, &mut tape, d_output.as_view(), d_parameters, d_input);
    }
}

#[derive(Serialize, Deserialize)]
struct AmplifiedForm {
    map: <Linear<f64> as Saved<f64>>::Form,
    factor: f64,
}

impl Saved<f64> for Amplified {
    type Form = AmplifiedForm;
    fn kind() -> String {
        "amplified".into()
    }
    fn to_form(&self) -> AmplifiedForm {
        AmplifiedForm { map: self.map.to_form(), factor: self.factor }
    }
    fn from_form(form: AmplifiedForm) -> Result<Self> {
        if !form.factor.is_finite() {
            return Err(Error::InvalidParameter {
                name: "the factor",
                value: form.factor,
                must: "finite",
            });
        }
        Ok(Self { map: Linear::from_form(form.map)?, factor: form.factor })
    }
}

/// Laplace noise of scale b for each variable.
#[derive(Debug, Clone, PartialEq)]
struct Laplace(DVector<f64>);

impl Parameters<f64> for Laplace {
    fn parameters(&self) -> &[f64] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [f64] {
        &mut []
    }
}

impl ConditionalMean<f64> for Laplace {
    fn mean(&self, output: DMatrixView<'_, f64>) -> DMatrix<f64> {
        output.into_owned()
    }
    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        match self.0.len() {
            d if d == output_dim => Ok(d),
            d => Err(Error::DimensionMismatch {
                what: "scales of Laplace noise",
                expected: output_dim,
                actual: d,
            }),
        }
    }
}

impl Likelihood<f64> for Laplace {
    fn log_density(&self, x: DMatrixView<'_, f64>, output: DMatrixView<'_, f64>) -> DVector<f64> {
        let residuals = x - output;
        let of = |column: nalgebra::DVectorView<'_, f64>| -> f64 {
            column.iter().zip(self.0.iter()).map(|(r, b)| -r.abs() / b - (2.0 * b).ln()).sum()
        };
        DVector::from_iterator(x.ncols(), residuals.column_iter().map(of))
    }
    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, f64>,
        output: DMatrixView<'_, f64>,
        weights: Weights<'_, f64>,
        d_output: &mut DMatrix<f64>,
        _d_parameters: &mut [f64],
    ) -> f64 {
        *d_output = x - output;
        for (i, mut column) in d_output.column_iter_mut().enumerate() {
            let of = |d: f64, b: f64| weights.of(i) * d.signum() / b;
            column.iter_mut().zip(self.0.iter()).for_each(|(d, &b)| *d = of(*d, b));
        }
        let values = self.log_density(x, output);
        values.iter().enumerate().map(|(i, value)| weights.of(i) * value).sum()
    }
    // The difference of two exponential variables of scale b.
    fn sample(&self, output: DMatrixView<'_, f64>, rng: &mut dyn Rng) -> DMatrix<f64> {
        let mut exponential = || -rng.random_range(f64::MIN_POSITIVE..1.0).ln();
        DMatrix::from_fn(output.nrows(), output.ncols(), |j, i| {
            output[(j, i)] + self.0[j] * (exponential() - exponential())
        })
    }
}

impl Saved<f64> for Laplace {
    type Form = Vec<f64>;
    fn kind() -> String {
        "laplace".into()
    }
    fn to_form(&self) -> Vec<f64> {
        self.0.iter().copied().collect()
    }
    fn from_form(form: Vec<f64>) -> Result<Self> {
        Ok(Self(DVector::from_vec(form)))
    }
}

type Own = Model<f64, Amplified, Laplace, Amortized<GaussianEncoder<Amplified, Diagonal<f64>>>>;

fn own() -> Own {
    let map = Linear::new(dmatrix![1.0; 0.1; -0.3], dvector![0.0, 1.0, 2.0]).unwrap();
    let decoder = Amplified { map, factor: 3.1 };
    let map = Linear::new(dmatrix![0.1, 0.2, 0.3; 0.4, 0.5, 0.6], dvector![0.0, -1.0]).unwrap();
    let encoder = GaussianEncoder::new(Amplified { map, factor: 0.5 }, 1).unwrap();
    Model::new(decoder, Laplace(dvector![0.1, 0.2, 0.3]), Amortized::new(encoder)).unwrap()
}

#[test]
fn a_model_of_ones_own_components_is_saved() {
    let (model, x) = (own(), dmatrix![0.0, 1.0; 2.0, 0.5; -1.0, 0.25]);
    round_trip(&model);
    let text = serde_json::to_string(&model).unwrap();
    assert!(text.contains(r#""kind":"f64: amplified, laplace, amortized diagonal amplified""#));
    let again: Own = serde_json::from_str(&text).unwrap();
    assert_eq!(again.reconstruct(&x).unwrap(), model.reconstruct(&x).unwrap());
    let path = std::env::temp_dir().join(format!("elbo-own-{}.json", std::process::id()));
    model.save(&path).unwrap();
    assert_eq!(Own::load(&path).unwrap(), model);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn ones_own_components_are_checked_by_themselves_and_by_the_model() {
    let mut value = serde_json::to_value(own()).unwrap();
    value["likelihood"] = serde_json::json!([0.1, 0.2]);
    let said = refusal::<Own>(value);
    assert!(said.contains("scales of Laplace noise: expected 3, got 2"), "{said}");
    let mut model = own();
    // JSON has no number for it, and `save` refuses what `load` would refuse.
    let (mut generative, inference) = model.into_parts();
    generative.decoder.factor = f64::INFINITY;
    model = Model::from_parts(generative, inference).unwrap();
    let path = std::env::temp_dir().join(format!("elbo-inf-{}.json", std::process::id()));
    let said = model.save(&path).unwrap_err().to_string();
    assert!(said.ends_with("the factor is inf, and must be finite"), "{said}");
    assert!(!path.exists());
}

/// The distribution of a variable: exponential with rate exp(y + ξ₁ + … + ξ_c).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Exponential {
    count: usize,
}

impl Univariate<f64> for Exponential {
    fn parameter_count(&self) -> usize {
        self.count
    }
    fn log_density(&self, x: f64, y: f64, parameters: &[f64]) -> f64 {
        let log_rate = y + parameters.iter().sum::<f64>();
        log_rate - x * log_rate.exp()
    }
    fn log_density_gradient(&self, x: f64, y: f64, own: &[f64], d_own: &mut [f64]) -> (f64, f64) {
        let slope = 1.0 - x * (y + own.iter().sum::<f64>()).exp();
        d_own.fill(slope);
        (self.log_density(x, y, own), slope)
    }
    fn mean(&self, y: f64, parameters: &[f64]) -> f64 {
        (-y - parameters.iter().sum::<f64>()).exp()
    }
    fn sample(&self, y: f64, parameters: &[f64], rng: &mut dyn Rng) -> f64 {
        -self.mean(y, parameters) * rng.random_range(f64::MIN_POSITIVE..1.0).ln()
    }
    fn contains(&self, x: f64) -> bool {
        x >= 0.0
    }
    fn support(&self) -> &'static str {
        "numbers of at least 0"
    }
    fn start(&self, values: &[f64], _offsets: &[f64], parameters: &mut [f64]) -> f64 {
        parameters.fill(0.0);
        -(values.iter().sum::<f64>() / values.len() as f64).ln()
    }
}

impl Saved<f64> for Exponential {
    type Form = Self;
    fn kind() -> String {
        "exponential".into()
    }
    fn to_form(&self) -> Self {
        self.clone()
    }
    fn from_form(form: Self) -> Result<Self> {
        Ok(form)
    }
}

#[test]
fn a_distribution_of_ones_own_is_saved() {
    type Own = Model<f64, Linear<f64>, Independent<f64, Exponential>, Amortized<FirstVariables>>;
    let own = |likelihood: Independent<f64, Exponential>| -> Own {
        let decoder = Linear::new(dmatrix![1.0; 2.0], dvector![0.0, 0.0]).unwrap();
        let encoder = Amortized::new(FirstVariables { kept: 1, variables: 2 });
        Model::new(decoder, likelihood, encoder).unwrap()
    };
    let mut same = Independent::new(Exponential { count: 1 }, 2).unwrap();
    same.parameters_mut().copy_from_slice(&[0.3, -0.2]);
    round_trip(&own(same));
    let each = vec![Exponential { count: 0 }, Exponential { count: 2 }];
    let mut each = Independent::of_each(each).unwrap();
    each.parameters_mut().copy_from_slice(&[0.1, -0.0]);
    round_trip(&own(each.clone()));
    let value = serde_json::to_value(own(each)).unwrap();
    assert_eq!(value["kind"], "f64: linear, independent exponential, amortized first variables");
    for (field, wrong, expected) in [
        ("/likelihood", serde_json::json!([]), "the data are empty"),
        (
            "/likelihood/1/distribution/count",
            serde_json::json!(1u64 << 60),
            "parameters of a saved variable: expected 1152921504606846976, got 2",
        ),
        (
            "/likelihood/1/parameters",
            serde_json::json!([1.0]),
            "parameters of a saved variable: expected 2, got 1",
        ),
        (
            "/likelihood/0/distribution",
            serde_json::json!(null),
            "parameters of a saved variable: expected 2, got 0",
        ),
        (
            "/likelihood",
            serde_json::json!([{"distribution": {"count": 0}, "parameters": []}]),
            "variables of the likelihood: expected 2, got 1",
        ),
    ] {
        let mut value = value.clone();
        *value.pointer_mut(field).unwrap() = wrong;
        let refused = refusal::<Own>(value);
        assert!(refused.contains(expected), "{field}: {refused}");
    }
}

/// An encoder to the first variables as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FirstVariables {
    kept: usize,
    variables: usize,
}

impl Encoder<f64> for FirstVariables {
    type Posterior = Point<f64>;
    fn observed_dim(&self) -> usize {
        self.variables
    }
    fn latent_dim(&self) -> usize {
        self.kept
    }
    fn encode(&self, x: Observations<'_, f64>) -> Result<Point<f64>> {
        Ok(Point::new(x.values().rows(0, self.kept).into_owned()))
    }
}

impl Saved<f64> for FirstVariables {
    type Form = Self;
    fn kind() -> String {
        "first variables".into()
    }
    fn to_form(&self) -> Self {
        self.clone()
    }
    fn from_form(form: Self) -> Result<Self> {
        Ok(form)
    }
}

#[test]
fn an_encoder_of_ones_own_is_saved() {
    let decoder = Linear::new(dmatrix![1.0; 2.0], dvector![0.0, 0.0]).unwrap();
    let noise = IsotropicGaussian::new(0.5).unwrap();
    let encoder = Amortized::new(FirstVariables { kept: 1, variables: 2 });
    round_trip(&Model::<f64, _, _, _>::new(decoder, noise, encoder).unwrap());
}

//! Every derivative of the crate against central differences, in both precisions, by the published
//! checks.

use elbo::inference::{Amortized, GaussianEncoder, PerPoint, PointEncoder};
use elbo::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use elbo::map::{Activation, DifferentiableMap, Initialization, Linear, Mlp};
use elbo::model::{GenerativeModel, LinearGaussian};
use elbo::objective::{Elbo, ImportanceWeighted, SquaredError};
use elbo::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use elbo::testing::{
    Failure, check_decoder, check_encoder, check_likelihood, check_map, check_objective,
    check_posterior_family,
};
use elbo::{Observations, Real};
use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus as Generator};

const D: usize = 4;
const K: usize = 2;
const N: usize = 5;

fn rng() -> Generator {
    Generator::seed_from_u64(20_26)
}

fn normal<T: Real>(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<T> {
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

fn mlp<T: Real>(
    input: usize,
    output: usize,
    activation: Activation,
    rng: &mut Generator,
) -> Mlp<T> {
    let standardization =
        (DVector::from_element(input, T::of(0.3)), DVector::from_element(input, T::of(1.7)));
    let scale = (
        normal::<T>(output, 1, rng).column(0).into_owned(),
        DVector::from_element(output, T::of(0.6)),
    );
    let builder = Mlp::builder(input, output).hidden(&[5, 3]).activation(activation);
    builder
        .input_standardization(standardization.0, standardization.1)
        .output_scale(scale.0, scale.1)
        .build(rng)
        .unwrap()
}

fn linear<T: Real>(input: usize, output: usize, rng: &mut Generator) -> Linear<T> {
    Linear::new(normal(output, input, rng), normal::<T>(output, 1, rng).column(0).into_owned())
        .unwrap()
}

fn maps<T: Real>() -> Result<(), Failure> {
    let rng = &mut rng();
    check_map(&linear::<T>(3, 4, rng), rng)?;
    check_map(&linear::<T>(3, 4, rng).with_fixed_bias(), rng)?;
    use Activation::*;
    for activation in [Tanh, Relu, Softplus, Gelu, Silu, Identity] {
        check_map(&mlp::<T>(3, 4, activation, rng), rng)?;
        let plain = Mlp::<T>::builder(3, 4)
            .hidden(&[6])
            .activation(activation)
            .output_activation(activation)
            // With biases of 0, a dead rectifier would stand on its kink.
            .initialization(Initialization::UniformFanIn)
            .build(rng)
            .unwrap();
        check_map(&plain, rng)?;
        check_decoder(&plain, rng)?;
        let (mean, deviation) =
            (DVector::from_element(4, T::of(0.3)), DVector::from_element(4, T::of(1.7)));
        check_map(&plain.with_output_scale(mean, deviation).unwrap(), rng)?;
        check_map(&Mlp::<T>::builder(3, 4).activation(activation).build(rng).unwrap(), rng)?;
    }
    Ok(())
}

#[test]
fn maps_in_f64() {
    maps::<f64>().unwrap();
}

#[test]
fn maps_in_f32() {
    maps::<f32>().unwrap();
}

fn families<T: Real>() -> Result<(), Failure> {
    for k in [1, 2, 5] {
        check_posterior_family::<T, Isotropic<T>>(k, &mut rng())?;
        check_posterior_family::<T, Diagonal<T>>(k, &mut rng())?;
        check_posterior_family::<T, Full<T>>(k, &mut rng())?;
    }
    Ok(())
}

#[test]
fn families_in_f64() {
    families::<f64>().unwrap();
}

#[test]
fn families_in_f32() {
    families::<f32>().unwrap();
}

fn likelihoods<T: Real>() -> Result<(), Failure> {
    let rng = &mut rng();
    let (x, output) = (normal::<T>(D, N, rng), normal::<T>(D, N, rng));
    let binary = x.map(|v| if v > T::zero() { T::one() } else { T::zero() });
    let noise = IsotropicGaussian::new(T::of(0.7))?;
    check_likelihood(&noise, Observations::new(x.as_view())?, &output, rng)?;
    check_likelihood(
        &IsotropicGaussian::fixed(T::of(0.7))?,
        Observations::new(x.as_view())?,
        &output,
        rng,
    )?;
    check_likelihood(&Bernoulli, Observations::new(binary.as_view())?, &output, rng)
}

#[test]
fn likelihoods_in_f64() {
    likelihoods::<f64>().unwrap();
}

#[test]
fn likelihoods_in_f32() {
    likelihoods::<f32>().unwrap();
}

/// One decoder and likelihood, with each family from each inference.
fn reparameterized<
    T: Real,
    D: DifferentiableMap<T> + Clone,
    L: Likelihood<T>,
    Q: PosteriorFamily<T>,
>(
    model: &GenerativeModel<D, L>,
    x: Observations<'_, T>,
) -> Result<(), Failure> {
    let rng = &mut rng();
    let rows = Q::parameter_count(K);
    let mut table = Q::from_parameters(K, normal::<T>(rows, N, rng))?;
    table.parameters_mut().scale_mut(T::of(0.5));
    for samples in [1, 3] {
        let (objective, weighted) =
            (Elbo::reparameterized(samples), ImportanceWeighted::new(samples));
        check_objective(&objective, model, &PerPoint::new(table.clone()), x, rng)?;
        check_objective(
            &weighted,
            model,
            &PerPoint::new(table.clone()),
            x.of_population(2 * N),
            rng,
        )?;
        let encoder = GaussianEncoder::<_, Q>::new(linear::<T>(x.data_dim(), rows, rng), K)?;
        check_encoder(&encoder, x)?;
        check_objective(&objective, model, &Amortized::new(encoder), x.of_population(3 * N), rng)?;
        let encoder =
            GaussianEncoder::<_, Q>::new(mlp::<T>(x.data_dim(), rows, Activation::Tanh, rng), K)?;
        check_encoder(&encoder, x)?;
        check_objective(&weighted, model, &Amortized::new(encoder.clone()), x, rng)?;
        check_objective(&objective, model, &Amortized::new(encoder), x, rng)?;
    }
    Ok(())
}

fn of_families<T: Real, D: DifferentiableMap<T> + Clone, L: Likelihood<T>>(
    model: &GenerativeModel<D, L>,
    x: Observations<'_, T>,
) -> Result<(), Failure> {
    reparameterized::<T, D, L, Isotropic<T>>(model, x)?;
    reparameterized::<T, D, L, Diagonal<T>>(model, x)?;
    reparameterized::<T, D, L, Full<T>>(model, x)
}

fn reparameterized_bounds<T: Real>() -> Result<(), Failure> {
    let rng = &mut rng();
    let x = normal::<T>(D, N, rng);
    let binary = x.map(|v| if v > T::zero() { T::one() } else { T::zero() });
    let (x, binary) = (Observations::new(x.as_view())?, Observations::new(binary.as_view())?);
    let noise = IsotropicGaussian::new(T::of(0.7))?;
    of_families(&GenerativeModel::new(linear::<T>(K, D, rng), noise), x)?;
    of_families(
        &GenerativeModel::new(
            linear::<T>(K, D, rng).with_fixed_bias(),
            IsotropicGaussian::fixed(T::of(0.7))?,
        ),
        x,
    )?;
    of_families(
        &GenerativeModel::new(
            mlp::<T>(K, D, Activation::Silu, rng),
            IsotropicGaussian::analytic(T::of(0.7))?,
        ),
        x,
    )?;
    of_families(&GenerativeModel::new(mlp::<T>(K, D, Activation::Tanh, rng), Bernoulli), binary)
}

#[test]
fn reparameterized_bounds_in_f64() {
    reparameterized_bounds::<f64>().unwrap();
}

#[test]
fn reparameterized_bounds_in_f32() {
    reparameterized_bounds::<f32>().unwrap();
}

fn closed_form<T: Real, Q: PosteriorFamily<T>>() -> Result<(), Failure> {
    let rng = &mut rng();
    let x = normal::<T>(D, N, rng);
    let x = Observations::new(x.as_view())?;
    let objective = Elbo::closed_form();
    let model = LinearGaussian::from_parameters(
        normal(D, K, rng),
        normal::<T>(D, 1, rng).column(0).into_owned(),
        T::of(0.7),
    )?;
    let rows = Q::parameter_count(K);
    check_objective(
        &objective,
        &model,
        &PerPoint::new(Q::from_parameters(K, normal::<T>(rows, N, rng))?),
        x,
        rng,
    )?;
    let encoder = GaussianEncoder::<_, Q>::new(linear::<T>(D, rows, rng), K)?;
    check_objective(&objective, &model, &Amortized::new(encoder), x.of_population(3 * N), rng)?;
    let encoder = GaussianEncoder::<_, Q>::new(mlp::<T>(D, rows, Activation::Gelu, rng), K)?;
    check_objective(&objective, &model, &Amortized::new(encoder), x, rng)
}

#[test]
fn closed_form_bounds_in_f64() {
    closed_form::<f64, Isotropic<f64>>().unwrap();
    closed_form::<f64, Diagonal<f64>>().unwrap();
    closed_form::<f64, Full<f64>>().unwrap();
}

#[test]
fn closed_form_bounds_in_f32() {
    closed_form::<f32, Isotropic<f32>>().unwrap();
    closed_form::<f32, Diagonal<f32>>().unwrap();
    closed_form::<f32, Full<f32>>().unwrap();
}

fn squared_error<T: Real>() -> Result<(), Failure> {
    let rng = &mut rng();
    let x = normal::<T>(D, N, rng);
    let x = Observations::new(x.as_view())?;
    let noiseless = GenerativeModel::new(linear::<T>(K, D, rng), elbo::likelihood::Noiseless);
    let encoder = Amortized::new(PointEncoder::new(linear::<T>(D, K, rng)));
    check_objective(&SquaredError::new(), &noiseless, &encoder, x, rng)?;
    check_objective(
        &SquaredError::with_weight(T::of(0.4)).unwrap(),
        &noiseless,
        &encoder,
        x.of_population(2 * N),
        rng,
    )?;
    let deep =
        GenerativeModel::new(mlp::<T>(K, D, Activation::Tanh, rng), elbo::likelihood::Noiseless);
    let encoder = Amortized::new(PointEncoder::new(mlp::<T>(D, K, Activation::Tanh, rng)));
    check_encoder(&encoder.encoder, x)?;
    check_objective(&SquaredError::new(), &deep, &encoder, x, rng)
}

#[test]
fn squared_errors_in_f64() {
    squared_error::<f64>().unwrap();
}

#[test]
fn squared_errors_in_f32() {
    squared_error::<f32>().unwrap();
}

/// A check that finds nothing wrong would be no check.
#[test]
fn a_wrong_derivative_is_found() {
    #[derive(Clone)]
    struct Wrong(Linear<f64>);
    impl elbo::map::Parameters<f64> for Wrong {
        fn parameters(&self) -> &[f64] {
            self.0.parameters()
        }
        fn parameters_mut(&mut self) -> &mut [f64] {
            self.0.parameters_mut()
        }
    }
    impl DifferentiableMap<f64> for Wrong {
        type Tape = <Linear<f64> as DifferentiableMap<f64>>::Tape;
        fn input_dim(&self) -> usize {
            self.0.input_dim()
        }
        fn output_dim(&self) -> usize {
            self.0.output_dim()
        }
        fn forward<'t>(
            &self,
            input: nalgebra::DMatrixView<'_, f64>,
            tape: &'t mut Self::Tape,
        ) -> nalgebra::DMatrixView<'t, f64> {
            self.0.forward(input, tape)
        }
        fn output<'t>(&self, tape: &'t Self::Tape) -> nalgebra::DMatrixView<'t, f64> {
            self.0.output(tape)
        }
        fn backward(
            &self,
            input: nalgebra::DMatrixView<'_, f64>,
            tape: &mut Self::Tape,
            d_output: nalgebra::DMatrixView<'_, f64>,
            d_parameters: &mut [f64],
            d_input: Option<&mut DMatrix<f64>>,
        ) {
            self.0.backward(input, tape, d_output, d_parameters, d_input);
            d_parameters[3] *= 1.001;
        }
    }
    let refused = check_map(&Wrong(linear(3, 2, &mut rng())), &mut rng()).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("backward by the parameters: the derivative by parameter 3 is"),
        "{refused}"
    );
}

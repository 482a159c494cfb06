//! A likelihood with two outputs for each variable, implemented by the public interface alone.

use elbo::fit::StochasticGradient;
use elbo::inference::{Amortized, GaussianEncoder};
use elbo::likelihood::{ConditionalMean, Likelihood, Weights};
use elbo::map::{Mlp, Parameters};
use elbo::model::GenerativeModel;
use elbo::objective::{Elbo, ImportanceWeighted};
use elbo::posterior::Diagonal;
use elbo::testing::{check_likelihood, check_objective};
use elbo::{Error, Model, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::rngs::Xoshiro256PlusPlus as Generator;
use rand::{Rng, SeedableRng};

/// Gaussian noise whose variance is an output of the decoder: the rows of y are the d means, then
/// the d log-variances, which are limited to ±10.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OwnVariances;

/// The mean, the log-variance, and its derivative by the output.
fn parts<T: Real>(output: &DMatrixView<'_, T>, j: usize, i: usize) -> (T, T, T) {
    let d = output.nrows() / 2;
    let tanh = (output[(d + j, i)] / T::of(10.0)).tanh();
    (output[(j, i)], T::of(10.0) * tanh, T::one() - tanh * tanh)
}

impl<T: Real> Parameters<T> for OwnVariances {
    fn parameters(&self) -> &[T] {
        &[]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut []
    }
}

impl<T: Real> ConditionalMean<T> for OwnVariances {
    fn mean(&self, output: DMatrixView<'_, T>) -> DMatrix<T> {
        output.rows(0, output.nrows() / 2).into_owned()
    }

    fn data_dim(&self, output_dim: usize) -> Result<usize> {
        if output_dim.is_multiple_of(2) {
            return Ok(output_dim / 2);
        }
        let what = "rows of the decoder's output, two for each variable";
        Err(Error::DimensionMismatch { what, expected: output_dim + 1, actual: output_dim })
    }
}

impl<T: Real> Likelihood<T> for OwnVariances {
    fn log_density(&self, x: DMatrixView<'_, T>, output: DMatrixView<'_, T>) -> DVector<T> {
        DVector::from_fn(x.ncols(), |i, _| {
            (0..x.nrows()).fold(T::zero(), |sum, j| {
                let (mean, log_variance, _) = parts(&output, j, i);
                let square = (x[(j, i)] - mean).powi(2) / log_variance.exp();
                sum - T::of(0.5) * (T::two_pi().ln() + log_variance + square)
            })
        })
    }

    fn log_density_gradient(
        &self,
        x: DMatrixView<'_, T>,
        output: DMatrixView<'_, T>,
        weights: Weights<'_, T>,
        d_output: &mut DMatrix<T>,
        _d_parameters: &mut [T],
    ) -> T {
        let (d, n) = x.shape();
        d_output.resize_mut(2 * d, n, T::zero());
        for i in 0..n {
            for j in 0..d {
                let (mean, log_variance, slope) = parts(&output, j, i);
                let (error, precision) = (x[(j, i)] - mean, (-log_variance).exp());
                d_output[(j, i)] = weights.of(i) * precision * error;
                d_output[(d + j, i)] =
                    weights.of(i) * T::of(0.5) * (precision * error * error - T::one()) * slope;
            }
        }
        self.log_density(x, output)
            .iter()
            .enumerate()
            .fold(T::zero(), |sum, (i, &density)| sum + weights.of(i) * density)
    }

    fn sample(&self, output: DMatrixView<'_, T>, rng: &mut dyn Rng) -> DMatrix<T> {
        DMatrix::from_fn(output.nrows() / 2, output.ncols(), |j, i| {
            let (mean, log_variance, _) = parts(&output, j, i);
            mean + (T::of(0.5) * log_variance).exp() * T::standard_normal(rng)
        })
    }
}

fn normal<T: Real>(rows: usize, columns: usize, rng: &mut Generator) -> DMatrix<T> {
    DMatrix::from_fn(rows, columns, |_, _| T::standard_normal(rng))
}

type Encoder = Amortized<GaussianEncoder<Mlp<f64>, Diagonal<f64>>>;

fn parts_of_a_vae(rng: &mut Generator) -> (GenerativeModel<Mlp<f64>, OwnVariances>, Encoder) {
    let decoder = Mlp::builder(2, 6).hidden(&[8]).build(rng).unwrap();
    let encoder = Mlp::builder(3, 4).hidden(&[8]).build(rng).unwrap();
    let encoder = GaussianEncoder::new(encoder.with_zero_outputs_from(2), 2).unwrap();
    (GenerativeModel::new(decoder, OwnVariances), Amortized::new(encoder))
}

#[test]
fn it_passes_the_checks() {
    let rng = &mut Generator::seed_from_u64(1);
    let (x, output) = (normal::<f64>(3, 4, rng), normal::<f64>(6, 4, rng));
    check_likelihood(&OwnVariances, Observations::new(x.as_view()).unwrap(), &output, rng).unwrap();
    let (x, output) = (x.map(|v| v as f32), output.map(|v| v as f32));
    check_likelihood(&OwnVariances, Observations::new(x.as_view()).unwrap(), &output, rng).unwrap();
    // Another number of variables than the output has is reported, in words.
    let other = normal::<f32>(2, 4, rng);
    let failure =
        check_likelihood(&OwnVariances, Observations::new(other.as_view()).unwrap(), &output, rng);
    assert!(failure.unwrap_err().to_string().contains("3 variables"));
}

#[test]
fn every_objective_takes_it() {
    let rng = &mut Generator::seed_from_u64(2);
    let x = normal::<f64>(3, 5, rng);
    let x = Observations::new(x.as_view()).unwrap();
    let (model, encoder) = parts_of_a_vae(rng);
    check_objective(&Elbo::reparameterized(2), &model, &encoder, x, rng).unwrap();
    check_objective(&ImportanceWeighted::new(3), &model, &encoder, x, rng).unwrap();
    let path = Elbo::path_derivative(1);
    let (mut workspace, mut gradient) = Default::default();
    let value = elbo::objective::DifferentiableObjective::value_and_gradient(
        &path,
        &model,
        &encoder,
        x,
        rng,
        &mut workspace,
        &mut gradient,
    );
    assert!(value.unwrap().is_finite());
}

#[test]
fn a_model_with_it_is_fitted_and_knows_its_variables() {
    let rng = &mut Generator::seed_from_u64(3);
    // The noise grows with the code: one variance for all observations would not do.
    let z = normal::<f64>(1, 300, rng);
    let x = DMatrix::from_fn(3, 300, |j, i| {
        z[i] * (j as f64 + 1.0) + (0.8 * z[i]).exp() * 0.2 * f64::standard_normal(rng)
    });
    let (model, encoder) = parts_of_a_vae(rng);
    let fitter = StochasticGradient { epochs: 60, learning_rate: 1e-2, ..Default::default() };
    let fit = fitter
        .fit(&Elbo::reparameterized(1), model, encoder, &x, rng, &mut ())
        .unwrap()
        .map(|(model, encoder)| Model::from_parts(model, encoder).unwrap());
    assert!(fit.trace.last().unwrap() > fit.trace.values()[0] + 1.0);
    let model = fit.model;
    assert_eq!((model.data_dim(), model.latent_dim()), (3, 2));
    assert_eq!(model.decoder_output(&model.transform(&x).unwrap()).unwrap().nrows(), 6);
    assert_eq!(model.reconstruct(&x).unwrap().shape(), (3, 300));
    assert_eq!(model.sample(7, rng).shape(), (3, 7));
    assert!(model.estimate_elbo(2, &x, rng).unwrap().values().mean().is_finite());
    // An output with an odd number of rows does not fit.
    let odd = Mlp::<f64>::builder(2, 5).build(rng).unwrap();
    let encoder = parts_of_a_vae(rng).1;
    assert!(Model::<f64, _, _, _>::new(odd, OwnVariances, encoder).is_err());
}

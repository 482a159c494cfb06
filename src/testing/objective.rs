//! Conformance check of objectives.

use super::differences::compare;
use super::{Failure, ensure};
use crate::map::Parameters;
use crate::model::GenerativeModel;
use crate::objective::{DifferentiableObjective, Gradient};
use crate::{Observations, Real};
use rand::Rng;

/// Checks the gradient of an objective by θ and by φ against central differences, with the same
/// random numbers in each evaluation (the generator is cloned), and that a second call with the
/// same workspace and random numbers gives bit-identical results.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{
///     Observations, inference::PerPoint, model::LinearGaussian, objective::Elbo,
///     posterior::Diagonal, testing::check_objective,
/// };
/// use nalgebra::{dmatrix, dvector};
/// use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
/// let model = LinearGaussian::from_parameters(dmatrix![1.0; 2.0], dvector![0.0, 0.5], 0.7)?;
/// let q = PerPoint::<Diagonal<f64>>::at_prior(1, 3);
/// let x = dmatrix![1.0, 2.0, 3.0; 0.0, 1.0, 0.0];
/// check_objective(
///     &Elbo::reparameterized(2),
///     &model,
///     &q,
///     Observations::new(x.as_view())?,
///     &Xoshiro256PlusPlus::seed_from_u64(1),
/// )
/// .unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn check_objective<T, J, D, L, P, I, R>(
    objective: &J,
    model: &GenerativeModel<D, L, P>,
    inference: &I,
    x: Observations<'_, T>,
    rng: &R,
) -> Result<(), Failure>
where
    T: Real,
    J: DifferentiableObjective<T, GenerativeModel<D, L, P>, I>,
    D: Parameters<T> + Clone,
    L: Parameters<T> + Clone,
    P: Parameters<T> + Clone,
    I: Parameters<T> + Clone,
    R: Rng + Clone,
{
    let mut workspace = J::Workspace::default();
    // J without its gradient first, on an empty workspace and gradient: both must be resized.
    let alone = objective.value(
        model,
        inference,
        x,
        &mut rng.clone(),
        &mut workspace,
        &mut Gradient::default(),
    )?;
    let mut evaluate =
        |model: &GenerativeModel<D, L, P>, inference: &I, gradient: &mut Gradient<T>| {
            objective.value_and_gradient(
                model,
                inference,
                x,
                &mut rng.clone(),
                &mut workspace,
                gradient,
            )
        };
    let (mut gradient, mut again) = (Gradient::default(), Gradient::default());
    let value = evaluate(model, inference, &mut gradient)?;
    let second = evaluate(model, inference, &mut again)?;
    ensure(value == second && gradient == again, || {
        format!("the same random numbers give {value} and then {second}, or another gradient")
    })?;
    ensure(alone == value, || format!("J alone is {alone}, and {value} with its gradient"))?;
    // J may be small by cancellation: its rounding error is relative to the terms that it sums,
    // about 1 for each entry of x.
    let size = value.abs() + T::of_usize(x.len() * x.data_dim());
    let decoder_count = model.decoder.parameters().len();
    ensure(gradient.theta.len() >= decoder_count, || {
        format!(
            "the gradient by θ has {} entries for {decoder_count} parameters of the decoder alone",
            gradient.theta.len()
        )
    })?;
    let (d_decoder, rest) = gradient.theta.split_at(decoder_count);
    let (d_likelihood, d_prior) =
        rest.split_at(model.likelihood.parameters().len().min(rest.len()));
    compare(
        "the gradient by the decoder's parameters",
        model.decoder.parameters(),
        d_decoder,
        &mut |moved| {
            let mut other = model.clone();
            other.decoder.parameters_mut().copy_from_slice(moved);
            Ok((evaluate(&other, inference, &mut again)?, size))
        },
    )?;
    // A likelihood without free parameters, or an objective that does not depend on them (the
    // squared error), has no entries here.
    if !d_likelihood.is_empty() {
        compare(
            "the gradient by the likelihood's parameters",
            model.likelihood.parameters(),
            d_likelihood,
            &mut |moved| {
                let mut other = model.clone();
                other.likelihood.parameters_mut().copy_from_slice(moved);
                Ok((evaluate(&other, inference, &mut again)?, size))
            },
        )?;
    }
    if !d_prior.is_empty() {
        compare(
            "the gradient by the prior's parameters",
            model.prior.parameters(),
            d_prior,
            &mut |moved| {
                let mut other = model.clone();
                other.prior.parameters_mut().copy_from_slice(moved);
                Ok((evaluate(&other, inference, &mut again)?, size))
            },
        )?;
    }
    compare(
        "the gradient by the parameters of the inference",
        inference.parameters(),
        &gradient.phi,
        &mut |moved| {
            let mut other = inference.clone();
            other.parameters_mut().copy_from_slice(moved);
            Ok((evaluate(model, &other, &mut again)?, size))
        },
    )
}

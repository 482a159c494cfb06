//! Conformance checks of maps, decoders and encoders.

use super::differences::compare;
use super::{Failure, close, ensure, normal, rounding};
use crate::inference::Encoder;
use crate::map::DifferentiableMap;
use crate::model::Decoder;
use crate::posterior::Posterior;
use crate::{Observations, Real};
use nalgebra::DMatrix;
use rand::Rng;

/// The number of observations in a check's first batch.
const MANY: usize = 7;
/// The number of observations in a second, smaller batch.
const FEW: usize = 3;

/// Checks a map: shapes; that the output for a column depends neither on the other columns nor on
/// the previous contents of the tape; and `backward` (by the parameters and by the input) against
/// central differences.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{map::Mlp, testing::check_map};
/// use rand::{SeedableRng, rngs::StdRng};
/// let rng = &mut StdRng::seed_from_u64(1);
/// check_map(&Mlp::<f64>::builder(3, 2).hidden(&[4]).build(rng)?, rng).unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn check_map<T, M>(map: &M, rng: &mut dyn Rng) -> Result<(), Failure>
where
    T: Real,
    M: DifferentiableMap<T> + Clone,
{
    let (inputs, outputs) = (map.input_dim(), map.output_dim());
    let input: DMatrix<T> = normal(inputs, MANY, rng);
    let weights: DMatrix<T> = normal(outputs, MANY, rng);
    let mut tape = M::Tape::default();
    let first = map.forward(input.as_view(), &mut tape).into_owned();
    ensure(first.shape() == (outputs, MANY), || {
        format!(
            "forward gives {:?} for {MANY} inputs, and output_dim says {outputs} rows",
            first.shape()
        )
    })?;
    // The tape of a larger batch is reused for a smaller one, and then again for the first: results
    // must not depend on what it held.
    let few = map.forward(input.columns(0, FEW), &mut tape).into_owned();
    ensure(close(&few, &first.columns(0, FEW).into_owned(), rounding::<T>()), || {
        "a column's output changes with the columns beside it, or with what the tape held"
            .to_string()
    })?;
    ensure(map.output(&tape) == few, || "output is not what forward left in the tape".to_string())?;
    let again = map.forward(input.as_view(), &mut tape).into_owned();
    ensure(again == first, || "forward gives different bits for the same input".to_string())?;

    // NaN, so that an entry that is not overwritten is found.
    let mut d_parameters = vec![T::of(f64::NAN); map.parameters().len()];
    let mut d_input = DMatrix::zeros(0, 0);
    map.backward(
        input.as_view(),
        &mut tape,
        weights.as_view(),
        &mut d_parameters,
        Some(&mut d_input),
    );
    ensure(d_input.shape() == input.shape(), || {
        format!("d_input is {:?} for an input of {:?}", d_input.shape(), input.shape())
    })?;
    let mut without = vec![T::of(f64::NAN); map.parameters().len()];
    map.forward(input.as_view(), &mut tape);
    map.backward(input.as_view(), &mut tape, weights.as_view(), &mut without, None);
    ensure(without == d_parameters, || {
        "d_parameters changes with whether d_input is asked for, or is not overwritten".to_string()
    })?;

    let mut alone = DMatrix::zeros(0, 0);
    map.forward(input.as_view(), &mut tape);
    map.backward_to_input(input.as_view(), &mut tape, weights.as_view(), &mut without, &mut alone);
    ensure(alone == d_input, || {
        "backward_to_input does not give the d_input of backward".to_string()
    })?;

    // The scalar Σ weights·output has the output derivative `weights`.
    let weighted =
        |output: &DMatrix<T>| (output.dot(&weights), output.component_mul(&weights).lp_norm(1));
    compare("backward by the parameters", map.parameters(), &d_parameters, &mut |moved| {
        let mut other = map.clone();
        other.parameters_mut().copy_from_slice(moved);
        Ok(weighted(&other.apply(input.as_view())))
    })?;
    compare("backward by the input", input.as_slice(), d_input.as_slice(), &mut |moved| {
        let moved = DMatrix::from_column_slice(inputs, MANY, moved);
        Ok(weighted(&map.apply(moved.as_view())))
    })
}

/// Checks a decoder: shapes; finite values for codes from the prior; and that the output for a code
/// does not depend on the other codes.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{map::Linear, testing::check_decoder};
/// use nalgebra::{dmatrix, dvector};
/// use rand::{SeedableRng, rngs::StdRng};
/// check_decoder(
///     &Linear::new(dmatrix![1.0; 2.0], dvector![0.0, 0.5])?,
///     &mut StdRng::seed_from_u64(1),
/// )
/// .unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn check_decoder<T, D>(decoder: &D, rng: &mut dyn Rng) -> Result<(), Failure>
where
    T: Real,
    D: Decoder<T>,
{
    let z: DMatrix<T> = normal(decoder.latent_dim(), MANY, rng);
    let decoded = decoder.decode(z.as_view());
    ensure(decoded.shape() == (decoder.observed_dim(), MANY), || {
        format!(
            "decode gives {:?} for {MANY} codes, and observed_dim says {} rows",
            decoded.shape(),
            decoder.observed_dim()
        )
    })?;
    ensure(decoded.iter().all(|v| v.is_finite()), || {
        "a code drawn from the prior is decoded to a value that is not finite".to_string()
    })?;
    // Not from column 0 on: an offset that is ignored is found, too.
    let few = decoder.decode(z.columns(1, FEW));
    ensure(close(&few, &decoded.columns(1, FEW).into_owned(), rounding::<T>()), || {
        "what a code is decoded to changes with the codes beside it".to_string()
    })
}

/// Checks an encoder on given data: shapes; finite means; that the posterior of an observation does
/// not depend on the other observations; and that data of another dimension are rejected.
///
/// # Errors
/// A [`Failure`] that describes the first violation.
///
/// ```
/// use elbo::{Observations, inference::PointEncoder, map::Linear, testing::check_encoder};
/// use nalgebra::{dmatrix, dvector};
/// let encoder = PointEncoder::new(Linear::new(dmatrix![1.0, 2.0], dvector![0.5])?);
/// let x = dmatrix![1.0, 2.0, 3.0; 0.0, 1.0, 0.0];
/// check_encoder(&encoder, Observations::new(x.as_view())?).unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn check_encoder<T, E>(encoder: &E, x: Observations<'_, T>) -> Result<(), Failure>
where
    T: Real,
    E: Encoder<T>,
{
    let q = encoder.encode(x)?;
    let (k, n) = (encoder.latent_dim(), x.len());
    ensure(q.mean().shape() == (k, n), || {
        format!("encode gives means of {:?} where {:?} is due", q.mean().shape(), (k, n))
    })?;
    ensure(q.mean().iter().all(|v| v.is_finite()), || "a mean is not finite".to_string())?;
    let few = encoder.encode(x.columns(n / 2, n - n / 2)?)?;
    let expected = q.mean().columns(n / 2, n - n / 2).into_owned();
    ensure(close(&few.mean().into_owned(), &expected, rounding::<T>()), || {
        "a code changes with the observations beside it".to_string()
    })?;
    // One variable too many must be an error, not a panic.
    let longer = DMatrix::from_element(x.data_dim() + 1, 1, T::one());
    let refused = Observations::new(longer.as_view()).and_then(|longer| encoder.encode(longer));
    ensure(refused.is_err(), || {
        format!("an observation of {} variables is not refused", x.data_dim() + 1)
    })
}

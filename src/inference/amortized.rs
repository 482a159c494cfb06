//! A map of x in the place of the table: amortised inference.

use super::{DifferentiableInference, Inference, OutOfSample};
use crate::data::expect;
use crate::linalg::reshape;
use crate::map::{DifferentiableMap, Parameters};
use crate::posterior::{Point, Posterior, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::DMatrix;
use std::marker::PhantomData;

/// A map from an observation to a posterior.
///
/// You give the dimensions and `encode`; you get amortised inference with your map, and the verbs
/// that need nothing else.
pub trait Encoder<T: Real> {
    /// What it encodes to.
    type Posterior: Posterior<T>;
    /// d.
    fn observed_dim(&self) -> usize;
    /// k.
    fn latent_dim(&self) -> usize;
    /// q(z_i|φ(x_i)) for each observation.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when x has another dimension than the
    /// encoder.
    fn encode(&self, x: Observations<'_, T>) -> Result<Self::Posterior>;
}

/// q(z_i) = q(z|φ(x_i)): an encoder as the inference.
#[derive(Debug, Clone, PartialEq)]
pub struct Amortized<E> {
    /// The map φ.
    pub encoder: E,
}

impl<E> Amortized<E> {
    /// Inference by a given encoder.
    pub fn new(encoder: E) -> Self {
        Self { encoder }
    }
}

impl<T: Real, M, E: Encoder<T>> Inference<T, M> for Amortized<E> {
    type Posterior = E::Posterior;

    fn infer(&self, _model: &M, x: Observations<'_, T>) -> Result<E::Posterior> {
        self.encoder.encode(x)
    }
}

impl<T: Real, M, E: Encoder<T>> OutOfSample<T, M> for Amortized<E> {}

/// z = map(x), a single code: the autoencoder's encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct PointEncoder<F> {
    /// x → z.
    pub map: F,
}

impl<F> PointEncoder<F> {
    /// An encoder from its map.
    pub fn new(map: F) -> Self {
        Self { map }
    }
}

impl<T: Real, F: DifferentiableMap<T>> Encoder<T> for PointEncoder<F> {
    type Posterior = Point<T>;

    fn observed_dim(&self) -> usize {
        self.map.input_dim()
    }

    fn latent_dim(&self) -> usize {
        self.map.output_dim()
    }

    fn encode(&self, x: Observations<'_, T>) -> Result<Point<T>> {
        x.expect_dim(self.map.input_dim())?;
        Ok(Point::new(self.map.apply(x.values())))
    }
}

impl<T: Real, F: DifferentiableMap<T>> Parameters<T> for Amortized<PointEncoder<F>> {
    fn parameters(&self) -> &[T] {
        self.encoder.map.parameters()
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        self.encoder.map.parameters_mut()
    }
}

/// q(z_i) of family `Q`, with φ_i = map(x_i): the map's output is the mean and the scale, stacked
/// as the family says.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianEncoder<F, Q> {
    map: F,
    latent_dim: usize,
    family: PhantomData<Q>,
}

impl<F, Q> GaussianEncoder<F, Q> {
    /// An encoder from its map, whose output has as many rows as the family has parameters.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::Dimension) when it has not.
    pub fn new<T: Real>(map: F, latent_dim: usize) -> Result<Self>
    where
        F: DifferentiableMap<T>,
        Q: PosteriorFamily<T>,
    {
        expect("outputs of the encoder's map", Q::parameter_count(latent_dim), map.output_dim())?;
        Ok(Self { map, latent_dim, family: PhantomData })
    }

    /// x → φ.
    pub fn map(&self) -> &F {
        &self.map
    }

    /// x → φ, to be moved.
    pub fn map_mut(&mut self) -> &mut F {
        &mut self.map
    }
}

impl<T: Real, F: DifferentiableMap<T>, Q: PosteriorFamily<T>> Encoder<T> for GaussianEncoder<F, Q> {
    type Posterior = Q;

    fn observed_dim(&self) -> usize {
        self.map.input_dim()
    }

    fn latent_dim(&self) -> usize {
        self.latent_dim
    }

    fn encode(&self, x: Observations<'_, T>) -> Result<Q> {
        x.expect_dim(self.map.input_dim())?;
        Q::from_parameters(self.latent_dim, self.map.apply(x.values()))
    }
}

impl<T: Real, F: DifferentiableMap<T>, Q> Parameters<T> for Amortized<GaussianEncoder<F, Q>> {
    fn parameters(&self) -> &[T] {
        self.encoder.map.parameters()
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        self.encoder.map.parameters_mut()
    }
}

impl<T: Real, F: DifferentiableMap<T>, Q: PosteriorFamily<T>> DifferentiableInference<T>
    for Amortized<GaussianEncoder<F, Q>>
{
    type Family = Q;
    type Tape = F::Tape;

    fn latent_dim(&self) -> usize {
        self.encoder.latent_dim
    }

    fn forward(
        &self,
        x: Observations<'_, T>,
        tape: &mut F::Tape,
        mut phi: DMatrix<T>,
    ) -> Result<Q> {
        x.expect_dim(self.encoder.map.input_dim())?;
        let output = self.encoder.map.forward(x.values(), tape);
        reshape(&mut phi, output.nrows(), output.ncols());
        phi.copy_from(&output);
        Q::from_parameters(self.encoder.latent_dim, phi)
    }

    fn backward(
        &self,
        x: Observations<'_, T>,
        tape: &mut F::Tape,
        d_phi: &DMatrix<T>,
        d_parameters: &mut [T],
    ) {
        self.encoder.map.backward(x.values(), tape, d_phi.as_view(), d_parameters, None);
    }
}

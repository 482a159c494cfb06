//! Amortised inference: q(z_i) computed by an encoder from x_i.

use super::{DifferentiableInference, Inference, OutOfSample};
use crate::data::expect;
use crate::linalg::reshape;
use crate::map::{DifferentiableMap, Parameters};
use crate::posterior::{Point, Posterior, PosteriorFamily};
use crate::{Observations, Real, Result};
use nalgebra::DMatrix;
use std::marker::PhantomData;

/// An encoder: a map from observations to posteriors.
///
/// Implement the dimensions and `encode` to use the encoder for amortised inference, with every
/// method that needs nothing else.
pub trait Encoder<T: Real> {
    /// The type of the posterior.
    type Posterior: Posterior<T>;
    /// The number d of variables.
    fn observed_dim(&self) -> usize;
    /// The latent dimension k.
    fn latent_dim(&self) -> usize;
    /// Whether an entry of x may be missing (NaN). By default it may not.
    fn reads_missing(&self) -> bool {
        false
    }
    /// The posteriors q(z_i|φ(x_i)) of the observations.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when x does not have the
    /// dimension of the encoder.
    fn encode(&self, x: Observations<'_, T>) -> Result<Self::Posterior>;
}

/// Amortised inference q(z_i) = q(z|φ(x_i)) by an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Amortized<E> {
    /// The encoder φ.
    pub encoder: E,
}

impl<E> Amortized<E> {
    /// Amortised inference by the given encoder.
    pub fn new(encoder: E) -> Self {
        Self { encoder }
    }
}

impl<T: Real, M, E: Encoder<T>> Inference<T, M> for Amortized<E> {
    type Posterior = E::Posterior;

    fn infer(&self, _model: &M, x: Observations<'_, T>) -> Result<E::Posterior> {
        self.encoder.encode(x)
    }

    fn fixed_latent_dim(&self) -> Option<usize> {
        Some(self.encoder.latent_dim())
    }

    fn fixed_data_dim(&self) -> Option<usize> {
        Some(self.encoder.observed_dim())
    }
}

impl<T: Real, M, E: Encoder<T>> OutOfSample<T, M> for Amortized<E> {}

/// Encoder to a point code z = map(x), as in an autoencoder.
#[derive(Debug, Clone, PartialEq)]
pub struct PointEncoder<F> {
    /// The map x ↦ z.
    pub map: F,
}

impl<F> PointEncoder<F> {
    /// A point encoder from its map.
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

    fn reads_missing(&self) -> bool {
        self.map.reads_missing()
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

/// Encoder to a Gaussian q(z_i) of the variational family `Q`, with φ_i = map(x_i): the output of
/// the map is the mean followed by the scale, in the family's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianEncoder<F, Q> {
    map: F,
    latent_dim: usize,
    // The family is a type only: its parameters are the output of the map.
    family: PhantomData<Q>,
}

impl<F, Q> GaussianEncoder<F, Q> {
    /// A Gaussian encoder from its map, whose output must have as many rows as the family has
    /// parameters.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when it does not.
    pub fn new<T: Real>(map: F, latent_dim: usize) -> Result<Self>
    where
        F: DifferentiableMap<T>,
        Q: PosteriorFamily<T>,
    {
        expect("outputs of the encoder's map", Q::parameter_count(latent_dim), map.output_dim())?;
        Ok(Self { map, latent_dim, family: PhantomData })
    }

    /// The map x ↦ φ.
    pub fn map(&self) -> &F {
        &self.map
    }

    /// The map x ↦ φ, mutable.
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

    fn reads_missing(&self) -> bool {
        self.map.reads_missing()
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
        // The output is in the tape, which the backward pass needs; q owns a copy in the caller's
        // buffer.
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
        // An encoder's φ is the output of its map: ∂/∂φ is the map's output derivative, unchanged.
        // No derivative by the data is needed.
        self.encoder.map.backward(x.values(), tape, d_phi.as_view(), d_parameters, None);
    }
}

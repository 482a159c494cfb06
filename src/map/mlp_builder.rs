//! Builder for networks with random initial weights.

use super::{Activation, Initialization, Mlp};
use crate::{Error, Real, Result};
use nalgebra::DVector;
use rand::Rng;

/// Builder for an [`Mlp`]; every setting has a default.
///
/// ```
/// use elbo::map::{Activation, DifferentiableMap, Mlp};
/// use rand::{SeedableRng, rngs::StdRng};
/// let map = Mlp::<f32>::builder(784, 40)
///     .hidden(&[400])
///     .activation(Activation::Relu)
///     .build(&mut StdRng::seed_from_u64(0))?;
/// assert_eq!((map.sizes(), map.output_dim()), (&[784, 400, 40][..], 40));
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a builder does nothing before `build`"]
pub struct MlpBuilder<T: Real> {
    sizes: Vec<usize>,
    activation: Activation,
    output_activation: Activation,
    initialization: Option<Initialization>,
    standardization: Option<(DVector<T>, DVector<T>)>,
    output_scale: Option<(DVector<T>, DVector<T>)>,
    skip: bool,
    missing: bool,
}

impl<T: Real> MlpBuilder<T> {
    pub(super) fn new(input: usize, output: usize) -> Self {
        Self {
            sizes: vec![input, output],
            activation: Activation::Tanh,
            output_activation: Activation::Identity,
            initialization: None,
            standardization: None,
            output_scale: None,
            skip: false,
            missing: false,
        }
    }

    /// Sets the sizes of the hidden layers, in order from the input. Without hidden layers the map
    /// is affine (the default).
    pub fn hidden(mut self, sizes: &[usize]) -> Self {
        self.sizes.splice(1..self.sizes.len() - 1, sizes.iter().copied());
        self
    }

    /// Sets the activation after each hidden layer (default: tanh).
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets the activation after the last layer (default: identity).
    pub fn output_activation(self, output_activation: Activation) -> Self {
        Self { output_activation, ..self }
    }

    /// Sets the distribution of the initial weights of all layers (default: [by the
    /// activation](Initialization::of_activation) of each layer).
    pub fn initialization(self, initialization: Initialization) -> Self {
        Self { initialization: Some(initialization), ..self }
    }

    /// Adds a fixed standardisation of the input, as [`Mlp::with_input_standardization`].
    pub fn input_standardization(self, mean: DVector<T>, deviation: DVector<T>) -> Self {
        Self { standardization: Some((mean, deviation)), ..self }
    }

    /// Adds a fixed scale of the output, as [`Mlp::with_output_scale`].
    pub fn output_scale(self, mean: DVector<T>, deviation: DVector<T>) -> Self {
        Self { output_scale: Some((mean, deviation)), ..self }
    }

    /// Adds a skip connection from the input to the output, with initial weights 0, as
    /// [`Mlp::with_skip_connection`].
    pub fn skip_connection(self) -> Self {
        Self { skip: true, ..self }
    }

    /// Lets inputs be missing (NaN), as [`Mlp::with_missing_inputs`]: the first layer gets an
    /// indicator beside each input.
    pub fn missing_inputs(mut self) -> Self {
        self.sizes[0] = self.sizes[0].saturating_mul(if self.missing { 1 } else { 2 });
        Self { missing: true, ..self }
    }

    /// Samples the initial weights and returns the network.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a size of 0, more parameters than memory holds or a negative
    /// standard deviation; [`Error::DimensionMismatch`] and [`Error::NotFinite`] for a fixed layer
    /// that does not fit; [`Error::Unsupported`] for a skip connection beside an activation after
    /// the last layer.
    pub fn build<R: Rng + ?Sized>(self, mut rng: &mut R) -> Result<Mlp<T>> {
        if self.sizes.contains(&0) {
            return Err(Error::InvalidParameter {
                name: "the size of a layer",
                value: 0.0,
                must: "at least 1",
            });
        }
        let count = Mlp::<T>::parameter_count(&self.sizes);
        // Sizes are a user's input: an allocation that fails is an error here, not an abort.
        let mut parameters = Vec::new();
        if parameters.try_reserve_exact(count).is_err() {
            return Err(Error::InvalidParameter {
                name: "the number of parameters",
                value: count as f64,
                must: "no more than memory holds",
            });
        }
        parameters.resize(count, T::zero());
        // Layer by layer, each as [W | b].
        let mut rest = parameters.as_mut_slice();
        let layers = self.sizes.len() - 1;
        for (i, pair) in self.sizes.windows(2).enumerate() {
            let (layer, after) = rest.split_at_mut((pair[0] + 1) * pair[1]);
            let (weights, bias) = layer.split_at_mut(pair[0] * pair[1]);
            let activation = if i + 1 == layers { self.output_activation } else { self.activation };
            let initialization =
                self.initialization.unwrap_or(Initialization::of_activation(activation));
            initialization.draw(weights, bias, pair[0], &mut rng)?;
            rest = after;
        }
        let mut map =
            Mlp::from_parameters(&self.sizes, self.activation, self.output_activation, parameters)?;
        if self.missing {
            map = map.with_missing_inputs()?;
        }
        if let Some((mean, deviation)) = self.standardization {
            map = map.with_input_standardization(mean, deviation)?;
        }
        if let Some((mean, deviation)) = self.output_scale {
            map = map.with_output_scale(mean, deviation)?;
        }
        if self.skip { map.with_skip_connection() } else { Ok(map) }
    }
}

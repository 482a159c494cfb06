//! Multilayer perceptrons: affine layers with an activation function after each.

use super::activation::{carry_back_by_slope, sum_columns};
use super::{Activation, DifferentiableMap, MlpBuilder, Parameters, affine};
use crate::data::expect;
use crate::linalg::{Operand, check_finite, gemm, reshape};
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};

/// A multilayer perceptron x ↦ f_L(W_L … f_1(W_1 x + b_1) … + b_L).
///
/// All weights are stored in one vector, layer by layer, each as \[W | b\] (out×(in+1), by
/// columns); [`layer`](Self::layer) returns views of them.
///
/// Two fixed affine layers, which are **not** among the free parameters, may enclose the network: x
/// ↦ (x − m)/s before the first layer
/// ([`with_input_standardization`](Self::with_input_standardization)), and y ↦ m + s·y after the
/// last ([`with_output_scale`](Self::with_output_scale)). Their values are computed from the data
/// once. The layers between them then work on standardised data, while inputs and outputs keep the
/// units of the data.
///
/// With [indicators of missing inputs](Self::with_missing_inputs) an input may be NaN, which is read
/// as a missing value.
///
/// A [skip connection](Self::with_skip_connection) from the input to the output adds a linear map
/// beside the network, y = f(x) + Sx. Such a network contains every affine map, and where the
/// weights of its last layer are 0 it is one ([`with_affine_map`](Self::with_affine_map)).
///
/// ```
/// use elbo::map::{Activation, DifferentiableMap, Mlp};
/// use nalgebra::{dmatrix, dvector};
/// let layers =
///     vec![(dmatrix![1.0; -1.0], dvector![0.0, 0.0]), (dmatrix![1.0, 1.0], dvector![0.5])];
/// let absolute_value_and_a_half =
///     Mlp::from_layers(layers, Activation::Relu, Activation::Identity)?;
/// assert_eq!(
///     absolute_value_and_a_half.apply(dmatrix![-2.0, 3.0].as_view()),
///     dmatrix![2.5, 3.5]
/// );
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp<T: Real> {
    sizes: Vec<usize>,
    // Where each layer starts in `parameters`, and the end.
    starts: Vec<usize>,
    activation: Activation,
    output_activation: Activation,
    // The layers, then the weights of the skip connection, if there is one.
    parameters: Vec<T>,
    skip: bool,
    // The first layer reads the input, then an indicator of each input: 1 where it is missing.
    missing: bool,
    input: Option<FixedScale<T>>,
    output: Option<FixedScale<T>>,
}

/// A fixed mean and standard deviation for each variable.
#[derive(Debug, Clone, PartialEq)]
struct FixedScale<T: Real> {
    mean: DVector<T>,
    deviation: DVector<T>,
    // The standard deviation, or infinity for a constant variable: the quotient is then 0.
    divisor: DVector<T>,
}

impl<T: Real> FixedScale<T> {
    fn new(size: usize, mean: DVector<T>, deviation: DVector<T>) -> Result<Self> {
        expect("entries of the mean", size, mean.len())?;
        expect("entries of the deviation", size, deviation.len())?;
        check_finite(mean.as_view())?;
        check_finite(deviation.as_view())?;
        if let Some(&negative) = deviation.iter().find(|&&s| s < T::zero()) {
            return Err(Error::InvalidParameter {
                name: "the deviation",
                value: negative.as_f64(),
                must: "at least 0",
            });
        }
        // A standard deviation whose reciprocal would overflow counts as 0 as well.
        let resolved = |s: T| (T::one() / s).is_finite();
        let deviation = deviation.map(|s| if resolved(s) { s } else { T::zero() });
        let divisor = deviation.map(|s| if resolved(s) { s } else { T::one() / T::zero() });
        Ok(Self { mean, deviation, divisor })
    }
}

impl<T: Real> Mlp<T> {
    /// Returns a builder for a network from `input` to `output` dimensions.
    pub fn builder(input: usize, output: usize) -> MlpBuilder<T> {
        MlpBuilder::new(input, output)
    }

    /// The number of free parameters of a network with the given sizes (input, hidden layers,
    /// output); it saturates at `usize::MAX`.
    pub fn parameter_count(sizes: &[usize]) -> usize {
        let layers = sizes.windows(2).map(|pair| pair[0].saturating_add(1).saturating_mul(pair[1]));
        layers.fold(0, usize::saturating_add)
    }

    /// A network from its sizes (input, hidden layers, output) and its [parameters](Parameters), in
    /// the order in which they are stored.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when the number of parameters does not fit the sizes, or there
    /// are fewer than two sizes; [`Error::InvalidParameter`] for a size of 0; [`Error::NotFinite`].
    pub fn from_parameters(
        sizes: &[usize],
        activation: Activation,
        output_activation: Activation,
        parameters: Vec<T>,
    ) -> Result<Self> {
        if sizes.len() < 2 {
            return Err(Error::DimensionMismatch {
                what: "sizes of a network, input and output among them",
                expected: 2,
                actual: sizes.len(),
            });
        }
        if sizes.contains(&0) {
            return Err(Error::InvalidParameter {
                name: "the size of a layer",
                value: 0.0,
                must: "at least 1",
            });
        }
        expect("parameters of the network", Self::parameter_count(sizes), parameters.len())?;
        check_finite(DMatrixView::from_slice(&parameters, parameters.len(), 1))?;
        let mut starts = vec![0];
        for pair in sizes.windows(2) {
            starts.push(starts[starts.len() - 1] + (pair[0] + 1) * pair[1]);
        }
        Ok(Self {
            sizes: sizes.to_vec(),
            starts,
            activation,
            output_activation,
            parameters,
            skip: false,
            missing: false,
            input: None,
            output: None,
        })
    }

    /// A network from the weights (out×in) and the bias of each layer.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] when the layers do not fit each other; else as
    /// [`from_parameters`](Self::from_parameters).
    pub fn from_layers(
        layers: Vec<(DMatrix<T>, DVector<T>)>,
        activation: Activation,
        output_activation: Activation,
    ) -> Result<Self> {
        let mut sizes: Vec<usize> =
            layers.first().map(|(weights, _)| weights.ncols()).into_iter().collect();
        let mut parameters = Vec::new();
        for (weights, bias) in &layers {
            expect("columns of a layer's weights", sizes[sizes.len() - 1], weights.ncols())?;
            expect("entries of a layer's bias", weights.nrows(), bias.len())?;
            sizes.push(weights.nrows());
            parameters.extend_from_slice(weights.as_slice());
            parameters.extend_from_slice(bias.as_slice());
        }
        Self::from_parameters(&sizes, activation, output_activation, parameters)
    }

    /// Adds the fixed layer x ↦ (x − mean)/deviation before the network, entry by entry.
    /// `deviation` is a standard deviation; where it is 0 the variable is constant, and the network
    /// gets 0 in its place.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`], [`Error::InvalidParameter`] for a
    /// negative standard deviation.
    pub fn with_input_standardization(
        self,
        mean: DVector<T>,
        deviation: DVector<T>,
    ) -> Result<Self> {
        let scale = FixedScale::new(self.input_dim(), mean, deviation)?;
        Ok(Self { input: Some(scale), ..self })
    }

    /// Lets inputs be missing (NaN): the first half of the first layer's inputs are the (standardised)
    /// variables, 0 where one is missing, and the second half are indicators, 1 where it is missing
    /// and 0 where not. The network then has half as many inputs as its first layer.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for a first layer with an odd number of inputs, or an input
    /// standardisation that was set before for another number.
    ///
    /// ```
    /// use elbo::map::{Activation, DifferentiableMap, Mlp};
    /// use nalgebra::{dmatrix, dvector};
    /// let layers = vec![(dmatrix![1.0, 10.0], dvector![0.0])];
    /// let map = Mlp::from_layers(layers, Activation::Tanh, Activation::Identity)?;
    /// let map = map.with_missing_inputs()?;
    /// assert_eq!(map.apply(dmatrix![3.0, f64::NAN].as_view()), dmatrix![3.0, 10.0]);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn with_missing_inputs(self) -> Result<Self> {
        let inputs = self.sizes[0];
        let even = inputs + inputs % 2;
        expect("inputs of the first layer, two for each variable", even, inputs)?;
        if let Some(scale) = &self.input {
            expect("entries of the mean", inputs / 2, scale.mean.len())?;
        }
        Ok(Self { missing: true, ..self })
    }

    /// Adds the fixed layer y ↦ mean + deviation·y after the network, entry by entry. `deviation`
    /// is a standard deviation; where it is 0 the output is the mean.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`], [`Error::InvalidParameter`] for a
    /// negative standard deviation.
    pub fn with_output_scale(self, mean: DVector<T>, deviation: DVector<T>) -> Result<Self> {
        let scale = FixedScale::new(self.sizes[self.layers()], mean, deviation)?;
        Ok(Self { output: Some(scale), ..self })
    }

    /// Sets the last layer's weights and biases to 0 for the outputs from `first` on.
    ///
    /// This is the initialisation of an encoder's scale outputs: the scales are those of the prior,
    /// whatever x is.
    pub fn with_zero_outputs_from(mut self, first: usize) -> Self {
        let last = self.layers() - 1;
        let rows = self.sizes[last + 1];
        // The bias is one more column behind the weights.
        let layer = self.starts[last]..self.starts[last + 1];
        for column in self.parameters[layer].chunks_exact_mut(rows) {
            column.iter_mut().skip(first).for_each(|entry| *entry = T::zero());
        }
        self
    }

    /// Adds a skip connection from the input to the output: y = f(x) + Sx, with initial weights S =
    /// 0 among the free parameters. Between the fixed layers, x is the standardised input, and y
    /// the output before its scale.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with an activation after the last layer.
    pub fn with_skip_connection(mut self) -> Result<Self> {
        if self.output_activation != Activation::Identity {
            return Err(Error::Unsupported {
                what: "a skip connection beside an activation after the last layer",
                must: "`Activation::Identity`",
            });
        }
        let count = self.starts[self.layers()] + self.sizes[0] * self.output_dim();
        self.parameters.resize(count, T::zero());
        Ok(Self { skip: true, ..self })
    }

    /// Makes the network the affine map x ↦ Sx + b: `weights` S (out×in) become those of the skip
    /// connection, the last layer gets weights 0 and the bias b. The other layers keep their
    /// weights, so that training can leave the affine map.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NotFinite`], and those of
    /// [`with_skip_connection`](Self::with_skip_connection).
    ///
    /// ```
    /// use elbo::map::{DifferentiableMap, Mlp};
    /// use nalgebra::{dmatrix, dvector};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let map = Mlp::builder(2, 1).hidden(&[8]).build(&mut StdRng::seed_from_u64(1))?;
    /// let map = map.with_affine_map(dmatrix![1.0, 2.0], dvector![0.5])?;
    /// assert_eq!(map.apply(dmatrix![1.0; 10.0].as_view()), dmatrix![21.5]);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn with_affine_map(self, weights: DMatrix<T>, bias: DVector<T>) -> Result<Self> {
        expect("rows of the affine map's weights", self.output_dim(), weights.nrows())?;
        expect("columns of the affine map's weights", self.sizes[0], weights.ncols())?;
        expect("entries of the affine map's bias", self.output_dim(), bias.len())?;
        check_finite(weights.as_view())?;
        check_finite(bias.as_view())?;
        let mut map = self.with_skip_connection()?.with_zero_outputs_from(0);
        let end = map.starts[map.layers()];
        map.parameters[end - bias.len()..end].copy_from_slice(bias.as_slice());
        map.parameters[end..].copy_from_slice(weights.as_slice());
        Ok(map)
    }

    /// The weights S of the skip connection (out×in), if there is one.
    pub fn skip_connection(&self) -> Option<DMatrixView<'_, T>> {
        let weights = &self.parameters[self.starts[self.layers()]..];
        self.skip.then(|| DMatrixView::from_slice(weights, self.output_dim(), self.sizes[0]))
    }

    /// The number of affine layers.
    pub fn layers(&self) -> usize {
        self.sizes.len() - 1
    }

    /// The sizes of the layers: input, hidden layers, output.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The activation after each hidden layer.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The activation after the last layer.
    pub fn output_activation(&self) -> Activation {
        self.output_activation
    }

    /// The weights (out×in) and the bias (out) of layer `i`, counted from 0 at the input.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn layer(&self, i: usize) -> (DMatrixView<'_, T>, DVectorView<'_, T>) {
        let (weights, bias) = self.slices(i);
        (
            DMatrixView::from_slice(weights, self.sizes[i + 1], self.sizes[i]),
            DVectorView::from_slice(bias, self.sizes[i + 1]),
        )
    }

    /// The mean and the standard deviation of the fixed layer before the network, if there is one.
    pub fn input_standardization(&self) -> Option<(&DVector<T>, &DVector<T>)> {
        self.input.as_ref().map(|fixed| (&fixed.mean, &fixed.deviation))
    }

    /// The mean and the standard deviation of the fixed layer after the network, if there is one.
    pub fn output_scale(&self) -> Option<(&DVector<T>, &DVector<T>)> {
        self.output.as_ref().map(|fixed| (&fixed.mean, &fixed.deviation))
    }

    fn slices(&self, i: usize) -> (&[T], &[T]) {
        self.parameters[self.starts[i]..self.starts[i + 1]]
            .split_at(self.sizes[i] * self.sizes[i + 1])
    }

    fn parts(&self, i: usize) -> (DMatrixView<'_, T>, &[T]) {
        (self.layer(i).0, self.slices(i).1)
    }

    fn activation_of(&self, i: usize) -> Activation {
        if i + 1 == self.layers() { self.output_activation } else { self.activation }
    }

    /// Whether layer `i` stores its slopes f′, because they cannot be computed from its stored
    /// output.
    fn keeps_slope(&self, i: usize) -> bool {
        let activation = self.activation_of(i);
        // The output scale overwrites the output of the last layer, from which f′ would be
        // computed.
        activation.keeps_slope()
            || (i + 1 == self.layers()
                && self.output.is_some()
                && activation != Activation::Identity)
    }
}

impl<T: Real> Parameters<T> for Mlp<T> {
    fn parameters(&self) -> &[T] {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }
}

/// The tape of an [`Mlp`]: the output of each layer, and the buffers of its derivative.
#[derive(Debug, Clone)]
pub struct MlpTape<T: Real> {
    // The standardised input; empty without a standardisation.
    input: DMatrix<T>,
    layers: Vec<LayerTape<T>>,
}

#[derive(Debug, Clone)]
struct LayerTape<T: Real> {
    output: DMatrix<T>,
    slope: DMatrix<T>,
    delta: DMatrix<T>, // ∂/∂(W x + b)
}

impl<T: Real> Default for MlpTape<T> {
    fn default() -> Self {
        Self { input: DMatrix::zeros(0, 0), layers: Vec::new() }
    }
}

impl<T: Real> Default for LayerTape<T> {
    fn default() -> Self {
        let empty = || DMatrix::zeros(0, 0);
        Self { output: empty(), slope: empty(), delta: empty() }
    }
}

impl<T: Real> DifferentiableMap<T> for Mlp<T> {
    type Tape = MlpTape<T>;

    fn input_dim(&self) -> usize {
        if self.missing { self.sizes[0] / 2 } else { self.sizes[0] }
    }

    fn reads_missing(&self) -> bool {
        self.missing
    }

    fn output_dim(&self) -> usize {
        self.sizes[self.layers()]
    }

    fn forward<'t>(
        &self,
        input: DMatrixView<'_, T>,
        tape: &'t mut Self::Tape,
    ) -> DMatrixView<'t, T> {
        let n = input.ncols();
        tape.layers.resize_with(self.layers(), LayerTape::default);
        if let Some(FixedScale { mean, divisor, .. }) = &self.input {
            reshape(&mut tape.input, self.sizes[0], n);
            for (mut to, from) in tape.input.column_iter_mut().zip(input.column_iter()) {
                for (((to, &from), &mean), &divisor) in
                    to.iter_mut().zip(from.iter()).zip(mean.iter()).zip(divisor.iter())
                {
                    *to = (from - mean) / divisor;
                }
            }
        }
        if self.missing {
            self.mark_missing(input, &mut tape.input);
        }
        let own = self.missing || self.input.is_some();
        let input = if own { tape.input.as_view() } else { input };
        for i in 0..self.layers() {
            let (before, at) = tape.layers.split_at_mut(i);
            let input = before.last().map_or(input, |previous| previous.output.as_view());
            let LayerTape { output, slope, delta } = &mut at[0];
            let size = self.sizes[i + 1];
            reshape(output, size, n);
            // The buffer of the derivative is unused in the forward pass: it holds the product of
            // the second half of the layer's weights.
            reshape(delta, size, n);
            if self.keeps_slope(i) {
                reshape(slope, size, n);
            }
            affine::forth(
                self.parts(i),
                self.activation_of(i),
                input,
                output,
                slope.as_mut_slice(),
                delta,
            );
        }
        let last = &mut tape.layers[self.layers() - 1];
        if let Some(weights) = self.skip_connection() {
            gemm(T::one(), weights, input, T::one(), last.output.as_view_mut());
        }
        // The output scale, in place: `keeps_slope` accounts for it.
        if let Some(FixedScale { mean, deviation, .. }) = &self.output {
            for column in last.output.as_mut_slice().chunks_exact_mut(mean.len()) {
                for ((y, &mean), &deviation) in
                    column.iter_mut().zip(mean.iter()).zip(deviation.iter())
                {
                    *y = mean + deviation * *y;
                }
            }
        }
        last.output.as_view()
    }

    fn output<'t>(&self, tape: &'t Self::Tape) -> DMatrixView<'t, T> {
        tape.layers[self.layers() - 1].output.as_view()
    }

    fn backward(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        d_parameters: &mut [T],
        d_input: Option<&mut DMatrix<T>>,
    ) {
        self.carry_back(input, tape, d_output, Some(d_parameters), d_input);
    }

    fn backward_to_input(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        _unused: &mut [T],
        d_input: &mut DMatrix<T>,
    ) {
        self.carry_back(input, tape, d_output, None, Some(d_input));
    }
}

impl<T: Real> Mlp<T> {
    /// The backward pass. The gradients by the parameters and by the input are computed only where
    /// there is a target for them.
    fn carry_back(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut MlpTape<T>,
        d_output: DMatrixView<'_, T>,
        mut d_parameters: Option<&mut [T]>,
        mut d_input: Option<&mut DMatrix<T>>,
    ) {
        let (n, end) = (d_output.ncols(), self.layers() - 1);
        let MlpTape { input: standardised, layers } = tape;
        let own = self.missing || self.input.is_some();
        let input = if own { standardised.as_view() } else { input };
        // Without an activation and an output scale, the derivative by the last affine layer is
        // `d_output` itself, which is not copied.
        let plain = self.activation_of(end) == Activation::Identity && self.output.is_none();
        if !plain {
            self.start_delta(&mut layers[end].delta, d_output);
        }
        // Layer by layer from the output. Before each step `delta` holds ∂J/∂f(a) of the layer; the
        // multiplication by f′ makes it ∂J/∂a.
        for i in (0..=end).rev() {
            let (before, at) = layers.split_at_mut(i);
            let LayerTape { output, slope, delta } = &mut at[0];
            if self.keeps_slope(i) {
                carry_back_by_slope(delta.as_mut_slice(), slope.as_slice());
            } else if !(plain && i == end) {
                self.activation_of(i).carry_back(delta.as_mut_slice(), output.as_slice());
            }
            let delta = if plain && i == end { d_output } else { delta.as_view() };
            if let Some(d_parameters) = d_parameters.as_deref_mut() {
                let input = before.last().map_or(input, |previous| previous.output.as_view());
                let own = &mut d_parameters[self.starts[i]..self.starts[i + 1]];
                let (d_weights, d_bias) = own.split_at_mut(self.sizes[i] * self.sizes[i + 1]);
                affine::by_weights(delta, input, d_weights);
                sum_columns(delta, d_bias);
            }
            // The first layer's target is the caller's, if there is one; otherwise this product is
            // skipped.
            let target = match before.last_mut() {
                Some(previous) => Some(&mut previous.delta),
                None => d_input.as_deref_mut(),
            };
            if let Some(target) = target {
                reshape(target, self.sizes[i], n);
                affine::back(self.layer(i).0, delta, target);
            }
        }
        // The output is linear with a skip connection: its derivative is still in `delta`.
        if let Some(weights) = self.skip_connection() {
            let delta = if plain { d_output } else { layers[end].delta.as_view() };
            if let Some(d_parameters) = d_parameters {
                affine::by_weights(delta, input, &mut d_parameters[self.starts[end + 1]..]);
            }
            if let Some(d_input) = d_input.as_deref_mut() {
                let transposed = Operand::from(weights).transposed();
                gemm(T::one(), transposed, delta, T::one(), d_input.as_view_mut());
            }
        }
        // The indicators do not depend on the values.
        if self.missing
            && let Some(d_input) = d_input.as_deref_mut()
        {
            *d_input = d_input.rows(0, self.input_dim()).into_owned();
        }
        if let (Some(FixedScale { divisor, .. }), Some(d_input)) = (&self.input, d_input) {
            for column in d_input.as_mut_slice().chunks_exact_mut(divisor.len()) {
                column.iter_mut().zip(divisor.iter()).for_each(|(d, &s)| *d /= s);
            }
        }
    }

    /// Writes the first layer's inputs: the variables, which are standardised already if there is a
    /// standardisation, with 0 for a missing one, then the indicators.
    fn mark_missing(&self, input: DMatrixView<'_, T>, tape: &mut DMatrix<T>) {
        let d = self.input_dim();
        reshape(tape, self.sizes[0], input.ncols());
        for (mut to, from) in tape.column_iter_mut().zip(input.column_iter()) {
            for (j, &value) in from.iter().enumerate() {
                let missing = value.partial_cmp(&value).is_none();
                if missing {
                    to[j] = T::zero();
                } else if self.input.is_none() {
                    to[j] = value;
                }
                to[d + j] = if missing { T::one() } else { T::zero() };
            }
        }
    }

    /// Initialises `delta` with the derivative by the output of the last activation.
    fn start_delta(&self, delta: &mut DMatrix<T>, d_output: DMatrixView<'_, T>) {
        reshape(delta, d_output.nrows(), d_output.ncols());
        delta.copy_from(&d_output);
        if let Some(FixedScale { deviation, .. }) = &self.output {
            for column in delta.as_mut_slice().chunks_exact_mut(deviation.len()) {
                column.iter_mut().zip(deviation.iter()).for_each(|(d, &s)| *d *= s);
            }
        }
    }
}

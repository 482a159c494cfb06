//! Differentiable maps, used for both encoders and decoders.
//!
//! From PCA to the variational autoencoder: [`Linear`], then [`Mlp`].

mod activation;
mod affine;
mod initialization;
mod linear;
mod mlp;
mod mlp_builder;

pub use activation::Activation;
pub use initialization::Initialization;
pub use linear::Linear;
#[doc(hidden)]
pub use linear::LinearTape;
pub use mlp::Mlp;
#[doc(hidden)]
pub use mlp::MlpTape;
pub use mlp_builder::MlpBuilder;

use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// The free parameters of a component (map, likelihood or inference) as one slice, in a fixed
/// order, for an optimiser.
///
/// Implement the two slices; a component without free parameters returns empty ones.
pub trait Parameters<T: Real> {
    /// The free parameters.
    fn parameters(&self) -> &[T];
    /// The free parameters, mutable.
    fn parameters_mut(&mut self) -> &mut [T];

    /// Moves parameters with a closed-form optimum by the fraction `weight` towards it and returns
    /// `true`; an optimiser then leaves them unchanged.
    ///
    /// `d_parameters` is ∂J/∂parameters, and `entries` the number of entries of x that J is a sum
    /// over, without missing ones. The default implementation does nothing and returns `false`.
    fn step_to_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        let _ = (d_parameters, entries, weight);
        false
    }

    /// [`step_to_optimum`](Self::step_to_optimum) for incomplete data: `counts` contains the number
    /// of observed entries of each variable (d). By default it uses their sum.
    fn step_to_optimum_of_observed(&mut self, d_parameters: &[T], counts: &[T], weight: T) -> bool {
        let entries = counts.iter().fold(T::zero(), |sum, &count| sum + count);
        self.step_to_optimum(d_parameters, entries, weight)
    }

    /// Makes the component a function of its parameters alone, where it holds other numbers that equal
    /// functions of them but for rounding, such as a variance beside its logarithm. By default it
    /// does nothing.
    fn settle(&mut self) {}

    /// Whether a parameter is at its declared floor; a fit that ends so reports
    /// [`StopReason::Floor`](crate::fit::StopReason::Floor).
    fn rests_on_floor(&self) -> bool {
        false
    }
}

/// A differentiable map f: input → output with free parameters; one column per observation.
///
/// Implement the dimensions, [`forward`](Self::forward) and [`backward`](Self::backward) to use
/// [`apply`](Self::apply), and to use the map as a [`Decoder`](crate::model::Decoder) or inside an
/// [`Amortized`](crate::inference::Amortized) encoder.
/// [`testing::check_map`](crate::testing::check_map) checks the derivative.
pub trait DifferentiableMap<T: Real>: Parameters<T> {
    /// The intermediate results that `forward` stores for `backward`, including the output. It is
    /// kept between training steps, so that a step does not allocate.
    type Tape: Default + Clone + std::fmt::Debug;

    /// The number of rows of the input.
    fn input_dim(&self) -> usize;
    /// The number of rows of the output.
    fn output_dim(&self) -> usize;

    /// Whether an input may be missing (NaN); the output must then be finite. By default it may not.
    fn reads_missing(&self) -> bool {
        false
    }

    /// Maps each column of `input` (input_dim×n) and returns the output (output_dim×n), which is
    /// stored in the tape.
    fn forward<'t>(
        &self,
        input: DMatrixView<'_, T>,
        tape: &'t mut Self::Tape,
    ) -> DMatrixView<'t, T>;

    /// The output of the last `forward`, from the tape.
    fn output<'t>(&self, tape: &'t Self::Tape) -> DMatrixView<'t, T>;

    /// Backpropagates the derivative of a scalar from the output to the parameters, `d_parameters`
    /// (overwritten), and to the input, `d_input` (overwritten, resized), if there is one.
    ///
    /// `input` and `tape` are those of the last `forward`; `d_output` is output_dim×n.
    fn backward(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        d_parameters: &mut [T],
        d_input: Option<&mut DMatrix<T>>,
    );

    /// Backpropagates the derivative to the input alone, where the parameters are not optimised;
    /// `unused` is a buffer for their derivative.
    fn backward_to_input(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        unused: &mut [T],
        d_input: &mut DMatrix<T>,
    ) {
        self.backward(input, tape, d_output, unused, Some(d_input));
    }

    /// Maps each column of `input` and returns the output.
    fn apply(&self, input: DMatrixView<'_, T>) -> DMatrix<T> {
        let mut tape = Self::Tape::default();
        self.forward(input, &mut tape).into_owned()
    }

    /// The residuals target − f(input) (output_dim×n). Override it where they can be computed
    /// without subtracting two large numbers.
    fn residuals(&self, input: DMatrixView<'_, T>, target: DMatrixView<'_, T>) -> DMatrix<T> {
        target - self.apply(input)
    }
}

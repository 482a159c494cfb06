//! Maps that can be differentiated: the same slot for encoders and decoders.
//!
//! In the order of the progression: [`Linear`], then [`Mlp`].

mod activation;
mod affine;
mod initialization;
mod linear;
mod mlp;
mod mlp_builder;

pub use activation::Activation;
pub use initialization::Initialization;
pub use linear::{Linear, LinearTape};
pub use mlp::{Mlp, MlpTape};
pub use mlp_builder::MlpBuilder;

use crate::Real;
use nalgebra::{DMatrix, DMatrixView};

/// The free parameters of a slot as one slice, in a fixed order: what an optimiser moves.
///
/// You give the two slices; a slot without free parameters gives empty ones.
pub trait Parameters<T: Real> {
    /// The free parameters.
    fn parameters(&self) -> &[T];
    /// The free parameters, to be moved.
    fn parameters_mut(&mut self) -> &mut [T];

    /// Moves parameters whose optimum is a formula the part `weight` of the way there, and says
    /// that it did: an optimiser then leaves them alone.
    ///
    /// `d_parameters` is ∂J/∂parameters, and `entries` the number of entries of x that J is a sum
    /// over. By itself it does nothing and says so.
    fn approach_optimum(&mut self, d_parameters: &[T], entries: T, weight: T) -> bool {
        let _ = (d_parameters, entries, weight);
        false
    }

    /// Whether a declared floor, and not J, says what a parameter is; a fit that ends so says
    /// [`StopReason::Floor`](crate::fit::Stop::Floor).
    fn rests_on_floor(&self) -> bool {
        false
    }
}

/// A map f: input → output with free parameters and a derivative; one column an observation.
///
/// You give the dimensions, [`forward`](Self::forward) and [`backward`](Self::backward); you get
/// [`apply`](Self::apply), and your map is a [`Decoder`](crate::model::Decoder) and can sit inside
/// an [`Amortized`](crate::inference::Amortized) encoder.
/// [`testing::check_map`](crate::testing::check_map) tells whether the derivative is right.
pub trait DifferentiableMap<T: Real>: Parameters<T> {
    /// What `forward` leaves for `backward`, the output among it; kept between steps, so that a
    /// step need not allocate.
    type Tape: Default + Clone + std::fmt::Debug;

    /// Rows of the input.
    fn input_dim(&self) -> usize;
    /// Rows of the output.
    fn output_dim(&self) -> usize;

    /// Maps each column of `input` (input_dim×n); the output (output_dim×n) lies in the tape.
    fn forward<'t>(
        &self,
        input: DMatrixView<'_, T>,
        tape: &'t mut Self::Tape,
    ) -> DMatrixView<'t, T>;

    /// The output that the last `forward` left in the tape.
    fn output<'t>(&self, tape: &'t Self::Tape) -> DMatrixView<'t, T>;

    /// Carries the derivative of a scalar from the output back: `d_parameters` (overwritten) and,
    /// if asked for, `d_input` (overwritten, resized).
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

    /// Carries the derivative back to the input alone, for who does not move the parameters;
    /// `unused` has room for their derivative.
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

    /// What the map of each column of `input` leaves of `target` (output_dim×n); override it where
    /// the difference need not be that of two large numbers.
    fn residuals(&self, input: DMatrixView<'_, T>, target: DMatrixView<'_, T>) -> DMatrix<T> {
        target - self.apply(input)
    }
}

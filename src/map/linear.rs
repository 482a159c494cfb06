//! Affine maps: a weight matrix and a bias.

use super::{DifferentiableMap, Parameters};
use crate::data::{Centering, expect};
use crate::linalg::{Operand, gemm, reshape};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};

/// An affine map x ↦ Wx + b.
///
/// As a decoder, W (d×k) holds the loadings and b is the mean μ; as an encoder, W is the k×d
/// projection. Weights and bias are stored in one matrix, the bias as its last column, so that an
/// optimiser gets all parameters as one slice.
///
/// ```
/// use elbo::map::{DifferentiableMap, Linear};
/// use nalgebra::{dmatrix, dvector};
/// let map = Linear::new(dmatrix![1.0, 0.0; 0.0, 2.0; 1.0, 1.0], dvector![0.0, 0.0, 5.0])?;
/// assert_eq!(map.apply(dmatrix![1.0; 2.0].as_view()), dmatrix![1.0; 4.0; 8.0]);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Linear<T: Real> {
    augmented: DMatrix<T>, // [W | b]
    fixed_bias: bool,
}

impl<T: Real> Linear<T> {
    /// A map from its weights (output×input) and its bias (output).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) when the bias does not have
    /// one entry per row of W; [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn new(weights: DMatrix<T>, bias: DVector<T>) -> Result<Self> {
        expect("entries of the bias", weights.nrows(), bias.len())?;
        let columns = weights.ncols();
        let mut augmented = weights.insert_column(columns, T::zero());
        augmented.set_column(columns, &bias);
        crate::linalg::check_finite(augmented.as_view())?;
        Ok(Self { augmented, fixed_bias: false })
    }

    /// A decoder with loadings W and a mean that is free, or fixed at 0 without centring.
    pub(crate) fn about(
        weights: &DMatrix<f64>,
        mean: &DVector<f64>,
        kind: Centering,
    ) -> Result<Self> {
        let map = Self::new(weights.map(T::of), mean.map(T::of))?;
        Ok(if kind == Centering::None { map.with_fixed_bias() } else { map })
    }

    /// Fixes the bias at its value: it is then not among the [parameters](Parameters) that an
    /// optimiser changes.
    pub fn with_fixed_bias(self) -> Self {
        Self { fixed_bias: true, ..self }
    }

    /// Whether the bias is fixed.
    pub fn bias_is_fixed(&self) -> bool {
        self.fixed_bias
    }

    /// The weights W, output×input.
    pub fn weights(&self) -> DMatrixView<'_, T> {
        self.augmented.columns(0, self.augmented.ncols() - 1)
    }

    /// The bias b, one entry per output.
    pub fn bias(&self) -> DVectorView<'_, T> {
        self.augmented.column(self.augmented.ncols() - 1)
    }

    // The free parameters are a prefix of the storage: the bias is its last column.
    fn free(&self) -> usize {
        self.output_dim() * (self.input_dim() + usize::from(!self.fixed_bias))
    }

    /// The matrix [W b], output×(input+1).
    pub(crate) fn augmented_mut(&mut self) -> &mut DMatrix<T> {
        &mut self.augmented
    }
}

impl<T: Real> Parameters<T> for Linear<T> {
    fn parameters(&self) -> &[T] {
        &self.augmented.as_slice()[..self.free()]
    }
    fn parameters_mut(&mut self) -> &mut [T] {
        let free = self.free();
        &mut self.augmented.as_mut_slice()[..free]
    }
}

/// The tape of a [`Linear`] map: its output.
#[derive(Debug, Clone)]
pub struct LinearTape<T: Real>(DMatrix<T>);

impl<T: Real> Default for LinearTape<T> {
    fn default() -> Self {
        Self(DMatrix::zeros(0, 0))
    }
}

impl<T: Real> DifferentiableMap<T> for Linear<T> {
    type Tape = LinearTape<T>;

    fn input_dim(&self) -> usize {
        self.augmented.ncols() - 1
    }

    fn output_dim(&self) -> usize {
        self.augmented.nrows()
    }

    fn forward<'t>(
        &self,
        input: DMatrixView<'_, T>,
        tape: &'t mut Self::Tape,
    ) -> DMatrixView<'t, T> {
        reshape(&mut tape.0, self.output_dim(), input.ncols());
        let bias = self.bias();
        // The product accumulates onto the bias: no second pass over the output.
        tape.0.column_iter_mut().for_each(|mut column| column.copy_from(&bias));
        gemm(T::one(), self.weights(), input, T::one(), tape.0.as_view_mut());
        tape.0.as_view()
    }

    fn output<'t>(&self, tape: &'t Self::Tape) -> DMatrixView<'t, T> {
        tape.0.as_view()
    }

    /// Returns (target − b) − Wz, with the bias subtracted first: a bias far from 0 then costs the
    /// residual no accuracy.
    fn residuals(&self, input: DMatrixView<'_, T>, target: DMatrixView<'_, T>) -> DMatrix<T> {
        let (mut residuals, bias) = (target.into_owned(), self.bias());
        residuals.column_iter_mut().for_each(|mut column| column -= &bias);
        gemm(-T::one(), self.weights(), input, T::one(), residuals.as_view_mut());
        residuals
    }

    fn backward(
        &self,
        input: DMatrixView<'_, T>,
        tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        d_parameters: &mut [T],
        d_input: Option<&mut DMatrix<T>>,
    ) {
        let (outputs, inputs) = (self.output_dim(), self.input_dim());
        let (d_weights, d_bias) = d_parameters.split_at_mut(outputs * inputs);
        let d_weights = nalgebra::DMatrixViewMut::from_slice(d_weights, outputs, inputs);
        gemm(T::one(), d_output, Operand::from(input).transposed(), T::zero(), d_weights);
        // Without a free bias `d_bias` is empty, and the loop below does nothing.
        d_bias.fill(T::zero());
        for column in d_output.column_iter() {
            for (sum, &value) in d_bias.iter_mut().zip(column.iter()) {
                *sum += value;
            }
        }
        // The input of an encoder is data: its derivative is not computed unless there is a target.
        if let Some(d_input) = d_input {
            self.backward_to_input(input, tape, d_output, &mut [], d_input);
        }
    }

    fn backward_to_input(
        &self,
        _input: DMatrixView<'_, T>,
        _tape: &mut Self::Tape,
        d_output: DMatrixView<'_, T>,
        _unused: &mut [T],
        d_input: &mut DMatrix<T>,
    ) {
        reshape(d_input, self.input_dim(), d_output.ncols());
        gemm(
            T::one(),
            Operand::from(self.weights()).transposed(),
            d_output,
            T::zero(),
            d_input.as_view_mut(),
        );
    }
}

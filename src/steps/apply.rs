//! Application of fitted models to each form of data.
//!
//! | form | `transform` | `log_likelihood` |
//! |---|---|---|
//! | complete | every model that encodes new observations | linear decoder, Gaussian noise |
//! | incomplete | linear decoder, Gaussian noise, exact posterior | the same models |
//! | sparse | `Ppca`, `LinearAutoencoder` | `Ppca` |
//! | source | every model that encodes new observations | linear decoder, Gaussian noise |

use super::{LinearAutoencoder, Model, Ppca};
use crate::data::{Dense, IncompleteObservations, Source, SparseObservations, expect_variables};
use crate::inference::{Exact, OutOfSample};
use crate::likelihood::{ConditionalMean, GaussianNoise, Likelihood};
use crate::linalg::matrix_product;
use crate::map::Linear;
use crate::model::{Decoder, GenerativeModel, MarginalLikelihood};
use crate::posterior::{PatternCovariance, Posterior};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};

/// Models that encode data of form `F`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot encode a new x of the form `{F}`",
    label = "this model has no `transform` for this form of data",
    note = "a table of φ_i (`PerPoint`) has one row for each observation of the fit and says \
            nothing of any other: `codes` returns those of the fit",
    note = "use the exact posterior (`Exact`) or an encoder (`Amortized`)"
)]
pub trait TransformOf<T: Real, F> {
    /// The codes, k×n.
    ///
    /// # Errors
    /// Those of the model's `transform`.
    fn transform_form(&self, data: F) -> Result<DMatrix<T>>;
}

/// Models with a posterior q(z_i) for data of form `F`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no posterior for data of the form `{F}`",
    label = "this model has no `encode` for this form of data",
    note = "a table of φ_i (`PerPoint`) has one row for each observation of the fit and says \
            nothing of any other",
    note = "use the exact posterior (`Exact`) or an encoder (`Amortized`)"
)]
pub trait EncodeOf<T: Real, F> {
    /// The type of the posteriors.
    type Posterior: Posterior<T>;

    /// The posterior q(z_i) of each observation.
    ///
    /// # Errors
    /// Those of the model's `encode`.
    fn encode_form(&self, data: F) -> Result<Self::Posterior>;
}

/// Models whose log-likelihood of data of form `F` is in closed form.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no closed-form log-likelihood of data of the form `{F}`: the integral \
               over z is only tractable for a linear decoder with Gaussian noise",
    label = "this model has no `log_likelihood` for this form of data",
    note = "a linear autoencoder has no density p(x|z): probabilistic PCA is the linear \
            autoencoder with one: use `Ppca`",
    note = "for a deep decoder estimate it with `diagnostics::ImportanceSampling`, or bound it \
            with `estimate_elbo`"
)]
pub trait LogLikelihoodOf<T: Real, F> {
    /// log p(x_i) in nats, one entry per observation.
    ///
    /// # Errors
    /// Those of the model's `log_likelihood`.
    fn log_likelihood_form(&self, data: F) -> Result<DVector<T>>;
}

impl<'a, T: Real, D: Decoder<T>, L, I> TransformOf<T, Dense<'a, T>> for Model<T, D, L, I>
where
    L: ConditionalMean<T>,
    I: OutOfSample<T, GenerativeModel<D, L>>,
{
    fn transform_form(&self, x: Dense<'a, T>) -> Result<DMatrix<T>> {
        // Unvalidated data go to a method that fuses validation into its pass over them.
        match x.to_validate() {
            Some(values) => self.inference.codes_of_unvalidated(&self.generative, values),
            None => Ok(self.encode_form(x)?.into_mean()),
        }
    }
}

impl<'a, T: Real, D: Decoder<T>, L, I> EncodeOf<T, Dense<'a, T>> for Model<T, D, L, I>
where
    L: ConditionalMean<T>,
    I: OutOfSample<T, GenerativeModel<D, L>>,
{
    type Posterior = I::Posterior;

    fn encode_form(&self, x: Dense<'a, T>) -> Result<I::Posterior> {
        let x = x.validate()?;
        x.expect_dim(self.data_dim())?;
        self.inference.infer(&self.generative, x)
    }
}

impl<'a, T: Real, N: GaussianNoise<T>> EncodeOf<T, IncompleteObservations<'a, T>>
    for Model<T, Linear<T>, N, Exact>
{
    type Posterior = PatternCovariance<T>;

    /// The posterior p(z_i|x_o): a mean per observation and a covariance per missingness pattern.
    fn encode_form(&self, x: IncompleteObservations<'a, T>) -> Result<PatternCovariance<T>> {
        self.generative.posterior_given_observed(x)
    }
}

impl<'a, T: Real, D: Decoder<T>, L, I> LogLikelihoodOf<T, Dense<'a, T>> for Model<T, D, L, I>
where
    L: Likelihood<T>,
    GenerativeModel<D, L>: MarginalLikelihood<T>,
{
    fn log_likelihood_form(&self, x: Dense<'a, T>) -> Result<DVector<T>> {
        self.generative.log_likelihood(x.validate()?)
    }
}

impl<'a, T: Real, N: GaussianNoise<T>> TransformOf<T, IncompleteObservations<'a, T>>
    for Model<T, Linear<T>, N, Exact>
{
    /// The means of p(z_i|x_o), given the observed entries; 0 for an observation without any.
    fn transform_form(&self, x: IncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        Ok(self.encode_form(x)?.into_mean())
    }
}

impl<'a, T: Real, N: GaussianNoise<T>, I> LogLikelihoodOf<T, IncompleteObservations<'a, T>>
    for Model<T, Linear<T>, N, I>
{
    fn log_likelihood_form(&self, x: IncompleteObservations<'a, T>) -> Result<DVector<T>> {
        self.generative.log_likelihood_observed(x)
    }
}

impl<'a, T: Real, D: Decoder<T>, L, I> TransformOf<T, &'a mut dyn Source<T>> for Model<T, D, L, I>
where
    L: ConditionalMean<T>,
    I: OutOfSample<T, GenerativeModel<D, L>>,
{
    fn transform_form(&self, source: &'a mut dyn Source<T>) -> Result<DMatrix<T>> {
        // A growing vector: the number of observations of a source is known only after the pass.
        let mut codes = Vec::new();
        self.transform_blocks(source, |block| {
            codes.extend(block.iter().copied());
            Ok(())
        })?;
        Ok(DMatrix::from_vec(self.latent_dim(), codes.len() / self.latent_dim().max(1), codes))
    }
}

impl<'a, T: Real, D: Decoder<T>, L, I> LogLikelihoodOf<T, &'a mut dyn Source<T>>
    for Model<T, D, L, I>
where
    L: Likelihood<T>,
    GenerativeModel<D, L>: MarginalLikelihood<T>,
{
    fn log_likelihood_form(&self, source: &'a mut dyn Source<T>) -> Result<DVector<T>> {
        let mut values = Vec::new();
        source.pass(&mut |x| {
            values.extend_from_slice(self.generative.log_likelihood(x)?.as_slice());
            Ok(())
        })?;
        Ok(DVector::from_vec(values))
    }
}

impl<T: Real, D: Decoder<T>, L, I> Model<T, D, L, I> {
    /// Calls `visit` with the codes (k×b) of each block of a source, in order, for codes that do
    /// not fit in memory.
    ///
    /// ```
    /// use elbo::{IntoObservations, Ppca};
    /// let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
    /// let model = Ppca::fit(1, &x)?.model;
    /// let mut codes = 0;
    /// model.transform_blocks(&mut (&x).into_observations()?, |block| {
    ///     codes += block.ncols();
    ///     Ok(())
    /// })?;
    /// assert_eq!(codes, 4);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Errors of reading, those of `visit`, and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn transform_blocks(
        &self,
        source: &mut dyn Source<T>,
        mut visit: impl FnMut(DMatrixView<'_, T>) -> Result<()>,
    ) -> Result<()>
    where
        L: ConditionalMean<T>,
        I: OutOfSample<T, GenerativeModel<D, L>>,
    {
        source.pass(&mut |x| {
            // For each block: a source may be implemented by the caller.
            x.expect_dim(self.data_dim())?;
            visit(self.inference.infer(&self.generative, x)?.mean())
        })
    }
}

/// Returns an error unless the data have the dimension `expected` of a model.
fn expect_dim<T: Real>(x: SparseObservations<'_, T>, expected: usize) -> Result<()> {
    expect_variables(expected, (x.data_dim(), x.len()))
}

impl<'a, T: Real> TransformOf<T, SparseObservations<'a, T>> for Ppca<T> {
    fn transform_form(&self, x: SparseObservations<'a, T>) -> Result<DMatrix<T>> {
        expect_dim(x, self.data_dim())?;
        let factor = self.generative.factor_f64()?;
        let (along, _) = x.projections(&factor.directions, &self.generative.wide_mean());
        Ok(factor.codes_of(along).map(T::of))
    }
}

impl<'a, T: Real> LogLikelihoodOf<T, SparseObservations<'a, T>> for Ppca<T> {
    /// The log-likelihood, computed in double precision.
    fn log_likelihood_form(&self, x: SparseObservations<'a, T>) -> Result<DVector<T>> {
        expect_dim(x, self.data_dim())?;
        let factor = self.generative.factor_f64()?;
        let (along, squares) = x.projections(&factor.directions, &self.generative.wide_mean());
        // ‖x − μ‖² less the part in the span: the table stays sparse. The difference may round to
        // below 0.
        let outside = along
            .column_iter()
            .zip(&squares)
            .map(|(y, square)| (square - y.norm_squared()).max(0.0));
        Ok(factor.log_density_of(&along, outside.collect()).map(T::of))
    }
}

impl<T: Real> Ppca<T> {
    /// The total squared error Σ_i ‖x_i − P(x_i)‖² of sparse observations, with P the orthogonal
    /// projection on the span of W about the mean.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn projection_error(&self, x: SparseObservations<'_, T>) -> Result<T> {
        expect_dim(x, self.data_dim())?;
        let (mean, factor) = (self.generative.wide_mean(), self.generative.factor_f64()?);
        let (along, _) = x.projections(&factor.directions, &mean);
        Ok(T::of((x.squared_deviations(&mean) - along.norm_squared()).max(0.0)))
    }
}

impl<'a, T: Real> TransformOf<T, SparseObservations<'a, T>> for LinearAutoencoder<T> {
    fn transform_form(&self, x: SparseObservations<'a, T>) -> Result<DMatrix<T>> {
        Ok(self.wide_codes(x)?.map(T::of))
    }
}

impl<T: Real> LinearAutoencoder<T> {
    /// The codes of sparse observations, in double precision.
    fn wide_codes(&self, x: SparseObservations<'_, T>) -> Result<DMatrix<f64>> {
        expect_dim(x, self.data_dim())?;
        let encoder = &self.inference.encoder.map;
        // About 0 and not about a mean: the encoder's bias contains the centring.
        let weights = encoder.weights().transpose().map(|v| v.as_f64());
        let (mut codes, _) = x.projections(&weights, &DVector::zeros(x.data_dim()));
        for mut code in codes.column_iter_mut() {
            code.iter_mut().zip(encoder.bias().iter()).for_each(|(z, b)| *z += b.as_f64());
        }
        Ok(codes)
    }
}

/// Models that compute the total squared reconstruction error of data of form `F`.
pub trait SquaredErrorOf<T: Real, F> {
    /// The total squared reconstruction error Σ_i ‖x_i − x'_i‖².
    ///
    /// # Errors
    /// Those of `squared_error`.
    fn squared_error_form(&self, data: F) -> Result<T>;
}

impl<'a, T: Real> SquaredErrorOf<T, Dense<'a, T>> for LinearAutoencoder<T> {
    fn squared_error_form(&self, x: Dense<'a, T>) -> Result<T> {
        let x = x.validate()?;
        let codes = self.encode_form(Dense::from(x))?;
        Ok(Decoder::residuals(self.decoder(), codes.mean(), x.values()).norm_squared())
    }
}

impl<'a, T: Real> SquaredErrorOf<T, SparseObservations<'a, T>> for LinearAutoencoder<T> {
    /// The expanded square Σ‖x_i − b‖² − 2 Σ z_iᵗWᵗ(x_i − b) + Σ‖Wz_i‖², with the bias b of the
    /// decoder: no dense d×n table is formed.
    fn squared_error_form(&self, x: SparseObservations<'a, T>) -> Result<T> {
        let codes = self.wide_codes(x)?;
        let decoder = self.decoder_weights().map(|v| v.as_f64());
        let bias = self.decoder().bias().map(|v| v.as_f64());
        let (along, _) = x.projections(&decoder, &bias);
        // WᵗW is k×k: Σ‖Wz‖² = Σ zᵗWᵗWz needs no product with all d variables.
        let inner = matrix_product(&(decoder.transpose() * &decoder), &codes);
        let error = x.squared_deviations(&bias) - 2.0 * codes.dot(&along) + codes.dot(&inner);
        // The difference may round to below 0 for data in the span of the decoder.
        Ok(T::of(error.max(0.0)))
    }
}

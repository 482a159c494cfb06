//! The closed forms beyond one matrix in memory: streams, weights, files in blocks; and which way
//! was taken.

use super::Step;
use super::linear_autoencoder::{LinearAutoencoder, LinearAutoencoderBuilder};
use super::ppca::{Ppca, PpcaBuilder};
use crate::data::{Moments, Source};
use crate::fit::Solved;
use crate::fit::closed_form::Principal;
use crate::inference::OutOfSample;
use crate::model::{Decoder, GenerativeModel, MarginalLikelihood};
use crate::posterior::Posterior;
use crate::{IntoObservations, Real, Result};
use nalgebra::{DMatrixView, DVector};

macro_rules! closed_forms {
    ($builder:ident, $model:ident) => {
        impl<T: Real> $builder<T> {
            fn solved(&self, principal: Principal) -> Result<Solved<$model<T>>> {
                let route = principal.route;
                Ok(Solved { model: self.assemble_principal(principal)?, route })
            }

            /// [`Self::fit`], and [which way](crate::fit::Route) it took.
            ///
            #[doc = concat!(
                "```\nuse elbo::{", stringify!($model), ", linalg::{PcaAlgorithm, Solver}};\n",
                "let x = nalgebra::DMatrix::from_fn(5, 40, |j, i| ((j + 1) as f64 * i as f64).sin() * (5 - j) as f64);\n",
                "let solver = Solver::Randomized { oversampling: 2, power_iterations: 8 };\n",
                "let found = ", stringify!($model), "::<f64>::builder(2).solver(solver).solve(&x)?;\n",
                "assert_eq!(found.route.solver, PcaAlgorithm::Randomized);\n",
                "assert!(found.route.accuracy.is_some_and(|share| share < 1e-3));\n",
                "# Ok::<(), elbo::Error>(())\n```"
            )]
            ///
            /// # Errors
            /// As [`Self::fit`].
            pub fn solve<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Solved<$model<T>>> {
                self.check_settings()?;
                self.solved(Principal::of(x, self.mean, self.latent_dim, self.solver)?)
            }

            /// The same fit from the [moments](Moments) of data that need no longer be there.
            ///
            #[doc = concat!(
                "```\nuse elbo::{", stringify!($model), ", data::Moments};\n",
                "let x = nalgebra::DMatrix::from_fn(5, 40, |j, i| ((j + 1) as f64 * i as f64).sin() * (5 - j) as f64);\n",
                "let mut moments = Moments::new(5);\n",
                "for i in 0..40 { moments.update(x.columns(i, 1))?; }\n",
                "let (one, all) = (", stringify!($model), "::<f64>::builder(2).fit_moments(&moments)?, ", stringify!($model), "::fit(2, &x)?);\n",
                "assert!((one.reconstruct(&x)? - all.reconstruct(&x)?).norm() < 1e-12);\n",
                "# Ok::<(), elbo::Error>(())\n```"
            )]
            ///
            /// # Errors
            /// As [`Self::fit`].
            pub fn fit_moments(&self, moments: &Moments) -> Result<$model<T>> {
                self.check_settings()?;
                let moment = moments.scatter_factor(self.mean)?;
                self.assemble_principal(Principal::of_root(&moment, moments.weight(), self.latent_dim, self.solver)?)
            }

            /// The same fit with a weight w_i ≥ 0 for each observation: mean and covariance are
            /// weighted, with divisor Σw; a weight of 2 is the same as having the observation
            /// twice.
            ///
            #[doc = concat!(
                "```\nuse elbo::", stringify!($model), ";\n",
                "let x = nalgebra::dmatrix![1.0, 2.0, 4.0, 7.0; 0.0, 1.0, 1.0, 2.0; 3.0, 0.0, 1.0, 1.0];\n",
                "let twice = x.select_columns(&[0, 1, 2, 3, 3]);\n",
                "let (a, b) = (", stringify!($model), "::<f64>::builder(1).fit_weighted(&x, &[1.0, 1.0, 1.0, 2.0])?, ", stringify!($model), "::fit(1, &twice)?);\n",
                "assert!((a.reconstruct(&x)? - b.reconstruct(&x)?).norm() < 1e-12);\n",
                "# Ok::<(), elbo::Error>(())\n```"
            )]
            ///
            /// # Errors
            /// As [`Self::fit`], and those of [`Moments::update_weighted`].
            pub fn fit_weighted<'a>(&self, x: impl IntoObservations<'a, T>, weights: &[T]) -> Result<$model<T>> {
                let x = x.into_observations()?;
                let mut moments = Moments::new(x.data_dim());
                moments.update_weighted(x, weights)?;
                self.fit_moments(&moments)
            }

            /// The same fit of data that are read in blocks, and [how](crate::fit::Route) it was
            /// found.
            ///
            /// Up to 2000 variables it takes one pass, and O(d² + block) memory; beyond, or when
            /// [`Solver::Krylov`](crate::linalg::Solver::Krylov) is asked for, a pass for each
            /// product and O(dk + block). [`Solver::Randomized`](crate::linalg::Solver::Randomized)
            /// takes as many passes as its power iterations and 4 more.
            ///
            /// # Errors
            /// As [`Self::fit`], and those of reading.
            pub fn fit_source<S: Source<T> + ?Sized>(&self, source: &mut S) -> Result<Solved<$model<T>>, S::Error> {
                self.check_settings()?;
                Ok(self.solved(Principal::of_source(source, self.mean, self.latent_dim, self.solver)?)?)
            }
        }
    };
}
closed_forms!(PpcaBuilder, Ppca);
closed_forms!(LinearAutoencoderBuilder, LinearAutoencoder);

impl<T: Real, D: Decoder<T>, L, I> Step<T, D, L, I> {
    /// log p(x_i) in nats of each observation of a source, read block by block.
    ///
    /// # Errors
    /// Those of reading, and [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn log_likelihood_source<S: Source<T> + ?Sized>(
        &self,
        source: &mut S,
    ) -> Result<DVector<T>, S::Error>
    where
        GenerativeModel<D, L>: MarginalLikelihood<T>,
    {
        let mut values = Vec::new();
        source.pass(&mut |x| {
            values.extend_from_slice(self.model.log_likelihood(x)?.as_slice());
            Ok(())
        })?;
        Ok(DVector::from_vec(values))
    }

    /// The codes of a source, k×b for each block of b observations, shown to `visit` in their
    /// order: what does not fit in memory need not be kept.
    ///
    /// ```
    /// use elbo::{IntoObservations, Ppca};
    /// let x = nalgebra::DMatrix::from_fn(5, 40, |j, i| {
    ///     ((j + 1) as f64 * i as f64).sin() * (5 - j) as f64
    /// });
    /// let model = Ppca::<f64>::fit(2, &x)?;
    /// let mut codes = 0;
    /// model.transform_source(&mut (&x).into_observations()?, |block| {
    ///     codes += block.ncols();
    ///     Ok(())
    /// })?;
    /// assert_eq!(codes, 40);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of reading and of `visit`, and [`Error::DimensionMismatch`](crate::Error::Dimension).
    pub fn transform_source<S: Source<T> + ?Sized>(
        &self,
        source: &mut S,
        mut visit: impl FnMut(DMatrixView<'_, T>) -> Result<()>,
    ) -> Result<(), S::Error>
    where
        I: OutOfSample<T, GenerativeModel<D, L>>,
    {
        source.pass(&mut |x| {
            x.expect_dim(self.data_dim())?;
            visit(self.inference.infer(&self.model, x)?.mean())
        })
    }
}

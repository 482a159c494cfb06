//! What a model with a linear decoder and another likelihood offers.

use super::GeneralizedPpca;
use crate::data::Data;
use crate::fit::generalized::ascent::Settings;
use crate::fit::generalized::{
    Shape, Table, Theta, check_table, expect_shape, expected_log_likelihood, posterior,
};
use crate::fit::{PredictorFamily, PredictorForm};
use crate::inference::PerPoint;
use crate::likelihood::{Independent, Univariate};
use crate::map::{Linear, Parameters};
use crate::model::{ExpectedLogLikelihood, GenerativeModel};
use crate::objective::ElboTerms;
use crate::posterior::GaussianPosterior;
use crate::{Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector, DVectorView};

/// Settings of the ascent of a single q_i.
pub(super) const OF_ONE: Settings = Settings { tolerance: 1e-12, max_iterations: 500 };

/// θ of a model in double precision.
pub(super) fn wide<T: Real, U: Univariate<T> + Univariate<f64>>(
    model: &GenerativeModel<Linear<T>, Independent<T, U>>,
) -> Result<(Independent<f64, U>, Theta)> {
    let d = model.likelihood.variables();
    let distributions = (0..d).map(|j| model.likelihood.distribution(j).clone()).collect();
    let mut likelihood = Independent::<f64, U>::of_each(distributions)?;
    let xi: Vec<f64> = model.likelihood.parameters().iter().map(|v| v.as_f64()).collect();
    likelihood.parameters_mut().copy_from_slice(&xi);
    let theta = Theta {
        loadings: model.decoder.weights().map(|v| v.as_f64()),
        intercepts: model.decoder.bias().map(|v| v.as_f64()),
        xi,
    };
    Ok((likelihood, theta))
}

impl<T: Real, U: Univariate<T> + Univariate<f64>, Q: PredictorFamily<T>> GeneralizedPpca<T, U, Q> {
    /// The loadings W of the linear predictors, d×k.
    ///
    /// Their rotation is fixed by a rule: for isotropic and full covariances of q WᵗW is diagonal,
    /// in falling order; for diagonal ones J determines the rotation, and the columns are in the
    /// order of falling length. The first large entry of each column is positive.
    pub fn predictor_loadings(&self) -> DMatrixView<'_, T> {
        self.generative.decoder.weights()
    }

    /// The intercepts b of the linear predictors (d).
    pub fn intercepts(&self) -> DVectorView<'_, T> {
        self.generative.decoder.bias()
    }

    /// The same θ with the q_i of other observations, such as new ones: each q_i maximises J_i at
    /// this θ, by an ascent of its own (not by a map, as an encoder would). The codes of the result
    /// are those of `x`.
    ///
    /// New observations bring their own offsets; missing entries are left out.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch),
    /// [`Error::OutsideSupport`](crate::Error::OutsideSupport), and those of the data's constructor.
    ///
    /// ```
    /// use elbo::{likelihood::Poisson, steps::GeneralizedPpca};
    /// use nalgebra::dmatrix;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = dmatrix![
    ///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0;
    ///     2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
    /// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
    /// let model = builder.fit(&counts, &mut StdRng::seed_from_u64(0))?.model;
    /// let new = dmatrix![2.0, 8.0; 6.0, 1.0; 3.0, 2.0];
    /// let of_new = model.with_observations(&new)?;
    /// assert_eq!(of_new.codes().shape(), (1, 2));
    /// assert_eq!(of_new.elbo(&new)?.values().len(), 2);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn with_observations<X: Data<T>>(&self, x: X) -> Result<Self>
    where
        X::Form: PredictorForm<T>,
    {
        let form = x.into_form()?;
        self.check(&form)?;
        let n = form.shape().1;
        let model = Self::from_fitting_parts(
            self.generative.clone(),
            PerPoint::new(Q::at_prior(self.latent_dim(), n)),
        );
        model.with_all_ascended(&Table::new(form)?)
    }

    /// Returns an error unless the data fit the model and its likelihood.
    pub(super) fn check<F: PredictorForm<T>>(&self, form: &F) -> Result<()> {
        form.validate()?;
        expect_shape(form, self.data_dim())?;
        let likelihood = &self.generative.likelihood;
        let checked = check_table(form, |j, value| {
            let distribution = likelihood.distribution(j);
            let contains = <U as Univariate<f64>>::contains(distribution, value);
            (!contains).then(|| <U as Univariate<f64>>::support(distribution))
        });
        match checked {
            // New rows need not have an entry in every column.
            Err(crate::Error::NeverObserved { .. }) => Ok(()),
            checked => checked,
        }
    }

    /// The model with another φ (rows of the family × n).
    pub(super) fn with_table(self, phi: DMatrix<f64>) -> Result<Self> {
        let q = Q::from_parameters(self.latent_dim(), phi.map(T::of))?;
        Ok(Self::from_fitting_parts(self.generative, PerPoint::new(q)))
    }

    /// The model with the q_i of these observations of a table by ascents.
    pub(super) fn with_ascended(
        mut self,
        table: &Table<'_>,
        observations: &[usize],
    ) -> Result<Self> {
        if observations.is_empty() {
            return Ok(self);
        }
        let (likelihood, theta) = wide(&self.generative)?;
        let found = posterior(table, observations, &likelihood, &theta, Q::SHAPE, OF_ONE);
        let phi = self.inference.posterior.parameters_mut();
        for (column, &i) in found.column_iter().zip(observations) {
            phi.set_column(i, &column.map(T::of));
        }
        Ok(self)
    }

    /// The two terms of the ELBO, one entry an observation of the table, for data of any form:
    /// incomplete or sparse, with offsets. Weights do not enter: the values are those of the single
    /// observations.
    ///
    /// # Errors
    /// As [`Self::with_observations`]; a table serves only the observations that it was fitted to.
    pub fn elbo_of<X: Data<T>>(&self, x: X) -> Result<ElboTerms<T>>
    where
        X::Form: PredictorForm<T>,
    {
        self.elbo_of_form(x.into_form()?)
    }

    pub(super) fn elbo_of_form<F: PredictorForm<T>>(&self, form: F) -> Result<ElboTerms<T>> {
        self.check(&form)?;
        self.generative.elbo_terms(form, &self.inference.posterior)
    }
}

impl<T: Real, U: Univariate<T> + Univariate<f64>> GenerativeModel<Linear<T>, Independent<T, U>> {
    fn elbo_terms<F: PredictorForm<T>, Q: GaussianPosterior<T>>(
        &self,
        form: F,
        q: &Q,
    ) -> Result<ElboTerms<T>> {
        let reconstruction = self.expected(form, q)?;
        Ok(ElboTerms { reconstruction, negative_kl: -q.kl_to_prior() })
    }

    /// E_q ln p(x_i|z_i) of each observation, for any Gaussian q.
    fn expected<F: PredictorForm<T>, Q: GaussianPosterior<T>>(
        &self,
        form: F,
        q: &Q,
    ) -> Result<DVector<T>> {
        let (d, n) = form.shape();
        crate::data::expect("variables (rows of x)", self.likelihood.variables(), d)?;
        crate::data::expect("observations of q", n, q.len())?;
        crate::data::expect(
            "latent dimensions of q",
            self.decoder.weights().ncols(),
            q.latent_dim(),
        )?;
        let (likelihood, theta) = wide(self)?;
        let k = q.latent_dim();
        let mut phi = DMatrix::zeros(Shape::Full.rows(k), n);
        for i in 0..n {
            let covariance = q.covariance(i).map(|v| v.as_f64());
            let factor = covariance
                .cholesky()
                .ok_or(crate::Error::NotPositiveDefinite { size: k })?
                .unpack();
            let mut phi = phi.column_mut(i);
            phi.rows_mut(0, k).copy_from(&q.mean().column(i).map(|v| v.as_f64()));
            Shape::Full.write_factor(&factor, phi.as_mut_slice());
        }
        let table = Table::unmerged(form)?;
        let values = expected_log_likelihood(&table, &likelihood, &theta, (Shape::Full, &phi));
        Ok(DVector::from_iterator(n, values.into_iter().map(T::of)))
    }
}

/// The expected log-likelihood by quadrature, to 1e-10, where a variable has no closed form.
///
/// One implementation for each scalar type: for a generic one the compiler cannot exclude that
/// another crate makes `Independent` a Gaussian noise of a scalar of its own.
macro_rules! expected_log_likelihood {
    ($scalar:ty) => {
        impl<U, Q> ExpectedLogLikelihood<$scalar, Q>
            for GenerativeModel<Linear<$scalar>, Independent<$scalar, U>>
        where
            U: Univariate<$scalar> + Univariate<f64>,
            Q: GaussianPosterior<$scalar>,
        {
            fn expected_log_likelihood(
                &self,
                x: Observations<'_, $scalar>,
                q: &Q,
            ) -> Result<DVector<$scalar>> {
                self.expected(crate::data::Dense::from(x), q)
            }
        }
    };
}
expected_log_likelihood!(f32);
expected_log_likelihood!(f64);

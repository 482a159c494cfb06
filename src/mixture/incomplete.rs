//! Mixtures of probabilistic PCA for incomplete data.

use super::fit::{Data, Mixture, MixtureOfPpcaBuilder, Steps, weighing};
use super::{MixtureOfPpca, normalize};
use crate::data::{
    Centering, Data as _, IncompleteObservations, IntoIncompleteObservations, Weighted,
};
use crate::fit::{FitData, Fitted, MissingDataEm, Observed, Observer, WeightedEm};
use crate::inference::Exact;
use crate::steps::LogLikelihoodOf;
use crate::{Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl<T: Real> MixtureOfPpcaBuilder<T> {
    /// Fits a mixture to the given columns, with weights that add up to their number.
    fn fit_some(
        &self,
        x: IncompleteObservations<'_, T>,
        columns: Vec<usize>,
        weights: Vec<f64>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        self.check(x.data_dim(), columns.len())?;
        // A copy in double precision, in which the fit runs.
        let mut table = DMatrix::zeros(x.data_dim(), columns.len());
        for (&column, out) in
            columns.iter().zip(table.as_mut_slice().chunks_exact_mut(x.data_dim()))
        {
            x.column_into(column, out);
        }
        let x = IncompleteObservations::new(table.as_view())?;
        let observed = Observed::of(x, Some(&weights), Centering::Mean)?;
        observed.check_varies()?;
        let variance = observed.variances.mean();
        // k-means++ needs a complete table: the data are imputed by a single probabilistic PCA. Its
        // likelihood may be unbounded as well, so that it has the noise floor of the mixture.
        let roughly = MissingDataEm { max_iterations: 100, tolerance: 1e-3, ..Default::default() };
        let one = Ppca::<f64>::builder(self.latent_dim)
            .noise_floor(self.relative_floor)
            .missing_data_fitter(roughly)
            .fit(x.weighted(&weights), rng)?
            .model;
        let data = Data::new(one.impute(x)?, weights, self, variance);
        let mut steps = Incomplete { x, em: WeightedEm::new(&observed, self.latent_dim) };
        self.best_of(&data, &mut steps, rng, observer)
    }
}

/// Maximises the likelihood of the observed entries, exact for values missing at random. Each
/// initialisation is k-means++ on the table imputed by a single probabilistic PCA.
impl<'a, T: Real> FitData<IncompleteObservations<'a, T>> for MixtureOfPpcaBuilder<T> {
    type Model = MixtureOfPpca<T>;

    fn fit_form(
        &self,
        x: IncompleteObservations<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        self.fit_some(x, (0..x.len()).collect(), vec![1.0; x.len()], rng, observer)
    }
}

impl<'a, T: Real> FitData<Weighted<'a, IncompleteObservations<'a, T>, T>>
    for MixtureOfPpcaBuilder<T>
{
    type Model = MixtureOfPpca<T>;

    fn fit_form(
        &self,
        x: Weighted<'a, IncompleteObservations<'a, T>, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        let (columns, weights) = weighing(x.weights, x.data.len())?;
        self.fit_some(x.data, columns, weights, rng, observer)
    }
}

/// Number of iterations of each restart, of which the best one goes on.
// Of 1,000 iterations by default: most restarts that converge have done so (fits of 60×30 took 15 to
// 180 iterations), and those that creep are compared at a fifth of the time.
const TRIAL: usize = 200;

/// EM on the observed entries: the M-step of a component is one EM iteration of its own
/// (generalised EM).
struct Incomplete<'x> {
    x: IncompleteObservations<'x, f64>,
    em: WeightedEm<'x, f64>,
}

impl Steps for Incomplete<'_> {
    fn iterations_of_a_trial(&self) -> usize {
        TRIAL
    }

    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>> {
        model.log_joint_by(self.x.len(), |component| component.log_likelihood_form(self.x))
    }

    fn improve(&mut self, before: &Ppca<f64>, weights: &[f64], _size: f64) -> Result<Ppca<f64>> {
        let generative = self.em.step(before.generative_model(), weights)?;
        Ok(Ppca::from_fitting_parts(generative, Exact))
    }
}

impl<T: Real> MixtureOfPpca<T> {
    /// The completed table, d×n: each missing entry is replaced by its mean given the observed
    /// entries of its observation; observed entries are kept bit for bit.
    ///
    /// ```math
    /// E[x_{ij}|x_{i,o}] = \sum_c p(c|x_{i,o})\, E[x_{ij}|x_{i,o}, c]
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`], and
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch).
    pub fn impute<'a>(&self, x: impl IntoIncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_incomplete()?;
        let shares = self.responsibilities(x)?;
        let mut sum = DMatrix::zeros(x.data_dim(), x.len());
        for (c, component) in self.components.iter().enumerate() {
            let completed = component.impute(x)?;
            for ((mut sum, completed), &share) in
                sum.column_iter_mut().zip(completed.column_iter()).zip(shares.row(c).iter())
            {
                sum.axpy(share, &completed, T::one());
            }
        }
        // The weighted sum of equal values is equal up to rounding only: copy the observed entries.
        for i in 0..x.len() {
            for j in 0..x.data_dim() {
                if let Some(value) = x.get(j, i) {
                    sum[(j, i)] = value;
                }
            }
        }
        Ok(sum)
    }
}

impl<'a, T: Real> LogLikelihoodOf<T, IncompleteObservations<'a, T>> for MixtureOfPpca<T> {
    fn log_likelihood_form(&self, x: IncompleteObservations<'a, T>) -> Result<DVector<T>> {
        Ok(normalize(&mut super::JointOf::log_joint_form(self, x)?))
    }
}

impl<'a, T: Real> super::JointOf<T, IncompleteObservations<'a, T>> for MixtureOfPpca<T> {
    fn log_joint_form(&self, x: IncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        self.log_joint_by(x.len(), |component| component.log_likelihood_form(x))
    }
}

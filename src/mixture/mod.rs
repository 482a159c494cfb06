//! Mixtures of probabilistic PCA: several linear-Gaussian components, each with its own mean,
//! loadings and noise variance.

mod fit;
mod incomplete;
mod start;

pub use fit::MixtureOfPpcaBuilder;

use crate::data::{Data, Dense};
use crate::linalg::matrix_product;
use crate::posterior::{Posterior, SharedCovariance};
use crate::steps::LogLikelihoodOf;
use crate::{Error, IntoObservations, Observations, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, RngExt};

/// Mixture of probabilistic PCA (Tipping & Bishop 1999).
///
/// ```math
/// p(x) = \sum_c \pi_c\, N(x;\, \mu_c,\, W_cW_c^\top + \sigma_c^2 I)
/// ```
///
/// Each component is a [`Ppca`] with all its methods. The mixture takes complete, weighted and
/// incomplete data.
///
/// ```
/// use elbo::mixture::MixtureOfPpca;
/// use rand::{SeedableRng, rngs::StdRng};
/// // Two lines in the plane: y = x, and y = 20 − x.
/// let x = nalgebra::dmatrix![
///     0.0_f64, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0;
///     0.1, 0.9, 2.1, 2.9, 4.1, 4.9, 20.1, 18.9, 18.1, 16.9, 16.1, 14.9];
/// let mixture = MixtureOfPpca::builder(2, 1).fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// let labels = mixture.assign(&x)?;
/// assert!(labels[..6].iter().all(|&c| c == labels[0]));
/// assert!(labels[6..].iter().all(|&c| c != labels[0]));
/// assert!((mixture.weights()[0] - 0.5).abs() < 1e-6);
/// assert_eq!(mixture.components()[0].transform(&x)?.shape(), (1, 12));
/// # Ok::<(), elbo::Error>(())
/// ```
///
/// M. Tipping and C. Bishop, [Mixtures of probabilistic principal component
/// analyzers](https://doi.org/10.1162/089976699300016728), Neural Computation 11, 1999.
#[derive(Debug, Clone, PartialEq)]
pub struct MixtureOfPpca<T: Real = f64> {
    weights: DVector<T>,
    components: Vec<Ppca<T>>,
}

impl<T: Real> MixtureOfPpca<T> {
    /// Returns a builder with a number of components, each with k latent dimensions.
    pub fn builder(components: usize, latent_dim: usize) -> MixtureOfPpcaBuilder<T> {
        MixtureOfPpcaBuilder::new(components, latent_dim)
    }

    /// Builds a mixture from its weights and components, which may differ in latent dimension.
    ///
    /// # Errors
    /// [`Error::Empty`] without components; [`Error::DimensionMismatch`] when their number, or
    /// their data's dimension, disagrees; [`Error::InvalidParameter`] for weights that are negative
    /// or do not add up to 1.
    pub fn from_components(weights: DVector<T>, components: Vec<Ppca<T>>) -> Result<Self> {
        let Some(first) = components.first() else {
            return Err(Error::Empty { rows: 0, columns: 0 });
        };
        crate::data::expect("weights of the components", components.len(), weights.len())?;
        for component in &components {
            crate::data::expect(
                "variables of a component",
                first.data_dim(),
                component.data_dim(),
            )?;
        }
        if let Some(&weight) = weights.iter().find(|w| !(**w >= T::zero() && w.is_finite())) {
            return Err(Error::InvalidParameter {
                name: "a weight",
                value: weight.as_f64(),
                must: "at least 0 and finite",
            });
        }
        // Weights that were normalised in precision `T` add up to 1 within rounding only.
        let sum = weights.iter().map(|w| w.as_f64()).sum::<f64>();
        if (sum - 1.0).abs() > 1e3 * T::EPSILON.as_f64() {
            return Err(Error::InvalidParameter {
                name: "the sum of the weights",
                value: sum,
                must: "1",
            });
        }
        Ok(Self { weights, components })
    }

    /// The mixture weights π.
    pub fn weights(&self) -> &DVector<T> {
        &self.weights
    }

    /// The components.
    pub fn components(&self) -> &[Ppca<T>] {
        &self.components
    }

    /// The dimension d of an observation.
    pub fn data_dim(&self) -> usize {
        self.components[0].data_dim()
    }

    /// The joint log-densities ln π_c + log p(x_i|c), components×n.
    pub(crate) fn log_joint(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        self.log_joint_by(x.len(), |component| component.log_likelihood(x))
    }

    /// The joint log-densities ln π_c + log p(x_i|c), components×n, from a function that returns
    /// the n log-densities under one component.
    pub(crate) fn log_joint_by(
        &self,
        n: usize,
        densities: impl Fn(&Ppca<T>) -> Result<DVector<T>>,
    ) -> Result<DMatrix<T>> {
        let mut joint = DMatrix::zeros(self.components.len(), n);
        for (c, component) in self.components.iter().enumerate() {
            let weight = self.weights[c];
            // A finite number in place of ln 0 = −∞, with which `normalize` would compute −∞ − (−∞)
            // = NaN; its square root leaves room for the log-density.
            let log_weight = if weight > T::zero() { weight.ln() } else { -T::MAX.sqrt() };
            let densities = densities(component)?;
            joint
                .row_mut(c)
                .iter_mut()
                .zip(densities.iter())
                .for_each(|(j, &density)| *j = log_weight + density);
        }
        Ok(joint)
    }

    /// The log-likelihood log p(x_i) in nats, one entry per observation; for incomplete data that
    /// of the observed entries (0 for an observation without any).
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn log_likelihood<X: Data<T>>(&self, x: X) -> Result<DVector<T>>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        self.log_likelihood_form(x.into_form()?)
    }

    /// The mean log-likelihood in nats per observation.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn score<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let values = self.log_likelihood(x)?;
        Ok(values.iter().map(|v| v.as_f64()).sum::<f64>() / values.len() as f64)
    }

    /// The number of free parameters: those of the components, and all weights but one, as they add
    /// up to 1.
    pub fn parameter_count(&self) -> usize {
        let components: usize = self.components.iter().map(Ppca::parameter_count).sum();
        components + self.components.len() - 1
    }

    /// The Bayesian information criterion −2 log p(X) + m ln n with m =
    /// [`parameter_count`](Self::parameter_count): smaller is better.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn bic<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let values = self.log_likelihood(x)?;
        let total: f64 = values.iter().map(|v| v.as_f64()).sum();
        Ok(self.parameter_count() as f64 * (values.len() as f64).ln() - 2.0 * total)
    }

    /// The Akaike information criterion −2 log p(X) + 2m with m =
    /// [`parameter_count`](Self::parameter_count): smaller is better.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn aic<X: Data<T>>(&self, x: X) -> Result<f64>
    where
        Self: LogLikelihoodOf<T, X::Form>,
    {
        let total: f64 = self.log_likelihood(x)?.iter().map(|v| v.as_f64()).sum();
        Ok(2.0 * self.parameter_count() as f64 - 2.0 * total)
    }

    /// The mean of x under the mixture, Σ_c π_c μ_c (d).
    pub fn mean(&self) -> DVector<T> {
        let mut mean = DVector::zeros(self.data_dim());
        for (component, &weight) in self.components.iter().zip(self.weights.iter()) {
            mean.axpy(weight, &component.mean(), T::one());
        }
        mean
    }

    /// The covariance of x under the mixture, Σ_c π_c (C_c + (μ_c − μ)(μ_c − μ)ᵗ), d×d.
    pub fn covariance(&self) -> DMatrix<T> {
        let (d, mean) = (self.data_dim(), self.mean());
        let mut covariance = DMatrix::zeros(d, d);
        for (component, &weight) in self.components.iter().zip(self.weights.iter()) {
            // Law of total covariance: within the component, and between the components.
            let shift = component.mean() - &mean;
            covariance += (component.covariance() + &shift * shift.transpose()) * weight;
        }
        covariance
    }

    /// The responsibilities p(c|x_i), components×n; each column adds up to 1, and is π for an
    /// observation without an observed entry.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn responsibilities<X: Data<T>>(&self, x: X) -> Result<DMatrix<T>>
    where
        Self: JointOf<T, X::Form>,
    {
        let mut joint = self.log_joint_form(x.into_form()?)?;
        normalize(&mut joint);
        Ok(joint)
    }

    /// The index of the component with the largest responsibility for each observation.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn assign<X: Data<T>>(&self, x: X) -> Result<Vec<usize>>
    where
        Self: JointOf<T, X::Form>,
    {
        Ok(self.responsibilities(x)?.column_iter().map(|column| column.imax()).collect())
    }

    /// The posteriors p(z|x_i, c) of all observations, one item per component c.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn encode<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Vec<SharedCovariance<T>>> {
        let x = x.into_observations()?;
        self.components.iter().map(|component| component.encode(x)).collect()
    }

    /// The codes (posterior means, k×n) of all observations, one matrix per component.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn transform<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Vec<DMatrix<T>>> {
        Ok(self.encode(x)?.into_iter().map(|posterior| posterior.mean().into_owned()).collect())
    }

    /// The reconstruction of each observation, d×n: the mean of the components' reconstructions,
    /// weighted by the responsibilities.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn reconstruct<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_observations()?;
        let responsibilities = self.responsibilities(x)?;
        let mut sum = DMatrix::zeros(x.data_dim(), x.len());
        for (c, component) in self.components.iter().enumerate() {
            // One component at a time: d×n memory instead of components·d×n.
            let reconstruction = component.reconstruct(x)?;
            for ((mut sum, part), &share) in sum
                .column_iter_mut()
                .zip(reconstruction.column_iter())
                .zip(responsibilities.row(c).iter())
            {
                sum.axpy(share, &part, T::one());
            }
        }
        Ok(sum)
    }

    /// n samples of x from the mixture, d×n.
    pub fn sample<R: Rng + ?Sized>(&self, n: usize, rng: &mut R) -> DMatrix<T> {
        self.sample_with_labels(n, rng).1
    }

    /// n samples of x from the mixture (d×n), after the index of the component of each.
    pub fn sample_with_labels<R: Rng + ?Sized>(
        &self,
        n: usize,
        mut rng: &mut R,
    ) -> (Vec<usize>, DMatrix<T>) {
        let mut labels = Vec::with_capacity(n);
        let mut x = DMatrix::zeros(self.data_dim(), n);
        for mut column in x.column_iter_mut() {
            // Ancestral sampling: the component, then z, then x.
            let c = draw(self.weights.iter().map(|w| w.as_f64()), &mut rng);
            let component = &self.components[c];
            let z =
                DMatrix::from_fn(component.latent_dim(), 1, |_, _| T::standard_normal(&mut rng));
            let deviation = component.noise_variance().sqrt();
            let plane = matrix_product(component.loadings(), &z);
            for ((out, &on_plane), &mean) in
                column.iter_mut().zip(plane.iter()).zip(component.mean().iter())
            {
                *out = mean + on_plane + deviation * T::standard_normal(&mut rng);
            }
            labels.push(c);
        }
        (labels, x)
    }
}

/// Mixtures whose joint log-densities of components and data of form `F` have a closed form.
#[doc(hidden)] // bound of methods
pub trait JointOf<T: Real, F> {
    /// The joint log-densities ln π_c + log p(x_i|c), components×n.
    ///
    /// # Errors
    /// Those of [`MixtureOfPpca::responsibilities`].
    fn log_joint_form(&self, data: F) -> Result<DMatrix<T>>;
}

impl<'a, T: Real> JointOf<T, Dense<'a, T>> for MixtureOfPpca<T> {
    fn log_joint_form(&self, x: Dense<'a, T>) -> Result<DMatrix<T>> {
        self.log_joint(x.validate()?)
    }
}

impl<'a, T: Real> LogLikelihoodOf<T, Dense<'a, T>> for MixtureOfPpca<T> {
    fn log_likelihood_form(&self, x: Dense<'a, T>) -> Result<DVector<T>> {
        Ok(normalize(&mut self.log_joint(x.validate()?)?))
    }
}

impl<T: Real> std::fmt::Display for MixtureOfPpca<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (d, count) = (self.data_dim(), self.components.len());
        write!(f, "mixture of probabilistic PCA: {d} variables, {count} components")?;
        for (component, weight) in self.components.iter().zip(self.weights.iter()) {
            let (k, noise) = (component.latent_dim(), component.noise_variance().as_f64());
            write!(f, "\nweight {:.4}: {k} latent dimensions, σ² = {noise:.6}", weight.as_f64())?;
        }
        Ok(())
    }
}

/// Samples an index with probability proportional to its weight.
pub(crate) fn draw(weights: impl Iterator<Item = f64> + Clone, rng: &mut dyn Rng) -> usize {
    // Inversion of the cumulative sum. Rounding may leave a remainder after the last weight: then
    // the last index with a positive weight is returned.
    let mut left = rng.random::<f64>() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (index, weight) in weights.enumerate() {
        if weight > 0.0 {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// Normalises each column of log-densities to probabilities, and returns the logarithm of the sum
/// of the densities of each column (log-sum-exp).
pub(crate) fn normalize<T: Real>(log_joint: &mut DMatrix<T>) -> DVector<T> {
    let of_column = |mut column: nalgebra::DVectorViewMut<'_, T>| {
        // The largest term becomes exp(0) = 1: no overflow, and a sum of at least 1.
        let largest = column.max();
        let mut sum = T::zero();
        for value in column.iter_mut() {
            // Flushed: a subnormal probability would slow every product with it.
            *value = (*value - largest).exp().flushed();
            sum += *value;
        }
        column /= sum;
        largest + sum.ln()
    };
    let sums: Vec<T> = log_joint.column_iter_mut().map(of_column).collect();
    DVector::from_vec(sums)
}

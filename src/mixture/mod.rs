//! Mixtures of probabilistic principal component analysers: several planes, each with its own mean
//! and noise.
//!
//! p(x) = Σ_c π_c N(x; μ_c, W_cW_cᵗ + σ_c²I). Each component is a [`Ppca`] with all its verbs; the
//! mixture adds who is responsible for what.

mod fit;
mod incomplete;
mod start;

pub use fit::{FittedMixture, MixtureOfPpcaBuilder};

use crate::linalg::matrix_product;
use crate::posterior::{Posterior, SharedCovariance};
use crate::{Error, IntoObservations, Observations, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, RngExt};

/// A mixture of probabilistic principal component analysers (Tipping & Bishop 1999).
///
/// ```
/// use elbo::mixture::MixtureOfPpca;
/// use nalgebra::DMatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// // Two lines in space that cross nowhere.
/// let x = DMatrix::from_fn(3, 200, |j, i| {
///     let (t, e) = ((i as f64 * 0.37).sin(), 0.05 * ((7 * i + 3 * j) as f64).sin());
///     if i % 2 == 0 { [t, t, 0.0][j] + e } else { [5.0, t, -t][j] + e }
/// });
/// let fit = MixtureOfPpca::builder(2, 1).fit(&x, &mut StdRng::seed_from_u64(1))?;
/// let labels = fit.assign(&x)?;
/// assert!((0..200).all(|i| labels[i] == labels[i % 2]) && labels[0] != labels[1]);
/// assert!((fit.weights()[0] - 0.5).abs() < 1e-6);
/// assert_eq!(fit.components()[0].transform(&x)?.shape(), (1, 200)); // each component has the verbs of `Ppca`
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
    /// What is to be fitted: a number of components, each with k latent dimensions.
    pub fn builder(components: usize, latent_dim: usize) -> MixtureOfPpcaBuilder<T> {
        MixtureOfPpcaBuilder::new(components, latent_dim)
    }

    /// A mixture from its parts; the components may differ in their latent dimensions.
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

    /// π, the share of each component.
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

    /// ln π_c + log p(x_i|c), components×n.
    pub(crate) fn log_joint(&self, x: Observations<'_, T>) -> Result<DMatrix<T>> {
        self.log_joint_by(x.len(), |component| component.log_likelihood(x))
    }

    /// The same with the log-densities of n observations under a component from a function.
    pub(crate) fn log_joint_by(
        &self,
        n: usize,
        densities: impl Fn(&Ppca<T>) -> Result<DVector<T>>,
    ) -> Result<DMatrix<T>> {
        let mut joint = DMatrix::zeros(self.components.len(), n);
        for (c, component) in self.components.iter().enumerate() {
            let weight = self.weights[c];
            // A component without weight takes no part; its logarithm would be −∞.
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

    /// log p(x_i) in nats, one entry an observation.
    ///
    /// # Errors
    /// Those of [`Observations::new`], and [`Error::DimensionMismatch`].
    pub fn log_likelihood<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DVector<T>> {
        Ok(normalize(&mut self.log_joint(x.into_observations()?)?))
    }

    /// p(c|x_i), components×n: each column adds up to 1.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn responsibilities<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let mut joint = self.log_joint(x.into_observations()?)?;
        normalize(&mut joint);
        Ok(joint)
    }

    /// The most responsible component of each observation.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn assign<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Vec<usize>> {
        Ok(self.responsibilities(x)?.column_iter().map(|column| column.imax()).collect())
    }

    /// p(z|x_i, c) for each component c: its exact posterior of every observation.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn encode<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Vec<SharedCovariance<T>>> {
        let x = x.into_observations()?;
        self.components.iter().map(|component| component.encode(x)).collect()
    }

    /// The mean codes under each component, k×n.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn transform<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<Vec<DMatrix<T>>> {
        Ok(self.encode(x)?.into_iter().map(|posterior| posterior.mean().into_owned()).collect())
    }

    /// E[x'|x_i], d×n: the components' reconstructions, weighted by who is responsible.
    ///
    /// # Errors
    /// As [`Self::log_likelihood`].
    pub fn reconstruct<'a>(&self, x: impl IntoObservations<'a, T>) -> Result<DMatrix<T>> {
        let x = x.into_observations()?;
        let responsibilities = self.responsibilities(x)?;
        let mut sum = DMatrix::zeros(x.data_dim(), x.len());
        for (c, component) in self.components.iter().enumerate() {
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

    /// Draws n observations (d×n) and the component of each.
    pub fn sample<R: Rng + ?Sized>(&self, n: usize, mut rng: &mut R) -> (Vec<usize>, DMatrix<T>) {
        let mut labels = Vec::with_capacity(n);
        let mut x = DMatrix::zeros(self.data_dim(), n);
        for mut column in x.column_iter_mut() {
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

/// One index, with probabilities proportional to the weights; the last one with any when rounding
/// passes the end.
pub(crate) fn draw(weights: impl Iterator<Item = f64> + Clone, rng: &mut dyn Rng) -> usize {
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

/// Turns each column of logarithms into shares that add up to 1; returns the logarithm of each
/// column's sum, without overflow.
pub(crate) fn normalize<T: Real>(log_joint: &mut DMatrix<T>) -> DVector<T> {
    let of_column = |mut column: nalgebra::DVectorViewMut<'_, T>| {
        let largest = column.max();
        let mut sum = T::zero();
        for value in column.iter_mut() {
            *value = (*value - largest).exp();
            sum += *value;
        }
        column /= sum;
        largest + sum.ln()
    };
    let sums: Vec<T> = log_joint.column_iter_mut().map(of_column).collect();
    DVector::from_vec(sums)
}

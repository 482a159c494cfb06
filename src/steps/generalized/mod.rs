//! Probabilistic PCA with another likelihood: a linear decoder, variables that are independent given
//! one linear predictor each, and one q_i for each observation.

mod builder;
mod importance;
mod likelihood;
mod methods;
mod selection;

pub use builder::GeneralizedPpcaBuilder;
pub use likelihood::StandardErrors;

use super::Model;
use crate::inference::PerPoint;
use crate::likelihood::Independent;
use crate::map::Linear;
use crate::posterior::Diagonal;

/// The generalised linear latent variable model: probabilistic PCA with the likelihood replaced.
///
/// ```math
/// z_i ∼ N(0, I), \quad y_i = o_i + Wz_i + b, \quad x_{ij} ∼ p(x_{ij}|y_{ij}; ξ_j)
/// ```
///
/// With the Poisson distribution it is Poisson-lognormal PCA, with the Bernoulli distribution item
/// response theory, and its maximum-likelihood relatives are known as GLM-PCA and exponential-family
/// PCA. The offsets o_i are known ([`Data::offset`](crate::Data::offset)); the q_i are Gaussian with
/// diagonal covariances, unless another family is named. The ELBO J is exact: a closed form, or
/// one-dimensional quadrature to 1e-10.
///
/// ```
/// use elbo::{likelihood::Poisson, steps::GeneralizedPpca};
/// use nalgebra::dmatrix;
/// use rand::{SeedableRng, rngs::StdRng};
/// let counts = dmatrix![
///     0.0, 1.0, 4.0, 9.0, 20.0, 3.0; 11.0, 7.0, 3.0, 2.0, 0.0, 5.0; 2.0, 3.0, 1.0, 2.0, 3.0, 2.0];
/// let builder = GeneralizedPpca::<f64, Poisson>::builder(Poisson, 1);
/// let fit = builder.fit(&counts, &mut StdRng::seed_from_u64(0))?;
/// let mean = fit.model.elbo(&counts)?.values().mean(); // nats per observation
/// assert!((mean - fit.trace.last().unwrap()).abs() < 1e-8);
/// # Ok::<(), elbo::Error>(())
/// ```
pub type GeneralizedPpca<T, U, Q = Diagonal<T>> =
    Model<T, Linear<T>, Independent<T, U>, PerPoint<Q>>;

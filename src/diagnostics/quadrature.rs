//! log p(x) by quadrature over z, for k ≤ 2 and any decoder.

use crate::fit::generalized::{LARGEST_DIM, Place, integrate};
use crate::likelihood::Likelihood;
use crate::linalg::parallel::map_blocks;
use crate::model::{Decoder, GenerativeModel};
use crate::{Error, IntoObservations, Real, Result};
use nalgebra::{DMatrix, DVector};

/// log p(x_i) by quadrature, with its estimated error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QuadratureEstimate<T: Real> {
    /// log p(x_i) in nats, one entry an observation.
    pub values: DVector<T>,
    /// The estimated error of each, in nats: the difference from the rule with every second node in
    /// each direction, which is larger than the error itself, and the share of the integrand at the
    /// border of the lattice.
    pub errors: DVector<f64>,
}

impl<T: Real> QuadratureEstimate<T> {
    pub(crate) fn of(found: Vec<(f64, f64)>) -> Self {
        Self {
            values: DVector::from_iterator(found.len(), found.iter().map(|(v, _)| T::of(*v))),
            errors: DVector::from_iterator(found.len(), found.iter().map(|(_, e)| *e)),
        }
    }
}

/// log p(x_i) = ln ∫ π(z) p(x_i|z) dz in nats by quadrature over z, for k ≤ 2 and any decoder.
///
/// A product rule of at most 2,025 nodes, first on a lattice as wide as the prior, then on lattices
/// at the moments of the posterior that the one before has found, until it fits. Where it does not
/// fit, as for a posterior of several narrow modes, the estimated error is large:
/// [`ImportanceSampling`](super::ImportanceSampling) is the alternative, and serves every k.
///
/// # Errors
/// [`Error::LatentDim`] for k > 2; [`Error::DimensionMismatch`]; those of
/// [`Observations::new`](crate::Observations::new).
///
/// ```
/// use elbo::{Ppca, diagnostics::quadrature_log_likelihood};
/// let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
/// let model = Ppca::fit(1, &x)?.model;
/// let by_quadrature = quadrature_log_likelihood(model.generative_model(), &x)?;
/// let in_closed_form = model.log_likelihood(&x)?;
/// assert!((by_quadrature.values - in_closed_form).amax() < 1e-9);
/// assert!(by_quadrature.errors.amax() < 1e-6);
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn quadrature_log_likelihood<'a, T, D, L>(
    model: &GenerativeModel<D, L>,
    x: impl IntoObservations<'a, T>,
) -> Result<QuadratureEstimate<T>>
where
    T: Real,
    D: Decoder<T> + Sync,
    L: Likelihood<T> + Sync,
{
    let x = x.into_observations()?;
    let latent_dim = model.decoder.latent_dim();
    if latent_dim > LARGEST_DIM {
        return Err(Error::LatentDim { latent_dim, smallest: 0, largest: LARGEST_DIM });
    }
    x.expect_dim(model.likelihood.data_dim(model.decoder.observed_dim())?)?;
    model.likelihood.check_support(x)?;
    let work = x.len().saturating_mul(x.data_dim()).saturating_mul(1 << 16);
    let found = map_blocks(x.len(), work, |i| {
        let of_nodes = |nodes: &DMatrix<f64>| -> Vec<f64> {
            let z = nodes.map(T::of);
            let values = x.values();
            let column = values.column(i);
            let copies = DMatrix::from_fn(x.data_dim(), z.ncols(), |j, _| column[j]);
            let output = model.decoder.decode(z.as_view());
            let density = model.likelihood.log_density(copies.as_view(), output.as_view());
            density.iter().map(|v| v.as_f64()).collect()
        };
        let prior = Place {
            mean: DVector::zeros(latent_dim),
            factor: DMatrix::identity(latent_dim, latent_dim),
        };
        let marginal = integrate(of_nodes, prior);
        (marginal.value, marginal.error)
    });
    Ok(QuadratureEstimate::of(found))
}

//! The optima that are formulas: the linear autoencoder's and probabilistic PCA's.

use super::aligned::AlignedModel;
use crate::data::RootMoment;
use crate::likelihood::{IsotropicGaussian, NoiseVariance};
use crate::linalg::thin_svd;
use crate::{Error, Real, Result};

/// The directions of largest variance: U_k (d×k) and λ_1 ≥ … ≥ λ_k, with the sum of the variances outside.
pub(crate) struct Principal {
    pub(crate) directions: nalgebra::DMatrix<f64>,
    pub(crate) variances: nalgebra::DVector<f64>,
    pub(crate) outside: f64,
}

impl Principal {
    pub(crate) fn of(moment: &RootMoment, latent_dim: usize) -> Result<Self> {
        moment.check_latent_dim(latent_dim)?;
        let svd = thin_svd(moment.coordinates().as_view())?;
        let squares = svd.singular_values.map(|s| s * s);
        let mut directions = moment.lift(svd.u.columns(0, latent_dim).into_owned());
        orient(&mut directions);
        let outside = squares.rows_range(latent_dim..).sum();
        Ok(Self { directions, variances: squares.rows(0, latent_dim).into_owned(), outside })
    }

    /// Ŵ = U_k (diag(λ_j) − σ²I)^½ and σ²: the mean variance outside, a fixed value, or a floor.
    pub(crate) fn maximum_likelihood(self, moment: &RootMoment, noise: NoiseVariance<f64>, floor: Option<f64>) -> Result<AlignedModel> {
        let (d, k) = (moment.data_dim(), self.variances.len());
        let nothing_left = k == d || self.outside <= moment.tolerance();
        let learned = if nothing_left { 0.0 } else { self.outside / (d - k) as f64 };
        let likelihood = match (noise, floor) {
            (NoiseVariance::Fixed(variance), _) => IsotropicGaussian::fixed(variance)?,
            (NoiseVariance::Learned | NoiseVariance::Analytic, Some(floor)) => {
                IsotropicGaussian::new(learned.max(floor))?.with_floor(floor)
            }
            (NoiseVariance::Learned | NoiseVariance::Analytic, None) if nothing_left => {
                let rank = self.variances.iter().filter(|&&v| v > moment.tolerance()).count();
                return Err(Error::Unbounded { latent_dim: k, rank });
            }
            (NoiseVariance::Learned | NoiseVariance::Analytic, None) => IsotropicGaussian::new(learned)?,
        };
        let noise_variance = likelihood.noise_variance();
        let singular_values = self.variances.map(|v| (v - noise_variance).max(0.0).sqrt());
        Ok(AlignedModel { directions: self.directions, singular_values, likelihood })
    }
}

/// Turns each column so that its entry of largest size is positive: a direction's sign is arbitrary, and this one is the same everywhere.
pub(crate) fn orient<T: Real>(directions: &mut nalgebra::DMatrix<T>) {
    for mut column in directions.column_iter_mut() {
        let largest = column.iter().fold(T::zero(), |largest: T, &v| if v.abs() > largest.abs() { v } else { largest });
        if largest < T::zero() {
            column.neg_mut();
        }
    }
}

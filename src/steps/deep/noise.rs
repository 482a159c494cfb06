//! Gaussian noise of a deep decoder, and the linear model with the same noise.

use crate::data::IncompleteObservations;
use crate::fit::Fitted;
use crate::inference::Exact;
use crate::likelihood::{DiagonalGaussian, GaussianNoise, IsotropicGaussian, NoiseVariance};
use crate::map::Linear;
use crate::steps::{FactorAnalysis, Model, Ppca};
use crate::{Error, Observations, Real, Result};
use nalgebra::DVector;
use rand::Rng;

/// How the noise variances are found, and their lower bound as a share of the variance.
#[derive(Debug, Clone, Copy)]
pub struct NoiseSettings<T> {
    pub(super) noise: NoiseVariance<T>,
    pub(super) floor: Option<f64>,
    /// Whether entries of the data are missing.
    pub(super) missing: bool,
}

impl<T> NoiseSettings<T> {
    /// The lower bound as a share of the variance.
    fn share(&self) -> f64 {
        self.floor.unwrap_or(DEFAULT_FLOOR)
    }
}

/// The default lower bound of a noise variance, as a share of the variance of the data.
const DEFAULT_FLOOR: f64 = 1e-6;

/// The default lower bound of a noise variance, as a share of that of the linear model.
const LINEAR_FLOOR: f64 = 1e-3;

/// Gaussian noise for which there is a linear model with a fit of its own.
pub trait DeepNoise<T: Real>: GaussianNoise<T> {
    /// The noise before any fit: the variances of the data, with their lower bounds.
    ///
    /// # Errors
    /// [`Error::Underflow`] where a lower bound is not a normal number.
    fn of_data(settings: NoiseSettings<T>, deviations: &DVector<T>) -> Result<Self>;

    /// The noise at the variances of the linear model (d).
    ///
    /// # Errors
    /// [`Error::Underflow`] where a lower bound is not a normal number.
    fn of_linear(self, settings: NoiseSettings<T>, variances: &DVector<T>) -> Result<Self>;

    /// The linear model with this noise at its maximum likelihood.
    ///
    /// # Errors
    /// [`Error::Unbounded`] for a latent dimension that leaves no noise.
    fn linear_fit(
        settings: NoiseSettings<T>,
        latent_dim: usize,
        x: Observations<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<Model<T, Linear<T>, Self, Exact>>;
}

/// Returns an error where a share of a variance has fewer digits than a normal number.
// In single precision the bound may underflow for data of very small scale, although the variance
// itself does not.
fn check_floor<T: Real>(variance: T, share: f64) -> Result<T> {
    let (floor, limit) = (T::of(share) * variance, T::MIN_POSITIVE);
    if share > 0.0 && floor < limit {
        return Err(Error::Underflow {
            what: "the standard deviation of the data",
            deviation: variance.sqrt().as_f64(),
            limit: limit.as_f64() / share,
        });
    }
    Ok(floor)
}

impl<T: Real> DeepNoise<T> for IsotropicGaussian<T> {
    fn of_data(settings: NoiseSettings<T>, deviations: &DVector<T>) -> Result<Self> {
        let total = deviations.norm_squared() / T::of_usize(deviations.len());
        let floor = check_floor(total, settings.share())?;
        Ok(match settings.noise {
            NoiseVariance::Fixed(variance) => Self::fixed(variance)?,
            NoiseVariance::Learned => Self::new(total)?.with_floor(floor)?,
            NoiseVariance::Analytic => Self::analytic(total)?.with_floor(floor)?,
        })
    }

    fn of_linear(mut self, settings: NoiseSettings<T>, variances: &DVector<T>) -> Result<Self> {
        if settings.floor.is_none() && !self.is_fixed() {
            let floor = self.floor().min(T::of(LINEAR_FLOOR) * variances[0]);
            self = self.with_floor(floor)?;
        }
        self.set_noise_variance(variances[0]);
        Ok(self)
    }

    fn linear_fit(
        settings: NoiseSettings<T>,
        latent_dim: usize,
        x: Observations<'_, T>,
        mut rng: &mut dyn Rng,
    ) -> Result<Model<T, Linear<T>, Self, Exact>> {
        // Without a floor: a latent dimension that leaves no noise is to be an error.
        let builder = Ppca::builder(latent_dim).noise_variance(settings.noise);
        let fitted: Fitted<Ppca<T>> = if settings.missing {
            builder.fit(IncompleteObservations::new(x.values())?, &mut rng)?
        } else {
            builder.fit(x, &mut rng)?
        };
        Ok(fitted.model)
    }
}

impl<T: Real> DeepNoise<T> for DiagonalGaussian<T> {
    fn of_data(settings: NoiseSettings<T>, deviations: &DVector<T>) -> Result<Self> {
        let varying = deviations.iter().filter(|s| **s > T::zero()).count().max(1);
        let mean_variance = deviations.norm_squared() / T::of_usize(varying);
        // A constant variable has the lower bound of a variable of the mean variance, as in factor
        // analysis.
        let floors: Vec<T> = deviations
            .iter()
            .map(|&s| {
                check_floor(if s > T::zero() { s * s } else { mean_variance }, settings.share())
            })
            .collect::<Result<_>>()?;
        let floors = DVector::from_vec(floors);
        let variances = deviations.zip_map(&floors, |s, floor| (s * s).max(floor));
        Ok(match settings.noise {
            NoiseVariance::Fixed(variance) => {
                Self::fixed(DVector::from_element(deviations.len(), variance))?
            }
            NoiseVariance::Learned => Self::new(variances)?.with_floors(floors)?,
            NoiseVariance::Analytic => Self::analytic(variances)?.with_floors(floors)?,
        })
    }

    fn of_linear(mut self, settings: NoiseSettings<T>, variances: &DVector<T>) -> Result<Self> {
        // The bound of each ψ_j is a share of its own variance: an outlier does not raise others'.
        let _ = settings;
        self.set_variances(variances, &DVector::from_element(variances.len(), T::one()));
        Ok(self)
    }

    fn linear_fit(
        settings: NoiseSettings<T>,
        latent_dim: usize,
        x: Observations<'_, T>,
        mut rng: &mut dyn Rng,
    ) -> Result<Model<T, Linear<T>, Self, Exact>> {
        if let NoiseVariance::Fixed(variance) = settings.noise {
            // One variance for all variables: the noise of probabilistic PCA.
            let noise = DVector::from_element(x.data_dim(), variance);
            let (model, _) =
                IsotropicGaussian::linear_fit(settings, latent_dim, x, rng)?.into_parts();
            return Model::new(model.decoder, DiagonalGaussian::fixed(noise)?, Exact);
        }
        let builder = FactorAnalysis::<T>::builder(latent_dim).noise_floor(settings.share());
        if settings.missing {
            return Ok(builder.fit(IncompleteObservations::new(x.values())?, &mut rng)?.model);
        }
        Ok(builder.fit(x, &mut rng)?.model)
    }
}

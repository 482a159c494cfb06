//! EM for mixtures of probabilistic principal component analysers, from several starts.

use super::start::clusters;
use super::{MixtureOfPpca, normalize};
use crate::data::{Centering, Moments, check_latent_dim, deviations_resolved};
use crate::fit::{Fitted, RemainingGain, StopReason, Trace, check_weights};
use crate::inference::Exact;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::principal_components;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::{Error, IntoObservations, Observations, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// What can be said of a fit of [`MixtureOfPpca`] before it is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureOfPpcaBuilder<T> {
    components: usize,
    pub(super) latent_dim: usize,
    restarts: usize,
    max_iterations: usize,
    tolerance: f64,
    pub(super) relative_floor: f64,
    scalar: PhantomData<T>,
}

/// The best of several fits of a mixture, and how the others went.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedMixture<T: Real> {
    /// The fit with the highest likelihood.
    pub best: Fitted<MixtureOfPpca<T>>,
    /// The log-likelihood per observation that each start led to: their spread says how far the
    /// maximum found can be trusted to be the global one.
    pub restarts: Vec<f64>,
    /// How often a component of the best fit had lost its observations and was put down elsewhere;
    /// J may fall there, and nowhere else.
    pub reseeded: usize,
}

impl<T: Real> std::ops::Deref for FittedMixture<T> {
    type Target = Fitted<MixtureOfPpca<T>>;
    fn deref(&self) -> &Self::Target {
        &self.best
    }
}

/// The observations with a weight above 0, and their weights over the mean of these: Σw is their
/// number.
pub(super) fn weighing<T: Real>(
    weights: &[T],
    observations: usize,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let weights = check_weights(weights, observations)?;
    let columns: Vec<usize> = (0..observations).filter(|&i| weights[i] > 0.0).collect();
    let mean = weights.iter().sum::<f64>() / columns.len() as f64;
    let weights = columns.iter().map(|&i| weights[i] / mean).collect();
    Ok((columns, weights))
}

/// A mixture in double precision, while it is being fitted.
pub(super) type Mixture = MixtureOfPpca<f64>;

/// How often a component may be put down elsewhere in one fit.
const RESEEDS: usize = 3;

impl<T: Real> MixtureOfPpcaBuilder<T> {
    pub(super) fn new(components: usize, latent_dim: usize) -> Self {
        Self {
            components,
            latent_dim,
            restarts: 5,
            max_iterations: 1_000,
            tolerance: 1e-7,
            relative_floor: 1e-6,
            scalar: PhantomData,
        }
    }

    /// How many starts are tried; 5 by default.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// The most iterations that are made from each start; 1,000 by default.
    pub fn max_iterations(self, max_iterations: usize) -> Self {
        Self { max_iterations, ..self }
    }

    /// The gain of log-likelihood that may remain, in nats per observation; 10⁻⁷ by default.
    pub fn tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// The smallest σ_c², as a share of the mean variance of the variables; 10⁻⁶ by default.
    ///
    /// The likelihood of a mixture is unbounded where a component closes in on a few observations:
    /// the floor bounds it, and [`StopReason::Floor`] tells when it holds.
    pub fn noise_floor(self, relative: f64) -> Self {
        Self { relative_floor: relative, ..self }
    }

    pub(super) fn check(&self, d: usize, n: usize) -> Result<()> {
        if self.components == 0 || self.components > n {
            let value = self.components as f64;
            return Err(Error::InvalidParameter {
                name: "the number of components",
                value,
                must: "between 1 and the number of observations",
            });
        }
        if self.restarts == 0 {
            return Err(Error::InvalidParameter {
                name: "the number of restarts",
                value: 0.0,
                must: "at least 1",
            });
        }
        if !(self.relative_floor > 0.0 && self.relative_floor < 1.0) {
            return Err(Error::InvalidParameter {
                name: "the relative floor of the noise variances",
                value: self.relative_floor,
                must: "above 0 and below 1",
            });
        }
        check_latent_dim(self.latent_dim, n, d.saturating_sub(1))
    }

    /// The best of several runs of EM, each from k-means++.
    ///
    /// # Errors
    /// Those of [`Observations::new`]; [`Error::InvalidParameter`] for a number of components that
    /// is 0 or above n, no restarts, or a floor outside of 0 to 1; [`Error::LatentDim`] unless 1 ≤
    /// k ≤ min(n, d − 1); [`Error::ZeroVariance`]; [`Error::TooFewObservations`];
    /// [`Error::Underflow`] where the squares of the deviations, or a component's σ², fall below
    /// the smallest number.
    pub fn fit<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<FittedMixture<T>> {
        let x = x.into_observations()?;
        self.check(x.data_dim(), x.len())?;
        let data = Data::of(x, self)?;
        self.best_of(&data, &mut Complete(&data), &mut rng)
    }

    /// The same with a weight w_i ≥ 0 for each observation, that of its log-likelihood: 2 is the
    /// same as having the observation twice, 0 as not having it. J, in the trace, is per unit of
    /// weight.
    ///
    /// ```
    /// use elbo::mixture::MixtureOfPpca;
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let x = nalgebra::DMatrix::from_fn(3, 120, |j, i| {
    ///     let (t, e) = ((i as f64 * 0.37).sin(), 0.05 * ((7 * i + 3 * j) as f64).sin());
    ///     if i % 2 == 0 { [t, t, 0.0][j] + e } else { [5.0, t, -t][j] + e }
    /// });
    /// let weights: Vec<f64> = (0..120).map(|i| if i % 2 == 0 { 3.0 } else { 1.0 }).collect();
    /// let fit = MixtureOfPpca::builder(2, 1).fit_weighted(
    ///     &x,
    ///     &weights,
    ///     &mut StdRng::seed_from_u64(1),
    /// )?;
    /// assert!((fit.weights().max() - 0.75).abs() < 1e-6); // the share of the weight that the first line has
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::fit`], observations of weight 0 apart; [`Error::DimensionMismatch`] for another
    /// number of weights; [`Error::InvalidWeight`] for one that is negative or not finite;
    /// [`Error::TooFewObservations`] where all are 0.
    pub fn fit_weighted<'a, R: Rng + ?Sized>(
        &self,
        x: impl IntoObservations<'a, T>,
        weights: &[T],
        mut rng: &mut R,
    ) -> Result<FittedMixture<T>> {
        let x = x.into_observations()?;
        let (columns, weights) = weighing(weights, x.len())?;
        self.check(x.data_dim(), columns.len())?;
        let kept = x.values().select_columns(&columns);
        let kept = Observations::new(kept.as_view())?;
        deviations_resolved(kept, Centering::Mean)?;
        let table = kept.values().map(|v| v.as_f64());
        let mut moments = Moments::new(x.data_dim());
        moments.update_weighted(&table, &weights)?;
        let variance =
            moments.scatter_factor(Centering::Mean)?.total_variance() / x.data_dim() as f64;
        let data = Data::new(table, weights, self, variance);
        self.best_of(&data, &mut Complete(&data), &mut rng)
    }

    /// The best of several ascents from k-means++ on a complete table.
    pub(super) fn best_of(
        &self,
        data: &Data,
        steps: &mut impl Steps,
        rng: &mut dyn Rng,
    ) -> Result<FittedMixture<T>> {
        let mut best: Option<(Fitted<Mixture>, usize)> = None;
        let mut restarts = Vec::with_capacity(self.restarts);
        for _ in 0..self.restarts {
            let labels = clusters(&data.x, &data.weights, self.components, rng);
            // Not wholly one component's: a cluster of few observations would close in on them at
            // once.
            let (mostly, little) = (0.9, 0.1 / self.components as f64);
            let shares = DMatrix::from_fn(self.components, data.x.ncols(), |c, i| {
                if labels[i] == c { mostly + little } else { little }
            });
            let start = data.maximize(&shares, None)?;
            let found = data.ascend(steps, start, self)?;
            let reached = found.0.trace.last().unwrap_or(f64::NEG_INFINITY);
            restarts.push(reached);
            if best.as_ref().is_none_or(|(best, _)| best.trace.last().is_none_or(|b| b < reached)) {
                best = Some(found);
            }
        }
        let Some((best, reseeded)) = best else {
            return Err(Error::Empty { rows: data.x.nrows(), columns: 0 });
        };
        let Fitted { model, trace, stop } = best;
        Ok(FittedMixture { best: Fitted { model: cast(&model)?, trace, stop }, restarts, reseeded })
    }

    /// EM from a given mixture, which says how many components there are and with which latent
    /// dimension.
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::DimensionMismatch`] when the mixture is of other data, or its
    /// size is not the builder's.
    pub fn fit_from<'a>(
        &self,
        start: &MixtureOfPpca<T>,
        x: impl IntoObservations<'a, T>,
    ) -> Result<FittedMixture<T>> {
        let x = x.into_observations()?;
        self.check(x.data_dim(), x.len())?;
        x.expect_dim(start.data_dim())?;
        crate::data::expect("components", self.components, start.components.len())?;
        for component in &start.components {
            crate::data::expect(
                "latent dimensions of a component",
                self.latent_dim,
                component.latent_dim(),
            )?;
        }
        let data = Data::of(x, self)?;
        let (Fitted { model, trace, stop }, reseeded) =
            data.ascend(&mut Complete(&data), cast(start)?, self)?;
        let restarts = trace.last().into_iter().collect();
        Ok(FittedMixture { best: Fitted { model: cast(&model)?, trace, stop }, restarts, reseeded })
    }
}

/// The same mixture in another precision.
fn cast<T: Real, U: Real>(mixture: &MixtureOfPpca<T>) -> Result<MixtureOfPpca<U>> {
    let component = |component: &Ppca<T>| {
        let of = |v: T| U::of(v.as_f64());
        let decoder = Linear::new(component.loadings().map(of), component.mean().map(of))?;
        Ok(Ppca::from_parts(
            LinearGaussian::new(decoder, component.model.likelihood.narrow()?),
            Exact,
        ))
    };
    let components: Result<Vec<_>> = mixture.components.iter().map(component).collect();
    Ok(MixtureOfPpca {
        weights: mixture.weights.map(|w| U::of(w.as_f64())),
        components: components?,
    })
}

/// The two halves of an iteration, for complete data or for those with holes.
pub(super) trait Steps {
    /// ln π_c + log p(x_i|c), components×n.
    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>>;

    /// A component for observations with weights (which add up to `size`), no worse for them than
    /// the one before.
    fn improve(&mut self, before: &Ppca<f64>, weights: &[f64], size: f64) -> Result<Ppca<f64>>;
}

struct Complete<'d>(&'d Data);

impl Steps for Complete<'_> {
    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>> {
        model.log_joint(Observations::new(self.0.x.as_view())?)
    }

    fn improve(&mut self, _before: &Ppca<f64>, weights: &[f64], size: f64) -> Result<Ppca<f64>> {
        self.0.component(weights, size)
    }
}

/// The data in double precision (completed somehow, if there are holes), and what all components
/// share.
pub(super) struct Data {
    pub(super) x: DMatrix<f64>,
    /// One for each observation; they add up to n.
    pub(super) weights: Vec<f64>,
    latent_dim: usize,
    floor: f64,
}

impl Data {
    fn of<T: Real>(x: Observations<'_, T>, setting: &MixtureOfPpcaBuilder<T>) -> Result<Self> {
        deviations_resolved(x, Centering::Mean)?;
        let variance = x.variances().iter().map(|v| v.as_f64()).sum::<f64>() / x.data_dim() as f64;
        Ok(Self::new(x.values().map(|v| v.as_f64()), vec![1.0; x.len()], setting, variance))
    }

    /// From a table, its weights and the mean variance of its variables.
    pub(super) fn new<T>(
        x: DMatrix<f64>,
        weights: Vec<f64>,
        setting: &MixtureOfPpcaBuilder<T>,
        variance: f64,
    ) -> Self {
        Self {
            x,
            weights,
            latent_dim: setting.latent_dim,
            floor: setting.relative_floor * variance,
        }
    }

    /// Each component is probabilistic PCA of the observations, weighted by its shares of them
    /// (components×n).
    fn maximize(&self, shares: &DMatrix<f64>, before: Option<&Mixture>) -> Result<Mixture> {
        self.with_shares(shares, before, |_, weights, size| self.component(weights, size))
    }

    /// W_c = U(Λ−σ_c²I)^½ and σ_c², the mean of the other eigenvalues, of the weighted covariance
    /// (Tipping & Bishop 1999).
    fn component(&self, shares: &[f64], size: f64) -> Result<Ppca<f64>> {
        let (d, k) = (self.x.nrows(), self.latent_dim);
        // Observations whose shares are below rounding take no part.
        let taking: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 1e-16 * size).collect();
        let mut part = self.x.select_columns(&taking);
        let weights: Vec<f64> = taking.iter().map(|&i| shares[i] / size).collect();
        let mut mean = DVector::zeros(d);
        part.column_iter()
            .zip(&weights)
            .for_each(|(column, &weight)| mean.axpy(weight, &column, 1.0));
        // Columns whose plain second moment is the weighted covariance.
        for (mut column, weight) in part.column_iter_mut().zip(&weights) {
            column -= &mean;
            column *= (weight * taking.len() as f64).sqrt();
        }
        let found = principal_components(part.as_view(), None, k)?;
        let likelihood =
            IsotropicGaussian::new((found.residual_variance / (d - k) as f64).max(self.floor))?
                .with_floor(self.floor)?;
        let noise = likelihood.noise_variance();
        let mut loadings = found.vectors;
        for (mut column, &variance) in loadings.column_iter_mut().zip(found.variances.iter()) {
            column *= (variance - noise).max(0.0).sqrt();
        }
        Ok(Ppca::from_parts(LinearGaussian::new(Linear::new(loadings, mean)?, likelihood), Exact))
    }

    fn ascend<T>(
        &self,
        steps: &mut impl Steps,
        start: Mixture,
        setting: &MixtureOfPpcaBuilder<T>,
    ) -> Result<(Fitted<Mixture>, usize)> {
        let n = self.x.ncols() as f64;
        let mut model = start;
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(setting.tolerance);
        let mut reseeds = vec![0; setting.components];
        let stop = loop {
            let mut shares = steps.log_joint(&model)?;
            let densities = normalize(&mut shares);
            let value = densities
                .iter()
                .zip(&self.weights)
                .map(|(density, weight)| density * weight)
                .sum::<f64>()
                / n;
            trace.push(value);
            if rule.update(value) {
                break StopReason::Converged;
            }
            if trace.len() > setting.max_iterations {
                break StopReason::IterationLimit;
            }
            if let Some(c) = self.lost(&shares, &model, &reseeds) {
                reseeds[c] += 1;
                model = self.reseed(&shares, &densities, c, &model)?;
                rule = RemainingGain::below(setting.tolerance);
                continue;
            }
            model = self.with_shares(&shares, Some(&model), |c, weights, size| {
                steps.improve(&model.components[c], weights, size)
            })?;
        };
        let at_floor =
            model.components.iter().any(|component| component.noise_variance() <= self.floor);
        let stop = if at_floor && stop == StopReason::Converged { StopReason::Floor } else { stop };
        Ok((Fitted { model, trace, stop }, reseeds.iter().sum()))
    }

    /// A component that has lost its observations, or closed in on no more than it takes to span
    /// its plane.
    fn lost(&self, shares: &DMatrix<f64>, model: &Mixture, reseeds: &[usize]) -> Option<usize> {
        (0..shares.nrows()).find(|&c| {
            let size: f64 = self.weighed(shares, c).sum();
            let closed = size < (self.latent_dim + 2) as f64
                && model.components[c].noise_variance() <= self.floor;
            reseeds[c] < RESEEDS && shares.nrows() > 1 && (size < 1.0 || closed)
        })
    }

    /// Puts component c where the mixture explains least: at the observation with the lowest
    /// density, and what lies about it.
    fn reseed(
        &self,
        shares: &DMatrix<f64>,
        densities: &DVector<f64>,
        c: usize,
        before: &Mixture,
    ) -> Result<Mixture> {
        let (count, n) = shares.shape();
        let centre = self.x.column(densities.imin()).into_owned();
        let mut nearest: Vec<(f64, usize)> =
            self.x.column_iter().map(|column| (column - &centre).norm_squared()).zip(0..).collect();
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
        let taken = (n / (2 * count)).max((2 * (self.latent_dim + 2)).min(n));
        let mut moved = shares.clone();
        // The others share what the lost one had.
        for mut column in moved.column_iter_mut() {
            column[c] = 0.0;
            let rest = column.sum();
            if rest > 0.0 { column /= rest } else { column.fill(1.0 / count as f64) }
        }
        for &(_, i) in nearest.iter().take(taken) {
            let mut column = moved.column_mut(i);
            column *= 0.1;
            column[c] = 0.9;
        }
        self.maximize(&moved, Some(before))
    }

    /// The shares of component c times the weights.
    fn weighed<'s>(&'s self, shares: &'s DMatrix<f64>, c: usize) -> impl Iterator<Item = f64> + 's {
        self.weights.iter().enumerate().map(move |(i, weight)| weight * shares[(c, i)])
    }

    /// A mixture in which each component has the weight of its shares (components×n), and is what
    /// `component` makes of its place, its shares times the weights of the observations, and their
    /// sum.
    fn with_shares(
        &self,
        shares: &DMatrix<f64>,
        before: Option<&Mixture>,
        mut component: impl FnMut(usize, &[f64], f64) -> Result<Ppca<f64>>,
    ) -> Result<Mixture> {
        let n = shares.ncols() as f64;
        let mut sizes = DVector::zeros(shares.nrows());
        let mut components = Vec::with_capacity(shares.nrows());
        for (c, size) in sizes.iter_mut().enumerate() {
            let weights: Vec<f64> = self.weighed(shares, c).collect();
            *size = weights.iter().sum();
            components.push(match before {
                // One without any observation says nothing of where it should go: it stays, without
                // weight.
                Some(before) if *size <= 1e-12 * n => before.components[c].clone(),
                _ => component(c, &weights, *size)?,
            });
        }
        Ok(MixtureOfPpca { weights: sizes / n, components })
    }
}

//! EM for mixtures of probabilistic PCA, with random restarts.

use super::start::clusters;
use super::{MixtureOfPpca, normalize};
use crate::data::{Centering, Dense, Moments, Weighted, centre_and_resolution, check_latent_dim};
use crate::fit::{
    ExpectationMaximization, FitData, Fitted, Observer, RemainingGain, StopReason, Trace,
    check_weights,
};
use crate::inference::Exact;
use crate::likelihood::IsotropicGaussian;
use crate::linalg::principal_components;
use crate::map::Linear;
use crate::model::LinearGaussian;
use crate::steps::fit_methods;
use crate::{Error, IntoObservations, Observations, Ppca, Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use std::marker::PhantomData;

/// Builder of a fit of [`MixtureOfPpca`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureOfPpcaBuilder<T> {
    components: usize,
    pub(super) latent_dim: usize,
    restarts: usize,
    fitter: ExpectationMaximization,
    pub(super) relative_floor: f64,
    scalar: PhantomData<T>,
}

fit_methods!([T: Real] T, MixtureOfPpcaBuilder<T> => MixtureOfPpca<T>);

/// The indices of the observations with a positive weight, and their weights, rescaled so that they
/// add up to the number of these observations.
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

/// The mixture during a fit, in double precision.
pub(super) type Mixture = MixtureOfPpca<f64>;

/// Largest number of times that one component is re-initialised in one fit.
// It bounds the fit: a mixture with more components than the data support would lose one again and
// again.
const RESEEDS: usize = 3;

impl<T: Real> MixtureOfPpcaBuilder<T> {
    pub(super) fn new(components: usize, latent_dim: usize) -> Self {
        Self {
            components,
            latent_dim,
            restarts: 4,
            fitter: ExpectationMaximization { max_iterations: 1_000, tolerance: 1e-7 },
            relative_floor: 1e-6,
            scalar: PhantomData,
        }
    }

    /// Sets the number of random restarts after the first initialisation; 4 by default. The best
    /// fit is returned, and [`Trace::starts`] has the objective of each.
    pub fn restarts(self, restarts: usize) -> Self {
        Self { restarts, ..self }
    }

    /// Sets the largest number of iterations and the tolerance of EM from each initialisation;
    /// 1,000 and 10⁻⁷ by default.
    pub fn fitter(self, fitter: ExpectationMaximization) -> Self {
        Self { fitter, ..self }
    }

    /// Sets the lower bound of each σ_c², as a share of the mean variance of the variables; 10⁻⁶ by
    /// default.
    ///
    /// The likelihood of a mixture is unbounded where a component collapses on a few observations:
    /// the floor bounds it, and [`StopReason::Floor`] reports an active floor.
    pub fn noise_floor(self, share: f64) -> Self {
        Self { relative_floor: share, ..self }
    }

    /// Validates the settings for d variables and n observations.
    pub(super) fn check(&self, d: usize, n: usize) -> Result<()> {
        if self.components == 0 || self.components > n {
            let value = self.components as f64;
            return Err(Error::InvalidParameter {
                name: "the number of components",
                value,
                must: "between 1 and the number of observations",
            });
        }
        if !(self.relative_floor > 0.0 && self.relative_floor < 1.0) {
            return Err(Error::InvalidParameter {
                name: "the relative floor of the noise variances",
                value: self.relative_floor,
                must: "above 0 and below 1",
            });
        }
        if d < 2 {
            return Err(Error::InvalidParameter {
                name: "the number of variables of a mixture of probabilistic PCA",
                value: d as f64,
                must: "at least 2, one dimension for the codes and one for the noise",
            });
        }
        // k ≤ d − 1: at least one direction must be left to estimate σ².
        check_latent_dim(self.latent_dim, n, d.saturating_sub(1))
    }

    /// The best of `restarts` + 1 runs of EM, each initialised by k-means++ on a complete table.
    pub(super) fn best_of(
        &self,
        data: &Data,
        steps: &mut impl Steps,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        // Where an iteration is a single step of EM on each component and a pass over incomplete
        // data, the restarts are short, and only the best goes on.
        let most = steps.iterations_of_a_trial().min(self.fitter.max_iterations);
        let most = if self.restarts == 0 { self.fitter.max_iterations } else { most };
        let trial = Self {
            fitter: ExpectationMaximization { max_iterations: most, ..self.fitter },
            ..*self
        };
        let mut best: Option<Fitted<Mixture>> = None;
        let mut place = 0;
        let mut starts = Vec::with_capacity(self.restarts.saturating_add(1).min(1 << 10));
        for _ in 0..=self.restarts {
            let labels = clusters(&data.x, &data.weights, self.components, rng);
            // Responsibility 0.9 for the own cluster, the rest for all: with hard assignments a
            // cluster of few observations would collapse on them (σ² → 0) in the first M-step.
            let (mostly, little) = (0.9, 0.1 / self.components as f64);
            let shares = DMatrix::from_fn(self.components, data.x.ncols(), |c, i| {
                if labels[i] == c { mostly + little } else { little }
            });
            let start = data.maximize(&shares, None)?;
            let found = data.ascend(steps, start, &trial, observer)?;
            let reached = found.trace.last().unwrap_or(f64::NEG_INFINITY);
            starts.push(reached);
            let interrupted = found.stop == StopReason::Interrupted;
            // The first of equal ones, so that the result does not depend on later restarts.
            if best.as_ref().is_none_or(|best| best.trace.last().is_none_or(|b| b < reached)) {
                best = Some(found);
                place = starts.len() - 1;
            }
            if interrupted {
                break;
            }
        }
        let Some(mut best) = best else {
            return Err(Error::Empty { rows: data.x.nrows(), columns: 0 });
        };
        let rest = self.fitter.max_iterations.saturating_sub(trial.fitter.max_iterations);
        if rest > 0 && best.stop == StopReason::IterationLimit {
            let fitter = ExpectationMaximization { max_iterations: rest, ..self.fitter };
            let more = data.ascend(steps, best.model, &Self { fitter, ..*self }, observer)?;
            best = continued(best.trace, more);
            starts[place] = best.trace.last().unwrap_or(f64::NEG_INFINITY);
        }
        best.trace.set_starts(starts);
        best.try_map(|model| cast(&model))
    }

    /// Runs EM from a given mixture, which must have the builder's number of components and latent
    /// dimension.
    ///
    /// # Errors
    /// As [`Self::fit`]; [`Error::DimensionMismatch`] for a mixture of other dimensions.
    pub fn fit_from<'a>(
        &self,
        start: &MixtureOfPpca<T>,
        x: impl IntoObservations<'a, T>,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
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
        let mut fitted = data.ascend(&mut Complete(&data), cast(start)?, self, &mut ())?;
        let starts = fitted.trace.last().into_iter().collect();
        fitted.trace.set_starts(starts);
        fitted.try_map(|model| cast(&model))
    }
}

impl<'a, T: Real> FitData<Dense<'a, T>> for MixtureOfPpcaBuilder<T> {
    type Model = MixtureOfPpca<T>;

    fn fit_form(
        &self,
        x: Dense<'a, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        let x = x.validate()?;
        self.check(x.data_dim(), x.len())?;
        let data = Data::of(x, self)?;
        self.best_of(&data, &mut Complete(&data), rng, observer)
    }
}

impl<'a, T: Real> FitData<Weighted<'a, Dense<'a, T>, T>> for MixtureOfPpcaBuilder<T> {
    type Model = MixtureOfPpca<T>;

    fn fit_form(
        &self,
        x: Weighted<'a, Dense<'a, T>, T>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<MixtureOfPpca<T>>> {
        let (x, weights) = (x.data.validate()?, x.weights);
        let (columns, weights) = weighing(weights, x.len())?;
        self.check(x.data_dim(), columns.len())?;
        // Observations of weight 0 are left out: they must influence neither the initialisation by
        // k-means++ nor the number of observations.
        let kept = x.values().select_columns(&columns);
        let kept = Observations::new(kept.as_view())?;
        centre_and_resolution(kept, Centering::Mean)?;
        let table = kept.values().map(|v| v.as_f64());
        let mut moments = Moments::new(x.data_dim());
        moments.update_weighted(&table, &weights)?;
        let total = moments.scatter_factor(Centering::Mean)?.total_variance();
        let data = Data::new(table, weights, self, total / x.data_dim() as f64);
        self.best_of(&data, &mut Complete(&data), rng, observer)
    }
}

/// Converts a mixture to another precision.
fn cast<T: Real, U: Real>(mixture: &MixtureOfPpca<T>) -> Result<MixtureOfPpca<U>> {
    let component = |component: &Ppca<T>| {
        let of = |v: T| U::of(v.as_f64());
        let decoder = Linear::new(component.loadings().map(of), component.mean().map(of))?;
        let noise = component.likelihood().narrow()?;
        Ok(Ppca::from_fitting_parts(LinearGaussian::new(decoder, noise), Exact))
    };
    let components: Result<Vec<_>> = mixture.components.iter().map(component).collect();
    Ok(MixtureOfPpca {
        weights: mixture.weights.map(|w| U::of(w.as_f64())),
        components: components?,
    })
}

/// Joins the trace of a fit to that of the fit that goes on from its model.
fn continued(before: Trace, mut after: Fitted<Mixture>) -> Fitted<Mixture> {
    let mut trace = before;
    let reinitialized = trace.reinitialized() + after.trace.reinitialized();
    // The first value of the second trace is the last one of the first.
    after.trace.values().iter().skip(1).for_each(|&value| trace.push(value));
    trace.set_reinitialized(reinitialized);
    after.trace = trace;
    after
}

/// The E-step and the M-step of an iteration, for complete or for incomplete data.
pub(super) trait Steps {
    /// The number of iterations after which restarts are compared.
    fn iterations_of_a_trial(&self) -> usize {
        usize::MAX
    }

    /// E-step: the joint log-densities ln π_c + log p(x_i|c), components×n.
    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>>;

    /// M-step: a component for weighted observations (the weights add up to `size`), of at least
    /// the weighted likelihood of the previous one.
    fn improve(&mut self, before: &Ppca<f64>, weights: &[f64], size: f64) -> Result<Ppca<f64>>;
}

/// EM on complete data: the M-step is in closed form.
struct Complete<'d>(&'d Data);

impl Steps for Complete<'_> {
    fn log_joint(&mut self, model: &Mixture) -> Result<DMatrix<f64>> {
        model.log_joint(Observations::new(self.0.x.as_view())?)
    }

    fn improve(&mut self, _before: &Ppca<f64>, weights: &[f64], size: f64) -> Result<Ppca<f64>> {
        self.0.component(weights, size)
    }
}

/// The data in double precision (imputed, if they are incomplete), with the settings that all
/// components share.
pub(super) struct Data {
    pub(super) x: DMatrix<f64>,
    /// One weight per observation; they add up to n.
    pub(super) weights: Vec<f64>,
    latent_dim: usize,
    /// The lower bound of each σ_c².
    floor: f64,
}

impl Data {
    /// Complete data with unit weights.
    fn of<T: Real>(x: Observations<'_, T>, setting: &MixtureOfPpcaBuilder<T>) -> Result<Self> {
        centre_and_resolution(x, Centering::Mean)?;
        let variance = x.variances().iter().map(|v| v.as_f64()).sum::<f64>() / x.data_dim() as f64;
        Ok(Self::new(x.values().map(|v| v.as_f64()), vec![1.0; x.len()], setting, variance))
    }

    /// Builds the data from a table, its weights and the mean variance of its variables.
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

    /// The mixture for given responsibilities (`shares`, components×n): each component is the
    /// closed-form fit of probabilistic PCA to the observations, weighted by its responsibilities.
    fn maximize(&self, shares: &DMatrix<f64>, before: Option<&Mixture>) -> Result<Mixture> {
        self.with_shares(shares, before, |_, weights, size| self.component(weights, size))
    }

    /// The M-step of one component in closed form (Tipping & Bishop 1999): from the eigenvalues Λ
    /// of the weighted covariance, W_c = U(Λ−σ_c²I)^½ and σ_c², the mean of the other eigenvalues.
    fn component(&self, shares: &[f64], size: f64) -> Result<Ppca<f64>> {
        let (d, k) = (self.x.nrows(), self.latent_dim);
        // Shares below rounding do not change the sums: the covariance of a component costs time
        // for its own observations only.
        let taking: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] > 1e-16 * size).collect();
        let mut part = self.x.select_columns(&taking);
        let weights: Vec<f64> = taking.iter().map(|&i| shares[i] / size).collect();
        let mut mean = DVector::zeros(d);
        part.column_iter()
            .zip(&weights)
            .for_each(|(column, &weight)| mean.axpy(weight, &column, 1.0));
        // Columns whose second moment, with divisor `taking.len()`, is the weighted covariance.
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
        let generative = LinearGaussian::new(Linear::new(loadings, mean)?, likelihood);
        Ok(Ppca::from_fitting_parts(generative, Exact))
    }

    /// Runs EM from `start` until the remaining gain is below the tolerance.
    fn ascend<T>(
        &self,
        steps: &mut impl Steps,
        start: Mixture,
        setting: &MixtureOfPpcaBuilder<T>,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Mixture>> {
        let n = self.x.ncols() as f64;
        let mut model = start;
        let mut trace = Trace::new();
        let mut rule = RemainingGain::below(setting.fitter.tolerance);
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
            // The objective belongs to the model before the M-step, so that the trace and the
            // returned model agree.
            trace.push(value);
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            if rule.update(value) {
                break StopReason::Converged;
            }
            if trace.len() > setting.fitter.max_iterations {
                break StopReason::IterationLimit;
            }
            if let Some(c) = self.lost(&shares, &model, &reseeds) {
                reseeds[c] += 1;
                // The objective may fall here: the convergence test starts anew.
                model = self.reseed(&shares, &densities, c, &model)?;
                rule = RemainingGain::below(setting.fitter.tolerance);
                continue;
            }
            model = self.with_shares(&shares, Some(&model), |c, weights, size| {
                steps.improve(&model.components[c], weights, size)
            })?;
        };
        let at_floor =
            model.components.iter().any(|component| component.noise_variance() <= self.floor);
        // A fit that has not converged keeps its own stop reason.
        let stop = if at_floor && stop == StopReason::Converged { StopReason::Floor } else { stop };
        trace.set_reinitialized(reseeds.iter().sum());
        Ok(Fitted::new(model, trace, stop))
    }

    /// The index of a component to re-initialise: one that is empty (less than one observation), or
    /// degenerate (fewer than k + 2 observations, with σ_c² at its lower bound).
    fn lost(&self, shares: &DMatrix<f64>, model: &Mixture, reseeds: &[usize]) -> Option<usize> {
        (0..shares.nrows()).find(|&c| {
            let size: f64 = self.weighed(shares, c).sum();
            // k + 1 observations span a plane of k dimensions without residual.
            let closed = size < (self.latent_dim + 2) as f64
                && model.components[c].noise_variance() <= self.floor;
            reseeds[c] < RESEEDS && shares.nrows() > 1 && (size < 1.0 || closed)
        })
    }

    /// Re-initialises component c at the observation with the lowest density under the mixture,
    /// with its nearest neighbours.
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
        // Half of an average component's observations, and at least 2(k + 2), twice the number
        // below which a component counts as degenerate.
        let taken = (n / (2 * count)).max((2 * (self.latent_dim + 2)).min(n));
        let mut moved = shares.clone();
        // The responsibilities of the empty component go to the others in proportion.
        for mut column in moved.column_iter_mut() {
            column[c] = 0.0;
            let rest = column.sum();
            if rest > 0.0 { column /= rest } else { column.fill(1.0 / count as f64) }
        }
        // Soft assignments of 0.9, as in the initialisation.
        for &(_, i) in nearest.iter().take(taken) {
            let mut column = moved.column_mut(i);
            column *= 0.1;
            column[c] = 0.9;
        }
        self.maximize(&moved, Some(before))
    }

    /// The responsibilities of component c times the weights of the observations.
    fn weighed<'s>(&'s self, shares: &'s DMatrix<f64>, c: usize) -> impl Iterator<Item = f64> + 's {
        self.weights.iter().enumerate().map(move |(i, weight)| weight * shares[(c, i)])
    }

    /// The mixture for given responsibilities (components×n). The weight of a component is its mean
    /// responsibility; the component is the result of `component` for its index, its weighted
    /// responsibilities, and their sum.
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
                // The M-step of an empty component is undefined: it is kept, with weight 0.
                Some(before) if *size <= 1e-12 * n => before.components[c].clone(),
                _ => component(c, &weights, *size)?,
            });
        }
        // Not n, from which the sum of millions of rounded responsibilities differs.
        let total = sizes.sum();
        Ok(MixtureOfPpca { weights: sizes / total, components })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of responsibilities that are all rounded in the same direction: 3,000 ε from n.
    #[test]
    fn the_weights_of_many_observations_add_up_to_1() {
        let n = 100_000;
        let setting = MixtureOfPpca::<f64>::builder(2, 1);
        let data = Data::new(DMatrix::from_element(2, n, 1.0), vec![1.0; n], &setting, 1.0);
        let shares = DMatrix::from_fn(2, n, |c, _| [0.1, 0.9][c]);
        let ppca = || {
            let (loadings, mean) = (DMatrix::from_element(2, 1, 1.0), DVector::zeros(2));
            Ppca::<f64>::from_parameters(loadings, mean, 0.5)
        };
        let mixture = data.with_shares(&shares, None, |_, _, _| ppca()).unwrap();
        assert!((mixture.weights.sum() - 1.0).abs() <= f64::EPSILON);
        let components = vec![ppca().unwrap(), ppca().unwrap()];
        MixtureOfPpca::from_components(mixture.weights, components).unwrap();
    }
}

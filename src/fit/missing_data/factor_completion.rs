//! EM over the missing entries alone, for factor analysis of a moderate number of variables.
//!
//! The EM of [`Ascent`](super::ascent) takes the codes z as missing too, and moves a ψ_j near 0 by
//! ever smaller steps. Here only the missing entries are: the E-step is the expected second moment
//! of the completed data, and the M-step the maximum of the profile likelihood of factor analysis,
//! which finds bounds ψ_j = floor at once. J never falls from one step to the next, and the rate
//! depends on the missing entries only. It starts the ascent near a maximum.
//!
//! Legend, in units of the variables' standard deviations: r = x − μ, o and m the observed and the
//! missing entries of an observation, V = (I + W_oᵗΨ_o⁻¹W_o)⁻¹ the posterior covariance of z.

use super::maximization::Theta;
use super::observed::Observed;
use crate::Real;
use crate::data::Centering;
use crate::fit::profile_likelihood::{ProfileLikelihood, StandardFactors};
use crate::likelihood::{DiagonalGaussian, GaussianNoise};
use crate::linalg::parallel::map_blocks;
use crate::linalg::{
    cholesky_lower, gemm, matrix_product, product_tr_left, product_tr_right, solve_cholesky,
    symmetric_eigen,
};
use nalgebra::{DMatrix, DVector};

/// Largest number of variables: a step costs O(d³) and O(n·d²).
const MOST_VARIABLES: usize = 100;

/// Bound on the number of steps; with most entries observed a dozen are enough.
const STEPS: usize = 150;

/// Number of common entries from which the correlation of two variables is estimated.
const COMMON: usize = 4;

/// Correlation above which two variables are tried as one variable in two units, and the largest
/// number of such pairs.
const NEAR_IDENTITY: f64 = 0.99;
const MOST_IDENTITIES: usize = 3;

/// Gain of J per observation below which the ascent goes on from here.
const SMALL_GAIN: f64 = 1e-7;

/// The expected second moment of the completed data about their expected mean.
struct Completed {
    /// The change of the mean.
    shift: DVector<f64>,
    moment: DMatrix<f64>,
    /// Σ ln p(x_o) per observation, up to a constant.
    value: f64,
}

/// The factor model of the variables that vary, in units of their standard deviations.
#[derive(Clone)]
struct Standardized {
    loadings: DMatrix<f64>,
    mean: DVector<f64>,
    noise_variances: DVector<f64>,
}

/// The data of the steps.
pub(super) struct Completion<'a, 'x, T: Real> {
    data: &'a Observed<'x, T>,
    mean: Centering,
    varying: Vec<usize>,
    units: DVector<f64>,
    /// The lower bound of each ψ_j, in units of the variable's variance.
    floor: f64,
    latent_dim: usize,
}

impl<'a, 'x, T: Real> Completion<'a, 'x, T> {
    /// Returns the steps for this data and noise; `None` for too many variables.
    pub(super) fn new(
        data: &'a Observed<'x, T>,
        mean: Centering,
        noise: &DiagonalGaussian<f64>,
        latent_dim: usize,
    ) -> Option<Self> {
        let varying = data.varying().ok()?;
        let few = varying.len() <= MOST_VARIABLES && latent_dim < varying.len();
        let units = DVector::from_iterator(
            varying.len(),
            varying.iter().map(|&j| data.variances[j].sqrt()),
        );
        let first = *varying.first()?;
        let floor = noise.floors()[first] / data.variances[first];
        few.then_some(Self { data, mean, varying, units, floor, latent_dim })
    }

    /// The lower bound of each ψ_j, in units of the variable's variance.
    pub(super) fn floor(&self) -> f64 {
        self.floor
    }

    /// Returns the correlation of each two variables over the observations that have both, 0 for
    /// fewer than [`COMMON`] of them. The matrix need not be positive definite.
    pub(super) fn common_correlations(&self) -> DMatrix<f64> {
        let (data, d) = (self.data, self.varying.len());
        let mut rows = DMatrix::zeros(d, data.patterns.order.len());
        let mut values = vec![0.0; data.mean.len()];
        for (&column, mut row) in data.patterns.order.iter().zip(rows.column_iter_mut()) {
            data.x.column_into(column, &mut values);
            for (place, &j) in self.varying.iter().enumerate() {
                row[place] = (values[j] - data.mean[j]) / self.units[place];
            }
        }
        let rows = rows.transpose();
        let correlation = |a: usize, b: usize| {
            let (first, second) = (rows.column(a), rows.column(b));
            let common = || {
                let both = first.iter().zip(second.iter()).zip(&data.patterns.order);
                both.filter(|((x, y), _)| !x.is_nan() && !y.is_nan())
                    .map(|((x, y), &column)| (*x, *y, data.weight(column)))
            };
            let count = common().count();
            let weight: f64 = common().map(|(_, _, w)| w).sum();
            let mean = |of: fn(f64, f64) -> f64| {
                common().map(|(x, y, w)| w * of(x, y)).sum::<f64>() / weight
            };
            let about = match self.mean {
                Centering::Mean => (mean(|x, _| x), mean(|_, y| y)),
                Centering::None => (0.0, 0.0),
            };
            let moments = common().fold((0.0, 0.0, 0.0), |sum, (x, y, w)| {
                let (x, y) = (x - about.0, y - about.1);
                (sum.0 + w * x * x, sum.1 + w * x * y, sum.2 + w * y * y)
            });
            let scale = (moments.0 * moments.2).sqrt();
            if count >= COMMON && scale > 0.0 { moments.1 / scale } else { 0.0 }
        };
        let mut correlations = DMatrix::identity(d, d);
        for b in 0..d {
            for a in 0..b {
                let value = correlation(a, b);
                correlations[(a, b)] = value;
                correlations[(b, a)] = value;
            }
        }
        correlations
    }

    /// Returns the model with its weakest factor replaced by each near-identity of two variables, as
    /// far as these correlations show one: both variables without noise.
    // EM imputes a missing entry from all factors, and a pair that the present model does not
    // explain entirely would not become one by itself.
    pub(super) fn with_identities(
        &self,
        theta: &Theta<DiagonalGaussian<f64>>,
        correlations: &DMatrix<f64>,
    ) -> Vec<Theta<DiagonalGaussian<f64>>> {
        let d = self.varying.len();
        let mut pairs: Vec<(usize, usize)> =
            (0..d).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
        pairs.retain(|&pair| correlations[pair].abs() > NEAR_IDENTITY);
        pairs.sort_by(|&x, &y| correlations[y].abs().total_cmp(&correlations[x].abs()));
        pairs.truncate(MOST_IDENTITIES);
        let model = self.standardized(theta);
        let lengths: Vec<f64> = model.loadings.column_iter().map(|w| w.norm_squared()).collect();
        let weakest = (0..lengths.len()).min_by(|&a, &b| lengths[a].total_cmp(&lengths[b]));
        let Some(weakest) = weakest else { return Vec::new() };
        let replaced = |&(a, b): &(usize, usize)| {
            let mut model = model.clone();
            for j in [a, b] {
                model.loadings.row_mut(j).fill(0.0);
                model.noise_variances[j] = self.floor;
            }
            for j in 0..d {
                model.loadings[(j, weakest)] = correlations[(j, a)];
            }
            model.loadings[(b, weakest)] = correlations[(a, b)].signum();
            self.restored(&model, theta)
        };
        pairs.iter().map(replaced).collect()
    }

    /// Improves a model by steps until these gain little, and returns it with its J per
    /// observation (up to a constant); `None` where a decomposition fails.
    pub(super) fn improve(
        &self,
        theta: &Theta<DiagonalGaussian<f64>>,
    ) -> Option<(Theta<DiagonalGaussian<f64>>, f64)> {
        let mut model = self.standardized(theta);
        let mut expected = self.expect(&model)?;
        for _ in 0..STEPS {
            let next = self.maximize(&model, &expected)?;
            let after = self.expect(&next)?;
            let gain = after.value - expected.value;
            if gain.is_nan() || gain < 0.0 {
                break;
            }
            (model, expected) = (next, after);
            if gain < SMALL_GAIN {
                break;
            }
        }
        Some((self.restored(&model, theta), expected.value))
    }

    fn standardized(&self, theta: &Theta<DiagonalGaussian<f64>>) -> Standardized {
        let rows = theta.loadings().select_rows(&self.varying);
        let (mean, variances) = (theta.mean(), theta.variances());
        let of = |values: &DVector<f64>, power: i32| {
            DVector::from_fn(self.varying.len(), |place, _| {
                values[self.varying[place]] / self.units[place].powi(power)
            })
        };
        Standardized {
            loadings: DMatrix::from_fn(rows.nrows(), rows.ncols(), |place, m| {
                rows[(place, m)] / self.units[place]
            }),
            mean: of(&mean, 1),
            noise_variances: of(&variances, 2).map(|v| v.max(self.floor)),
        }
    }

    /// Returns the model in the units of the data; variables that do not vary are those of `like`.
    fn restored(
        &self,
        model: &Standardized,
        like: &Theta<DiagonalGaussian<f64>>,
    ) -> Theta<DiagonalGaussian<f64>> {
        let (mut loadings, mut mean) = (like.loadings().into_owned(), like.mean());
        let mut variances = like.variances();
        for (place, &j) in self.varying.iter().enumerate() {
            let unit = self.units[place];
            loadings.row_mut(j).copy_from(&(model.loadings.row(place) * unit));
            mean[j] = model.mean[place] * unit;
            variances[j] = model.noise_variances[place] * unit * unit;
        }
        let mut noise = like.noise.clone();
        noise.set_variances(&variances, &DVector::from_element(variances.len(), 1.0));
        Theta::new(loadings, &mean, noise)
    }

    /// M-step: the mean, and the maximum of the profile likelihood near the present ψ.
    fn maximize(&self, model: &Standardized, expected: &Completed) -> Option<Standardized> {
        let eigen = symmetric_eigen(expected.moment.as_view()).ok()?;
        let mut root = eigen.vectors;
        for (mut column, &value) in root.column_iter_mut().zip(eigen.values.iter()) {
            column *= value.max(0.0).sqrt();
        }
        let StandardFactors { loadings, noise_variances } = ProfileLikelihood::default()
            .refine(&root, self.latent_dim, self.floor, &model.noise_variances)
            .ok()?;
        Some(Standardized { loadings, mean: &model.mean + &expected.shift, noise_variances })
    }

    /// E-step.
    fn expect(&self, model: &Standardized) -> Option<Completed> {
        let (patterns, d) = (&self.data.patterns, self.varying.len());
        let groups = patterns.groups();
        // Fixed pieces, reduced in order: results do not depend on the number of threads.
        let pieces = groups.min(16);
        let work = patterns.order.len() * d * (d + self.latent_dim * self.latent_dim);
        let parts = map_blocks(pieces, work, |piece| {
            let mut sum = (DVector::zeros(d), DMatrix::zeros(d, d), 0.0, 0.0);
            for group in piece * groups / pieces..(piece + 1) * groups / pieces {
                self.expect_group(
                    model,
                    patterns.starts[group]..patterns.starts[group + 1],
                    &mut sum,
                )?;
            }
            Some(sum)
        });
        let mut total = (DVector::zeros(d), DMatrix::zeros(d, d), 0.0, 0.0);
        for part in parts {
            let part: (DVector<f64>, DMatrix<f64>, f64, f64) = part?;
            total = (total.0 + part.0, total.1 + part.1, total.2 + part.2, total.3 + part.3);
        }
        let (sum, squares, value, weight) = total;
        let shift = match self.mean {
            Centering::Mean => sum / weight,
            Centering::None => DVector::zeros(d),
        };
        let moment = squares / weight - product_tr_right(&shift, &shift);
        let finite = value.is_finite() && moment.iter().all(|v| v.is_finite());
        finite.then_some(Completed { shift, moment, value: value / weight })
    }

    /// Adds the sums of one group of observations with the same missing entries: of r, of rrᵗ, of
    /// ln p(x_o), and of the weights.
    fn expect_group(
        &self,
        model: &Standardized,
        range: std::ops::Range<usize>,
        sum: &mut (DVector<f64>, DMatrix<f64>, f64, f64),
    ) -> Option<()> {
        let (d, k) = model.loadings.shape();
        let columns = &self.data.patterns.order[range];
        let mut values = vec![0.0; self.data.mean.len()];
        let mut deviations = DMatrix::zeros(d, columns.len());
        let mut seen = vec![true; d];
        let mut weights = Vec::with_capacity(columns.len());
        for (&column, mut out) in columns.iter().zip(deviations.column_iter_mut()) {
            self.data.x.column_into(column, &mut values);
            for (place, &j) in self.varying.iter().enumerate() {
                seen[place] = !values[j].is_nan();
                let deviation = values[j] / self.units[place] - model.mean[place];
                out[place] = if seen[place] { deviation } else { 0.0 };
            }
            weights.push(self.data.weight(column));
        }
        let weight: f64 = weights.iter().sum();
        // Ψ_o⁻¹W_o, with rows of 0 for missing entries.
        let mut weighted = model.loadings.clone();
        for (place, mut row) in weighted.row_iter_mut().enumerate() {
            row *= if seen[place] { 1.0 / model.noise_variances[place] } else { 0.0 };
        }
        let precision =
            product_tr_left(&weighted, &model.loadings) + DMatrix::<f64>::identity(k, k);
        let factor = cholesky_lower(precision.as_view()).ok()?;
        let projections = product_tr_left(&weighted, &deviations);
        let mut codes = projections.clone();
        solve_cholesky(&factor, codes.as_view_mut());
        let logarithm = 2.0 * factor.diagonal().iter().map(|v| v.ln()).sum::<f64>()
            + (0..d).filter(|&j| seen[j]).map(|j| model.noise_variances[j].ln()).sum::<f64>();
        for (i, &weight) in weights.iter().enumerate() {
            let squares: f64 = (0..d)
                .filter(|&j| seen[j])
                .map(|j| deviations[(j, i)].powi(2) / model.noise_variances[j])
                .sum();
            let distance = squares - codes.column(i).dot(&projections.column(i));
            sum.2 -= 0.5 * weight * (logarithm + distance);
        }
        sum.3 += weight;
        let missing: Vec<usize> = (0..d).filter(|&j| !seen[j]).collect();
        let rows = model.loadings.select_rows(&missing);
        if !missing.is_empty() {
            let fitted = matrix_product(&rows, &codes);
            for (place, &j) in missing.iter().enumerate() {
                deviations.row_mut(j).copy_from(&fitted.row(place));
            }
            // Cov(x_m | x_o) = W_m V W_mᵗ + Ψ_m.
            let mut solved = rows.transpose();
            solve_cholesky(&factor, solved.as_view_mut());
            let covariance = matrix_product(&rows, &solved);
            for (a, &j) in missing.iter().enumerate() {
                sum.1[(j, j)] += weight * model.noise_variances[j];
                for (b, &l) in missing.iter().enumerate() {
                    sum.1[(j, l)] += weight * covariance[(a, b)];
                }
            }
        }
        for (mut column, weight) in deviations.column_iter_mut().zip(&weights) {
            sum.0.axpy(*weight, &column, 1.0);
            column *= weight.sqrt();
        }
        let transposed = deviations.transpose();
        gemm(1.0, &deviations, &transposed, 1.0, &mut sum.1);
        Some(())
    }
}

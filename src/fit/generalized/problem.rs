//! The evidence lower bound of a linear decoder with independent variables, its gradient and the
//! curvature that preconditions its ascent.
//!
//! Legend: y_ij = o_ij + b_j + w_jᵗz_i the predictor of an entry, m_i and S_i the moments of q(z_i),
//! ξ_j the parameters of a variable's distribution.

use super::expectation::expectation;
use super::shape::{Shape, exp};
use super::table::Table;
use crate::likelihood::{Independent, Univariate};
use crate::linalg::parallel::map_blocks;
use crate::linalg::{Operand, gemm};
use nalgebra::{DMatrix, DVector};
use std::ops::Range;

/// θ: the loadings (d×k), the intercepts (d) and the parameters ξ of the variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Theta {
    pub(crate) loadings: DMatrix<f64>,
    pub(crate) intercepts: DVector<f64>,
    pub(crate) xi: Vec<f64>,
}

impl Theta {
    pub(super) fn zeros(d: usize, k: usize, parameters: usize) -> Self {
        Self {
            loadings: DMatrix::zeros(d, k),
            intercepts: DVector::zeros(d),
            xi: vec![0.0; parameters],
        }
    }

    pub(super) fn slices(&self) -> [&[f64]; 3] {
        [self.loadings.as_slice(), self.intercepts.as_slice(), &self.xi]
    }

    pub(super) fn slices_mut(&mut self) -> [&mut [f64]; 3] {
        [self.loadings.as_mut_slice(), self.intercepts.as_mut_slice(), &mut self.xi]
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (to, from) in self.slices_mut().into_iter().zip(other.slices()) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
}

/// The prior of z in the divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prior {
    /// N(0, I).
    Standard,
    /// N(a, B) with the best a and B. A change of z to the standard prior turns it into loadings and
    /// intercepts with the same J: the maximum over a and B takes the place of slow steps along this
    /// change, as in parameter-expanded EM (Liu, Rubin & Wu 1998).
    Best,
}

/// J of a table as a function of θ and of φ (rows of [`Shape::rows`] × distinct observations).
pub(crate) struct Problem<'a, U> {
    pub(super) table: &'a Table<'a>,
    /// The distributions of the variables; its parameters are not used.
    pub(super) likelihood: &'a Independent<f64, U>,
    pub(super) shape: Shape,
    pub(super) latent_dim: usize,
    pub(super) prior: Prior,
}

/// J and its gradient.
pub(super) struct Gradient {
    pub(super) value: f64,
    pub(super) theta: Theta,
    pub(super) phi: DMatrix<f64>,
}

/// Curvatures of −J: of each variable by (w_j, b_j), of each observation by m_i.
pub(super) struct Curvature {
    /// The lower triangles, column by column, of Σ_i c_ij (E zzᵗ, m; mᵗ, 1): one column a variable.
    pub(super) variables: DMatrix<f64>,
    /// The lower triangles of Σ_j c_ij w_j w_jᵗ: one column an observation.
    pub(super) observations: DMatrix<f64>,
}

/// Entries that are processed together.
const BLOCK: usize = 1 << 14;
/// Groups of observations whose sums are made apart: each holds a gradient by θ.
const GROUPS: usize = 8;
/// Cost of one entry, in multiply-adds.
const WORK: usize = 64;

/// The places of the lower triangle of a k×k matrix, column by column.
pub(super) fn triangle(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k).flat_map(move |a| (a..k).map(move |b| (b, a)))
}

/// The symmetric matrix with this lower triangle.
pub(super) fn symmetric(k: usize, lower: &[f64]) -> DMatrix<f64> {
    let mut matrix = DMatrix::zeros(k, k);
    for ((b, a), &value) in triangle(k).zip(lower) {
        matrix[(b, a)] = value;
        matrix[(a, b)] = value;
    }
    matrix
}

/// Buffers of one group of observations.
struct Buffers {
    x: DMatrix<f64>,
    mean: DMatrix<f64>,
    variance: DMatrix<f64>,
    product: DMatrix<f64>,
}

impl<U: Univariate<f64>> Problem<'_, U> {
    pub(super) fn data_dim(&self) -> usize {
        self.table.variables
    }

    /// Consecutive observations that are processed together, at most.
    fn block(&self) -> usize {
        (BLOCK / self.data_dim()).clamp(8, 1024)
    }

    fn groups(&self) -> Vec<Range<usize>> {
        let n = self.table.len();
        // A group is at least one block, and depends on the sizes alone.
        let size = n.div_ceil(GROUPS).max(self.block());
        (0..n.div_ceil(size)).map(|g| g * size..n.min((g + 1) * size)).collect()
    }

    fn blocks(&self, group: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (block, end) = (self.block(), group.end);
        group.step_by(block).map(move |first| first..end.min(first + block))
    }

    fn work(&self) -> usize {
        self.table.len().saturating_mul(self.data_dim()).saturating_mul(WORK)
    }

    /// J, a total over the observations by weight, and its gradient.
    pub(super) fn evaluate(&self, theta: &Theta, phi: &DMatrix<f64>) -> Gradient {
        let (d, k, n) = (self.data_dim(), self.latent_dim, self.table.len());
        let squares = theta.loadings.map(|w| w * w);
        let groups = self.groups();
        let parts = map_blocks(groups.len(), self.work(), |g| {
            self.group_gradient(groups[g].clone(), theta, &squares, phi)
        });
        let mut sum = Gradient {
            value: 0.0,
            theta: Theta::zeros(d, k, theta.xi.len()),
            phi: DMatrix::zeros(phi.nrows(), n),
        };
        for (part, group) in parts.into_iter().zip(groups) {
            sum.value += part.value;
            sum.theta.add(&part.theta);
            sum.phi.columns_range_mut(group).copy_from(&part.phi);
        }
        sum.value -= self.add_divergence(phi, &mut sum.phi);
        sum
    }

    /// The expected log-likelihood of some observations, with its gradient.
    fn group_gradient(
        &self,
        group: Range<usize>,
        theta: &Theta,
        squares: &DMatrix<f64>,
        phi: &DMatrix<f64>,
    ) -> Gradient {
        let (d, k) = (self.data_dim(), self.latent_dim);
        let mut sum = Gradient {
            value: 0.0,
            theta: Theta::zeros(d, k, theta.xi.len()),
            phi: DMatrix::zeros(phi.nrows(), group.len()),
        };
        // ∂/∂(w_ja²) where the covariances are diagonal.
        let mut d_squares = DMatrix::zeros(d, k);
        let mut buffers = self.buffers();
        for block in self.blocks(group.clone()) {
            self.predictors(block.clone(), theta, squares, phi, &mut buffers);
            sum.value += self.expectations(block.clone(), &theta.xi, &mut buffers, &mut sum.theta);
            let Buffers { mean: d_mean, variance: d_variance, .. } = &buffers;
            let means = phi.view((0, block.start), (k, block.len()));
            gemm(1.0, d_mean, Operand::from(means).transposed(), 1.0, &mut sum.theta.loadings);
            for column in d_mean.column_iter() {
                sum.theta.intercepts += column;
            }
            let local = block.start - group.start;
            let mut d_phi = sum.phi.columns_mut(local, block.len());
            gemm(
                1.0,
                Operand::from(&theta.loadings).transposed(),
                d_mean,
                1.0,
                d_phi.rows_mut(0, k),
            );
            if self.shape == Shape::Full {
                self.full_variances(&block, theta, phi, &buffers, &mut sum, local);
                continue;
            }
            let variances = self.variances(&block, phi);
            gemm(1.0, d_variance, Operand::from(&variances).transposed(), 1.0, &mut d_squares);
            let mut d_variances = DMatrix::zeros(k, block.len());
            gemm(1.0, Operand::from(squares).transposed(), d_variance, 0.0, &mut d_variances);
            let mut d_phi = sum.phi.columns_mut(local, block.len());
            for i in 0..block.len() {
                for a in 0..k {
                    let row = if self.shape == Shape::Isotropic { k } else { k + a };
                    d_phi[(row, i)] += variances[(a, i)] * d_variances[(a, i)];
                }
            }
        }
        // ∂w²/∂w = 2w.
        sum.theta.loadings += d_squares.component_mul(&theta.loadings) * 2.0;
        sum
    }

    /// The derivatives through w_jᵗS_iw_j for full covariances: a column of L_i after the other.
    fn full_variances(
        &self,
        block: &Range<usize>,
        theta: &Theta,
        phi: &DMatrix<f64>,
        buffers: &Buffers,
        sum: &mut Gradient,
        local: usize,
    ) {
        let (d, k) = (self.data_dim(), self.latent_dim);
        let factors = self.factors(block, phi);
        let mut product = DMatrix::zeros(d, block.len());
        let mut d_factors = vec![DMatrix::zeros(k, k); block.len()];
        let mut d_column = DMatrix::zeros(k, block.len());
        for a in 0..k {
            let column = DMatrix::from_fn(k, block.len(), |row, i| factors[i][(row, a)]);
            gemm(2.0, &theta.loadings, &column, 0.0, &mut product);
            product.component_mul_assign(&buffers.variance);
            let transposed = Operand::from(&column).transposed();
            gemm(1.0, &product, transposed, 1.0, &mut sum.theta.loadings);
            gemm(1.0, Operand::from(&theta.loadings).transposed(), &product, 0.0, &mut d_column);
            for (i, d_factor) in d_factors.iter_mut().enumerate() {
                d_factor.set_column(a, &d_column.column(i));
            }
        }
        let rows = phi.nrows();
        for (i, (factor, d_factor)) in factors.iter().zip(&d_factors).enumerate() {
            let at = (local + i) * rows;
            let d_phi = &mut sum.phi.as_mut_slice()[at..at + rows];
            self.shape.add_factor_gradient(factor, d_factor, d_phi);
        }
    }

    fn buffers(&self) -> Buffers {
        let empty = || DMatrix::zeros(0, 0);
        Buffers { x: empty(), mean: empty(), variance: empty(), product: empty() }
    }

    fn factors(&self, block: &Range<usize>, phi: &DMatrix<f64>) -> Vec<DMatrix<f64>> {
        let k = self.latent_dim;
        let factor = |i: usize| {
            let mut factor = DMatrix::zeros(k, k);
            self.shape.factor_into(phi.column(i).as_slice(), &mut factor);
            factor
        };
        block.clone().map(factor).collect()
    }

    /// The variances of q along each dimension, k×(observations of the block).
    fn variances(&self, block: &Range<usize>, phi: &DMatrix<f64>) -> DMatrix<f64> {
        let k = self.latent_dim;
        DMatrix::from_fn(k, block.len(), |a, i| {
            let row = if self.shape == Shape::Isotropic { k } else { k + a };
            exp(phi[(row, block.start + i)])
        })
    }

    /// Fills the values, and the means and variances of the predictors, of a block.
    fn predictors(
        &self,
        block: Range<usize>,
        theta: &Theta,
        squares: &DMatrix<f64>,
        phi: &DMatrix<f64>,
        buffers: &mut Buffers,
    ) {
        let (d, k, n) = (self.data_dim(), self.latent_dim, block.len());
        for buffer in
            [&mut buffers.x, &mut buffers.mean, &mut buffers.variance, &mut buffers.product]
        {
            crate::linalg::reshape(buffer, d, n);
        }
        self.table.values_into(block.start, buffers.x.as_mut_slice());
        buffers.mean.column_iter_mut().for_each(|mut c| c.copy_from(&theta.intercepts));
        self.table.add_offsets(block.start, buffers.mean.as_mut_slice());
        let means = phi.view((0, block.start), (k, n));
        gemm(1.0, &theta.loadings, means, 1.0, &mut buffers.mean);
        if self.shape != Shape::Full {
            gemm(1.0, squares, &self.variances(&block, phi), 0.0, &mut buffers.variance);
            return;
        }
        buffers.variance.fill(0.0);
        let factors = self.factors(&block, phi);
        for a in 0..k {
            let column = DMatrix::from_fn(k, n, |row, i| factors[i][(row, a)]);
            gemm(1.0, &theta.loadings, &column, 0.0, &mut buffers.product);
            let products = buffers.product.as_slice();
            for (v, p) in buffers.variance.as_mut_slice().iter_mut().zip(products) {
                *v += p * p;
            }
        }
    }

    /// Replaces means and variances of the predictors by the weighted derivatives by them; returns
    /// the sum of the weighted expectations.
    fn expectations(
        &self,
        block: Range<usize>,
        xi: &[f64],
        buffers: &mut Buffers,
        sum: &mut Theta,
    ) -> f64 {
        let d = self.data_dim();
        let mut total = 0.0;
        let mut own = vec![0.0; xi.len()];
        let mut scratch = vec![0.0; xi.len()];
        let Buffers { x, mean, variance, .. } = buffers;
        let columns = x
            .as_slice()
            .chunks_exact(d)
            .zip(mean.as_mut_slice().chunks_exact_mut(d))
            .zip(variance.as_mut_slice().chunks_exact_mut(d));
        let common = self.likelihood.common();
        for (((x, mean), variance), observation) in columns.zip(block) {
            let weight = self.table.weights[observation];
            // One loop over all variables, where there is one: it is vectorised.
            let at_once = common.and_then(|u| u.expected_log_densities(x, mean, variance, weight));
            if let Some(value) = at_once {
                total += weight * value;
                continue;
            }
            let mut value = 0.0;
            let entries = x.iter().zip(mean).zip(variance).enumerate();
            for (j, ((&x, mean), variance)) in entries {
                if x.is_nan() {
                    (*mean, *variance) = (0.0, 0.0);
                    continue;
                }
                let places = self.likelihood.range(j);
                let found = expectation(
                    self.likelihood.distribution(j),
                    x,
                    (*mean, *variance),
                    &xi[places.clone()],
                    &mut own[places.clone()],
                    &mut scratch[places.clone()],
                );
                value += found.value;
                (*mean, *variance) = (weight * found.d_mean, weight * found.d_variance);
                for (sum, d) in sum.xi[places.clone()].iter_mut().zip(&own[places]) {
                    *sum += weight * d;
                }
            }
            total += weight * value;
        }
        total
    }

    /// The expected log-likelihood of each distinct observation, in nats.
    pub(super) fn expected(&self, theta: &Theta, phi: &DMatrix<f64>) -> Vec<f64> {
        let squares = theta.loadings.map(|w| w * w);
        let groups = self.groups();
        let parts = map_blocks(groups.len(), self.work(), |g| {
            let mut buffers = self.buffers();
            let mut values = Vec::with_capacity(groups[g].len());
            for block in self.blocks(groups[g].clone()) {
                self.predictors(block.clone(), theta, &squares, phi, &mut buffers);
                let (mut own, mut scratch) = (theta.xi.clone(), theta.xi.clone());
                for i in 0..block.len() {
                    let entry = |j: usize| {
                        let x = buffers.x[(j, i)];
                        let places = self.likelihood.range(j);
                        let moments = (buffers.mean[(j, i)], buffers.variance[(j, i)]);
                        if x.is_nan() {
                            return 0.0;
                        }
                        let (own, scratch) =
                            (&mut own[places.clone()], &mut scratch[places.clone()]);
                        let distribution = self.likelihood.distribution(j);
                        expectation(distribution, x, moments, &theta.xi[places], own, scratch).value
                    };
                    values.push((0..self.data_dim()).map(entry).sum());
                }
            }
            values
        });
        parts.concat()
    }

    /// The curvatures of −J, with negative ones of single entries replaced by 0.
    pub(super) fn curvature(&self, theta: &Theta, phi: &DMatrix<f64>) -> Curvature {
        let (d, k, n) = (self.data_dim(), self.latent_dim, self.table.len());
        let squares = theta.loadings.map(|w| w * w);
        let (own, with_bias) = (k * (k + 1) / 2, (k + 1) * (k + 2) / 2);
        let mut products = DMatrix::zeros(own, d);
        for j in 0..d {
            let w = theta.loadings.row(j);
            for (place, (b, a)) in triangle(k).enumerate() {
                products[(place, j)] = w[a] * w[b];
            }
        }
        let groups = self.groups();
        let parts = map_blocks(groups.len(), self.work(), |g| {
            let mut variables = DMatrix::zeros(with_bias, d);
            let mut observations = DMatrix::zeros(own, groups[g].len());
            let mut buffers = self.buffers();
            let mut unused = Theta::zeros(0, 0, theta.xi.len());
            for block in self.blocks(groups[g].clone()) {
                self.predictors(block.clone(), theta, &squares, phi, &mut buffers);
                self.expectations(block.clone(), &theta.xi, &mut buffers, &mut unused);
                // ∂²E/∂m² = 2 ∂E/∂v for a normal predictor (Bonnet's and Price's theorems).
                let curvatures = buffers.variance.map(|d| (-2.0 * d).max(0.0));
                let moments = self.moments(&block, phi);
                let transposed = Operand::from(&curvatures).transposed();
                gemm(1.0, &moments, transposed, 1.0, &mut variables);
                let local = block.start - groups[g].start;
                let target = observations.columns_mut(local, block.len());
                gemm(1.0, &products, &curvatures, 0.0, target);
            }
            (variables, observations)
        });
        let mut curvature = Curvature {
            variables: DMatrix::zeros(with_bias, d),
            observations: DMatrix::zeros(own, n),
        };
        for ((variables, observations), group) in parts.into_iter().zip(groups) {
            curvature.variables += variables;
            curvature.observations.columns_range_mut(group).copy_from(&observations);
        }
        curvature
    }

    /// The lower triangle of (E zzᵗ, m; mᵗ, 1) of each observation of a block.
    fn moments(&self, block: &Range<usize>, phi: &DMatrix<f64>) -> DMatrix<f64> {
        let k = self.latent_dim;
        let mut moments = DMatrix::zeros((k + 1) * (k + 2) / 2, block.len());
        let mut factor = DMatrix::zeros(k, k);
        for (i, observation) in block.clone().enumerate() {
            let phi = phi.column(observation);
            self.shape.factor_into(phi.as_slice(), &mut factor);
            let m = |a: usize| if a < k { phi[a] } else { 1.0 };
            for (place, (b, a)) in triangle(k + 1).enumerate() {
                let spread = if b < k { factor.row(a).dot(&factor.row(b)) } else { 0.0 };
                moments[(place, i)] = m(a) * m(b) + spread;
            }
        }
        moments
    }

    /// The mean a and the covariance B of the prior: of q over all observations, or standard.
    pub(super) fn prior_moments(&self, phi: &DMatrix<f64>) -> (DVector<f64>, DMatrix<f64>) {
        let k = self.latent_dim;
        if self.prior == Prior::Standard || k == 0 {
            return (DVector::zeros(k), DMatrix::identity(k, k));
        }
        let weights = &self.table.weights;
        let total = self.table.total_weight;
        let mut mean = DVector::zeros(k);
        for (phi, weight) in phi.column_iter().zip(weights) {
            mean.axpy(weight / total, &phi.rows(0, k), 1.0);
        }
        let mut moment = DMatrix::zeros(k, k);
        let mut factor = DMatrix::zeros(k, k);
        for (phi, weight) in phi.column_iter().zip(weights) {
            let deviation = phi.rows(0, k) - &mean;
            moment.ger(weight / total, &deviation, &deviation, 1.0);
            self.shape.factor_into(phi.as_slice(), &mut factor);
            moment.gemm(weight / total, &factor, &factor.transpose(), 1.0);
        }
        (mean, self.shape.project(moment))
    }

    /// Returns Σ w_i KL(q_i‖N(a, B)) in nats and subtracts its gradient from `d_phi`.
    fn add_divergence(&self, phi: &DMatrix<f64>, d_phi: &mut DMatrix<f64>) -> f64 {
        let k = self.latent_dim;
        let (mean, covariance) = self.prior_moments(phi);
        let Some(cholesky) = covariance.cholesky() else { return f64::NAN };
        let inverse = cholesky.inverse();
        let log_determinant: f64 = cholesky.l_dirty().diagonal().iter().map(|l| 2.0 * l.ln()).sum();
        let mut factor = DMatrix::zeros(k, k);
        let rows = phi.nrows();
        let mut total = 0.0;
        for (i, &weight) in self.table.weights.iter().enumerate() {
            let column = phi.column(i);
            self.shape.factor_into(column.as_slice(), &mut factor);
            let deviation = column.rows(0, k) - &mean;
            let pulled = &inverse * &deviation;
            let d_factor = &inverse * &factor;
            let log_own: f64 = factor.diagonal().iter().map(|l| 2.0 * l.ln()).sum();
            total += 0.5
                * weight
                * (d_factor.dot(&factor) + pulled.dot(&deviation) - k as f64 + log_determinant
                    - log_own);
            let d = &mut d_phi.as_mut_slice()[i * rows..(i + 1) * rows];
            for (d, pulled) in d.iter_mut().zip(pulled.iter()) {
                *d -= weight * pulled;
            }
            self.shape.add_factor_gradient(&factor, &(d_factor * -weight), d);
            // ½ ln|S|, a sum of log-variances.
            match self.shape {
                Shape::Isotropic => d[k] += 0.5 * weight * k as f64,
                _ => d[k..2 * k].iter_mut().for_each(|d| *d += 0.5 * weight),
            }
        }
        total
    }

    /// The second derivative of J by each ξ, by differences of its gradient: negative where J is
    /// concave.
    pub(super) fn second_by_parameters(
        &self,
        theta: &Theta,
        phi: &DMatrix<f64>,
        at: &Gradient,
    ) -> Vec<f64> {
        let most = (0..self.data_dim()).map(|j| self.likelihood.range(j).len()).max().unwrap_or(0);
        let mut second = vec![0.0; theta.xi.len()];
        const STEP: f64 = 1e-4;
        for p in 0..most {
            // A parameter enters the terms of its own variable only: one step serves all variables.
            let mut moved = theta.clone();
            let places: Vec<usize> = (0..self.data_dim())
                .filter(|&j| self.likelihood.range(j).len() > p)
                .map(|j| self.likelihood.range(j).start + p)
                .collect();
            places.iter().for_each(|&place| moved.xi[place] += STEP);
            let there = self.evaluate(&moved, phi);
            for place in places {
                second[place] = (there.theta.xi[place] - at.theta.xi[place]) / STEP;
            }
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Data, Incomplete, Offset};
    use crate::likelihood::{Bernoulli, Poisson};
    use crate::linalg::testing::random;

    /// The largest difference between the gradient and central differences of J, relative to 1.
    fn error<U: Univariate<f64>>(distribution: U, shape: Shape, prior: Prior) -> f64 {
        let (d, k, n) = (4, 2, 5);
        let mut x = DMatrix::from_fn(d, n, |j, i| f64::from(u8::from((i + 2 * j) % 3 == 0)));
        x[(1, 2)] = f64::NAN;
        let offsets = random::<f64>(d, n, 1);
        let weights = [1.0, 0.5, 2.0, 1.0, 3.0];
        let data = Incomplete(&x).offset(Offset::from(&offsets)).weighted(&weights);
        let table = Table::new::<f64, _>(data.into_form().unwrap()).unwrap();
        let likelihood = Independent::new(distribution, d).unwrap();
        let problem =
            Problem { table: &table, likelihood: &likelihood, shape, latent_dim: k, prior };
        let theta = Theta {
            loadings: random(d, k, 2),
            intercepts: random::<f64>(d, 1, 3).column(0).into_owned(),
            xi: Vec::new(),
        };
        let phi = random::<f64>(shape.rows(k), n, 4);
        let found = problem.evaluate(&theta, &phi);
        let mut worst = 0.0f64;
        const STEP: f64 = 1e-5;
        for p in 0..phi.len() {
            let at = |sign: f64| {
                let mut moved = phi.clone();
                moved[p] += sign * STEP;
                problem.evaluate(&theta, &moved).value
            };
            worst = worst.max((found.phi[p] - (at(1.0) - at(-1.0)) / (2.0 * STEP)).abs());
        }
        for p in 0..d * (k + 1) {
            let at = |sign: f64| {
                let mut moved = theta.clone();
                if let Some(value) = moved.slices_mut().into_iter().flatten().nth(p) {
                    *value += sign * STEP;
                }
                problem.evaluate(&moved, &phi).value
            };
            let slices = found.theta.slices();
            let own = slices.into_iter().flatten().nth(p).copied().unwrap_or(f64::NAN);
            worst = worst.max((own - (at(1.0) - at(-1.0)) / (2.0 * STEP)).abs());
        }
        worst
    }

    #[test]
    fn gradients_are_those_of_j() {
        for shape in [Shape::Isotropic, Shape::Diagonal, Shape::Full] {
            for prior in [Prior::Standard, Prior::Best] {
                assert!(error(Poisson, shape, prior) < 1e-6, "{shape:?} {prior:?}");
                assert!(error(Bernoulli, shape, prior) < 1e-6, "{shape:?} {prior:?}");
            }
        }
    }
}

//! Exact posteriors of a block of incomplete observations. With o the observed entries, M_o =
//! W_oᵗW_o + σ²I and b = W_oᵗ(x_o − μ_o),
//!
//! ```text
//! p(z|x_o) = N(m, σ²M_o⁻¹),  m = M_o⁻¹b,
//! −2 ln p(x_o) = |o| ln 2π + (|o| − k) ln σ² + ln|M_o|
//!                + (‖x_o − μ_o − W_o m‖² + σ²‖m‖²)/σ²
//! ```
//!
//! Noise that is not isotropic is made isotropic first: x − μ and W stand for D⁻¹(x − μ) and D⁻¹W,
//! and ln p(x_o) is smaller by ½ ln|D_o²|.
//!
//! Observations with the same pattern of missing values form a group. The matrices M_o of all
//! groups of a block are one product, of the mask and of the products W_ja W_jb; their Cholesky
//! factors are computed in batches, one group per SIMD lane.

use super::Parameters;
use crate::Real;
use crate::data::{IncompleteObservations, Patterns};
use crate::linalg::vector::{squared_norms_into, vectorized};
use crate::linalg::{
    Batch, LANES, Lane, Operand, dot, gemm, packed, packed_len, read_lane, solve_batch, thin_qr,
    write_lane,
};
use crate::{Error, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut};
use std::ops::Range;

/// If ‖x_o − μ_o‖² − ‖L⁻¹b‖² is a smaller share of ‖x_o − μ_o‖² than this, three digits have
/// cancelled, and the residual itself is formed.
const CANCELLED: f64 = 1e-3;

/// Buffers for a block of observations and, after [`Block::infer`], their posteriors. They are
/// reused for the next block.
pub(crate) struct Block {
    /// The number of observations in the block, in the order of their patterns.
    pub(crate) rows: usize,
    /// The number of patterns in the block.
    pub(crate) groups: usize,
    /// The group of each row (observation).
    pub(crate) group_of: Vec<usize>,
    /// 1 for an observed variable of a pattern, else 0, d×groups.
    mask: Vec<f64>,
    /// D⁻¹(x − μ), 0 for a missing value, d×rows.
    deviations: Vec<f64>,
    /// M_o, then L⁻¹ with LLᵗ = M_o, packed: groups×k(k+1)/2.
    factors: Vec<f64>,
    /// σ²M_o⁻¹, packed: groups×k(k+1)/2.
    covariances: Vec<f64>,
    /// σ² tr M_o⁻¹ of each group.
    traces: Vec<f64>,
    /// ln|M_o| of each group.
    log_determinants: Vec<f64>,
    /// The number |o| of observed variables of each group.
    observed: Vec<f64>,
    /// ln|D_o²| of each group.
    scale_log_determinant: Vec<f64>,
    /// b = Wᵗ(x−μ), rows×k.
    projections: Vec<f64>,
    /// The posterior means m, then a column of ones, rows×(k+1).
    codes: Vec<f64>,
    /// ‖x_o − μ_o − W_o m‖² of each row.
    pub(crate) squares: Vec<f64>,
    /// ln p(x_o) of each row.
    pub(crate) log_likelihoods: Vec<f64>,
    /// Wm, then the residuals, d×rows.
    fitted: Vec<f64>,
    /// ‖D⁻¹(x_o − μ_o)‖² of each row.
    wholes: Vec<f64>,
    /// Groups whose M_o is too inaccurate, with the rows of Q of their QR decomposition.
    hard: Vec<(usize, DMatrix<f64>)>,
    batch: Batch,
    /// Buffers of `solve`: L⁻¹, b and L⁻¹b of one batch.
    room: [Vec<Lane>; 3],
    /// (d, k).
    dims: (usize, usize),
}

/// Resizes a buffer whose contents will be overwritten.
fn resize(buffer: &mut Vec<f64>, len: usize) {
    buffer.resize(len, 0.0);
}

impl Block {
    pub(crate) fn new(data_dim: usize, latent_dim: usize) -> Self {
        let lanes = || vec![[0.0; LANES]; latent_dim];
        Self {
            rows: 0,
            groups: 0,
            group_of: Vec::new(),
            mask: Vec::new(),
            deviations: Vec::new(),
            factors: Vec::new(),
            covariances: Vec::new(),
            traces: Vec::new(),
            log_determinants: Vec::new(),
            observed: Vec::new(),
            scale_log_determinant: Vec::new(),
            projections: Vec::new(),
            codes: Vec::new(),
            squares: Vec::new(),
            log_likelihoods: Vec::new(),
            fitted: Vec::new(),
            wholes: Vec::new(),
            hard: Vec::new(),
            batch: Batch::new(latent_dim),
            room: [lanes(), lanes(), lanes()],
            dims: (data_dim, latent_dim),
        }
    }

    /// The number of observations in a block: 32,768/d between 16 and 512, so that the centred
    /// block (256 KiB) stays in the L2 cache.
    pub(crate) fn rows_for(data_dim: usize) -> usize {
        (32_768 / data_dim).clamp(16, 512)
    }

    /// 1 for an observed variable of a pattern, else 0, d×groups.
    pub(crate) fn mask(&self) -> DMatrixView<'_, f64> {
        DMatrixView::from_slice(&self.mask, self.dims.0, self.groups)
    }

    /// D⁻¹(x − μ), 0 for a missing value, d×rows.
    pub(crate) fn deviations(&self) -> DMatrixView<'_, f64> {
        DMatrixView::from_slice(&self.deviations, self.dims.0, self.rows)
    }

    /// The posterior means and a column of ones, [m 1], rows×(k+1).
    pub(crate) fn codes(&self) -> &[f64] {
        &self.codes
    }

    /// The posterior covariances σ²M_o⁻¹, packed, groups×k(k+1)/2.
    pub(crate) fn covariances(&self) -> &[f64] {
        &self.covariances
    }

    /// The traces of the posterior covariances, σ² tr M_o⁻¹, of each group.
    pub(crate) fn traces(&self) -> &[f64] {
        &self.traces
    }

    /// The inverse Cholesky factor L⁻¹ of a group, k×k, with LLᵗ = M_o.
    pub(crate) fn inverse_factor(&self, group: usize) -> DMatrix<f64> {
        let k = self.dims.1;
        DMatrix::from_fn(k, k, |a, b| {
            if a >= b { self.factors[packed(a, b) * self.groups + group] } else { 0.0 }
        })
    }

    /// The log-determinant ln|M_o| of a group.
    pub(crate) fn log_determinant(&self, group: usize) -> f64 {
        self.log_determinants[group]
    }

    /// Computes the posteriors and log-likelihoods of the observations of the groups `range`.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`] where a log-likelihood is not finite; those of the QR
    /// decomposition.
    pub(crate) fn infer<T: Real>(
        &mut self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        range: Range<usize>,
        parameters: &Parameters,
    ) -> Result<()> {
        self.load(x, patterns, range, parameters);
        let (rows, groups, (d, k)) = (self.rows, self.groups, self.dims);
        let pairs = packed_len(k);
        resize(&mut self.factors, groups * pairs);
        resize(&mut self.projections, rows * k);
        resize(&mut self.codes, rows * (k + 1));
        // Two products for the whole block: M_o − σ²I of all groups (packed), and b of all rows.
        // Missing values are 0 in the mask and in the centred data, and drop out of both.
        let mask = DMatrixView::from_slice(&self.mask, d, groups);
        let deviations = DMatrixView::from_slice(&self.deviations, d, rows);
        let moments = DMatrixViewMut::from_slice(&mut self.factors, groups, pairs);
        gemm(1.0, Operand::from(mask).transposed(), &parameters.products, 0.0, moments);
        let projections = DMatrixViewMut::from_slice(&mut self.projections, rows, k);
        gemm(1.0, Operand::from(deviations).transposed(), &parameters.equalized, 0.0, projections);
        self.factor(parameters)?;
        self.solve();
        self.score(parameters);
        if self.log_likelihoods.iter().all(|v| v.is_finite()) {
            Ok(())
        } else {
            Err(Error::NotPositiveDefinite { size: k })
        }
    }

    /// Reads the observations of the groups: centred, scaled and sorted by pattern.
    fn load<T: Real>(
        &mut self,
        x: &IncompleteObservations<'_, T>,
        patterns: &Patterns,
        range: Range<usize>,
        parameters: &Parameters,
    ) {
        let (d, mean) = (self.dims.0, &parameters.mean);
        let (first, end) = (patterns.starts[range.start], patterns.starts[range.end]);
        (self.rows, self.groups) = (end - first, range.len());
        resize(&mut self.mask, d * self.groups);
        resize(&mut self.deviations, d * self.rows);
        resize(&mut self.observed, self.groups);
        self.scale_log_determinant.clear();
        self.scale_log_determinant.resize(self.groups, 0.0);
        self.group_of.clear();
        for (group, at) in range.enumerate() {
            self.group_of.resize(patterns.starts[at + 1] - first, group);
            self.observed[group] = patterns.entries[at] as f64;
        }
        // The rows of a group are neighbours: its mask is written with its first row.
        let mut last = usize::MAX;
        for (row, &group) in self.group_of.iter().enumerate() {
            let own = &mut self.deviations[row * d..(row + 1) * d];
            let new = group != last;
            last = group;
            let mask = &mut self.mask[group * d..(group + 1) * d];
            x.deviations_into(
                patterns.order[first + row],
                mean.as_slice(),
                own,
                new.then_some(&mut *mask),
            );
            if let Some((inverses, logarithms)) = &parameters.scales {
                own.iter_mut()
                    .zip(inverses.iter())
                    .for_each(|(deviation, inverse)| *deviation *= inverse);
                if new {
                    self.scale_log_determinant[group] = dot(mask, logarithms.as_slice());
                }
            }
        }
    }

    /// Computes L⁻¹, σ²M_o⁻¹ and ln|M_o| of each group.
    fn factor(&mut self, parameters: &Parameters) -> Result<()> {
        let (groups, k, noise) = (self.groups, self.dims.1, parameters.noise_variance);
        let pairs = packed_len(k);
        resize(&mut self.covariances, groups * pairs);
        resize(&mut self.traces, groups);
        resize(&mut self.log_determinants, groups);
        self.hard.clear();
        let (batch, factors, covariances) =
            (&mut self.batch, &mut self.factors, &mut self.covariances);
        for first in (0..groups).step_by(LANES) {
            // One group per SIMD lane; the remainder of the last batch is unused.
            let count = LANES.min(groups - first);
            for (pair, lane) in batch.matrix.iter_mut().enumerate() {
                read_lane(lane, &factors[pair * groups + first..pair * groups + first + count]);
            }
            for a in 0..k {
                batch.matrix[packed(a, a)].iter_mut().for_each(|entry| *entry += noise);
            }
            vectorized(
                #[inline(always)]
                || {
                    batch.factor();
                    batch.invert();
                },
            );
            for (pair, (inverse, lane)) in
                batch.inverse_factor.iter().zip(&batch.matrix).enumerate()
            {
                let at = pair * groups + first;
                write_lane(inverse, &mut factors[at..at + count]);
                write_lane(&lane.map(|entry| noise * entry), &mut covariances[at..at + count]);
            }
            self.log_determinants[first..first + count]
                .copy_from_slice(&batch.log_determinant[..count]);
            // A small relative pivot means that M_o, formed by products, has lost digits.
            for lane in
                (0..count).filter(|&lane| batch.smallest_pivot_ratio[lane] < parameters.lost)
            {
                self.hard.push((first + lane, DMatrix::zeros(0, 0)));
            }
        }
        // After the loop, because these overwrite the results of their groups.
        for place in 0..self.hard.len() {
            let group = self.hard[place].0;
            self.hard[place].1 = self.factor_by_rows(group, parameters)?;
        }
        for group in 0..groups {
            self.traces[group] =
                (0..k).map(|a| self.covariances[packed(a, a) * groups + group]).sum();
        }
        Ok(())
    }

    /// Recomputes the factor of a group as L = Rᵗ from [W_o; σI] = QR, which keeps the accuracy of
    /// small loadings beside large ones. Returns the rows of Q that belong to W, d×k.
    fn factor_by_rows(&mut self, group: usize, parameters: &Parameters) -> Result<DMatrix<f64>> {
        let ((d, k), groups) = (self.dims, self.groups);
        let noise = parameters.noise_variance;
        let mask = &self.mask[group * d..(group + 1) * d];
        // Rows sorted by decreasing size, so that no small row is rounded away beside a large one
        // (row-wise stability of Householder QR: Higham, Accuracy and Stability of Numerical
        // Algorithms, section 19.4).
        let mut rows: Vec<(f64, usize)> = (0..d)
            .filter(|&j| mask[j] > 0.0)
            .map(|j| (parameters.equalized.row(j).amax(), j))
            .collect();
        rows.extend((0..k).map(|a| (noise.sqrt(), d + a)));
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut stacked = DMatrix::zeros(rows.len(), k);
        for (place, &(_, row)) in rows.iter().enumerate() {
            match row < d {
                true => stacked.row_mut(place).copy_from(&parameters.equalized.row(row)),
                false => stacked[(place, row - d)] = noise.sqrt(),
            }
        }
        let (q, r) = thin_qr(stacked.as_view())?;
        let mut inverse = DMatrix::identity(k, k);
        if !r.solve_upper_triangular_mut(&mut inverse) {
            return Err(Error::NotPositiveDefinite { size: k });
        }
        for a in 0..k {
            for b in 0..=a {
                let at = packed(a, b) * groups + group;
                self.factors[at] = inverse[(b, a)];
                self.covariances[at] = noise * inverse.row(a).dot(&inverse.row(b));
            }
        }
        self.log_determinants[group] = r.diagonal().iter().map(|v| 2.0 * v.ln()).sum();
        let mut of_loadings = DMatrix::zeros(d, k);
        for (place, &(_, row)) in rows.iter().enumerate().filter(|(_, (_, row))| *row < d) {
            of_loadings.row_mut(row).copy_from(&q.row(place));
        }
        Ok(of_loadings)
    }

    /// Computes m of each row, and ‖L⁻¹b‖², the explained part of ‖x_o − μ_o‖², into `squares`.
    fn solve(&mut self) {
        let (rows, groups, (d, k)) = (self.rows, self.groups, self.dims);
        resize(&mut self.squares, rows);
        let [inverse, b, y] = &mut self.room;
        inverse.resize(packed_len(k), [0.0; LANES]);
        let mut x = std::mem::take(&mut self.batch.matrix);
        for first in (0..rows).step_by(LANES) {
            let count = LANES.min(rows - first);
            let group_of = &self.group_of[first..first + count];
            // Where every observation has a pattern of its own, the factors of a batch are
            // neighbours in memory and are copied; otherwise they are gathered.
            let apart = group_of.windows(2).all(|pair| pair[1] == pair[0] + 1);
            for (pair, lane) in inverse.iter_mut().enumerate() {
                let of_pair = &self.factors[pair * groups..(pair + 1) * groups];
                if apart {
                    read_lane(lane, &of_pair[group_of[0]..group_of[0] + count]);
                    continue;
                }
                for (entry, &group) in lane.iter_mut().zip(group_of) {
                    *entry = of_pair[group];
                }
            }
            for (a, lane) in b.iter_mut().enumerate() {
                read_lane(lane, &self.projections[a * rows + first..a * rows + first + count]);
            }
            vectorized(
                #[inline(always)]
                || solve_batch(inverse, b, y, &mut x[..k]),
            );
            let mut square = [0.0; LANES];
            for a in 0..k {
                write_lane(&x[a], &mut self.codes[a * rows + first..a * rows + first + count]);
                for lane in 0..LANES {
                    square[lane] += y[a][lane] * y[a][lane];
                }
            }
            self.squares[first..first + count].copy_from_slice(&square[..count]);
        }
        self.batch.matrix = x;
        self.codes[k * rows..].fill(1.0);
        for (group, q) in &self.hard {
            for row in (0..rows).filter(|&row| self.group_of[row] == *group) {
                let deviation =
                    DMatrixView::from_slice(&self.deviations[row * d..(row + 1) * d], d, 1);
                // L⁻¹b = Qᵗ(x_o − μ_o): b itself, in which small loadings are lost, is not used.
                let y = q.tr_mul(&deviation);
                for a in 0..k {
                    self.codes[a * rows + row] =
                        (a..k).map(|c| self.factors[packed(c, a) * groups + group] * y[c]).sum();
                }
                self.squares[row] = f64::INFINITY; // the residual is to be formed
            }
        }
    }

    /// Computes the squared residuals and ln p(x_o) of each row.
    fn score(&mut self, parameters: &Parameters) {
        let (rows, (d, k), noise) = (self.rows, self.dims, parameters.noise_variance);
        resize(&mut self.log_likelihoods, rows);
        // Holds σ²‖m‖² first; distance and determinant are added at the end.
        let priors = &mut self.log_likelihoods;
        priors.fill(0.0);
        resize(&mut self.wholes, rows);
        squared_norms_into(&self.deviations, d, &mut self.wholes);
        let (squares, wholes, codes) = (&mut self.squares, &self.wholes, &self.codes[..k * rows]);
        let cancelled = vectorized(
            #[inline(always)]
            || {
                // By columns of the rows×k codes, in the order of memory.
                for of_code in codes.chunks_exact(rows.max(1)) {
                    for (prior, code) in priors.iter_mut().zip(of_code) {
                        *prior += noise * (code * code);
                    }
                }
                let mut cancelled = false;
                for ((square, &whole), &prior) in squares.iter_mut().zip(wholes).zip(priors.iter())
                {
                    // ‖x_o − μ_o‖² − ‖L⁻¹b‖² = ‖x_o − μ_o − W_o m‖² + σ²‖m‖². The residuals of all
                    // rows are formed where one of them has cancelled; infinity in `squares` (a
                    // group by QR) always does that.
                    let left = whole - *square;
                    cancelled |= left < CANCELLED * whole;
                    let left = left - prior;
                    *square = if left > 0.0 { left } else { 0.0 };
                }
                cancelled
            },
        );
        if cancelled {
            self.residuals(parameters);
            squared_norms_into(&self.fitted, d, &mut self.squares);
        }
        let logarithm = noise.ln();
        for (row, &group) in self.group_of.iter().enumerate() {
            let observed = self.observed[group];
            let distance = (self.squares[row] + self.log_likelihoods[row]) / noise;
            let determinant = (observed - k as f64) * logarithm
                + self.log_determinants[group]
                + self.scale_log_determinant[group];
            self.log_likelihoods[row] =
                -0.5 * (observed * std::f64::consts::TAU.ln() + determinant + distance);
        }
    }
}

impl Block {
    /// Computes the residuals e = D⁻¹(x − μ − Wm) of the observed entries, 0 elsewhere, d×rows,
    /// into `fitted`.
    fn residuals(&mut self, parameters: &Parameters) {
        let (rows, (d, k)) = (self.rows, self.dims);
        resize(&mut self.fitted, d * rows);
        let codes = DMatrixView::from_slice(&self.codes, rows, k + 1);
        let codes = codes.columns(0, k);
        let fitted = DMatrixViewMut::from_slice(&mut self.fitted, d, rows);
        gemm(1.0, &parameters.equalized, Operand::from(&codes).transposed(), 0.0, fitted);
        for (row, &group) in self.group_of.iter().enumerate() {
            let mask = &self.mask[group * d..(group + 1) * d];
            let (own, deviations) = (
                &mut self.fitted[row * d..(row + 1) * d],
                &self.deviations[row * d..(row + 1) * d],
            );
            vectorized(
                #[inline(always)]
                || {
                    for ((fitted, deviation), mask) in own.iter_mut().zip(deviations).zip(mask) {
                        *fitted = deviation - mask * *fitted;
                    }
                },
            );
        }
    }
}

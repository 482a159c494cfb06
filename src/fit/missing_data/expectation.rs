//! E-step over all blocks of observations, and the sufficient statistics for the M-step.

use crate::data::{IncompleteObservations, Patterns};
use crate::linalg::{gemm, packed, packed_len, parallel::for_each_chunk, vector::vectorized};
use crate::model::incomplete::{Block, Parameters};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixView, DMatrixViewMut, DVectorView};
use std::ops::Range;

/// Maximum number of tasks that the blocks are divided into. It must not depend on the number of
/// threads, so that results are bit-identical.
// Each piece holds statistics of its own, d·(k+1)(k+2)/2 numbers: the bound limits memory, and
// leaves enough tasks for the threads.
const PIECES: usize = 32;

/// Sufficient statistics: sums over the observations about the current model, with z̃ = [z 1], r =
/// D⁻¹(x − μ) and e = r − D⁻¹Wm.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    /// Σ ln p(x_o).
    pub(crate) log_likelihood: f64,
    /// Σ_i o_ij E[z̃z̃ᵗ] of each variable, packed, d×(k+1)(k+2)/2.
    pub(crate) second_moments: DMatrix<f64>,
    /// Σ_i r_ij E[z̃], d×(k+1).
    pub(crate) products: DMatrix<f64>,
    /// Σ_i E[z̃z̃ᵗ], packed.
    pub(crate) totals: Vec<f64>,
    /// Σ e² over the observed entries.
    pub(crate) squares: f64,
    /// Σ_i r_ij² of each variable, where each has a noise variance of its own; else empty.
    pub(crate) squares_of_variables: Vec<f64>,
    /// Σ_i (k − tr Cov_i); times σ² it is what the posterior covariance adds to E[e²].
    pub(crate) spread: f64,
}

impl Statistics {
    fn new(d: usize, k: usize, of_variables: bool) -> Self {
        let pairs = packed_len(k + 1);
        Self {
            log_likelihood: 0.0,
            second_moments: DMatrix::zeros(d, pairs),
            products: DMatrix::zeros(d, k + 1),
            totals: vec![0.0; pairs],
            squares: 0.0,
            squares_of_variables: vec![0.0; if of_variables { d } else { 0 }],
            spread: 0.0,
        }
    }

    fn clear(&mut self) {
        (self.log_likelihood, self.squares, self.spread) = (0.0, 0.0, 0.0);
        self.second_moments.fill(0.0);
        self.products.fill(0.0);
        self.totals.fill(0.0);
        self.squares_of_variables.fill(0.0);
    }

    fn add(&mut self, other: &Self) {
        self.log_likelihood += other.log_likelihood;
        self.second_moments += &other.second_moments;
        self.products += &other.products;
        self.totals.iter_mut().zip(&other.totals).for_each(|(a, b)| *a += b);
        self.squares_of_variables
            .iter_mut()
            .zip(&other.squares_of_variables)
            .for_each(|(a, b)| *a += b);
        self.squares += other.squares;
        self.spread += other.spread;
    }

    /// Σ_i w_i, which is n without weights.
    pub(crate) fn rows(&self) -> f64 {
        self.totals[self.totals.len() - 1]
    }

    /// Σ_i w_i |o_i|, the number of the observed entries without weights.
    pub(crate) fn observed(&self) -> f64 {
        self.counts().sum()
    }

    /// Σ_i w_i o_ij of each variable.
    pub(crate) fn counts(&self) -> DVectorView<'_, f64> {
        self.second_moments.column(self.second_moments.ncols() - 1)
    }

    /// Adds the statistics of one block, each row with its weight if there are weights; `room` is
    /// scratch space for E[z̃z̃ᵗ] of the groups and for weighted codes.
    fn add_block(
        &mut self,
        block: &Block,
        k: usize,
        weights: Option<&[f64]>,
        [moments, weighted]: &mut [Vec<f64>; 2],
    ) {
        let (rows, groups, pairs) = (block.rows, block.groups, packed_len(k + 1));
        // E[z̃z̃ᵗ] summed over each group of observations with one pattern: the posterior
        // covariance, which they share, times their number (or weight), plus the products of their
        // codes.
        moments.resize(groups * pairs, 0.0);
        let inside = packed_len(k) * groups;
        moments[..inside].copy_from_slice(block.covariances());
        moments[inside..].fill(0.0);
        if rows != groups || weights.is_some() {
            let mut counts = vec![0.0; groups];
            block.group_of.iter().enumerate().for_each(|(row, &group)| {
                counts[group] += weights.map_or(1.0, |weights| weights[row])
            });
            for of_pair in moments[..inside].chunks_exact_mut(groups) {
                of_pair.iter_mut().zip(&counts).for_each(|(entry, count)| *entry *= count);
            }
        }
        let codes = block.codes();
        if let Some(weights) = weights {
            weighted.resize(codes.len(), 0.0);
            for (out, of_code) in weighted.chunks_exact_mut(rows).zip(codes.chunks_exact(rows)) {
                out.iter_mut()
                    .zip(of_code)
                    .zip(weights)
                    .for_each(|((out, code), weight)| *out = code * weight);
            }
        }
        let with_weights = if weights.is_some() { &weighted[..] } else { codes };
        // If every group has one observation, rows and groups coincide and the loop vectorises;
        // otherwise rows are scattered to their groups.
        let (totals, group_of) = (&mut self.totals, &block.group_of);
        let moments_of = &mut moments[..];
        vectorized(
            #[inline(always)]
            || {
                for a in 0..=k {
                    let of_a = &with_weights[a * rows..(a + 1) * rows];
                    for b in 0..=a {
                        let of_b = &codes[b * rows..(b + 1) * rows];
                        let out =
                            &mut moments_of[packed(a, b) * groups..(packed(a, b) + 1) * groups];
                        if rows == groups {
                            for ((out, x), y) in out.iter_mut().zip(of_a).zip(of_b) {
                                *out += x * y;
                            }
                        } else {
                            for ((x, y), &group) in of_a.iter().zip(of_b).zip(group_of) {
                                out[group] += x * y;
                            }
                        }
                    }
                }
            },
        );
        for (total, of_pair) in totals.iter_mut().zip(moments.chunks_exact(groups)) {
            *total += of_pair.iter().sum::<f64>();
        }
        let moments = DMatrixViewMut::from_slice(moments, groups, pairs);
        // Σ_i o_ij E[z̃z̃ᵗ] of all variables at once is a product with the mask: d×groups times
        // groups×pairs.
        gemm(1.0, block.mask(), &moments, 1.0, &mut self.second_moments);
        gemm(
            1.0,
            block.deviations(),
            DMatrixView::from_slice(with_weights, rows, k + 1),
            1.0,
            &mut self.products,
        );
        let sum = |of_row: &mut dyn Iterator<Item = f64>| match weights {
            Some(weights) => of_row.zip(weights).map(|(value, weight)| value * weight).sum::<f64>(),
            None => of_row.sum(),
        };
        self.log_likelihood += sum(&mut block.log_likelihoods.iter().copied());
        self.squares += sum(&mut block.squares.iter().copied());
        self.spread +=
            sum(&mut block.group_of.iter().map(|&group| k as f64 - block.traces()[group]));
        if !self.squares_of_variables.is_empty() {
            for (row, of_row) in block.deviations().column_iter().enumerate() {
                let weight = weights.map_or(1.0, |weights| weights[row]);
                self.squares_of_variables
                    .iter_mut()
                    .zip(of_row.iter())
                    .for_each(|(sum, r)| *sum += weight * (r * r));
            }
        }
    }
}

/// A task: consecutive blocks with their scratch space, statistics and outcome.
struct Piece {
    blocks: Range<usize>,
    block: Block,
    room: [Vec<f64>; 2],
    weights: Vec<f64>,
    statistics: Statistics,
    outcome: Result<()>,
}

/// The E-step of a data set: holds all buffers, so that repeated passes do not allocate.
pub(crate) struct Expectation<'x, T: Real> {
    x: IncompleteObservations<'x, T>,
    patterns: &'x Patterns,
    weights: Option<&'x [f64]>,
    blocks: Vec<Range<usize>>,
    rows: usize,
    observed: f64,
    pieces: Vec<Piece>,
    latent_dim: usize,
    of_variables: bool,
}

impl<'x, T: Real> Expectation<'x, T> {
    /// Creates the E-step, with one weight per column of the data if there are weights;
    /// `of_variables` is set if each variable has a noise variance of its own.
    pub(crate) fn new(
        x: IncompleteObservations<'x, T>,
        patterns: &'x Patterns,
        weights: Option<&'x [f64]>,
        latent_dim: usize,
        of_variables: bool,
    ) -> Self {
        Self::of_blocks(
            x,
            patterns,
            weights,
            patterns.blocks(Block::rows_for(x.data_dim())),
            latent_dim,
            of_variables,
        )
    }

    /// Returns an E-step over a subsample of about `rows` observations, evenly spaced over all of
    /// them.
    pub(crate) fn sample(&self, rows: usize) -> Self {
        // Whole blocks are taken, every stride-th: their patterns and buffers are used as they are.
        let stride = self.rows.div_ceil(rows).max(1);
        let blocks = self.blocks.iter().step_by(stride).cloned().collect();
        Self::of_blocks(
            self.x,
            self.patterns,
            self.weights,
            blocks,
            self.latent_dim,
            self.of_variables,
        )
    }

    fn of_blocks(
        x: IncompleteObservations<'x, T>,
        patterns: &'x Patterns,
        weights: Option<&'x [f64]>,
        blocks: Vec<Range<usize>>,
        latent_dim: usize,
        of_variables: bool,
    ) -> Self {
        let d = x.data_dim();
        let count = blocks.len().min(PIECES);
        let piece = |place: usize| Piece {
            blocks: place * blocks.len() / count..(place + 1) * blocks.len() / count,
            block: Block::new(d, latent_dim),
            room: Default::default(),
            weights: Vec::new(),
            statistics: Statistics::new(d, latent_dim, of_variables),
            outcome: Ok(()),
        };
        let pieces = (0..count).map(piece).collect();
        let rows = blocks
            .iter()
            .map(|block| patterns.starts[block.end] - patterns.starts[block.start])
            .sum();
        let of_group = |group: usize| {
            let columns = &patterns.order[patterns.starts[group]..patterns.starts[group + 1]];
            let weight = weights.map_or(columns.len() as f64, |weights| {
                columns.iter().map(|&column| weights[column]).sum()
            });
            weight * patterns.entries[group] as f64
        };
        let observed = blocks.iter().flat_map(Clone::clone).map(of_group).sum();
        Self { x, patterns, weights, blocks, rows, observed, pieces, latent_dim, of_variables }
    }

    /// Σ_i w_i |o_i|, the number of the observed entries without weights.
    pub(crate) fn observed(&self) -> f64 {
        self.observed
    }

    /// Returns the statistics at a model.
    ///
    /// # Errors
    /// [`Error::NotPositiveDefinite`](crate::Error::NotPositiveDefinite) if the covariance of a
    /// posterior cannot be computed in double precision.
    pub(crate) fn take(&mut self, parameters: &Parameters) -> Result<Statistics> {
        self.take_weighted(parameters, self.weights)
    }

    /// Returns the statistics at a model for other weights than those of the data.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) fn take_weighted(
        &mut self,
        parameters: &Parameters,
        weights: Option<&[f64]>,
    ) -> Result<Statistics> {
        let k = self.latent_dim;
        let work = self.rows * self.x.data_dim() * packed_len(k + 1);
        let (x, patterns, blocks) = (&self.x, self.patterns, &self.blocks);
        for_each_chunk(&mut self.pieces, 1, work, |_, pieces| {
            for piece in pieces {
                piece.statistics.clear();
                piece.outcome = piece.blocks.clone().try_for_each(|at| {
                    let groups = blocks[at].clone();
                    piece.block.infer(x, patterns, groups.clone(), parameters)?;
                    let own = weights.map(|weights| {
                        let columns = &patterns.order
                            [patterns.starts[groups.start]..patterns.starts[groups.end]];
                        piece.weights.clear();
                        piece.weights.extend(columns.iter().map(|&column| weights[column]));
                        &piece.weights[..]
                    });
                    piece.statistics.add_block(&piece.block, k, own, &mut piece.room);
                    Ok(())
                });
            }
        });
        let mut sum = Statistics::new(x.data_dim(), k, self.of_variables);
        // Reduced in the order of the pieces, which depends on the data alone.
        for piece in &self.pieces {
            piece.outcome.clone()?;
            sum.add(&piece.statistics);
        }
        Ok(sum)
    }
}

//! The linear autoencoder with an L2 weight on both maps, by its gradient.

use super::factor_descent::{FactorDescent, FactorPair, Factors, line_minimum, solve_gram};
use super::quasi_newton::{History, Tangent};
use super::{Fitted, Stop, Trace};
use crate::data::RootMoment;
use crate::linalg::{dot, matrix_product, product_tr_left, product_tr_right, r_factor, symmetric_eigen};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl Tangent for Factors {
    fn dot(&self, other: &Self) -> f64 {
        dot(self.encoder.as_slice(), other.encoder.as_slice()) + dot(self.decoder.as_slice(), other.decoder.as_slice())
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.encoder += factor * &other.encoder;
        self.decoder += factor * &other.decoder;
    }
    fn scale(&mut self, factor: f64) {
        self.encoder *= factor;
        self.decoder *= factor;
    }
}

/// Two maps, with the loss there and half its derivative.
struct Evaluation {
    at: Factors,
    pair: FactorPair, // W and Y = UA
    residual: DMatrix<f64>,
    loss: f64,
    gradient: Factors,
}

impl Evaluation {
    /// ‖A − WUA‖² + ρ(‖U‖² + ‖W‖²).
    fn of(at: Factors, root: &DMatrix<f64>, weight: f64) -> Self {
        let pair = FactorPair { decoder: at.decoder.clone(), codes: matrix_product(&at.encoder, root) };
        let residual = pair.residual(root);
        let loss = dot(residual.as_slice(), residual.as_slice()) + weight * at.dot(&at);
        let FactorPair { decoder, codes } = pair.half_gradient(&residual);
        let mut gradient = Factors { encoder: product_tr_right(&codes, root), decoder };
        gradient.add_scaled(weight, &at);
        Self { at, pair, residual, loss, gradient }
    }
}

/// The Gauss–Newton block of U, D_j S + ρI for row j of VᵗU, where WᵗW = V D Vᵗ: as triangular factors.
struct EncoderBlock {
    rotation: DMatrix<f64>,
    factors: Vec<DMatrix<f64>>,
}

impl EncoderBlock {
    fn at(decoder: &DMatrix<f64>, root: &DMatrix<f64>, weight: f64) -> Result<Self> {
        let eigen = symmetric_eigen(product_tr_left(decoder, decoder).as_view())?;
        let (rows, columns) = root.shape();
        let mut factors = Vec::new();
        for &strength in eigen.values.iter() {
            let mut stacked = (root.transpose() * strength.max(0.0).sqrt()).resize_vertically(columns + rows, 0.0);
            stacked.rows_mut(columns, rows).fill_diagonal(weight.sqrt());
            factors.push(r_factor(stacked.as_view())?);
        }
        Ok(Self { rotation: eigen.vectors, factors })
    }

    fn solve(&self, gradient: &DMatrix<f64>) -> DMatrix<f64> {
        let mut turned = product_tr_left(&self.rotation, gradient);
        for (j, factor) in self.factors.iter().enumerate() {
            let solved = solve_gram(factor, &turned.rows(j, 1).transpose());
            turned.rows_mut(j, 1).tr_copy_from(&solved);
        }
        matrix_product(&self.rotation, &turned)
    }
}

impl FactorDescent {
    /// Iterations between two looks at the Gauss–Newton block of U, after the first few.
    const RENEW_EVERY: usize = 20;

    /// Lowers ‖A − WUA‖² + ρ(‖U‖² + ‖W‖²) from a random start, both maps along one direction; the trace holds minus that.
    ///
    /// The steps are those of [`Self::fit`], but U moves itself, in the metric of its own Gauss–Newton block: its norm counts.
    ///
    /// # Errors
    /// Those of the decompositions.
    pub(crate) fn fit_weighted<R: Rng + ?Sized>(
        &self,
        moment: &RootMoment,
        latent_dim: usize,
        weight: f64,
        rng: &mut R,
    ) -> Result<Fitted<Factors>> {
        let root = moment.coordinates();
        let d = root.nrows();
        let share = 1.0 / (d as f64).sqrt();
        let mut random = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| share * f64::standard_normal(rng));
        let start = Factors { encoder: random(latent_dim, d), decoder: random(d, latent_dim) };
        let mut now = Evaluation::of(start, root, weight);
        let mut of_encoder = EncoderBlock::at(&now.at.decoder, root, weight)?;
        let mut history = History::new(10);
        let mut trace = Trace::new();
        let mut held = 0;
        let stop = loop {
            let iteration = trace.len();
            trace.push(-now.loss);
            if iteration >= self.max_iterations {
                break Stop::IterationLimit;
            }
            if iteration < 4 || iteration.is_multiple_of(Self::RENEW_EVERY) {
                of_encoder = EncoderBlock::at(&now.at.decoder, root, weight)?;
            }
            let mut stacked = now.pair.codes.transpose().resize_vertically(root.ncols() + latent_dim, 0.0);
            stacked.rows_mut(root.ncols(), latent_dim).fill_diagonal(weight.sqrt());
            let of_decoder = r_factor(stacked.as_view())?;
            let newton = |g: &Factors| Factors {
                encoder: of_encoder.solve(&g.encoder),
                decoder: solve_gram(&of_decoder, &g.decoder.transpose()).transpose(),
            };
            let decrement = now.gradient.dot(&newton(&now.gradient));
            let (mut direction, slope) = history.downhill(&now.gradient, newton);
            let along = FactorPair { decoder: direction.decoder.clone(), codes: matrix_product(&direction.encoder, root) };
            let stiffness = weight * direction.dot(&direction);
            let moved = line_minimum(&now.pair, &now.residual, &along, slope, stiffness).and_then(|length| {
                let mut next = now.at.clone();
                next.add_scaled(length, &direction);
                let next = Evaluation::of(next, root, weight);
                (next.loss < now.loss).then_some((length, next))
            });
            let settled = match moved {
                Some((length, next)) => {
                    let mut change = next.gradient.clone();
                    change.add_scaled(-1.0, &now.gradient);
                    direction.scale(length);
                    history.push(direction, change, 1e-10 * length * slope.abs());
                    let small = |gain: f64| gain < self.tolerance * now.loss;
                    held = if small(decrement) && small(now.loss - next.loss) { held + 1 } else { 0 };
                    now = next;
                    held >= Self::IN_A_ROW
                }
                None if history.is_empty() => true,
                None => {
                    history.clear();
                    false
                }
            };
            if settled {
                let better = Evaluation::of(better_maps(root, &now.pair, weight)?, root, weight);
                if better.loss >= now.loss * (1.0 - self.tolerance) {
                    break Stop::Converged;
                }
                now = better;
                history.clear();
                held = 0;
            }
        };
        let encoder = moment.lift(now.at.encoder.transpose()).transpose();
        Ok(Fitted { model: Factors { encoder, decoder: moment.lift(now.at.decoder) }, trace, stop })
    }
}

/// The best maps over the span that a few Gauss–Newton steps without the weight lead to from that of W: W = Q diag(1 − ρ/b_j)₊^½ and U = Wᵗ,
/// with the Ritz values b_j.
fn better_maps(root: &DMatrix<f64>, at: &FactorPair, weight: f64) -> Result<Factors> {
    let span = FactorDescent::advanced_span(root, at)?;
    let lengths: DVector<f64> = span.variances.map(|b| (1.0 - weight / b).max(0.0).sqrt());
    let decoder = span.directions * DMatrix::from_diagonal(&lengths);
    Ok(Factors { encoder: decoder.transpose(), decoder })
}

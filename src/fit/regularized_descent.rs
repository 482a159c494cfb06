//! Linear autoencoder with L2 regularisation of encoder and decoder, by gradient descent.

use super::autoencoder_descent::{
    AutoencoderDescent, FactorPair, Factors, line_minimum, solve_gram,
};
use super::quasi_newton::{History, Tangent};
use super::{Fitted, Observer, StopReason, Trace};
use crate::data::ScatterFactor;
use crate::linalg::{
    Bidiagonal, bidiagonalize, dot, matrix_product, product_tr_left, product_tr_right, r_factor,
    solve_bidiagonal_gram, symmetric_eigen,
};
use crate::{Real, Result};
use nalgebra::{DMatrix, DVector};
use rand::Rng;

impl Tangent for Factors {
    fn dot(&self, other: &Self) -> f64 {
        dot(self.encoder.as_slice(), other.encoder.as_slice())
            + dot(self.decoder.as_slice(), other.decoder.as_slice())
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

/// Encoder and decoder, with the loss at them and half its gradient.
struct Evaluation {
    at: Factors,
    pair: FactorPair, // W and Y = UA
    residual: DMatrix<f64>,
    loss: f64,
    gradient: Factors,
}

impl Evaluation {
    /// Evaluates the loss ‖A − WUA‖² + ρ(‖U‖² + ‖W‖²) and half its gradient.
    fn of(at: Factors, root: &DMatrix<f64>, weight: f64) -> Self {
        let pair =
            FactorPair { decoder: at.decoder.clone(), codes: matrix_product(&at.encoder, root) };
        let residual = pair.residual(root);
        let loss = dot(residual.as_slice(), residual.as_slice()) + weight * at.dot(&at);
        let FactorPair { decoder, codes } = pair.half_gradient(&residual);
        let mut gradient = Factors { encoder: product_tr_right(&codes, root), decoder };
        gradient.add_scaled(weight, &at);
        Self { at, pair, residual, loss, gradient }
    }
}

/// Gauss–Newton block of U: D_j S + ρI for row j of VᵗU, where WᵗW = V D Vᵗ, stored as bidiagonal
/// factors in coordinates in which S = BᵗB with a bidiagonal B.
struct EncoderBlock {
    rotation: DMatrix<f64>,
    factors: Vec<(Vec<f64>, Vec<f64>)>,
}

impl EncoderBlock {
    fn at(decoder: &DMatrix<f64>, form: &Bidiagonal, weight: f64) -> Result<Self> {
        // The block is WᵗW ⊗ S + ρI. With the eigenvectors of WᵗW it splits into k systems D_j S +
        // ρI, each with a bidiagonal factor: O(dk) in place of k dense d×d factorisations.
        let eigen = symmetric_eigen(product_tr_left(decoder, decoder).as_view())?;
        let factors =
            eigen.values.iter().map(|strength| form.shifted(strength.max(0.0), weight)).collect();
        Ok(Self { rotation: eigen.vectors, factors })
    }

    fn solve(&self, gradient: &DMatrix<f64>) -> DMatrix<f64> {
        let mut turned = product_tr_left(gradient, &self.rotation);
        for ((diagonal, above), mut column) in self.factors.iter().zip(turned.column_iter_mut()) {
            solve_bidiagonal_gram(diagonal, above, column.as_mut_slice());
        }
        product_tr_right(&self.rotation, &turned)
    }
}

impl AutoencoderDescent {
    /// Minimises ‖A − WUA‖² + ρ(‖U‖² + ‖W‖²) from a random initialisation, both maps along one
    /// direction; the trace holds minus this loss.
    ///
    /// The steps are those of [`Self::fit`], but U moves itself, not through UA, in the metric of
    /// its own Gauss–Newton block, because its norm is part of the loss. The variables are rotated
    /// once so that S is tridiagonal, which leaves the loss unchanged: the block is then solved in
    /// O(dk).
    ///
    /// # Errors
    /// Errors of the matrix decompositions.
    pub(crate) fn fit_regularized(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        weight: f64,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Factors>> {
        // A bidiagonal form of the square-root factor, not a tridiagonal one of S itself: small
        // singular values keep their relative accuracy.
        let form = bidiagonalize(r_factor(moment.coordinates().transpose().as_view())?);
        let root = &form.transposed();
        let d = root.nrows();
        // After the rotation the variables have no scales of their own: one standard deviation for
        // all entries of U and W.
        let share = 1.0 / (d as f64).sqrt();
        let mut random = |rows, columns| {
            DMatrix::from_fn(rows, columns, |_, _| share * f64::standard_normal(rng))
        };
        let start = Factors { encoder: random(latent_dim, d), decoder: random(d, latent_dim) };
        let mut now = Evaluation::of(start, root, weight);
        let mut history = History::new(10);
        let mut trace = Trace::new();
        let mut held = 0;
        let stop = loop {
            let iteration = trace.len();
            trace.push(-now.loss);
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            if iteration >= self.max_iterations {
                break StopReason::IterationLimit;
            }
            let of_encoder = EncoderBlock::at(&now.at.decoder, &form, weight)?;
            // [Yᵗ; √ρ I] has the R factor of YYᵗ + ρI, the block of W.
            let mut stacked =
                now.pair.codes.transpose().resize_vertically(root.ncols() + latent_dim, 0.0);
            stacked.rows_mut(root.ncols(), latent_dim).fill_diagonal(weight.sqrt());
            let of_decoder = r_factor(stacked.as_view())?;
            let newton = |g: &Factors| Factors {
                encoder: of_encoder.solve(&g.encoder),
                decoder: solve_gram(&of_decoder, &g.decoder.transpose()).transpose(),
            };
            let decrement = now.gradient.dot(&newton(&now.gradient));
            let (mut direction, slope) = history.downhill(&now.gradient, newton);
            // The error along the direction is the same quartic as without regularisation, in W and
            // Y = UA; the regularisation enters by slope and stiffness.
            let along = FactorPair {
                decoder: direction.decoder.clone(),
                codes: matrix_product(&direction.encoder, root),
            };
            let stiffness = weight * direction.dot(&direction);
            let moved = line_minimum(&now.pair, &now.residual, &along, slope, stiffness).and_then(
                |length| {
                    let mut next = now.at.clone();
                    next.add_scaled(length, &direction);
                    let next = Evaluation::of(next, root, weight);
                    (next.loss < now.loss).then_some((length, next))
                },
            );
            let settled = match moved {
                Some((length, next)) => {
                    let mut change = next.gradient.clone();
                    change.add_scaled(-1.0, &now.gradient);
                    direction.scale(length);
                    history.push(direction, change, 1e-10 * length * slope.abs());
                    let small = |gain: f64| gain < self.tolerance * now.loss;
                    held =
                        if small(decrement) && small(now.loss - next.loss) { held + 1 } else { 0 };
                    now = next;
                    held >= Self::IN_A_ROW
                }
                None if history.is_empty() => true,
                None => {
                    history.clear();
                    false
                }
            };
            // A saddle is ruled out as in the fit without regularisation, by the closed-form
            // optimum over an advanced span.
            if settled {
                let better = Evaluation::of(better_maps(root, &now.pair, weight)?, root, weight);
                if better.loss >= now.loss * (1.0 - self.tolerance) {
                    break StopReason::Converged;
                }
                now = better;
                history.clear();
                held = 0;
            }
        };
        let lift = |directions| moment.lift(form.back(directions));
        let model = Factors {
            encoder: lift(now.at.encoder.transpose()).transpose(),
            decoder: lift(now.at.decoder),
        };
        Ok(Fitted::new(model, trace, stop))
    }
}

/// Returns the optimal maps over the span that a few Gauss–Newton steps without regularisation lead
/// to from that of W: W = Q diag(1 − ρ/b_j)₊^½ and U = Wᵗ, with the Ritz values b_j.
fn better_maps(root: &DMatrix<f64>, at: &FactorPair, weight: f64) -> Result<Factors> {
    let span = AutoencoderDescent::advanced_span(root, at)?;
    let lengths: DVector<f64> = span.variances.map(|b| (1.0 - weight / b).max(0.0).sqrt());
    let decoder = span.directions * DMatrix::from_diagonal(&lengths);
    Ok(Factors { encoder: decoder.transpose(), decoder })
}

//! Linear autoencoder by gradient descent: an algorithm for the principal subspace that is
//! independent of eigendecompositions.

use super::em::aligned::Span;
use super::quasi_newton::{History, Tangent};
use super::{Fitted, Observer, StopReason, Trace};
use crate::data::ScatterFactor;
use crate::linalg::{
    Operand, add_scaled, dot, gemm, matrix_product, product_tr_left, product_tr_right, r_factor,
    thin_qr, thin_svd,
};
use crate::{Real, Result};
use nalgebra::DMatrix;
use rand::Rng;

/// Gradient descent on the squared error ‖A − WUA‖² in both maps, from a random initialisation:
/// L-BFGS directions, preconditioned by the two k×k Gauss–Newton blocks (UAAᵗUᵗ for W, WᵗW for U),
/// with an exact line search.
///
/// U moves in the metric of S, through Y = UA: the scales of the variables have no influence, and S
/// is never decomposed. Along a direction the error is a quartic polynomial, whose minimum is
/// computed to rounding. Before the fit stops, a few block Gauss–Newton steps and the exact minimum
/// over the span of W and its gradient are tried: if their error is lower, the fit had only slowed
/// down near a saddle, and goes on from there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoencoderDescent {
    /// Maximum number of iterations.
    pub max_iterations: usize,
    /// Tolerance on the remaining relative reduction of the squared error.
    pub tolerance: f64,
}

impl Default for AutoencoderDescent {
    fn default() -> Self {
        Self { max_iterations: 5_000, tolerance: 2e-7 }
    }
}

/// Encoder U (k×d) and decoder W (d×k).
#[derive(Clone)]
pub(crate) struct Factors {
    pub(crate) encoder: DMatrix<f64>,
    pub(crate) decoder: DMatrix<f64>,
}

/// Decoder W and codes Y = UA; also a step in them, or a gradient.
#[derive(Debug, Clone)]
pub(crate) struct FactorPair {
    pub(crate) decoder: DMatrix<f64>,
    pub(crate) codes: DMatrix<f64>,
}

impl Tangent for FactorPair {
    fn dot(&self, other: &Self) -> f64 {
        dot(self.decoder.as_slice(), other.decoder.as_slice())
            + dot(self.codes.as_slice(), other.codes.as_slice())
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        add_scaled(self.decoder.as_mut_slice(), factor, other.decoder.as_slice());
        add_scaled(self.codes.as_mut_slice(), factor, other.codes.as_slice());
    }
    fn scale(&mut self, factor: f64) {
        self.decoder *= factor;
        self.codes *= factor;
    }
}

impl FactorPair {
    /// Returns the residual A − WY.
    pub(crate) fn residual(&self, root: &DMatrix<f64>) -> DMatrix<f64> {
        let mut residual = root.clone();
        gemm(-1.0, &self.decoder, &self.codes, 1.0, &mut residual);
        residual
    }

    /// Overwrites `residual` by A − WY and returns its squared norm; allocates nothing.
    fn residual_in(&self, root: &DMatrix<f64>, residual: &mut DMatrix<f64>) -> f64 {
        residual.copy_from(root);
        gemm(-1.0, &self.decoder, &self.codes, 1.0, &mut *residual);
        dot(residual.as_slice(), residual.as_slice())
    }

    /// Returns half the gradient of ‖E‖²: (−EYᵗ, −WᵗE).
    pub(crate) fn half_gradient(&self, residual: &DMatrix<f64>) -> Self {
        let zeros = |like: &DMatrix<f64>| DMatrix::zeros(like.nrows(), like.ncols());
        let mut gradient = Self { decoder: zeros(&self.decoder), codes: zeros(&self.codes) };
        gemm(-1.0, residual, Operand::from(&self.codes).transposed(), 0.0, &mut gradient.decoder);
        gemm(-1.0, Operand::from(&self.decoder).transposed(), residual, 0.0, &mut gradient.codes);
        gradient
    }

    /// Returns W with orthonormal columns and Y with orthogonal rows, WY unchanged; also the matrix
    /// T by which the new Y is T times the old one, and T⁻¹.
    fn balanced(&self) -> Result<(Self, DMatrix<f64>, DMatrix<f64>)> {
        let (q, r) = thin_qr(self.decoder.as_view())?;
        let svd = thin_svd(matrix_product(&r, &self.codes).as_view())?;
        let mut codes = svd.v.transpose();
        for (mut row, &s) in codes.row_iter_mut().zip(svd.singular_values.iter()) {
            row *= s;
        }
        let transform = product_tr_left(&svd.u, &r);
        let inverse = r.solve_upper_triangular(&svd.u).unwrap_or_else(|| svd.u.clone());
        Ok((Self { decoder: matrix_product(&q, &svd.u), codes }, transform, inverse))
    }
}

/// Returns (RᵗR)⁻¹B for an upper triangular R; B itself if R is singular.
pub(crate) fn solve_gram(triangular: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
    let mut solution = right.clone();
    let solved = triangular.tr_solve_upper_triangular_mut(&mut solution)
        && triangular.solve_upper_triangular_mut(&mut solution);
    if solved && solution.iter().all(|v| v.is_finite()) { solution } else { right.clone() }
}

/// Returns ½(RᵗR)⁻¹ for an upper triangular R; the identity if R is singular.
fn half_inverse_gram(triangular: &DMatrix<f64>) -> DMatrix<f64> {
    let k = triangular.nrows();
    let mut inverse = DMatrix::identity(k, k);
    let solved = triangular.solve_upper_triangular_mut(&mut inverse);
    // Half of each block's Newton step: W and Y move together, and the joint Gauss–Newton matrix is
    // at most twice its block diagonal. A product with this k×k inverse took the place of two
    // triangular solves, 13 % of the fit in a profile (docs/performance.md).
    let product = product_tr_right(&inverse, &inverse) * 0.5;
    if solved && product.iter().all(|v| v.is_finite()) { product } else { DMatrix::identity(k, k) }
}

/// Returns a random initialisation: U_ij ~ N(0, 1/S_jj)/√d, Y = UA, and W_ij ~ N(0, S_ii)/√k.
pub(crate) fn random_factors(
    moment: &ScatterFactor,
    latent_dim: usize,
    rng: &mut dyn Rng,
) -> FactorPair {
    let deviations = moment.coordinate_deviations();
    let d = deviations.len();
    // Codes of order 1 whatever the scales of the variables; a constant variable gets no weight.
    let scale = |s: f64| if s > 0.0 { 1.0 / (s * (d as f64).sqrt()) } else { 0.0 };
    let encoder =
        DMatrix::from_fn(latent_dim, d, |_, j| scale(deviations[j]) * f64::standard_normal(rng));
    let share = 1.0 / (latent_dim as f64).sqrt();
    let decoder =
        DMatrix::from_fn(d, latent_dim, |j, _| deviations[j] * share * f64::standard_normal(rng));
    FactorPair { decoder, codes: matrix_product(&encoder, moment.coordinates()) }
}

impl AutoencoderDescent {
    /// Number of iterations between two changes to balanced coordinates.
    // WY does not determine W and Y: descent lets them drift apart, and their Gauss–Newton blocks
    // become ill-conditioned.
    const BALANCE_EVERY: usize = 20;
    /// Number of consecutive iterations for which the convergence tests must hold.
    pub(super) const IN_A_ROW: usize = 5;

    /// Minimises the squared error with k latent dimensions from a random initialisation; the trace
    /// holds minus the squared error per observation.
    ///
    /// # Errors
    /// Errors of the matrix decompositions.
    pub(crate) fn fit(
        &self,
        moment: &ScatterFactor,
        latent_dim: usize,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<Factors>> {
        let start = random_factors(moment, latent_dim, rng);
        let Fitted { model, trace, stop, .. } = self.descend(moment, start, observer)?;
        let (pair, _, _) = model.balanced()?;
        let encoder = recover_encoder(moment, &pair.codes)?;
        let factors = Factors { encoder, decoder: moment.lift(pair.decoder) };
        Ok(Fitted::new(factors, trace, stop))
    }

    /// Minimises ‖A − WY‖² from the given factors.
    pub(crate) fn descend(
        &self,
        moment: &ScatterFactor,
        start: FactorPair,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<FactorPair>> {
        let root = moment.coordinates();
        let nothing_left = moment.tolerance();
        let mut at = start;
        // Two residual buffers are swapped, so that an iteration allocates no d×r matrix.
        let (mut residual, mut spare) = (root.clone(), root.clone());
        let mut error = at.residual_in(root, &mut residual);
        let mut gradient = at.half_gradient(&residual);
        let mut history = History::new(10);
        let mut trace = Trace::new();
        let (mut held, mut iteration) = (0, 0);
        let stop = loop {
            if iteration < 3 || iteration % Self::BALANCE_EVERY == 0 {
                let (balanced, transform, inverse) = at.balanced()?;
                // The first steps change the factors most, and there is little memory to lose: it
                // is cleared. Later the pairs are carried over: with Y → TY and W → WT⁻¹, gradients
                // change by the adjoint inverses.
                if iteration < 3 {
                    history.clear();
                } else {
                    let step = |s: &FactorPair| FactorPair {
                        decoder: matrix_product(&s.decoder, &inverse),
                        codes: matrix_product(&transform, &s.codes),
                    };
                    let derivative = |y: &FactorPair| FactorPair {
                        decoder: product_tr_right(&y.decoder, &transform),
                        codes: product_tr_left(&inverse, &y.codes),
                    };
                    history.transport(step, derivative);
                }
                at = balanced;
                error = at.residual_in(root, &mut residual);
                gradient = at.half_gradient(&residual);
            }
            trace.push(-error);
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            // An error below the rounding error of the data has a gradient made of rounding.
            if error <= nothing_left {
                break StopReason::Floor;
            }
            if iteration >= self.max_iterations {
                break StopReason::IterationLimit;
            }
            iteration += 1;
            // QR of Yᵗ and W in place of YYᵗ and WᵗW, whose condition numbers would be squared.
            let of_codes = r_factor(at.codes.transpose().as_view())?;
            let of_decoder = r_factor(at.decoder.as_view())?;
            let (of_codes, of_decoder) =
                (half_inverse_gram(&of_codes), half_inverse_gram(&of_decoder));
            let newton = |g: &FactorPair| FactorPair {
                decoder: matrix_product(&g.decoder, &of_codes),
                codes: matrix_product(&of_decoder, &g.codes),
            };
            // gᵗHg estimates the reduction of the error that is left, up to a factor of two; it is
            // invariant under a change of coordinates.
            let decrement = gradient.dot(&newton(&gradient));
            let (mut direction, slope) = history.downhill(&gradient, newton);
            let moved = line_minimum(&at, &residual, &direction, slope, 0.0).and_then(|length| {
                let mut next = at.clone();
                next.add_scaled(length, &direction);
                let next_error = next.residual_in(root, &mut spare);
                (next_error < error).then_some((length, next, next_error))
            });
            // No step length reduces the error: the L-BFGS memory is cleared for one more try, and
            // without any memory the fit has settled.
            let settled = match moved {
                Some((length, next, next_error)) => {
                    let next_gradient = next.half_gradient(&spare);
                    let mut change = next_gradient.clone();
                    change.add_scaled(-1.0, &gradient);
                    direction.scale(length);
                    history.push(direction, change, 1e-10 * length * slope.abs());
                    let gain = error - next_error;
                    let small = decrement < self.tolerance * error && gain < self.tolerance * error;
                    held = if small { held + 1 } else { 0 };
                    std::mem::swap(&mut residual, &mut spare);
                    (at, error, gradient) = (next, next_error, next_gradient);
                    held >= Self::IN_A_ROW
                }
                None if history.is_empty() => true,
                None => {
                    history.clear();
                    false
                }
            };
            if settled {
                match self.better_span(root, &at, error)? {
                    Some(better) => {
                        at = better;
                        error = at.residual_in(root, &mut residual);
                        gradient = at.half_gradient(&residual);
                        history.clear();
                        held = 0;
                    }
                    None => {
                        trace.push(-error);
                        break StopReason::Converged;
                    }
                }
            }
        };
        Ok(Fitted::new(at, trace, stop))
    }

    /// Returns factors whose error is lower by more than the tolerance, found by a few unit
    /// Gauss–Newton steps in both blocks and the minimum over the span of W and its gradient; else
    /// `None`.
    fn better_span(
        &self,
        root: &DMatrix<f64>,
        at: &FactorPair,
        error: f64,
    ) -> Result<Option<FactorPair>> {
        let span = Self::advanced_span(root, at)?;
        let better = span.outside < error * (1.0 - self.tolerance);
        Ok(better.then_some(FactorPair { decoder: span.directions, codes: span.inside }))
    }

    /// Returns the span of W after a few unit Gauss–Newton steps in both blocks, alternating with
    /// the best span within W and its gradient.
    pub(super) fn advanced_span(root: &DMatrix<f64>, at: &FactorPair) -> Result<Span> {
        let mut span = Span::ritz(root, &thin_qr(at.decoder.as_view())?.0)?;
        for _ in 0..2 {
            // A unit Gauss–Newton step in both blocks is a step of subspace iteration, W →
            // span(SW); between two groups of four the gradient is added, which reaches directions
            // that W has nearly lost.
            for _ in 0..4 {
                let moved = product_tr_right(root, &span.right);
                span = Span::ritz(root, &thin_qr(moved.as_view())?.0)?;
            }
            if let Some(ahead) = span.look_ahead(root)? {
                span = ahead;
            }
        }
        Ok(span)
    }
}

/// Returns a minimiser over t > 0 of ‖E − tF₁ − t²F₂‖², the error along a direction: a quartic
/// polynomial, whose coefficients come from k×k products. `None` if the direction is not one of
/// descent.
///
/// F₁ = DY + WC and F₂ = DC, for the direction (D, C). `slope` is half the derivative of the error
/// along the direction, −⟨E, F₁⟩ without regularisation. An L2 regularisation term adds its part to
/// the slope, and half its second derivative is `stiffness`.
pub(super) fn line_minimum(
    at: &FactorPair,
    residual: &DMatrix<f64>,
    direction: &FactorPair,
    slope: f64,
    stiffness: f64,
) -> Option<f64> {
    let (d, w) = (&direction.decoder, &at.decoder);
    // One product with the residual and k×k products, in place of F₁ and F₂ themselves: three d×r×k
    // products became one.
    let (dd, wd, ww) = (product_tr_left(d, d), product_tr_left(w, d), product_tr_left(w, w));
    let (c, y) = (&direction.codes, &at.codes);
    let (cc, cy, yy) = (product_tr_right(c, c), product_tr_right(c, y), product_tr_right(y, y));
    let first_squared = dd.dot(&yy) + 2.0 * wd.dot(&cy) + ww.dot(&cc);
    let first_second = dd.dot(&cy) + wd.dot(&cc);
    let second_squared = dd.dot(&cc);
    let error_second = dot(product_tr_right(residual, c).as_slice(), d.as_slice());
    let slope = [
        2.0 * slope,
        2.0 * (first_squared - 2.0 * error_second + stiffness),
        6.0 * first_second,
        4.0 * second_squared,
    ];
    let derivative = |t: f64| slope[0] + t * (slope[1] + t * (slope[2] + t * slope[3]));
    if !slope.iter().all(|c| c.is_finite()) || slope[0] >= 0.0 {
        return None;
    }
    // A bracket by doubling, then bisection of the cubic derivative: no case distinction over its
    // one or three roots. A change of sign from − to + is a minimum. 80 halvings exhaust the 53
    // bits of any t above 1e-8 of the bracket.
    let mut high = 1.0;
    while derivative(high) < 0.0 {
        high *= 2.0;
        if high > 1e12 {
            return None;
        }
    }
    let mut low = 0.0;
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if derivative(middle) < 0.0 { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

/// Returns an encoder U with UA = Y. All maps that give the codes Y on these data are equally good;
/// this one is, up to the ridge, the shortest on the scale of the correlations, found by least
/// squares.
pub(crate) fn recover_encoder(
    moment: &ScatterFactor,
    codes: &DMatrix<f64>,
) -> Result<DMatrix<f64>> {
    let root = moment.coordinates();
    let (d, r) = root.shape();
    let deviations = moment.coordinate_deviations();
    let scales = deviations.map(|s| if s * s > moment.tolerance() { 1.0 / s } else { 0.0 });
    // Ridge in units in which each variable has variance 1: directions with a variance below RIDGE²
    // get no weight, as the data do not determine them.
    const RIDGE: f64 = 1e-10;
    let mut stacked = DMatrix::zeros(r + d, d);
    for j in 0..d {
        for i in 0..r {
            stacked[(i, j)] = root[(j, i)] * scales[j];
        }
        stacked[(r + j, j)] = RIDGE;
    }
    // Ridge regression by QR of the stacked matrix [A scaled; RIDGE·I], without normal equations,
    // which would square the condition number.
    let (q, triangular) = thin_qr(stacked.as_view())?;
    let mut solution = product_tr_left(q.rows(0, r), &codes.transpose());
    triangular.solve_upper_triangular_mut(&mut solution);
    let mut encoder = solution.transpose();
    for (mut column, &scale) in encoder.column_iter_mut().zip(scales.iter()) {
        column *= scale;
    }
    // Back to the original variables: U = Ũ Oᵗ.
    Ok(moment.lift(encoder.transpose()).transpose())
}

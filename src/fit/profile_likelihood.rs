//! Maximum-likelihood factor analysis by the profile likelihood: W has a closed form given Ψ, and
//! L-BFGS optimises ln Ψ.

use super::quasi_newton::{History, Tangent};
use super::{Fitted, Observer, StopReason, Trace};
use crate::linalg::parallel::map_blocks;
use crate::linalg::{
    cholesky_lower, gemm, leading_eigenpairs, matrix_product, product_tr_left, product_tr_right,
    solve_cholesky, solve_lower,
};
use crate::{Error, Result};
use nalgebra::{DMatrix, DVector};

/// Maximum-likelihood factor analysis: L-BFGS ascent of the likelihood, maximised over W in closed
/// form, in the logarithms of the noise variances ψ_j.
///
/// Given Ψ, the optimal W is Ψ^½Q(Λ−I)^½ with the k leading eigenpairs (Λ, Q) of S* = Ψ^−½SΨ^−½, as
/// far as the eigenvalues exceed 1. With E = (I−QQᵗ)Ψ^−½A, AAᵗ = S,
///
/// ```math
/// -2\max_W J = d\ln2\pi + \sum_j\ln\psi_j + \sum_{m\le k}(\ln\lambda_m+1)
/// + \lVert E\rVert^2,\qquad
/// -2\frac{\partial}{\partial\ln\psi_j} = 1-\sum_{m\le k}q_{jm}^2-\lVert E_{j\cdot}\rVert^2
/// ```
///
/// (Lawley 1940, [Jöreskog 1967](https://doi.org/10.1007/BF02289658)): sums of squares, in which
/// nothing cancels. The initial Hessian of L-BFGS is (I−QQᵗ)∘EEᵗ, Jöreskog's approximation of the
/// second derivatives in a form that also holds if k factors do not fit. There are tens of
/// iterations, where EM needs thousands. The fit runs from several initialisations and returns the
/// best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileLikelihood {
    /// Maximum number of iterations from each initialisation.
    pub max_iterations: usize,
    /// Tolerance on the remaining gain of J, in nats per observation.
    pub tolerance: f64,
    /// Number of initialisations, 1 to 3, in this order: Jöreskog's; the principal components of
    /// the correlations; all ψ_j at half of the variance.
    pub starts: usize,
}

impl Default for ProfileLikelihood {
    fn default() -> Self {
        Self { max_iterations: 1_000, tolerance: 1e-10, starts: 2 }
    }
}

/// Loadings and noise variances for variables of variance 1.
pub(crate) struct StandardFactors {
    pub(crate) loadings: DMatrix<f64>,
    pub(crate) noise_variances: DVector<f64>,
}

/// The profile likelihood, its gradient and what the approximate Hessian needs, at one ln ψ.
struct Profile {
    log_variances: DVector<f64>,
    directions: DMatrix<f64>, // Q, of the eigenvalues above 1
    variances: DVector<f64>,  // these eigenvalues
    residual: DMatrix<f64>,   // E
    value: f64,               // −2 max_W J, without d ln 2π
    gradient: DVector<f64>,
}

impl Tangent for DVector<f64> {
    fn dot(&self, other: &Self) -> f64 {
        nalgebra::Matrix::dot(self, other)
    }
    fn add_scaled(&mut self, factor: f64, other: &Self) {
        self.axpy(factor, other, 1.0);
    }
    fn scale(&mut self, factor: f64) {
        *self *= factor;
    }
}

/// The data of the profile likelihood: a square-root factor of the correlation matrix, and the
/// matrix itself.
struct Correlations<'a> {
    root: &'a DMatrix<f64>,
    /// `None` if there are fewer observations than variables: the smaller Gram matrix is decomposed
    /// in that case.
    matrix: Option<DMatrix<f64>>,
    latent_dim: usize,
}

impl<'a> Correlations<'a> {
    fn new(root: &'a DMatrix<f64>, latent_dim: usize) -> Self {
        let matrix = (root.nrows() <= root.ncols()).then(|| product_tr_right(root, root));
        Self { root, matrix, latent_dim }
    }

    /// Returns an orthonormal basis Q of the span of the k leading eigenvectors of Ψ^−½ S Ψ^−½.
    fn leading(&self, scales: &DVector<f64>, scaled: &DMatrix<f64>) -> Result<DMatrix<f64>> {
        if let Some(correlations) = &self.matrix {
            let d = correlations.nrows();
            let matrix =
                DMatrix::from_fn(d, d, |i, j| correlations[(i, j)] * scales[i] * scales[j]);
            return Ok(leading_eigenpairs(matrix.as_view(), self.latent_dim)?.vectors);
        }
        // n < d: the eigenvectors of the n×n Gram matrix, mapped to d variables. Orthonormalised,
        // because rounding in a small eigenvalue would be divided by its root.
        let inner = leading_eigenpairs(product_tr_left(scaled, scaled).as_view(), self.latent_dim)?;
        crate::linalg::orthonormalize(matrix_product(scaled, &inner.vectors).as_view())
    }

    fn profile(&self, log_variances: DVector<f64>) -> Result<Profile> {
        let scales = log_variances.map(|l| (-0.5 * l).exp());
        let mut residual = self.root.clone();
        for mut column in residual.column_iter_mut() {
            column.component_mul_assign(&scales);
        }
        let leading = self.leading(&scales, &residual)?;
        // Everything that follows comes from sums of squares of projections, not from the
        // eigenvalues of S*: their absolute rounding error is that of the largest, which grows like
        // 1/ψ_j in a Heywood case.
        let inside = product_tr_left(&leading, &residual);
        let squares: Vec<f64> = inside.row_iter().map(|row| row.norm_squared()).collect();
        // An eigenvalue of at most 1 belongs to no factor: the optimal W is 0 along it.
        let alive: Vec<usize> = (0..squares.len()).filter(|&m| squares[m] > 1.0).collect();
        let (directions, inside) = (leading.select_columns(&alive), inside.select_rows(&alive));
        gemm(-1.0, &directions, &inside, 1.0, &mut residual);
        let variances = DVector::from_iterator(alive.len(), alive.iter().map(|&m| squares[m]));
        let value = log_variances.sum()
            + variances.iter().map(|v| v.ln() + 1.0).sum::<f64>()
            + residual.norm_squared();
        let gradient = DVector::from_fn(log_variances.len(), |j, _| {
            1.0 - directions.row(j).norm_squared() - residual.row(j).norm_squared()
        });
        Ok(Profile { log_variances, directions, variances, residual, value, gradient })
    }

    /// Returns the initial ln ψ of initialisation number `which`.
    fn start(&self, which: usize) -> Result<DVector<f64>> {
        let (d, k) = (self.root.nrows(), self.latent_dim);
        // Lower bound of an initial uniqueness ψ_j/S_jj, as in R's `factanal`: near 0 the first
        // steps would be very long in ln ψ.
        let least = 0.005;
        let uniqueness = match (which, &self.matrix) {
            // Jöreskog's (1 − k/2d) / (S⁻¹)_jj: a share of the variance that the other variables do
            // not explain.
            (0, Some(correlations)) if cholesky_lower(correlations.as_view()).is_ok() => {
                let factor = cholesky_lower(correlations.as_view())?;
                let mut inverse = DMatrix::identity(d, d);
                solve_lower(&factor, inverse.as_view_mut());
                let share = 1.0 - 0.5 * k as f64 / d as f64;
                DVector::from_iterator(
                    d,
                    inverse.column_iter().map(|column| share / column.norm_squared()),
                )
            }
            // The variance of each variable that the leading principal components of the
            // correlations leave unexplained.
            (0 | 1, _) => {
                let ones = DVector::from_element(d, 1.0);
                let leading = self.leading(&ones, self.root)?;
                let inside = product_tr_left(&leading, self.root);
                let outside = self.root.norm_squared() - inside.norm_squared();
                let noise = outside.max(0.0) / (d - k).max(1) as f64;
                let kept = |j: usize| {
                    let terms = leading
                        .row(j)
                        .iter()
                        .zip(inside.row_iter())
                        .map(|(q, row)| q * q * (row.norm_squared() - noise).max(0.0))
                        .sum::<f64>();
                    1.0 - terms
                };
                DVector::from_fn(d, |j, _| kept(j))
            }
            _ => DVector::from_element(d, 0.5),
        };
        Ok(uniqueness.map(|u| u.clamp(least, 1.0).ln()))
    }
}

impl ProfileLikelihood {
    /// Maximises the likelihood of k factors for variables whose second moment has the square-root
    /// factor `root` (d×r, rows of norm 1), with ψ_j ≥ `floor`.
    ///
    /// The trace is that of the best initialisation; J is in units of the standardised variables.
    pub(crate) fn fit(
        &self,
        root: &DMatrix<f64>,
        latent_dim: usize,
        floor: f64,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<StandardFactors>> {
        let correlations = Correlations::new(root, latent_dim);
        let starts = self.starts.clamp(1, 3);
        let (d, r) = root.shape();
        // One task per initialisation; matrix products within it that are no larger than this
        // estimate of the work run on the thread of the task.
        let work = 50 * d * d * r.min(d);
        let ascend = |which: usize, observer: &mut dyn Observer| {
            let start = correlations.start(which)?.map(|l| l.max(floor.ln()));
            self.ascend(&correlations, start, floor.ln(), observer)
        };
        // An observer is called on the caller's thread: then the initialisations run one after the
        // other, with bit-identical results.
        let found: Vec<_> = if observer.is_silent() {
            map_blocks(starts, work, |which| ascend(which, &mut ()))
        } else {
            (0..starts).map(|which| ascend(which, observer)).collect()
        };
        let mut best: Option<(Profile, Trace, StopReason)> = None;
        for found in found {
            let found = found?;
            if best.as_ref().is_none_or(|(profile, ..)| found.0.value < profile.value) {
                best = Some(found);
            }
        }
        let Some((profile, trace, stop)) = best else {
            return Err(Error::Empty { rows: d, columns: 0 });
        };
        let mut loadings = DMatrix::zeros(d, latent_dim);
        for (m, (q, &variance)) in
            profile.directions.column_iter().zip(profile.variances.iter()).enumerate()
        {
            let length = (variance - 1.0).sqrt();
            loadings.set_column(
                m,
                &q.zip_map(&profile.log_variances, |q, l| q * length * (0.5 * l).exp()),
            );
        }
        super::closed_form::orient(&mut loadings);
        // Exactly the floor where it is active: exp(ln floor) may round to a value above it, and
        // callers compare with the floor.
        let noise_variances =
            profile.log_variances.map(|l| if l <= floor.ln() { floor } else { l.exp() });
        Ok(Fitted::new(StandardFactors { loadings, noise_variances }, trace, stop))
    }

    fn ascend(
        &self,
        correlations: &Correlations<'_>,
        start: DVector<f64>,
        floor: f64,
        observer: &mut dyn Observer,
    ) -> Result<(Profile, Trace, StopReason)> {
        let mut at = correlations.profile(start)?;
        let per_observation = |profile: &Profile| {
            -0.5 * (profile.log_variances.len() as f64 * std::f64::consts::TAU.ln() + profile.value)
        };
        let mut trace = Trace::new();
        // 10 pairs are 20d numbers, nothing beside the eigendecomposition of each evaluation.
        let mut history = History::new(10);
        let (mut held, mut pinned) = (0, Vec::new());
        let stop = loop {
            trace.push(per_observation(&at));
            if trace.interrupted(observer) {
                break StopReason::Interrupted;
            }
            if held >= 2 {
                break StopReason::Converged;
            }
            if trace.len() > self.max_iterations {
                break StopReason::IterationLimit;
            }
            // Active-set method: a ψ_j at its floor whose gradient points below it is fixed in this
            // step. The pairs belong to one set of free variables, and are cleared when it changes.
            let free: Vec<usize> = (0..at.gradient.len())
                .filter(|&j| at.log_variances[j] > floor || at.gradient[j] < 0.0)
                .collect();
            if free != pinned {
                history.clear();
                pinned.clone_from(&free);
            }
            let mask = |v: &DVector<f64>| {
                let mut masked = DVector::zeros(v.len());
                free.iter().for_each(|&j| masked[j] = v[j]);
                masked
            };
            let gradient = mask(&at.gradient);
            let curvature = Curvature::of(&at, &free);
            let newton = |g: &DVector<f64>| curvature.solve(g, &free);
            // The decrement predicts a gain of ½ of itself in the value −2J, of ¼ in J.
            let decrement = nalgebra::Matrix::dot(&gradient, &newton(&gradient));
            let mut moved = None;
            // If no step along the L-BFGS direction lowers the value, the pairs are cleared and the
            // direction of the approximate Hessian alone is tried, before the fit ends.
            for attempt in 0..2 {
                let direction = mask(&history.descent(&gradient, newton));
                moved = line_search(correlations, &at, &gradient, direction, floor)?;
                if moved.is_some() || attempt > 0 || history.is_empty() {
                    break;
                }
                history.clear();
            }
            let Some(next) = moved else { break StopReason::Converged };
            let gain = 0.5 * (at.value - next.value);
            let small = 0.25 * decrement < self.tolerance && gain < self.tolerance;
            held = if small { held + 1 } else { 0 };
            let step = mask(&(&next.log_variances - &at.log_variances));
            let change = mask(&(&next.gradient - &at.gradient));
            history.push(step, change, 1e-14);
            at = next;
        };
        Ok((at, trace, stop))
    }
}

/// Cholesky factor of the approximate Hessian in the free ln ψ_j; `None` if it is not positive
/// definite.
struct Curvature(Option<DMatrix<f64>>);

impl Curvature {
    fn of(at: &Profile, free: &[usize]) -> Self {
        let (q, e) = (at.directions.select_rows(free), at.residual.select_rows(free));
        let mut matrix = product_tr_right(&e, &e);
        let span = product_tr_right(&q, &q);
        for (i, (h, p)) in matrix.iter_mut().zip(span.iter()).enumerate() {
            let diagonal = i % (free.len() + 1) == 0;
            *h *= if diagonal { 1.0 - p } else { -p };
            if diagonal {
                // A variable that the factors explain entirely has no curvature; the ridge keeps
                // its step finite.
                *h += 1e-6;
            }
        }
        Self(if free.is_empty() { None } else { cholesky_lower(matrix.as_view()).ok() })
    }

    fn solve(&self, gradient: &DVector<f64>, free: &[usize]) -> DVector<f64> {
        let Some(factor) = &self.0 else { return gradient.clone() };
        let mut part = DMatrix::from_fn(free.len(), 1, |i, _| gradient[free[i]]);
        solve_cholesky(factor, part.as_view_mut());
        let mut solution = DVector::zeros(gradient.len());
        free.iter().zip(part.iter()).for_each(|(&j, &value)| solution[j] = value);
        solution
    }
}

/// Backtracking line search: returns the first point along a direction, halved as often as
/// necessary and projected onto ψ_j ≥ floor, that lowers the value enough (Armijo condition).
fn line_search(
    correlations: &Correlations<'_>,
    at: &Profile,
    gradient: &DVector<f64>,
    mut direction: DVector<f64>,
    floor: f64,
) -> Result<Option<Profile>> {
    const LONGEST: f64 = 3.0; // in ln ψ: a factor of 20 in a variance
    // Each entry is bounded by itself, as one variable near its floor must not shorten the step of
    // all others. If the bounded direction is not one of descent, the whole is scaled.
    let bounded = direction.map(|d| d.clamp(-LONGEST, LONGEST));
    let slope = nalgebra::Matrix::dot(&bounded, gradient);
    if slope < 0.0 {
        direction = bounded;
    } else {
        let longest = direction.amax();
        direction *= (LONGEST / longest).min(1.0);
    }
    // A rise within the rounding error of the value is not a rise.
    let rounding = 4.0 * f64::EPSILON * (at.value.abs() + at.log_variances.len() as f64);
    // 40 halvings bring a step of 3 in ln ψ down to 3e-12.
    for _ in 0..40 {
        let moved = (&at.log_variances + &direction).map(|l| l.max(floor));
        let expected = nalgebra::Matrix::dot(&(&moved - &at.log_variances), gradient);
        if expected >= 0.0 {
            return Ok(None);
        }
        let next = correlations.profile(moved)?;
        if next.value.is_finite() && next.value <= at.value + 1e-4 * expected + rounding {
            return Ok((next.value < at.value).then_some(next));
        }
        direction *= 0.5;
    }
    Ok(None)
}

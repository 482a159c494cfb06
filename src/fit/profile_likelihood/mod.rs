//! Maximum-likelihood factor analysis by the profile likelihood: W has a closed form given Ψ, and
//! a projected quasi-Newton method optimises ln Ψ.

mod ascent;
mod initialization;
mod profile;

use super::{Fitted, Observer, StopReason};
use crate::linalg::parallel::map_blocks;
use crate::{Error, Result};
use ascent::{Ascended, Limits, ascend};
use nalgebra::{DMatrix, DVector};
use profile::{Correlations, Profile};
use rand::Rng;

/// Maximum-likelihood factor analysis: projected quasi-Newton ascent of the likelihood, maximised
/// over W in closed form, in the logarithms of the noise variances ψ_j.
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
/// iterations, where EM needs thousands. The bounds ψ_j ≥ floor are those of a projected
/// quasi-Newton method, which ends where the projected gradient predicts no gain.
///
/// The likelihood may have several local maxima, above all for small tables and if a ψ_j tends to 0.
/// The fit therefore runs from several initialisations and returns the best. In this order they are:
/// Jöreskog's; the principal components of the correlations; all ψ_j at half of the variance; the
/// (k+1)-th principal component in place of the k-th; then alternately all ψ_j at half but one, in
/// turn, near 0, and a fixed sequence of ψ that is spread over the unit cube. None of them is
/// random: see [`restarts`](crate::steps::FactorAnalysisBuilder::restarts) for those.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileLikelihood {
    /// Maximum number of iterations from each initialisation.
    pub max_iterations: usize,
    /// Tolerance on the remaining gain of J, in nats per observation.
    pub tolerance: f64,
    /// Number of initialisations; 0 (default) for as many as the data need: the first two, and up to
    /// 22 more if these end at different maxima, if a ψ_j ends at its floor, or if there are fewer
    /// than ten observations for each variable. Beyond some 60 variables there are fewer than 22,
    /// beyond some 150 none.
    pub starts: usize,
}

impl Default for ProfileLikelihood {
    fn default() -> Self {
        Self { max_iterations: 1_000, tolerance: 1e-10, starts: 0 }
    }
}

/// Loadings and noise variances for variables of variance 1.
pub(crate) struct StandardFactors {
    pub(crate) loadings: DMatrix<f64>,
    pub(crate) noise_variances: DVector<f64>,
}

/// What a fit is given: standardised variables, k, and the bounds.
pub(crate) struct FactorProblem<'a> {
    /// A square-root factor of the correlation matrix: d×r, rows of norm 1.
    pub(crate) root: &'a DMatrix<f64>,
    /// The number of observations behind it.
    pub(crate) observations: usize,
    pub(crate) latent_dim: usize,
    /// The lower bound of each ψ_j.
    pub(crate) floor: f64,
    /// The number of random initialisations beside the others.
    pub(crate) restarts: usize,
}

/// The number of initialisations that always run.
const FIRST: usize = 2;

/// The number of initialisations of a fit that finds reason to doubt the first two.
const THOROUGH: usize = 24;

/// Number of multiplications that the initialisations after the first two may take in all.
// A fifth of a second on one thread; one ascent takes some 50 d² min(d, r).
const WORK: usize = 200_000_000;

/// Observations for each variable from which two equal maxima without an active bound are trusted.
const MANY_OBSERVATIONS: usize = 10;

/// Difference in J per observation below which two maxima are one.
const SAME_MAXIMUM: f64 = 1e-6;

impl ProfileLikelihood {
    /// Maximises the likelihood of k factors.
    ///
    /// The trace is that of the best initialisation; J is in units of the standardised variables.
    /// With random restarts, [`Trace::starts`] has the best of the deterministic initialisations,
    /// then each restart.
    pub(crate) fn fit(
        &self,
        problem: &FactorProblem<'_>,
        rng: &mut dyn Rng,
        observer: &mut dyn Observer,
    ) -> Result<Fitted<StandardFactors>> {
        let correlations = Correlations::new(problem.root, problem.latent_dim);
        let fixed = |range: std::ops::Range<usize>| -> Result<Vec<DVector<f64>>> {
            range.map(|which| correlations.initial(which)).collect()
        };
        let mut search = Search {
            correlations: &correlations,
            limits: Limits {
                max_iterations: self.max_iterations,
                tolerance: self.tolerance,
                floor: problem.floor.ln(),
            },
            best: None,
            values: Vec::new(),
        };
        let certain = if self.starts == 0 { FIRST } else { self.starts };
        search.run(fixed(0..certain)?, observer)?;
        if self.starts == 0 && search.in_doubt(problem) {
            let (d, r) = problem.root.shape();
            let most = FIRST + WORK / search.work().max(1);
            let most = if d.min(r) < 2 { FIRST } else { most.min(THOROUGH) };
            search.run(fixed(FIRST..most)?, observer)?;
        }
        let deterministic = search.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        search.values.clear();
        let random = (0..problem.restarts).map(|_| correlations.random_initial(rng)).collect();
        search.run(random, observer)?;
        let (d, columns) = problem.root.shape();
        let Some(best) = search.best else {
            return Err(Error::Empty { rows: d, columns });
        };
        let Ascended { profile, mut trace, stop } = best;
        if problem.restarts > 0 {
            trace.set_starts([&[deterministic], &search.values[..]].concat());
        }
        let factors = factors(&profile, problem.latent_dim, problem.floor);
        Ok(Fitted::new(factors, trace, stop))
    }
}

impl ProfileLikelihood {
    /// Maximises the likelihood of k factors from given ψ, for a second moment with the square-root
    /// factor `root` (d×r).
    pub(crate) fn refine(
        &self,
        root: &DMatrix<f64>,
        latent_dim: usize,
        floor: f64,
        noise_variances: &DVector<f64>,
    ) -> Result<StandardFactors> {
        let correlations = Correlations::new(root, latent_dim);
        let limits = Limits {
            max_iterations: self.max_iterations,
            tolerance: self.tolerance,
            floor: floor.ln(),
        };
        let start = noise_variances.map(|v| v.ln().max(limits.floor));
        let found = ascend(&correlations, start, limits, &mut ())?;
        Ok(factors(&found.profile, latent_dim, floor))
    }
}

/// The ascents of one fit: the best so far, and the J that each reached since it was cleared.
struct Search<'a> {
    correlations: &'a Correlations<'a>,
    limits: Limits,
    best: Option<Ascended>,
    values: Vec<f64>,
}

impl Search<'_> {
    /// The estimated number of multiplications of one ascent.
    fn work(&self) -> usize {
        let (d, r) = self.correlations.root.shape();
        50 * d * d * r.min(d)
    }

    /// Runs an ascent from each initialisation, and keeps the best of all.
    fn run(&mut self, initial: Vec<DVector<f64>>, observer: &mut dyn Observer) -> Result<()> {
        let ascend_from = |which: usize, observer: &mut dyn Observer| {
            let start = initial[which].map(|l| l.max(self.limits.floor));
            ascend(self.correlations, start, self.limits, observer)
        };
        // One task per initialisation; matrix products within it that are no larger than this
        // estimate of the work run on the thread of the task. An observer is called on the caller's
        // thread: then the initialisations run one after the other, with bit-identical results.
        let found: Vec<Result<Ascended>> = if observer.is_silent() {
            map_blocks(initial.len(), self.work(), |which| ascend_from(which, &mut ()))
        } else {
            let mut found = Vec::new();
            for which in 0..initial.len() {
                if self.interrupted() || found.last().is_some_and(was_interrupted) {
                    break;
                }
                found.push(ascend_from(which, observer));
            }
            found
        };
        for found in found {
            let found = found?;
            self.values.push(found.profile.objective());
            let better = |best: &Ascended| found.profile.value < best.profile.value;
            // An interrupted fit returns what it has, and says so.
            let stop = found.stop;
            if self.best.as_ref().is_none_or(better) {
                self.best = Some(found);
            }
            if let (StopReason::Interrupted, Some(best)) = (stop, &mut self.best) {
                best.stop = stop;
            }
        }
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.stop == StopReason::Interrupted)
    }

    /// Whether the maximum of the first ascents may be a local one.
    fn in_doubt(&self, problem: &FactorProblem<'_>) -> bool {
        let Some(best) = &self.best else { return false };
        if self.interrupted() {
            return false;
        }
        let highest = best.profile.objective();
        let disagree = self.values.iter().any(|value| highest - value > SAME_MAXIMUM);
        let at_floor = best.profile.log_variances.iter().any(|&l| l <= self.limits.floor);
        let few = problem.observations < MANY_OBSERVATIONS * problem.root.nrows();
        disagree || at_floor || few
    }
}

fn was_interrupted(found: &Result<Ascended>) -> bool {
    found.as_ref().is_ok_and(|found| found.stop == StopReason::Interrupted)
}

/// The loadings and noise variances at a profile.
fn factors(profile: &Profile, latent_dim: usize, floor: f64) -> StandardFactors {
    let mut loadings = DMatrix::zeros(profile.log_variances.len(), latent_dim);
    for (m, (q, &variance)) in
        profile.directions.column_iter().zip(profile.variances.iter()).enumerate()
    {
        let length = (variance - 1.0).sqrt();
        let column = q.zip_map(&profile.log_variances, |q, l| q * length * (0.5 * l).exp());
        loadings.set_column(m, &column);
    }
    super::closed_form::orient(&mut loadings);
    // Exactly the floor where it is active: exp(ln floor) may round to a value above it, and
    // callers compare with the floor.
    let noise_variances =
        profile.log_variances.map(|l| if l <= floor.ln() { floor } else { l.exp() });
    StandardFactors { loadings, noise_variances }
}

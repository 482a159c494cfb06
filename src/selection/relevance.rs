//! Variational Bayesian PCA in closed form: the relevant directions and their shrinkage.
//!
//! Legend: N observations; n = N, or N − 1 if the mean is estimated; d the dimension of the span of the variables; L the smaller and
//! M the larger of n and d; λ_j the eigenvalues of the covariance (divisor N); γ_j² = N λ_j; σ² the
//! noise variance; 1/α_j the prior variance of a loading in column j of W.

use super::Spectrum;

/// The optimal variational posterior of Bayesian PCA with automatic relevance determination: x ~
/// N(Wz + μ, σ²I), z ~ N(0, I), w_j ~ N(0, α_j⁻¹I), q(W)q(Z), with α and σ² at their optimum.
///
/// At the optimum all columns of W lie along principal directions, and the bound of each is a
/// function of x_j = γ_j²/(Mσ²)[^1]: with τ + L/(Mτ) = x_j − 1 − L/M (the larger root), direction j
/// is kept if ln(τ+1) + (L/M) ln(τM/L + 1) − τ < 0, and pruned (α_j → ∞) otherwise. Only σ²
/// remains, and is found by a line search.
///
/// [^1]: S. Nakajima, R. Tomioka, M. Sugiyama and S. D. Babacan, Condition for perfect
/// dimensionality recovery by variational Bayesian PCA, JMLR 16, 2015. The model is C. Bishop's,
/// Bayesian PCA, NIPS 1998, and Variational principal components, ICANN 1999.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ArdPosterior {
    /// The noise variance σ².
    pub noise_variance: f64,
    /// The precision α_j of each kept direction, in increasing order.
    pub precisions: Vec<f64>,
    /// The norm of the posterior mean of each kept column of W, in decreasing order.
    pub loading_norms: Vec<f64>,
    /// The bound on log p(X) in nats, up to the constant that the mean's flat (improper) prior
    /// leaves undetermined.
    pub bound: f64,
}

/// The sizes of the problem: L, M, the γ_j² and their sum.
struct Problem {
    smaller: f64,
    larger: f64,
    squares: Vec<f64>,
    total: f64,
}

/// The largest number of directions that can be distinguished from noise, however large they are:
/// with more, the bound would be unbounded in σ².
pub(crate) fn largest_relevant(spectrum: &Spectrum) -> usize {
    let (n, d) = (spectrum.effective_observations(), spectrum.dims());
    let (smaller, larger) = (n.min(d) as f64, n.max(d) as f64);
    ((smaller / (1.0 + smaller / larger)).ceil() as usize).saturating_sub(1)
}

impl Problem {
    /// The problem of a spectrum.
    fn of(spectrum: &Spectrum) -> Self {
        let (n, d) = (spectrum.effective_observations(), spectrum.dims());
        let squares: Vec<f64> = spectrum
            .within_span()
            .iter()
            .take(n.min(d))
            .map(|v| v * spectrum.observations() as f64)
            .collect();
        Self {
            smaller: n.min(d) as f64,
            larger: n.max(d) as f64,
            total: squares.iter().sum(),
            squares,
        }
    }

    /// Returns τ of a direction with x = γ²/(Mσ²) and its contribution to the free energy divided
    /// by M/2; `None` if it is pruned.
    fn kept(&self, x: f64) -> Option<(f64, f64)> {
        let ratio = self.smaller / self.larger;
        let excess = x - (1.0 + ratio);
        // τ² − excess·τ + L/M = 0. Below the edge (1 + √(L/M))² of the noise spectrum it has no
        // real root.
        let discriminant = excess * excess - 4.0 * ratio;
        if excess <= 0.0 || discriminant < 0.0 {
            return None;
        }
        let tau = 0.5 * (excess + discriminant.sqrt());
        let cost = tau.ln_1p() + ratio * (tau / ratio).ln_1p() - tau;
        (cost < 0.0).then_some((tau, cost))
    }

    /// The free energy (negative bound) at σ², with at most `most` directions.
    fn free_energy(&self, noise_variance: f64, most: usize) -> f64 {
        self.constant(noise_variance) + self.costs(noise_variance, most).sum::<f64>()
    }

    /// The free energy at σ² without any direction.
    fn constant(&self, noise_variance: f64) -> f64 {
        0.5 * (self.smaller * self.larger * (std::f64::consts::TAU * noise_variance).ln()
            + self.total / noise_variance)
    }

    /// The contribution of each kept direction to the free energy, from the largest γ on.
    fn costs(&self, noise_variance: f64, most: usize) -> impl Iterator<Item = f64> {
        let kept = self
            .squares
            .iter()
            .take(most)
            .map_while(move |square| self.kept(square / (self.larger * noise_variance)));
        kept.map(|(_, cost)| 0.5 * self.larger * cost)
    }

    /// For each k up to `most`, the σ² with the smallest free energy with at most k directions on a
    /// grid of ln σ², and the number of directions kept there.
    fn on_grid(&self, most: usize) -> Vec<(f64, usize)> {
        const CELLS: usize = 500;
        // The free energy need not be unimodal in σ²: directions enter and leave as it changes. The
        // grid finds the right basin, `refined` its minimum.
        let after = self.squares[most.min(self.squares.len())..].iter().sum::<f64>();
        let highest = self.total / (self.smaller * self.larger);
        // Bounds of σ²: all variance is noise (above), or only that of the directions that are
        // never kept (below). The factor 1e-14 keeps ln σ² finite where nothing is left.
        let lowest =
            (after / (self.larger * (self.smaller - most as f64).max(1.0))).max(highest * 1e-14);
        let (low, high) = (lowest.ln() - 0.5, highest.ln() + 1e-9);
        let mut best = vec![(f64::INFINITY, 0.0, 0); most + 1];
        for cell in 0..=CELLS {
            let noise_variance = (low + (high - low) * cell as f64 / CELLS as f64).exp();
            let mut energy = self.constant(noise_variance);
            let mut costs = self.costs(noise_variance, most);
            // One pass serves all k: with k directions the energy is that of k − 1 plus the cost of
            // the k-th, as long as all before are kept.
            let mut kept = 0;
            for (k, best) in best.iter_mut().enumerate() {
                if kept + 1 == k
                    && let Some(cost) = costs.next()
                {
                    energy += cost;
                    kept = k;
                }
                if energy < best.0 {
                    *best = (energy, noise_variance, kept);
                }
            }
        }
        best.into_iter().map(|(_, noise_variance, kept)| (noise_variance, kept)).collect()
    }

    /// The σ² with the smallest free energy near a grid point, by golden-section search.
    fn refined(&self, near: f64, most: usize) -> f64 {
        let highest = self.total / (self.smaller * self.larger);
        let (mut a, mut b) = (near.ln() - 0.1, (near.ln() + 0.1).min(highest.ln() + 1e-9));
        let energy = |l: f64| self.free_energy(l.exp(), most);
        // 0.381966 = 1 − 1/φ. 55 sections reduce the bracket of 0.2 in ln σ² to 0.2·0.618⁵⁵ ≈
        // 6·10⁻¹³.
        for _ in 0..55 {
            let (first, second) = (a + 0.381_966 * (b - a), b - 0.381_966 * (b - a));
            if energy(first) <= energy(second) { b = second } else { a = first }
        }
        let found = (0.5 * (a + b)).exp();
        if self.free_energy(found, most) <= self.free_energy(near, most) { found } else { near }
    }
}

impl ArdPosterior {
    /// The optimal posterior with at most `most` directions.
    pub(crate) fn of(spectrum: &Spectrum, most: usize) -> Self {
        let problem = Problem::of(spectrum);
        let most = most.min(largest_relevant(spectrum));
        let near = problem.on_grid(most)[most].0;
        Self::at(&problem, spectrum, problem.refined(near, most), most)
    }

    /// The bound at the optimum with at most k directions, for k = 0 to `most`; bit-identical for
    /// all k at which the same directions are kept.
    pub(crate) fn bounds(spectrum: &Spectrum, most: usize) -> Vec<f64> {
        let problem = Problem::of(spectrum);
        let mut bounds: Vec<f64> = Vec::with_capacity(most + 1);
        for (k, (near, kept)) in problem.on_grid(most).into_iter().enumerate() {
            // A k that is not reached has the optimum of a smaller one: its bound is copied, so
            // that equal scores compare equal.
            bounds.push(if kept < k {
                bounds[kept]
            } else {
                -problem.free_energy(problem.refined(near, k), k)
            });
        }
        bounds
    }

    /// The posterior at a given σ².
    fn at(problem: &Problem, spectrum: &Spectrum, noise_variance: f64, most: usize) -> Self {
        let (n, d) = (spectrum.effective_observations() as f64, spectrum.dims() as f64);
        let (mut precisions, mut loading_norms) = (Vec::new(), Vec::new());
        for &square in problem.squares.iter().take(most) {
            let Some((tau, _)) = problem.kept(square / (problem.larger * noise_variance)) else {
                break;
            };
            // t = σ²α = L/τ solves γ²/σ² = (d+t)(n+t)/t; the squared norm of the column's mean is
            // then ‖w‖² = dn/(α(n+t)).
            let scaled = problem.smaller / tau;
            let precision = scaled / noise_variance;
            precisions.push(precision);
            loading_norms.push((d * n / (precision * (n + scaled))).sqrt());
        }
        let bound = -problem.free_energy(noise_variance, most);
        Self { noise_variance, precisions, loading_norms, bound }
    }

    /// The number of kept directions.
    pub fn latent_dim(&self) -> usize {
        self.precisions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of a given q: scalar means a (of w) and b (of z, over n observations) along a
    /// singular pair, with variances s_w and s_z.
    fn bound(n: f64, d: f64, total: f64, components: &[[f64; 6]], noise: f64) -> f64 {
        let mut data = total;
        let mut divergence = 0.0;
        for &[gamma, a, b, s_w, s_z, alpha] in components {
            let (w, z) = (a * a + d * s_w, b * b + n * s_z);
            data += w * z - 2.0 * gamma * a * b;
            divergence +=
                0.5 * (z - n - n * s_z.ln() + alpha * w - d - d * s_w.ln() - d * alpha.ln());
        }
        -0.5 * (n * d * (std::f64::consts::TAU * noise).ln() + data / noise) - divergence
    }

    #[test]
    fn the_formula_is_where_coordinate_ascent_ends() {
        for (n, d, values) in [(60usize, 8usize, [9.0, 5.0, 3.0]), (9, 30, [40.0, 30.0, 9.0])] {
            let mut eigenvalues = values.to_vec();
            eigenvalues.extend((0..n.min(d) - 3).map(|j| 0.8 - 0.05 * j as f64));
            let spectrum = Spectrum::from_eigenvalues(&eigenvalues, d, n + 1).unwrap();
            let found = ArdPosterior::of(&spectrum, 3);
            assert_eq!(found.latent_dim(), 3);
            let (n, d) = (n as f64, d as f64);
            let total: f64 = eigenvalues.iter().map(|v| v * (n + 1.0)).sum();
            // Coordinate ascent from another starting point.
            let mut noise = 2.0 * found.noise_variance;
            let mut components: Vec<[f64; 6]> = values
                .iter()
                .map(|v| {
                    let gamma = (v * (n + 1.0)).sqrt();
                    [gamma, gamma / n.sqrt(), n.sqrt(), 0.1, 0.1, 1.0]
                })
                .collect();
            for _ in 0..20_000 {
                let mut data = total;
                for [gamma, a, b, s_w, s_z, alpha] in &mut components {
                    *s_w = 1.0 / ((*b * *b + n * *s_z) / noise + *alpha);
                    *a = *s_w * *gamma * *b / noise;
                    *s_z = 1.0 / ((*a * *a + d * *s_w) / noise + 1.0);
                    *b = *s_z * *gamma * *a / noise;
                    *alpha = d / (*a * *a + d * *s_w);
                    data += (*a * *a + d * *s_w) * (*b * *b + n * *s_z) - 2.0 * *gamma * *a * *b;
                }
                noise = data / (n * d);
            }
            let reached = bound(n, d, total, &components, noise);
            assert!(
                (reached - found.bound).abs() < 1e-6 * reached.abs(),
                "{reached} {}",
                found.bound
            );
            assert!(
                (noise - found.noise_variance).abs() < 1e-5 * noise,
                "{noise} {}",
                found.noise_variance
            );
            for (component, (alpha, norm)) in
                components.iter().zip(found.precisions.iter().zip(&found.loading_norms))
            {
                assert!(
                    (component[5] - alpha).abs() < 1e-4 * alpha
                        && (component[1] - norm).abs() < 1e-4 * norm
                );
            }
        }
    }

    #[test]
    fn noise_alone_keeps_nothing() {
        let eigenvalues: Vec<f64> = (0..20).map(|j| 1.2 - 0.02 * j as f64).collect();
        let spectrum = Spectrum::from_eigenvalues(&eigenvalues, 20, 200).unwrap();
        let found = ArdPosterior::of(&spectrum, 19);
        assert_eq!(found.latent_dim(), 0);
        assert!(
            (found.noise_variance - eigenvalues.iter().sum::<f64>() / 20.0 * 200.0 / 199.0).abs()
                < 1e-6
        );
    }
}

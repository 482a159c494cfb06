//! log p(x) by quadrature over z, for k ≤ 2: the trapezoidal rule on a lattice in coordinates in
//! which the posterior of the observation has mean 0 and covariance I.

use nalgebra::{DMatrix, DVector};

/// Largest latent dimension of a product rule.
pub(crate) const LARGEST_DIM: usize = 2;
/// Passes until the lattice fits the posterior.
const PASSES: usize = 30;
/// Share of the integrand that may lie on the border of the lattice.
const BORDER: f64 = 1e-11;
/// Share on the border from which on the lattice holds only a part of the posterior.
const CUT_OFF: f64 = 1e-3;

/// Where the lattice of an observation lies: the mean and a square-root factor of the covariance of
/// its posterior.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) mean: DVector<f64>,
    pub(crate) factor: DMatrix<f64>,
}

/// log p(x) of one observation.
pub(crate) struct Marginal {
    /// log p(x) in nats.
    pub(crate) value: f64,
    /// Its estimated error: the difference from every second node in each direction, and the share
    /// on the border.
    pub(crate) error: f64,
    /// The place for another integral with parameters near these.
    pub(crate) place: Place,
    /// The nodes z, k×(their number).
    pub(crate) nodes: DMatrix<f64>,
    /// The posterior probability of each node.
    pub(crate) shares: Vec<f64>,
}

/// Steps to each side of the centre, and the length of one: 81 nodes, or 45² = 2025.
fn lattice(k: usize) -> (i32, f64) {
    match k {
        0 => (0, 1.0),
        1 => (40, 0.25),
        _ => (22, 0.45),
    }
}

/// Integrates π(z) p(x|z) over z, where `log_density` returns ln p(x|z) for each column of nodes
/// (k×·), beginning with a lattice at `place`.
///
/// The lattice is moved and scaled by the moments that it finds, until it fits. At most
/// [`PASSES`] lattices are tried; the error tells when none fits.
pub(crate) fn integrate(
    mut log_density: impl FnMut(&DMatrix<f64>) -> Vec<f64>,
    mut place: Place,
) -> Marginal {
    let k = place.mean.len();
    let (reach, step) = lattice(k);
    let indices = indices(k, reach);
    let whitened = DMatrix::from_fn(k, indices.len(), |a, q| step * f64::from(indices[q][a]));
    let mut pass = 0;
    let mut widening = 1.0;
    loop {
        let mut nodes = &place.factor * &whitened;
        nodes.column_iter_mut().for_each(|mut z| z += &place.mean);
        let density = log_density(&nodes);
        let constant = place.factor.diagonal().iter().map(|v| v.abs().ln()).sum::<f64>()
            + k as f64 * (step.ln() - 0.5 * std::f64::consts::TAU.ln());
        let logs: Vec<f64> = density
            .iter()
            .zip(nodes.column_iter())
            .map(|(density, z)| density - 0.5 * z.norm_squared() + constant)
            .collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut shares: Vec<f64> = logs.iter().map(|l| (l - largest).exp()).collect();
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
        let value = largest + total.ln();
        let even = |index: &[i32; 2]| index.iter().all(|i| i % 2 == 0);
        let at_border = |index: &[i32; 2]| index.iter().any(|i| i.abs() == reach);
        let share_of = |chosen: &dyn Fn(&[i32; 2]) -> bool| -> f64 {
            indices.iter().zip(&shares).filter(|(i, _)| chosen(i)).map(|(_, s)| s).sum()
        };
        let border = if k == 0 { 0.0 } else { share_of(&at_border) };
        // Every second node stands for 2ᵏ of them.
        let coarse = (share_of(&even) * f64::from(1u32 << k)).ln();
        let error = if k == 0 { 0.0 } else { coarse.abs() + border };
        let (mean, moment) = moments(&whitened, &shares);
        pass += 1;
        let fits = fits(&mean, &moment) && border <= BORDER;
        if fits || pass >= PASSES || !value.is_finite() {
            return Marginal { value, error, place, nodes, shares };
        }
        let cut_off = border > CUT_OFF;
        // The same moments again would give the same border: each failure in turn widens more.
        widening = if border > BORDER && !cut_off { 1.3 * widening } else { 1.0 };
        place = moved(&place, &mean, moment, if cut_off { None } else { Some(widening) });
    }
}

/// The indices of the nodes; unused ones are 0.
fn indices(k: usize, reach: i32) -> Vec<[i32; 2]> {
    let line = -reach..=reach;
    match k {
        0 => vec![[0, 0]],
        1 => line.map(|i| [i, 0]).collect(),
        _ => line.clone().flat_map(|i| line.clone().map(move |j| [i, j])).collect(),
    }
}

/// The mean and the covariance of the nodes, in the coordinates of the lattice.
fn moments(nodes: &DMatrix<f64>, shares: &[f64]) -> (DVector<f64>, DMatrix<f64>) {
    let k = nodes.nrows();
    let mut mean = DVector::zeros(k);
    for (z, share) in nodes.column_iter().zip(shares) {
        mean.axpy(*share, &z, 1.0);
    }
    let mut moment = DMatrix::zeros(k, k);
    for (z, share) in nodes.column_iter().zip(shares) {
        let deviation = z - &mean;
        moment.ger(*share, &deviation, &deviation, 1.0);
    }
    (mean, moment)
}

/// Whether a posterior of these moments is near enough to the standard normal of the lattice.
fn fits(mean: &DVector<f64>, moment: &DMatrix<f64>) -> bool {
    mean.norm() < 0.5
        && moment.diagonal().iter().all(|v| (0.35..1.5).contains(v))
        && (moment.nrows() < 2 || moment[(1, 0)].abs() < 0.5)
}

/// The lattice for a posterior of these moments in the coordinates of the present one; without a
/// widening, for one of which the present lattice holds a part only.
fn moved(
    place: &Place,
    mean: &DVector<f64>,
    mut moment: DMatrix<f64>,
    widening: Option<f64>,
) -> Place {
    let k = moment.nrows();
    // A posterior between two nodes shows no variance: the next lattice is as wide as a step. One
    // that is cut off shows too little: it is twice as wide as the present one.
    let (factor, least) = match widening {
        Some(widening) => (widening, (0.5 * lattice(k).1).powi(2)),
        None => (3.0, 4.0),
    };
    moment *= factor;
    for a in 0..k {
        moment[(a, a)] = moment[(a, a)].max(least);
    }
    let diagonal = moment.diagonal().map(f64::sqrt);
    let root = moment.cholesky().map_or_else(|| DMatrix::from_diagonal(&diagonal), |c| c.unpack());
    Place { mean: &place.mean + &place.factor * mean, factor: &place.factor * root }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A normal likelihood, for which log p is known: x|z ~ N(wᵗz, v).
    fn error_of(w: &[f64], x: f64, v: f64, start: f64) -> f64 {
        let k = w.len();
        let place = Place { mean: DVector::zeros(k), factor: DMatrix::identity(k, k) * start };
        let found = integrate(
            |z| {
                z.column_iter()
                    .map(|z| {
                        let y: f64 = z.iter().zip(w).map(|(z, w)| z * w).sum();
                        -0.5 * ((x - y).powi(2) / v + (std::f64::consts::TAU * v).ln())
                    })
                    .collect()
            },
            place,
        );
        let total = v + w.iter().map(|w| w * w).sum::<f64>();
        let right = -0.5 * (x * x / total + (std::f64::consts::TAU * total).ln());
        // The difference from every second node is far above the error.
        assert!(found.error < 1e-3, "{}", found.error);
        (found.value - right).abs()
    }

    #[test]
    fn normal_integrals_are_exact() {
        for start in [1.0, 0.01, 20.0] {
            assert!(error_of(&[2.0], 3.0, 0.5, start) < 1e-10);
            assert!(error_of(&[2.0], 3.0, 1e-6, start) < 1e-10);
            assert!(error_of(&[2.0, -1.0], 3.0, 0.5, start) < 1e-10);
            // A ridge a hundred times as long as wide.
            assert!(error_of(&[2.0, -1.0], 3.0, 1e-3, start) < 1e-9);
        }
    }
}

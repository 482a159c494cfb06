//! Initialisations of the profile likelihood: ln ψ for variables of variance 1.

use super::profile::Correlations;
use crate::Result;
use crate::linalg::{cholesky_lower, product_tr_left, solve_lower};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, RngExt};

/// Lower bound of an initial uniqueness ψ_j/S_jj, as in R's `factanal`: near 0 the first steps would
/// be very long in ln ψ.
const LEAST: f64 = 0.005;

/// Initial uniqueness of the one variable that is explained almost entirely.
const EXPLAINED: f64 = 0.01;

/// Smallest and largest initial uniqueness of a random initialisation.
const RANDOM: std::ops::Range<f64> = 0.02..1.0;

impl Correlations<'_> {
    /// Returns the initial ln ψ of initialisation number `which`, in the order that
    /// [`ProfileLikelihood`](super::ProfileLikelihood) documents.
    pub(super) fn initial(&self, which: usize) -> Result<DVector<f64>> {
        let (d, k) = (self.root.nrows(), self.latent_dim);
        let components: Vec<usize> = (0..k).collect();
        let uniqueness = match which {
            0 => match self.unexplained_by_the_others() {
                Some(share) => share * (1.0 - 0.5 * k as f64 / d as f64),
                None => self.unexplained_by(&components)?,
            },
            1 => self.unexplained_by(&components)?,
            2 => DVector::from_element(d, 0.5),
            3 => {
                // The component after the k-th in place of the k-th, as far as there is one.
                let last = k.min(d.min(self.root.ncols()) - 1);
                self.unexplained_by(&[&components[..k - 1], &[last]].concat())?
            }
            _ if which.is_multiple_of(2) => {
                let mut uniqueness = DVector::from_element(d, 0.5);
                uniqueness[(which / 2 - 2) % d] = EXPLAINED;
                uniqueness
            }
            _ => self.spread(which),
        };
        Ok(uniqueness.map(|u| u.clamp(LEAST, 1.0).ln()))
    }

    /// Returns uniquenesses spread over (0, 1): number `which` of a fixed sequence.
    fn spread(&self, which: usize) -> DVector<f64> {
        // Additive recurrence with the golden ratio over all numbers and variables (Weyl): evenly
        // distributed, without a generator.
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let d = self.root.nrows();
        DVector::from_fn(d, |j, _| {
            let t = (which * d + j + 1) as f64 * GOLDEN;
            // Squared multiples of it, so that neighbours are not correlated.
            (t * (which + j * j + 1) as f64).fract()
        })
    }

    /// Returns a random initial ln ψ.
    pub(super) fn random_initial(&self, rng: &mut dyn Rng) -> DVector<f64> {
        DVector::from_fn(self.root.nrows(), |_, _| rng.random_range(RANDOM).ln())
    }

    /// Returns 1/(S⁻¹)_jj, the share of each variance that the other variables do not explain;
    /// `None` if S is singular.
    fn unexplained_by_the_others(&self) -> Option<DVector<f64>> {
        let factor = cholesky_lower(self.matrix.as_ref()?.as_view()).ok()?;
        let d = self.root.nrows();
        let mut inverse = DMatrix::identity(d, d);
        solve_lower(&factor, inverse.as_view_mut());
        let shares = inverse.column_iter().map(|column| 1.0 / column.norm_squared());
        Some(DVector::from_iterator(d, shares))
    }

    /// Returns the variance of each variable that these principal components of the correlations
    /// leave unexplained, with the maximum-likelihood noise variance subtracted from theirs.
    fn unexplained_by(&self, components: &[usize]) -> Result<DVector<f64>> {
        let (d, k) = (self.root.nrows(), components.len());
        let count = components.iter().max().map_or(0, |last| last + 1);
        let ones = DVector::from_element(d, 1.0);
        let leading = self.leading(&ones, self.root, count)?.select_columns(components);
        let inside = product_tr_left(&leading, self.root);
        let outside = self.root.norm_squared() - inside.norm_squared();
        let noise = outside.max(0.0) / (d - k).max(1) as f64;
        let kept: Vec<f64> =
            inside.row_iter().map(|row| (row.norm_squared() - noise).max(0.0)).collect();
        Ok(DVector::from_fn(d, |j, _| {
            let explained: f64 =
                leading.row(j).iter().zip(&kept).map(|(q, variance)| q * q * variance).sum();
            1.0 - explained
        }))
    }
}

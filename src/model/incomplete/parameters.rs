//! θ in double precision, with what every block needs of it.

use crate::linalg::{packed, packed_len};
use nalgebra::{DMatrix, DVector};

/// Where a pivot of M_o falls below this share of its diagonal, M_o has lost too many digits: its factor is taken from W_o itself. The second figure
/// is for loadings over many orders of magnitude, beside which a small error in a large one is large.
const LOST: (f64, f64) = (1e-6, 1e-2);

/// How much larger than σ² the largest W_ja² may be before the loadings count as such.
const WIDE: f64 = 1e8;

/// W, μ and σ² as the blocks need them.
pub(crate) struct Parameters {
    pub(crate) loadings: DMatrix<f64>,
    pub(crate) mean: DVector<f64>,
    pub(crate) noise_variance: f64,
    /// The pivot, as a share of the diagonal, below which M_o is not to be trusted.
    pub(super) lost: f64,
    /// W_ja W_jb for a ≥ b, d×k(k+1)/2.
    pub(super) products: DMatrix<f64>,
}

impl Parameters {
    pub(crate) fn new(loadings: DMatrix<f64>, mean: DVector<f64>, noise_variance: f64) -> Self {
        let (d, k) = loadings.shape();
        let mut products = DMatrix::zeros(d, packed_len(k));
        for a in 0..k {
            for b in 0..=a {
                products.set_column(packed(a, b), &loadings.column(a).component_mul(&loadings.column(b)));
            }
        }
        let wide = loadings.amax().powi(2) > WIDE * noise_variance;
        Self { loadings, mean, noise_variance, lost: if wide { LOST.1 } else { LOST.0 }, products }
    }
}

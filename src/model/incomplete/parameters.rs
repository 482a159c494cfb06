//! θ in double precision, with what every block needs of it.

use crate::Real;
use crate::likelihood::GaussianNoise;
use crate::linalg::{packed, packed_len};
use crate::model::LinearGaussian;
use nalgebra::{DMatrix, DVector};

/// Where a pivot of M_o falls below this share of its diagonal, M_o has lost too many digits: its
/// factor is taken from W_o itself. The second figure is for loadings over many orders of
/// magnitude, beside which a small error in a large one is large.
const LOST: (f64, f64) = (1e-6, 1e-2);

/// How much larger than the noise variance the largest W_ja² may be before the loadings count as
/// such.
const WIDE: f64 = 1e8;

/// W and μ, the noise as D c D with a diagonal D, and D⁻¹W: in D⁻¹x the noise is isotropic,
/// whatever its shape.
pub(crate) struct Parameters {
    pub(crate) loadings: DMatrix<f64>,
    pub(crate) mean: DVector<f64>,
    /// The noise variance of each variable.
    pub(crate) variances: DVector<f64>,
    /// c.
    pub(crate) noise_variance: f64,
    /// D⁻¹ and ln D² of each variable, unless D is I.
    pub(super) scales: Option<(DVector<f64>, DVector<f64>)>,
    /// D⁻¹W.
    pub(super) equalized: DMatrix<f64>,
    /// The pivot, as a share of the diagonal, below which M_o is not to be trusted.
    pub(super) lost: f64,
    /// (D⁻¹W)_ja (D⁻¹W)_jb for a ≥ b, d×k(k+1)/2.
    pub(super) products: DMatrix<f64>,
}

impl Parameters {
    /// From W, μ, the noise variances of all variables, and c.
    pub(crate) fn new(
        loadings: DMatrix<f64>,
        mean: DVector<f64>,
        variances: DVector<f64>,
        noise_variance: f64,
    ) -> Self {
        let (d, k) = loadings.shape();
        let isotropic = variances.iter().all(|&variance| variance == noise_variance);
        let scales = (!isotropic).then(|| {
            let squares = variances.map(|variance| variance / noise_variance);
            (squares.map(|square| 1.0 / square.sqrt()), squares.map(f64::ln))
        });
        let mut equalized = loadings.clone();
        if let Some((inverses, _)) = &scales {
            equalized
                .column_iter_mut()
                .for_each(|mut column| column.component_mul_assign(inverses));
        }
        let mut products = DMatrix::zeros(d, packed_len(k));
        for a in 0..k {
            for b in 0..=a {
                products.set_column(
                    packed(a, b),
                    &equalized.column(a).component_mul(&equalized.column(b)),
                );
            }
        }
        let wide = equalized.amax().powi(2) > WIDE * noise_variance;
        let lost = if wide { LOST.1 } else { LOST.0 };
        Self { loadings, mean, variances, noise_variance, scales, equalized, lost, products }
    }

    pub(crate) fn of<T: Real, N: GaussianNoise<T>>(model: &LinearGaussian<T, N>) -> Self {
        let mean =
            DVector::from_iterator(model.mean().len(), model.mean().iter().map(|v| v.as_f64()));
        let variances = model.likelihood.variances(mean.len()).map(|v| v.as_f64());
        Self::new(
            model.loadings().map(|v| v.as_f64()),
            mean,
            variances,
            model.likelihood.common_variance().as_f64(),
        )
    }
}

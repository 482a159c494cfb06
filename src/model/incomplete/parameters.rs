//! The model parameters in double precision, with the products that every block of observations
//! needs.

use crate::Real;
use crate::likelihood::GaussianNoise;
use crate::linalg::{packed, packed_len};
use crate::model::LinearGaussian;
use nalgebra::{DMatrix, DVector};

/// The relative pivot of M_o (pivot over diagonal entry) below which too many digits are lost: the
/// factor of M_o is then computed from W_o itself, by QR. The second value applies to loadings over
/// many orders of magnitude, where a small relative error of a large loading is large beside a
/// small one.
const LOST: (f64, f64) = (1e-6, 1e-2);

/// The ratio of the largest W_ja² to the noise variance above which loadings count as spanning many
/// orders of magnitude.
const WIDE: f64 = 1e8;

/// The parameters W and μ, the noise covariance as D c D with a diagonal D, and D⁻¹W. In D⁻¹x the
/// noise is isotropic, whatever its shape.
pub(crate) struct Parameters {
    /// W, d×k.
    pub(crate) loadings: DMatrix<f64>,
    /// μ, d.
    pub(crate) mean: DVector<f64>,
    /// The noise variance of each variable.
    pub(crate) variances: DVector<f64>,
    /// The common noise variance c.
    pub(crate) noise_variance: f64,
    /// The diagonals of D⁻¹ and of ln D²; `None` where D is I.
    pub(super) scales: Option<(DVector<f64>, DVector<f64>)>,
    /// D⁻¹W, d×k.
    pub(super) equalized: DMatrix<f64>,
    /// The relative pivot below which the Cholesky factor of M_o is recomputed by QR.
    pub(super) lost: f64,
    /// The products (D⁻¹W)_ja (D⁻¹W)_jb for a ≥ b, packed, d×k(k+1)/2.
    pub(super) products: DMatrix<f64>,
}

impl Parameters {
    /// From W, μ, the noise variances of all variables, and the common variance c.
    pub(crate) fn new(
        loadings: DMatrix<f64>,
        mean: DVector<f64>,
        variances: DVector<f64>,
        noise_variance: f64,
    ) -> Self {
        let (d, k) = loadings.shape();
        // Isotropic noise needs no division of the data.
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
        // M_o − cI of one pattern is the sum of these rows over its observed variables. For all
        // patterns of a block that is one matrix product, mask × products.
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

    /// The parameters of a model.
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

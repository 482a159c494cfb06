//! Random initialisation of the weights of a network.

use super::Activation;
use crate::linalg::{product_tr_right, thin_svd};
use crate::{Real, Result};
use nalgebra::{DMatrix, DMatrixViewMut};
use rand::{Rng, RngExt};

/// The distribution of a layer's initial weights W (out×in). The biases are 0 unless stated
/// otherwise.
///
/// ```
/// use elbo::map::{Initialization, Mlp};
/// use rand::{SeedableRng, rngs::StdRng};
/// let map = Mlp::<f64>::builder(4, 2)
///     .hidden(&[3])
///     .initialization(Initialization::UniformFanIn)
///     .build(&mut StdRng::seed_from_u64(1))?;
/// assert!(map.layer(0).0.iter().all(|w| w.abs() <= 0.5)); // 1/√4
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialization {
    /// Glorot and Bengio's uniform distribution on ±√(6/(in+out)), for tanh and for an output
    /// layer.
    GlorotUniform,
    /// Glorot and Bengio's normal distribution N(0, 2/(in+out)).
    GlorotNormal,
    /// He's uniform distribution on ±√(6/in), for rectifiers.
    HeUniform,
    /// He's normal distribution N(0, 2/in).
    HeNormal,
    /// LeCun's uniform distribution on ±√(3/in).
    LecunUniform,
    /// LeCun's normal distribution N(0, 1/in).
    LecunNormal,
    /// Uniform distribution on ±1/√in, for the weights **and** the biases.
    UniformFanIn,
    /// The matrix with orthonormal rows or columns that is nearest to a Gaussian one.
    Orthogonal,
    /// All weights 0: the output does not depend on the input until the first training step.
    Zero,
}

impl Initialization {
    /// The default for an activation: [`HeNormal`](Self::HeNormal) for rectifiers and their smooth
    /// relatives, [`GlorotUniform`](Self::GlorotUniform) for the others.
    pub fn of_activation(activation: Activation) -> Self {
        match activation {
            Activation::Relu | Activation::Gelu | Activation::Silu => Self::HeNormal,
            Activation::Tanh | Activation::Softplus | Activation::Identity => Self::GlorotUniform,
        }
    }

    /// Samples W (out×in, by columns) and the bias.
    pub(crate) fn draw<T: Real>(
        self,
        weights: &mut [T],
        bias: &mut [T],
        inputs: usize,
        rng: &mut dyn Rng,
    ) -> Result<()> {
        // A uniform distribution on ±b has the variance b²/3: ±√(6/m) and N(0, 2/m) have the same.
        let (fan_in, fan_out) = (inputs as f64, bias.len() as f64);
        bias.fill(T::zero());
        match self {
            Self::GlorotUniform => uniform(weights, (6.0 / (fan_in + fan_out)).sqrt(), rng),
            Self::GlorotNormal => normal(weights, (2.0 / (fan_in + fan_out)).sqrt(), rng),
            Self::HeUniform => uniform(weights, (6.0 / fan_in).sqrt(), rng),
            Self::HeNormal => normal(weights, (2.0 / fan_in).sqrt(), rng),
            Self::LecunUniform => uniform(weights, (3.0 / fan_in).sqrt(), rng),
            Self::LecunNormal => normal(weights, (1.0 / fan_in).sqrt(), rng),
            Self::UniformFanIn => {
                uniform(weights, fan_in.sqrt().recip(), rng);
                uniform(bias, fan_in.sqrt().recip(), rng);
            }
            Self::Orthogonal => {
                let gaussian = DMatrix::from_fn(bias.len(), inputs, |_, _| T::standard_normal(rng));
                // The nearest orthonormal matrix (polar factor) UVᵗ of a Gaussian matrix is
                // uniformly distributed (Haar), because the Gaussian distribution is invariant
                // under rotations.
                let svd = thin_svd(gaussian.as_view())?;
                let nearest = product_tr_right(svd.u.as_view(), svd.v.as_view());
                DMatrixViewMut::from_slice(weights, bias.len(), inputs).copy_from(&nearest);
            }
            Self::Zero => weights.fill(T::zero()),
        }
        Ok(())
    }
}

/// Overwrites `values` by samples of the uniform distribution on ±`bound`.
fn uniform<T: Real>(values: &mut [T], bound: f64, rng: &mut dyn Rng) {
    values.iter_mut().for_each(|v| *v = T::of(bound * (2.0 * rng.random::<f64>() - 1.0)));
}

/// Overwrites `values` by samples of N(0, `deviation`²).
fn normal<T: Real>(values: &mut [T], deviation: f64, rng: &mut dyn Rng) {
    values.iter_mut().for_each(|v| *v = T::of(deviation) * T::standard_normal(rng));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn each_has_its_variance() {
        let (inputs, outputs) = (200, 300);
        let cases = [
            (Initialization::GlorotUniform, 2.0 / 500.0),
            (Initialization::GlorotNormal, 2.0 / 500.0),
            (Initialization::HeUniform, 2.0 / 200.0),
            (Initialization::HeNormal, 2.0 / 200.0),
            (Initialization::LecunUniform, 1.0 / 200.0),
            (Initialization::LecunNormal, 1.0 / 200.0),
            (Initialization::UniformFanIn, 1.0 / 600.0),
            (Initialization::Zero, 0.0),
        ];
        for (initialization, variance) in cases {
            let (mut weights, mut bias) = (vec![1.0f64; inputs * outputs], vec![1.0; outputs]);
            initialization
                .draw(&mut weights, &mut bias, inputs, &mut StdRng::seed_from_u64(3))
                .unwrap();
            let seen = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
            // Of 60,000 samples, the standard error of the variance is at most √(2/60000) of it.
            assert!(
                (seen - variance).abs() <= 4.0 * variance * (2.0f64 / 60_000.0).sqrt(),
                "{initialization:?}: {seen}"
            );
            assert_eq!(
                bias.iter().any(|&b| b != 0.0),
                initialization == Initialization::UniformFanIn
            );
        }
    }

    #[test]
    fn orthogonal_columns_are_orthonormal() {
        for (outputs, inputs) in [(7, 4), (4, 7)] {
            let (mut weights, mut bias) = (vec![0.0f64; outputs * inputs], vec![0.0; outputs]);
            Initialization::Orthogonal
                .draw(&mut weights, &mut bias, inputs, &mut StdRng::seed_from_u64(3))
                .unwrap();
            let w = DMatrix::from_vec(outputs, inputs, weights);
            let gram = if outputs > inputs { w.tr_mul(&w) } else { &w * w.transpose() };
            assert!((gram - DMatrix::identity(4, 4)).norm() < 1e-13);
        }
    }
}

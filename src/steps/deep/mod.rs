//! Steps 5 and 6: deep encoders, with a linear decoder and with a deep one (the variational
//! autoencoder).

mod builder;
mod fits;
mod likelihood;
mod linear_solution;
mod noise;

pub use builder::{DeepBuilder, DeepInitialization};
pub use likelihood::{DeepLikelihood, DefaultLikelihood, OutputStart};

use super::Model;
use crate::Real;
use crate::inference::{Amortized, GaussianEncoder};
use crate::likelihood::{Bernoulli, IsotropicGaussian, Likelihood};
use crate::map::{Linear, Mlp};
use crate::posterior::{Diagonal, Isotropic, PosteriorFamily};

/// Probabilistic PCA with a deep encoder: q(z_i) = q(z|φ(x_i)) with a multilayer perceptron φ.
///
/// The posterior family is isotropic by default, as in the lecture. The decoder is linear, so that
/// log p, the evidence lower bound (ELBO, J) and the inference gaps are exact.
///
/// ```
/// use elbo::{DeepEncoderPpca, fit::StochasticGradient};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = DeepEncoderPpca::<f64>::builder(1)
///     .hidden(&[8])
///     .fitter(StochasticGradient { epochs: 20, ..Default::default() });
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// assert!(model.elbo(&x)?.values().sum() <= model.log_likelihood(&x)?.sum());
/// # Ok::<(), elbo::Error>(())
/// ```
pub type DeepEncoderPpca<T = f64, Q = Isotropic<T>> =
    Model<T, Linear<T>, IsotropicGaussian<T>, Amortized<GaussianEncoder<Mlp<T>, Q>>>;

/// The variational autoencoder: a multilayer perceptron as the encoder and another as the decoder
/// ([Kingma & Welling 2014](https://arxiv.org/abs/1312.6114), [Rezende, Mohamed & Wierstra
/// 2014](https://arxiv.org/abs/1401.4082)).
///
/// Posteriors are diagonal and the noise is Gaussian with one variance by default. The likelihood
/// [`DiagonalGaussian`](crate::likelihood::DiagonalGaussian) has a noise variance for each
/// variable, for tables whose variables have units of their own; [`BinaryVae`] is for data in
/// \[0, 1\].
///
/// ```
/// use elbo::{Vae, fit::StochasticGradient};
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::dmatrix![
///     1.0, 2.0, 3.0, 4.0, 5.0, 6.0;
///     2.1, 3.9, 6.2, 7.8, 10.1, 11.9;
///     0.3, 0.1, 0.2, 0.3, 0.1, 0.2];
/// let builder = Vae::<f64>::builder(1)
///     .hidden(&[8])
///     .fitter(StochasticGradient { epochs: 20, ..Default::default() });
/// let model = builder.fit(&x, &mut StdRng::seed_from_u64(1))?.model;
/// assert_eq!(model.reconstruct(&x)?.shape(), (3, 6));
/// assert_eq!(model.sample(5, &mut StdRng::seed_from_u64(2)).shape(), (3, 5));
/// # Ok::<(), elbo::Error>(())
/// ```
pub type Vae<T = f64, Q = Diagonal<T>, L = IsotropicGaussian<T>> =
    Model<T, Mlp<T>, L, Amortized<GaussianEncoder<Mlp<T>, Q>>>;

/// A [`Vae`] of binary variables, or of fractions in \[0, 1\].
pub type BinaryVae<T = f64, Q = Diagonal<T>> = Vae<T, Q, Bernoulli>;

impl<T: Real, Q: PosteriorFamily<T>> DeepEncoderPpca<T, Q> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> DeepBuilder<T, Self> {
        DeepBuilder::new(latent_dim, None)
    }
}

impl<T: Real, Q: PosteriorFamily<T>, L: DeepLikelihood<T>> Vae<T, Q, L> {
    /// Returns a builder with k latent dimensions.
    pub fn builder(latent_dim: usize) -> DeepBuilder<T, Self>
    where
        L: DefaultLikelihood,
    {
        DeepBuilder::new(latent_dim, None)
    }

    /// Returns a builder with k latent dimensions and the given likelihood, whose parameters the fit
    /// starts from the data.
    ///
    /// ```
    /// use elbo::likelihood::{Independent, Poisson};
    /// use elbo::{Vae, fit::StochasticGradient, posterior::Diagonal};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let counts = nalgebra::dmatrix![
    ///     1.0, 0.0, 3.0, 4.0, 9.0, 7.0;
    ///     2.0, 3.0, 6.0, 7.0, 12.0, 15.0;
    ///     0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
    /// let likelihood = Independent::new(Poisson, 3)?;
    /// let builder = Vae::<f64, Diagonal<f64>, _>::builder_with(likelihood, 1)
    ///     .hidden(&[8])
    ///     .fitter(StochasticGradient { epochs: 20, ..Default::default() });
    /// let model = builder.fit(&counts, &mut StdRng::seed_from_u64(1))?.model;
    /// assert!(model.reconstruct(&counts)?.iter().all(|mean| *mean > 0.0));
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn builder_with(likelihood: L, latent_dim: usize) -> DeepBuilder<T, Self> {
        DeepBuilder::new(latent_dim, Some(likelihood))
    }
}

impl<T: Real, Q, L: Likelihood<T>> std::fmt::Display for Vae<T, Q, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (d, k) = (self.data_dim(), self.latent_dim());
        writeln!(f, "variational autoencoder: {d} variables, {k} latent dimensions")?;
        writeln!(f, "decoder layers: {:?}", self.generative.decoder.sizes())?;
        writeln!(f, "posterior: {}", super::short_name::<Q>())?;
        write!(f, "likelihood: {}", super::short_name::<L>())
    }
}

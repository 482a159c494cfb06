//! A second opinion before a fit ends: is there a direction outside the span of W with more variance than one inside?
//!
//! EM that takes the missing entries for its latent variables has the maximum for its M-step in closed form: the leading directions of
//! S̃ = (1/n) Σ E[(x−μ)(x−μ)ᵗ | x_o]. Where W holds other directions, EM in z stands at a saddle, which it may take long to leave. A few
//! products with S̃ find the strongest direction outside, and it takes the place of the weakest inside if that raises J.

use super::expectation::Expectation;
use super::maximization::Theta;
use super::start::descending;
use crate::linalg::parallel::map_blocks;
use crate::linalg::{product_tr_left, symmetric_eigen, thin_qr, thin_svd};
use crate::model::incomplete::{Block, Parameters};
use crate::{Real, Result};
use nalgebra::DMatrix;

/// Directions that are looked at together, and how often they are multiplied by S̃.
const WIDTH: usize = 3;
const PRODUCTS: usize = 4;

/// About so many observations are looked at: what they find is tried on all.
const SAMPLE: usize = 4096;

/// A model in which the strongest direction outside stands in the place of the weakest inside, if it is stronger as far as the sample tells.
///
/// # Errors
/// Those of the decompositions.
pub(super) fn better_direction<T: Real>(expectation: &Expectation<'_, T>, theta: &Theta) -> Result<Option<Theta>> {
    let (d, k) = (theta.augmented.nrows(), theta.latent_dim());
    let width = WIDTH.min(d - k);
    if width == 0 {
        return Ok(None);
    }
    let svd = thin_svd(theta.loadings())?;
    let noise = theta.noise.noise_variance();
    let parameters = theta.parameters();
    let posteriors = Sample::of(expectation, &parameters)?;
    // The same directions for every fit of such a shape: any that are not orthogonal to what is sought will do.
    let mut basis = svd.u.clone();
    let mut products = DMatrix::zeros(d, 0);
    let mut next = DMatrix::from_fn(d, width, |j, c| (1.0 + (j * (2 * c + 3)) as f64 * 0.754_877_666_246_692_8).sin());
    for _ in 0..PRODUCTS {
        let old = basis.ncols();
        let more = next.ncols().min(d - old);
        if more == 0 {
            break;
        }
        let mut wider = basis.resize_horizontally(old + more, 0.0);
        wider.columns_mut(old, more).copy_from(&next.columns(0, more));
        basis = thin_qr(wider.as_view())?.0;
        let fresh = basis.columns(old, more).into_owned();
        next = posteriors.multiply(&parameters, &fresh);
        let known = products.ncols();
        products = products.resize_horizontally(known + more, 0.0);
        products.columns_mut(known, more).copy_from(&next);
    }
    let outside = basis.columns(k, basis.ncols() - k);
    let ritz = product_tr_left(outside, &products);
    let eigen = symmetric_eigen(((&ritz + ritz.transpose()) * 0.5).as_view())?;
    let strongest = descending(&eigen.values)[0];
    let (found, weakest) = (eigen.values[strongest], svd.singular_values[k - 1].powi(2) + noise);
    if found <= weakest * (1.0 + 1e-6) {
        return Ok(None);
    }
    let mut scaled = svd.u.clone();
    scaled.set_column(k - 1, &(outside * eigen.vectors.column(strongest)));
    let mut better = theta.clone();
    // The trace stays what it is.
    if d > k {
        better.noise.set_noise_variance((noise + (weakest - found) / (d - k) as f64).max(0.1 * noise));
    }
    let noise = better.noise.noise_variance();
    for (a, mut column) in scaled.column_iter_mut().enumerate() {
        let variance = if a + 1 == k { found - noise } else { svd.singular_values[a].powi(2) };
        column *= variance.max(0.0).sqrt();
    }
    better.augmented.columns_mut(0, k).copy_from(&scaled);
    Ok(Some(better))
}

/// The posteriors of some of the observations.
struct Sample {
    blocks: Vec<Block>,
    rows: usize,
}

impl Sample {
    fn of<T: Real>(expectation: &Expectation<'_, T>, parameters: &Parameters) -> Result<Self> {
        let (d, k) = parameters.loadings.shape();
        let stride = (expectation.rows() / SAMPLE).max(1);
        let chosen: Vec<_> = expectation.blocks.iter().step_by(stride).cloned().collect();
        let blocks = map_blocks(chosen.len(), expectation.rows() / stride * d * k * k, |place| {
            let mut block = Block::new(d, k);
            block.infer(&expectation.x, &expectation.patterns, chosen[place].clone(), parameters).map(|()| block)
        });
        let blocks = blocks.into_iter().collect::<Result<Vec<_>>>()?;
        let rows = blocks.iter().map(|block| block.rows).sum();
        Ok(Self { blocks, rows })
    }

    /// S̃U.
    fn multiply(&self, parameters: &Parameters, u: &DMatrix<f64>) -> DMatrix<f64> {
        let (d, width) = u.shape();
        let work = self.rows * d * (2 + width) * (1 + parameters.loadings.ncols());
        let parts = map_blocks(self.blocks.len(), work, |at| self.blocks[at].multiply_completed(parameters, u));
        parts.into_iter().fold(DMatrix::zeros(d, width), |sum, part| sum + part) / self.rows as f64
    }
}

//! Amortised models on incomplete data: estimates given the observed entries, by self-normalised
//! importance sampling with the encoder's q as proposal.

use super::Model;
use super::apply::{EncodeOf, TransformOf};
use crate::data::{IncompleteObservations, IntoIncompleteObservations, expect_variables};
use crate::diagnostics::{Estimates, ImportanceEstimate};
use crate::fit::LocalRefinement;
use crate::inference::{Amortized, Encoder};
use crate::likelihood::{ConditionalMean, Likelihood, is_missing};
use crate::linalg::vector::fill_standard_normal;
use crate::map::DifferentiableMap;
use crate::model::{Decoder, GenerativeModel};
use crate::objective::{
    Elbo, ElboTerms, check_samples, half_log_determinants, log_density_with_prior, log_weights,
};
use crate::posterior::{GaussianPosterior, Posterior, PosteriorFamily};
use crate::prior::Prior;
use crate::{Error, Observations, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, RngExt};

/// Observations in a block: their importance samples share one pass of the decoder.
const BLOCK: usize = 256;

impl<'a, T: Real, D: Decoder<T>, L: ConditionalMean<T>, E: Encoder<T>, P>
    EncodeOf<T, IncompleteObservations<'a, T>> for Model<T, D, L, Amortized<E>, P>
{
    type Posterior = E::Posterior;

    /// The encoder's q(z_i), from the observed entries and the places of the missing ones.
    fn encode_form(&self, x: IncompleteObservations<'a, T>) -> Result<E::Posterior> {
        expect_variables(self.data_dim(), (x.data_dim(), x.len()))?;
        if let Some(complete) = x.complete() {
            return self.inference.encoder.encode(complete);
        }
        self.expect_missing()?;
        let marked = x.marked();
        self.inference.encoder.encode(Observations::trusted(marked.as_view(), x.len()))
    }
}

impl<'a, T: Real, D: Decoder<T>, L: ConditionalMean<T>, E: Encoder<T>, P>
    TransformOf<T, IncompleteObservations<'a, T>> for Model<T, D, L, Amortized<E>, P>
{
    fn transform_form(&self, x: IncompleteObservations<'a, T>) -> Result<DMatrix<T>> {
        Ok(self.encode_form(x)?.into_mean())
    }
}

impl<T: Real, D, L, E: Encoder<T>, P> Model<T, D, L, Amortized<E>, P> {
    /// Returns an error unless the encoder reads missing values.
    fn expect_missing(&self) -> Result<()> {
        if self.inference.encoder.reads_missing() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: "an encoder of complete data for missing values",
            must: "a fit to incomplete data, or an encoder that reads missing values",
        })
    }
}

impl<T: Real, D, L, E, P> Model<T, D, L, Amortized<E>, P>
where
    D: DifferentiableMap<T>,
    L: Likelihood<T>,
    P: Prior<T>,
    E: Encoder<T>,
    E::Posterior: PosteriorFamily<T>,
{
    /// The completed table, d×n: each missing entry is replaced by an estimate of its mean given the
    /// observed entries of its observation; observed entries are kept bit for bit.
    ///
    /// ```math
    /// E[x_m|x_o] ≈ \sum_s \tilde w_s\, E[x_m|z_s], \qquad
    /// w_s = \frac{p(x_o|z_s)\,π(z_s)}{q(z_s|x_o)}
    /// ```
    ///
    /// with `samples` samples z_s of the encoder's q, refined for an observation with missing entries
    /// ([`LocalRefinement`]), and normalised weights w̃ ([Mattei & Frellsen
    /// 2019](https://arxiv.org/abs/1812.02633), equation 9). The error is of the order 1/√samples.
    ///
    /// ```
    /// use elbo::{Vae, data::Incomplete, fit::StochasticGradient};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// // Three multiples of one number, and noise.
    /// let mut x = nalgebra::DMatrix::from_fn(3, 40, |j, i| {
    ///     (j + 1) as f64 * (i % 10) as f64 + ((i * 7 + j * 5) % 13) as f64 / 10.0
    /// });
    /// x[(2, 7)] = f64::NAN;
    /// let rng = &mut StdRng::seed_from_u64(1);
    /// let fitter = StochasticGradient { epochs: 20, ..Default::default() };
    /// let fitted = Vae::<f64>::builder(1).hidden(&[8]).fitter(fitter).fit(Incomplete(&x), rng)?;
    /// let completed = fitted.model.estimate_imputation(1000, &x, rng)?;
    /// assert!((completed[(2, 7)] - 21.6).abs() < 1.5);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`IncompleteObservations::new`]; [`Error::DimensionMismatch`];
    /// [`Error::InvalidParameter`] for 0 samples; [`Error::Unsupported`] for an encoder that was
    /// fitted to complete data; [`Error::OutsideSupport`].
    pub fn estimate_imputation<'a, R: Rng + ?Sized>(
        &self,
        samples: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<DMatrix<T>> {
        let mut completed = x.into_incomplete()?.marked();
        self.in_weighted_blocks(
            samples,
            true,
            &mut completed,
            &mut rng,
            &mut |model, block, x, rng| {
                let mean = model.weighted_mean(samples, block, x.as_view(), rng)?;
                fill(x, &mean);
                Ok(())
            },
        )?;
        Ok(completed)
    }

    /// `count` completed tables (multiple imputation): the missing entries of an observation are
    /// sampled jointly from an approximation of their distribution given the observed ones, by
    /// sampling–importance resampling: z is one of `samples` samples of the encoder's q, drawn with
    /// probability w̃_s, and the missing entries are a sample of p(x_m|z).
    ///
    /// # Errors
    /// As [`Self::estimate_imputation`].
    pub fn sample_imputations<'a, R: Rng + ?Sized>(
        &self,
        count: usize,
        samples: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<Vec<DMatrix<T>>> {
        let mut marked = x.into_incomplete()?.marked();
        let mut tables = vec![marked.clone(); count];
        let mut first = 0;
        self.in_weighted_blocks(samples, true, &mut marked, &mut rng, &mut |model, q, x, rng| {
            for table in &mut tables {
                let z = model.resample(samples, q, x.as_view(), rng)?;
                let output = model.generative.decoder.decode(z.as_view());
                let mut own = x.clone();
                fill(&mut own, &model.generative.likelihood.sample(output.as_view(), rng));
                table.columns_mut(first, own.ncols()).copy_from(&own);
            }
            first += x.ncols();
            Ok(())
        })?;
        Ok(tables)
    }

    /// Estimates of log p(x_o) of the observed entries in nats, one for each observation, with their
    /// standard errors: the logarithm of the mean of `samples` importance weights. Its expectation
    /// is below log p(x_o), by about half the squared standard error.
    ///
    /// # Errors
    /// As [`Self::estimate_imputation`].
    pub fn estimate_log_likelihood<'a, R: Rng + ?Sized>(
        &self,
        samples: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<ImportanceEstimate> {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        let mut effective_samples = Vec::new();
        let mut marked = x.into_incomplete()?.marked();
        self.in_weighted_blocks(
            samples,
            true,
            &mut marked,
            &mut rng,
            &mut |model, block, x, rng| {
                let mut sums = WeightSums::new(x.ncols());
                model.each_sample(samples, block, x.as_view(), rng, &mut |weights, _, _| {
                    for (i, weight) in weights.iter().enumerate() {
                        sums.add(i, weight.as_f64());
                    }
                })?;
                for i in 0..x.ncols() {
                    let (value, error) = sums.log_mean(i, samples);
                    effective_samples.push(sums.effective(i));
                    values.push(value);
                    errors.push(error);
                }
                Ok(())
            },
        )?;
        let log_likelihood = Estimates::estimated(values, errors);
        Ok(ImportanceEstimate { log_likelihood, effective_samples, samples })
    }

    /// The two terms of the ELBO of the observed entries in nats, one entry for each observation: the
    /// expected log-likelihood is the mean over `samples` Monte Carlo samples of the encoder's q.
    ///
    /// # Errors
    /// As [`Self::estimate_imputation`].
    pub fn estimate_elbo_of_observed<'a, R: Rng + ?Sized>(
        &self,
        samples: usize,
        x: impl IntoIncompleteObservations<'a, T>,
        mut rng: &mut R,
    ) -> Result<ElboTerms<T>> {
        let (mut reconstruction, mut negative_kl) = (Vec::new(), Vec::new());
        let mut marked = x.into_incomplete()?.marked();
        self.in_weighted_blocks(
            samples,
            false,
            &mut marked,
            &mut rng,
            &mut |model, block, x, rng| {
                let x = Observations::trusted(x.as_view(), x.ncols());
                let terms =
                    Elbo::reparameterized(samples).terms(&model.generative, block, x, rng)?;
                reconstruction.extend_from_slice(terms.reconstruction.as_slice());
                negative_kl.extend_from_slice(terms.negative_kl.as_slice());
                Ok(())
            },
        )?;
        Ok(ElboTerms {
            reconstruction: DVector::from_vec(reconstruction),
            negative_kl: DVector::from_vec(negative_kl),
        })
    }

    /// Calls `work` with each block of observations: q, refined where entries are missing if `refine`,
    /// and its columns of the marked table.
    fn in_weighted_blocks(
        &self,
        samples: usize,
        refine: bool,
        marked: &mut DMatrix<T>,
        rng: &mut dyn Rng,
        work: &mut BlockWork<'_, T, D, L, E, P>,
    ) -> Result<()> {
        check_samples(samples)?;
        expect_variables(self.data_dim(), marked.shape())?;
        if marked.iter().any(|&value| is_missing(value)) {
            self.expect_missing()?;
        }
        let n = marked.ncols();
        self.generative.likelihood.check_support(Observations::trusted(marked.as_view(), n))?;
        for first in (0..n).step_by(BLOCK) {
            let count = BLOCK.min(n - first);
            let mut x = marked.columns(first, count).into_owned();
            let block = Observations::trusted(x.as_view(), count);
            let mut q = self.inference.encoder.encode(block)?;
            // An encoder that has seen few rows with these entries missing may put q far from the
            // posterior, where no number of samples helps.
            if refine && x.iter().any(|&value| is_missing(value)) {
                q = LocalRefinement::default().refine(&self.generative, q, block, rng)?;
            }
            work(self, &q, &mut x, rng)?;
            marked.columns_mut(first, count).copy_from(&x);
        }
        Ok(())
    }

    /// Calls `visit` with the log-weights of each of the samples, z, and the decoder's output.
    fn each_sample(
        &self,
        samples: usize,
        q: &E::Posterior,
        x: DMatrixView<'_, T>,
        rng: &mut dyn Rng,
        visit: &mut SampleVisit<'_, T>,
    ) -> Result<()> {
        let half_log_determinants = half_log_determinants(q);
        let mut z = DMatrix::zeros(q.latent_dim(), q.len());
        let mut noise = z.clone();
        for _ in 0..samples {
            fill_standard_normal(noise.as_mut_slice(), rng);
            q.transform(noise.as_view(), &mut z);
            let x = Observations::trusted(x, x.ncols());
            let densities = log_density_with_prior(&self.generative, x, z.as_view())?;
            visit(&log_weights(&densities, &z, &noise, &half_log_determinants), &z, rng);
        }
        Ok(())
    }

    /// Σ_s w̃_s E[x|z_s], d×n.
    fn weighted_mean(
        &self,
        samples: usize,
        q: &E::Posterior,
        x: DMatrixView<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<DMatrix<T>> {
        let GenerativeModel { decoder, likelihood, .. } = &self.generative;
        let mut sums = WeightSums::new(x.ncols());
        let mut mean = DMatrix::zeros(x.nrows(), x.ncols());
        self.each_sample(samples, q, x, rng, &mut |weights, z, _| {
            let means = likelihood.mean(decoder.decode(z.as_view()).as_view());
            for (i, mut mean) in mean.column_iter_mut().enumerate() {
                // The running mean moves by the share of this weight in the sum so far.
                let share = T::of(sums.add(i, weights[i].as_f64()));
                mean.zip_apply(&means.column(i), |mean, new| *mean += share * (new - *mean));
            }
        })?;
        Ok(mean)
    }

    /// One of the samples of each observation, drawn with probability w̃_s, k×n.
    fn resample(
        &self,
        samples: usize,
        q: &E::Posterior,
        x: DMatrixView<'_, T>,
        rng: &mut dyn Rng,
    ) -> Result<DMatrix<T>> {
        let mut sums = WeightSums::new(x.ncols());
        let mut kept = DMatrix::zeros(q.latent_dim(), q.len());
        self.each_sample(samples, q, x, rng, &mut |weights, z, rng| {
            for (i, mut kept) in kept.column_iter_mut().enumerate() {
                // Replaced with the share of this weight in the sum so far, so that in the end each
                // sample is kept with its share of the whole.
                if rng.random::<f64>() < sums.add(i, weights[i].as_f64()) {
                    kept.copy_from(&z.column(i));
                }
            }
        })?;
        Ok(kept)
    }
}

/// What is done with the log-weights of one sample of each observation, and z (k×n).
type SampleVisit<'v, T> = dyn FnMut(&DVector<T>, &DMatrix<T>, &mut dyn Rng) + 'v;

/// The work on a block of observations: the model, q, the marked columns, and the generator.
type BlockWork<'b, T, D, L, E, P> = dyn FnMut(
        &Model<T, D, L, Amortized<E>, P>,
        &<E as Encoder<T>>::Posterior,
        &mut DMatrix<T>,
        &mut dyn Rng,
    ) -> Result<()>
    + 'b;

/// Replaces the missing entries of x.
fn fill<T: Real>(x: &mut DMatrix<T>, from: &DMatrix<T>) {
    x.zip_apply(from, |x, value| {
        if is_missing(*x) {
            *x = value;
        }
    });
}

/// Running sums of the weights of each observation and of their squares, in units of the largest
/// weight so far.
struct WeightSums {
    // The largest log-weight, the sum and the sum of squares.
    of: Vec<[f64; 3]>,
}

impl WeightSums {
    fn new(n: usize) -> Self {
        Self { of: vec![[f64::NEG_INFINITY, 0.0, 0.0]; n] }
    }

    /// Adds a weight of observation i and returns its share of the sum so far.
    fn add(&mut self, i: usize, log_weight: f64) -> f64 {
        let [largest, sum, squares] = &mut self.of[i];
        // A weight of 0 (or a density that is not a number) has no share.
        if log_weight.is_nan() || log_weight == f64::NEG_INFINITY {
            return 0.0;
        }
        if log_weight > *largest {
            let factor = (*largest - log_weight).exp();
            (*sum, *squares) = (*sum * factor, *squares * factor * factor);
            *largest = log_weight;
        }
        let weight = (log_weight - *largest).exp();
        *sum += weight;
        *squares += weight * weight;
        weight / *sum
    }

    /// The effective sample size (Σw)²/Σw².
    fn effective(&self, i: usize) -> f64 {
        let [_, sum, squares] = self.of[i];
        if sum == 0.0 { 0.0 } else { sum * sum / squares }
    }

    /// The logarithm of the mean weight, and its standard error by the delta method.
    fn log_mean(&self, i: usize, samples: usize) -> (f64, f64) {
        let ([largest, sum, squares], n) = (self.of[i], samples as f64);
        if sum == 0.0 {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let mean = sum / n;
        let variance = (squares / n - mean * mean).max(0.0) / (n - 1.0).max(1.0);
        (largest + mean.ln(), variance.sqrt() / mean)
    }
}

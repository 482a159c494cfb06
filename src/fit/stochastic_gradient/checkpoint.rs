//! Checkpoints: all that a stochastic gradient fit passes from one epoch to the next.

use super::StochasticGradient;
use crate::fit::Trace;
use crate::{Error, Observations, Real, Result};

/// The state of a stochastic gradient fit at the end of an epoch: a fit that [continues from
/// it](Checkpoints::resume) ends with the bits of one that was not interrupted.
///
/// It contains the parameters of all components, the moments of the optimiser, the best parameters
/// so far, the order of the observations, the trace, the counters of early stopping, and the seed
/// from which the random numbers of each epoch are derived. With the feature `safetensors` it is
/// written to a file and read from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint<T> {
    /// Parameters of decoder, likelihood, prior and inference: the current, the initial, the last
    /// good and the best ones.
    pub(crate) parameters: [Vec<T>; 4],
    /// The first and the second moments of each of the four components, one after the other.
    pub(crate) moments: [Vec<T>; 2],
    /// β₁ᵗ and β₂ᵗ of each component.
    pub(crate) powers: [[f64; 2]; 4],
    pub(crate) order: Vec<usize>,
    pub(crate) progress: Progress,
    pub(crate) values: Vec<f64>,
    pub(crate) held_out: Vec<f64>,
    /// What the fit was called with, in words: each is compared when a fit continues.
    pub(crate) origin: Origin,
}

impl<T> Checkpoint<T> {
    /// The number of epochs that have ended.
    pub fn epoch(&self) -> usize {
        self.progress.epoch
    }

    /// J per observation at the initialisation and after each epoch, averaged over its batches.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

/// The counters of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Progress {
    pub(crate) epoch: usize,
    pub(crate) seed: u64,
    pub(crate) noise_seed: u64,
    pub(crate) rate_factor: f64,
    pub(crate) rejected: usize,
    pub(crate) start: f64,
    pub(crate) best: f64,
    pub(crate) best_on_training: f64,
    pub(crate) since_best: usize,
    pub(crate) cuts: usize,
}

/// What a fit was called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) settings: String,
    pub(crate) label: String,
    pub(crate) data: String,
}

impl Origin {
    pub(crate) fn new<T: Real>(
        settings: &StochasticGradient,
        label: &str,
        x: Observations<'_, T>,
    ) -> Self {
        // FNV-1a over the bits of the entries: a change of one entry is found, and a hash of the
        // standard library is not the same in all its versions.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for value in x.values().iter() {
            hash = (hash ^ value.as_f64().to_bits()).wrapping_mul(0x0100_0000_01b3);
        }
        let (d, n) = x.values().shape();
        Self {
            settings: format!("{settings:?}"),
            label: label.to_owned(),
            data: format!("{d} variables of {n} observations with the hash {hash:016x}"),
        }
    }

    /// Returns an error that names the first difference.
    fn expect(&self, given: &Self) -> Result<()> {
        for (what, saved, given) in [
            ("data", &self.data, &given.data),
            ("settings of the model", &self.label, &given.label),
            ("settings of the optimiser", &self.settings, &given.settings),
        ] {
            if saved != given {
                // Settings are long: only the entries that differ are named.
                let (saved, given) = differences(saved, given);
                return Err(Error::CheckpointMismatch { what, saved, given });
            }
        }
        Ok(())
    }
}

/// The entries, separated by commas, in which two texts differ.
fn differences(saved: &str, given: &str) -> (String, String) {
    let (a, b): (Vec<_>, Vec<_>) = (saved.split(", ").collect(), given.split(", ").collect());
    if a.len() != b.len() {
        return (saved.to_owned(), given.to_owned());
    }
    let pairs: Vec<_> = a.into_iter().zip(b).filter(|(a, b)| a != b).collect();
    let join =
        |part: fn(&(&str, &str)) -> String| pairs.iter().map(part).collect::<Vec<_>>().join(", ");
    (join(|(a, _)| (*a).to_owned()), join(|(_, b)| (*b).to_owned()))
}

/// What a [`Checkpoints`] calls with each checkpoint.
type Keep<'a, T> = dyn FnMut(&Checkpoint<T>) -> Result<()> + 'a;

/// Where the checkpoints of a fit go, and the one from which it continues.
///
/// ```
/// use elbo::fit::{Checkpoints, StochasticGradient};
/// use elbo::Vae;
/// use rand::{SeedableRng, rngs::StdRng};
/// let x = nalgebra::DMatrix::from_fn(3, 40, |j, i| ((j + 1) * (i % 7)) as f64);
/// let fitter = StochasticGradient { epochs: 6, ..Default::default() };
/// let builder = Vae::<f64>::builder(1).hidden(&[4]).fitter(fitter);
/// let mut kept = Vec::new();
/// let mut keep = |checkpoint: &_| {
///     kept.push(Clone::clone(checkpoint));
///     Ok(())
/// };
/// let rng = || StdRng::seed_from_u64(1);
/// let checkpoints = Checkpoints::new(2, &mut keep);
/// let whole = builder.fit_with_checkpoints(&x, &mut rng(), &mut (), checkpoints)?;
/// // From epoch 2, as a run that was killed would continue.
/// let mut forget = |_: &_| Ok(());
/// let checkpoints = Checkpoints::new(2, &mut forget).resume(kept.swap_remove(0));
/// let resumed = builder.fit_with_checkpoints(&x, &mut rng(), &mut (), checkpoints)?;
/// assert_eq!(resumed, whole);
/// # Ok::<(), elbo::Error>(())
/// ```
pub struct Checkpoints<'a, T> {
    pub(super) every: usize,
    pub(super) keep: &'a mut Keep<'a, T>,
    pub(super) from: Option<Checkpoint<T>>,
    pub(super) label: String,
}

impl<'a, T: Real> Checkpoints<'a, T> {
    /// Calls `keep` after each `every` epochs (at least 1), and when an observer ends the fit. An
    /// error of `keep` ends the fit with this error.
    pub fn new(every: usize, keep: &'a mut Keep<'a, T>) -> Self {
        Self { every: every.max(1), keep, from: None, label: String::new() }
    }

    /// Continues from a checkpoint: of a fit with the same settings, data and model, and in a
    /// precision of the same name.
    pub fn resume(self, from: Checkpoint<T>) -> Self {
        Self { from: Some(from), ..self }
    }

    /// Sets a description of the model and of all else that a fit depends on, such as `activation
    /// tanh, hidden 128`: a fit that continues must have the same.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// The checkpoint to continue from, if it is one of this fit.
    pub(super) fn take(&mut self, origin: &Origin) -> Result<Option<Checkpoint<T>>> {
        let Some(from) = self.from.take() else { return Ok(None) };
        from.origin.expect(origin)?;
        Ok(Some(from))
    }
}

/// The trace of a checkpoint.
pub(super) fn trace_of<T>(checkpoint: &Checkpoint<T>) -> Trace {
    let mut trace = Trace::new();
    checkpoint.values.iter().for_each(|&value| trace.push(value));
    checkpoint.held_out.iter().for_each(|&value| trace.push_held_out(value));
    (0..checkpoint.progress.rejected).for_each(|_| trace.reject());
    trace
}

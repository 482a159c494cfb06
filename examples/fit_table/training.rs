//! The options of training a deep model.

use super::support::arguments::{positive, wrong};
use elbo::fit::{KlWeight, LearningRateSchedule};
use elbo::map::Activation;
use elbo::objective::SampledBound;
use std::path::PathBuf;
use std::time::Duration;

/// What is climbed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    Elbo,
    Iwae,
    Dreg,
    Renyi(f64),
    Beta(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    Standard,
    Gaussian,
    Mixture(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binarize {
    None,
    Fixed,
    Dynamic,
}

/// The options, `None` where the library's default holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    pub objective: Objective,
    pub samples: Option<usize>,
    pub epochs: Option<usize>,
    pub batch: Option<usize>,
    pub learning_rate: Option<f64>,
    pub schedule: Option<LearningRateSchedule>,
    pub kl_warm_up: Option<usize>,
    pub prior: Prior,
    pub binarize: Binarize,
    pub activation: Option<Activation>,
    pub nll_samples: usize,
    pub nll_observations: Option<usize>,
    pub checkpoint: Option<PathBuf>,
    pub checkpoint_every: usize,
    pub resume: bool,
    pub time_limit: Option<Duration>,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            objective: Objective::Elbo,
            samples: None,
            epochs: None,
            batch: None,
            learning_rate: None,
            schedule: None,
            kl_warm_up: None,
            prior: Prior::Standard,
            binarize: Binarize::None,
            activation: None,
            nll_samples: 1_000,
            nll_observations: None,
            checkpoint: None,
            checkpoint_every: 1,
            resume: false,
            time_limit: None,
        }
    }
}

/// The names of the options.
pub const NAMES: [&str; 16] = [
    "objective",
    "samples",
    "epochs",
    "batch",
    "learning-rate",
    "schedule",
    "kl-warm-up",
    "prior",
    "binarize",
    "activation",
    "nll-samples",
    "nll-observations",
    "checkpoint",
    "checkpoint-every",
    "resume",
    "time-limit",
];

impl Training {
    /// Sets an option of [`NAMES`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let count = || positive(name, value);
        match name {
            "objective" => {
                self.objective = objective(value).ok_or_else(|| {
                    wrong(name, value, "elbo, iwae, dreg, renyi:A with A ≥ 0, or beta:B with B ≥ 0")
                })?
            }
            "samples" => self.samples = Some(count()?),
            "epochs" => self.epochs = Some(count()?),
            "batch" => self.batch = Some(count()?),
            "learning-rate" => {
                let rate: Option<f64> = value.parse().ok();
                let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0);
                self.learning_rate =
                    Some(rate.ok_or_else(|| wrong(name, value, "a positive number"))?);
            }
            "schedule" => {
                self.schedule = Some(schedule(value).ok_or_else(|| {
                    wrong(
                        name,
                        value,
                        "constant, linear, cosine, or steps:N:F with N stages and a factor F",
                    )
                })?)
            }
            "kl-warm-up" => self.kl_warm_up = Some(count()?),
            "prior" => {
                self.prior = match (value, value.strip_prefix("mixture:")) {
                    ("standard", _) => Prior::Standard,
                    ("gaussian", _) => Prior::Gaussian,
                    (_, Some(components)) => Prior::Mixture(positive(name, components)?),
                    _ => return Err(wrong(name, value, "standard, gaussian or mixture:C")),
                }
            }
            "binarize" => {
                self.binarize = match value {
                    "none" => Binarize::None,
                    "fixed" => Binarize::Fixed,
                    "dynamic" => Binarize::Dynamic,
                    _ => return Err(wrong(name, value, "dynamic, fixed or none")),
                }
            }
            "activation" => {
                self.activation = Some(match value {
                    "tanh" => Activation::Tanh,
                    "relu" => Activation::Relu,
                    "softplus" => Activation::Softplus,
                    "gelu" => Activation::Gelu,
                    "silu" => Activation::Silu,
                    _ => {
                        return Err(wrong(name, value, "tanh, relu, softplus, gelu or silu"));
                    }
                })
            }
            "nll-samples" => {
                self.nll_samples = count()?;
                if self.nll_samples < 2 {
                    return Err(wrong(name, value, "at least 2"));
                }
            }
            "nll-observations" => self.nll_observations = Some(count()?),
            "checkpoint" => self.checkpoint = Some(value.into()),
            "checkpoint-every" => self.checkpoint_every = count()?,
            "resume" => self.resume = true,
            "time-limit" => {
                let seconds: Option<f64> = value.parse().ok();
                let limit = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
                let limit = limit.filter(|limit| !limit.is_zero());
                self.time_limit =
                    Some(limit.ok_or_else(|| wrong(name, value, "a positive number of seconds"))?);
            }
            _ => return Err(format!("invalid option '--{name}'")),
        }
        Ok(())
    }

    /// Returns a message for options that have no meaning together.
    pub fn check(&self) -> Result<(), String> {
        if self.resume && self.checkpoint.is_none() {
            return Err("option '--resume': give the file by --checkpoint".into());
        }
        if matches!(self.objective, Objective::Iwae | Objective::Dreg | Objective::Renyi(_))
            && self.kl_warm_up.is_some()
        {
            return Err("option '--kl-warm-up': only elbo has a weight of the divergence".into());
        }
        if matches!(self.objective, Objective::Beta(_)) && self.kl_warm_up.is_some() {
            return Err("option '--kl-warm-up': beta:B sets the weight in all epochs".into());
        }
        Ok(())
    }

    /// The bound that is climbed, with its number of samples.
    pub fn bound(&self) -> SampledBound {
        let samples = |default: usize| self.samples.unwrap_or(default);
        match self.objective {
            Objective::Elbo | Objective::Beta(_) => SampledBound::Elbo { samples: samples(1) },
            // Five samples are the smallest number in the papers.
            Objective::Iwae => SampledBound::ImportanceWeighted { samples: samples(5) },
            Objective::Dreg => SampledBound::DoublyReparameterized { samples: samples(5) },
            Objective::Renyi(order) => SampledBound::Renyi { order, samples: samples(5) },
        }
    }

    /// The weight of the divergence.
    pub fn kl_weight(&self) -> KlWeight {
        match (self.objective, self.kl_warm_up) {
            (Objective::Beta(weight), _) => KlWeight::Constant(weight),
            (_, Some(epochs)) => KlWeight::WarmUp { epochs },
            _ => KlWeight::default(),
        }
    }
}

fn objective(value: &str) -> Option<Objective> {
    let number =
        |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    Some(match value {
        "elbo" => Objective::Elbo,
        "iwae" => Objective::Iwae,
        "dreg" => Objective::Dreg,
        _ => match value.split_once(':')? {
            ("renyi", order) => Objective::Renyi(number(order)?),
            ("beta", weight) => Objective::Beta(number(weight)?),
            _ => return None,
        },
    })
}

fn schedule(value: &str) -> Option<LearningRateSchedule> {
    Some(match value {
        "constant" => LearningRateSchedule::Constant,
        "linear" => LearningRateSchedule::Linear,
        "cosine" => LearningRateSchedule::Cosine,
        _ => {
            let (stages, factor) = value.strip_prefix("steps:")?.split_once(':')?;
            let (stages, factor) = (stages.parse().ok()?, factor.parse().ok()?);
            if stages == 0 || !(factor > 0.0 && factor <= 1.0) {
                return None;
            }
            LearningRateSchedule::Steps { stages, factor }
        }
    })
}

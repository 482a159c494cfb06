//! Fits one model to one table: a likelihood, a decoder, an inference and an objective, chosen by
//! options.
//!
//! `cargo run --release --example fit_table -- --data FILE --likelihood poisson --offset total`;
//! `--help` shows the options.

#[path = "../support/mod.rs"]
mod support;

mod categories;
mod deep;
mod gaussian;
mod generalized;
mod input;
mod options;
mod report;
mod training;

use elbo::Real;
use elbo::data::files::written_format;
use input::Input;
use options::{Decoder, Likelihood, Options};
use report::Outcome;
use std::time::Instant;
use support::arguments::{Arguments, Dtype, Program, can_be_written, or_end, usage_error};
use support::progress::say;

const PROGRAM: Program = Program {
    name: "fit_table",
    about: "Fits one latent-variable model to one table. The default latent dimension is \
            min(8, rank − 1) for Gaussian likelihoods and 2 for others; --restarts is 0 for \
            Gaussian likelihoods and 4 for others.",
    options: &[
        "likelihood",
        "columns",
        "offset",
        "decoder",
        "hidden",
        "inference",
        "posterior",
        "fit",
        "latent-dim",
        "seed",
        "restarts",
        "standardize",
        "no-plots",
        "scale",
        "dtype",
        "threads",
        "test",
        "json",
        "codes",
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
        "quick",
    ],
    needs_data: true,
};

fn main() {
    let arguments = PROGRAM.arguments();
    let options = Options::of(&arguments).unwrap_or_else(|message| usage_error(message));
    if let Some(path) = &options.codes {
        or_end(can_be_written(path).map_err(|error| format!("{}: {error}", path.display())));
        or_end(written_format(path).map_err(|error| format!("option '--codes': {error}")));
    }
    arguments.run(|| match arguments.dtype {
        Dtype::F32 => run::<f32>(&arguments, &options),
        Dtype::F64 => run::<f64>(&arguments, &options),
    });
}

fn run<T: Real>(arguments: &Arguments, options: &Options) {
    let input: Input<T> = or_end(Input::read(arguments, options));
    let started = Instant::now();
    let outcome: Outcome<T> = or_end(match (options.decoder, &options.likelihood) {
        (Decoder::Deep, _) => deep::fit(&input, arguments, options),
        (Decoder::Linear, Likelihood::Gaussian | Likelihood::GaussianPerVariable) => {
            gaussian::fit(&input, arguments, options)
        }
        (Decoder::Linear, Likelihood::Each(columns)) => {
            generalized::fit(&input, columns, arguments, options)
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    say(&outcome.text(&input, options, seconds));
    if let Some(path) = &arguments.json {
        let json = outcome.json(&input, options, seconds);
        or_end(json.write(path).map_err(|error| format!("{}: {error}", path.display())));
    }
    if let Some(path) = &options.codes {
        or_end(outcome.write_codes(path).map_err(|error| format!("{}: {error}", path.display())));
    }
    if !arguments.no_plots {
        or_end(outcome.draw(&input));
    }
}

//! The integration tests, one module for each subject. They are a single executable because each
//! further one would instantiate and link the same generic code again: 22 executables took 730 CPU
//! seconds to build, one takes a third.
//!
//! The crate is its own development dependency with every feature on, so that no module depends on
//! the command line.

mod checkpoints;
mod command_line;
mod components;
mod conventions;
mod deep_incomplete;
mod diagnostics;
mod example_support;
mod factor_analysis;
mod factor_maxima;
mod files;
mod fit_table;
mod generalized;
mod gradients;
mod gradients_reference;
mod hostile;
mod hostile_family;
mod impute;
mod ladder;
mod likelihoods;
mod missing;
mod mixture;
mod online;
mod own_likelihood;
mod path_derivative;
mod portable_moments;
mod priors;
mod properties;
mod redundant;
mod refused;
mod rounding;
mod saved;
mod selection;
mod signs;
mod sparse;
mod stochastic_gradient;
mod streams;
mod support;
mod threads;
mod weighted_bounds;

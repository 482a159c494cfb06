//! The error type of the crate: typed variants whose messages carry both numbers and, where there
//! is one, the way out.

/// Errors of this crate: what was rejected, with the numbers that explain it.
///
/// [`is_user_input`](Self::is_user_input) and [`is_numerical`](Self::is_numerical) classify the
/// variants; match on single variants only where the program reacts to them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Data without an observation or without a variable.
    #[error("the data are empty: {rows} rows and {columns} columns")]
    Empty {
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// A decomposition did not finish within its bound on iterations.
    #[error("{what} did not finish within {limit} iterations")]
    DecompositionLimit {
        /// Which decomposition.
        what: &'static str,
        /// The bound on its iterations.
        limit: usize,
    },
    /// A matrix that must be positive definite is not.
    #[error("a {size}x{size} matrix is not positive definite")]
    NotPositiveDefinite {
        /// Rows of the matrix.
        size: usize,
    },
    /// A matrix that must be symmetric is not.
    #[error(
        "the entry {value} in row {row}, column {column} and the entry {transposed} in row {column}, \
         column {row} differ, and the matrix must be symmetric"
    )]
    NotSymmetric {
        /// Row of the entry, counted from 0.
        row: usize,
        /// Its column, counted from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The entry with row and column exchanged.
        transposed: f64,
    },
    /// Two sizes that must agree do not.
    #[error("{what}: expected {expected}, got {actual}")]
    DimensionMismatch {
        /// Which size.
        what: &'static str,
        /// The size that was expected.
        expected: usize,
        /// The size that was given.
        actual: usize,
    },
    /// A number that must be finite is not.
    #[error("the value {value} in row {row}, column {column} is not finite")]
    NotFinite {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A value is finite, but its square, summed over the data, is not.
    #[error(
        "the value {value:e} in row {row}, column {column} is too large: the sum of squares overflows \
         beyond {limit:e}"
    )]
    TooLarge {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The largest absolute value that can be taken.
        limit: f64,
    },
    /// The data vary, but so little that the square of a deviation is no number of this precision,
    /// or lacks digits.
    #[error("{what} {deviation:e} is too small: its square falls below {limit:e}")]
    Underflow {
        /// Which deviation.
        what: &'static str,
        /// The deviation.
        deviation: f64,
        /// The smallest variance that can be taken.
        limit: f64,
    },
    /// The latent dimension does not fit the data.
    #[error(
        "the latent dimension {latent_dim} is not between {smallest} and {largest} (data are d×n, an \
         observation a column: is the table transposed?)"
    )]
    LatentDim {
        /// The dimension asked for.
        latent_dim: usize,
        /// The smallest that can be had.
        smallest: usize,
        /// The largest that can be had.
        largest: usize,
    },
    /// Every variable is constant: there is no variance to model.
    #[error(
        "all {variables} variables are constant over {observations} observations (data are d×n, an \
         observation a column: is the table transposed?)"
    )]
    ZeroVariance {
        /// The number of variables.
        variables: usize,
        /// The number of observations.
        observations: usize,
    },
    /// Fewer observations than the fit needs.
    #[error(
        "{actual} observations, and at least {least} are needed (data are d×n, an observation a \
         column: is the table transposed?)"
    )]
    TooFewObservations {
        /// The number given.
        actual: usize,
        /// The number needed.
        least: usize,
    },
    /// The latent dimension reaches the rank of the data: no variance is left for the noise, and
    /// the likelihood is unbounded.
    #[error(
        "the data have rank {rank}, and a latent dimension of {latent_dim} leaves no variance for the \
         noise: the likelihood is unbounded; use a smaller latent dimension or set a noise floor"
    )]
    Unbounded {
        /// The dimension asked for.
        latent_dim: usize,
        /// The rank of the (centred) data.
        rank: usize,
    },
    /// Data beside an offset, of which a model in single precision cannot store the mean closely
    /// enough for the variance that is left to its noise.
    #[error(
        "near the mean {mean:e} of variable {variable} the numbers of {precision} are {spacing:e} \
         apart, which is more than the data leave to the noise: subtract the offset from the \
         variable, standardise the data, or use f64"
    )]
    Offset {
        /// The variable with the largest mean (a row), counted from 0.
        variable: usize,
        /// Its mean.
        mean: f64,
        /// The distance between neighbouring numbers of the precision near the mean.
        spacing: f64,
        /// The precision, `f32`.
        precision: &'static str,
    },
    /// A variable without an observed entry.
    #[error("variable {variable} was observed in none of {observations} observations")]
    NeverObserved {
        /// The variable (a row), counted from 0.
        variable: usize,
        /// The number of observations.
        observations: usize,
    },
    /// Too few observed entries: a model without noise fits them exactly.
    #[error(
        "too few observed entries for latent dimension {latent_dim}: {entries} residual degrees of \
         freedom for {parameters} parameters: the likelihood is unbounded; use a smaller latent \
         dimension or set a noise floor"
    )]
    TooFewEntries {
        /// The dimension asked for.
        latent_dim: usize,
        /// Σ_i max(0, observed entries of i − k).
        entries: usize,
        /// (d − k)(k + 1), or (d − k)k about a fixed mean.
        parameters: usize,
    },
    /// The noise variance converges to 0: the likelihood is unbounded.
    #[error(
        "with a latent dimension of {latent_dim} the noise variance fell to {noise_variance:e}: the \
         likelihood is unbounded; use a smaller latent dimension or set a noise floor"
    )]
    NoiseVanished {
        /// The dimension asked for.
        latent_dim: usize,
        /// The noise variance at which the fit ended.
        noise_variance: f64,
    },
    /// No direction has more variance than isotropic noise: the best latent dimension is 0.
    #[error(
        "no direction stands out of the noise: the largest variance is {largest}, the noise variance \
         {noise_variance}"
    )]
    NoSignal {
        /// The noise variance that explains the data.
        noise_variance: f64,
        /// The largest eigenvalue of the covariance.
        largest: f64,
    },
    /// A weight of an observation that is negative or not finite.
    #[error("the weight {value} of observation {observation} is not finite and at least 0")]
    InvalidWeight {
        /// The observation, counted from 0.
        observation: usize,
        /// Its weight.
        value: f64,
    },
    /// An offset of a linear predictor that is not finite.
    #[error(
        "the offset {value} in row {row}, column {column} is not finite: an exposure must be \
         positive and finite, and its logarithm is the offset"
    )]
    InvalidOffset {
        /// Its row (a variable), counted from 0; 0 where it belongs to an observation.
        row: usize,
        /// Its column (an observation), counted from 0; 0 where it belongs to a variable.
        column: usize,
        /// The offset.
        value: f64,
    },
    /// An observation whose total, the logarithm of which is its offset, is not positive.
    #[error(
        "the entries of observation {observation} sum to {total}, which has no logarithm: leave the \
         observation out, or use another offset"
    )]
    ZeroTotal {
        /// The observation, counted from 0.
        observation: usize,
        /// The sum of its entries.
        total: f64,
    },
    /// A variable with one value, for which the likelihood has no maximum.
    #[error(
        "variable {variable} is {value} in every observation: the likelihood rises for ever with its \
         intercept; leave the variable out"
    )]
    NoFiniteIntercept {
        /// The variable (a row), counted from 0.
        variable: usize,
        /// Its only value.
        value: f64,
    },
    /// Column offsets of a sparse table that do not rise from 0 to the number of its entries.
    #[error(
        "the offsets of column {column} are {start} and {end}, and must rise from 0 to {entries} \
         entries"
    )]
    SparseOffsets {
        /// The observation, counted from 0.
        column: usize,
        /// Where its entries begin.
        start: usize,
        /// Where they end.
        end: usize,
        /// Entries in all.
        entries: usize,
    },
    /// A row index of a sparse table beyond its last variable.
    #[error("row {row} in column {column} is beyond the {rows} variables")]
    SparseRow {
        /// The row, counted from 0.
        row: usize,
        /// The observation, counted from 0.
        column: usize,
        /// d.
        rows: usize,
    },
    /// Row indices of a sparse observation that are not sorted or occur twice.
    #[error("row {row} follows row {before} in column {column}: rows must rise, each at most once")]
    SparseOrder {
        /// The row, counted from 0.
        row: usize,
        /// The one before it.
        before: usize,
        /// The observation, counted from 0.
        column: usize,
    },
    /// An algorithm that cannot serve this form of data.
    #[error("{what} cannot be fitted this way: use {must}")]
    Unsupported {
        /// The kind of data.
        what: &'static str,
        /// What can be used instead.
        must: &'static str,
    },
    /// A setting outside its range.
    #[error("{name} is {value}, and must be {must}")]
    InvalidParameter {
        /// Which setting.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What it must be.
        must: &'static str,
    },
    /// The objective is not finite at the start of the fit.
    #[error("the objective is {value} at the start of the fit, and must be finite")]
    ObjectiveAtStart {
        /// J per observation.
        value: f64,
    },
    /// A value outside the support of the likelihood.
    #[error(
        "the value {value} in row {row}, column {column} is outside the support of the likelihood, \
         {support}"
    )]
    OutsideSupport {
        /// Row of the entry (a variable), counted from 0.
        row: usize,
        /// Column of the entry (an observation), counted from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The values that can occur.
        support: &'static str,
    },
    /// A saved model of an unknown format version.
    #[error(
        "the saved model has format version {found}, and only version {known} is known: read it \
         with the version of elbo that has written it, or fit it again"
    )]
    FormatVersion {
        /// The version found.
        found: u32,
        /// The version that is known.
        known: u32,
    },
    /// A saved model of another type than the one that it is loaded into.
    #[error("the saved model is `{found}`, and not `{wanted}`")]
    KindMismatch {
        /// The kind found.
        found: String,
        /// The kind wanted.
        wanted: String,
    },
    /// A file of a saved model that cannot be read or written.
    #[cfg(feature = "save")]
    #[error("{}: {problem}", path.display())]
    SavedFile {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: Box<crate::saved::SavedFileError>,
    },
    /// A checkpoint of a fit with other data or settings.
    #[error("the checkpoint is of a fit with other {what}: {saved}, and now {given}")]
    CheckpointMismatch {
        /// What differs.
        what: &'static str,
        /// The checkpoint's.
        saved: String,
        /// That of the fit that was to continue from it.
        given: String,
    },
    /// A name that no model kind has.
    #[error("there is no step named {name:?}")]
    UnknownModelKind {
        /// The name.
        name: String,
    },
    /// A name that no likelihood has.
    #[error("there is no likelihood named {name:?}: the names are {known}")]
    UnknownLikelihood {
        /// The name.
        name: String,
        /// The names that are known.
        known: &'static str,
    },
    /// An error of a file that was read as a data source.
    #[cfg(feature = "files")]
    #[error(transparent)]
    File(Box<crate::data::files::FileError>),
    /// An error of a data source of the caller's, made by [`Error::source_error`].
    #[error("the data source failed: {0}")]
    Source(SourceError),
}

/// An error of a [`Source`](crate::data::Source) that was written outside this crate; two are equal
/// if their messages are.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(std::sync::Arc<dyn std::error::Error + Send + Sync>);

impl PartialEq for SourceError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

#[cfg(feature = "files")]
impl From<crate::data::files::FileError> for Error {
    fn from(error: crate::data::files::FileError) -> Self {
        match error {
            crate::data::files::FileError::Rejected(error) => error,
            error => Self::File(Box::new(error)),
        }
    }
}

impl Error {
    /// Wraps an error of the caller's, such as one of a database that a
    /// [`Source`](crate::data::Source) reads.
    ///
    /// ```
    /// let error = elbo::Error::source_error(std::io::Error::other("connection lost"));
    /// assert_eq!(error.to_string(), "the data source failed: connection lost");
    /// assert!(!error.is_user_input());
    /// ```
    pub fn source_error(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Source(SourceError(std::sync::Arc::new(error)))
    }

    /// Whether other data or other settings are needed: sizes, values, weights, names, files.
    ///
    /// Every error is of one of three kinds: user input, [numerical](Self::is_numerical), or an
    /// error of a data source.
    pub fn is_user_input(&self) -> bool {
        !self.is_numerical() && !matches!(self, Self::Source(_))
    }

    /// Whether the input is admissible, but the arithmetic cannot serve it: an iteration limit of a
    /// decomposition, a matrix that is not positive definite, an underflow, a likelihood without a
    /// maximum.
    pub fn is_numerical(&self) -> bool {
        matches!(
            self,
            Self::DecompositionLimit { .. }
                | Self::NotPositiveDefinite { .. }
                | Self::Underflow { .. }
                | Self::Unbounded { .. }
                | Self::TooFewEntries { .. }
                | Self::NoiseVanished { .. }
                | Self::ObjectiveAtStart { .. }
        )
    }
}

/// The result of a fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

//! Saving and loading of models with serde (feature `serde`): every model whose components
//! (decoder, likelihood, inference) are [`Saved`] implements `Serialize` and `Deserialize`, for any
//! serde format.
//!
//! The output begins with the format version and the kind of the model (its scalar and components),
//! such as `f64: linear, isotropic_gaussian, exact`. Another version or kind is an error, returned
//! before anything else is read. A saved model is untrusted input: sizes must agree with each
//! other, every number must be finite, and σ² positive. A loaded model is bit-identical to the
//! saved one if the format keeps all bits of a number (for `serde_json`, with its feature
//! `float_roundtrip`).
//!
//! ```
//! use elbo::Ppca;
//! let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
//! let model = Ppca::fit(1, &x)?.model;
//! let text = serde_json::to_string(&model)?;
//! assert_eq!(serde_json::from_str::<Ppca>(&text)?, model);
//! let other = serde_json::from_str::<elbo::LinearAutoencoder>(&text).unwrap_err();
//! assert!(
//!     other.to_string().starts_with(
//!         "the saved model is `f64: linear, isotropic_gaussian, exact`, and not"
//!     )
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::data::{Moments, expect};
use crate::inference::{Amortized, Encoder, Exact, GaussianEncoder, PerPoint, PointEncoder};
use crate::likelihood::{DiagonalGaussian, IsotropicGaussian, Noiseless};
use crate::linalg::check_finite;
use crate::map::Linear;
use crate::model::Decoder;
use crate::model::GenerativeModel;
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use crate::steps::Model;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;

/// Version of the saved format: the one that is written, and the only one that can be read.
pub const FORMAT_VERSION: u32 = 1;

/// Component of a model (decoder, likelihood or inference) that can be saved.
///
/// An implementation converts the component to a serialisable type, [`Form`](Self::Form), and back
/// with validation. Every model made of such components then implements `Serialize` and
/// `Deserialize`.
pub trait Saved<T: Real>: Sized {
    /// The serialisable type.
    type Form;
    /// Returns the name of this component in the kind of a saved model.
    fn kind() -> String;
    /// Converts the component to its serialisable form.
    fn to_form(&self) -> Self::Form;
    /// Converts the serialisable form back to the component, and validates it.
    ///
    /// # Errors
    /// An error for sizes that disagree, for numbers that are not finite, and for a variance that
    /// is not positive.
    fn from_form(form: Self::Form) -> Result<Self>;
    /// Checks that the component fits a decoder from k to d dimensions.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    fn check_fit(&self, latent_dim: usize, data_dim: usize) -> Result<()> {
        let _ = (latent_dim, data_dim);
        Ok(())
    }
}

// Not the derived serialisation of nalgebra, so that the format does not change with its versions.
/// Serialisable form of a matrix: its sizes and its entries by columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixForm<T> {
    rows: usize,
    columns: usize,
    values: Vec<T>,
}

impl<T: Real> MatrixForm<T> {
    /// Creates the form of a matrix.
    pub fn of(matrix: DMatrixView<'_, T>) -> Self {
        Self {
            rows: matrix.nrows(),
            columns: matrix.ncols(),
            values: matrix.iter().copied().collect(),
        }
    }

    /// Returns the matrix, which must be non-empty, with finite entries.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::Empty`], [`Error::NotFinite`].
    pub fn into_matrix(self) -> Result<DMatrix<T>> {
        expect(
            "entries of a saved matrix",
            // Saturating: forged sizes whose product overflows disagree with any number of entries.
            self.rows.saturating_mul(self.columns),
            self.values.len(),
        )?;
        let matrix = DMatrix::from_vec(self.rows, self.columns, self.values);
        check_finite(matrix.as_view())?;
        Ok(matrix)
    }
}

/// Serialisable form of an affine map: its weights, its bias, and whether the bias is fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearForm<T> {
    weights: MatrixForm<T>,
    bias: Vec<T>,
    bias_is_fixed: bool,
}

impl<T: Real> Saved<T> for Linear<T> {
    type Form = LinearForm<T>;
    fn kind() -> String {
        "linear".into()
    }
    fn to_form(&self) -> LinearForm<T> {
        LinearForm {
            weights: MatrixForm::of(self.weights()),
            bias: self.bias().iter().copied().collect(),
            bias_is_fixed: self.bias_is_fixed(),
        }
    }
    fn from_form(form: LinearForm<T>) -> Result<Self> {
        // `Linear::new` checks the length of the bias and that every number is finite.
        let map = Self::new(form.weights.into_matrix()?, DVector::from_vec(form.bias))?;
        Ok(if form.bias_is_fixed { map.with_fixed_bias() } else { map })
    }
}

/// Serialisable form of a component without parameters; its kind identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmptyForm {}

impl<T: Real> Saved<T> for Noiseless {
    type Form = EmptyForm;
    fn kind() -> String {
        "noiseless".into()
    }
    fn to_form(&self) -> EmptyForm {
        EmptyForm {}
    }
    fn from_form(_: EmptyForm) -> Result<Self> {
        Ok(Self)
    }
}

impl<T: Real> Saved<T> for Exact {
    type Form = EmptyForm;
    fn kind() -> String {
        "exact".into()
    }
    fn to_form(&self) -> EmptyForm {
        EmptyForm {}
    }
    fn from_form(_: EmptyForm) -> Result<Self> {
        Ok(Self)
    }
}

// σ² and its logarithm are both saved, because exp(ln σ²) may differ from σ² in the last digit.
/// Serialisable form of isotropic noise: σ² as it was given, its logarithm (which a fit may have
/// changed), how it is estimated, and its lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IsotropicNoiseForm<T> {
    pub(crate) given: T,
    pub(crate) log_variance: T,
    pub(crate) fixed: bool,
    pub(crate) analytic: bool,
    pub(crate) floor: T,
}

impl<T: Real> Saved<T> for IsotropicGaussian<T> {
    type Form = IsotropicNoiseForm<T>;
    fn kind() -> String {
        "isotropic_gaussian".into()
    }
    fn to_form(&self) -> IsotropicNoiseForm<T> {
        self.form()
    }
    // The constructor checks every number, here as for noise that is created in code.
    fn from_form(form: IsotropicNoiseForm<T>) -> Result<Self> {
        Self::of_form(form)
    }
}

/// Serialisable form of diagonal noise: as [`IsotropicNoiseForm`], with a variance and a lower
/// bound for each variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiagonalNoiseForm<T> {
    pub(crate) given: Vec<T>,
    pub(crate) log_variances: Vec<T>,
    pub(crate) floors: Vec<T>,
    pub(crate) fixed: bool,
}

impl<T: Real> Saved<T> for DiagonalGaussian<T> {
    type Form = DiagonalNoiseForm<T>;
    fn kind() -> String {
        "diagonal_gaussian".into()
    }
    fn to_form(&self) -> DiagonalNoiseForm<T> {
        self.form()
    }
    fn from_form(form: DiagonalNoiseForm<T>) -> Result<Self> {
        Self::of_form(form)
    }
    fn check_fit(&self, _latent_dim: usize, data_dim: usize) -> Result<()> {
        expect("variables of the saved noise", data_dim, self.floors().len())
    }
}

/// Posterior family with a name in the kind of a saved model.
pub trait NamedFamily {
    /// The name of the family.
    const NAME: &'static str;
}

impl<T: Real> NamedFamily for Isotropic<T> {
    const NAME: &'static str = "isotropic";
}

impl<T: Real> NamedFamily for Diagonal<T> {
    const NAME: &'static str = "diagonal";
}

impl<T: Real> NamedFamily for Full<T> {
    const NAME: &'static str = "full";
}

/// Serialisable form of a table of variational parameters φ_i, one column per observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalParametersForm<T> {
    latent_dim: usize,
    parameters: MatrixForm<T>,
}

impl<T: Real, Q: PosteriorFamily<T> + NamedFamily> Saved<T> for PerPoint<Q> {
    type Form = LocalParametersForm<T>;
    fn kind() -> String {
        format!("per_point {}", Q::NAME)
    }
    fn to_form(&self) -> LocalParametersForm<T> {
        LocalParametersForm {
            latent_dim: self.posterior.latent_dim(),
            // By its parameters and not by q: the family is part of the type and of the kind.
            parameters: MatrixForm::of(self.posterior.parameters().as_view()),
        }
    }
    fn from_form(form: LocalParametersForm<T>) -> Result<Self> {
        let parameters = form.parameters.into_matrix()?;
        // Checked first: the number of parameters of a forged latent dimension may overflow.
        check_latent_dim(form.latent_dim, parameters.nrows())?;
        Ok(Self::new(Q::from_parameters(form.latent_dim, parameters)?))
    }
    fn check_fit(&self, latent_dim: usize, _data_dim: usize) -> Result<()> {
        expect("latent dimensions of the saved table", latent_dim, self.posterior.latent_dim())
    }
}

impl<T: Real> Saved<T> for Amortized<PointEncoder<Linear<T>>> {
    type Form = LinearForm<T>;
    fn kind() -> String {
        "amortized point linear".into()
    }
    fn to_form(&self) -> LinearForm<T> {
        self.encoder.map.to_form()
    }
    fn from_form(form: LinearForm<T>) -> Result<Self> {
        Ok(Self::new(PointEncoder::new(Linear::from_form(form)?)))
    }
    fn check_fit(&self, latent_dim: usize, data_dim: usize) -> Result<()> {
        check_encoder(&self.encoder, latent_dim, data_dim)
    }
}

/// Serialisable form of an encoder: its affine map and its latent dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderForm<T> {
    latent_dim: usize,
    map: LinearForm<T>,
}

impl<T: Real, Q: PosteriorFamily<T> + NamedFamily> Saved<T>
    for Amortized<GaussianEncoder<Linear<T>, Q>>
{
    type Form = EncoderForm<T>;
    fn kind() -> String {
        format!("amortized {} linear", Q::NAME)
    }
    fn to_form(&self) -> EncoderForm<T> {
        EncoderForm {
            latent_dim: Encoder::<T>::latent_dim(&self.encoder),
            map: self.encoder.map().to_form(),
        }
    }
    fn from_form(form: EncoderForm<T>) -> Result<Self> {
        let map = Linear::from_form(form.map)?;
        // As above: the output of the map has one row for each variational parameter.
        check_latent_dim(form.latent_dim, map.weights().nrows())?;
        Ok(Self::new(GaussianEncoder::new(map, form.latent_dim)?))
    }
    fn check_fit(&self, latent_dim: usize, data_dim: usize) -> Result<()> {
        check_encoder(&self.encoder, latent_dim, data_dim)
    }
}

/// Checks that an encoder maps d variables to the parameters of k latent dimensions.
fn check_encoder<T: Real>(
    encoder: &impl Encoder<T>,
    latent_dim: usize,
    data_dim: usize,
) -> Result<()> {
    expect("latent dimensions of the saved encoder", latent_dim, encoder.latent_dim())?;
    expect("variables of the saved encoder", data_dim, encoder.observed_dim())
}

/// Checks a latent dimension k that was read, before a number of parameters is computed from it:
/// φ has k rows for the mean and at least one more for the scale.
fn check_latent_dim(latent_dim: usize, rows: usize) -> Result<()> {
    if (1..rows).contains(&latent_dim) {
        return Ok(());
    }
    Err(Error::LatentDim { latent_dim, smallest: 1, largest: rows.saturating_sub(1) })
}

// The format is self-describing by this text alone: serde does not check types by name.
/// Kind of a model: its scalar and its components. Deserialisation compares it with the kind read.
struct Kind<T, D, L, I>(PhantomData<(T, D, L, I)>);

impl<T: Real, D: Saved<T>, L: Saved<T>, I: Saved<T>> Kind<T, D, L, I> {
    fn name() -> String {
        // The scalar is part of the kind: a model saved in `f64` is not rounded to `f32` silently.
        format!("f{}: {}, {}, {}", 8 * size_of::<T>(), D::kind(), L::kind(), I::kind())
    }
}

// The order of the fields is the order in the output: version and kind precede the components, so
// that they are checked first. If a tool has reordered them, loading still fails for another
// version or kind, with a less specific error.
#[derive(Serialize)]
struct Written<D, L, I> {
    format_version: u32,
    kind: String,
    decoder: D,
    likelihood: L,
    inference: I,
}

impl<T, D, L, I> Serialize for Model<T, D, L, I>
where
    T: Real,
    D: Saved<T, Form: Serialize>,
    L: Saved<T, Form: Serialize>,
    I: Saved<T, Form: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            format_version: FORMAT_VERSION,
            kind: Kind::<T, D, L, I>::name(),
            decoder: self.generative.decoder.to_form(),
            likelihood: self.generative.likelihood.to_form(),
            inference: self.inference.to_form(),
        };
        written.serialize(serializer)
    }
}

/// Format version; deserialisation fails unless it is [`FORMAT_VERSION`], before the components are
/// read, which may have another structure in another version.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        match u32::deserialize(deserializer)? {
            FORMAT_VERSION => Ok(Self),
            // The error type is the format's own: the message is that of `Error::FormatVersion`.
            found => Err(S::Error::custom(Error::FormatVersion { found, known: FORMAT_VERSION })),
        }
    }
}

impl<'de, T: Real, D: Saved<T>, L: Saved<T>, I: Saved<T>> Deserialize<'de> for Kind<T, D, L, I> {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        let (found, wanted) = (String::deserialize(deserializer)?, Self::name());
        if found == wanted {
            Ok(Self(PhantomData))
        } else {
            Err(S::Error::custom(Error::KindMismatch { found, wanted }))
        }
    }
}

#[derive(Deserialize)]
#[serde(
    bound = "T: Real, D: Saved<T, Form: Deserialize<'de>>, L: Saved<T, Form: Deserialize<'de>>, I: Saved<T, Form: Deserialize<'de>>"
)]
struct Read<T: Real, D: Saved<T>, L: Saved<T>, I: Saved<T>> {
    // Version and kind are checked by their `Deserialize` implementations and hold no data.
    #[serde(rename = "format_version")]
    _format_version: Version,
    #[serde(rename = "kind")]
    _kind: Kind<T, D, L, I>,
    decoder: D::Form,
    likelihood: L::Form,
    inference: I::Form,
}

impl<'de, T, D, L, I> Deserialize<'de> for Model<T, D, L, I>
where
    T: Real,
    D: Saved<T, Form: Deserialize<'de>> + Decoder<T>,
    L: Saved<T, Form: Deserialize<'de>>,
    I: Saved<T, Form: Deserialize<'de>>,
{
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        let read = Read::<T, D, L, I>::deserialize(deserializer)?;
        // Every component is rebuilt by a constructor that validates it. The closure returns the
        // first error of the library, which is then converted to the error type of the format.
        let assemble = || {
            let decoder = D::from_form(read.decoder)?;
            let (latent_dim, data_dim) = (decoder.latent_dim(), decoder.observed_dim());
            let (likelihood, inference) =
                (L::from_form(read.likelihood)?, I::from_form(read.inference)?);
            // Each component is valid by itself; that they fit each other is checked last.
            likelihood.check_fit(latent_dim, data_dim)?;
            inference.check_fit(latent_dim, data_dim)?;
            let generative = GenerativeModel::new(decoder, likelihood);
            Ok(Model::from_fitting_parts(generative, inference))
        };
        assemble().map_err(|error: Error| S::Error::custom(error))
    }
}

/// The version, the kind and the [numbers](Moments::to_values) of moments, in this order: another
/// version or kind is an error before the numbers are read.
#[derive(Serialize, Deserialize)]
struct MomentsForm<V, K> {
    format_version: V,
    kind: K,
    values: Vec<f64>,
}

/// The kind of saved moments.
const MOMENTS: &str = "f64: moments";

/// Moments as the statistics of a saved file: deserialisation fails for the file of a model.
struct MomentsKind;

impl<'de> Deserialize<'de> for MomentsKind {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        let found = String::deserialize(deserializer)?;
        if found == MOMENTS {
            Ok(Self)
        } else {
            Err(S::Error::custom(Error::KindMismatch { found, wanted: MOMENTS.into() }))
        }
    }
}

impl Serialize for Moments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        MomentsForm { format_version: FORMAT_VERSION, kind: MOMENTS, values: self.to_values() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moments {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        let read = MomentsForm::<Version, MomentsKind>::deserialize(deserializer)?;
        Self::from_values(&read.values).map_err(S::Error::custom)
    }
}

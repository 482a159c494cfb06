//! Saving and loading, behind the feature `serde`: every step whose slots are [`Saved`] is
//! `Serialize` and `Deserialize`, in whatever format serde has.
//!
//! What is written begins with the version of the form and the kind of the step, such as
//! `f64: linear, isotropic_gaussian, exact`: another version or another kind is refused by name
//! before anything else is read. A saved model is not trusted: sizes must agree with each other,
//! every number must be finite, and σ² positive. What was saved is loaded with the same bits, as
//! far as the format keeps them (for `serde_json`, with its feature `float_roundtrip`).
//!
//! ```
//! use elbo::Ppca;
//! use nalgebra::DMatrix;
//! let x = DMatrix::from_fn(3, 30, |j, i| ((1 + j) as f64 * 0.3 * i as f64).sin());
//! let model = Ppca::fit(1, &x)?;
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

use crate::data::expect;
use crate::inference::{Amortized, Encoder, Exact, GaussianEncoder, PerPoint, PointEncoder};
use crate::likelihood::{DiagonalGaussian, IsotropicGaussian, Noiseless};
use crate::linalg::check_finite;
use crate::map::Linear;
use crate::model::Decoder;
use crate::posterior::{Diagonal, Full, Isotropic, PosteriorFamily};
use crate::steps::Step;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;

/// The version of the form that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 1;

/// A slot that can be saved.
///
/// You give a plain form of it, and the way back, which checks; you get `Serialize` and
/// `Deserialize` of every step with this slot.
pub trait Saved<T: Real>: Sized {
    /// What is written.
    type Form;
    /// The name that the kind of a saved step has for this slot.
    fn kind() -> String;
    /// The plain form.
    fn to_form(&self) -> Self::Form;
    /// The way back.
    ///
    /// # Errors
    /// A form that is none of this slot's: sizes that disagree, numbers that are not finite, a
    /// variance that is not positive.
    fn from_form(form: Self::Form) -> Result<Self>;
    /// Refuses a slot that does not fit a decoder from k to d dimensions.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    fn check_fit(&self, latent_dim: usize, data_dim: usize) -> Result<()> {
        let _ = (latent_dim, data_dim);
        Ok(())
    }
}

/// A matrix by columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixForm<T> {
    rows: usize,
    columns: usize,
    values: Vec<T>,
}

impl<T: Real> MatrixForm<T> {
    /// The form of a matrix.
    pub fn of(matrix: DMatrixView<'_, T>) -> Self {
        Self {
            rows: matrix.nrows(),
            columns: matrix.ncols(),
            values: matrix.iter().copied().collect(),
        }
    }

    /// The matrix, not empty and finite.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::Empty`], [`Error::NotFinite`].
    pub fn into_matrix(self) -> Result<DMatrix<T>> {
        expect(
            "entries of a saved matrix",
            self.rows.saturating_mul(self.columns),
            self.values.len(),
        )?;
        let matrix = DMatrix::from_vec(self.rows, self.columns, self.values);
        check_finite(matrix.as_view())?;
        Ok(matrix)
    }
}

/// An affine map: its weights and bias, and whether the bias is held where it is.
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
        let map = Self::new(form.weights.into_matrix()?, DVector::from_vec(form.bias))?;
        Ok(if form.bias_is_fixed { map.with_fixed_bias() } else { map })
    }
}

/// Nothing but the kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoForm {}

impl<T: Real> Saved<T> for Noiseless {
    type Form = NoForm;
    fn kind() -> String {
        "noiseless".into()
    }
    fn to_form(&self) -> NoForm {
        NoForm {}
    }
    fn from_form(_: NoForm) -> Result<Self> {
        Ok(Self)
    }
}

impl<T: Real> Saved<T> for Exact {
    type Form = NoForm;
    fn kind() -> String {
        "exact".into()
    }
    fn to_form(&self) -> NoForm {
        NoForm {}
    }
    fn from_form(_: NoForm) -> Result<Self> {
        Ok(Self)
    }
}

/// σ² as it was given, its logarithm (which a fit may have moved since), and how it is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoiseForm<T> {
    pub(crate) given: T,
    pub(crate) log_variance: T,
    pub(crate) fixed: bool,
    pub(crate) analytic: bool,
    pub(crate) floor: T,
}

impl<T: Real> Saved<T> for IsotropicGaussian<T> {
    type Form = NoiseForm<T>;
    fn kind() -> String {
        "isotropic_gaussian".into()
    }
    fn to_form(&self) -> NoiseForm<T> {
        self.form()
    }
    fn from_form(form: NoiseForm<T>) -> Result<Self> {
        Self::of_form(form)
    }
}

/// A variance for each variable, and their floors: as [`NoiseForm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoisesForm<T> {
    pub(crate) given: Vec<T>,
    pub(crate) log_variances: Vec<T>,
    pub(crate) floors: Vec<T>,
    pub(crate) fixed: bool,
}

impl<T: Real> Saved<T> for DiagonalGaussian<T> {
    type Form = NoisesForm<T>;
    fn kind() -> String {
        "diagonal_gaussian".into()
    }
    fn to_form(&self) -> NoisesForm<T> {
        self.form()
    }
    fn from_form(form: NoisesForm<T>) -> Result<Self> {
        Self::of_form(form)
    }
    fn check_fit(&self, _latent_dim: usize, data_dim: usize) -> Result<()> {
        expect("variables of the saved noise", data_dim, self.floors().len())
    }
}

/// A posterior family, by name.
pub trait NamedFamily {
    /// Its name in a saved kind.
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

/// A table of φ_i.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableForm<T> {
    latent_dim: usize,
    parameters: MatrixForm<T>,
}

impl<T: Real, Q: PosteriorFamily<T> + NamedFamily> Saved<T> for PerPoint<Q> {
    type Form = TableForm<T>;
    fn kind() -> String {
        format!("per_point {}", Q::NAME)
    }
    fn to_form(&self) -> TableForm<T> {
        TableForm {
            latent_dim: self.posterior.latent_dim(),
            parameters: MatrixForm::of(self.posterior.parameters().as_view()),
        }
    }
    fn from_form(form: TableForm<T>) -> Result<Self> {
        let parameters = form.parameters.into_matrix()?;
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

/// The map of an encoder, and the dimension of what it encodes to.
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
        check_latent_dim(form.latent_dim, map.weights().nrows())?;
        Ok(Self::new(GaussianEncoder::new(map, form.latent_dim)?))
    }
    fn check_fit(&self, latent_dim: usize, data_dim: usize) -> Result<()> {
        check_encoder(&self.encoder, latent_dim, data_dim)
    }
}

fn check_encoder<T: Real>(
    encoder: &impl Encoder<T>,
    latent_dim: usize,
    data_dim: usize,
) -> Result<()> {
    expect("latent dimensions of the saved encoder", latent_dim, encoder.latent_dim())?;
    expect("variables of the saved encoder", data_dim, encoder.observed_dim())
}

/// Before a count of parameters is computed from it: φ has more rows than z.
fn check_latent_dim(latent_dim: usize, rows: usize) -> Result<()> {
    if (1..rows).contains(&latent_dim) {
        return Ok(());
    }
    Err(Error::LatentDim { latent_dim, smallest: 1, largest: rows.saturating_sub(1) })
}

/// The kind of a step: its scalar and its slots.
struct Kind<T, D, L, I>(PhantomData<(T, D, L, I)>);

impl<T: Real, D: Saved<T>, L: Saved<T>, I: Saved<T>> Kind<T, D, L, I> {
    fn name() -> String {
        format!("f{}: {}, {}, {}", 8 * size_of::<T>(), D::kind(), L::kind(), I::kind())
    }
}

#[derive(Serialize)]
struct Written<D, L, I> {
    format_version: u32,
    kind: String,
    decoder: D,
    likelihood: L,
    inference: I,
}

impl<T, D, L, I> Serialize for Step<T, D, L, I>
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
            decoder: self.model.decoder.to_form(),
            likelihood: self.model.likelihood.to_form(),
            inference: self.inference.to_form(),
        };
        written.serialize(serializer)
    }
}

/// The version, refused while it is read unless it is the one that is known: what follows may have
/// another shape.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        match u32::deserialize(deserializer)? {
            FORMAT_VERSION => Ok(Self),
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
    #[serde(rename = "format_version")]
    _format_version: Version,
    #[serde(rename = "kind")]
    _kind: Kind<T, D, L, I>,
    decoder: D::Form,
    likelihood: L::Form,
    inference: I::Form,
}

impl<'de, T, D, L, I> Deserialize<'de> for Step<T, D, L, I>
where
    T: Real,
    D: Saved<T, Form: Deserialize<'de>> + Decoder<T>,
    L: Saved<T, Form: Deserialize<'de>>,
    I: Saved<T, Form: Deserialize<'de>>,
{
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> Result<Self, S::Error> {
        let read = Read::<T, D, L, I>::deserialize(deserializer)?;
        let assemble = || {
            let decoder = D::from_form(read.decoder)?;
            let (latent_dim, data_dim) = (decoder.latent_dim(), decoder.observed_dim());
            let (likelihood, inference) =
                (L::from_form(read.likelihood)?, I::from_form(read.inference)?);
            likelihood.check_fit(latent_dim, data_dim)?;
            inference.check_fit(latent_dim, data_dim)?;
            Ok(Step::from_slots(decoder, likelihood, inference))
        };
        assemble().map_err(|error: Error| S::Error::custom(error))
    }
}

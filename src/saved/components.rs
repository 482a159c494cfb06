//! The saved forms of components: maps, likelihoods, encoders and inferences.

use super::checks::{Sign, check_all};
use super::{NamedFamily, Saved};
use crate::data::expect;
use crate::inference::{Amortized, Encoder, Exact, GaussianEncoder, PerPoint, PointEncoder};
use crate::likelihood::{
    Bernoulli, Binomial, ContinuousBernoulli, DiagonalGaussian, Independent, IsotropicGaussian,
    Noiseless, Ordinal, Poisson, Univariate,
};
use crate::linalg::check_finite;
use crate::map::{Activation, DifferentiableMap, Linear, Mlp, Parameters};
use crate::posterior::PosteriorFamily;
use crate::{Error, Real, Result};
use nalgebra::{DMatrix, DMatrixView, DVector};
use serde::{Deserialize, Serialize};

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

/// Serialisable form of a fixed layer of a network: its mean and its standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FixedLayerForm<T> {
    mean: Vec<T>,
    deviation: Vec<T>,
}

impl<T: Real> FixedLayerForm<T> {
    fn of((mean, deviation): (&DVector<T>, &DVector<T>)) -> Self {
        let values = |v: &DVector<T>| v.iter().copied().collect();
        Self { mean: values(mean), deviation: values(deviation) }
    }

    fn into_vectors(self) -> (DVector<T>, DVector<T>) {
        (DVector::from_vec(self.mean), DVector::from_vec(self.deviation))
    }
}

/// Serialisable form of a multilayer perceptron: all parameters in the order in which the network
/// has them, those of the skip connection last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MlpForm<T> {
    sizes: Vec<usize>,
    activation: Activation,
    output_activation: Activation,
    skip_connection: bool,
    missing_inputs: bool,
    input: Option<FixedLayerForm<T>>,
    output: Option<FixedLayerForm<T>>,
    parameters: Vec<T>,
}

impl<T: Real> Saved<T> for Mlp<T> {
    type Form = MlpForm<T>;
    fn kind() -> String {
        "mlp".into()
    }
    fn to_form(&self) -> MlpForm<T> {
        MlpForm {
            sizes: self.sizes().to_vec(),
            activation: self.activation(),
            output_activation: self.output_activation(),
            skip_connection: self.skip_connection().is_some(),
            missing_inputs: self.reads_missing(),
            input: self.input_standardization().map(FixedLayerForm::of),
            output: self.output_scale().map(FixedLayerForm::of),
            parameters: self.parameters().to_vec(),
        }
    }
    fn from_form(form: MlpForm<T>) -> Result<Self> {
        let MlpForm { sizes, activation, output_activation, mut parameters, .. } = form;
        // Before the network is built: forged sizes must agree with the numbers that were read.
        let skipped = match (form.skip_connection, sizes.first(), sizes.last()) {
            (true, Some(&input), Some(&output)) => input.saturating_mul(output),
            _ => 0,
        };
        let layers = Self::parameter_count(&sizes);
        expect("parameters of a saved network", layers.saturating_add(skipped), parameters.len())?;
        let skip = parameters.split_off(layers);
        let mut map = Self::from_parameters(&sizes, activation, output_activation, parameters)?;
        if form.skip_connection {
            check_finite(DMatrixView::from_slice(&skip, skip.len(), 1))?;
            map = map.with_skip_connection()?;
            map.parameters_mut()[layers..].copy_from_slice(&skip);
        }
        // Before the standardisation, which has an entry for each input and not for each indicator.
        if form.missing_inputs {
            map = map.with_missing_inputs()?;
        }
        if let Some(layer) = form.input {
            let (mean, deviation) = layer.into_vectors();
            map = map.with_input_standardization(mean, deviation)?;
        }
        if let Some(layer) = form.output {
            let (mean, deviation) = layer.into_vectors();
            map = map.with_output_scale(mean, deviation)?;
        }
        Ok(map)
    }
}

/// Serialisable form of a component without parameters; its kind identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmptyForm {}

macro_rules! without_parameters {
    ($($component:ident => $kind:literal),*) => {
        $(impl<T: Real> Saved<T> for $component {
            type Form = EmptyForm;
            fn kind() -> String {
                $kind.into()
            }
            fn to_form(&self) -> EmptyForm {
                EmptyForm {}
            }
            fn from_form(_: EmptyForm) -> Result<Self> {
                Ok(Self)
            }
        })*
    };
}
without_parameters!(
    Noiseless => "noiseless", Bernoulli => "bernoulli", ContinuousBernoulli => "continuous_bernoulli",
    Poisson => "poisson", Exact => "exact"
);

macro_rules! of_a_number {
    ($($distribution:ident: $number:ident ($type:ty) => $kind:literal),*) => {
        $(impl<T: Real> Saved<T> for $distribution {
            type Form = $type;
            fn kind() -> String {
                $kind.into()
            }
            fn to_form(&self) -> $type {
                self.$number()
            }
            fn from_form($number: $type) -> Result<Self> {
                Self::new($number)
            }
        })*
    };
}
of_a_number!(Binomial: trials (u64) => "binomial", Ordinal: categories (usize) => "ordinal");

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
// Format version 1 had no `analytic`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiagonalNoiseForm<T> {
    pub(crate) given: Vec<T>,
    pub(crate) log_variances: Vec<T>,
    pub(crate) floors: Vec<T>,
    pub(crate) fixed: bool,
    pub(crate) analytic: bool,
}

impl<T: Real> Saved<T> for DiagonalGaussian<T> {
    type Form = DiagonalNoiseForm<T>;
    const FORM_SINCE: u32 = 2;
    fn kind() -> String {
        "diagonal_gaussian".into()
    }
    fn to_form(&self) -> DiagonalNoiseForm<T> {
        self.form()
    }
    fn from_form(form: DiagonalNoiseForm<T>) -> Result<Self> {
        Self::of_form(form)
    }
}

/// Serialisable form of one of several independent variables: its distribution, where it is not that
/// of the first one, and its parameters.
// A list of the distributions alone could be forged to any length where they have no bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariableForm<T, F> {
    distribution: Option<F>,
    parameters: Vec<T>,
}

impl<T: Real, U: Univariate<T> + Saved<T>> Saved<T> for Independent<T, U> {
    type Form = Vec<VariableForm<T, U::Form>>;
    const FORM_SINCE: u32 = U::FORM_SINCE;
    fn kind() -> String {
        format!("independent {}", U::kind())
    }
    fn to_form(&self) -> Self::Form {
        let distributions = self.distributions();
        let variable = |j| VariableForm {
            distribution: distributions.get(j).map(Saved::to_form),
            parameters: self.parameters_of(j).to_vec(),
        };
        (0..self.variables()).map(variable).collect()
    }
    fn from_form(form: Self::Form) -> Result<Self> {
        let (mut distributions, mut parameters) = (Vec::new(), Vec::with_capacity(form.len()));
        for variable in form {
            distributions.extend(variable.distribution);
            parameters.push(variable.parameters);
        }
        let d = parameters.len();
        let distributions = distributions.into_iter().map(U::from_form);
        let distributions = distributions.collect::<Result<Vec<U>>>()?;
        // One for all, or one for each.
        if distributions.len() != 1 {
            expect("distributions of the saved variables", d, distributions.len())?;
        }
        for (own, distribution) in parameters.iter().zip(distributions.iter().cycle()) {
            // Before memory is allocated for the number that a forged distribution has.
            let count = distribution.parameter_count();
            expect("parameters of a saved variable", count, own.len())?;
            check_all("a parameter of a saved variable", own, Sign::Any)?;
        }
        let mut likelihood = Self::from_distributions(distributions, d)?;
        likelihood.parameters_mut().copy_from_slice(&parameters.concat());
        Ok(likelihood)
    }
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
        format!("per_point {}", Q::name())
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
}

impl<T: Real, E: Saved<T>> Saved<T> for Amortized<E> {
    type Form = E::Form;
    const FORM_SINCE: u32 = E::FORM_SINCE;
    fn kind() -> String {
        format!("amortized {}", E::kind())
    }
    fn to_form(&self) -> E::Form {
        self.encoder.to_form()
    }
    fn from_form(form: E::Form) -> Result<Self> {
        Ok(Self::new(E::from_form(form)?))
    }
}

impl<T: Real, F: Saved<T>> Saved<T> for PointEncoder<F> {
    type Form = F::Form;
    const FORM_SINCE: u32 = F::FORM_SINCE;
    fn kind() -> String {
        format!("point {}", F::kind())
    }
    fn to_form(&self) -> F::Form {
        self.map.to_form()
    }
    fn from_form(form: F::Form) -> Result<Self> {
        Ok(Self::new(F::from_form(form)?))
    }
}

/// Serialisable form of a Gaussian encoder: its map and its latent dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderForm<F> {
    latent_dim: usize,
    map: F,
}

impl<T, F, Q> Saved<T> for GaussianEncoder<F, Q>
where
    T: Real,
    F: DifferentiableMap<T> + Saved<T>,
    Q: PosteriorFamily<T> + NamedFamily,
{
    type Form = EncoderForm<F::Form>;
    const FORM_SINCE: u32 = F::FORM_SINCE;
    fn kind() -> String {
        format!("{} {}", Q::name(), F::kind())
    }
    fn to_form(&self) -> EncoderForm<F::Form> {
        EncoderForm { latent_dim: Encoder::<T>::latent_dim(self), map: self.map().to_form() }
    }
    fn from_form(form: EncoderForm<F::Form>) -> Result<Self> {
        let map = F::from_form(form.map)?;
        // As above: the output of the map has one row for each variational parameter.
        check_latent_dim(form.latent_dim, map.output_dim())?;
        Self::new(map, form.latent_dim)
    }
}

/// Checks a latent dimension k that was read, before a number of parameters is computed from it:
/// φ has k rows for the mean and at least one more for the scale.
fn check_latent_dim(latent_dim: usize, rows: usize) -> Result<()> {
    if (1..rows).contains(&latent_dim) {
        return Ok(());
    }
    Err(Error::LatentDim { latent_dim, smallest: 1, largest: rows.saturating_sub(1) })
}

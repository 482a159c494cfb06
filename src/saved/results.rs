//! The saved forms of other results: principal components, statistics, rotations, an optimiser.

use super::checks::{Sign, check_all, check_orthonormal, values, vector};
use super::components::MatrixForm;
use super::header::{Kind, Stored, Version, header, kind_in, stored};
use crate::data::{Moments, Standardization, expect};
use crate::fit::{Adam, AdamSettings, StopReason};
use crate::model::ResidualStatistics;
use crate::rotation::Rotation;
use crate::{Error, Pca, Real, Result};
use serde::{Deserialize, Serialize};

/// Serialisable form of principal component analysis.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct PcaForm<T: Real> {
    format_version: Version<Pca<T>>,
    kind: Kind<Pca<T>>,
    mean: Vec<T>,
    mean_rest: Vec<T>,
    components: MatrixForm<T>,
    variances: Vec<T>,
    outside: T,
    observations: usize,
}

impl<T: Real> Stored for Pca<T> {
    type Document = PcaForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("pca")
    }
    fn to_document(&self) -> PcaForm<T> {
        let (format_version, kind) = header();
        PcaForm {
            format_version,
            kind,
            mean: values(&self.mean),
            mean_rest: values(&self.mean_rest),
            components: MatrixForm::of(self.components.as_view()),
            variances: values(&self.variances),
            outside: self.outside,
            observations: self.observations,
        }
    }
    fn from_document(form: PcaForm<T>) -> Result<Self> {
        let components = form.components.into_matrix()?;
        let (d, k) = components.shape();
        check_orthonormal(&components)?;
        check_all("a saved variance", &form.variances, Sign::Positive)?;
        check_all("the saved variance outside", &[form.outside], Sign::NotNegative)?;
        Ok(Self {
            mean: vector("entries of the saved mean", d, form.mean)?,
            mean_rest: vector("entries of the saved rest of the mean", d, form.mean_rest)?,
            components,
            variances: vector("saved variances", k, form.variances)?,
            outside: form.outside,
            observations: form.observations,
        })
    }
}

stored!([T: Real] Pca<T>);

/// Serialisable form of a standardisation.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct StandardizationForm<T: Real> {
    format_version: Version<Standardization<T>>,
    kind: Kind<Standardization<T>>,
    mean: Vec<T>,
    mean_rest: Vec<T>,
    scale: Vec<T>,
    rounding: Vec<T>,
}

impl<T: Real> Stored for Standardization<T> {
    type Document = StandardizationForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("standardization")
    }
    fn to_document(&self) -> StandardizationForm<T> {
        let (format_version, kind) = header();
        StandardizationForm {
            format_version,
            kind,
            mean: values(&self.mean),
            mean_rest: values(&self.mean_rest),
            scale: values(&self.scale),
            rounding: values(&self.rounding),
        }
    }
    fn from_document(form: StandardizationForm<T>) -> Result<Self> {
        let d = form.mean.len();
        if d == 0 {
            return Err(Error::Empty { rows: 0, columns: 1 });
        }
        check_all("a saved scale", &form.scale, Sign::Positive)?;
        check_all("a saved rounding", &form.rounding, Sign::NotNegative)?;
        Ok(Self {
            mean: vector("entries of the saved mean", d, form.mean)?,
            mean_rest: vector("entries of the saved rest of the mean", d, form.mean_rest)?,
            scale: vector("saved scales", d, form.scale)?,
            rounding: vector("saved roundings", d, form.rounding)?,
        })
    }
}

stored!([T: Real] Standardization<T>);

/// Serialisable form of rotated loadings.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct RotationForm<T: Real> {
    format_version: Version<Rotation<T>>,
    kind: Kind<Rotation<T>>,
    loadings: MatrixForm<T>,
    rotation: MatrixForm<T>,
    factor_correlations: MatrixForm<T>,
    criterion: f64,
    stop: StopReason,
    sweeps: usize,
}

impl<T: Real> Stored for Rotation<T> {
    type Document = RotationForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("rotation")
    }
    fn to_document(&self) -> RotationForm<T> {
        let (format_version, kind) = header();
        RotationForm {
            format_version,
            kind,
            loadings: MatrixForm::of(self.loadings.as_view()),
            rotation: MatrixForm::of(self.rotation.as_view()),
            factor_correlations: MatrixForm::of(self.factor_correlations.as_view()),
            criterion: self.criterion,
            stop: self.stop,
            sweeps: self.sweeps,
        }
    }
    fn from_document(form: RotationForm<T>) -> Result<Self> {
        let (loadings, rotation) = (form.loadings.into_matrix()?, form.rotation.into_matrix()?);
        let factor_correlations = form.factor_correlations.into_matrix()?;
        let k = loadings.ncols();
        for (what, size) in [
            ("rows of the saved rotation", rotation.nrows()),
            ("columns of the saved rotation", rotation.ncols()),
            ("rows of the saved factor correlations", factor_correlations.nrows()),
            ("columns of the saved factor correlations", factor_correlations.ncols()),
        ] {
            expect(what, k, size)?;
        }
        check_all("the saved criterion", &[form.criterion], Sign::Any)?;
        let RotationForm { criterion, stop, sweeps, .. } = form;
        Ok(Self { loadings, rotation, factor_correlations, criterion, stop, sweeps })
    }
}

stored!([T: Real] Rotation<T>);

/// Serialisable form of statistics: the version and the kind, then their numbers.
#[derive(Serialize, Deserialize)]
#[serde(bound = "S: Stored")]
pub struct StatisticsForm<S> {
    format_version: Version<S>,
    kind: Kind<S>,
    values: Vec<f64>,
}

macro_rules! stored_statistics {
    ($([$($generics:tt)*] $type:ty, $kind:expr;)*) => {
        $(impl<$($generics)*> Stored for $type {
            type Document = StatisticsForm<Self>;
            fn document_kind() -> String {
                $kind
            }
            fn to_document(&self) -> Self::Document {
                let (format_version, kind) = header();
                StatisticsForm { format_version, kind, values: self.to_values() }
            }
            fn from_document(form: Self::Document) -> Result<Self> {
                Self::from_values(&form.values)
            }
        }

        stored!([$($generics)*] $type);)*
    };
}
// Sums in double precision whatever the scalar of the data was; an `f32` is exact in it.
stored_statistics! {
    [] Moments, kind_in::<f64>("moments");
    [T: Real] ResidualStatistics<T>, kind_in::<T>("residual statistics");
}

/// Serialisable form of the state of an optimiser.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct AdamForm<T: Real> {
    format_version: Version<Adam<T>>,
    kind: Kind<Adam<T>>,
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    powers: [f64; 2],
    first_moment: Vec<T>,
    second_moment: Vec<T>,
    scales: Vec<T>,
}

impl<T: Real> Stored for Adam<T> {
    type Document = AdamForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("adam")
    }
    fn to_document(&self) -> AdamForm<T> {
        let (format_version, kind) = header();
        let AdamSettings { beta_1, beta_2, epsilon } = self.settings();
        AdamForm {
            format_version,
            kind,
            beta_1,
            beta_2,
            epsilon,
            powers: self.powers(),
            first_moment: self.first_moment().to_vec(),
            second_moment: self.second_moment().to_vec(),
            scales: self.scales().to_vec(),
        }
    }
    fn from_document(form: AdamForm<T>) -> Result<Self> {
        let AdamForm { beta_1, beta_2, epsilon, first_moment, second_moment, .. } = form;
        // The number of parameters is that of the moments that were read.
        Self::new(first_moment.len(), AdamSettings { beta_1, beta_2, epsilon })?
            .with_state(first_moment, second_moment, form.powers)?
            .with_scales(form.scales)
    }
}

stored!([T: Real] Adam<T>);

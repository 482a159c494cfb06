//! The saved forms of models: those of the progression, maps, mixtures, Bayesian PCA.

use super::Saved;
use super::checks::{Sign, check_all};
use super::components::{IsotropicNoiseForm, LinearForm};
use super::header::{Kind, Stored, Version, header, kind_in, stored};
use crate::data::expect;
use crate::inference::{Exact, Inference};
use crate::likelihood::{ConditionalMean, IsotropicGaussian};
use crate::map::{Linear, Mlp};
use crate::mixture::MixtureOfPpca;
use crate::model::{Decoder, GenerativeModel};
use crate::selection::{ArdPosterior, BayesianPpca};
use crate::steps::Model;
use crate::{Ppca, Real, Result};
use nalgebra::DVector;
use serde::{Deserialize, Serialize};

/// Serialisable form of a model: those of its components.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ModelForm<T, D, L, I>
where
    T: Real,
    D: Saved<T> + Decoder<T>,
    L: Saved<T> + ConditionalMean<T>,
    I: Saved<T> + Inference<T, GenerativeModel<D, L>>,
{
    format_version: Version<Model<T, D, L, I>>,
    kind: Kind<Model<T, D, L, I>>,
    decoder: D::Form,
    likelihood: L::Form,
    inference: I::Form,
}

impl<T, D, L, I> Stored for Model<T, D, L, I>
where
    T: Real,
    D: Saved<T> + Decoder<T>,
    L: Saved<T> + ConditionalMean<T>,
    I: Saved<T> + Inference<T, GenerativeModel<D, L>>,
{
    type Document = ModelForm<T, D, L, I>;
    const SINCE: u32 = latest([D::FORM_SINCE, L::FORM_SINCE, I::FORM_SINCE]);
    fn document_kind() -> String {
        kind_in::<T>(&format!("{}, {}, {}", D::kind(), L::kind(), I::kind()))
    }
    fn to_document(&self) -> Self::Document {
        let (format_version, kind) = header();
        ModelForm {
            format_version,
            kind,
            decoder: self.decoder().to_form(),
            likelihood: self.likelihood().to_form(),
            inference: self.inference().to_form(),
        }
    }
    fn from_document(form: Self::Document) -> Result<Self> {
        let decoder = D::from_form(form.decoder)?;
        let likelihood = L::from_form(form.likelihood)?;
        // Each component is valid by itself; that they fit each other is checked last.
        Self::new(decoder, likelihood, I::from_form(form.inference)?)
    }
}

stored!([T, D, L, I] Model<T, D, L, I> where {
    T: Real,
    D: Saved<T> + Decoder<T>,
    L: Saved<T> + ConditionalMean<T>,
    I: Saved<T> + Inference<T, GenerativeModel<D, L>>
});

const fn latest(versions: [u32; 3]) -> u32 {
    let [a, b, c] = versions;
    // Not `max`, which a constant cannot call.
    let later = if a > b { a } else { b };
    if later > c { later } else { c }
}

/// Serialisable form of a map on its own: that of the component.
#[derive(Serialize, Deserialize)]
#[serde(bound = "S: Stored, F: Serialize + serde::de::DeserializeOwned")]
pub struct MapForm<S, F> {
    format_version: Version<S>,
    kind: Kind<S>,
    map: F,
}

macro_rules! stored_maps {
    ($($map:ident),*) => {
        $(impl<T: Real> Stored for $map<T> {
            type Document = MapForm<Self, <Self as Saved<T>>::Form>;
            fn document_kind() -> String {
                kind_in::<T>(&Self::kind())
            }
            fn to_document(&self) -> Self::Document {
                let (format_version, kind) = header();
                MapForm { format_version, kind, map: self.to_form() }
            }
            fn from_document(form: Self::Document) -> Result<Self> {
                Self::from_form(form.map)
            }
        }

        stored!([T: Real] $map<T>);)*
    };
}
stored_maps!(Linear, Mlp);

/// Serialisable form of probabilistic PCA as a part of another result.
#[derive(Serialize, Deserialize)]
pub struct PpcaForm<T> {
    decoder: LinearForm<T>,
    likelihood: IsotropicNoiseForm<T>,
}

impl<T: Real> PpcaForm<T> {
    fn of(model: &Ppca<T>) -> Self {
        Self { decoder: model.decoder().to_form(), likelihood: model.likelihood().to_form() }
    }

    fn into_model(self) -> Result<Ppca<T>> {
        let decoder = Linear::from_form(self.decoder)?;
        Model::new(decoder, IsotropicGaussian::from_form(self.likelihood)?, Exact)
    }
}

/// Serialisable form of a mixture: the weight and the parameters of each component.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct MixtureForm<T: Real> {
    format_version: Version<MixtureOfPpca<T>>,
    kind: Kind<MixtureOfPpca<T>>,
    weights: Vec<T>,
    components: Vec<PpcaForm<T>>,
}

impl<T: Real> Stored for MixtureOfPpca<T> {
    type Document = MixtureForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("mixture of ppca")
    }
    fn to_document(&self) -> MixtureForm<T> {
        let (format_version, kind) = header();
        MixtureForm {
            format_version,
            kind,
            weights: self.weights().iter().copied().collect(),
            components: self.components().iter().map(PpcaForm::of).collect(),
        }
    }
    fn from_document(form: MixtureForm<T>) -> Result<Self> {
        let components = form.components.into_iter().map(PpcaForm::into_model);
        let components = components.collect::<Result<Vec<_>>>()?;
        Self::from_components(DVector::from_vec(form.weights), components)
    }
}

stored!([T: Real] MixtureOfPpca<T>);

/// Serialisable form of the posterior of Bayesian PCA as a part of another result.
#[derive(Serialize, Deserialize)]
pub struct RelevanceForm {
    noise_variance: f64,
    precisions: Vec<f64>,
    loading_norms: Vec<f64>,
    bound: f64,
}

impl RelevanceForm {
    fn of(posterior: &ArdPosterior) -> Self {
        let ArdPosterior { noise_variance, bound, .. } = *posterior;
        let (precisions, loading_norms) =
            (posterior.precisions.clone(), posterior.loading_norms.clone());
        Self { noise_variance, precisions, loading_norms, bound }
    }

    fn into_posterior(self) -> Result<ArdPosterior> {
        let Self { noise_variance, precisions, loading_norms, bound } = self;
        let kept = precisions.len();
        expect("norms of the saved loadings", kept, loading_norms.len())?;
        check_all("the saved noise variance", &[noise_variance], Sign::Positive)?;
        check_all("a saved precision", &precisions, Sign::Positive)?;
        check_all("a norm of the saved loadings", &loading_norms, Sign::NotNegative)?;
        check_all("the saved bound", &[bound], Sign::Any)?;
        Ok(ArdPosterior { noise_variance, precisions, loading_norms, bound })
    }
}

/// Serialisable form of the posterior of Bayesian PCA.
#[derive(Serialize, Deserialize)]
pub struct ArdForm {
    format_version: Version<ArdPosterior>,
    kind: Kind<ArdPosterior>,
    relevance: RelevanceForm,
}

impl Stored for ArdPosterior {
    type Document = ArdForm;
    fn document_kind() -> String {
        kind_in::<f64>("ard posterior")
    }
    fn to_document(&self) -> ArdForm {
        let (format_version, kind) = header();
        ArdForm { format_version, kind, relevance: RelevanceForm::of(self) }
    }
    fn from_document(form: ArdForm) -> Result<Self> {
        form.relevance.into_posterior()
    }
}

stored!([] ArdPosterior);

/// Serialisable form of Bayesian PCA: the model and the posterior.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct BayesianForm<T: Real> {
    format_version: Version<BayesianPpca<T>>,
    kind: Kind<BayesianPpca<T>>,
    model: PpcaForm<T>,
    relevance: RelevanceForm,
}

impl<T: Real> Stored for BayesianPpca<T> {
    type Document = BayesianForm<T>;
    fn document_kind() -> String {
        kind_in::<T>("bayesian ppca")
    }
    fn to_document(&self) -> BayesianForm<T> {
        let (format_version, kind) = header();
        let (model, relevance) = (PpcaForm::of(&self.model), RelevanceForm::of(&self.relevance));
        BayesianForm { format_version, kind, model, relevance }
    }
    fn from_document(form: BayesianForm<T>) -> Result<Self> {
        let (model, relevance) = (form.model.into_model()?, form.relevance.into_posterior()?);
        expect("saved precisions", model.latent_dim(), relevance.precisions.len())?;
        Ok(Self { model, relevance })
    }
}

stored!([T: Real] BayesianPpca<T>);

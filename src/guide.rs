//! The guide: recipes, a dictionary for users of scikit-learn, a chapter for each step of the
//! progression, the design and its reasons, measurements, and a comparison with other libraries.
//!
//! These pages are the files of `docs/` in the repository. They are part of the documentation only:
//! the compiled library does not contain this module.

// A reference definition before the text of a file takes precedence over the one in the file: links
// between the files lead to modules here, and to files where the files themselves are read.

/// Defines a module that contains a file of the repository as its documentation.
macro_rules! page {
    ($name:ident, $file:literal) => {
        #[doc = "[cookbook]: crate::guide::cookbook"]
        #[doc = "[dictionary]: crate::guide::for_scikit_learn_users"]
        #[doc = "[comparison]: crate::guide::comparison"]
        #[doc = "[design]: crate::guide::design"]
        #[doc = "[performance]: crate::guide::performance"]
        #[doc = "[steps]: crate::guide::steps"]
        #[doc = "[step 1]: crate::guide::step_1_linear_autoencoder"]
        #[doc = "[step 2]: crate::guide::step_2_probabilistic_pca"]
        #[doc = "[step 3]: crate::guide::step_3_variational_em"]
        #[doc = "[step 4]: crate::guide::step_4_amortized_inference"]
        #[doc = "[step 5]: crate::guide::step_5_deep_encoder"]
        #[doc = "[step 6]: crate::guide::step_6_variational_autoencoder"]
        #[doc = "[the likelihood swapped]: crate::guide::likelihoods"]
        #[doc = ""]
        #[doc = include_str!(concat!("../", $file))]
        pub mod $name {}
    };
}

page!(cookbook, "docs/cookbook.md");
page!(for_scikit_learn_users, "docs/for_scikit_learn_users.md");
page!(comparison, "COMPARE.md");
page!(steps, "docs/steps/README.md");
page!(step_1_linear_autoencoder, "docs/steps/1_linear_autoencoder.md");
page!(step_2_probabilistic_pca, "docs/steps/2_probabilistic_pca.md");
page!(step_3_variational_em, "docs/steps/3_variational_em.md");
page!(step_4_amortized_inference, "docs/steps/4_amortized_inference.md");
page!(step_5_deep_encoder, "docs/steps/5_deep_encoder.md");
page!(step_6_variational_autoencoder, "docs/steps/6_variational_autoencoder.md");
page!(likelihoods, "docs/steps/likelihoods.md");
page!(design, "docs/design.md");
page!(performance, "docs/performance.md");

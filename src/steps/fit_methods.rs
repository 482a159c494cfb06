//! The `fit` methods that every builder has, written once.

/// Implements `fit` and `fit_with_observer` of a builder by its [`FitData`](crate::fit::FitData).
macro_rules! fit_methods {
    ([$($generics:tt)*] $scalar:ty, $builder:ty => $model:ty) => {
        impl<$($generics)*> $builder {
            /// Fits the model to data of any [form](crate::data::Data) that it can serve.
            ///
            /// A closed form draws nothing from the generator.
            ///
            /// # Errors
            /// Those of the data's constructor; [`Error::LatentDim`](crate::Error::LatentDim) for a
            /// k that the data cannot determine;
            /// [`Error::ZeroVariance`](crate::Error::ZeroVariance) for constant data;
            /// [`Error::TooFewObservations`](crate::Error::TooFewObservations);
            /// [`Error::Unbounded`](crate::Error::Unbounded),
            /// [`Error::TooFewEntries`](crate::Error::TooFewEntries) and
            /// [`Error::NoiseVanished`](crate::Error::NoiseVanished) where the likelihood has no
            /// maximum; [`Error::Underflow`](crate::Error::Underflow);
            /// [`Error::InvalidWeight`](crate::Error::InvalidWeight);
            /// [`Error::InvalidParameter`](crate::Error::InvalidParameter) for a setting outside
            /// its range. A fit that does not converge is not an error: see
            /// [`Fitted::stop`](crate::fit::Fitted::stop).
            pub fn fit<X, R>(&self, x: X, rng: &mut R) -> crate::Result<crate::fit::Fitted<$model>>
            where
                X: crate::data::Data<$scalar>,
                Self: crate::fit::FitData<X::Form, Model = $model>,
                R: rand::Rng + ?Sized,
            {
                self.fit_with_observer(x, rng, &mut ())
            }

            /// [`Self::fit`] with an observer, which is called after each iteration and can stop
            /// the fit.
            ///
            /// # Errors
            /// As [`Self::fit`].
            pub fn fit_with_observer<X, R>(
                &self,
                x: X,
                mut rng: &mut R,
                observer: &mut dyn crate::fit::Observer,
            ) -> crate::Result<crate::fit::Fitted<$model>>
            where
                X: crate::data::Data<$scalar>,
                Self: crate::fit::FitData<X::Form, Model = $model>,
                R: rand::Rng + ?Sized,
            {
                crate::fit::FitData::fit_form(self, x.into_form()?, &mut rng, observer)
            }
        }
    };
}
pub(crate) use fit_methods;

/// `Model::fit(k, &x)` of a model with a deterministic default fit, and its builder.
macro_rules! deterministic_fit {
    ($(#[$note:meta])* $model:ident, $builder:ident) => {
        impl<T: crate::Real> $model<T> {
            $(#[$note])*
            ///
            /// # Errors
            #[doc = concat!("Those of [`", stringify!($builder), "::fit`].")]
            pub fn fit<X>(latent_dim: usize, x: X) -> crate::Result<crate::fit::Fitted<Self>>
            where
                X: crate::data::Data<T>,
                $builder<T>: crate::fit::Deterministic<X::Form>
                    + crate::fit::FitData<X::Form, Model = Self>,
            {
                let rng = &mut crate::fit::unused_generator();
                let data = x.into_form()?;
                crate::fit::FitData::fit_form(&Self::builder(latent_dim), data, rng, &mut ())
            }
        }
    };
}
pub(crate) use deterministic_fit;

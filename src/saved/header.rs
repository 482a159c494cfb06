//! The header of everything that is saved: the format version, then the kind.

use super::FORMAT_VERSION;
use crate::{Error, Real, Result};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;

/// A fitted result that is saved as a whole, after a header.
pub trait Stored: Sized {
    /// The serialisable type, which begins with a [`Version`] and a [`Kind`].
    // The order of the fields is the order in the output: version and kind come first, so that
    // they are checked first. If a tool has reordered them, loading still fails for another version
    // or kind, with a less specific error.
    type Document: Serialize + DeserializeOwned;

    /// The earliest format version that has this document.
    const SINCE: u32 = 1;

    /// Returns the kind: the scalar, and what distinguishes the document from others.
    fn document_kind() -> String;

    /// Converts to the document.
    fn to_document(&self) -> Self::Document;

    /// Converts the document back, and validates it.
    fn from_document(document: Self::Document) -> Result<Self>;

    /// Checks the version of a header.
    fn check_version(found: u32) -> Result<()> {
        if (Self::SINCE..=FORMAT_VERSION).contains(&found) {
            return Ok(());
        }
        Err(Error::FormatVersion { found, known: FORMAT_VERSION })
    }

    /// Checks the kind of a header.
    fn check_kind(found: String) -> Result<()> {
        let wanted = Self::document_kind();
        if found == wanted { Ok(()) } else { Err(Error::KindMismatch { found, wanted }) }
    }
}

/// A kind: the scalar, and a name. The scalar is part of it, so that a model saved in `f64` is not
/// rounded to `f32` silently.
pub fn kind_in<T: Real>(name: &str) -> String {
    format!("f{}: {name}", 8 * size_of::<T>())
}

/// The format version of an `S`; deserialisation fails for one that is not read.
pub struct Version<S>(PhantomData<fn() -> S>);

/// The kind of an `S`; deserialisation fails for any other.
// The format is self-describing by this text alone: serde does not check types by name.
pub struct Kind<S>(PhantomData<fn() -> S>);

/// The header of an `S`, to be written.
pub fn header<S>() -> (Version<S>, Kind<S>) {
    (Version(PhantomData), Kind(PhantomData))
}

impl<S> Serialize for Version<S> {
    fn serialize<O: Serializer>(&self, serializer: O) -> Result<O::Ok, O::Error> {
        serializer.serialize_u32(FORMAT_VERSION)
    }
}

impl<'de, S: Stored> Deserialize<'de> for Version<S> {
    fn deserialize<I: Deserializer<'de>>(deserializer: I) -> Result<Self, I::Error> {
        // The error type is the format's own: the message is that of the error of this crate.
        S::check_version(u32::deserialize(deserializer)?).map_err(I::Error::custom)?;
        Ok(Self(PhantomData))
    }
}

impl<S: Stored> Serialize for Kind<S> {
    fn serialize<O: Serializer>(&self, serializer: O) -> Result<O::Ok, O::Error> {
        serializer.serialize_str(&S::document_kind())
    }
}

impl<'de, S: Stored> Deserialize<'de> for Kind<S> {
    fn deserialize<I: Deserializer<'de>>(deserializer: I) -> Result<Self, I::Error> {
        S::check_kind(String::deserialize(deserializer)?).map_err(I::Error::custom)?;
        Ok(Self(PhantomData))
    }
}

/// Implements serde's traits, and with the feature `save` the methods of files, for a [`Stored`]
/// type.
macro_rules! stored {
    ([$($generics:tt)*] $type:ty $(where { $($bounds:tt)* })?) => {
        impl<$($generics)*> serde::Serialize for $type $(where $($bounds)*)? {
            fn serialize<Out>(&self, serializer: Out) -> Result<Out::Ok, Out::Error>
            where
                Out: serde::Serializer,
            {
                let document = $crate::saved::header::Stored::to_document(self);
                serde::Serialize::serialize(&document, serializer)
            }
        }

        impl<'de, $($generics)*> serde::Deserialize<'de> for $type $(where $($bounds)*)? {
            fn deserialize<In>(deserializer: In) -> Result<Self, In::Error>
            where
                In: serde::Deserializer<'de>,
            {
                let document = serde::Deserialize::deserialize(deserializer)?;
                <Self as $crate::saved::header::Stored>::from_document(document)
                    .map_err(<In::Error as serde::de::Error>::custom)
            }
        }

        #[cfg(feature = "save")]
        impl<$($generics)*> $type $(where $($bounds)*)? {
            /// Writes a JSON file, from which [`load`](Self::load) returns a bit-identical value.
            ///
            /// The file appears as a whole or not at all: it is written beside `path`, synced to
            /// the disk, and then takes the place of an earlier file of this name. See
            /// [`saved`](crate::saved) for the format.
            ///
            /// # Errors
            /// [`Error::SavedFile`](crate::Error::SavedFile) where the file cannot be written, with
            /// an earlier file unchanged; those of `load` for a value that could not be loaded,
            /// such as one with parameters that are not finite.
            pub fn save(&self, path: impl AsRef<std::path::Path>) -> $crate::Result<()> {
                $crate::saved::file::save(self, path.as_ref())
            }

            /// Reads a file that [`save`](Self::save) has written.
            ///
            /// # Errors
            /// [`Error::SavedFile`](crate::Error::SavedFile) with the path: where the file cannot
            /// be read, is truncated, is of another kind or format version, or has sizes or numbers
            /// that do not fit.
            pub fn load(path: impl AsRef<std::path::Path>) -> $crate::Result<Self> {
                $crate::saved::file::load(path.as_ref())
            }
        }
    };
}
pub(crate) use stored;

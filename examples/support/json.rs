//! JSON with fields in a given order, and null for numbers that are not finite.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Number(f64),
    Integer(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) if number.is_finite() => serializer.serialize_f64(*number),
            Self::Null | Self::Number(_) => serializer.serialize_unit(),
            Self::Integer(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(values) => values.serialize(serializer),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Integer(number)
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self::Integer(number as u64)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<V: Into<Json>> From<Option<V>> for Json {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<V: Into<Json>> From<Vec<V>> for Json {
    fn from(values: Vec<V>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Json {
    /// The value as indented JSON text, with a line end.
    pub fn text(&self) -> String {
        // Serialisation cannot fail: all keys are strings.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Writes the text to a new file, which replaces an old one only when it is complete.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        // Devices, pipes and links are written to.
        if std::fs::symlink_metadata(path).is_ok_and(|old| !old.is_file()) {
            return std::fs::write(path, self.text());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let written = File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(self.text().as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

//! Files of checkpoints: arrays and metadata in the safetensors format.

use super::file::{SavedFileError, replace};
use super::safetensors::{bytes, dtype, malformed, numbers};
use crate::fit::{Checkpoint, Origin, Progress};
use crate::{Real, Result};
use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, SafeTensors, serialize};
use std::path::Path;

/// The version of the format.
const VERSION: &str = "elbo checkpoint 1";

/// The names of the parameters in the file.
const PARAMETERS: [&str; 4] = ["parameters", "initial", "good", "best"];
const MOMENTS: [&str; 2] = ["first_moments", "second_moments"];

impl<T: Real> Checkpoint<T> {
    /// Writes the checkpoint to a file (safetensors; feature `safetensors`). The file appears as a
    /// whole or not at all: an earlier checkpoint of this name stays until the new one is on the
    /// disk.
    ///
    /// # Errors
    /// [`Error::SavedFile`](crate::Error::SavedFile) where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let counts: Vec<u8> = self.order.iter().flat_map(|&i| (i as u64).to_le_bytes()).collect();
        let mut arrays: Vec<(&str, Dtype, usize, Vec<u8>)> = Vec::new();
        for (name, values) in PARAMETERS.iter().zip(&self.parameters) {
            arrays.push((name, dtype::<T>(), values.len(), bytes(values)));
        }
        for (name, values) in MOMENTS.iter().zip(&self.moments) {
            arrays.push((name, dtype::<T>(), values.len(), bytes(values)));
        }
        let Progress {
            epoch,
            seed,
            noise_seed,
            rate_factor,
            rejected,
            start,
            best,
            best_on_training,
            since_best,
            cuts,
        } = self.progress;
        let mut figures = vec![rate_factor, start, best, best_on_training];
        figures.extend(self.powers.iter().flatten());
        for (name, values) in
            [("values", &self.values), ("held_out", &self.held_out), ("figures", &figures)]
        {
            arrays.push((name, Dtype::F64, values.len(), bytes(values)));
        }
        arrays.push(("order", Dtype::U64, self.order.len(), counts));
        let mut metadata = vec![
            ("format".to_owned(), VERSION.to_owned()),
            ("settings".to_owned(), self.origin.settings.clone()),
            ("label".to_owned(), self.origin.label.clone()),
            ("data".to_owned(), self.origin.data.clone()),
        ];
        for (name, count) in [
            ("epoch", epoch as u64),
            ("seed", seed),
            ("noise_seed", noise_seed),
            ("rejected", rejected as u64),
            ("since_best", since_best as u64),
            ("cuts", cuts as u64),
        ] {
            metadata.push((name.to_owned(), count.to_string()));
        }
        let views = arrays.iter().map(|(name, dtype, len, content)| {
            Ok((*name, TensorView::new(*dtype, vec![*len], content)?))
        });
        let content = views
            .collect::<std::result::Result<Vec<_>, ::safetensors::SafeTensorError>>()
            .and_then(|views| serialize(views, Some(metadata.into_iter().collect())))
            .map_err(|error| malformed(error.to_string()).at(path))?;
        replace(path, |out| out.write_all(&content)).map_err(|problem| problem.at(path))
    }

    /// Reads a checkpoint from a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::SavedFile`](crate::Error::SavedFile) for a file that cannot be read, is truncated, is no checkpoint, or is one
    /// of another version or precision.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let content = std::fs::read(path)
            .map_err(|error| SavedFileError::Unreadable { kind: error.kind() }.at(path))?;
        read(&content).map_err(|problem| problem.at(path))
    }
}

fn read<T: Real>(content: &[u8]) -> Result<Checkpoint<T>, SavedFileError> {
    let wrong = |error: ::safetensors::SafeTensorError| malformed(error.to_string());
    let file = SafeTensors::deserialize(content).map_err(wrong)?;
    let (_, header) = SafeTensors::read_metadata(content).map_err(wrong)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let text = |name: &str| {
        metadata.get(name).cloned().ok_or_else(|| malformed(format!("no entry {name:?}")))
    };
    let format = text("format")?;
    if format != VERSION {
        return Err(malformed(format!("the format is {format:?}, and known is {VERSION:?}")));
    }
    let count = |name: &str| -> Result<u64, SavedFileError> {
        text(name)?.parse().map_err(|_| malformed(format!("the entry {name:?} is no count")))
    };
    let tensor = |name: &str, dtype: Dtype| {
        let tensor = file.tensor(name).map_err(wrong)?;
        if tensor.dtype() != dtype {
            let found = tensor.dtype();
            return Err(malformed(format!("{name:?} is of type {found:?}, not {dtype:?}")));
        }
        Ok(tensor)
    };
    let wide = |name: &str| numbers::<f64>(&tensor(name, Dtype::F64)?);
    let own = |name: &str| numbers::<T>(&tensor(name, dtype::<T>())?);
    let figures = wide("figures")?;
    let [rate_factor, start, best, best_on_training, powers @ ..] = figures.as_slice() else {
        return Err(malformed("too few figures".into()));
    };
    if powers.len() != 8 {
        return Err(malformed(format!("{} powers of the optimiser, not 8", powers.len())));
    }
    let order = tensor("order", Dtype::U64)?;
    let (order, _) = order.data().as_chunks::<8>();
    let order: Vec<usize> = order.iter().map(|b| u64::from_le_bytes(*b) as usize).collect();
    // A permutation: an index out of range would end a fit in an error later on.
    let mut seen = vec![false; order.len()];
    for &i in &order {
        if i >= seen.len() || std::mem::replace(&mut seen[i], true) {
            return Err(malformed(format!("the order of the observations contains {i}")));
        }
    }
    Ok(Checkpoint {
        parameters: [
            own(PARAMETERS[0])?,
            own(PARAMETERS[1])?,
            own(PARAMETERS[2])?,
            own(PARAMETERS[3])?,
        ],
        moments: [own(MOMENTS[0])?, own(MOMENTS[1])?],
        powers: std::array::from_fn(|i| [powers[2 * i], powers[2 * i + 1]]),
        order,
        progress: Progress {
            epoch: count("epoch")? as usize,
            seed: count("seed")?,
            noise_seed: count("noise_seed")?,
            rate_factor: *rate_factor,
            rejected: count("rejected")? as usize,
            start: *start,
            best: *best,
            best_on_training: *best_on_training,
            since_best: count("since_best")? as usize,
            cuts: count("cuts")? as usize,
        },
        values: wide("values")?,
        held_out: wide("held_out")?,
        origin: Origin { settings: text("settings")?, label: text("label")?, data: text("data")? },
    })
}

//! Weights of networks in safetensors files, the format of PyTorch and JAX (feature
//! `safetensors`).

use super::file::{SavedFileError, replace};
use crate::map::{Activation, DifferentiableMap, Mlp};
use crate::{Error, Real, Result};
use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, SafeTensors, serialize};
use nalgebra::{DMatrix, DVector};
use std::collections::BTreeMap;
use std::path::Path;

/// The weights (out×in) and the bias of an affine layer.
type Layer<T> = (DMatrix<T>, DVector<T>);

impl<T: Real> Mlp<T> {
    /// Writes the weights to a safetensors file, with the names and the orientation of a PyTorch
    /// `nn.Sequential` of `nn.Linear` and activations: `0.weight` (out×in, by rows), `0.bias`,
    /// `2.weight`, …, each after `prefix`.
    ///
    /// The activations are no part of the file. Fixed layers of standardisation and scale become
    /// part of the first and the last layer, so that the other program computes the same map up to
    /// rounding; without them the numbers are bit-identical. The file appears as a whole or not at
    /// all.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a skip connection, for inputs that may be missing, and for an
    /// output scale behind an activation: a sequence of affine layers has none of them. [`Error::SavedFile`] where the file cannot be
    /// written, and for weights that are not finite.
    ///
    /// ```
    /// use elbo::map::{Activation, Mlp};
    /// use rand::{SeedableRng, rngs::StdRng};
    /// let map = Mlp::<f32>::builder(3, 2).hidden(&[4]).build(&mut StdRng::seed_from_u64(1))?;
    /// let path = std::env::temp_dir().join(format!("elbo-{}.safetensors", std::process::id()));
    /// map.save_safetensors(&path, "decoder.")?; // "decoder.0.weight", "decoder.0.bias", …
    /// let (tanh, none) = (Activation::Tanh, Activation::Identity);
    /// assert_eq!(Mlp::load_safetensors(&path, "decoder.", tanh, none)?, map);
    /// # std::fs::remove_file(&path).ok();
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn save_safetensors(&self, path: impl AsRef<Path>, prefix: &str) -> Result<()> {
        let path = path.as_ref();
        let layers = self.affine_layers()?;
        if let Some(value) =
            layers.iter().flat_map(|(w, b)| w.iter().chain(b)).find(|v| !v.is_finite())
        {
            let (value, must) = (value.as_f64(), "finite");
            let refused = Error::InvalidParameter { name: "a weight of the network", value, must };
            return Err(SavedFileError::Rejected(refused).at(path));
        }
        let mut tensors = Vec::with_capacity(2 * layers.len());
        for (i, (weights, bias)) in layers.iter().enumerate() {
            // An activation is one place in the sequence as well. Columns of the transpose are rows.
            let name = |part| format!("{prefix}{}.{part}", 2 * i);
            let rows = weights.transpose();
            tensors.push((name("weight"), vec![weights.nrows(), weights.ncols()], bytes(&rows)));
            tensors.push((name("bias"), vec![bias.len()], bytes(bias)));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(dtype::<T>(), shape.clone(), bytes)?))
        });
        let content =
            views.collect::<std::result::Result<Vec<_>, ::safetensors::SafeTensorError>>();
        let content = content.and_then(|views| serialize(views, None));
        let content = content.map_err(|error| malformed(error.to_string()).at(path))?;
        replace(path, |out| out.write_all(&content)).map_err(|problem| problem.at(path))
    }

    /// Reads a network from a safetensors file: all tensors whose names begin with `prefix`, which
    /// are `N.weight` (out×in) and `N.bias` for increasing N, as `torch.save` of an `nn.Sequential`
    /// names them. Numbers between that are left out are those of the activations.
    ///
    /// The file does not contain the activations: `activation` follows each hidden layer, and
    /// `output_activation` the last one. [`Activation::Gelu`] is `nn.GELU(approximate="tanh")`; the
    /// others are those of PyTorch with its default arguments.
    ///
    /// # Errors
    /// [`Error::SavedFile`] where the file cannot be read, is no safetensors file, has other tensors
    /// under the prefix, sizes that do not fit each other, or numbers that are not finite or of
    /// another precision than `T` (`F32` is read as `f64` as well).
    pub fn load_safetensors(
        path: impl AsRef<Path>,
        prefix: &str,
        activation: Activation,
        output_activation: Activation,
    ) -> Result<Self> {
        let path = path.as_ref();
        let read = || {
            let content = std::fs::read(path)
                .map_err(|error| SavedFileError::Unreadable { kind: error.kind() })?;
            let layers = read_layers(&content, prefix)?;
            Self::from_layers(layers, activation, output_activation)
                .map_err(SavedFileError::Rejected)
        };
        read().map_err(|problem| problem.at(path))
    }

    /// The weights and biases of affine layers that compute the same map with the fixed layers as
    /// a part of them.
    fn affine_layers(&self) -> Result<Vec<Layer<T>>> {
        let unsupported = |what| Error::Unsupported { what, must: "a sequence of affine layers" };
        if self.reads_missing() {
            return Err(unsupported("an input that may be missing in a safetensors file"));
        }
        if self.skip_connection().is_some() {
            return Err(unsupported("a skip connection in a safetensors file"));
        }
        let layer = |i| {
            let (weights, bias) = self.layer(i);
            (weights.into_owned(), bias.into_owned())
        };
        let mut layers: Vec<_> = (0..self.layers()).map(layer).collect();
        if let (Some((mean, deviation)), Some((weights, bias))) =
            (self.input_standardization(), layers.first_mut())
        {
            for (mut column, &s) in weights.column_iter_mut().zip(deviation) {
                // A constant variable is 0 behind the fixed layer, whatever its value is.
                if s > T::zero() { column /= s } else { column.fill(T::zero()) }
            }
            *bias -= &*weights * mean;
        }
        if let (Some((mean, deviation)), Some((weights, bias))) =
            (self.output_scale(), layers.last_mut())
        {
            if self.output_activation() != Activation::Identity {
                return Err(unsupported(
                    "an output scale behind an activation in a safetensors file",
                ));
            }
            for (mut row, &s) in weights.row_iter_mut().zip(deviation) {
                row *= s;
            }
            *bias = mean + bias.component_mul(deviation);
        }
        Ok(layers)
    }
}

/// The layers of a file, by increasing number.
fn read_layers<T: Real>(content: &[u8], prefix: &str) -> Result<Vec<Layer<T>>, SavedFileError> {
    let file = SafeTensors::deserialize(content).map_err(|error| malformed(error.to_string()))?;
    // For each number the weights and the bias.
    let mut layers: BTreeMap<u64, [Option<TensorView<'_>>; 2]> = BTreeMap::new();
    // By name: the crate keeps them in a hash map, and which fault is reported must not change.
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_unstable_by_key(|(name, _)| *name);
    for &(name, ref tensor) in &tensors {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let part = match rest.split_once('.') {
            Some((number, "weight")) => number.parse().ok().map(|number| (number, 0)),
            Some((number, "bias")) => number.parse().ok().map(|number| (number, 1)),
            _ => None,
        };
        let (number, part) = part.ok_or_else(|| {
            malformed(format!("tensor `{name}`, expected `{prefix}N.weight` or `{prefix}N.bias`"))
        })?;
        if layers.entry(number).or_default()[part].replace(tensor.clone()).is_some() {
            return Err(malformed(format!("two tensors for `{prefix}{number}`")));
        }
    }
    if layers.is_empty() {
        let more = tensors.len().saturating_sub(4);
        let first = tensors.iter().take(4).map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>();
        let first = first.join(", ");
        return Err(malformed(format!(
            "no tensor `{prefix}N.weight`; the file has {first} and {more} more"
        )));
    }
    let layer = |(number, [weights, bias]): (u64, [Option<TensorView<'_>>; 2])| {
        let missing = |part| malformed(format!("the tensor `{prefix}{number}.{part}` is missing"));
        let (weights, bias) =
            (weights.ok_or_else(|| missing("weight"))?, bias.ok_or_else(|| missing("bias"))?);
        let &[rows, columns] = weights.shape() else {
            return Err(dimensions(prefix, number, "weight", 2, weights.shape()));
        };
        let &[_] = bias.shape() else {
            return Err(dimensions(prefix, number, "bias", 1, bias.shape()));
        };
        // The values were read, so that the sizes are no larger than the file.
        let weights = DMatrix::from_row_slice(rows, columns, &numbers::<T>(&weights)?);
        Ok((weights, DVector::from_vec(numbers::<T>(&bias)?)))
    };
    layers.into_iter().map(layer).collect()
}

pub(super) fn malformed(message: String) -> SavedFileError {
    SavedFileError::Malformed { message }
}

fn dimensions(
    prefix: &str,
    number: u64,
    part: &str,
    expected: usize,
    shape: &[usize],
) -> SavedFileError {
    malformed(format!(
        "the tensor `{prefix}{number}.{part}` has the shape {shape:?}, expected {expected} dimensions"
    ))
}

pub(super) fn dtype<T: Real>() -> Dtype {
    if size_of::<T>() == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// The bytes of the entries by columns, little-endian.
pub(super) fn bytes<'m, T: Real>(entries: impl IntoIterator<Item = &'m T>) -> Vec<u8> {
    let entries = entries.into_iter();
    match dtype::<T>() {
        // Exact: the number is one of `f32`.
        Dtype::F32 => entries.flat_map(|v| (v.as_f64() as f32).to_le_bytes()).collect(),
        _ => entries.flat_map(|v| v.as_f64().to_le_bytes()).collect(),
    }
}

/// The numbers of a tensor, in a precision that `T` holds exactly.
pub(super) fn numbers<T: Real>(tensor: &TensorView<'_>) -> Result<Vec<T>, SavedFileError> {
    let data = tensor.data();
    match (tensor.dtype(), dtype::<T>()) {
        (Dtype::F32, _) => {
            let chunks = data.as_chunks::<4>().0.iter();
            Ok(chunks.map(|bytes| T::of(f64::from(f32::from_le_bytes(*bytes)))).collect())
        }
        (Dtype::F64, Dtype::F64) => Ok(data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| T::of(f64::from_le_bytes(*bytes)))
            .collect()),
        (found, wanted) => Err(malformed(format!(
            "the weights are {found}, and not {wanted}: convert them before they are written"
        ))),
    }
}

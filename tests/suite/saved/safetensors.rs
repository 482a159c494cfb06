//! Weights of networks in safetensors files: a file that another program has written, ours read
//! again, and forged ones.

use super::files::{Directory, problem};
use elbo::map::{Activation, DifferentiableMap, Mlp};
use elbo::saved::SavedFileError;
use elbo::{Error, Real, Result};
use nalgebra::{DMatrix, DVector, dvector};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Written by `tests/reference/safetensors/mlp.py`.
const FILE: &[u8] = include_bytes!("../../reference/safetensors/mlp.safetensors");

fn read<T: Real>(path: &Path, prefix: &str) -> Result<Mlp<T>> {
    Mlp::load_safetensors(path, prefix, Activation::Tanh, Activation::Identity)
}

/// The matrix of a list of rows, transposed: an observation is a column here.
fn columns(value: &Value) -> DMatrix<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    DMatrix::from_fn(rows[0].len(), rows.len(), |j, i| rows[i][j])
}

#[test]
fn a_network_of_another_program_computes_what_it_did_there() {
    let directory = Directory::new("safetensors-foreign");
    let path = directory.file("mlp.safetensors");
    fs::write(&path, FILE).unwrap();
    let expected: Value =
        serde_json::from_str(include_str!("../../reference/safetensors/mlp.json")).unwrap();
    let (x, y) = (columns(&expected["inputs"]), columns(&expected["outputs"]));
    let map = read::<f64>(&path, "decoder.").unwrap();
    assert_eq!(map.sizes(), [3, 4, 2]);
    assert!((map.apply(x.as_view()) - &y).amax() < 1e-14);
    let single = read::<f32>(&path, "decoder.").unwrap();
    let outputs = single.apply(x.map(|v| v as f32).as_view()).map(f64::from);
    assert!((outputs - y).amax() < 1e-6);
}

fn network<T: Real>(sizes: &[usize]) -> Mlp<T> {
    let builder = Mlp::builder(sizes[0], sizes[sizes.len() - 1]);
    builder.hidden(&sizes[1..sizes.len() - 1]).build(&mut StdRng::seed_from_u64(5)).unwrap()
}

fn comes_back<T: Real>() {
    let directory = Directory::new(&format!("safetensors-own-{}", size_of::<T>()));
    let path = directory.file("own.safetensors");
    // With eleven layers: 10 comes after 9, and not after 1.
    for sizes in [&[3, 2][..], &[3, 4, 2], &[2; 12], &[1, 5, 1]] {
        let map = network::<T>(sizes);
        for prefix in ["", "encoder."] {
            map.save_safetensors(&path, prefix).unwrap();
            assert_eq!(read::<T>(&path, prefix).unwrap(), map);
        }
    }
    assert_eq!(directory.names(), ["own.safetensors"]);
}

#[test]
fn own_networks_come_back_bit_identical() {
    comes_back::<f32>();
    comes_back::<f64>();
}

#[test]
fn fixed_layers_become_a_part_of_the_affine_ones() {
    let directory = Directory::new("safetensors-fixed");
    let path = directory.file("fixed.safetensors");
    let map = network::<f64>(&[3, 4, 2])
        .with_input_standardization(dvector![10.0, -2.0, 7.0], dvector![0.5, 0.0, 3.0])
        .unwrap()
        .with_output_scale(dvector![1.0, 5.0], dvector![4.0, 0.0])
        .unwrap();
    map.save_safetensors(&path, "").unwrap();
    let plain = read::<f64>(&path, "").unwrap();
    assert!(plain.input_standardization().is_none() && plain.output_scale().is_none());
    let x = DMatrix::from_fn(3, 6, |j, i| (i * 3 + j) as f64 - 4.0);
    assert!((plain.apply(x.as_view()) - map.apply(x.as_view())).amax() < 1e-13);
}

#[test]
fn what_no_sequence_of_affine_layers_has_is_refused() {
    let directory = Directory::new("safetensors-unsupported");
    let path = directory.file("map.safetensors");
    let skip = network::<f64>(&[3, 4, 2]).with_skip_connection().unwrap();
    let refused = skip.save_safetensors(&path, "").unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    let behind = Mlp::<f64>::builder(2, 1)
        .output_activation(Activation::Relu)
        .output_scale(DVector::zeros(1), DVector::from_element(1, 2.0));
    let refused = behind.build(&mut StdRng::seed_from_u64(1)).unwrap();
    let refused = refused.save_safetensors(&path, "").unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert!(directory.names().is_empty());
    let missing = directory.file("missing");
    let refused = problem(read::<f64>(&missing, ""), &missing);
    assert_eq!(refused, SavedFileError::Unreadable { kind: std::io::ErrorKind::NotFound });
}

/// The file with another header.
fn with_header(change: impl Fn(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(FILE[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&FILE[8..8 + length]).unwrap();
    change(&mut header);
    let text = header.to_string();
    let length = (text.len() as u64).to_le_bytes();
    [&length[..], text.as_bytes(), &FILE[8 + FILE_HEADER..]].concat()
}

/// The bytes of the header of the file.
const FILE_HEADER: usize = FILE[0] as usize + 256 * FILE[1] as usize;

#[test]
fn forged_and_foreign_files_are_refused() {
    let directory = Directory::new("safetensors-forged");
    let path = directory.file("forged.safetensors");
    let said = |content: &[u8], prefix: &str| {
        fs::write(&path, content).unwrap();
        problem(read::<f64>(&path, prefix), &path).to_string()
    };
    for length in 0..FILE.len() {
        said(&FILE[..length], "decoder.");
    }
    // A header of 2⁶⁴ − 1 bytes.
    said(&[&[0xff; 8][..], &FILE[8..]].concat(), "decoder.");
    let rename = |from: &'static str, to: &'static str| {
        with_header(|header| {
            let tensor = header[from].take();
            header.as_object_mut().unwrap().remove(from);
            header[to] = tensor;
        })
    };
    for (content, prefix, expected) in [
        (FILE.to_vec(), "", "tensor `decoder.0.bias`, expected `N.weight` or `N.bias`"),
        (
            FILE.to_vec(),
            "encoder.",
            "no tensor `encoder.N.weight`; the file has `decoder.0.bias`, `decoder.0.weight`, ",
        ),
        (rename("decoder.2.bias", "lost"), "decoder.", "`decoder.2.bias` is missing"),
        (rename("decoder.2.bias", "decoder.00.bias"), "decoder.", "two tensors for `decoder.0`"),
        (rename("epoch", "decoder.4.running_mean"), "decoder.", "`decoder.4.running_mean`"),
        (
            with_header(|header| header["decoder.0.weight"]["shape"] = serde_json::json!([12])),
            "decoder.",
            "has the shape [12], expected 2 dimensions",
        ),
        (
            with_header(|header| header["decoder.0.weight"]["shape"] = serde_json::json!([3, 4])),
            "decoder.",
            "entries of a layer's bias: expected 3, got 4",
        ),
        (
            with_header(|header| {
                header["decoder.0.weight"]["shape"] = serde_json::json!([u64::MAX, u64::MAX]);
            }),
            "decoder.",
            "not a saved model of this kind",
        ),
        (
            with_header(|header| {
                header["decoder.0.weight"]["shape"] = serde_json::json!([4, 6]);
                header["decoder.0.weight"]["dtype"] = "F16".into();
            }),
            "decoder.",
            "the weights are F16, and not F64",
        ),
        (with_nan(), "decoder.", "not finite"),
    ] {
        let refused = said(&content, prefix);
        assert!(refused.contains(expected), "{refused}");
    }
}

fn with_nan() -> Vec<u8> {
    let mut content = FILE.to_vec();
    let place = content.len() - 4;
    content[place..].copy_from_slice(&f32::NAN.to_le_bytes());
    content
}

#[test]
fn double_precision_is_not_rounded_silently() {
    let directory = Directory::new("safetensors-precision");
    let path = directory.file("map.safetensors");
    network::<f64>(&[2, 1]).save_safetensors(&path, "").unwrap();
    let refused = problem(read::<f32>(&path, ""), &path).to_string();
    assert!(refused.contains("the weights are F64, and not F32"), "{refused}");
    network::<f32>(&[2, 1]).save_safetensors(&path, "").unwrap();
    let widened = read::<f64>(&path, "").unwrap();
    assert_eq!(widened.layer(0).0.map(|v| v as f32), network::<f32>(&[2, 1]).layer(0).0);
}

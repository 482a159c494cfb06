use super::*;
use nalgebra::{DMatrix, dmatrix};

/// Returns an `.npy` file with this dictionary, followed by these bytes.
pub(super) fn npy(version: u8, dictionary: &str, bytes: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    match version {
        1 => file.extend((dictionary.len() as u16).to_le_bytes()),
        _ => file.extend((dictionary.len() as u32).to_le_bytes()),
    }
    file.extend(dictionary.as_bytes());
    file.extend(bytes);
    file
}

fn array(descr: &str, fortran: bool, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    npy(
        1,
        &format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"),
        bytes,
    )
}

fn values(file: &[u8]) -> DMatrix<f64> {
    decode(file, Format::Npy, &ReadOptions::default()).unwrap().values
}

fn refused(file: &[u8]) -> String {
    decode::<f64>(file, Format::Npy, &ReadOptions::default()).unwrap_err().to_string()
}

#[test]
fn every_element_type_in_both_byte_orders() {
    macro_rules! both {
        ($($t:ty: $name:literal, $values:expr;)*) => { $(
            let given: [$t; 2] = $values;
            let expected = dmatrix![given[0] as f64, given[1] as f64];
            let little: Vec<u8> = given.iter().flat_map(|value| value.to_le_bytes()).collect();
            let big: Vec<u8> = given.iter().flat_map(|value| value.to_be_bytes()).collect();
            assert_eq!(values(&array(concat!("<", $name), false, "(2, 1)", &little)), expected, $name);
            assert_eq!(values(&array(concat!(">", $name), true, "(2, 1)", &big)), expected, $name);
        )* };
    }
    both! {
        f32: "f4", [1.5, -0.1]; f64: "f8", [1.5, -1e300];
        u16: "u2", [7, u16::MAX]; u32: "u4", [7, u32::MAX]; u64: "u8", [7, 1 << 63];
        i16: "i2", [-7, i16::MIN]; i32: "i4", [-7, i32::MAX]; i64: "i8", [-7, i64::MIN];
    }
    let halves = [0x3c00u16, 0xb555].map(u16::to_be_bytes).concat();
    let expected = dmatrix![1.0, -0.333251953125];
    assert_eq!(values(&array(">f2", false, "(2, 1)", &halves)), expected);
    let halves = [0x3c00u16, 0xb555].map(u16::to_le_bytes).concat();
    assert_eq!(values(&array("<f2", true, "(2, 1)", &halves)), expected);
    assert_eq!(values(&array("|u1", false, "(2, 1)", &[3, 255])), dmatrix![3.0, 255.0]);
    assert_eq!(values(&array("|i1", false, "(2, 1)", &[3, 255])), dmatrix![3.0, -1.0]);
    assert_eq!(values(&array("|b1", false, "(2, 1)", &[1, 0])), dmatrix![1.0, 0.0]);
}

#[test]
fn orders_and_axes() {
    let table = dmatrix![0.0, 3.0; 1.0, 4.0; 2.0, 5.0];
    assert_eq!(values(&array("|u1", false, "(2, 3)", &[0, 1, 2, 3, 4, 5])), table);
    assert_eq!(values(&array("|u1", true, "(2, 3)", &[0, 3, 1, 4, 2, 5])), table);
    for order in [false, true] {
        let column = values(&array("|u1", order, "(3,)", &[1, 2, 3]));
        assert_eq!(column, dmatrix![1.0, 2.0, 3.0]);
    }
    // a[i, j, k] = 4 i + 2 j + k, 3x2x2: as written by numpy in both orders
    let c: Vec<u8> = (0..12).collect();
    let fortran = [0, 4, 8, 2, 6, 10, 1, 5, 9, 3, 7, 11];
    assert_eq!(
        values(&array("|u1", false, "(3, 2, 2)", &c)),
        values(&array("|u1", true, "(3, 2, 2)", &fortran))
    );
}

/// What a float cannot hold is an error in a variable, and kept as text elsewhere.
#[test]
fn integers_beyond_the_precision_of_floats() {
    let digits: Vec<u8> =
        [1i64, 2, 3, (1 << 53) + 1].iter().flat_map(|x| x.to_le_bytes()).collect();
    for (order, place) in [(false, "row 2, column \"x2\""), (true, "row 2, column \"x2\"")] {
        let file = array("<i8", order, "(2, 2)", &digits);
        let message = refused(&file);
        let expected = "the integer 9007199254740993 has more digits than a floating-point number";
        assert_eq!(message, format!("{place}: {expected}"));
        let options = ReadOptions::default().ignore(["x2"]);
        let table = decode::<f32>(&file, Format::Npy, &options).unwrap();
        assert_eq!(table.apart[0].text[1], "9007199254740993");
        let file = Scratch::of("ids.npy", &file);
        let mut blocks = NpyBlocks::<f64>::open(&file.0, 2, Missing::Reject).unwrap();
        assert!(matches!(blocks.next(), Some(Err(FileError::Inexact { .. }))));
    }
}

#[test]
fn versions_and_ways_to_write_the_dictionary() {
    for (version, dictionary) in [
        (1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }      \n"),
        (2, "{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"|u1\"}"),
        (3, "{'descr':'|u1','fortran_order':False,'shape':(1L, 2L)}\n"),
    ] {
        assert_eq!(values(&npy(version, dictionary, &[8, 9])), dmatrix![8.0; 9.0]);
    }
    assert_eq!(refused(&npy(4, "{}", &[])), "npy version 4.0 is none of 1.0, 2.0 and 3.0");
}

#[test]
fn shapes_that_are_no_table() {
    assert!(
        refused(&array("|u1", false, "()", &[1])).starts_with("an array of shape [] is no table")
    );
    assert_eq!(
        refused(&array("|u1", false, "(0, 3)", &[])),
        "the array is empty: 0 rows and 3 columns"
    );
    assert_eq!(
        refused(&array("|u1", false, "(3, 0)", &[])),
        "the array is empty: 3 rows and 0 columns"
    );
}

#[test]
fn forged_sizes_cost_no_memory() {
    let long = array("<f8", false, "(1000000000, 1000)", &[0; 16]);
    let head = long.len() as u64 - 16;
    assert_eq!(
        refused(&long),
        format!(
            "the header announces {} bytes, the file holds {}",
            head + 8_000_000_000_000,
            head + 16
        )
    );
    assert!(refused(&super::source::gzip(&long)).contains("exceeds the limit of 4294967296 bytes"));
    let overflow = refused(&array("<f8", false, "(4294967296, 4294967296, 8)", &[]));
    assert_eq!(overflow, "an array of shape [4294967296, 4294967296, 8] exceeds the address space");
    assert!(
        refused(&array("<f8", false, "(0, 4294967296, 4294967296)", &[])).contains("address space")
    );
    assert!(
        refused(&array("|u1", false, "(99999999999999999999, 1)", &[]))
            .contains("a size that fits 64 bits")
    );
    assert!(refused(&array("|u1", false, "(1, 2)", &[1, 2, 3])).contains("the header announces"));
    let mut header = npy(2, "{", &[]);
    header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refused(&header).contains("at most 65536 bytes"));
    assert_eq!(
        refused(b"\x93NUMPY\x01\x00\xff\x00{"),
        "the header announces 265 bytes, the file holds 11"
    );
}

#[test]
fn headers_that_are_none() {
    for (dictionary, expected) in [
        ("", "npy header, byte 0: expected '{'"),
        ("{'descr': 3}", "npy header, byte 10: expected a string"),
        ("{'descr': '<f8}", "npy header, byte 10: expected a closed string"),
        ("{'descr': '<f8'}", "npy header, byte 16: expected 'descr', 'fortran_order' and 'shape'"),
        ("{'fortran_order': maybe", "npy header, byte 18: expected True or False"),
        ("{'shape': [1]", "npy header, byte 10: expected '('"),
        ("{'shape': (-1, 2)", "npy header, byte 11: expected a size that fits 64 bits"),
        ("{'depth': 1", "npy header, byte 9: expected 'descr', 'fortran_order' or 'shape'"),
    ] {
        assert_eq!(refused(&npy(1, dictionary, &[])), expected);
    }
    for descr in ["<c16", "|S5", "<M8[ns]", "<f16", "|O", "f8", ""] {
        let message = refused(&array(descr, false, "(1, 1)", &[0; 16]));
        assert_eq!(
            message,
            format!("the element type {descr:?} is not a real number type that is read")
        );
    }
    assert!(
        refused(&npy(1, "{'descr': [('a', '<f8')], 'shape': (1, 1)}", &[]))
            .contains("element type")
    );
    assert!(refused(b"PK\x03\x04").starts_with("not npz: the first bytes are [50, 4b, 03, 04]"));
    assert_eq!(refused(b""), "the file is empty");
    assert!(
        refused(&npy(1, &format!("{{'shape': ({}", "1,".repeat(1000)), &[]))
            .contains("at most 64 axes")
    );
    refused(&npy(1, &"(".repeat(60_000), &[]));
}

#[test]
fn holes_and_infinities() {
    let bytes: Vec<u8> =
        [1.0, f64::NAN, 2.0, 3.0].iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
    let file = array("<f8", false, "(2, 2)", &bytes);
    assert!(refused(&file).starts_with("row 1, column \"x2\": the value is missing"));
    let options = ReadOptions::default().missing(Missing::Allow);
    assert_eq!(decode::<f32>(&file, Format::Npy, &options).unwrap().missing, 1);
    let huge: Vec<u8> = [1.0, 1e300].iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
    let file = array("<f8", false, "(2, 1)", &huge);
    assert!(decode::<f64>(&file, Format::Npy, &options).is_ok());
    assert!(matches!(decode::<f32>(&file, Format::Npy, &options), Err(FileError::Infinite { .. })));
}

#[test]
fn blocks_are_the_columns_in_order() {
    let c: Vec<u8> = (0..30).collect();
    // variable v of observation i is 6 i + v
    let fortran: Vec<u8> = (0..6).flat_map(|v| (0..5).map(move |i| 6 * i + v)).collect();
    for (order, bytes) in [(false, &c), (true, &fortran)] {
        let file = Scratch::of("blocks.npy", &array("|u1", order, "(5, 6)", bytes));
        let whole = read::<f32>(&file.0, &ReadOptions::default()).unwrap().values;
        for size in [1, 2, 5, 7] {
            let mut blocks = NpyBlocks::<f32>::open(&file.0, size, Missing::Reject).unwrap();
            assert_eq!((blocks.observations(), blocks.data_dim()), (5, 6));
            for _ in 0..2 {
                let mut first = 0;
                for block in &mut blocks {
                    let block = block.unwrap();
                    assert_eq!(block, whole.columns(first, block.ncols()));
                    first += block.ncols();
                }
                assert_eq!(first, 5);
                blocks.rewind();
            }
        }
    }
}

#[test]
fn blocks_are_checked_like_whole_files() {
    let bytes: Vec<u8> =
        [1.0, 2.0, f64::NAN].iter().flat_map(|value: &f64| value.to_le_bytes()).collect();
    let file = array("<f8", false, "(3, 1)", &bytes);
    let good = Scratch::of("good.npy", &file);
    let error = NpyBlocks::<f64>::open(&good.0, 0, Missing::Reject).unwrap_err();
    assert_eq!(error.to_string(), "observations in a block: expected 1, got 0");
    let mut blocks = NpyBlocks::<f64>::open(&good.0, 2, Missing::Reject).unwrap();
    assert!(blocks.next().unwrap().is_ok());
    let error = blocks.next().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("row 3, column \"x1\": the value is missing"), "{error}");
    assert!(blocks.next().is_none());
    let short = Scratch::of("short.npy", &file[..file.len() - 1]);
    assert!(matches!(
        NpyBlocks::<f64>::open(&short.0, 2, Missing::Reject),
        Err(FileError::Length { .. })
    ));
    let packed = Scratch::of("packed.npy", &super::source::gzip(&file));
    assert!(NpyBlocks::<f64>::open(&packed.0, 2, Missing::Reject).is_err());
}

#[cfg(unix)]
#[test]
fn numpy_agrees_on_what_is_written() {
    let file = Scratch::new("written.npy");
    write_npy(&file.0, &dmatrix![1.5f32, 3.0; 2.0, 4.0]).unwrap();
    let bytes = std::fs::read(&file.0).unwrap();
    assert_eq!(bytes.len() % 64, 16);
    assert!(bytes.starts_with(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"
    ));
    assert_eq!(bytes[128..132], 1.5f32.to_le_bytes());
}

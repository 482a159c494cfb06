//! Archives, built here as NumPy builds them.

use super::*;
use nalgebra::dmatrix;

/// An archive of named `.npy` files; deflated, or stored with 64-bit sizes as `numpy.savez` writes.
fn archive(arrays: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
    use std::io::Write;
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in arrays {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let packed = if deflated {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else {
            content.clone()
        };
        let name = format!("{name}.npy");
        let start = file.len() as u32;
        let method: u16 = if deflated { 8 } else { 0 };
        let common = |out: &mut Vec<u8>, sizes: [u32; 2], extra: usize| {
            out.extend([45, 0, 0, 0]);
            out.extend(method.to_le_bytes());
            out.extend([0; 4]);
            out.extend(crc.sum().to_le_bytes());
            sizes.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend((name.len() as u16).to_le_bytes());
            out.extend((extra as u16).to_le_bytes());
        };
        let mut extra = vec![1, 0, 16, 0];
        extra.extend((content.len() as u64).to_le_bytes());
        extra.extend((packed.len() as u64).to_le_bytes());
        file.extend(b"PK\x03\x04");
        common(&mut file, [u32::MAX; 2], extra.len());
        file.extend(name.as_bytes());
        file.extend(&extra);
        file.extend(&packed);
        directory.extend(b"PK\x01\x02\x2d\x03");
        let sizes =
            if deflated { [packed.len() as u32, content.len() as u32] } else { [u32::MAX; 2] };
        let extra = if deflated { &[][..] } else { &extra };
        common(&mut directory, sizes, extra.len());
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
        directory.extend(extra);
    }
    let start = file.len() as u32;
    let size = directory.len() as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    let count = (arrays.len() as u16).to_le_bytes();
    file.extend([count, count].concat());
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn array(shape: &str, bytes: &[u8]) -> Vec<u8> {
    let dictionary = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    super::npy::npy(1, &dictionary, bytes)
}

#[test]
fn arrays_by_name() {
    let options = ReadOptions::default();
    let (x, y) = (array("(2, 2)", &[1, 2, 3, 4]), array("(3,)", &[5, 6, 7]));
    for deflated in [false, true] {
        let one = archive(&[("x", x.clone())], deflated);
        let expected = dmatrix![1.0, 3.0; 2.0, 4.0];
        assert_eq!(decode::<f64>(&one, Format::Npy, &options).unwrap().values, expected);
        for name in ["one.npz", "one.npy"] {
            let file = Scratch::of(name, &one);
            assert_eq!(read::<f64>(&file.0, &options).unwrap().values, expected);
        }
        let two = archive(&[("x", x.clone()), ("y", y.clone())], deflated);
        let error = decode::<f64>(&two, Format::Npy, &options).unwrap_err();
        let message = r#"the archive holds 2 arrays: "x", "y": choose one with the option array"#;
        assert_eq!(error.to_string(), message);
        let named = |name: &str| decode::<f64>(&two, Format::Npy, &options.clone().array(name));
        assert_eq!(named("y").unwrap().values, dmatrix![5.0, 6.0, 7.0]);
        assert_eq!(named("x").unwrap().values, expected);
        assert!(matches!(named("z"), Err(FileError::ChooseArray { .. })));
    }
}

#[test]
fn corrupt_archives_are_refused() {
    let content = array("(1, 3000)", &[7; 3000]);
    for deflated in [false, true] {
        let good = archive(&[("x", content.clone())], deflated);
        let options = ReadOptions::default().max_bytes(1 << 20);
        for cut in 0..good.len() {
            assert!(decode::<f64>(&good[..cut], Format::Npy, &options).is_err(), "{cut}");
        }
        let mut flipped = 0;
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 0x55;
            flipped += usize::from(decode::<f64>(&bad, Format::Npy, &options).is_err());
        }
        // Times, versions and attributes are not read.
        assert!(flipped * 100 >= good.len() * 30, "{flipped} of {}", good.len());
    }
    let bomb = archive(&[("x", array("(1, 300000)", &vec![0; 300_000]))], true);
    let error = decode::<f64>(&bomb, Format::Npy, &ReadOptions::default().max_bytes(100_000));
    assert!(matches!(error, Err(FileError::TooLarge { .. })), "{error:?}");
}

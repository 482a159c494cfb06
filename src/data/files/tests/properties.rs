use super::*;
use nalgebra::DMatrix;
use proptest::prelude::*;

/// Matrices of finite numbers and missing values, with all exponents equally likely.
fn numbers<T: Real>(bits: impl Strategy<Value = T>) -> impl Strategy<Value = DMatrix<T>> {
    (1usize..6, 1usize..6, proptest::collection::vec(bits, 25))
        .prop_map(|(d, n, values)| DMatrix::from_fn(d, n, |i, j| values[i * 5 + j]))
}

fn same_bits<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> bool {
    let bits = |value: &T| (value.as_f64().to_bits(), value.as_f64().is_nan());
    a.shape() == b.shape()
        && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b) || (bits(a).1 && bits(b).1))
}

fn round_trip<T: Real>(values: DMatrix<T>) -> Result<(), TestCaseError> {
    let options = ReadOptions::default().missing(Missing::Allow).header(Header::Absent);
    let mut table = Table::new(values);
    let back: Table<T> = decode(&encode_csv(&table).unwrap(), Format::Csv, &options).unwrap();
    prop_assert!(same_bits(&back.values, &table.values));
    prop_assert_eq!(back.missing, table.missing);
    table.header = true;
    let back: Table<T> = decode(
        &encode_csv(&table).unwrap(),
        Format::Csv,
        &ReadOptions::default().missing(Missing::Allow),
    )
    .unwrap();
    prop_assert!(back.header && same_bits(&back.values, &table.values));
    // As other programs write text: other separators, with decimal commas.
    for (separator, decimal) in [(b';', ','), (b'\t', ','), (b'|', '.'), (b' ', '.')] {
        table.layout.separator = separator;
        table.layout.crlf = separator == b';';
        table.layout.decimal =
            if decimal == ',' { number::Decimal::Comma } else { Default::default() };
        let bytes = encode_csv(&table).unwrap();
        let stated = options.clone().separator(separator.into()).decimal(decimal);
        let stated = stated.header(Header::Present);
        let back: Table<T> = decode(&bytes, Format::Csv, &stated).unwrap();
        prop_assert!(same_bits(&back.values, &table.values));
        prop_assert_eq!(&back.names, &table.names);
        // Text that was kept is written as it stood.
        let kept: Table<T> = decode(&bytes, Format::Csv, &stated.keep_text(true)).unwrap();
        prop_assert_eq!(encode_csv(&kept).unwrap(), bytes);
    }
    for name in ["round.npy", "round.npy.gz"] {
        let file = Scratch::new(name);
        write_npy(&file.0, &table.values).unwrap();
        prop_assert!(same_bits(&read(&file.0, &options).unwrap().values, &table.values));
    }
    Ok(())
}

fn survive(bytes: &[u8]) {
    let options = ReadOptions::default().max_bytes(1 << 20);
    for format in [Format::Csv, Format::Npy, Format::Idx] {
        for options in [
            options.clone(),
            options.clone().missing(Missing::Allow).label("x1").ignore(["b"]),
            options.clone().missing(Missing::Allow).separator(' ').decimal(',').max_columns(5),
            options.clone().row_names(true).keep_text(true).header(Header::Present),
        ] {
            if let Err(error) = decode::<f32>(bytes, format, &options) {
                let message = error.to_string();
                assert!(
                    message.lines().count() == 1
                        && message.starts_with(|c: char| !c.is_uppercase()),
                    "{message}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn f64_round_trips(values in numbers(any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| !x.is_infinite()))) {
        round_trip(values)?;
    }

    #[test]
    fn f32_round_trips(values in numbers(any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| !x.is_infinite()))) {
        round_trip(values)?;
    }

    #[test]
    fn text_kept_apart_round_trips(text in proptest::collection::vec("[a-z,\" \n]{0,6}", 3)) {
        let mut table = Table::new(DMatrix::from_row_slice(1, 3, &[1.0, 2.0, 3.0]));
        table.header = true;
        let text: Vec<String> = text.iter().map(|text| text.trim().to_owned()).collect();
        table.apart.push(TextColumn { name: "label".into(), position: 1, label: true, text });
        prop_assert_eq!(super::csv(encode_csv(&table).unwrap()).unwrap(), table);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&bytes);
    }

    #[test]
    fn text_like_bytes_never_panic(bytes in "[0-9a-c,;|\t\"'\n\r .xNAinfe#=-]{0,200}") {
        survive(bytes.as_bytes());
        survive(&super::source::gzip(bytes.as_bytes()));
        survive(&bytes.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    }

    /// What was read is written, and read again, whatever the text is.
    #[test]
    fn tables_of_any_text_round_trip(text in "([0-9]{1,3}[,.;| \n]{1,2}){0,30}", head in "[a-c,;]{0,6}") {
        let options = ReadOptions::default().missing(Missing::Allow).keep_text(true);
        if let Ok(table) = super::csv_with(&format!("{head}\n{text}"), &options) {
            let bytes = encode_csv(&table).unwrap();
            let stated = options
                .separator(table.layout.separator.into())
                .decimal(table.layout.decimal.mark())
                .header(if table.header { Header::Present } else { Header::Absent });
            let again = decode::<f64>(&bytes, Format::Csv, &stated).unwrap();
            prop_assert!(same_bits(&again.values, &table.values), "{:?}", bytes);
            prop_assert_eq!(&again.names, &table.names);
        }
    }

    #[test]
    fn broken_arrays_never_panic(
        place in 0usize..90, byte in any::<u8>(), cut in 0usize..120, dictionary in "[{}()':,0-9 descrshapfotn_TF<u1L-]{0,60}",
    ) {
        let good = super::npy::npy(1, "{'descr': '<i2', 'fortran_order': True, 'shape': (3, 2, 2), }\n", &[1; 24]);
        let mut bad = good.clone();
        bad[place] = byte;
        survive(&bad);
        survive(&good[..cut.min(good.len())]);
        survive(&super::npy::npy(2, &dictionary, &[0; 9]));
        let mut packed = super::source::gzip(&good);
        let place = place % packed.len();
        packed[place] = byte;
        survive(&packed);
        let mut idx = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        let place = place % idx.len();
        idx[place] = byte;
        survive(&idx);
    }
}

//! Limits on what a file may cost.

use super::*;

fn limited(text: &str, options: &ReadOptions) -> FileError {
    csv_with(text, options).unwrap_err()
}

#[test]
fn columns_and_records_have_limits() {
    let options = ReadOptions::default().max_columns(100);
    let wide = "1,".repeat(101);
    assert_eq!(limited(&wide, &options), FileError::TooManyColumns { limit: 100 });
    let wide = ",".repeat(1 << 18);
    for text in [wide.clone(), format!("1,2\n{wide}\n"), format!("a\n1\n2\n3\n{wide}\n")] {
        assert_eq!(limited(&text, &options), FileError::TooManyColumns { limit: 100 });
    }
    let long = format!("a,label\n1,\"{}", "x\n".repeat(1 << 18));
    assert_eq!(limited(&long, &options), FileError::LongRecord { limit: 3200 });
    // The default limit, which a file of commas meets.
    let commas = source::gzip(&vec![b','; 1 << 23]);
    let error = decode::<f64>(&commas, Format::Csv, &ReadOptions::default()).unwrap_err();
    assert_eq!(error, FileError::TooManyColumns { limit: 1 << 20 });
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 200), }\n";
    let file = super::npy::npy(1, header, &[0; 200]);
    let error = decode::<f64>(&file, Format::Npy, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "more than 100 columns, the limit that the option max_columns sets"
    );
}

#[test]
fn the_memory_of_a_table_has_a_limit() {
    let text = "1,2,3\n".repeat(1000);
    let options = ReadOptions::default().missing(Missing::Allow).max_bytes(7000);
    assert_eq!(limited(&text, &options), FileError::TooMuchMemory { limit: 7000 });
    assert!(csv_with(&text, &options.clone().max_bytes(24_000)).is_ok());
    let kept = options.clone().max_bytes(24_000).keep_text(true);
    assert_eq!(limited(&text, &kept), FileError::TooMuchMemory { limit: 24_000 });
    // A plain file is limited as well as a packed one.
    assert_eq!(
        limited(&text, &options.clone().max_bytes(5999)),
        FileError::TooLarge { limit: 5999 }
    );
    let labels = ReadOptions::default().ignore(["x1"]).max_bytes(24_000);
    assert_eq!(limited(&text, &labels), FileError::TooMuchMemory { limit: 24_000 });
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 20), }\n";
    let file = super::npy::npy(1, header, &[0; 200]);
    let options = ReadOptions::default().max_bytes(1000);
    let error = decode::<f64>(&file, Format::Npy, &options).unwrap_err();
    assert_eq!(error, FileError::TooMuchMemory { limit: 1000 });
    assert!(decode::<f32>(&file, Format::Npy, &options).is_ok());
}

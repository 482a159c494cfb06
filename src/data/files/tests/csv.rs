use super::*;
use nalgebra::dmatrix;

#[test]
fn records_are_observations_with_or_without_header() {
    let plain = csv::<f64>("1,2\n3,4\n5,6").unwrap();
    assert_eq!(plain.values, dmatrix![1.0, 3.0, 5.0; 2.0, 4.0, 6.0]);
    assert_eq!((plain.header, plain.names.join(" ")), (false, "x1 x2".into()));
    let named = csv::<f64>("a,b\n1,2\n3,4\n5,6\n").unwrap();
    assert_eq!(named.values, plain.values);
    assert_eq!((named.header, named.names.join(" ")), (true, "a b".into()));
}

#[test]
fn single_rows_and_columns() {
    assert_eq!(csv::<f32>("1,2,3").unwrap().values.shape(), (3, 1));
    assert_eq!(csv::<f32>("1\n2\n").unwrap().values.shape(), (1, 2));
    assert_eq!(csv::<f32>("a\n2\n").unwrap().values.shape(), (1, 1));
    assert_eq!(refused("a,b,c"), "a header of 3 columns and no rows");
    assert_eq!(refused("a,b,c\n\n"), "a header of 3 columns and no rows");
}

#[test]
fn empty_files() {
    for text in ["", "\n\n", "\r\n", "\u{feff}"] {
        assert_eq!(refused(text), "the file is empty", "{text:?}");
    }
}

#[test]
fn a_column_called_label_is_kept_apart_and_may_be_absent() {
    let table = csv::<f64>("a,label,b\n1,0,2\n3,setosa,4\n").unwrap();
    assert_eq!(table.names, ["a", "b"]);
    assert_eq!(table.labels().unwrap(), ["0", "setosa"]);
    assert_eq!(table.apart[0].position, 1);
    assert_eq!(csv::<f64>("a,b\n1,2\n").unwrap().labels(), None);
}

#[test]
fn columns_named_by_the_caller_must_exist() {
    let text = "a,kind,b,note\n1,u,2,\"x, y\"\n3,v,4,\n";
    let options = ReadOptions::default().label("kind").ignore(["note"]);
    let table = csv_with(text, &options).unwrap();
    assert_eq!(table.values, dmatrix![1.0, 3.0; 2.0, 4.0]);
    assert_eq!(table.labels().unwrap(), ["u", "v"]);
    assert_eq!(table.apart[1].text, ["x, y", ""]);
    for absent in [options.clone().ignore(["nothing"]), ReadOptions::default().label("nothing")] {
        let error = csv_with("a,kind,b,note\n1,u,2,z\n", &absent).unwrap_err();
        assert_eq!(error.to_string(), "there is no column \"nothing\" among the 4 columns");
    }
    let nothing_left =
        csv_with("a,b\n1,2\n", &ReadOptions::default().ignore(["a", "b"])).unwrap_err();
    assert_eq!(
        nothing_left.to_string(),
        "no column of numbers is left: all 2 columns are kept apart"
    );
}

#[test]
fn a_text_label_without_header_goes_by_number() {
    let text = "5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa\n";
    assert_eq!(refused(text), "line 1, column \"x3\": \"Iris-setosa\" is not a number");
    let table = csv_with(text, &ReadOptions::default().label("x3")).unwrap();
    assert_eq!(table.values.shape(), (2, 2));
    assert!(!table.header);
}

#[test]
fn a_header_of_numbers_is_seen_by_the_column_kept_apart() {
    let table = csv::<f64>("label,0,1\n7,0.5,0.25\n").unwrap();
    assert_eq!((table.header, table.names.join(" ")), (true, "0 1".into()));
    let table = csv_with("id,0,1\n7,0.5,0.25\n", &ReadOptions::default().ignore(["id"])).unwrap();
    assert_eq!(table.values, dmatrix![0.5; 0.25]);
    let table =
        csv_with("2019,2020\n1,2\n", &ReadOptions::default().header(Header::Present)).unwrap();
    assert_eq!(table.names, ["2019", "2020"]);
    let error = csv_with("a,b\n1,2\n", &ReadOptions::default().header(Header::Absent)).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column \"x1\": \"a\" is not a number");
}

#[test]
fn a_slip_in_the_first_record_is_no_header() {
    assert_eq!(refused("1,oops,3\n4,5,6\n"), "line 1, column \"x2\": \"oops\" is not a number");
}

#[test]
fn missing_markers() {
    let text = "a,b,c,d,e\n,nan,NaN,NA,1\n\"\", NA ,2,3,4\n";
    assert_eq!(
        refused(text),
        "line 2, column \"a\": the value is missing (Missing::Allow reads incomplete data)"
    );
    let table = csv_with(text, &ReadOptions::default().missing(Missing::Allow)).unwrap();
    assert_eq!(table.missing, 6);
    assert_eq!(table.values.iter().filter(|value| value.is_nan()).count(), 6);
    let first = csv_with("NA,1\n2,3\n", &ReadOptions::default().missing(Missing::Allow)).unwrap();
    assert_eq!((first.header, first.missing), (false, 1));
    for other in ["gone", "-9999x", "N A"] {
        let error =
            csv_with(&format!("a\n1\n{other}\n"), &ReadOptions::default().missing(Missing::Allow))
                .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("line 3, column \"a\": {other:?} is not")),
            "{message}"
        );
    }
}

#[test]
fn infinities_and_overflow_are_refused() {
    for text in ["inf", "-inf", "Infinity", "1e999"] {
        let message = refused(format!("a,b\n1,{text}\n"));
        assert_eq!(
            message,
            format!("line 2, column \"b\": \"{text}\" is infinite or out of range")
        );
    }
    assert!(matches!(csv::<f32>("1,1e39\n"), Err(FileError::Infinite { .. })));
    assert_eq!(csv::<f64>("1,1e39\n").unwrap().values[1], 1e39);
}

#[test]
fn ragged_records() {
    let split = " (the options separator and decimal set how they are split)";
    assert_eq!(refused("1,2\n3\n"), format!("line 2: expected 2 fields, found 1{split}"));
    let message = format!("line 4: expected 2 fields, found 3{split}");
    assert_eq!(refused("a,b\n1,2\n\n3,4,5\n"), message);
    assert_eq!(refused("1,2\n3,\"4\n5,6\n"), "line 2, column \"x2\": \"4\\n5,6\" is not a number");
}

#[test]
fn dialects() {
    let plain = csv::<f64>("a,b\n1,2\n3,4\n").unwrap();
    for text in [
        "\u{feff}a,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        "\"a\",\"b\"\n\"1\",\"2\"\n3,4",
        " a , b\n 1,2 \n\t3 , 4\n\n\n",
        "a,b\n\n+1,2.\n0.3e1,4\n",
    ] {
        assert_eq!(csv::<f64>(text).unwrap(), plain, "{text:?}");
    }
    assert_eq!(csv::<f64>("\u{feff}1,2\n3,4\n").unwrap().values, plain.values);
}

#[test]
fn lines_are_counted_through_blank_and_quoted_ones() {
    let message = refused("a,label\r\n1,u\r\n\r\n\r\n2,\"two\r\nlines\"\r\nx,v\r\n");
    assert_eq!(message, "line 7, column \"a\": \"x\" is not a number");
}

#[test]
fn broken_text_and_names() {
    let message = refused(b"a,b\n1,2\n3,\xff\n");
    assert_eq!(message, "line 3, field 2: not utf-8, and not a number");
    let repeated = "columns 1 and 3 are both named \"a\": rename one, leave both out with the option \
                    ignore, or set the option header";
    assert_eq!(refused("a,b,a\n1,2,3\n"), repeated);
    let rest = csv_with("a,b,a\n1,2,3\n", &ReadOptions::default().ignore(["a"])).unwrap();
    assert_eq!((rest.names, rest.apart.len()), (vec!["b".to_owned()], 2));
}

#[test]
fn a_table_is_written_as_it_was() {
    let text = "island,bill,species,flipper\nTorgersen,39.1,Adelie,181\n\"Dream, far\",,\"say \"\"x\"\"\",193.5\n";
    let options =
        ReadOptions::default().label("species").ignore(["island"]).missing(Missing::Allow);
    let table = csv_with(text, &options).unwrap();
    assert_eq!(String::from_utf8(encode_csv(&table).unwrap()).unwrap(), text);
    let plain = csv_with("1,\n,2\n", &options.clone().label("x3")).unwrap_err();
    assert!(matches!(plain, FileError::UnknownColumn { .. }));
    let plain = csv_with("1,\n,2\n", &ReadOptions::default().missing(Missing::Allow)).unwrap();
    assert_eq!(encode_csv(&plain).unwrap(), b"1,\n,2\n");
}

#[test]
fn a_table_that_contradicts_itself_is_not_written() {
    let mut table = csv::<f64>("a,label\n1,u\n2,v\n").unwrap();
    table.values = dmatrix![1.0, 2.0, 3.0];
    let error = encode_csv(&table).unwrap_err();
    assert_eq!(error.to_string(), "entries of a column kept apart: expected 3, got 2");
    table.values = dmatrix![1.0, f64::INFINITY];
    assert!(matches!(encode_csv(&table), Err(FileError::Infinite { .. })));
    table.values = dmatrix![1.0, 2.0; 3.0, 4.0];
    assert!(matches!(encode_csv(&table), Err(FileError::DimensionMismatch { .. })));
    table.names.push("b".into());
    table.apart[0].position = 3;
    assert!(matches!(encode_csv(&table), Err(FileError::DimensionMismatch { .. })));
}

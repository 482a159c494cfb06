//! Delimited text as people and programs write it.

use super::*;
use nalgebra::{DMatrix, dmatrix};

fn allow() -> ReadOptions {
    ReadOptions::default().missing(Missing::Allow)
}

#[track_caller]
fn table(text: &str) -> Table<f64> {
    csv_with(text, &ReadOptions::default()).unwrap()
}

/// Rows of decimals, in two digits, as text; without a pattern in them.
fn rows(d: usize) -> Vec<Vec<String>> {
    let entry =
        |i: usize, j: usize| format!("{}.{}", (i * 7 + j * j * 5) % 6 + 1, (i * i + j) % 9 + 1);
    (0..12).map(|i| (0..d).map(|j| entry(i, j)).collect()).collect()
}

fn lines(rows: &[Vec<String>], separator: &str) -> String {
    rows.iter().map(|row| row.join(separator) + "\n").collect()
}

#[test]
fn headers_of_numbers() {
    for header in [
        "2019,2020,2021",
        "\"2019\",\"2020\",\"2021\"",
        "2021,2020,2019",
        "1990,2000,2005",
        "0,1,2",
        "1,2,3",
        "400.5,401.0,401.5",
        "1e5,2e5,3e5",
    ] {
        let found = table(&format!("{header}\n{}", lines(&rows(3), ",")));
        assert_eq!((found.header, found.values.shape()), (true, (3, 12)), "{header}");
        let bare = header.replace('"', "");
        assert_eq!(found.names, bare.split(',').collect::<Vec<_>>());
        assert!(found.notes[0].contains("option header"), "{:?}", found.notes);
        // It is written as it stood, and read again.
        let again = encode_csv(&found).unwrap();
        assert_eq!(again.split(|&byte| byte == b'\n').next().unwrap(), bare.as_bytes());
        assert_eq!(csv::<f64>(again).unwrap().values, found.values);
    }
    let counts = "0,1,2\n5,3,9\n4,4,1\n0,7,2\n9,9,9\n";
    assert_eq!(table(counts).values.ncols(), 4);
    let years = "2019,2020\n5.5,3.25\n4,4\n0.5,7.25\n";
    assert_eq!(table(years).names, ["2019", "2020"]);
}

#[test]
fn records_that_are_no_header() {
    for (text, n) in [
        ("1,2,3\n4,5,6\n7,8,9\n", 3),
        ("1,2\n3,4\n5,6\n", 3),
        ("0,1,0\n1,0,0\n0,0,1\n", 3),
        ("2019,2020,2021\n2001,2005,1999\n2015,2016,2020\n", 3),
        ("3.5,2.5,1.25\n3.25,2.75,1.5\n3.0,2.25,1.75\n", 3),
        ("1,2.5,0.5\n2,2.25,0.75\n3,2.5,1.5\n", 3),
        ("2019\n3\n4\n", 3),
        ("1,2,3\n", 1),
    ] {
        let found = table(text);
        assert_eq!((found.header, found.values.ncols()), (false, n), "{text:?}");
        assert!(!found.notes.iter().any(|note| note.contains("header")), "{:?}", found.notes);
    }
    let stated = ReadOptions::default().header(Header::Absent);
    let text = format!("2019,2020,2021\n{}", lines(&rows(3), ","));
    assert_eq!(csv_with(&text, &stated).unwrap().values.ncols(), 13);
    let stated = ReadOptions::default().header(Header::Present);
    assert_eq!(csv_with("1,2\n3,4\n5,6\n", &stated).unwrap().names, ["1", "2"]);
}

#[test]
fn the_options_name_columns_of_a_header_of_numbers() {
    let text = "2019,2020\n5,3\n4,4\n";
    let ignored = csv_with(text, &ReadOptions::default().ignore(["2019"])).unwrap();
    assert_eq!((ignored.names.join(" "), ignored.values.ncols()), ("2020".into(), 2));
    let labelled = csv_with(text, &ReadOptions::default().label("2020")).unwrap();
    assert_eq!(labelled.labels().unwrap(), ["3", "4"]);
}

#[test]
fn text_before_a_header_of_numbers() {
    let body = "1,5.5,3.25\n2,4,4\n3,0.5,7.25\n";
    for header in ["year,2020,2021", "id,400.5,401.0"] {
        let found = csv_with(&format!("{header}\n{body}"), &ReadOptions::default());
        // Two numbers in equal steps are no sign of names; two years are.
        assert_eq!(found.is_ok(), header.starts_with("year"), "{header}");
    }
    let message = refused("country,2019,2020\nDE,5.5,3.25\nFR,4.5,3.5\nIT,5.25,4.5\n");
    assert_eq!(message, "line 2, column \"country\": \"DE\" is not a number");
    let found = table("inf,mean,sd\n1,2,3\n4,5,7\n");
    assert_eq!(found.names, ["inf", "mean", "sd"]);
}

#[test]
fn the_header_of_pandas_over_its_index() {
    for header in [",0,1,2", ",2019,2020,2021", ",400.5,401.0,401.5", ",a,b,c", "Unnamed: 0,a,b,c"]
    {
        for (first, what) in [(0, "numbers"), (1, "numbers"), (0, "names")] {
            let body: String = rows(3)
                .iter()
                .enumerate()
                .map(|(i, row)| match what {
                    "names" => format!("row {i},{}\n", row.join(",")),
                    _ => format!("{},{}\n", i + first, row.join(",")),
                })
                .collect();
            let text = format!("{header}\n{body}");
            let found = table(&text);
            assert_eq!((found.header, found.values.shape()), (true, (3, 12)), "{text}");
            let note = format!("{what} of rows and is no variable");
            assert!(found.notes.iter().any(|found| found.contains(&note)), "{:?}", found.notes);
            assert_eq!(String::from_utf8(encode_csv(&found).unwrap()).unwrap(), text);
            if !header.starts_with("Unnamed") {
                let ignored = csv_with(&text, &ReadOptions::default().ignore([""])).unwrap();
                assert_eq!(ignored.values, found.values);
            }
            if what == "numbers" {
                let stated = ReadOptions::default().row_names(false);
                assert_eq!(csv_with(&text, &stated).unwrap().values.nrows(), 4);
            }
        }
    }
}

#[test]
fn row_numbers_of_filtered_and_joined_tables() {
    for numbers in [[17, 3, 5, 40], [0, 1, 0, 1], [1, 2, 1, 2]] {
        let body: String = numbers.iter().map(|i| format!("{i},2.5,{i}.25\n")).collect();
        assert_eq!(table(&format!(",a,b\n{body}")).names, ["a", "b"], "{numbers:?}");
    }
    // Counts, and decimals, are a variable, with a note.
    for body in ["3,2.5\n7,2.25\n3,1.5\n", "0.5,2.5\n0.25,2.25\n1.5,1.5\n"] {
        let found = table(&format!(",a\n{body}"));
        assert_eq!(found.names, ["", "a"]);
        assert!(found.notes[0].contains("was read as a variable"), "{:?}", found.notes);
    }
}

#[test]
fn a_header_without_a_field_for_row_names() {
    for (text, names) in [
        ("a,b\ns0,3.5,6\ns1,4,4.25\n", "a b"),
        ("\"a\" \"b\"\n\"s 0\" 3.5 6\n\"s1\" 4 4.25\n", "a b"),
        ("a b\n1 3.5 6\n2 4 4.25\n", "a b"),
        ("a\ts\nx y\t3.5\t6\nz\t4\t4.25\n", "a s"),
    ] {
        let found = table(text);
        assert_eq!(found.values, dmatrix![3.5, 4.0; 6.0, 4.25], "{text}");
        assert_eq!(found.names.join(" "), names);
        let again = encode_csv(&found).unwrap();
        assert_eq!(csv::<f64>(&again).unwrap(), found);
        assert_eq!(String::from_utf8(again).unwrap().lines().count(), 3);
    }
}

#[test]
fn separators_at_the_ends_of_lines() {
    let plain = table("a,b\n1.5,2\n3,4.5\n");
    for text in [
        "a,b,\n1.5,2,\n3,4.5,\n",
        "a,b,,\n1.5,2,,\n3,4.5,,\n",
        "a,b\n1.5,2,\n3,4.5,\n",
        "a,b,\n1.5,2\n3,4.5\n",
        "a,,b\n1.5,,2\n3,,4.5\n",
        ",a,b\n,1.5,2\n,3,4.5\n",
        "a;b;\n1,5;2;\n3;4,5;\n",
    ] {
        let found = table(text);
        assert_eq!((&found.values, &found.names), (&plain.values, &plain.names), "{text:?}");
        let again = csv::<f64>(encode_csv(&found).unwrap()).unwrap();
        assert_eq!((again.values, again.names), (found.values, found.names), "{text:?}");
    }
    assert_eq!(table("1.5,2,\n3,4.5,\n").values, plain.values);
    let message = refused("a,b,\n1,2,\n".to_owned() + &"3,4,\n".repeat(30_000) + "3,4,5\n");
    assert_eq!(message, "line 30003, column \"\": \"5\" stands in a column that is empty above it");
}

#[test]
fn separators_and_decimal_marks() {
    let expected = dmatrix![1.5, 3.0, 4.5; 2.25, 4.0, 5.25];
    for text in [
        "a;b\n1,5;2,25\n3;4\n4,5;5,25\n",
        "a;b\n1.5;2.25\n3;4\n4.5;5.25\n",
        "a\tb\n1.5\t2.25\n3\t4\n4.5\t5.25\n",
        "a\tb\n1,5\t2,25\n3\t4\n4,5\t5,25\n",
        "a|b\n1.5|2.25\n3|4\n4.5|5.25\n",
        "a b\n1.5 2.25\n3 4\n4.5 5.25\n",
        "  a   b\n  1,5  2,25\n  3   4\n 4,5  5,25 \n",
        "\"a\",\"b\"\n\"1,5\",\"2,25\"\n\"3\",\"4\"\n\"4,5\",\"5,25\"\n",
        "sep=;\na;b\n1,5;2,25\n3;4\n4,5;5,25\n",
        "\"sep=|\"\r\na|b\r\n1.5|2.25\r\n3|4\r\n4.5|5.25\r\n",
    ] {
        let found = table(text);
        assert_eq!((&found.values, found.names.join(" ")), (&expected, "a b".into()), "{text:?}");
        let again = csv::<f64>(encode_csv(&found).unwrap()).unwrap();
        assert_eq!(again.values, expected, "{text:?}");
    }
    assert_eq!(refused("sep=;\na;b\n1;x\n"), "line 3, column \"b\": \"x\" is not a number");
    let found = table("a;b\n1,5;2,25\n3;4\n");
    assert!(found.notes.iter().any(|note| note.contains("';'")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|note| note.contains("decimal commas")), "{:?}", found.notes);
}

#[test]
fn an_option_states_separator_and_decimal_mark() {
    let options = ReadOptions::default().separator(':');
    assert_eq!(csv_with("1:2\n3:4\n", &options).unwrap().values, dmatrix![1.0, 3.0; 2.0, 4.0]);
    let options = ReadOptions::default().decimal(',');
    assert_eq!(csv_with("1,5\n2,5\n", &options).unwrap().values, dmatrix![1.5, 2.5]);
    assert_eq!(csv_with("a\n1,234\n5,6\n", &options).unwrap().values, dmatrix![1.234, 5.6]);
    let options = ReadOptions::default().decimal('.');
    assert_eq!(csv_with("1,5\n2,7\n3,2\n4,4\n", &options).unwrap().values.shape(), (2, 4));
    assert_eq!(csv_with("a\n\"1,234\"\n", &options).unwrap().values, dmatrix![1234.0]);
    for options in [ReadOptions::default().separator('5'), ReadOptions::default().decimal('x')] {
        let error = csv_with("1\n", &options).unwrap_err();
        assert!(matches!(error, FileError::InvalidOption { .. }), "{error}");
    }
}

/// One number with a decimal comma, or two integers.
#[test]
fn a_column_of_decimal_commas() {
    // A leading zero behind the comma, or one name above, decide for decimals.
    assert_eq!(table("1,05\n2,5\n3,75\n4,1\n").values, dmatrix![1.05, 2.5, 3.75, 4.1]);
    assert_eq!(table("height\n1,5\n2,5\n3,75\n4,1\n").values, dmatrix![1.5, 2.5, 3.75, 4.1]);
    // Two names, a trailing zero or a sign decide for columns.
    assert_eq!(table("a,b\n1,5\n2,5\n3,75\n4,1\n").values.nrows(), 2);
    assert_eq!(table("1,5\n2,50\n3,75\n4,1\n").values.nrows(), 2);
    assert_eq!(table("1,-5\n2,50\n3,75\n4,1\n").values.nrows(), 2);
    for text in ["3,0\n4,78\n4,62\n2,68\n", "1,5\n2,3\n7,1\n8,4\n", "1,234\n2,050\n1,800\n2,111\n"]
    {
        let message = refused(text);
        assert!(message.ends_with("columns: set the option separator or decimal"), "{message}");
    }
    // A short table is read as columns, with a note.
    let short = table("3,1\n4,78\n");
    assert_eq!(short.values.nrows(), 2);
    assert!(short.notes[0].contains("decimal marks"), "{:?}", short.notes);
    let four = table("1,5,2,25\n3,2,4,75\n");
    assert!(four.notes[0].contains("decimal marks"), "{:?}", four.notes);
    assert!(refused("1,05,2,25\n3,2,4,75\n").ends_with("another separator is needed"));
    let stated = ReadOptions::default().decimal('.');
    assert_eq!(csv_with("1,05,2,25\n3,2,4,75\n", &stated).unwrap().values.nrows(), 4);
    assert!(refused("a,b\n1,5,2,25\n3,2,4,75\n").contains("separator and decimal"));
}

#[test]
fn thousands() {
    let expected = dmatrix![1100.5, 22000.0; 1.0, 2.5];
    for text in [
        "a,b\n\"1,100.50\",1\n\"22,000\",2.5\n",
        "a;b\n1.100,50;1\n22.000;2,5\n",
        "a;b\n1 100,50;1\n22 000;2,5\n",
        "a;b\n1'100.50;1\n22'000;2.5\n",
        "a;b\n1\u{a0}100,50;1\n22\u{202f}000;2,5\n",
        "a\tb\n1,100.50\t1\n22,000\t2.5\n",
    ] {
        let found = table(text);
        assert_eq!(found.values, expected, "{text:?}");
        assert!(found.notes.iter().any(|note| note.contains("thousands")), "{:?}", found.notes);
    }
    // Three digits behind the only comma: thousands or decimals.
    assert!(refused("a;b\n1,234;1\n2,345;2\n").contains("set the option `decimal`"));
    assert_eq!(table("price\n1 100.50\n2 200.25\n").values, dmatrix![1100.5, 2200.25]);
    assert!(refused("1 100\n2 200\n").contains("separator"));
}

#[test]
fn encodings() {
    let text = "größe;b\n1,5;2\n3;4,25\n";
    let expected = table(text);
    let marked = |mark: &[u8], units: Vec<u8>| [mark, &units].concat();
    let little = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    for bytes in [marked(&[0xff, 0xfe], little), marked(&[0xfe, 0xff], big), latin] {
        let found = csv::<f64>(bytes).unwrap();
        assert_eq!(found, expected);
        assert!(found.notes.iter().any(|note| note.contains("written as UTF-8")));
        assert_eq!(encode_csv(&found).unwrap(), text.as_bytes());
    }
    let found = csv::<f64>("\u{feff}a,b\r\n1,2\r\n").unwrap();
    assert_eq!(encode_csv(&found).unwrap(), "\u{feff}a,b\r\n1,2\r\n".as_bytes());
    assert_eq!(refused(b"PK\x03\x04..").split(':').next(), Some("not delimited text"));
    assert_eq!(refused(b"\xff\xfe\0\0a\0\0\0"), "the text is utf-32: convert it to utf-8");
}

#[test]
fn marks_of_missing_values_are_counted() {
    let text = "a,b,c\n3.0,6.0,4.3\n?,4.33,4.98\n4.62,n/a,4.56\n2.68,5.82,NULL\n1.1,.,-\n\
                --,None,-nan\nNaT,#N/A,\\N\n1,<NA>,#DIV/0!\n";
    let found = csv_with(text, &allow()).unwrap();
    assert_eq!(found.missing, 13);
    assert_eq!(found.marks[0], ("?".into(), 1));
    assert!(found.notes.last().unwrap().starts_with("read as missing values: \"?\" (1), "));
    let message = refused(text);
    assert!(message.starts_with("line 3, column \"a\": the value is missing"), "{message}");
    assert_eq!(String::from_utf8(encode_csv(&found).unwrap()).unwrap().lines().count(), 9);
    let plain = csv_with("a,b\n1,NA\nnan,2\n", &allow()).unwrap();
    assert_eq!((plain.missing, plain.notes.len()), (2, 0));
    let declared = csv_with("a,b\n1,-9999\n-9999.0,x\n", &allow().missing_marks(["-9999", "x"]));
    assert_eq!(declared.unwrap().missing, 3);
    assert_eq!(csv_with("a,b\n1,-9999\n", &allow()).unwrap().missing, 0);
}

#[test]
fn what_is_refused_says_why() {
    for (entry, part) in [
        ("2026-11-01", "is not a number but a date or time"),
        ("TRUE", "is not a number but a truth value"),
        ("12%", "remove the percent sign"),
        ("$3", "remove the currency sign"),
        ("(1.50)", "with a minus sign"),
        ("5 kg", "remove the unit"),
    ] {
        let message = refused(format!("a,b\n1,2.5\n3,4.5\n5,{entry}\n"));
        assert!(message.starts_with("line 4, column \"b\": "), "{message}");
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        refused("Table of heights\na,b,c\n1,2,3\n4,5,7\n"),
        "line 1: \"Table of heights\" is no record: remove titles and comments"
    );
    assert!(refused("# by hand\na,b\n1,2\n4,5\n").starts_with("line 1: \"# by hand\" is no"));
    assert!(refused("a,b\n1,2\n# by hand\n").starts_with("line 3: expected 2 fields"));
    let message = refused("a,b\nkg,m\n1,2\n");
    assert_eq!(message, "line 2, column \"a\": \"kg\" is not a number");
}

#[test]
fn other_ways_to_write_numbers() {
    let found = table("a,b\n'3.0',\u{2212}1.5\n 1.5D+01,\"2\"\n");
    assert_eq!(found.values, dmatrix![3.0, 15.0; -1.5, 2.0]);
}

#[test]
fn names_of_files_state_the_separator() {
    let file = Scratch::of("a.tsv", b"3,0\n4,78\n4,62\n2,68\n1,1\n");
    let found = read::<f64>(&file.0, &ReadOptions::default()).unwrap();
    assert_eq!(found.values, dmatrix![3.0, 4.78, 4.62, 2.68, 1.1]);
    for name in ["b.txt", "b.data", "b.tab"] {
        let file = Scratch::of(name, b"a\tb\n1\t2\n");
        assert_eq!(read::<f64>(&file.0, &ReadOptions::default()).unwrap().names, ["a", "b"]);
    }
}

/// Tables whose lines are longer than the first piece that is read.
#[test]
fn wide_tables() {
    let d = 40_000;
    let header: Vec<String> = (0..d).map(|j| format!("gene {j}")).collect();
    let row = |i: usize| (0..d).map(|j| format!("{}.5", i + j)).collect::<Vec<_>>().join(";");
    let text = format!("{}\n{}\n{}\n{}\n", header.join(";"), row(0), row(1), row(2));
    let found = table(&text);
    assert_eq!((found.values.shape(), found.header), ((d, 3), true));
    assert_eq!(found.values[(d - 1, 2)], d as f64 + 1.5);
    let plain = DMatrix::from_fn(d, 3, |j, i| (i + j) as f64 + 0.5);
    assert_eq!(found.values, plain);
}

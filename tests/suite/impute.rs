//! The command line of `impute`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the example that `cargo test` built beside this test; builds it first where only this test
/// was asked for.
fn impute(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let built = test
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(format!("impute{}", std::env::consts::EXE_SUFFIX));
    let mut command = if built.exists() {
        Command::new(built)
    } else {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--example", "impute", "--"]);
        command
    };
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(arguments)
        .output()
        .unwrap()
}

/// A file of its own for each test.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("elbo-impute-{}-{name}", std::process::id()))
}

fn text(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    text
}

#[test]
fn penguins() {
    let (out, json) = (file("penguins.csv"), file("penguins.json"));
    let run = impute(&[
        "--data",
        "examples/data/penguins.csv.gz",
        "--ignore",
        "species,island,sex,year",
        "--out",
        out.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stdout).contains("2 observations have no entry"));
    let json: serde_json::Value = serde_json::from_str(&text(&json)).unwrap();
    assert_eq!(
        (&json["observations"], &json["data_dim"], &json["missing"]),
        (&344.into(), &4.into(), &8.into())
    );
    assert_eq!((&json["latent_dim"], &json["stop"]), (&3.into(), &"converged".into()));
    assert!(
        json["log_likelihood"].as_f64().unwrap() < -5000.0
            && json["noise_variance"].as_f64().unwrap() > 0.0
    );
    assert!(String::from_utf8_lossy(&run.stdout).contains("\nstarts             5, "));
    assert!(json["seconds"].as_f64().unwrap() > 0.0 && json["iterations"].as_u64().unwrap() > 0);
    let completed = text(&out);
    let lines: Vec<&str> = completed.lines().collect();
    assert_eq!(lines.len(), 345);
    assert_eq!(
        lines[0],
        "species,island,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,sex,year"
    );
    assert_eq!(
        lines[1], "Adelie,Torgersen,39.1,18.7,181.0,3750.0,male,2007",
        "as it stood in the file"
    );
    let empty: Vec<&str> = lines[4].split(',').collect();
    assert_eq!((empty[0], empty[6], empty[7]), ("Adelie", "", "2007"));
    assert!(
        (empty[5].parse::<f64>().unwrap() - 4201.754).abs() < 0.1,
        "an empty row gets the mean: {}",
        lines[4]
    );
    assert_eq!(
        lines[4].split(',').skip(2).take(4).collect::<Vec<_>>(),
        lines[272].split(',').skip(2).take(4).collect::<Vec<_>>()
    );
}

#[test]
fn the_keys_stand_in_order_and_a_header_is_optional() {
    let (data, out, json) = (file("plain-in.csv"), file("plain.csv"), file("plain.json"));
    std::fs::write(&data, "1,2,3\n2,NA,4.50\n3,+7,nan\n5,1,\n2,2,2\n8,1,3\n4,NaN,4\n").unwrap();
    let (from, to, figures) =
        (data.to_str().unwrap(), out.to_str().unwrap(), json.to_str().unwrap());
    let run = impute(&[
        "--data",
        from,
        "--latent-dim",
        "1",
        "--seed",
        "3",
        "--out",
        to,
        "--json",
        figures,
    ]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    std::fs::remove_file(&data).unwrap();
    let json = text(&json);
    let keys = [
        "observations",
        "data_dim",
        "latent_dim",
        "missing",
        "log_likelihood",
        "noise_variance",
        "iterations",
        "stop",
        "seconds",
    ];
    let places: Vec<usize> =
        keys.iter().map(|key| json.find(&format!("\"{key}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{json}");
    let completed = text(&out);
    let lines: Vec<Vec<&str>> = completed.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0], ["1", "2", "3"]);
    assert_eq!((lines[1][0], lines[1][2], lines[2][1]), ("2", "4.50", "+7"));
    assert!(lines.iter().flatten().all(|field| field.parse::<f64>().is_ok_and(f64::is_finite)));
}

/// Completes a text with one latent dimension; returns what is written under the name `out`, and
/// what is said on standard error.
fn completed(text: &str, name: &str, out: &str, options: &[&str]) -> (Vec<u8>, String) {
    let (data, out) = (file(&format!("in-{name}")), file(&format!("out-{name}-{out}")));
    std::fs::write(&data, text).unwrap();
    let files = ["--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let run = impute(&[&files[..], &["--latent-dim", "1"], options].concat());
    std::fs::remove_file(&data).unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    let bytes = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    (bytes, said)
}

/// Ten rows of three columns, of which two fields are missing.
fn body(separator: &str, decimal: &str) -> Vec<String> {
    (0..10u32)
        .map(|i| {
            let first = format!("{}{decimal}{}", i * 3 % 7, i * i % 9 + 1);
            let second = if i == 4 { "NA".into() } else { format!("{}{decimal}50", i * 5 % 8) };
            let third = if i == 7 { String::new() } else { format!("{}", i * i % 11) };
            [first, second, third].join(separator)
        })
        .collect()
}

#[test]
fn a_table_keeps_its_header_row_names_and_layout() {
    let rows = body(",", ".");
    let named = |header: &str, first: &dyn Fn(usize) -> String, last: &str| {
        let lines = rows.iter().enumerate().map(|(i, row)| format!("{}{row}{last}\n", first(i)));
        format!("{header}\n{}", lines.collect::<String>())
    };
    let semicolons = body(";", ",").join("\r\n");
    for (index, text) in [
        named("0,1,2", &|_| String::new(), ""),
        named(",0,1,2", &|i| format!("{i},"), ""),
        named(",2019,2020,2021", &|i| format!("row {i},"), ""),
        named("a,b,c,", &|_| String::new(), ","),
        named("a,b,c", &|i| format!("s{i},"), ""),
        format!("\u{feff}a;b;c\r\n{semicolons}\r\n"),
    ]
    .iter()
    .enumerate()
    {
        let (written, said) = completed(text, &format!("{index}.csv"), "o.csv", &[]);
        let written = String::from_utf8(written).unwrap();
        assert!(said.lines().all(|line| line.starts_with("note: ")), "{said}");
        assert_eq!(said.contains("header"), index < 3, "{said}");
        let (before, after): (Vec<&str>, Vec<&str>) =
            (text.split('\n').collect(), written.split('\n').collect());
        assert_eq!(before.len(), after.len(), "{written}");
        for (line, (before, after)) in before.iter().zip(&after).enumerate() {
            // The two rows with a missing field, and all others as they stood.
            assert_eq!(before == after, line != 5 && line != 8, "line {line}: {after}");
            assert!(!after.contains("NA"), "{after}");
        }
        // Completed again, nothing is missing and nothing changes.
        let (again, _) = completed(&written, &format!("{index}.csv"), "again.csv", &[]);
        assert_eq!(String::from_utf8(again).unwrap(), written);
    }
}

#[test]
fn the_name_of_the_output_chooses_its_format() {
    let text = format!("a;b;c\n{}\n", body(";", ",").join("\n"));
    let (plain, _) = completed(&text, "p.csv", "o.txt", &[]);
    let (tabs, _) = completed(&text, "t.csv", "o.tsv", &[]);
    assert_eq!(String::from_utf8(plain).unwrap().replace(';', "\t").as_bytes(), tabs);
    let (array, _) = completed(&text, "n.csv", "o.npy", &[]);
    assert!(array.starts_with(b"\x93NUMPY"));
    for name in ["o.npz", "o.idx2-float", "o.xlsx"] {
        let run = impute(&["--data", "no-such-file.csv", "--out", name]);
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: option '--out': ") && said.contains(name), "{said}");
    }
}

#[test]
fn declared_and_common_marks_are_counted() {
    let text = "a,b\n1,2.5\n?,4\n3,-9999\n4,n/a\n5.5,1\n2,2\n";
    let data = file("marks.csv");
    std::fs::write(&data, text).unwrap();
    let run =
        impute(&["--data", data.to_str().unwrap(), "--latent-dim", "1", "--missing", "-9999"]);
    std::fs::remove_file(&data).unwrap();
    let (said, report) =
        (String::from_utf8_lossy(&run.stderr), String::from_utf8_lossy(&run.stdout));
    assert!(run.status.success(), "{said}");
    assert!(report.contains("3 of 12 entries"), "{report}");
    assert!(report.contains("1 ?, 1 -9999, 1 n/a"), "{report}");
    assert!(said.contains("read as missing values: \"?\" (1), \"-9999\" (1)"), "{said}");
}

#[test]
fn errors_are_one_line_with_their_exit_code() {
    let (data, constant) = (file("empty-column.csv"), file("constant.csv"));
    std::fs::write(&data, "a,b\n1,\n2,NA\n3,nan\n").unwrap();
    std::fs::write(&constant, "1,2\n1,\n1,2\n").unwrap();
    for (arguments, code, message) in [
        (vec![], 2, "option '--data FILE' is needed"),
        (vec!["--data", "x.csv", "--quick"], 2, "invalid option '--quick'"),
        (vec!["--data", "x.csv", "--latent-dim", "0"], 2, "is not a positive integer"),
        (vec!["--data", "x.csv", "--restarts", "-1"], 2, "is not 0 or a positive integer"),
        (
            vec!["--data", "x.csv", "--json", "y.csv", "--out", "y.csv"],
            2,
            "option '--out': y.csv is that of --json",
        ),
        (vec!["--data", "no-such-file.csv"], 1, "no-such-file.csv"),
        (vec!["--data", data.to_str().unwrap()], 1, "column \"b\" is empty"),
        (vec!["--data", constant.to_str().unwrap()], 1, "constant"),
        (
            vec!["--data", "examples/data/iris.csv.gz", "--latent-dim", "4"],
            1,
            "the likelihood is unbounded",
        ),
    ] {
        let run = impute(&arguments);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(message) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    std::fs::remove_file(&data).unwrap();
    std::fs::remove_file(&constant).unwrap();
}

/// Runs the program on a table and returns its report, the JSON and the completed rows.
fn completed_rows(
    name: &str,
    table: &str,
    options: &[&str],
) -> (String, serde_json::Value, Vec<Vec<f64>>) {
    let (data, out, json) = (
        file(&format!("{name}.csv")),
        file(&format!("{name}-out.csv")),
        file(&format!("{name}.json")),
    );
    std::fs::write(&data, table).unwrap();
    let mut arguments = vec![
        "--data",
        data.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ];
    arguments.extend(options);
    let run = impute(&arguments);
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    std::fs::remove_file(&data).unwrap();
    let rows = text(&out)
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|field| field.parse().unwrap()).collect())
        .collect();
    let json = serde_json::from_str(&text(&json)).unwrap();
    (String::from_utf8_lossy(&run.stdout).into_owned(), json, rows)
}

#[test]
fn an_exact_identity_completes_the_table() {
    let table = include_str!("../cases/parts_and_total.csv");
    for options in [&[][..], &["--latent-dim", "3"]] {
        let (report, json, rows) = completed_rows("parts", table, options);
        assert_eq!(json["latent_dim"], 3, "{report}");
        for (line, row) in table.lines().skip(1).zip(&rows) {
            // A row that lacks one entry follows from the others.
            if line.split(',').filter(|field| field.is_empty()).count() == 1 {
                let rest = row[0] + row[1] + row[2] - row[3];
                assert!(rest.abs() < 1e-3, "{line}: off by {rest}");
            }
        }
    }
    let (report, json, rows) = completed_rows("double", "a,b\n1,2\n2,4\n3,\n,8\n5,10\n", &[]);
    assert!((rows[2][1] - 6.0).abs() < 1e-3 && (rows[3][0] - 4.0).abs() < 1e-3, "{rows:?}");
    assert!(report.contains("exact identity"), "{report}");
    let sum = "a,b,c\n1,2,3\n4,1,5\n,3,14\n7,2,9\n2,8,10\n5,,9\n";
    let (_, _, more) = completed_rows("sum", sum, &[]);
    assert!((more[2][0] - 11.0).abs() < 1e-3 && (more[5][1] - 4.0).abs() < 1e-3, "{more:?}");
    assert!(json["noise_floor_of_identity"].as_f64().unwrap() > 0.0);
}

#[test]
fn noise_alone_is_completed_by_the_column_means() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut table = String::from("a,b,c,d\n");
    for _ in 0..40 {
        let row: Vec<String> = (0..4)
            .map(|_| {
                let value = uniform();
                if uniform() < 0.2 { String::new() } else { format!("{value:.6}") }
            })
            .collect();
        table += &(row.join(",") + "\n");
    }
    let (report, json, _) = completed_rows("noise", &table, &[]);
    let (error, means) = (
        json["held_out_error"].as_f64().unwrap(),
        json["held_out_error_of_means"].as_f64().unwrap(),
    );
    assert!(error <= means, "{report}");
    assert!(report.contains("that of the column means"), "{report}");
}

#[test]
fn a_constant_column_is_filled_and_changes_no_other() {
    let plain: Vec<&str> = include_str!("../cases/redundant_plain.csv").lines().take(61).collect();
    let table = |constants: usize| {
        let mut table = String::new();
        for (i, line) in plain.iter().enumerate() {
            let mut fields: Vec<String> = line.split(',').map(String::from).collect();
            if i > 0 && i % 3 == 0 {
                fields[i % 5] = String::new();
            }
            for constant in 0..constants {
                fields.push(match i {
                    0 => format!("constant{constant}"),
                    _ if i % 7 == 0 => String::new(),
                    _ => "0.1".into(),
                });
            }
            table += &(fields.join(",") + "\n");
        }
        table
    };
    let (_, json, rows) = completed_rows("constants-0", &table(0), &[]);
    let (report, with, more) = completed_rows("constants-2", &table(2), &[]);
    assert_eq!(json["latent_dim"], with["latent_dim"], "{report}");
    assert!(report.contains("2 columns are constant"), "{report}");
    for (row, more) in rows.iter().zip(&more) {
        assert_eq!(row[..], more[..5]);
        assert_eq!(more[5..], [0.1, 0.1]);
    }
}

#[test]
fn models_units_and_bounds() {
    let table = include_str!("../cases/parts_and_total.csv");
    let (report, json, _) =
        completed_rows("factors", table, &["--model", "factor_analysis", "--latent-dim", "1"]);
    assert_eq!(json["model"], "factor_analysis", "{report}");
    // Standardised columns are a change of units: the completion is that of other units.
    let (_, _, one) = completed_rows("units", table, &["--standardize", "--latent-dim", "1"]);
    let scaled: String = table
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut fields: Vec<String> = line.split(',').map(String::from).collect();
            if let (1.., Ok(value)) = (i, fields[0].parse::<f64>()) {
                fields[0] = format!("{}", 1000.0 * value);
            }
            fields.join(",") + "\n"
        })
        .collect();
    let (_, _, other) = completed_rows("scaled", &scaled, &["--standardize", "--latent-dim", "1"]);
    for (a, b) in one.iter().zip(&other) {
        assert!((1000.0 * a[0] - b[0]).abs() < 1e-2 && (a[1] - b[1]).abs() < 1e-4);
    }
    // A column at its mean with the conditional variance v has the truncated mean of N(m, v).
    let (report, _, rows) =
        completed_rows("bounds", "x\n1\n2\n3\n4\nNA\n", &["--bounds", "x:2.5:"]);
    assert!(report.contains("truncated conditional mean"), "{report}");
    // m = 2.5, v = 1.25: m + √(2v/π).
    let right = 2.5 + (2.5 / std::f64::consts::PI).sqrt();
    assert!((rows[4][0] - right).abs() < 1e-6, "{} and not {right}", rows[4][0]);
    for (option, value) in
        [("--bounds", "x:3:2"), ("--bounds", "x"), ("--noise-floor", "2"), ("--model", "pca")]
    {
        let run = impute(&["--data", "x.csv", option, value]);
        assert_eq!(run.status.code(), Some(2), "{option} {value}");
    }
}

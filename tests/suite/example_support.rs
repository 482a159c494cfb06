//! The parts that the example programs share.

#[path = "../../examples/support/mod.rs"]
mod support;

use elbo::data::files::{Header, ReadOptions};
use std::ffi::OsString;
use support::arguments::{Arguments, Dtype, Program};
use support::chart::{Chart, Mark};
use support::image::{Strip, square, strips};
use support::json::Json;
use support::page::{Page, Picture, Section, Table};
use support::scatter::{Classes, latent, scatter};

const PROGRAM: Program = Program {
    name: "demo",
    about: "Tries the options.",
    options: &["latent-dim", "seed", "dtype", "threads", "quick", "json"],
    needs_data: false,
};

fn parse(line: &str) -> Result<Option<Arguments>, String> {
    PROGRAM.parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn options_are_understood() {
    let found = parse("--data=a.csv --label kind --ignore a,b --ignore c --latent-dim 3 --seed 7 --dtype f32 --quick").unwrap().unwrap();
    let expected = Arguments {
        data: Some("a.csv".into()),
        reading: ReadOptions::default().label("kind").ignore(["a", "b", "c"]),
        latent_dim: Some(3),
        seed: 7,
        dtype: Dtype::F32,
        quick: true,
        ..Arguments::default()
    };
    assert_eq!(found, expected);
    let quoted = PROGRAM.parse(["--ignore", "\"a, b\", c"].map(OsString::from)).unwrap().unwrap();
    assert_eq!(quoted.reading.ignore, ["a, b", "c"]);
    for (value, expected) in
        [("", vec![""]), ("\"\"", vec![""]), (",", vec!["", ""]), ("a,", vec!["a"])]
    {
        let unnamed = PROGRAM.parse(["--ignore", value].map(OsString::from)).unwrap().unwrap();
        assert_eq!(unnamed.reading.ignore, expected, "{value:?}");
    }
    let files = "--header no --row-names yes --separator tab --decimal , --missing ?,-9 --array x";
    let options = parse(files).unwrap().unwrap().reading;
    let expected = ReadOptions::default().header(Header::Absent).row_names(true).separator('\t');
    let expected = expected.decimal(',').missing_marks(["?", "-9"]).array("x");
    assert_eq!(options, expected);
    let limits = parse("--max-bytes 10 --max-columns 20 --separator ;").unwrap().unwrap().reading;
    assert_eq!((limits.max_bytes, limits.max_columns, limits.separator), (10, 20, Some(';')));
    assert_eq!(parse("").unwrap(), Some(Arguments::default()));
    assert_eq!(parse("--quick --help").unwrap(), None);
    assert_eq!(parse("-h").unwrap(), None);
    assert!(PROGRAM.usage().contains("--latent-dim K") && !PROGRAM.usage().contains("--out"));
    let needs = Program { needs_data: true, ..PROGRAM };
    assert_eq!(needs.parse([]).unwrap_err(), "option '--data FILE' is needed");
}

#[test]
fn wrong_options_are_one_line() {
    for (line, message) in [
        ("--nonsense", "invalid option '--nonsense'"),
        ("--out a.csv", "invalid option '--out'"),
        ("-q", "invalid option '-q'"),
        ("--seed", "option '--seed' needs a value: S"),
        ("--seed -1", "option '--seed': \"-1\" is not an integer from 0 to 18446744073709551615"),
        (
            "--latent-dim two",
            "option '--latent-dim': \"two\" is not a positive integer or a rule: laplace, bic, ard, \
             held_out, parallel, share:P with 0 < P ≤ 1",
        ),
        ("--threads 1.5", "option '--threads': \"1.5\" is not a positive integer"),
        ("--dtype f16", "option '--dtype': \"f16\" is not f32 or f64"),
        ("--data=", "option '--data': \"\" is not a file"),
        ("--header maybe", "option '--header': \"maybe\" is not auto, yes or no"),
        ("--decimal x", "option '--decimal': \"x\" is not a point or a comma"),
        (
            "--separator ab",
            "option '--separator': \"ab\" is not one sign, comma, semicolon, tab, space or pipe",
        ),
        ("--max-bytes 0", "option '--max-bytes': \"0\" is not a positive integer"),
        ("--quick=yes", "unexpected argument for option '--quick': \"yes\""),
        ("extra", "unexpected argument \"extra\""),
    ] {
        assert_eq!(parse(line).unwrap_err(), message, "{line}");
    }
}

#[test]
fn json_keeps_the_order_and_has_no_nan() {
    let json = Json::Object(vec![
        ("z", 3usize.into()),
        ("a", f64::NAN.into()),
        ("m", Json::from(vec![0.1, -1e300])),
        ("none", None::<f64>.into()),
        ("text", "line\n\"x\"".into()),
    ]);
    let flat: String = json.text().split_whitespace().collect();
    assert_eq!(flat, r#"{"z":3,"a":null,"m":[0.1,-1e+300],"none":null,"text":"line\n\"x\""}"#);
}

/// A picture is well formed as far as a look at its tags and numbers can tell.
fn check(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let (open, close) = (svg.matches("<text").count(), svg.matches("</text>").count());
    assert_eq!(open, close);
}

/// The centres of the points of a chart, those of the legend among them.
fn centres(svg: &str) -> Vec<(i32, i32)> {
    let number = |circle: &str, name: &str| {
        circle.split_once(name).unwrap().1.split('"').next().unwrap().parse().unwrap()
    };
    svg.split("<circle ")
        .skip(1)
        .map(|circle| (number(circle, "cx=\""), number(circle, "cy=\"")))
        .collect()
}

#[test]
fn equal_values_of_several_series_stand_side_by_side() {
    let series =
        |chart: Chart, i: usize| chart.values(&format!("series {i}"), Mark::Beside, &[3.0, 2.0]);
    let mut circles = centres(&(0..5).fold(Chart::new("t", "x", "y"), series).svg());
    assert_eq!(circles.len(), 5 * 2 + 5);
    circles.sort_unstable();
    circles.dedup();
    assert_eq!(circles.len(), 5 * 2 + 5, "a point hides another");
}

#[test]
fn charts_survive_any_data() {
    let hostile: [&[f64]; 9] = [
        &[],
        &[1.0],
        &[3.0; 5],
        &[f64::NAN; 3],
        &[f64::NAN, 2.0, f64::INFINITY, -1.0],
        &[1e300, -1e300, 1e-300, 0.0],
        &[1e9, 1e9 + 1e-6],
        &[1e-90, 1e90],
        &[0.0, -0.0],
    ];
    for values in hostile {
        for mark in [Mark::Line, Mark::Dashed, Mark::Level, Mark::DashedLevel, Mark::Beside] {
            for chart in [
                Chart::new("t", "x", "y"),
                Chart::new("t", "x", "y").log_x(),
                Chart::new("t", "x", "y").log_y(),
            ] {
                check(&chart.values("name", mark, values).values("", mark, &[1.0, 2.0]).svg());
            }
        }
        check(&latent("k = 1", values, 1, None));
        check(&latent("k = 2", values, 2, None));
        check(&strips("t", &[Strip { label: "a", pixels: values }], (1, 1), (0.0, 0.0)));
    }
    assert!(Chart::new("a < b & c", "", "").svg().contains("a &lt; b &amp; c"));
}

#[test]
fn classes_have_names_in_the_picture() {
    let points: Vec<(f64, f64)> = (0..90).map(|i| (f64::from(i % 9), f64::from(i / 9))).collect();
    let of: Vec<usize> = (0..90).map(|i| i % 3).collect();
    let names = ["one", "<two>", "three"].map(String::from);
    let svg = scatter("t", "x", "y", &points, Some(Classes { of: &of, names: &names }));
    check(&svg);
    assert_eq!(svg.matches("&lt;two&gt;").count(), 2);
    assert_eq!(svg.matches("class=\"tag\"").count(), 3);
    // classes that do not belong to these points are left out
    check(&scatter("t", "x", "y", &points[..5], Some(Classes { of: &of, names: &names })));
}

#[test]
fn images_are_square_or_not() {
    assert_eq!(square(64), Some((8, 8)));
    assert_eq!((square(63), square(1), square(0)), (None, None, None));
    let svg = strips("t", &[Strip { label: "row", pixels: &[0.5; 24] }], (2, 4), (0.0, 1.0));
    check(&svg);
    // the width of the first image is 4, its height 2, in indexed colour
    assert_eq!(svg.matches("base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAMAAA").count(), 3);
}

#[test]
fn a_page_stands_alone() {
    let mut table = Table::new(&["step", "log p (nats)"]);
    table.row(vec!["ppca <ml>".into(), "−1.5".into()]);
    assert_eq!(table.text().lines().next().unwrap(), "step       log p (nats)");
    let mut section = Section::new("Steps", "a & b");
    section.table = Some(table);
    section.pictures.push(Picture::new(
        "one",
        "caption",
        Chart::new("t", "x", "y").values("v", Mark::Line, &[1.0, 2.0]).svg(),
    ));
    let page = Page { title: "T".into(), lead: "L".into(), sections: vec![section] };
    let folder = std::env::temp_dir().join(format!("elbo-page-{}", std::process::id()));
    let path = page.write(&folder).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    let svg = std::fs::read_to_string(folder.join("one.svg")).unwrap();
    // a folder cannot lie below a file
    assert!(page.write(&path.join("below")).is_err());
    std::fs::remove_dir_all(&folder).unwrap();
    check(&svg);
    assert!(
        html.contains("a &amp; b") && html.contains("ppca &lt;ml&gt;") && html.contains("<svg ")
    );
    assert!(!html.contains("src=") && !html.contains("<link"));
}

#[test]
fn a_table_that_is_probably_transposed_draws_a_note() {
    use elbo::data::files::{Format, ReadOptions, decode};
    let of = |text: &str| {
        let options = ReadOptions::default().keep_text(true);
        let table = decode::<f64>(text.as_bytes(), Format::Csv, &options).unwrap();
        support::orientation::note(&table)
    };
    // Iris as it is sometimes given: four rows of 150 values.
    let row = |j: usize| (0..150).map(|i| (i * j % 7).to_string()).collect::<Vec<_>>().join(",");
    let wide: String = (1..5).map(|j| row(j) + "\n").collect();
    let said = of(&wide).unwrap();
    assert!(said.contains("4 observations of 150 variables: is the table transposed?"), "{said}");
    let tall: String = (0..150).map(|i| format!("{i},{},{},1.5\n", i % 3, i % 7)).collect();
    assert_eq!(of(&tall), None);
    // Few observations of many named variables are data.
    assert_eq!(of("a,b,c,d,e\n1,2,3,4,5\n2,1,4,5,3\n4,3,2,5,1\n"), None);
}

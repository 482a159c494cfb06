//! The command line of `fit_table`: each likelihood, and each refusal.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the example that `cargo test` built beside this test; builds it first where only this test
/// was asked for.
fn fit_table(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let built = test
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(format!("fit_table{}", std::env::consts::EXE_SUFFIX));
    let mut command = if built.exists() {
        Command::new(built)
    } else {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--example", "fit_table", "--"]);
        command
    };
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(arguments)
        .output()
        .unwrap()
}

/// A file of its own for each test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("elbo-fit-table-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// The JSON of a run.
fn figures(name: &str, data: &str, options: &[&str]) -> serde_json::Value {
    let json = file(&format!("{name}.json"), "");
    let mut arguments = vec!["--data", data, "--no-plots", "--json", json.to_str().unwrap()];
    arguments.extend(options);
    let run = fit_table(&arguments);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The exit code and the one line of a refusal.
fn refused(data: &str, options: &[&str]) -> (i32, String) {
    let mut arguments = vec!["--data", data, "--no-plots"];
    arguments.extend(options);
    let run = fit_table(&arguments);
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    (run.status.code().unwrap(), errors[0].to_owned())
}

const COUNTS: &str = "a,b,c,d\n3,0,7,1\n0,2,1,4\n9,1,15,0\n2,5,0,8\n1,1,4,2\n14,0,22,1\n0,7,2,9\n\
                      4,2,6,3\n6,1,9,0\n1,3,1,6\n";
const ITEMS: &str = "a,b,c\n1,0,1\n1,1,1\n0,0,1\n0,1,0\n1,1,0\n1,0,0\n0,0,0\n1,1,1\n0,1,1\n";

#[test]
fn the_published_optimum_of_the_items_of_lsat6() {
    // The patterns of the file, each as often as it occurred.
    let table = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cases/lsat6.csv"));
    let mut text = String::from("q1,q2,q3,q4,q5\n");
    for line in table.unwrap().lines().skip(1) {
        let (answers, persons) = line.rsplit_once(',').unwrap();
        (0..persons.parse().unwrap()).for_each(|_| text += &format!("{answers}\n"));
    }
    let path = file("lsat6.csv", &text);
    let data = path.to_str().unwrap();
    let options = ["--likelihood", "bernoulli", "--latent-dim", "1"];
    let json = figures("lsat6", data, &options);
    let number = |key: &str| json[key].as_f64().unwrap();
    assert!((number("elbo") + 2467.04488).abs() < 1e-5);
    assert!((number("log_likelihood") + 2466.66673).abs() < 1e-5);
    assert_eq!(json["log_likelihood_method"], "quadrature");
    assert!(json["log_likelihood_standard_error"].is_null());
    assert_eq!(json["starts"].as_array().unwrap().len(), 5);
    assert_eq!((&json["rank"], &json["observations"]), (&1.into(), &1000.into()));
    let by_likelihood =
        figures("lsat6-exact", data, &[options.as_slice(), &["--fit", "likelihood"]].concat());
    assert!((by_likelihood["log_likelihood"].as_f64().unwrap() + 2466.65338).abs() < 1e-5);
    assert!((by_likelihood["elbo"].as_f64().unwrap() + 2467.05906).abs() < 1e-5);
    assert!((by_likelihood["loadings"][0][0].as_f64().unwrap() - 0.8257).abs() < 1e-4);
    assert!((by_likelihood["intercepts"][0].as_f64().unwrap() - 2.7732).abs() < 1e-4);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn gaussian_likelihoods_are_exact() {
    let data = "examples/data/iris.csv.gz";
    let json = figures("iris", data, &["--latent-dim", "2"]);
    for key in ["elbo", "log_likelihood"] {
        assert!((json[key].as_f64().unwrap() + 404.9627801561).abs() < 1e-6, "{key}");
    }
    assert_eq!(
        (&json["log_likelihood_method"], &json["stop"]),
        (&"exact".into(), &"closed_form".into())
    );
    let isotropic = figures("iris-i", data, &["--latent-dim", "2", "--posterior", "isotropic"]);
    assert!((isotropic["elbo"].as_f64().unwrap() + 475.7852012676).abs() < 1e-4);
    let factors =
        figures("iris-f", data, &["--latent-dim", "1", "--likelihood", "gaussian_per_variable"]);
    assert!(
        factors["log_likelihood"].as_f64() > json["log_likelihood"].as_f64().map(|v| v - 100.0)
    );
    // The default is min(8, rank − 1).
    assert_eq!(figures("iris-d", data, &[])["latent_dim"], 3);
}

#[test]
fn counts_with_totals_tests_and_codes() {
    let path = file("counts.csv", COUNTS);
    // The columns in another order.
    let test = file("counts-test.csv", "d,c,b,a\n2,5,1,3\n7,1,4,0\n");
    let codes = file("counts-codes.csv", "");
    let options = [
        "--likelihood",
        "poisson",
        "--offset",
        "total",
        "--latent-dim",
        "1",
        "--restarts",
        "1",
        "--test",
        test.to_str().unwrap(),
        "--codes",
        codes.to_str().unwrap(),
    ];
    let json = figures("counts", path.to_str().unwrap(), &options);
    let number = |key: &str| json[key].as_f64().unwrap();
    assert!(number("elbo") <= number("log_likelihood") && number("test_elbo") < 0.0);
    assert!(number("test_elbo") <= number("test_log_likelihood"));
    assert_eq!(json["starts"].as_array().unwrap().len(), 2);
    let written = std::fs::read_to_string(&codes).unwrap();
    assert_eq!((written.lines().next(), written.lines().count()), (Some("z1"), 11));
    // Exposures that are the totals of rows and test rows are the same offset.
    let totals = "11\n7\n25\n15\n8\n37\n18\n15\n16\n11\n11\n12\n";
    let exposures = file("counts-exposures.csv", &format!("total\n{totals}"));
    let with_file: Vec<&str> = options
        .iter()
        .map(|&option| if option == "total" { exposures.to_str().unwrap() } else { option })
        .collect();
    let again = figures("counts-file", path.to_str().unwrap(), &with_file);
    assert!((again["elbo"].as_f64().unwrap() - number("elbo")).abs() < 1e-7);
    assert!((again["test_elbo"].as_f64().unwrap() - number("test_elbo")).abs() < 1e-5);
    // Missing entries are left out.
    let holed = file("counts-holes.csv", &COUNTS.replacen("3,0,7,1", "3,,7,1", 1));
    let options = ["--likelihood", "poisson", "--latent-dim", "bic", "--restarts", "0"];
    let json = figures("counts-holes", holed.to_str().unwrap(), &options);
    assert!(json["elbo"].as_f64().unwrap() < 0.0);
    for path in [path, test, codes, exposures, holed] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_likelihood_for_each_column() {
    let path = file("mixed.csv", "a,b,c\n3,0,7\n0,1,1\n9,1,15\n2,0,0\n1,1,4\n14,0,22\n");
    let options = ["--columns", "c:poisson,b:bernoulli,a:poisson", "--latent-dim", "1"];
    let json = figures("mixed", path.to_str().unwrap(), &options);
    assert!(json["elbo"].as_f64() <= json["log_likelihood"].as_f64());
    let (code, text) = refused(path.to_str().unwrap(), &["--columns", "a:poisson,b:bernoulli"]);
    assert!(code == 1 && text.contains("\"c\" has no likelihood"), "{text}");
    let (code, text) = refused(path.to_str().unwrap(), &["--columns", "a:poisson,x:bernoulli"]);
    assert!(code == 1 && text.contains("no column \"x\""), "{text}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn options_without_a_meaning_together() {
    let path = file("usage.csv", COUNTS);
    let data = path.to_str().unwrap();
    let poisson = ["--likelihood", "poisson"];
    for (more, expected) in [
        (vec!["--latent-dim", "laplace"], "laplace"),
        (vec!["--latent-dim", "share:0.5"], "share"),
        (vec!["--fit", "likelihood", "--latent-dim", "3"], "1 or 2"),
        (vec!["--standardize"], "--standardize"),
        (vec!["--hidden", "8"], "--hidden"),
        (vec!["--inference", "amortized"], "--inference"),
        (vec!["--epochs", "5"], "a linear decoder"),
        (vec!["--decoder", "deep", "--binarize", "dynamic"], "--binarize"),
        (vec!["--decoder", "deep", "--resume"], "--checkpoint"),
        (vec!["--decoder", "deep", "--objective", "renyi:-1"], "renyi:A"),
        (vec!["--decoder", "deep", "--offset", "total"], "--offset"),
        (vec!["--columns", "a:poisson"], "give one of them"),
        (vec!["--fit", "moments"], "elbo or likelihood"),
        (vec!["--scale", "0"], "--scale"),
        (vec!["--posterior", "round"], "isotropic, diagonal or full"),
    ] {
        let (code, text) = refused(data, &[poisson.as_slice(), &more].concat());
        assert!(code == 2 && text.contains(expected), "{more:?}: {text}");
    }
    let (code, text) = refused(data, &["--offset", "total"]);
    assert!(code == 2 && text.contains("--offset"), "{text}");
    let (code, text) = refused(data, &["--likelihood", "categorical"]);
    assert!(code == 2 && text.contains("--decoder deep"), "{text}");
    let (code, text) = refused(data, &["--likelihood", "zipf"]);
    assert!(code == 2 && text.contains("poisson"), "{text}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn bad_data_is_refused_with_its_place() {
    let table = |name: &str, text: &str| file(name, text);
    let check = |name: &str, text: &str, options: &[&str], expected: &[&str]| {
        let path = table(name, text);
        let (code, found) = refused(path.to_str().unwrap(), options);
        assert_eq!(code, 1, "{found}");
        for expected in expected {
            assert!(found.contains(expected), "{name}: {found}");
        }
        std::fs::remove_file(path).unwrap();
    };
    let poisson = ["--likelihood", "poisson"];
    let with_totals = ["--likelihood", "poisson", "--offset", "total"];
    let bernoulli = ["--likelihood", "bernoulli"];
    let changed = |from: &str, to: &str| COUNTS.replacen(from, to, 1);
    check("negative.csv", &changed("3,0", "-3,0"), &poisson, &["row 1", "\"a\"", "-3"]);
    check("fraction.csv", &changed("3,0", "3.5,0"), &poisson, &["row 1", "\"a\"", "3.5"]);
    check("large.csv", &changed("3,0", "1e17,0"), &poisson, &["row 1", "\"a\""]);
    check(
        "two.csv",
        &ITEMS.replacen("1,0,1", "2,0,1", 1),
        &bernoulli,
        &["row 1", "\"a\"", "[0, 1]"],
    );
    check("zero-row.csv", &changed("3,0,7,1", "0,0,0,0"), &with_totals, &["row 1", "sum to 0"]);
    let constant = ITEMS.replace("1,1", "1,0").replace("0,1,0", "0,0,0").replace("0,1,1", "0,0,1");
    check("constant.csv", &constant, &bernoulli, &["\"b\"", "in every row"]);
    let empty = "a,b,c\n1,,2\n3,,0\n4,,1\n";
    check("empty-column.csv", empty, &poisson, &["\"b\""]);
    check("text.csv", &changed("3,0", "x,0"), &poisson, &["\"a\"", "\"x\""]);
    let (path, zero) =
        (table("offsets.csv", COUNTS), table("zero.csv", "t\n1\n0\n1\n1\n1\n1\n1\n1\n1\n1\n"));
    let options = ["--likelihood", "poisson", "--offset", zero.to_str().unwrap()];
    let (code, text) = refused(path.to_str().unwrap(), &options);
    assert!(code == 1 && text.contains("row 2") && text.contains("not positive"), "{text}");
    let short = table("short.csv", "t\n1\n2\n");
    let options = ["--likelihood", "poisson", "--offset", short.to_str().unwrap()];
    let (code, text) = refused(path.to_str().unwrap(), &options);
    assert!(code == 1 && text.contains("2 rows of exposures"), "{text}");
    for (test, expected) in [("a,b,c,e\n1,2,3,4\n", "\"e\""), ("a,b,c\n1,2,3\n", "\"d\"")] {
        let test = table("other.csv", test);
        let options = ["--likelihood", "poisson", "--test", test.to_str().unwrap()];
        let (code, text) = refused(path.to_str().unwrap(), &options);
        assert!(code == 1 && text.contains(expected), "{text}");
        std::fs::remove_file(test).unwrap();
    }
    for path in [path, zero, short] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_deep_decoder() {
    let path = file("deep.csv", ITEMS);
    let options = ["--likelihood", "bernoulli", "--decoder", "deep", "--quick", "--hidden", "4"];
    let json = figures("deep", path.to_str().unwrap(), &options);
    assert_eq!((&json["decoder"], &json["latent_dim"]), (&"deep".into(), &2.into()));
    assert!(json["elbo"].as_f64().unwrap() < 0.0 && json["loadings"].is_null());
    std::fs::remove_file(path).unwrap();
}

const MIXED: &str = "kind,size,count\nred,1.5,2\nblue,2.5,0\nred,1.25,3\ngreen,4.5,1\nblue,2.75,0\n\
                     red,1.0,4\ngreen,4.0,\n,2.0,1\n";

#[test]
fn a_deep_fit_reports_its_training_and_continues_from_a_checkpoint() {
    let path = file("deep-mixed.csv", MIXED);
    let data = path.to_str().unwrap();
    let checkpoint = file("deep-mixed.checkpoint", "");
    let kinds = "kind:categorical,size:gaussian_per_variable,count:negative_binomial";
    let deep = ["--decoder", "deep", "--columns", kinds, "--latent-dim", "1", "--test", data];
    let options = |more: &[&'static str]| -> Vec<String> {
        let own = deep.iter().chain(more).map(|option| (*option).to_owned());
        own.chain(["--checkpoint".into(), checkpoint.to_str().unwrap().into()]).collect()
    };
    let run = |name: &str, more: &[&'static str]| {
        let options = options(more);
        figures(name, data, &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let whole = run("deep-whole", &["--epochs", "6", "--prior", "mixture:2"]);
    assert_eq!(whole["history"].as_array().unwrap().len(), 6);
    assert!(whole["test_nll"]["value"].as_f64().unwrap().is_finite());
    assert_eq!(whole["test_nll"]["observations"], 8);
    for key in ["rate", "mutual_information", "test_elbo", "elbo"] {
        assert!(whole[key].as_f64().unwrap().is_finite(), "{key}");
    }
    let active = whole["active_units"].as_u64().unwrap() as usize;
    assert_eq!(active + whole["collapsed"].as_array().unwrap().len(), 1);
    // Interrupted at once, and continued.
    let cut = ["--epochs", "6", "--prior", "mixture:2", "--time-limit", "1e-9"];
    assert_eq!(run("deep-cut", &cut)["stop"], "interrupted");
    let resumed = run("deep-resumed", &["--epochs", "6", "--prior", "mixture:2", "--resume"]);
    for key in ["elbo", "test_elbo", "test_nll", "rate", "stop"] {
        assert_eq!(resumed[key], whole[key], "{key}");
    }
    let other = options(&["--epochs", "6", "--prior", "gaussian", "--resume"]);
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    let (code, text) = refused(data, &other);
    assert!(code == 1 && text.contains("prior Gaussian"), "{text}");
    // A category that the data do not have.
    let foreign = file("deep-mixed-test.csv", &MIXED.replacen("green", "black", 1));
    let mut unknown = deep.to_vec();
    unknown[7] = foreign.to_str().unwrap();
    let (code, text) = refused(data, &unknown);
    assert!(code == 1 && text.contains("row 4") && text.contains("black"), "{text}");
    for path in [path, checkpoint, foreign] {
        std::fs::remove_file(path).unwrap();
    }
}

//! The command line of the programs that take a data file.

use elbo::data::files::{Header, ReadOptions, written_format};
use lexopt::{Arg, Parser};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::exit;

/// A program: its name, a description, and the options that it accepts.
pub struct Program {
    pub name: &'static str,
    pub about: &'static str,
    pub options: &'static [&'static str],
    /// Whether `--data` must be given.
    pub needs_data: bool,
}

/// Name, value and explanation of every option.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("data", "FILE", "read .csv, .tsv, .txt, .npy, .npz or .idxN-ubyte, each also with .gz"),
    ("label", "COLUMN", "use this column as the class, not as data (default: label, if present)"),
    (
        "ignore",
        "COLUMN,…",
        "do not use these columns; quote a name that contains a comma, as in CSV; '' is a column \
         without a name; may be repeated",
    ),
    ("header", "auto|yes|no", "whether the first line has the names of the columns"),
    ("row-names", "auto|yes|no", "whether the first column has the names of the rows"),
    ("separator", "CHARACTER", "between fields; also comma, tab, space (default: detected)"),
    ("decimal", ".|,", "the decimal mark (default: detected)"),
    (
        "missing",
        "MARK,…",
        "further marks of missing values, such as \"gone,-9999\"; may be repeated",
    ),
    ("array", "NAME", "the array to be read from an .npz file"),
    (
        "max-bytes",
        "B",
        "limit on the bytes that are read and on those of the table (default: 4 GiB)",
    ),
    ("max-columns", "C", "limit on the number of columns (default: 1048576)"),
    (
        "latent-dim",
        "K|RULE",
        "dimension of the latent space, or the rule that chooses it: laplace, bic, ard, held_out, \
         parallel (parallel analysis), share:P (share P of the variance)",
    ),
    ("restarts", "R", "random restarts beside the first start; the best is kept (default: 4)"),
    ("seed", "S", "seed of every random number (default: 0)"),
    ("model", "ppca|factor_analysis", "one noise variance, or one for each column (default: ppca)"),
    (
        "noise-floor",
        "SHARE",
        "lower bound of the noise variance, as a share of the variance (default: none, or 1e-8 \
         where the columns obey an exact identity)",
    ),
    (
        "bounds",
        "COLUMN:LOW:HIGH",
        "impute within these limits, either of which may be empty: the mean of the conditional \
         distribution truncated to them; may be repeated",
    ),
    (
        "likelihood",
        "NAME",
        "p(x|z) of every column: gaussian, gaussian_per_variable, student_t, laplace, log_normal, \
         bernoulli, continuous_bernoulli, binomial:N, poisson, negative_binomial, \
         zero_inflated_poisson, categorical, ordinal (default: gaussian)",
    ),
    ("columns", "COLUMN:NAME,…|auto", "a likelihood for each column, in place of --likelihood"),
    (
        "offset",
        "total|none|FILE",
        "what is added to the predictors: the logarithm of the row's total, nothing (default), or \
         the logarithms of the exposures in a file of one column, or of one for each column",
    ),
    ("decoder", "linear|deep", "the map from z to x (default: linear)"),
    ("hidden", "N,N,…", "hidden units of a deep decoder and its encoder (default: 64)"),
    (
        "inference",
        "per_point|amortized",
        "one q for each row, or a map from x to q (default: per_point, amortized if deep)",
    ),
    ("posterior", "isotropic|diagonal|full", "the covariances of q (default: diagonal)"),
    ("fit", "elbo|likelihood", "what is maximised (default: elbo; likelihood needs k ≤ 2)"),
    ("scale", "auto|none|V", "divide the data by V, or images of bytes by their largest value"),
    ("test", "FILE", "rows that are not fitted, of which J and log p are reported"),
    ("codes", "FILE", "write the means of q, a row for each row of the data"),
    (
        "objective",
        "elbo|iwae|dreg|renyi:A|beta:B",
        "what a deep fit climbs (default: elbo); J is reported for all",
    ),
    ("samples", "K", "samples of z for each row and step (default: 1, or 5 for iwae, dreg, renyi)"),
    (
        "epochs",
        "N",
        "passes over the rows, none of which are held out then (default: about 12,000 steps with \
         early stopping on a fifth of the rows)",
    ),
    ("batch", "B", "rows of a step (default: 64, or 100 with --epochs)"),
    ("learning-rate", "R", "of Adam (default: 0.01, or 0.001 with --epochs)"),
    (
        "schedule",
        "constant|linear|cosine|steps:N:F",
        "of the learning rate (default: cosine, or constant with --epochs)",
    ),
    ("kl-warm-up", "EPOCHS", "raise the weight of the divergence from 0 to 1 in these epochs"),
    ("prior", "standard|gaussian|mixture:C", "the prior of z under a deep decoder"),
    (
        "binarize",
        "dynamic|fixed|none",
        "make fractions in [0, 1] binary: anew in each epoch, once, or not (default: none)",
    ),
    ("activation", "NAME", "of hidden layers: silu (default), tanh, relu, softplus, gelu"),
    ("nll-samples", "N", "importance samples of log p of the rows for testing (default: 1000)"),
    ("nll-observations", "M", "the number of these rows (default: all)"),
    ("checkpoint", "FILE", "write the state of the fit there (safetensors)"),
    ("checkpoint-every", "EPOCHS", "how often (default: 1)"),
    ("resume", "", "continue from the checkpoint, to the bits of a run without interruption"),
    ("time-limit", "SECONDS", "end the fit after the epoch that passes it"),
    ("dtype", "f32|f64", "precision (default: f64)"),
    ("threads", "T", "threads (default: all)"),
    ("standardize", "", "give every column mean 0 and variance 1 first"),
    ("quick", "", "fewer epochs, samples and refinements of the deep steps"),
    ("no-plots", "", "write no pictures"),
    ("json", "FILE", "write the results as JSON"),
    ("out", "FILE", "write the completed table: text as it was read, .tsv with tabs, or .npy"),
    ("help", "", "print this and stop"),
];

/// The options of every program that concern the data file.
const FILE_OPTIONS: [&str; 11] = [
    "data",
    "label",
    "ignore",
    "header",
    "row-names",
    "separator",
    "decimal",
    "missing",
    "array",
    "max-bytes",
    "max-columns",
];

/// The precision to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    F32,
    #[default]
    F64,
}

/// A rule that chooses the latent dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    Laplace,
    Bic,
    Ard,
    HeldOut,
    Parallel,
    Share(f64),
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "laplace" => Self::Laplace,
            "bic" => Self::Bic,
            "ard" => Self::Ard,
            "held_out" => Self::HeldOut,
            "parallel" => Self::Parallel,
            _ => {
                let share: f64 = text.strip_prefix("share:")?.parse().ok()?;
                return (share > 0.0 && share <= 1.0).then_some(Self::Share(share));
            }
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Laplace => f.write_str("laplace"),
            Self::Bic => f.write_str("bic"),
            Self::Ard => f.write_str("ard"),
            Self::HeldOut => f.write_str("held_out"),
            Self::Parallel => f.write_str("parallel"),
            Self::Share(share) => write!(f, "share:{share}"),
        }
    }
}

/// The limits of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    pub column: String,
    pub low: f64,
    pub high: f64,
}

impl Bounds {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (high, low, column) = (parts.next()?, parts.next()?, parts.next()?);
        let limit = |text: &str, open: f64| match text.trim() {
            "" => Some(open),
            number => number.parse().ok().filter(|v: &f64| !v.is_nan()),
        };
        let (low, high) = (limit(low, f64::NEG_INFINITY)?, limit(high, f64::INFINITY)?);
        (low <= high).then(|| Self { column: column.to_owned(), low, high })
    }
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments {
    pub data: Option<PathBuf>,
    /// How to read it.
    pub reading: ReadOptions,
    pub latent_dim: Option<usize>,
    /// The rule given in place of a number.
    pub rule: Option<Rule>,
    pub factor_analysis: bool,
    pub noise_floor: Option<f64>,
    pub bounds: Vec<Bounds>,
    pub restarts: Option<usize>,
    pub seed: u64,
    pub dtype: Dtype,
    pub threads: Option<usize>,
    pub standardize: bool,
    pub quick: bool,
    pub no_plots: bool,
    pub json: Option<PathBuf>,
    pub out: Option<PathBuf>,
    /// The options of `fit_table` alone, as they stand.
    pub table: Vec<(String, String)>,
}

/// Options that are parsed by their program.
const TABLE_OPTIONS: [&str; 27] = [
    "likelihood",
    "columns",
    "offset",
    "decoder",
    "hidden",
    "inference",
    "posterior",
    "fit",
    "scale",
    "test",
    "codes",
    "objective",
    "samples",
    "epochs",
    "batch",
    "learning-rate",
    "schedule",
    "kl-warm-up",
    "prior",
    "binarize",
    "activation",
    "nll-samples",
    "nll-observations",
    "checkpoint",
    "checkpoint-every",
    "resume",
    "time-limit",
];

impl Program {
    /// The arguments of this process. Prints the usage and exits with code 0 on `--help`; exits
    /// with code 2 on an invalid option.
    pub fn arguments(&self) -> Arguments {
        match self.parse(std::env::args_os().skip(1)) {
            Ok(Some(arguments)) => arguments,
            Ok(None) => {
                let _ = std::io::stdout().write_all(self.usage().as_bytes());
                exit(0)
            }
            Err(message) => fail(2, &format!("{message} (--help shows the options)")),
        }
    }

    /// Parses arguments; `None` if they contain `--help`.
    pub fn parse(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Arguments>, String> {
        let mut parser = Parser::from_args(arguments);
        let mut found = Arguments::default();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let name = match argument {
                Arg::Long(name) => name.to_owned(),
                Arg::Short('h') => "help".to_owned(),
                other => return Err(other.unexpected().to_string()),
            };
            if name == "help" {
                return Ok(None);
            }
            let known = OPTIONS.iter().find(|option| option.0 == name && self.accepts(option.0));
            let &(_, value, _) = known.ok_or_else(|| format!("invalid option '--{name}'"))?;
            let value = match value {
                "" => OsString::new(),
                // A value never starts with --; a file of such a name is given as ./--x.
                _ => parser
                    .value()
                    .ok()
                    .filter(|given| !given.to_string_lossy().starts_with("--"))
                    .ok_or_else(|| format!("option '--{name}' needs a value: {value}"))?,
            };
            let text = value.to_string_lossy();
            match name.as_str() {
                "data" => found.data = Some(path(&name, &value)?),
                _ if FILE_OPTIONS.contains(&name.as_str()) => {
                    found.reading = reading(found.reading, &name, &text)?;
                }
                _ if TABLE_OPTIONS.contains(&name.as_str()) => {
                    found.table.push((name, text.into_owned()));
                }
                "latent-dim" => {
                    found.rule = Rule::parse(&text);
                    found.latent_dim = match found.rule {
                        Some(_) => None,
                        None => Some(positive(&name, &text).map_err(|message| {
                            format!(
                                "{message} or a rule: laplace, bic, ard, held_out, parallel, \
                                 share:P with 0 < P ≤ 1"
                            )
                        })?),
                    }
                }
                "model" => {
                    found.factor_analysis = match &*text {
                        "ppca" => false,
                        "factor_analysis" => true,
                        _ => return Err(wrong(&name, &text, "ppca or factor_analysis")),
                    }
                }
                "noise-floor" => {
                    let share: Option<f64> = text.parse().ok();
                    found.noise_floor = share.filter(|share| (1e-12..1.0).contains(share));
                    found
                        .noise_floor
                        .ok_or_else(|| wrong(&name, &text, "at least 1e-12 and below 1"))?;
                }
                "bounds" => found.bounds.push(
                    Bounds::parse(&text)
                        .ok_or_else(|| wrong(&name, &text, "COLUMN:LOW:HIGH with LOW ≤ HIGH"))?,
                ),
                "restarts" => {
                    found.restarts = Some(
                        text.parse().map_err(|_| wrong(&name, &text, "0 or a positive integer"))?,
                    )
                }
                "seed" => {
                    found.seed = text.parse().map_err(|_| {
                        wrong(&name, &text, "an integer from 0 to 18446744073709551615")
                    })?
                }
                "threads" => {
                    let threads = positive(&name, &text)?;
                    found.threads = Some(threads).filter(|&threads| threads <= 1024);
                    found.threads.ok_or_else(|| wrong(&name, &text, "at most 1024"))?;
                }
                "dtype" => {
                    found.dtype = match &*text {
                        "f32" => Dtype::F32,
                        "f64" => Dtype::F64,
                        _ => return Err(wrong(&name, &text, "f32 or f64")),
                    }
                }
                "standardize" => found.standardize = true,
                "quick" => found.quick = true,
                "no-plots" => found.no_plots = true,
                "json" => found.json = Some(path(&name, &value)?),
                "out" => found.out = Some(path(&name, &value)?),
                _ => return Err(format!("invalid option '--{name}'")),
            }
        }
        let same = |a: &Path, b: &Path| {
            a == b
                || (a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b)))
        };
        let written = [("json", &found.json), ("out", &found.out)];
        for (name, path) in written {
            if let (Some(path), Some(data)) = (path, &found.data)
                && same(path, data)
            {
                return Err(format!("option '--{name}': {} is the data", path.display()));
            }
        }
        if let Some(out) = &found.out {
            written_format(out).map_err(|error| format!("option '--out': {error}"))?;
        }
        if let (Some(json), Some(out)) = (&found.json, &found.out)
            && same(json, out)
        {
            return Err(format!("option '--out': {} is that of --json", out.display()));
        }
        match self.needs_data && found.data.is_none() {
            true => Err("option '--data FILE' is needed".into()),
            false => Ok(Some(found)),
        }
    }

    fn accepts(&self, option: &str) -> bool {
        FILE_OPTIONS.contains(&option) || self.options.contains(&option)
    }

    /// The text for `--help`.
    pub fn usage(&self) -> String {
        let mut text = format!("{}\n\nUsage: {} [OPTIONS]\n\nOptions:\n", self.about, self.name);
        for (name, value, help) in
            OPTIONS.iter().filter(|option| option.0 == "help" || self.accepts(option.0))
        {
            text += &format!("  {:<22} {help}\n", format!("--{name} {value}").trim_end());
        }
        text
    }
}

pub fn wrong(name: &str, value: &str, expected: &str) -> String {
    format!("option '--{name}': {value:?} is not {expected}")
}

pub fn positive(name: &str, value: &str) -> Result<usize, String> {
    value
        .parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| wrong(name, value, "a positive integer"))
}

/// Adds an option that concerns the data file.
fn reading(options: ReadOptions, name: &str, value: &str) -> Result<ReadOptions, String> {
    let choice = || match value {
        "auto" => Ok(None),
        "yes" => Ok(Some(true)),
        "no" => Ok(Some(false)),
        _ => Err(wrong(name, value, "auto, yes or no")),
    };
    Ok(match name {
        "label" => options.label(value),
        "ignore" => options.ignore(list(name, value, "a list of columns")?),
        "missing" => options.missing_marks(list(name, value, "a list of marks")?),
        "array" => options.array(value),
        "header" => options.header(match choice()? {
            None => Header::Detect,
            Some(true) => Header::Present,
            Some(false) => Header::Absent,
        }),
        "row-names" => match choice()? {
            None => options,
            Some(row_names) => options.row_names(row_names),
        },
        "separator" => options.separator(separator(name, value)?),
        "decimal" => options.decimal(match value {
            "." | "point" => '.',
            "," | "comma" => ',',
            _ => return Err(wrong(name, value, "a point or a comma")),
        }),
        "max-bytes" => options.max_bytes(positive(name, value)? as u64),
        "max-columns" => options.max_columns(positive(name, value)?),
        _ => return Err(format!("invalid option '--{name}'")),
    })
}

/// A separator, as itself or by its name.
fn separator(name: &str, value: &str) -> Result<char, String> {
    let named = [
        ("comma", ','),
        ("semicolon", ';'),
        ("tab", '\t'),
        ("\\t", '\t'),
        ("space", ' '),
        ("pipe", '|'),
    ];
    let mut characters = value.chars();
    match (named.iter().find(|(name, _)| *name == value), characters.next(), characters.next()) {
        (Some((_, separator)), ..) => Ok(*separator),
        (None, Some(separator), None) if separator.is_ascii() && !separator.is_alphanumeric() => {
            Ok(separator)
        }
        _ => Err(wrong(name, value, "one sign, comma, semicolon, tab, space or pipe")),
    }
}

/// The entries of one CSV record. An empty one stands for a column without a name if it is quoted
/// or alone.
pub fn list(name: &str, value: &str, expected: &str) -> Result<Vec<String>, String> {
    let mut record = csv::StringRecord::new();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(value.as_bytes());
    reader.read_record(&mut record).map_err(|_| wrong(name, value, expected))?;
    let empty = record.iter().all(str::is_empty) || value.contains("\"\"");
    let mut entries: Vec<String> =
        record.iter().filter(|entry| empty || !entry.is_empty()).map(str::to_owned).collect();
    if entries.is_empty() {
        entries.push(String::new());
    }
    Ok(entries)
}

fn path(name: &str, value: &OsStr) -> Result<PathBuf, String> {
    if value.is_empty() { Err(wrong(name, "", "a file")) } else { Ok(value.into()) }
}

impl Arguments {
    /// Runs `work` on the requested number of threads, after a check that its output files can be
    /// written.
    pub fn run(&self, work: impl FnOnce() + Send) {
        for path in self.json.iter().chain(&self.out) {
            or_end(can_be_written(path).map_err(|error| format!("{}: {error}", path.display())));
        }
        match self.threads {
            None => work(),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                or_end(pool.map_err(|error| format!("{threads} threads: {error}"))).install(work);
            }
        }
    }
}

/// Checks that a file can be created at this path, without creating it: the work may still fail.
pub fn can_be_written(path: &Path) -> Result<(), String> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (path.is_dir(), folder.is_dir()) {
        (true, _) => Err("it is a folder".into()),
        (_, false) => Err("its folder does not exist".into()),
        _ => Ok(()),
    }
}

/// The value, or the end of the program with one line on standard error and exit code 1.
pub fn or_end<V, E: Display>(result: Result<V, E>) -> V {
    result.unwrap_or_else(|error| data_error(error))
}

/// Ends the program because of its data: one line on standard error, exit code 1.
pub fn data_error(error: impl Display) -> ! {
    fail(1, &error.to_string())
}

/// Ends the program because of its command line: one line on standard error, exit code 2.
pub fn usage_error(error: impl Display) -> ! {
    fail(2, &error.to_string())
}

/// Prints a note on standard error: what was assumed, and how to change it.
pub fn note(text: impl Display) {
    // A closed standard error does not stop the program.
    let _ = writeln!(std::io::stderr(), "note: {}", one_line(&text.to_string()));
}

/// The text without control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Positional sizes of a program: the name of each, its default and the sizes that are possible.
pub fn sizes<const N: usize>(expected: [(&str, usize, RangeInclusive<usize>); N]) -> [usize; N] {
    let given: Vec<String> =
        std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    if let Some(extra) = given.get(N) {
        let names = expected.map(|(name, ..)| name).join(" ");
        usage_error(format!("unexpected argument {extra:?}: expected {names}"));
    }
    let mut index = 0;
    expected.map(|(name, default, possible)| {
        let text = given.get(index);
        index += 1;
        let Some(text) = text else { return default };
        let size = text.parse().ok().filter(|size| possible.contains(size));
        size.unwrap_or_else(|| {
            let (least, most) = (possible.start(), possible.end());
            usage_error(format!("{name}: {text:?} is not an integer from {least} to {most}"))
        })
    })
}

fn fail(code: i32, message: &str) -> ! {
    // A closed standard error does not change the exit code.
    let _ = writeln!(std::io::stderr(), "error: {}", one_line(message));
    exit(code)
}

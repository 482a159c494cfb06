//! Files of saved models: whole or not at all, and every problem a typed error with the path.

use super::iris;
use elbo::data::{Moments, Standardization};
use elbo::fit::{Adam, AdamSettings, StochasticGradient};
use elbo::map::{Mlp, Parameters};
use elbo::mixture::MixtureOfPpca;
use elbo::saved::{SavedFileError, kind_of};
use elbo::selection::BayesianPpca;
use elbo::{Error, FactorAnalysis, Pca, Ppca, Vae};
use rand::{SeedableRng, rngs::StdRng};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// An empty directory, removed at the end of the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("elbo-saved-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[track_caller]
pub fn problem<T: std::fmt::Debug>(
    result: elbo::Result<T>,
    of: &std::path::Path,
) -> SavedFileError {
    match result.unwrap_err() {
        Error::SavedFile { path, problem } => {
            assert_eq!(path, of);
            *problem
        }
        other => panic!("{other}"),
    }
}

fn ppca() -> Ppca {
    Ppca::fit(2, &iris::<f64>()).unwrap().model
}

#[test]
fn every_kind_of_result_is_saved_and_loaded() {
    let (directory, x) = (Directory::new("kinds"), iris::<f64>());
    let (path, rng) = (directory.file("model.json"), &mut StdRng::seed_from_u64(1));
    // Each in place of the one before.
    macro_rules! comes_back {
        ($type:ty, $model:expr, $kind:literal) => {
            let model: $type = $model;
            model.save(&path).unwrap();
            assert_eq!(<$type>::load(&path).unwrap(), model);
            assert_eq!(kind_of(&path).unwrap(), $kind);
        };
    }
    let fitter = StochasticGradient { epochs: 2, ..Default::default() };
    let vae = Vae::<f32>::builder(2).fitter(fitter).fit(&iris::<f32>(), rng).unwrap().model;
    comes_back!(Ppca, ppca(), "f64: linear, isotropic_gaussian, exact");
    comes_back!(
        FactorAnalysis,
        FactorAnalysis::fit(1, &x).unwrap().model,
        "f64: linear, diagonal_gaussian, exact"
    );
    comes_back!(Vae<f32>, vae, "f32: mlp, isotropic_gaussian, amortized diagonal mlp");
    comes_back!(Pca, Pca::fit(2, &x).unwrap().model, "f64: pca");
    let mixture = MixtureOfPpca::builder(2, 1).restarts(0).fit(&x, rng).unwrap().model;
    comes_back!(MixtureOfPpca, mixture, "f64: mixture of ppca");
    comes_back!(BayesianPpca, BayesianPpca::fit(&x).unwrap(), "f64: bayesian ppca");
    comes_back!(Standardization, Standardization::fit(&x).unwrap(), "f64: standardization");
    comes_back!(Moments, Moments::of(&x).unwrap(), "f64: moments");
    comes_back!(Mlp<f32>, Mlp::builder(2, 3).build(rng).unwrap(), "f32: mlp");
    comes_back!(Adam<f64>, Adam::new(3, AdamSettings::default()).unwrap(), "f64: adam");
    assert_eq!(directory.names(), ["model.json"]);
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let directory = Directory::new("truncated");
    let path = directory.file("model.json");
    ppca().save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(problem(Ppca::<f64>::load(&path), &path), SavedFileError::Truncated, "{length}");
    }
    fs::write(&path, [&whole[..], b" \n"].concat()).unwrap();
    assert_eq!(Ppca::load(&path).unwrap(), ppca());
    fs::write(&path, [&whole[..], b"}"].concat()).unwrap();
    let refused = problem(Ppca::<f64>::load(&path), &path);
    assert!(matches!(refused, SavedFileError::Malformed { .. }), "{refused}");
}

#[test]
fn foreign_files_are_refused() {
    let directory = Directory::new("foreign");
    let path = directory.file("model.json");
    let nested = "[".repeat(100_000);
    for foreign in ["{}", "[1, 2]", "1,2\n3,4\n", "null", "\u{0}\u{1}", r#"{"kind": 3}"#] {
        fs::write(&path, foreign).unwrap();
        let refused = problem(Ppca::<f64>::load(&path), &path);
        assert!(matches!(refused, SavedFileError::Malformed { .. }), "{foreign}: {refused}");
        assert!(kind_of(&path).is_err());
    }
    // Neither the stack nor the memory grows with the nesting.
    fs::write(&path, format!(r#"{{"format_version":2,"x":{nested}"#)).unwrap();
    assert_eq!(problem(Ppca::<f64>::load(&path), &path), SavedFileError::Truncated);
    // The right header, and something else after it.
    let text = serde_json::to_string(&ppca()).unwrap();
    for (from, to) in [("\"decoder\"", "\"encoder\""), ("[", "{"), ("\"rows\":4", "\"rows\":-4")] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let refused = problem(Ppca::<f64>::load(&path), &path);
        assert!(matches!(refused, SavedFileError::Malformed { .. }), "{from}: {refused}");
    }
}

#[test]
fn refusals_are_values_with_the_path() {
    let directory = Directory::new("refusals");
    let path = directory.file("model.json");
    ppca().save(&path).unwrap();
    let refused = Ppca::<f32>::load(&path).unwrap_err();
    assert!(
        refused.to_string().starts_with(&format!("{}: the saved model is `f64: ", path.display()))
    );
    assert!(refused.is_user_input());
    assert!(matches!(
        problem(Pca::<f64>::load(&path), &path),
        SavedFileError::Rejected(Error::KindMismatch { .. })
    ));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"format_version\":2", "\"format_version\":9", 1)).unwrap();
    assert_eq!(
        problem(Ppca::<f64>::load(&path), &path),
        SavedFileError::Rejected(Error::FormatVersion { found: 9, known: 2 })
    );
    fs::write(&path, text.replacen("\"rows\":4", "\"rows\":18446744073709551615", 1)).unwrap();
    assert!(matches!(
        problem(Ppca::<f64>::load(&path), &path),
        SavedFileError::Rejected(Error::DimensionMismatch { actual: 8, .. })
    ));
}

#[test]
fn what_cannot_be_read_or_written_is_an_error_with_its_reason() {
    let directory = Directory::new("places");
    let missing = directory.file("no such directory").join("model.json");
    let (unreadable, unwritable) =
        (|kind| SavedFileError::Unreadable { kind }, |kind| SavedFileError::Unwritable { kind });
    let not_found = ErrorKind::NotFound;
    assert_eq!(problem(Ppca::<f64>::load(&missing), &missing), unreadable(not_found));
    assert_eq!(problem(ppca().save(&missing), &missing), unwritable(not_found));
    let itself = &directory.0;
    assert_eq!(problem(ppca().save(itself), itself), SavedFileError::NotRegular);
    assert!(matches!(
        problem(Ppca::<f64>::load(itself), itself),
        SavedFileError::Unreadable { .. }
    ));
    assert!(ppca().save("").is_err() && ppca().save("/").is_err());
    assert!(directory.names().is_empty());
}

#[test]
fn what_could_not_be_loaded_is_not_saved_and_the_earlier_file_stays() {
    let directory = Directory::new("not-finite");
    let path = directory.file("map.json");
    let mut map = Mlp::<f64>::builder(2, 3).build(&mut StdRng::seed_from_u64(1)).unwrap();
    map.save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    map.parameters_mut()[4] = f64::NAN;
    assert!(matches!(
        problem(map.save(&path), &path),
        SavedFileError::Rejected(Error::NotFinite { row: 4, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(directory.names(), ["map.json"]);
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay_and_devices_are_not_replaced() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = Directory::new("links");
    let (file, link) = (directory.file("model.json"), directory.file("latest.json"));
    ppca().save(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("model.json", &link).unwrap();
    ppca().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(Ppca::load(&file).unwrap(), ppca());
    let device = std::path::Path::new("/dev/null");
    assert_eq!(problem(ppca().save(device), device), SavedFileError::NotRegular);
    assert!(!fs::metadata(device).unwrap().is_file());
}

/// A process that was killed has left its file, and another process has the same number.
#[test]
fn files_left_by_a_killed_process_are_no_obstacle() {
    let directory = Directory::new("left");
    let left = |number| directory.file(&format!(".elbo-{}-{number}.tmp", std::process::id()));
    // More than this process writes in all tests.
    (0..2_000).for_each(|number| fs::write(left(number), "left").unwrap());
    let path = directory.file("model.json");
    ppca().save(&path).unwrap();
    assert_eq!(Ppca::load(&path).unwrap(), ppca());
    assert_eq!(directory.names().len(), 2_001);
}

/// A name of the greatest length that file systems allow.
#[cfg(unix)]
#[test]
fn the_name_may_be_long() {
    let directory = Directory::new("long");
    let path = directory.file(&"m".repeat(255));
    ppca().save(&path).unwrap();
    assert_eq!(Ppca::load(&path).unwrap(), ppca());
}

/// Readers and writers of one path at the same time: every reader gets a whole model.
#[test]
fn a_file_is_whole_at_all_times() {
    let directory = Directory::new("threads");
    let path = directory.file("model.json");
    let models = [ppca(), Ppca::fit(1, &iris::<f64>()).unwrap().model];
    models[0].save(&path).unwrap();
    std::thread::scope(|scope| {
        for model in &models {
            scope.spawn(|| (0..40).for_each(|_| model.save(&path).unwrap()));
        }
        scope.spawn(|| {
            for _ in 0..80 {
                assert!(
                    models.contains(&serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
                );
            }
        });
    });
    assert_eq!(directory.names(), ["model.json"]);
}

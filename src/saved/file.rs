//! Files of saved models: JSON, whose numbers have the digits that determine their bits.
//!
//! JSON and not a binary format, because every tool reads it: the weights of a network are one line
//! of Python away. A network of 420,000 parameters takes 8 MB in place of 3.4.

use super::header::Stored;
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with the file of a saved model; the message does not contain the path, which
/// [`Error::SavedFile`] has.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SavedFileError {
    /// The file cannot be opened or read.
    #[error("cannot read the file: {kind}")]
    Unreadable {
        /// The kind of error that the operating system returned.
        kind: io::ErrorKind,
    },
    /// The file cannot be created or written; an earlier file is unchanged.
    #[error("cannot write the file: {kind}")]
    Unwritable {
        /// The kind of error that the operating system returned.
        kind: io::ErrorKind,
    },
    /// The path is that of a directory or a device, which a file must not replace.
    #[error("not a regular file, which a saved model could replace")]
    NotRegular,
    /// The file ends before the model does.
    #[error("the file is truncated: it ends before the model does")]
    Truncated,
    /// The file does not have the structure of a saved model.
    #[error("not a saved model of this kind: {message}")]
    Malformed {
        /// What was expected, with line and column.
        message: String,
    },
    /// The header or the content was refused: another [kind](Error::KindMismatch) or
    /// [format version](Error::FormatVersion), or sizes and numbers that do not fit.
    #[error(transparent)]
    Rejected(Error),
}

impl SavedFileError {
    pub(super) fn at(self, path: &Path) -> Error {
        Error::SavedFile { path: path.to_path_buf(), problem: Box::new(self) }
    }
}

/// The header of a file; the content after it is skipped.
#[derive(Deserialize)]
struct Header {
    format_version: u32,
    kind: String,
}

/// Reads a file of JSON, with far less memory beside the result than the file has bytes.
fn read_json<F: DeserializeOwned>(path: &Path) -> Result<F, SavedFileError> {
    let file =
        File::open(path).map_err(|error| SavedFileError::Unreadable { kind: error.kind() })?;
    // 64 KiB: few system calls.
    let mut bytes = BufReader::with_capacity(1 << 16, file);
    serde_json::from_reader(&mut bytes).map_err(|error| {
        if let Some(kind) = error.io_error_kind() {
            return SavedFileError::Unreadable { kind };
        }
        let message = error.to_string();
        // A file may end within a number as well, which `is_eof` does not include.
        let within_number = message.starts_with("invalid number")
            && bytes.fill_buf().is_ok_and(|rest| rest.is_empty());
        if error.is_eof() || within_number {
            return SavedFileError::Truncated;
        }
        SavedFileError::Malformed { message }
    })
}

/// Returns the kind of a saved file, such as `f64: pca`, for a program that selects by it the type
/// to load.
///
/// # Errors
/// [`Error::SavedFile`] for a file that cannot be read, is truncated, or is not a saved model.
///
/// ```
/// let x = nalgebra::dmatrix![1.0, 2.0, 3.0, 4.0; 2.1, 3.9, 6.2, 7.8; 1.0, 0.0, 1.0, 0.0];
/// let path = std::env::temp_dir().join(format!("elbo-doc-kind-{}.json", std::process::id()));
/// elbo::Pca::fit(1, &x)?.model.save(&path)?;
/// assert_eq!(elbo::saved::kind_of(&path)?, "f64: pca");
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), elbo::Error>(())
/// ```
pub fn kind_of(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let header: Header = read_json(path).map_err(|problem| problem.at(path))?;
    Ok(header.kind)
}

/// Reads a saved file.
pub fn load<S: Stored>(path: &Path) -> Result<S> {
    read(path).map_err(|problem| problem.at(path))
}

fn read<S: Stored>(path: &Path) -> Result<S, SavedFileError> {
    // The header by itself first: so its errors are values, not texts of the format's.
    let header: Header = read_json(path)?;
    S::check_kind(header.kind).map_err(SavedFileError::Rejected)?;
    S::check_version(header.format_version).map_err(SavedFileError::Rejected)?;
    S::from_document(read_json(path)?).map_err(SavedFileError::Rejected)
}

/// Writes a file from which [`load`] returns the same value.
pub fn save<S: Stored>(value: &S, path: &Path) -> Result<()> {
    // What could not be loaded is not saved: in JSON, a number that is not finite is `null`.
    let loaded = S::from_document(value.to_document());
    loaded.map_err(SavedFileError::Rejected).map_err(|problem| problem.at(path))?;
    let document = value.to_document();
    replace(path, |out| serde_json::to_writer(out, &document).map_err(io::Error::from))
        .map_err(|problem| problem.at(path))
}

/// Writes a file as a whole or not at all: beside its place, synced to the disk, and renamed.
pub(super) fn replace(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), SavedFileError> {
    let unwritable = |error: io::Error| SavedFileError::Unwritable { kind: error.kind() };
    // A symbolic link stays, and the file that it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let earlier = fs::metadata(&target).ok();
    if earlier.as_ref().is_some_and(|earlier| !earlier.is_file()) {
        return Err(SavedFileError::NotRegular);
    }
    let (file, beside) = temporary_file(&target).map_err(unwritable)?;
    let write = || {
        if let Some(earlier) = &earlier {
            file.set_permissions(earlier.permissions())?;
        }
        let mut out = BufWriter::with_capacity(1 << 16, file);
        content(&mut out)?;
        // `BufWriter` ignores errors when it is dropped; this returns them.
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        // Renaming replaces the earlier file in one step: at no time is there none.
        fs::rename(&beside, &target)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside))).map_err(unwritable)?;
    sync_directory(&target);
    Ok(())
}

/// Creates a file in the directory of `target` under a name that no other writer uses.
fn temporary_file(target: &Path) -> io::Result<(File, PathBuf)> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    if target.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        // Relaxed: only that no two numbers are equal matters.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        // Without the name of the target, which may be as long as the system allows.
        let name = format!(".elbo-{}-{number}.tmp", std::process::id());
        let beside = target.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            // The file of a process of this number that was killed, or that runs elsewhere: in a
            // container the numbers start at 1.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, beside)),
        }
    }
}

/// Makes the new name of a file survive a loss of power, where the system has this.
fn sync_directory(target: &Path) {
    // Without it the earlier file may be there after a loss of power, but a whole one in any case:
    // an error (directories cannot be opened on all systems) is not one of the save.
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
        drop(directory.sync_all());
    }
}

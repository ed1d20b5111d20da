//! Stores a list of records as two equal files in `state_dir`, so that damage to one loses nothing. A damaged file is put
//! aside for an administrator to look at. All functions block.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::util::atomic_file;

/// A kind of records, and the names of their files in `state_dir`.
#[derive(Clone, Copy, Debug)]
pub struct StateFile {
    /// The records in messages, such as `restrictions`.
    pub what: &'static str,
    pub file: &'static str,
    /// A second copy, for when the first one is damaged.
    pub copy: &'static str,
    /// What could not be read is copied here.
    pub damaged: &'static str,
    /// What it means to have lost them, and what to do.
    pub consequence: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("{what} in {path}: {source}")]
pub struct StateFileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
pub struct LoadedRecords<T> {
    pub records: Vec<T>,
    /// The damage and what was done about it, as a message for the administrator.
    pub damage_report: Option<String>,
}

impl StateFile {
    /// Saves the records, and then their copy.
    ///
    /// # Errors
    /// When a file cannot be written; the old one then stays.
    pub fn save<T: Serialize>(&self, dir: &Path, records: &[T]) -> Result<(), StateFileError> {
        [self.file, self.copy].into_iter().try_for_each(|name| self.write(&dir.join(name), records))
    }

    fn write<T: Serialize>(&self, path: &Path, records: &[T]) -> Result<(), StateFileError> {
        atomic_file::create_dir(&atomic_file::parent(path), atomic_file::PRIVATE_DIR_MODE)
            .and_then(|()| {
                atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, |file| {
                    serde_json::to_writer_pretty(&mut *file, records)?;
                    file.write_all(b"\n")
                })
            })
            .map_err(|source| self.error(path, source))
    }

    fn error(&self, path: &Path, source: io::Error) -> StateFileError {
        StateFileError { what: self.what, path: path.to_owned(), source }
    }

    /// Reads the records, or their copy if the file is damaged. If the damaged file cannot be put aside, the balancer
    /// still starts.
    ///
    /// # Errors
    /// When a file exists but the system refuses to read it.
    pub fn load<T>(&self, dir: &Path) -> Result<LoadedRecords<T>, StateFileError>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let [path, copy, damaged_path] = [self.file, self.copy, self.damaged].map(|name| dir.join(name));
        let damage = match read::<T>(&path) {
            Ok(records) => {
                // The copy may be missing (earlier versions wrote none) or damaged.
                if !read(&copy).is_ok_and(|copy: Vec<T>| copy == records)
                    && let Err(error) = self.write(&copy, &records)
                {
                    log::warn!(target: "icm::lifecycle", "cannot save the copy of the {}: {error}", self.what);
                }
                return Ok(LoadedRecords { records, damage_report: None });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(LoadedRecords { records: Vec::new(), damage_report: None });
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => error,
            Err(source) => return Err(self.error(&path, source)),
        };
        let copy = read::<T>(&copy);
        let used = match &copy {
            Ok(list) => format!("the last good copy is used, with {} {}", list.len(), self.what),
            Err(error) => format!("there is no good copy ({error}), {}", self.consequence),
        };
        let records = copy.unwrap_or_default();
        // Copied, not moved, so that after a crash the damaged file is found again.
        let put_aside = std::fs::copy(&path, &damaged_path).map_err(|e| e.to_string());
        let repaired = put_aside.and_then(|_| self.save(dir, &records).map_err(|e| e.to_string()));
        let done = match repaired {
            Ok(()) => format!("was put aside as {}", damaged_path.display()),
            Err(error) => format!("cannot be put aside: {error}"),
        };
        let damage = format!("{} is damaged ({damage}) and {done}; {used}", path.display());
        Ok(LoadedRecords { records, damage_report: Some(damage) })
    }
}

/// Returns `InvalidData` for a file that does not contain such records.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

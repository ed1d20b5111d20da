//! The pid file. Several ways of ending share it, and the process that serves owns it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::StartError;
use crate::util::atomic_file;

/// The path, until the file was removed.
#[derive(Clone, Debug)]
pub struct PidFile(Arc<Mutex<Option<PathBuf>>>);

impl PidFile {
    /// Does not write the file yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(Some(path.to_owned()))))
    }

    /// Writes the file, even if it names another process. Does nothing after [`PidFile::remove`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<(), StartError> {
        let path = self.0.lock();
        let Some(path) = path.as_deref() else { return Ok(()) };
        let failed = |source| StartError::PidFile { path: path.display().to_string(), source };
        if let Some(dir) = path.parent() {
            atomic_file::create_dir(dir, atomic_file::PUBLIC_DIR_MODE).map_err(failed)?;
        }
        let pid = format!("{}\n", std::process::id());
        atomic_file::replace(path, atomic_file::PUBLIC_FILE_MODE, |file| file.write_all(pid.as_bytes()))
            .map_err(failed)
    }

    /// Removes the file, unless it names another process.
    pub fn remove(&self) {
        let path = self.0.lock().take();
        if let Some(path) = path
            && std::fs::read_to_string(&path).is_ok_and(|pid| pid.trim() == std::process::id().to_string())
        {
            let _ = std::fs::remove_file(&path);
        }
    }
}

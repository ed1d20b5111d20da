//! The file that names this process.

use parking_lot::Mutex;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use crate::util::atomic_file;

/// The pid, in a file, as long as the process lives.
#[derive(Clone, Debug)]
pub struct PidFile(Arc<Mutex<Option<PathBuf>>>);

impl PidFile {
    /// Of this path; not written yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(Some(path.to_owned()))))
    }

    /// Writes it, whoever it named before; unless it was removed already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<(), StartError> {
        let path = self.0.lock();
        let Some(path) = path.as_deref() else { return Ok(()) };
        let wrong = |source| StartError::PidFile { path: path.display().to_string(), source };
        if let Some(dir) = path.parent() {
            atomic_file::create_dir(dir, atomic_file::PUBLIC_DIR_MODE).map_err(wrong)?;
        }
        let pid = format!("{}\n", std::process::id());
        atomic_file::replace(path, atomic_file::PUBLIC_FILE_MODE, |file| file.write_all(pid.as_bytes()))
            .map_err(wrong)
    }

    /// Removes it, once: the process ends on more than one way. A file that says another process is not
    /// ours to remove.
    pub fn remove(&self) {
        let path = self.0.lock().take();
        if let Some(path) = path
            && std::fs::read_to_string(&path).is_ok_and(|pid| pid.trim() == std::process::id().to_string())
        {
            let _ = std::fs::remove_file(&path);
        }
    }
}

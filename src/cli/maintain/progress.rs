//! The progress of a rolling maintenance on disk: a file for each cluster in `state_dir`, so that the same command goes on
//! after an interruption, and a lock that refuses a second run. All functions block.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::steps::ServerStep;
use crate::cli::admin::percent_encode;
use crate::config::file_access::MAINTENANCE_DIR;
use crate::util::atomic_file;

/// A file with another number is of another version of the program.
const FORMAT: u32 = 1;

/// What one run has done and is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MaintenanceProgress {
    format: u32,
    pub cluster: String,
    /// In milliseconds since 1970.
    pub started_at: u64,
    /// All servers of the run, in their order.
    pub servers: Vec<String>,
    pub done: Vec<String>,
    /// The server whose maintenance has begun.
    pub current: Option<ServerStep>,
}

impl MaintenanceProgress {
    pub(super) fn new(cluster: &str, servers: Vec<String>, now: u64) -> Self {
        let cluster = cluster.to_owned();
        Self { format: FORMAT, cluster, started_at: now, servers, done: Vec::new(), current: None }
    }

    /// The servers whose maintenance is not finished.
    pub(super) fn remaining(&self) -> impl Iterator<Item = &String> {
        self.servers.iter().filter(|server| !self.done.contains(server))
    }

    pub(super) fn next_server(&self) -> Option<String> {
        self.remaining().next().cloned()
    }
}

/// Where the progress of one cluster is kept; nowhere without a `state_dir`.
pub(super) struct ProgressFile {
    path: Option<PathBuf>,
    /// Held until the process ends.
    _lock: Option<Flock<File>>,
}

impl ProgressFile {
    /// Takes the lock of a cluster.
    ///
    /// # Errors
    /// If another run holds it, or the directory cannot be used.
    pub(super) fn lock(state_dir: Option<&Path>, cluster: &str) -> anyhow::Result<Self> {
        let Some(state_dir) = state_dir else { return Ok(Self { path: None, _lock: None }) };
        let dir = state_dir.join(MAINTENANCE_DIR);
        let hint = || format!("{}: run it as the user of icm, or give another --state-dir", dir.display());
        atomic_file::create_dir(&dir, atomic_file::PRIVATE_DIR_MODE).with_context(hint)?;
        let name = percent_encode(cluster);
        let mut options = OpenOptions::new();
        // Opened for writing and never truncated: another run may hold it.
        options.write(true).create(true).truncate(false).mode(atomic_file::PRIVATE_FILE_MODE);
        let file = options.open(dir.join(format!("{name}.lock"))).with_context(hint)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => anyhow!("another `icm maintain` of {cluster} runs on this machine"),
            error => anyhow!("{}: {error}", dir.display()),
        })?;
        Ok(Self { path: Some(dir.join(format!("{name}.json"))), _lock: Some(lock) })
    }

    /// The progress of an unfinished run, without the lock.
    ///
    /// # Errors
    /// If the file exists but cannot be understood.
    pub(super) fn peek(
        state_dir: Option<&Path>,
        cluster: &str,
    ) -> anyhow::Result<Option<MaintenanceProgress>> {
        let path = |dir: &Path| dir.join(MAINTENANCE_DIR).join(format!("{}.json", percent_encode(cluster)));
        Self { path: state_dir.map(path), _lock: None }.load()
    }

    pub(super) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// The progress of an unfinished run.
    ///
    /// # Errors
    /// If the file exists but cannot be understood: to begin anew could restart a server twice.
    pub(super) fn load(&self) -> anyhow::Result<Option<MaintenanceProgress>> {
        let Some(path) = &self.path else { return Ok(None) };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let hint =
            "`icm show cluster` shows which server is restricted by a maintenance; --forget begins anew";
        let progress: MaintenanceProgress = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; {hint}", path.display()))?;
        if progress.format != FORMAT {
            bail!("{} is of another version of icm; {hint}", path.display());
        }
        Ok(Some(progress))
    }

    /// # Errors
    /// If the file cannot be written; the old one then stays.
    pub(super) fn save(&self, progress: &MaintenanceProgress) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, |file| {
            serde_json::to_writer_pretty(&mut *file, progress)?;
            file.write_all(b"\n")
        })
        .with_context(|| path.display().to_string())
    }

    /// Forgets the run at its end.
    ///
    /// # Errors
    /// If the file exists but cannot be removed.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_progress_is_private_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = ProgressFile::lock(Some(dir.path()), "Acme/Web").unwrap();
        assert_eq!(file.load().unwrap(), None);
        let mut progress = MaintenanceProgress::new("Acme/Web", vec!["A/X".into(), "B/X".into()], 5);
        progress.done.push("A/X".into());
        progress.current = Some(ServerStep::new("B/X", 7));
        file.save(&progress).unwrap();
        let path = dir.path().join("maintenance/Acme%2FWeb.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.load().unwrap(), Some(progress.clone()));
        assert_eq!(ProgressFile::peek(Some(dir.path()), "Acme/Web").unwrap(), Some(progress.clone()));
        assert_eq!(progress.remaining().collect::<Vec<_>>(), ["B/X"]);
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!path.exists() && file.load().unwrap().is_none());
    }

    #[test]
    fn a_second_run_of_the_same_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = ProgressFile::lock(Some(dir.path()), "AcmeWeb").unwrap();
        let second = ProgressFile::lock(Some(dir.path()), "AcmeWeb").err().unwrap();
        assert!(second.to_string().contains("another `icm maintain` of AcmeWeb runs"), "{second}");
        assert!(ProgressFile::lock(Some(dir.path()), "Other").is_ok());
        drop(first);
        assert!(ProgressFile::lock(Some(dir.path()), "AcmeWeb").is_ok());
    }

    #[test]
    fn a_damaged_progress_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = ProgressFile::lock(Some(dir.path()), "A").unwrap();
        for text in ["", "{", "[]", "{\"format\": 2}"] {
            std::fs::write(dir.path().join("maintenance/A.json"), text).unwrap();
            let error = format!("{:#}", file.load().unwrap_err());
            assert!(error.contains("A.json") && error.contains("--forget"), "{error}");
        }
    }
}

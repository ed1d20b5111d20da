//! Replaces files so that a crash leaves the old content or the new one, with modes that do not depend on the umask.
//!
//! In: a path, a mode, and what writes the content. Out: a file that was written under another name, synced and
//! renamed. It blocks: call it off the runtime's threads.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For what this process alone reads: state and keys.
pub const PRIVATE_FILE_MODE: u32 = 0o600;
/// For directories of such files; the group may look.
pub const PRIVATE_DIR_MODE: u32 = 0o750;
/// For what other programs may read, such as a pid file.
pub const PUBLIC_FILE_MODE: u32 = 0o644;
/// For directories of such files.
pub const PUBLIC_DIR_MODE: u32 = 0o755;

/// Replaces a file by what `write` writes, or leaves it as it was.
///
/// # Errors
/// As the operating system says; the old file is then untouched.
pub fn replace(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let directory = parent(path);
    // Removed again unless it is renamed.
    let mut temporary = tempfile::Builder::new().prefix(".icm-").tempfile_in(&directory)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The rename itself lasts only once the directory is written.
    File::open(directory)?.sync_all()
}

/// The directory that a file is in.
#[must_use]
pub fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Creates a directory where there is none; one that exists keeps its mode.
///
/// # Errors
/// As the operating system says.
pub fn create_dir(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(mode))
}

/// Refuses a path where a file lies that does not begin with one of these signatures. An empty file may be
/// replaced: a crash may leave one.
///
/// # Errors
/// When the file is of something else or cannot be read.
pub fn check_replaceable(path: &Path, signatures: &[&str]) -> io::Result<()> {
    // Looked at before it is opened: opening a named pipe would wait for a writer.
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut start = Vec::new();
    if metadata.is_file() {
        let longest = signatures.iter().map(|signature| signature.len()).max().unwrap_or(0);
        File::open(path)?.take(longest as u64).read_to_end(&mut start)?;
        if start.is_empty() || signatures.iter().any(|signature| start.starts_with(signature.as_bytes())) {
            return Ok(());
        }
    }
    Err(io::Error::other(
        "the file there was not written by icm as a cache and is not replaced; remove it, or name another file",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_has_the_mode_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let failed = replace(&path, PRIVATE_FILE_MODE, |_| Err(io::Error::other("full")));
        assert!(failed.is_err() && std::fs::read(&path).unwrap() == b"old");
        for mode in [PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, 0o666] {
            replace(&path, mode, |file| io::Write::write_all(file, b"new")).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn only_an_absent_an_empty_or_a_signed_file_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let may = || check_replaceable(&path, &["{\"a\":", "# ours"]).is_ok();
        assert!(may());
        for (content, good) in
            [("", true), ("# ours, 1", true), ("{\"a\":1}", true), ("{\"b\"", false), ("# our", false)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(may(), good, "{content:?}");
        }
        assert!(check_replaceable(dir.path(), &["# ours"]).is_err(), "a directory");
    }
}

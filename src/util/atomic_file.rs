//! Replaces files so that a crash leaves either the old content or the new one, with a mode that does not depend on the
//! umask. Every function blocks: call it off the runtime's threads.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For files that only this process reads, such as state and keys.
pub const PRIVATE_FILE_MODE: u32 = 0o600;
/// For directories of private files; the group may list them.
pub const PRIVATE_DIR_MODE: u32 = 0o750;
/// For files that other programs read, such as the pid file.
pub const PUBLIC_FILE_MODE: u32 = 0o644;
/// For directories of public files.
pub const PUBLIC_DIR_MODE: u32 = 0o755;

/// Replaces the content of a file with what `write` writes. On an error the old file is untouched.
pub fn replace(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let directory = parent(path);
    // Dropping it removes the file unless it was renamed.
    let mut temporary = tempfile::Builder::new().prefix(".icm-").tempfile_in(&directory)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The rename is durable only after the directory is synced.
    File::open(directory)?.sync_all()
}

/// The directory of a file; `.` for a bare file name.
#[must_use]
pub fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Creates a directory with this mode; an existing directory keeps its own.
pub fn create_dir(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    std::fs::set_permissions(directory, Permissions::from_mode(mode))
}

/// Refuses a path that holds anything but a file with one of these signatures. An empty file may be replaced, because a
/// crash can leave one.
pub fn check_replaceable(path: &Path, signatures: &[&str]) -> io::Result<()> {
    // Check the type before opening: opening a named pipe would wait for a writer.
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
    fn a_file_is_replaced_as_a_whole_with_the_requested_mode() {
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
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn only_a_missing_empty_or_signed_file_is_replaceable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let replaceable = || check_replaceable(&path, &["{\"a\":", "# ours"]).is_ok();
        assert!(replaceable());
        for (content, good) in
            [("", true), ("# ours, 1", true), ("{\"a\":1}", true), ("{\"b\"", false), ("# our", false)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(replaceable(), good, "{content:?}");
        }
        assert!(check_replaceable(dir.path(), &["# ours"]).is_err(), "a directory");
    }
}

//! Saves and loads the last valid configuration of the other ICM.
//!
//! The file's modification time is when the other ICM last confirmed the configuration. The functions block.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::settings::Follow;
use crate::config::{Disk, Files};
use crate::util::atomic_file;

/// The first line of a copy. A file without it is never replaced.
const COPY_HEADER: &str = "# The last good configuration of another ICM, kept by icm.\n";
/// The first line of copies from earlier versions.
const LEGACY_HEADER: &str = "# For the ICMs that follow this one";
const MAX_COPY_BYTES: u64 = 4 << 20;

/// Returns the copy and when it was last confirmed, in milliseconds since 1970.
///
/// # Errors
/// When there is no copy, or it is not UTF-8 text.
pub fn load(path: &Path) -> io::Result<(Arc<str>, u64)> {
    let bytes = Disk.read(path, MAX_COPY_BYTES + COPY_HEADER.len() as u64)?.bytes;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    let text = text.strip_prefix(COPY_HEADER).unwrap_or(&text);
    let at = std::fs::metadata(path)?.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    Ok((text.into(), at.map_or(0, crate::util::clock::saturating_millis)))
}

/// Saves a copy if `cache` is configured. A failure is only logged.
pub fn save(follow: &Follow, text: &str) {
    let Some(path) = &follow.cache else { return };
    if let Err(error) = write(path, text) {
        log::error!(target: "icm::follow", "cannot write the copy {}: {error}", path.display());
    }
}

/// Records that the copy is still the configuration of the other ICM.
pub fn mark_confirmed(follow: &Follow) {
    if let Some(path) = &follow.cache {
        // Errors do not matter: the time is only shown, and a missing copy is written again with the next change.
        let _ = atomic_file::check_replaceable(path, &[COPY_HEADER, LEGACY_HEADER])
            .and_then(|()| File::options().append(true).open(path))
            .and_then(|file| file.set_modified(SystemTime::now()));
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    atomic_file::check_replaceable(path, &[COPY_HEADER, LEGACY_HEADER])?;
    atomic_file::create_dir(&atomic_file::parent(path), atomic_file::PRIVATE_DIR_MODE)?;
    atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, |file| {
        file.write_all(COPY_HEADER.as_bytes())?;
        file.write_all(text.as_bytes())
    })
}

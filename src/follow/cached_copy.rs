//! The last good configuration of the other ICM, on disk.
//!
//! In: a text that has passed every check. Out: a file that only its owner may read, replaced whole by a rename;
//! its time is when the other ICM last said that this is its configuration. It blocks.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::settings::Follow;
use crate::config::{Disk, Files};
use crate::util::atomic_file;

/// The first line of a copy: a file without it is not replaced.
const COPY_HEADER: &str = "# The last good configuration of another ICM, kept by icm.\n";
/// How the copies of earlier versions begin: as what an ICM gives out.
const LEGACY_HEADER: &str = "# For the ICMs that follow this one";
/// Largest copy, in octets.
const MAX_COPY_BYTES: u64 = 4 << 20;

/// Reads the copy, and when it was last confirmed, milliseconds since 1970.
///
/// # Errors
/// When there is none, or it is no text.
pub fn load(path: &Path) -> io::Result<(Arc<str>, u64)> {
    let bytes = Disk.read(path, MAX_COPY_BYTES + COPY_HEADER.len() as u64)?.bytes;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    let text = text.strip_prefix(COPY_HEADER).unwrap_or(&text);
    let at = std::fs::metadata(path)?.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    Ok((text.into(), at.map_or(0, crate::util::clock::saturating_millis)))
}

/// Keeps a copy where one is wanted. A copy that cannot be written is logged: serving goes on.
pub fn save(follow: &Follow, text: &str) {
    let Some(path) = &follow.cache else { return };
    if let Err(error) = write(path, text) {
        log::error!(target: "icm::follow", "the copy {} cannot be written: {error}", path.display());
    }
}

/// Says that the copy is still what the other ICM has.
pub fn mark_confirmed(follow: &Follow) {
    if let Some(path) = &follow.cache {
        // A copy that was lost since is written again with the next change; its time is for people alone.
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

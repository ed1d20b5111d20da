//! Stores the restrictions of administrators as two equal files in `state_dir`, so that damage to one loses nothing. A
//! damaged file is put aside for an administrator to look at. All functions block.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::file_access::{RESTRICTIONS, RESTRICTIONS_COPY, RESTRICTIONS_DAMAGED};
use crate::util::atomic_file;

/// One restriction as saved, and as sent to ICMs that follow this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRestriction {
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    /// When it was set, in milliseconds since 1970.
    pub since: u64,
    pub by: String,
    /// The ICM where it was set; absent = this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Not even users who work there may return.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("restrictions in {path}: {source}")]
pub struct RestrictionsFileError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug, Default)]
pub struct LoadedRestrictions {
    pub restrictions: Vec<KeptRestriction>,
    /// The damage and what was done about it, as a message for the administrator.
    pub damage_report: Option<String>,
}

/// Saves the restrictions, and then their copy.
///
/// # Errors
/// When a file cannot be written; the old one then stays.
pub fn save(dir: &Path, kept: &[KeptRestriction]) -> Result<(), RestrictionsFileError> {
    [RESTRICTIONS, RESTRICTIONS_COPY].into_iter().try_for_each(|name| write(&dir.join(name), kept))
}

fn write(path: &Path, kept: &[KeptRestriction]) -> Result<(), RestrictionsFileError> {
    atomic_file::create_dir(&atomic_file::parent(path), atomic_file::PRIVATE_DIR_MODE)
        .and_then(|()| {
            atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, |file| {
                serde_json::to_writer_pretty(&mut *file, kept)?;
                file.write_all(b"\n")
            })
        })
        .map_err(|source| RestrictionsFileError { path: path.to_owned(), source })
}

/// Reads the restrictions, or their copy if the file is damaged. If the damaged file cannot be put aside, the balancer
/// still starts.
///
/// # Errors
/// When a file exists but the system refuses to read it.
pub fn load(dir: &Path) -> Result<LoadedRestrictions, RestrictionsFileError> {
    let [path, copy, damaged_path] =
        [RESTRICTIONS, RESTRICTIONS_COPY, RESTRICTIONS_DAMAGED].map(|name| dir.join(name));
    let damage = match read(&path) {
        Ok(restrictions) => {
            // The copy may be missing (earlier versions wrote none) or damaged.
            if !read(&copy).is_ok_and(|copy| copy == restrictions)
                && let Err(error) = write(&copy, &restrictions)
            {
                log::warn!(target: "icm::lifecycle", "cannot save the copy of the restrictions: {error}");
            }
            return Ok(LoadedRestrictions { restrictions, damage_report: None });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LoadedRestrictions::default()),
        Err(error) if error.kind() == ErrorKind::InvalidData => error,
        Err(source) => return Err(RestrictionsFileError { path, source }),
    };
    let copy = read(&copy);
    let used = match &copy {
        Ok(list) => format!("the last good copy is used, with {} restrictions", list.len()),
        Err(error) => format!(
            "there is no good copy ({error}), so NO SERVER IS RESTRICTED by an administrator: restrict again what must be"
        ),
    };
    let restrictions = copy.unwrap_or_default();
    // Copied, not moved, so that after a crash the damaged file is found again.
    let put_aside = std::fs::copy(&path, &damaged_path).map_err(|e| e.to_string());
    let repaired = put_aside.and_then(|_| save(dir, &restrictions).map_err(|e| e.to_string()));
    let done = match repaired {
        Ok(()) => format!("was put aside as {}", damaged_path.display()),
        Err(error) => format!("cannot be put aside: {error}"),
    };
    let damage = format!("{} is damaged ({damage}) and {done}; {used}", path.display());
    Ok(LoadedRestrictions { restrictions, damage_report: Some(damage) })
}

/// Returns `InvalidData` for a file that does not contain restrictions.
fn read(path: &Path) -> io::Result<Vec<KeptRestriction>> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept(server: &str) -> Vec<KeptRestriction> {
        vec![KeptRestriction {
            cluster: "A".into(),
            server: server.into(),
            since: 5,
            by: "Jo".into(),
            at: None,
            closed: false,
        }]
    }

    #[test]
    fn damaged_restrictions_are_put_aside_and_their_copy_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().restrictions.is_empty());
        save(dir.path(), &kept("Web1/Acme")).unwrap();
        save(dir.path(), &kept("Web2/Acme")).unwrap();
        let file = dir.path().join(RESTRICTIONS);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = std::fs::read(&file).unwrap();
        for damaged in [&b""[..], b"[{", b"\xff\0", b"{}", b"[7]", &whole[..whole.len() - 9]] {
            std::fs::write(&file, damaged).unwrap();
            let restored = load(dir.path()).unwrap();
            assert_eq!(restored.restrictions, kept("Web2/Acme"));
            let damage = restored.damage_report.unwrap();
            assert!(damage.contains("restrictions.json.damaged") && damage.contains("good copy"), "{damage}");
            assert_eq!(std::fs::read(dir.path().join(RESTRICTIONS_DAMAGED)).unwrap(), damaged);
            assert_eq!(std::fs::read(&file).unwrap(), whole, "the file is repaired");
            assert!(load(dir.path()).unwrap().damage_report.is_none());
        }
    }

    #[test]
    fn a_missing_or_damaged_copy_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &kept("Web1/Acme")).unwrap();
        let copy = dir.path().join(RESTRICTIONS_COPY);
        let whole = std::fs::read(&copy).unwrap();
        std::fs::remove_file(&copy).unwrap();
        for _ in 0..2 {
            assert!(load(dir.path()).unwrap().damage_report.is_none());
            assert_eq!(std::fs::read(&copy).unwrap(), whole);
            std::fs::write(&copy, "[").unwrap();
        }
    }

    #[test]
    fn without_a_good_copy_nothing_is_restricted_and_the_report_names_that() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RESTRICTIONS), "[").unwrap();
        let restored = load(dir.path()).unwrap();
        assert!(restored.restrictions.is_empty());
        assert!(restored.damage_report.unwrap().contains("NO SERVER IS RESTRICTED"));
    }
}

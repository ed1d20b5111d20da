//! The generated affinity key, for clusters that name no `secret_file`.
//!
//! In: `state_dir`, if there is one, and the key of the process that this one takes over from. Out: 32 octets,
//! the same after a restart when they could be kept.
//! Several ICMs need a `secret_file` of their own making: a generated key is one ICM's alone.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::config::file_access::AFFINITY_KEY;
use crate::util::durable;

/// Octets of a generated key.
const LENGTH: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error("affinity key {path}: {source}")]
pub struct SecretError {
    path: PathBuf,
    source: std::io::Error,
}

/// Reads the key kept in `state_dir`, or goes on with the inherited one, or makes one.
///
/// # Errors
/// When the file can be neither read nor made.
pub fn affinity(state_dir: Option<&Path>, inherited: Option<&[u8]>) -> Result<Vec<u8>, SecretError> {
    let inherited = inherited.filter(|key| key.len() >= LENGTH);
    let fresh = || inherited.map_or_else(random, |key| Ok(key.to_vec()));
    let Some(dir) = state_dir else {
        let path = PathBuf::from("/dev/urandom");
        return fresh().map_err(|source| SecretError { path, source });
    };
    let path = dir.join(AFFINITY_KEY);
    let kept = || -> io::Result<Vec<u8>> {
        match fs::read(&path) {
            Ok(key) if key.is_empty() => log::warn!(
                target: "icm::lifecycle",
                "{} is empty, as after a crash: a new key is made, and users lose their affinity once",
                path.display()
            ),
            Ok(key) if key.len() < LENGTH => {
                return Err(io::Error::other("is too short, remove it to have a new one made"));
            }
            Ok(key) => return Ok(key),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        durable::create_dir(dir, durable::PRIVATE_DIR_MODE)?;
        let key = fresh()?;
        durable::replace(&path, durable::PRIVATE_FILE_MODE, |file| file.write_all(&key))?;
        Ok(key)
    };
    kept().map_err(|source| SecretError { path: path.clone(), source })
}

fn random() -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; LENGTH];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_generated_key_survives_a_restart_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = affinity(Some(dir.path()), None).unwrap();
        assert_eq!(first.len(), LENGTH);
        assert_eq!(affinity(Some(dir.path()), Some(&[7; LENGTH])).unwrap(), first);
        let mode = fs::metadata(dir.path().join("affinity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(affinity(None, None).unwrap(), affinity(None, None).unwrap());
    }

    #[test]
    fn an_inherited_key_goes_on_and_is_kept_where_there_is_a_place_for_it() {
        let (key, dir) = ([7; LENGTH], tempfile::tempdir().unwrap());
        assert_eq!(affinity(None, Some(&key)).unwrap(), key);
        assert_eq!(affinity(Some(dir.path()), Some(&key)).unwrap(), key);
        assert_eq!(affinity(Some(dir.path()), None).unwrap(), key);
        assert_ne!(affinity(None, Some(b"")).unwrap(), b"");
    }

    #[test]
    fn an_empty_key_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(AFFINITY_KEY);
        fs::write(&path, b"").unwrap();
        let key = affinity(Some(dir.path()), None).unwrap();
        assert_eq!((key.len(), fs::read(&path).unwrap()), (LENGTH, key));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_short_key_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("affinity.key"), b"short").unwrap();
        let error = affinity(Some(dir.path()), None).unwrap_err().to_string();
        assert!(error.contains("affinity.key") && error.contains("too short"), "{error}");
    }
}

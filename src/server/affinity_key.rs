//! The generated affinity key, for clusters without a `secret_file`. It survives a restart if there is a `state_dir`;
//! several ICMs in front of one cluster need a common `secret_file` instead.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::config::file_access::AFFINITY_KEY;
use crate::util::atomic_file;

const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
#[error("affinity key {path}: {source}")]
pub struct AffinityKeyError {
    path: PathBuf,
    source: std::io::Error,
}

/// Reads the key saved in `state_dir`, else uses the inherited key, else generates one.
///
/// # Errors
/// When the file can be neither read nor written.
pub fn load_or_generate(
    state_dir: Option<&Path>,
    inherited: Option<&[u8]>,
) -> Result<Vec<u8>, AffinityKeyError> {
    let inherited = inherited.filter(|key| key.len() >= KEY_BYTES);
    let new_key = || inherited.map_or_else(random_key, |key| Ok(key.to_vec()));
    let Some(dir) = state_dir else {
        let path = PathBuf::from("/dev/urandom");
        return new_key().map_err(|source| AffinityKeyError { path, source });
    };
    let path = dir.join(AFFINITY_KEY);
    let read_or_create = || -> io::Result<Vec<u8>> {
        match fs::read(&path) {
            Ok(key) if key.is_empty() => log::warn!(
                target: "icm::lifecycle",
                "{} is empty, probably after a crash: generating a new key, users lose their affinity once",
                path.display()
            ),
            Ok(key) if key.len() < KEY_BYTES => {
                return Err(io::Error::other("is too short, remove it to generate a new one"));
            }
            Ok(key) => return Ok(key),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        atomic_file::create_dir(dir, atomic_file::PRIVATE_DIR_MODE)?;
        let key = new_key()?;
        atomic_file::replace(&path, atomic_file::PRIVATE_FILE_MODE, |file| file.write_all(&key))?;
        Ok(key)
    };
    read_or_create().map_err(|source| AffinityKeyError { path: path.clone(), source })
}

fn random_key() -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_generated_key_survives_a_restart_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_generate(Some(dir.path()), None).unwrap();
        assert_eq!(first.len(), KEY_BYTES);
        assert_eq!(load_or_generate(Some(dir.path()), Some(&[7; KEY_BYTES])).unwrap(), first);
        let mode = fs::metadata(dir.path().join("affinity.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(load_or_generate(None, None).unwrap(), load_or_generate(None, None).unwrap());
    }

    #[test]
    fn an_inherited_key_is_used_and_saved_if_there_is_a_state_dir() {
        let (key, dir) = ([7; KEY_BYTES], tempfile::tempdir().unwrap());
        assert_eq!(load_or_generate(None, Some(&key)).unwrap(), key);
        assert_eq!(load_or_generate(Some(dir.path()), Some(&key)).unwrap(), key);
        assert_eq!(load_or_generate(Some(dir.path()), None).unwrap(), key);
        assert_ne!(load_or_generate(None, Some(b"")).unwrap(), b"");
    }

    #[test]
    fn an_empty_key_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(AFFINITY_KEY);
        fs::write(&path, b"").unwrap();
        let key = load_or_generate(Some(dir.path()), None).unwrap();
        assert_eq!((key.len(), fs::read(&path).unwrap()), (KEY_BYTES, key));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_short_key_is_refused_and_the_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("affinity.key"), b"short").unwrap();
        let error = load_or_generate(Some(dir.path()), None).unwrap_err().to_string();
        assert!(error.contains("affinity.key") && error.contains("too short"), "{error}");
    }
}

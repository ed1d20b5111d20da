//! How the loader reads files. A trait, so that tests can load a configuration that names `/etc/icm/...`.

use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// What the loader needs from the operating system.
pub trait Files {
    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// If the file cannot be read, is no regular file, or is larger.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Content>;
    /// The absolute path without links and dots. The last part need not exist yet, as for a cache.
    ///
    /// # Errors
    /// If a directory cannot be read, or a link is broken.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// Device and inode, which all names of a file share.
    fn identity(&self, _path: &Path) -> Option<(u64, u64)> {
        None
    }
    /// Whether a directory of this name exists.
    fn is_dir(&self, path: &Path) -> bool;
    /// The addresses of a host name for a listener.
    ///
    /// # Errors
    /// If the name cannot be resolved.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The content of a file.
#[derive(Clone, Debug)]
pub struct Content {
    /// The content without any change.
    pub bytes: Vec<u8>,
    /// The Unix permission bits of the file.
    pub mode: u32,
}

/// The real file system and resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Content> {
        use std::os::unix::fs::PermissionsExt;
        // Opening a named pipe would wait for a writer.
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // One byte more than the file has, in case it grows meanwhile.
        let length = metadata.len().min(limit).saturating_add(1);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} bytes")));
        }
        Ok(Content { bytes, mode: metadata.permissions().mode() })
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        match std::fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                match (path.parent(), path.file_name()) {
                    (Some(parent), Some(name)) => Ok(self.real_path(parent)?.join(name)),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

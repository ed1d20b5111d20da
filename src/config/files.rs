//! The files that a configuration names.
//!
//! In: paths. Out: octets, permission bits, addresses of host names. Loading goes through the trait
//! so that tests can load a file that names `/etc/icm/...`. It never writes.

use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// What a load asks of the machine.
pub trait Files {
    /// The content of a regular file of at most `limit` octets.
    ///
    /// # Errors
    /// As the operating system says; also for anything but a regular file and for a larger file.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Content>;
    /// The name without links and dots. Of a file that does not exist yet, such as a cache, the directories
    /// that do exist are followed.
    ///
    /// # Errors
    /// As the operating system says; also for a link that leads nowhere.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// Device and inode of what is there, the same for each of its names.
    fn identity(&self, _path: &Path) -> Option<(u64, u64)> {
        None
    }
    /// Whether a directory of this name exists.
    fn is_dir(&self, path: &Path) -> bool;
    /// The addresses of a host name that a listener is to be bound to.
    ///
    /// # Errors
    /// When the name cannot be resolved.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Content {
    /// All of it.
    pub octets: Vec<u8>,
    /// Unix permission bits.
    pub mode: u32,
}

/// The real file system and resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Content> {
        use std::os::unix::fs::PermissionsExt;
        // Looked at before it is opened: opening a named pipe would wait for a writer.
        let metadata = std::fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // As a file grows while it is read, one more than it has.
        let length = metadata.len().min(limit).saturating_add(1);
        let mut octets = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        file.take(limit.saturating_add(1)).read_to_end(&mut octets)?;
        if octets.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} octets")));
        }
        Ok(Content { octets, mode: metadata.permissions().mode() })
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

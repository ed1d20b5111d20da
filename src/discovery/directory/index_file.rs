//! Saves and loads the last good directory as a finished index, so that a start needs no server. A million databases
//! load in a fraction of a second.
//!
//! The file has a header line in JSON, the bytes of the index, and their checksum. It is replaced by a rename; a damaged
//! one is refused. The functions block.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::acceptance::ReadingDigest;
use super::server_cache::{CacheError, replace_cache};
use crate::domain::cluster::ServerName;
use crate::domain::directory::DirectoryIndex;

/// Changes with the layout of the bytes.
const FORMAT_VERSION: u32 = 1;
/// The file ends with a checksum of this many bytes.
const CHECKSUM_LEN: u64 = 4;
/// Limit for the header line, in bytes.
const MAX_HEADER_LEN: u64 = 4096;
const BUFFER_SIZE: usize = 1 << 18;

/// A directory loaded from disk.
#[derive(Debug)]
pub struct SavedIndex {
    pub index: DirectoryIndex,
    /// When it was read from Domino.
    pub saved_at: SystemTime,
    pub digest: ReadingDigest,
}

#[derive(Serialize, Deserialize)]
struct Header {
    icm_directory: u32,
    /// In seconds since 1970.
    saved_at: u64,
    from: String,
    entries: usize,
    fingerprint: u64,
}

/// # Errors
/// When the file cannot be written; the old one is then unchanged.
pub fn save(
    path: &Path,
    at: SystemTime,
    index: &DirectoryIndex,
    digest: &ReadingDigest,
) -> Result<(), CacheError> {
    let header = Header {
        icm_directory: FORMAT_VERSION,
        saved_at: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        from: digest.from.abbreviated().to_owned(),
        entries: digest.len,
        fingerprint: digest.fingerprint,
    };
    replace_cache(path, |file| {
        let mut out = BufWriter::with_capacity(BUFFER_SIZE, ChecksumIo::new(file));
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(b"\n")?;
        index.write_to(&mut out)?;
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let checksum = out.checksum.finalize();
        out.inner.write_all(&checksum.to_le_bytes())
    })
}

/// # Errors
/// When there is no file, it is damaged, or another version wrote it.
pub fn load(path: &Path) -> Result<SavedIndex, CacheError> {
    let io = |source| CacheError::Io { path: path.to_owned(), source };
    let content = |reason: String| CacheError::Content { path: path.to_owned(), reason };
    // Checked before opening, because opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(io::Error::other("it is not a regular file")));
    }
    let length = metadata.len().saturating_sub(CHECKSUM_LEN);
    let mut file = File::open(path).map_err(io)?;
    let mut from = BufReader::with_capacity(BUFFER_SIZE, ChecksumIo::new((&mut file).take(length)));
    let mut line = Vec::new();
    (&mut from).take(MAX_HEADER_LEN).read_until(b'\n', &mut line).map_err(io)?;
    let header: Header = serde_json::from_slice(&line)
        .map_err(|_| content("it is not a directory saved by this version".to_owned()))?;
    if header.icm_directory != FORMAT_VERSION {
        return Err(content(format!("another version wrote it ({})", header.icm_directory)));
    }
    let index = DirectoryIndex::read_from(&mut from).map_err(|error| content(error.to_string()))?;
    let is_whole = from.fill_buf().map_err(io)?.is_empty();
    let checksum = from.into_inner().checksum.finalize();
    let mut wanted = [0; CHECKSUM_LEN as usize];
    file.read_exact(&mut wanted).map_err(io)?;
    if !is_whole || checksum != u32::from_le_bytes(wanted) {
        return Err(content("it is damaged, its checksum is wrong".to_owned()));
    }
    let name = ServerName::parse(&header.from).map_err(|error| content(error.to_string()))?;
    Ok(SavedIndex {
        index,
        saved_at: UNIX_EPOCH.checked_add(Duration::from_secs(header.saved_at)).unwrap_or(UNIX_EPOCH),
        digest: ReadingDigest { from: name, len: header.entries, fingerprint: header.fingerprint },
    })
}

/// Computes the checksum of all bytes that are read or written.
struct ChecksumIo<T> {
    inner: T,
    checksum: crc32fast::Hasher,
}

impl<T> ChecksumIo<T> {
    fn new(inner: T) -> Self {
        Self { inner, checksum: crc32fast::Hasher::new() }
    }
}

impl<W: Write> Write for ChecksumIo<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.checksum.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for ChecksumIo<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.checksum.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::directory::index::DirectoryBuilder;
    use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};

    fn builder() -> DirectoryBuilder {
        let mut builder = DirectoryBuilder::default();
        for n in 0..200_u64 {
            for server in 0..n % 6 {
                builder.add(&DirectoryEntry {
                    path: if n % 9 == 0 {
                        format!("Old/Server{server}/{n}.nsf")
                    } else {
                        format!("Böse\\DB{}.NSF", n / 2)
                    },
                    server: ServerName::parse(&format!("Web{}/Acme", (server + n) % 7)).unwrap(),
                    replica_id: ReplicaId(0xC125_7A00_0041_0000 + n),
                    title: format!("Title {}", n % 7),
                    status: [
                        ReplicaStatus::InService,
                        ReplicaStatus::OutOfService,
                        ReplicaStatus::PendingDelete,
                    ][(n % 3) as usize],
                });
            }
        }
        builder
    }

    fn digest(builder: &DirectoryBuilder) -> ReadingDigest {
        ReadingDigest::of(ServerName::parse("Web1/Acme").unwrap(), builder)
    }

    /// Everything that an index contains, as text.
    fn dump(index: &DirectoryIndex) -> String {
        let mut text = format!("{:?}\n", index.servers());
        for database in index.databases() {
            text += &format!("{} {} {:?}\n", database.replica_id(), database.title(), database.id());
            for replica in database.replicas() {
                text += &format!("{replica:?} {:?}\n", index.find_by_plain_path(replica.path));
            }
            assert_eq!(index.find_by_replica_id(database.replica_id()), Some(database.id()));
        }
        for (path, ambiguous) in index.ambiguous_paths() {
            text += &format!("{path:?} {:?}\n", index.ambiguous_databases(ambiguous).collect::<Vec<_>>());
        }
        text
    }

    #[test]
    fn a_loaded_index_equals_the_saved_one_and_only_the_owner_may_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acmeweb.json");
        let at = UNIX_EPOCH + Duration::from_secs(1_795_162_500);
        let (digest, index) = (digest(&builder()), builder().finish().0);
        save(&path, at, &index, &digest).unwrap();
        save(&path, at, &index, &digest).unwrap();
        let copy = load(&path).unwrap();
        assert!(index.ambiguous_paths().len() > 10, "the test needs ambiguous paths");
        assert_eq!(dump(&copy.index), dump(&index));
        assert_eq!(copy.index.memory_size(), index.memory_size());
        assert_eq!((copy.saved_at, copy.digest), (at, digest));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_empty_directory_is_loaded_as_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        save(&path, UNIX_EPOCH, &DirectoryIndex::default(), &digest(&DirectoryBuilder::default())).unwrap();
        assert!(load(&path).unwrap().index.is_empty());
    }

    #[test]
    fn a_copy_with_a_missing_end_or_a_flipped_bit_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        assert!(load(&path).unwrap_err().is_absent());
        save(&path, UNIX_EPOCH, &builder().finish().0, &digest(&builder())).unwrap();
        let good = fs::read(&path).unwrap();
        let cut = (0..good.len()).step_by(97).map(|length| good[..length].to_vec());
        let flipped = (0..good.len()).step_by(61).map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            bad
        });
        let longer = std::iter::once([&good[..], b"x"].concat());
        let others = ["{\"databases\":[]}", "[]", "\u{0}", "{\"icm_directory\":2,\"saved_at\":0}\n"];
        for bad in cut.chain(flipped).chain(longer).chain(others.map(|o| o.as_bytes().to_vec())) {
            fs::write(&path, &bad).unwrap();
            let error = load(&path).unwrap_err();
            assert!(!error.is_absent() && error.to_string().contains("c.json"), "{error}");
        }
        assert!(load(folder.path()).is_err());
        let nowhere = folder.path().join("no/c.json");
        let error =
            save(&nowhere, UNIX_EPOCH, &DirectoryIndex::default(), &digest(&DirectoryBuilder::default()))
                .unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("no/c.json"), "{error}");
    }
}

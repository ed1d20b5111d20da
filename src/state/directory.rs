//! A cluster directory in use: its index, where it came from, and what answers have said about it.
//!
//! In: a reading of any source. Out: an index with its age, and the rule for a 404 from a supposed
//! holder. The rule's memory begins anew with every reading.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::low_priority;
use crate::discovery::directory::ReadingDigest;
use crate::domain::cluster::ServerName;
use crate::domain::directory::{DatabaseId, DirectoryBuilder, DirectoryIndex, IndexReport};
use crate::util::clock;

/// Bytes of an index that take longer to free than to hand over.
const BACKGROUND_FREE_MIN_BYTES: usize = 1 << 20;

/// From so many replicas on, a directory that serves is read again only when the processors have nothing to do.
const LARGE_DIRECTORY_MIN_REPLICAS: usize = 100_000;

/// Where a directory came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryOrigin {
    /// Nothing was read yet.
    NotLoaded,
    /// The configuration file.
    Configuration,
    /// A file.
    File(std::path::PathBuf),
    /// The Cluster Database Directory of this server.
    Server(ServerName),
    /// The last good copy on disk.
    Cache(std::path::PathBuf),
}

impl std::fmt::Display for DirectoryOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("nothing read yet"),
            Self::Configuration => f.write_str("the configuration"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(name) => write!(f, "{name}"),
            Self::Cache(path) => write!(f, "the last good copy {}", path.display()),
        }
    }
}

/// A directory in use.
#[derive(Debug)]
pub struct LoadedDirectory {
    /// What is where.
    pub index: DirectoryIndex,
    /// Where it came from.
    pub origin: DirectoryOrigin,
    /// When it was read, on the monotonic clock.
    pub at_ms: u64,
    /// The same for people, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Same server and path twice.
    pub duplicates: usize,
    /// The first of them, by server.
    pub duplicate_examples: Vec<(ServerName, String)>,
    /// What the source warned of.
    pub warnings: Vec<String>,
    /// To judge the next reading against; `None` = whatever is read first serves.
    digest: Mutex<Option<ReadingDigest>>,
    /// One bit a holder (database and server): it has answered something else than 404.
    answered_bits: Box<[AtomicU64]>,
    /// One bit a database: two holders have said 404, so it is genuine.
    genuine_404_bits: Box<[AtomicU64]>,
    servers: usize,
}

impl LoadedDirectory {
    /// Indexes a reading. Takes a while for a million entries: not on a thread that serves.
    #[must_use]
    pub fn new(builder: DirectoryBuilder, origin: DirectoryOrigin, warnings: Vec<String>) -> Self {
        let (index, report) = builder.finish();
        Self::from_index(index, report, origin, warnings)
    }

    /// A directory that was indexed before.
    #[must_use]
    pub fn from_index(
        index: DirectoryIndex,
        report: IndexReport,
        origin: DirectoryOrigin,
        warnings: Vec<String>,
    ) -> Self {
        let bits = |count: usize| (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let servers = index.servers().len();
        Self {
            // A bit for each pair of database and server: an eighth of a byte each.
            answered_bits: bits(index.len().saturating_mul(servers)),
            genuine_404_bits: bits(index.len()),
            servers,
            index,
            origin,
            at_ms: clock::now_ms(),
            at_unix_ms: clock::unix_ms(),
            duplicates: report.duplicates,
            duplicate_examples: report.duplicate_examples,
            warnings,
            digest: Mutex::default(),
        }
    }

    /// With what the next reading is judged against.
    #[must_use]
    pub fn with_digest(mut self, digest: ReadingDigest) -> Self {
        self.digest = Mutex::new(Some(digest));
        self
    }

    /// What the next reading is judged against.
    #[must_use]
    pub fn digest(&self) -> Option<ReadingDigest> {
        self.digest.lock().clone()
    }

    /// The next reading comes from elsewhere: it cannot be judged by this one.
    pub fn clear_digest(&self) {
        *self.digest.lock() = None;
    }

    /// No directory at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_index(
            DirectoryIndex::default(),
            IndexReport::default(),
            DirectoryOrigin::NotLoaded,
            Vec::new(),
        )
    }

    /// Something has been read.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.origin != DirectoryOrigin::NotLoaded
    }

    /// Reading it again takes so long that it must not hold up any request.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.index.replica_count() >= LARGE_DIRECTORY_MIN_REPLICAS
    }

    /// A holder answered something else than 404: from now on its 404 is its own.
    pub fn record_answer(&self, database: DatabaseId, server: crate::domain::directory::DirectoryServerId) {
        let bit = database.as_usize() * self.servers + server.as_usize();
        if let Some(word) = self.answered_bits.get(bit / 64) {
            let mask = 1 << (bit % 64);
            // Read first: the line stays shared among the cores once the bit is set.
            if word.load(Relaxed) & mask == 0 {
                word.fetch_or(mask, Relaxed);
            }
        }
    }

    /// Whether a 404 of this holder is a sign that the directory is stale.
    #[must_use]
    pub fn is_404_suspect(
        &self,
        database: DatabaseId,
        server: crate::domain::directory::DirectoryServerId,
    ) -> bool {
        let is_set = |words: &[AtomicU64], bit: usize| {
            words.get(bit / 64).is_none_or(|w| w.load(Relaxed) & (1 << (bit % 64)) != 0)
        };
        !is_set(&self.answered_bits, database.as_usize() * self.servers + server.as_usize())
            && !is_set(&self.genuine_404_bits, database.as_usize())
    }

    /// Two holders said 404: genuine until the next reading.
    pub fn record_genuine_404(&self, database: DatabaseId) {
        let bit = database.as_usize();
        if let Some(word) = self.genuine_404_bits.get(bit / 64) {
            word.fetch_or(1 << (bit % 64), Relaxed);
        }
    }
}

/// The last user of an old directory is often a request that has taken its time. It does not give back hundreds of
/// megabytes to the system: nothing but this type's own drop can free an index that has served.
impl Drop for LoadedDirectory {
    fn drop(&mut self) {
        let index = std::mem::take(&mut self.index);
        if index.memory_size() > BACKGROUND_FREE_MIN_BYTES {
            low_priority::discard(index);
        }
    }
}

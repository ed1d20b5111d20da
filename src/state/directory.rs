//! A directory in use: its index, its origin, and what the answers of servers say about it. A 404 from a supposed holder
//! may mean that the directory is out of date; what is known about that is forgotten with every reading.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::low_priority;
use crate::discovery::directory::ReadingDigest;
use crate::domain::cluster::ServerName;
use crate::domain::directory::{
    DatabaseId, DirectoryBuilder, DirectoryIndex, DirectoryServerId, IndexReport,
};
use crate::util::clock;

/// From this size on, freeing an index takes longer than handing it to another thread.
const BACKGROUND_FREE_MIN_BYTES: usize = 1 << 20;

/// From this size on, a directory in use is read again only with idle CPU time.
const LARGE_DIRECTORY_MIN_REPLICAS: usize = 100_000;

/// Where a directory was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryOrigin {
    /// No directory was read yet.
    NotLoaded,
    /// `source: static` in the configuration file.
    Configuration,
    /// A CSV or JSON file, `source: file`.
    File(PathBuf),
    /// A view of the Cluster Database Directory of this server.
    Server {
        /// The server that gave it.
        name: ServerName,
        /// The view, as it was asked for.
        view: String,
    },
    /// The last good copy on disk.
    Cache(PathBuf),
}

impl std::fmt::Display for DirectoryOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("nothing read yet"),
            Self::Configuration => f.write_str("the configuration"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server { name, .. } => write!(f, "{name}"),
            Self::Cache(path) => write!(f, "the last good copy {}", path.display()),
        }
    }
}

/// A directory in use; replaced as a whole by the next reading.
#[derive(Debug)]
pub struct LoadedDirectory {
    /// Finds databases and their holders.
    pub index: DirectoryIndex,
    pub(crate) origin: DirectoryOrigin,
    /// When it was read, on the monotonic clock.
    pub(crate) at_ms: u64,
    /// When it was read, in milliseconds since 1970.
    pub(crate) at_unix_ms: u64,
    /// Number of entries with the same server and path as another.
    pub(crate) duplicates: usize,
    /// Some of them, sorted by server.
    pub(crate) duplicate_examples: Vec<(ServerName, String)>,
    pub(crate) warnings: Vec<String>,
    /// What the next reading is compared with; `None` = it is accepted without comparison.
    digest: Mutex<Option<ReadingDigest>>,
    /// One bit for each pair of database and server: it has given an answer other than 404.
    answered_bits: Box<[AtomicU64]>,
    /// One bit for each database: two holders answered 404, so the 404 is genuine.
    genuine_404_bits: Box<[AtomicU64]>,
    /// Recent requests of each database, allocated when the busiest ones are first asked for.
    request_counts: OnceLock<Box<[AtomicU32]>>,
    servers: usize,
}

impl LoadedDirectory {
    /// The view of `cldbdir.nsf` that gave it; `None` for another source, and for a copy on disk.
    #[must_use]
    pub(crate) fn view(&self) -> Option<&str> {
        match &self.origin {
            DirectoryOrigin::Server { view, .. } => Some(view),
            _ => None,
        }
    }

    /// Indexes a reading. This is slow for a million entries, so never call it on a serving thread.
    #[must_use]
    pub fn new(builder: DirectoryBuilder, origin: DirectoryOrigin, warnings: Vec<String>) -> Self {
        let (index, report) = builder.finish();
        Self::from_index(index, report, origin, warnings)
    }

    #[must_use]
    pub(crate) fn from_index(
        index: DirectoryIndex,
        report: IndexReport,
        origin: DirectoryOrigin,
        warnings: Vec<String>,
    ) -> Self {
        let bits = |count: usize| (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let servers = index.servers().len();
        Self {
            answered_bits: bits(index.len().saturating_mul(servers)),
            genuine_404_bits: bits(index.len()),
            request_counts: OnceLock::new(),
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

    #[must_use]
    pub(crate) fn with_digest(mut self, digest: ReadingDigest) -> Self {
        self.digest = Mutex::new(Some(digest));
        self
    }

    #[must_use]
    pub(crate) fn digest(&self) -> Option<ReadingDigest> {
        self.digest.lock().clone()
    }

    /// The next reading has another source, so it cannot be compared with this one.
    pub(crate) fn clear_digest(&self) {
        *self.digest.lock() = None;
    }

    #[must_use]
    pub(crate) fn empty() -> Self {
        Self::from_index(
            DirectoryIndex::default(),
            IndexReport::default(),
            DirectoryOrigin::NotLoaded,
            Vec::new(),
        )
    }

    #[must_use]
    pub(crate) fn is_loaded(&self) -> bool {
        self.origin != DirectoryOrigin::NotLoaded
    }

    /// Reading it again uses so much CPU time that it must not compete with requests.
    #[must_use]
    pub(crate) fn is_large(&self) -> bool {
        self.index.replica_count() >= LARGE_DIRECTORY_MIN_REPLICAS
    }

    /// A holder gave an answer other than 404, so it has the database, and a later 404 is the application's own.
    pub(crate) fn record_answer(&self, database: DatabaseId, server: DirectoryServerId) {
        let bit = database.as_usize() * self.servers + server.as_usize();
        if let Some(word) = self.answered_bits.get(bit / 64) {
            let mask = 1 << (bit % 64);
            // Read first, so that the cache line stays shared among the cores once the bit is set.
            if word.load(Relaxed) & mask == 0 {
                word.fetch_or(mask, Relaxed);
            }
        }
    }

    /// Whether a 404 from this holder may mean that the directory is out of date.
    #[must_use]
    pub(crate) fn is_404_suspect(&self, database: DatabaseId, server: DirectoryServerId) -> bool {
        let is_set = |words: &[AtomicU64], bit: usize| {
            words.get(bit / 64).is_none_or(|w| w.load(Relaxed) & (1 << (bit % 64)) != 0)
        };
        !is_set(&self.answered_bits, database.as_usize() * self.servers + server.as_usize())
            && !is_set(&self.genuine_404_bits, database.as_usize())
    }

    /// Counts a request. Costs one load unless counts are enabled.
    pub(crate) fn count_request(&self, database: DatabaseId) {
        if let Some(counts) = self.request_counts.get()
            && let Some(count) = counts.get(database.as_usize())
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts requests from now on, until the directory is replaced by one without counts.
    pub(crate) fn enable_request_counts(&self) {
        self.request_counts.get_or_init(|| (0..self.index.len()).map(|_| AtomicU32::new(0)).collect());
    }

    /// Takes over the counts of the directory that this one replaces.
    pub(crate) fn carry_request_counts(&self, old: &Self) {
        let Some(old_counts) = old.request_counts.get() else { return };
        if self.request_counts.get().is_some() {
            return;
        }
        self.enable_request_counts();
        let Some(counts) = self.request_counts.get() else { return };
        for (database, count) in old.index.databases().zip(old_counts) {
            let requests = count.load(Relaxed);
            if requests > 0
                && let Some(here) = self.index.find_by_replica_id(database.replica_id())
                && let Some(count) = counts.get(here.as_usize())
            {
                count.fetch_add(requests, Relaxed);
            }
        }
    }

    /// All databases, the busiest first. Halves the counts, so that old requests fade.
    pub(crate) fn busiest_databases(&self) -> impl Iterator<Item = DatabaseId> + '_ {
        let counts = self.request_counts.get().map(|counts| &**counts).unwrap_or_default();
        let mut busy: Vec<(u32, DatabaseId)> = Vec::new();
        for (database, count) in self.index.databases().zip(counts) {
            let requests = count.load(Relaxed);
            if requests > 0 {
                count.fetch_sub(requests.div_ceil(2), Relaxed);
                busy.push((requests, database.id()));
            }
        }
        busy.sort_unstable_by_key(|(requests, _)| std::cmp::Reverse(*requests));
        let known: ahash::AHashSet<DatabaseId> = busy.iter().map(|(_, database)| *database).collect();
        let idle = self.index.databases().map(|database| database.id());
        busy.into_iter().map(|(_, database)| database).chain(idle.filter(move |id| !known.contains(id)))
    }

    /// Two holders answered 404, which is genuine until the next reading.
    pub(crate) fn record_genuine_404(&self, database: DatabaseId) {
        let bit = database.as_usize();
        if let Some(word) = self.genuine_404_bits.get(bit / 64) {
            word.fetch_or(1 << (bit % 64), Relaxed);
        }
    }
}

/// The last user of an old directory is often a slow request, which must not spend its time on freeing hundreds of
/// megabytes.
impl Drop for LoadedDirectory {
    fn drop(&mut self) {
        let index = std::mem::take(&mut self.index);
        if index.memory_size() > BACKGROUND_FREE_MIN_BYTES {
            low_priority::discard(index);
        }
    }
}

//! The directory in the shape that requests need: from a path or a replica ID to the servers.
//!
//! In: the entries of a whole directory. Out: an immutable [`DirectoryIndex`] that answers by path and by replica
//! ID without allocating, and a [`IndexReport`] of what was dropped. An index never changes: a new reading of
//! the directory makes a new one. It never decides which server serves.
//!
//! A database on several servers under different paths is one database with several paths. The same
//! path with different replica IDs, on whichever servers, is ambiguous: a value here, not an error
//! (<https://help.hcltechsw.com/domino/12.0.0/admin/conf_generatingurlsthatrefertotheinternetclustermanage_c.html>).
//!
//! Flat tables joined by 32-bit numbers, for a million databases with three replicas each. What a lookup costs at
//! that size is places in memory: one bucket of a hash table, one folded text, and one line that holds a database
//! together with its replicas. The two latter do not wait for each other.

mod build;
mod encoding;
mod lookup;
mod replicas;
mod string_pool;

pub use build::{DirectoryBuilder, IndexReport};
pub use encoding::IndexReadError;
pub use lookup::{DatabaseMatch, LookupResult};
pub use replicas::{IndexedDatabase, Replica, ServerReplica};

use super::{ReplicaId, ReplicaStatus};
use crate::domain::cluster::ServerName;
use hashbrown::HashTable;
use string_pool::{StringId, StringPool};

/// A database of one index; means nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(u32);

impl DatabaseId {
    /// For tables with one place for each database.
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A path (folded) of one index; means nothing in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(StringId);

/// An ambiguous path of one index; means nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AmbiguousPathId(u32);

/// A place in [`DirectoryIndex::servers`] of the same index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryServerId(pub u16);

impl DirectoryServerId {
    /// For tables beside [`DirectoryIndex::servers`].
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// The directory of one cluster. The default is empty.
#[derive(Clone, Debug, Default)]
pub struct DirectoryIndex {
    strings: StringPool,
    /// Sorted by folded name.
    servers: Box<[ServerName]>,
    /// Sorted by replica ID.
    databases: Box<[DatabaseRow]>,
    /// Of the databases with more than [`INLINE_REPLICAS`], in the order of `databases`.
    replicas: Box<[ReplicaRow]>,
    replica_count: usize,
    ambiguous: Box<[AmbiguousRow]>,
    /// The databases of every ambiguous path, one path after the other, each in ascending order.
    ambiguous_databases: Box<[DatabaseId]>,
    by_path: HashTable<PathRow>,
    by_replica_id: HashTable<DatabaseId>,
}

/// So many replicas stand in the row of their database: with them it fills a cache line.
const INLINE_REPLICAS: usize = 3;

/// A database and its replicas, by server and then by folded path.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct DatabaseRow {
    replica_id: ReplicaId,
    title: StringId,
    /// How many replicas it has.
    replica_count: u32,
    /// Where they begin in `replicas`, if they are more than [`INLINE_REPLICAS`].
    overflow_start: u32,
    inline_replicas: [ReplicaRow; INLINE_REPLICAS],
}

#[derive(Clone, Copy, Debug, Default)]
struct ReplicaRow {
    /// As the directory spells it.
    display_path: StringId,
    path: PathId,
    server: DirectoryServerId,
    status: ReplicaStatus,
}

#[derive(Clone, Copy, Debug)]
struct PathRow {
    path: PathId,
    owner: PathOwner,
}

#[derive(Clone, Copy, Debug)]
struct AmbiguousRow {
    path: PathId,
    /// Where its databases end in `sharers`; they start where those of the row before ended.
    end: u32,
}

/// Whose path it is, in four octets: most are of one database.
#[derive(Clone, Copy, Debug)]
struct PathOwner(u32);

impl PathOwner {
    const AMBIGUOUS_BIT: u32 = 1 << 31;

    fn database(database: DatabaseId) -> Self {
        Self(database.0)
    }

    fn ambiguous(path: AmbiguousPathId) -> Self {
        Self(path.0 | Self::AMBIGUOUS_BIT)
    }

    fn decode(self) -> Result<DatabaseId, AmbiguousPathId> {
        if self.0 & Self::AMBIGUOUS_BIT == 0 {
            Ok(DatabaseId(self.0))
        } else {
            Err(AmbiguousPathId(self.0 & !Self::AMBIGUOUS_BIT))
        }
    }
}

/// The hash of texts and replica IDs. The keys are fixed, as an index may be rebuilt any time; the
/// directory is written by administrators, who need no defence against themselves.
fn hash_key(value: impl std::hash::Hash) -> u64 {
    ahash::RandomState::with_seeds(0xd0, 0x31, 0x60, 0xcd).hash_one(value)
}

/// A number as a place in a slice.
fn to_usize(number: u32) -> usize {
    // No target of this program has less than 32 bits.
    number as usize
}

#[cfg(test)]
mod tests;

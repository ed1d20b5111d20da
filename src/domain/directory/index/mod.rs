//! The directory in the shape that requests need: an immutable index from a path or a replica ID to the servers. A
//! refresh builds a new index.
//!
//! A database on several servers under different paths is one database with several paths. The same path with different
//! replica IDs, on whichever servers, is ambiguous: a value here, not an error
//! (<https://help.hcltechsw.com/domino/12.0.0/admin/conf_generatingurlsthatrefertotheinternetclustermanage_c.html>).
//!
//! The index consists of flat tables joined by 32-bit numbers, for a million databases with three replicas each. At
//! that size the cost of a lookup is the number of places in memory it touches: one bucket of a hash table, one folded
//! path, and the cache line of a database with its replicas. The last two do not depend on each other.

mod build;
mod encoding;
mod lookup;
mod replicas;
mod string_pool;

pub use build::{DirectoryBuilder, IndexReport};
pub use lookup::{DatabaseMatch, LookupResult};
pub use replicas::{IndexedDatabase, Replica, ServerReplica};

use super::{ReplicaId, ReplicaStatus};
use crate::domain::cluster::ServerName;
use hashbrown::HashTable;
use string_pool::{StringId, StringPool};

/// Identifies a database within one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(u32);

impl DatabaseId {
    /// The position in tables with one entry for each database.
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Identifies a folded path within one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(StringId);

/// Identifies an ambiguous path within one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AmbiguousPathId(u32);

/// Position of a server in [`DirectoryIndex::servers`] of the same index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryServerId(pub u16);

impl DirectoryServerId {
    /// The position in tables parallel to [`DirectoryIndex::servers`].
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::from(self.0)
    }
}

/// The directory of one cluster.
#[derive(Clone, Debug, Default)]
pub struct DirectoryIndex {
    strings: StringPool,
    /// Sorted by folded name.
    servers: Box<[ServerName]>,
    /// Sorted by replica ID.
    databases: Box<[DatabaseRow]>,
    /// The replicas of databases with more than [`INLINE_REPLICAS`], in the order of `databases`.
    replicas: Box<[ReplicaRow]>,
    replica_count: usize,
    ambiguous: Box<[AmbiguousRow]>,
    /// The databases of every ambiguous path, path by path, each in ascending order.
    ambiguous_databases: Box<[DatabaseId]>,
    by_path: HashTable<PathRow>,
    by_replica_id: HashTable<DatabaseId>,
}

/// Replicas stored in the row of their database, which then fills a cache line.
const INLINE_REPLICAS: usize = 3;

/// A database and its replicas, by server and then by folded path.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct DatabaseRow {
    replica_id: ReplicaId,
    title: StringId,
    replica_count: u32,
    /// Start of the replicas in `replicas`, if there are more than [`INLINE_REPLICAS`].
    overflow_start: u32,
    inline_replicas: [ReplicaRow; INLINE_REPLICAS],
}

#[derive(Clone, Copy, Debug, Default)]
struct ReplicaRow {
    /// The path as the directory spells it.
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
    /// End of its databases in `ambiguous_databases`; they start at the end of the previous row.
    end: u32,
}

/// The database of a path, or the ambiguous path, in four bytes.
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

/// The hash of strings and replica IDs. Its keys are fixed: administrators write the directory, so there is no attacker
/// who chooses colliding keys.
fn hash_key(value: impl std::hash::Hash) -> u64 {
    ahash::RandomState::with_seeds(0xd0, 0x31, 0x60, 0xcd).hash_one(value)
}

fn to_usize(number: u32) -> usize {
    // All supported targets have at least 32 bits.
    number as usize
}

#[cfg(test)]
mod tests;

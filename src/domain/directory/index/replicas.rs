//! What an index shows of a database: its replicas, and its holders for one request.
//!
//! In: numbers from a lookup. Out: views that borrow from the index. A number of another index shows
//! something else or nothing, and never panics.

use super::string_pool::{StringId, StringPool};
use super::{
    DatabaseId, DatabaseMatch, DatabaseRow, DirectoryIndex, DirectoryServerId, INLINE_REPLICAS, PathId,
    ReplicaRow, to_usize,
};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{ReplicaId, ReplicaStatus};

/// A database of the directory.
#[derive(Clone, Copy, Debug)]
pub struct IndexedDatabase<'a> {
    index: &'a DirectoryIndex,
    ix: DatabaseId,
    row: &'a DatabaseRow,
}

/// What is shown for a number that means no database.
static MISSING_DATABASE: DatabaseRow = DatabaseRow {
    replica_id: ReplicaId(0),
    title: StringId::EMPTY,
    replica_count: 0,
    overflow_start: 0,
    inline_replicas: [ReplicaRow {
        display_path: StringId::EMPTY,
        path: PathId(StringId::EMPTY),
        server: DirectoryServerId(0),
        status: ReplicaStatus::InService,
    }; INLINE_REPLICAS],
};

/// One copy of a database on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica<'a> {
    /// The server that has it.
    pub server: DirectoryServerId,
    /// What the administrator said about this copy.
    pub status: ReplicaStatus,
    /// The directory's spelling, with `/`, without a leading one.
    pub path: &'a str,
    /// The same path folded: equal for all servers that have it, in whatever case.
    pub path_id: PathId,
}

/// A server that holds a database, and the copy of it that a request would use there.
#[derive(Clone, Copy, Debug)]
pub struct ServerReplica<'a> {
    strings: &'a StringPool,
    display_path: StringId,
    /// The server.
    pub server: DirectoryServerId,
    /// The mark of the copy.
    pub status: ReplicaStatus,
    /// Whether this is the path that was asked for (folded).
    pub same_path: bool,
    /// How many copies the server has; selective replicas are real.
    pub replica_count: u16,
}

impl<'a> ServerReplica<'a> {
    /// The path of the copy in the directory's spelling, with `/`. Selection does without it: it is elsewhere in
    /// memory.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.strings.get(self.display_path)
    }
}

impl<'a> IndexedDatabase<'a> {
    /// Its number in the index.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.ix
    }

    /// Shared by all its replicas.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.row.replica_id
    }

    /// The first title that the directory gives it; may be empty.
    #[must_use]
    pub fn title(&self) -> &'a str {
        self.index.strings.get(self.row.title)
    }

    /// Its first path, for display.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.replicas().next().map(|replica| replica.path).unwrap_or_default()
    }

    /// All copies, by server and then by path.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = Replica<'a>> + use<'a> {
        let index = self.index;
        index.replica_rows(self.row).iter().map(|row| Replica {
            server: row.server,
            status: row.status,
            path: index.strings.get(row.display_path),
            path_id: row.path,
        })
    }

    /// A number made of the replica ID alone: equal on all instances, in all versions, and short
    /// enough for a cookie. Different databases may share one, once in four thousand million pairs.
    #[must_use]
    pub fn affinity_tag(&self) -> u32 {
        // The finaliser of SplitMix64 spreads IDs that were given out one after the other.
        let mut bits = self.row.replica_id.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 32) as u32
    }
}

impl DirectoryIndex {
    /// A database by its number. One that this index does not have is shown without replicas.
    #[must_use]
    pub fn database(&self, ix: DatabaseId) -> IndexedDatabase<'_> {
        IndexedDatabase {
            index: self,
            ix,
            row: self.databases.get(to_usize(ix.0)).unwrap_or(&MISSING_DATABASE),
        }
    }

    /// All databases, in the order of their replica IDs.
    pub fn databases(&self) -> impl ExactSizeIterator<Item = IndexedDatabase<'_>> {
        // Their count was checked against 31 bits when the index was built.
        self.databases.iter().enumerate().map(|(at, row)| IndexedDatabase {
            index: self,
            ix: DatabaseId(at as u32),
            row,
        })
    }

    /// The servers that the directory names, in the order of their names.
    #[must_use]
    pub fn servers(&self) -> &[ServerName] {
        &self.servers
    }

    /// The servers that hold a database, each once, in the order of their names.
    ///
    /// A server with a copy at the path that was asked for is shown with that copy, and its mark
    /// governs: only the path addresses one particular copy. Else the server is shown with its first
    /// copy in service, else with its first, in the order of paths.
    pub fn replicas_by_server(&self, found: &DatabaseMatch) -> ServerReplicas<'_> {
        let row = self.databases.get(to_usize(found.database.0)).unwrap_or(&MISSING_DATABASE);
        ServerReplicas { index: self, rows: self.replica_rows(row), requested_path: found.path }
    }

    /// Number of databases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.databases.len()
    }

    /// True when there are no databases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    /// Number of replicas of all databases.
    #[must_use]
    pub fn replica_count(&self) -> usize {
        self.replica_count
    }

    /// Memory held, in octets, without the allocator's own overhead.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        let names: usize = self
            .servers
            .iter()
            .map(|name| size_of::<ServerName>() + name.abbreviated().len() + name.folded().len())
            .sum();
        size_of::<Self>()
            + names
            + self.strings.memory_size()
            + size_of_val(&*self.databases)
            + size_of_val(&*self.replicas)
            + size_of_val(&*self.ambiguous)
            + size_of_val(&*self.ambiguous_databases)
            + self.by_path.allocation_size()
            + self.by_replica_id.allocation_size()
    }

    pub(super) fn replica_rows<'a>(&'a self, row: &'a DatabaseRow) -> &'a [ReplicaRow] {
        let copies = to_usize(row.replica_count);
        let overflow = || {
            let from = to_usize(row.overflow_start);
            self.replicas.get(from..from.saturating_add(copies))
        };
        row.inline_replicas.get(..copies).or_else(overflow).unwrap_or_default()
    }
}

/// Iterator of [`DirectoryIndex::holders`].
#[derive(Clone, Debug)]
pub struct ServerReplicas<'a> {
    index: &'a DirectoryIndex,
    /// The replicas on servers not yet shown.
    rows: &'a [ReplicaRow],
    requested_path: Option<PathId>,
}

impl<'a> Iterator for ServerReplicas<'a> {
    type Item = ServerReplica<'a>;

    fn next(&mut self) -> Option<ServerReplica<'a>> {
        let first = self.rows.first()?;
        let copies = self.rows.partition_point(|row| row.server == first.server);
        let (here, others) = self.rows.split_at_checked(copies)?;
        self.rows = others;
        let chosen = here
            .iter()
            .find(|row| Some(row.path) == self.requested_path)
            .or_else(|| here.iter().find(|row| row.status == ReplicaStatus::InService))
            .unwrap_or(first);
        Some(ServerReplica {
            strings: &self.index.strings,
            display_path: chosen.display_path,
            server: chosen.server,
            status: chosen.status,
            same_path: Some(chosen.path) == self.requested_path,
            replica_count: u16::try_from(copies).unwrap_or(u16::MAX),
        })
    }
}

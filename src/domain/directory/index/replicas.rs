//! Views of a database in an index: its replicas, and the servers that hold it. An ID of another index gives a wrong or
//! empty view, and never panics.

use super::string_pool::{StringId, StringPool};
use super::{
    DatabaseId, DatabaseMatch, DatabaseRow, DirectoryIndex, DirectoryServerId, INLINE_REPLICAS, PathId,
    ReplicaRow, to_usize,
};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{ReplicaId, ReplicaStatus};

/// A view of one database in an index.
#[derive(Clone, Copy, Debug)]
pub struct IndexedDatabase<'a> {
    index: &'a DirectoryIndex,
    id: DatabaseId,
    row: &'a DatabaseRow,
}

/// Stands in for a database that the index does not have.
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
    /// The server that holds this copy.
    pub server: DirectoryServerId,
    /// The mark of this copy.
    pub status: ReplicaStatus,
    /// The path as the directory spells it, with `/` and without a leading slash.
    pub path: &'a str,
    /// The folded path, equal for all spellings.
    pub path_id: PathId,
}

/// A server that holds a database, and the copy that a request uses there.
#[derive(Clone, Copy, Debug)]
pub struct ServerReplica<'a> {
    strings: &'a StringPool,
    display_path: StringId,
    /// The server that holds the copy.
    pub server: DirectoryServerId,
    /// The mark of this copy.
    pub status: ReplicaStatus,
    /// The copy has the requested path.
    pub same_path: bool,
    /// Number of copies on this server: there can be several selective replicas.
    pub replica_count: u16,
}

impl<'a> ServerReplica<'a> {
    /// The path of the copy as the directory spells it, with `/`. Selection does not touch this part of the memory.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.strings.get(self.display_path)
    }
}

impl<'a> IndexedDatabase<'a> {
    /// The ID of the database in the index.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.id
    }

    /// The ID that all replicas share.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.row.replica_id
    }

    /// The first title in the directory; may be empty.
    #[must_use]
    pub fn title(&self) -> &'a str {
        self.index.strings.get(self.row.title)
    }

    /// The first path, for display.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.replicas().next().map(|replica| replica.path).unwrap_or_default()
    }

    /// All replicas, by server and then by path.
    pub fn replicas(&self) -> impl ExactSizeIterator<Item = Replica<'a>> + use<'a> {
        let index = self.index;
        index.replica_rows(self.row).iter().map(|row| Replica {
            server: row.server,
            status: row.status,
            path: index.strings.get(row.display_path),
            path_id: row.path,
        })
    }

    /// A hash of the replica ID, short enough for a cookie, and equal on all instances and in all versions. Two
    /// databases share a tag with a probability of one in four billion.
    #[must_use]
    pub fn affinity_tag(&self) -> u32 {
        // The finalizer of SplitMix64 spreads consecutive IDs.
        let mut bits = self.row.replica_id.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 32) as u32
    }
}

impl DirectoryIndex {
    /// The view of a database; empty if the index does not have it.
    #[must_use]
    pub fn database(&self, id: DatabaseId) -> IndexedDatabase<'_> {
        IndexedDatabase {
            index: self,
            id,
            row: self.databases.get(to_usize(id.0)).unwrap_or(&MISSING_DATABASE),
        }
    }

    /// All databases, in the order of their replica IDs.
    pub fn databases(&self) -> impl ExactSizeIterator<Item = IndexedDatabase<'_>> {
        // The count was checked against 31 bits when the index was built.
        self.databases.iter().enumerate().map(|(at, row)| IndexedDatabase {
            index: self,
            id: DatabaseId(at as u32),
            row,
        })
    }

    /// All servers of the directory, sorted by name.
    #[must_use]
    pub fn servers(&self) -> &[ServerName] {
        &self.servers
    }

    /// The servers that hold a database, each once, sorted by name.
    ///
    /// A server with a copy at the requested path uses that copy and its mark, because only a path addresses one
    /// particular copy. Otherwise it uses its first copy in service, or its first copy, in the order of paths.
    pub fn replicas_by_server(&self, found: &DatabaseMatch) -> ServerReplicas<'_> {
        let row = self.databases.get(to_usize(found.database.0)).unwrap_or(&MISSING_DATABASE);
        ServerReplicas { index: self, rows: self.replica_rows(row), requested_path: found.path }
    }

    /// Number of databases in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.databases.len()
    }

    /// True if there are no databases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    /// Number of replicas of all databases.
    #[must_use]
    pub fn replica_count(&self) -> usize {
        self.replica_count
    }

    /// Memory in bytes, without the overhead of the allocator.
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

/// The iterator of [`DirectoryIndex::replicas_by_server`].
#[derive(Clone, Debug)]
pub struct ServerReplicas<'a> {
    index: &'a DirectoryIndex,
    /// The replicas on the remaining servers.
    rows: &'a [ReplicaRow],
    requested_path: Option<PathId>,
}

impl<'a> Iterator for ServerReplicas<'a> {
    type Item = ServerReplica<'a>;

    fn next(&mut self) -> Option<ServerReplica<'a>> {
        let first = self.rows.first()?;
        let copies = self.rows.partition_point(|row| row.server == first.server);
        let (here, rest) = self.rows.split_at_checked(copies)?;
        self.rows = rest;
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

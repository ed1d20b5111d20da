//! Builds an index from the entries of a directory, which may come in any order and with duplicates.
//!
//! Entries are added one by one, so that a million databases are never held as a list. The tables are sorted, so equal
//! directories give equal indexes. Building takes about twice the memory of the index.

use super::string_pool::{StringId, StringPool, StringPoolBuilder};
use super::{
    AmbiguousPathId, AmbiguousRow, DatabaseId, DatabaseRow, DirectoryIndex, INLINE_REPLICAS, PathId,
    PathOwner,
};
use super::{DirectoryServerId, PathRow, ReplicaRow, hash_key, to_usize};
use crate::domain::cluster::ServerName;
use crate::domain::directory::db_path::{FoldBuffer, fold_plain_path, normalize_separators};
use crate::domain::directory::{DirectoryEntry, ReplicaId, ReplicaStatus};
use hashbrown::HashTable;
use std::collections::HashMap;

const MAX_DUPLICATE_EXAMPLES: usize = 20;

/// What happened to the entries of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Number of entries read.
    pub entries: usize,
    /// Entries kept, each of which is a replica.
    pub replicas: usize,
    /// Number of different replica IDs.
    pub databases: usize,
    /// Number of different folded paths.
    pub paths: usize,
    /// Paths with more than one replica ID.
    pub ambiguous_paths: usize,
    /// Entries dropped because a later one has the same server and path. Domino leaves such entries behind when a
    /// Cluster Database Directory is recreated
    /// (<https://help.hcl-software.com/domino/11.0.1/admin/admn_creatinganewclusterdatabasedirectory_t.html>).
    pub duplicates: usize,
    /// Up to twenty duplicates, with the path of the entry that was kept.
    pub duplicate_examples: Vec<(ServerName, String)>,
    /// Entries without a path.
    pub without_path: usize,
    /// Entries dropped because of a limit: 65,536 servers, 2^31 entries, 4 GiB of strings, 55,295 bytes for a path or
    /// title.
    pub too_many: usize,
}

impl DirectoryIndex {
    /// Builds the index of a whole directory. Of several entries with the same server and folded path the last one
    /// wins.
    #[must_use]
    pub fn build(entries: impl IntoIterator<Item = DirectoryEntry>) -> (Self, IndexReport) {
        let mut builder = DirectoryBuilder::default();
        for entry in entries {
            builder.add(&entry);
        }
        builder.finish()
    }
}

/// One replica while the index is built.
#[derive(Clone, Copy)]
struct Row {
    replica_id: ReplicaId,
    display_path: StringId,
    path: PathId,
    title: StringId,
    /// Position among the entries: the last duplicate and the first title win.
    order: u32,
    server: DirectoryServerId,
    status: ReplicaStatus,
}

/// Collects the entries of a directory and builds the index.
#[derive(Default)]
pub struct DirectoryBuilder {
    report: IndexReport,
    fingerprint: u64,
    buffer: FoldBuffer,
    strings: StringPoolBuilder,
    servers: HashMap<ServerName, DirectoryServerId, ahash::RandomState>,
    rows: Vec<Row>,
}

impl std::fmt::Debug for DirectoryBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectoryBuilder({} entries)", self.len())
    }
}

impl DirectoryBuilder {
    /// Number of entries added, including dropped ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.report.entries
    }

    /// True before the first entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Equal for the same entries in any order and in any spelling of their paths; titles do not count. Other versions
    /// of this program may compute other values.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The entries that were kept, in order, with `/` in their paths.
    pub fn entries(&self) -> impl Iterator<Item = DirectoryEntry> + '_ {
        let mut names = vec![None; self.servers.len()];
        for (name, id) in &self.servers {
            if let Some(slot) = names.get_mut(id.as_usize()) {
                *slot = Some(name);
            }
        }
        self.rows.iter().filter_map(move |row| {
            Some(DirectoryEntry {
                path: self.strings.get(row.display_path).to_owned(),
                server: names.get(row.server.as_usize()).copied().flatten()?.clone(),
                replica_id: row.replica_id,
                title: self.strings.get(row.title).to_owned(),
                status: row.status,
            })
        })
    }

    /// How many databases have this path, in any spelling.
    #[must_use]
    pub fn databases_at(&self, path: &str) -> usize {
        let mut buffer = FoldBuffer::default();
        let folded = fold_plain_path(path.as_bytes(), &mut buffer);
        let at_path = self.rows.iter().filter(|row| self.strings.get(row.path.0).as_bytes() == folded);
        let mut ids: Vec<ReplicaId> = at_path.map(|row| row.replica_id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// Whether a database has this replica ID.
    #[must_use]
    pub fn has_replica_id(&self, id: ReplicaId) -> bool {
        self.rows.iter().any(|row| row.replica_id == id)
    }

    /// Adds an entry, or counts it as dropped.
    pub fn add(&mut self, entry: &DirectoryEntry) {
        self.report.entries += 1;
        let display_path = normalize_separators(&entry.path);
        if display_path.is_empty() {
            self.report.without_path += 1;
        } else {
            match self.make_row(entry, &display_path) {
                Some(row) => self.rows.push(row),
                None => self.report.too_many += 1,
            }
        }
    }

    /// `None` if a limit is reached.
    fn make_row(&mut self, entry: &DirectoryEntry, display_path: &str) -> Option<Row> {
        let folded = std::str::from_utf8(fold_plain_path(display_path.as_bytes(), &mut self.buffer)).ok()?;
        let identity = (folded, entry.server.folded(), entry.replica_id, entry.status);
        self.fingerprint = self.fingerprint.wrapping_add(hash_key(identity));
        Some(Row {
            replica_id: entry.replica_id,
            display_path: self.strings.intern(display_path)?,
            path: PathId(self.strings.intern(folded)?),
            title: self.strings.intern(entry.title.trim())?,
            // The numbers of databases and replicas are not larger than this one, so they fit as well.
            order: u32::try_from(self.report.entries)
                .ok()
                .filter(|order| *order < PathOwner::AMBIGUOUS_BIT)?,
            server: self.intern_server(&entry.server)?,
            status: entry.status,
        })
    }

    fn intern_server(&mut self, name: &ServerName) -> Option<DirectoryServerId> {
        if let Some(known) = self.servers.get(name) {
            return Some(*known);
        }
        let new = DirectoryServerId(u16::try_from(self.servers.len()).ok()?);
        self.servers.insert(name.clone(), new);
        Some(new)
    }

    /// Builds the index of all added entries.
    #[must_use]
    pub fn finish(self) -> (DirectoryIndex, IndexReport) {
        let Self { mut report, strings, servers, mut rows, .. } = self;
        let servers = sort_servers(servers, &mut rows);
        drop_duplicates(&mut rows, &mut report, &servers, &strings);
        rows.sort_unstable_by(|a, b| {
            let path = |row: &Row| strings.get(row.path.0);
            (a.replica_id, a.server).cmp(&(b.replica_id, b.server)).then_with(|| path(a).cmp(path(b)))
        });
        report.replicas = rows.len();
        let (databases, replicas, owners) = group_databases(&rows);
        // Free this large table before the next one is built.
        drop(rows);
        let (paths, ambiguous, ambiguous_databases) = assign_path_owners(owners);
        let strings = strings.finish();
        report.databases = databases.len();
        report.paths = paths.len();
        report.ambiguous_paths = ambiguous.len();
        let index = DirectoryIndex {
            by_path: hash_paths(&strings, paths.into_iter()),
            by_replica_id: hash_replica_ids(&databases),
            strings,
            servers,
            databases: databases.into(),
            replicas: replicas.into(),
            replica_count: report.replicas,
            ambiguous: ambiguous.into(),
            ambiguous_databases: ambiguous_databases.into(),
        };
        (index, report)
    }
}

/// The table behind [`DirectoryIndex::by_path`].
pub(super) fn hash_paths(
    strings: &StringPool,
    paths: impl ExactSizeIterator<Item = PathRow>,
) -> HashTable<PathRow> {
    let mut table = HashTable::with_capacity(paths.len());
    let hash_of = |row: &PathRow| hash_key(strings.get(row.path.0).as_bytes());
    for row in paths {
        table.insert_unique(hash_of(&row), row, hash_of);
    }
    table
}

/// The table behind [`DirectoryIndex::by_replica_id`].
pub(super) fn hash_replica_ids(databases: &[DatabaseRow]) -> HashTable<DatabaseId> {
    let mut table = HashTable::with_capacity(databases.len());
    let hash_of = |id: &DatabaseId| databases.get(to_usize(id.0)).map_or(0, |row| hash_key(row.replica_id));
    for id in (0_u32..).map(DatabaseId).take(databases.len()) {
        table.insert_unique(hash_of(&id), id, hash_of);
    }
    table
}

/// Sorts the servers by name and renumbers them in the rows.
fn sort_servers(
    servers: HashMap<ServerName, DirectoryServerId, ahash::RandomState>,
    rows: &mut [Row],
) -> Box<[ServerName]> {
    let mut sorted: Vec<_> = servers.into_iter().collect();
    sorted.sort_unstable();
    let mut new_ids = vec![DirectoryServerId(0); sorted.len()];
    for (new, (_, old)) in (0_u16..=u16::MAX).zip(&sorted) {
        if let Some(slot) = new_ids.get_mut(old.as_usize()) {
            *slot = DirectoryServerId(new);
        }
    }
    for row in rows {
        row.server = new_ids.get(row.server.as_usize()).copied().unwrap_or(row.server);
    }
    sorted.into_iter().map(|(name, _)| name).collect()
}

/// Keeps the last row for each server and path.
fn drop_duplicates(
    rows: &mut Vec<Row>,
    report: &mut IndexReport,
    servers: &[ServerName],
    strings: &StringPoolBuilder,
) {
    // Latest first, because `dedup` keeps the first.
    rows.sort_unstable_by_key(|row| (row.server, row.path, std::cmp::Reverse(row.order)));
    rows.dedup_by(|other, kept| {
        let same = (other.server, other.path) == (kept.server, kept.path);
        if same {
            report.duplicates += 1;
            if report.duplicate_examples.len() < MAX_DUPLICATE_EXAMPLES
                && let Some(server) = servers.get(kept.server.as_usize())
            {
                report.duplicate_examples.push((server.clone(), strings.get(kept.display_path).to_owned()));
            }
        }
        same
    });
}

/// Databases, replicas that do not fit in their rows, and the database of each path.
type GroupedRows = (Vec<DatabaseRow>, Vec<ReplicaRow>, Vec<(PathId, DatabaseId)>);

/// Groups rows that are sorted by replica ID into databases.
fn group_databases(rows: &[Row]) -> GroupedRows {
    let (mut databases, mut overflow) = (Vec::new(), Vec::new());
    let mut owners = Vec::with_capacity(rows.len());
    let groups = rows.chunk_by(|a, b| a.replica_id == b.replica_id);
    for (id, group) in (0_u32..).map(DatabaseId).zip(groups) {
        let titled = group.iter().filter(|row| row.title != StringId::EMPTY);
        let mut database = DatabaseRow {
            replica_id: group.first().map_or(ReplicaId(0), |row| row.replica_id),
            title: titled.min_by_key(|row| row.order).map(|row| row.title).unwrap_or_default(),
            replica_count: group.len() as u32,
            overflow_start: overflow.len() as u32,
            inline_replicas: [ReplicaRow::default(); INLINE_REPLICAS],
        };
        let replicas = group.iter().map(|row| ReplicaRow {
            display_path: row.display_path,
            path: row.path,
            server: row.server,
            status: row.status,
        });
        if group.len() <= INLINE_REPLICAS {
            database.inline_replicas.iter_mut().zip(replicas).for_each(|(slot, replica)| *slot = replica);
        } else {
            overflow.extend(replicas);
        }
        databases.push(database);
        owners.extend(group.iter().map(|row| (row.path, id)));
    }
    (databases, overflow, owners)
}

/// Assigns each path its database, or its entry among the ambiguous paths.
fn assign_path_owners(
    mut owners: Vec<(PathId, DatabaseId)>,
) -> (Vec<PathRow>, Vec<AmbiguousRow>, Vec<DatabaseId>) {
    owners.sort_unstable();
    owners.dedup();
    let (mut paths, mut ambiguous, mut ambiguous_databases) = (Vec::new(), Vec::new(), Vec::new());
    for sharing in owners.chunk_by(|a, b| a.0 == b.0) {
        let Some((path, first)) = sharing.first().copied() else { continue };
        let owner = if sharing.len() == 1 {
            PathOwner::database(first)
        } else {
            ambiguous_databases.extend(sharing.iter().map(|(_, database)| *database));
            ambiguous.push(AmbiguousRow { path, end: ambiguous_databases.len() as u32 });
            PathOwner::ambiguous(AmbiguousPathId(ambiguous.len() as u32 - 1))
        };
        paths.push(PathRow { path, owner });
    }
    (paths, ambiguous, ambiguous_databases)
}

//! From the entries of a directory to an index.
//!
//! In: entries in any order, with duplicates, one by one as a source reads them: a million databases never lie in
//! memory as a list. Out: the tables, sorted so that equal directories give equal indexes, and a [`IndexReport`]. Needs
//! about twice the memory of the index while it works. Never fails: an entry that cannot be kept is counted.

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

/// How many duplicates are named in a report.
const MAX_DUPLICATE_EXAMPLES: usize = 20;

/// What became of the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Entries read.
    pub entries: usize,
    /// Entries kept: copies of databases on servers.
    pub replicas: usize,
    /// Different replica IDs.
    pub databases: usize,
    /// Different paths, folded.
    pub paths: usize,
    /// Paths with more than one replica ID.
    pub ambiguous_paths: usize,
    /// Entries dropped because a later one names the same server and path. Domino leaves such ones
    /// behind when a Cluster Database Directory was recreated
    /// (<https://help.hcl-software.com/domino/11.0.1/admin/admn_creatinganewclusterdatabasedirectory_t.html>).
    pub duplicates: usize,
    /// Twenty of them, by server: the path is that of the entry that was kept.
    pub duplicate_examples: Vec<(ServerName, String)>,
    /// Entries without a path.
    pub without_path: usize,
    /// Entries that do not fit: over 65,536 servers, 2^31 entries, 4 GiB of texts, or a path or
    /// title longer than 55,295 octets.
    pub too_many: usize,
}

impl DirectoryIndex {
    /// Builds the index of a whole directory. Of several entries with the same server and path (folded)
    /// the last one wins.
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
    /// Position among the entries: the last of duplicates counts, and the first title.
    order: u32,
    server: DirectoryServerId,
    status: ReplicaStatus,
}

/// A directory while it is read: entries go in one by one, an index comes out.
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
        write!(f, "Draft({} entries)", self.len())
    }
}

impl DirectoryBuilder {
    /// Entries given so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.report.entries
    }

    /// True before the first entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Equal for the same entries in any order, and in any spelling of their paths; titles do not count. Different
    /// programs may say different numbers of the same entries.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The entries that were kept, as they came, but with `/` in paths.
    pub fn entries(&self) -> impl Iterator<Item = DirectoryEntry> + '_ {
        let mut names = vec![None; self.servers.len()];
        for (name, ix) in &self.servers {
            if let Some(place) = names.get_mut(ix.as_usize()) {
                *place = Some(name);
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

    /// Takes one entry.
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

    /// `None` when it does not fit.
    fn make_row(&mut self, entry: &DirectoryEntry, display_path: &str) -> Option<Row> {
        let folded = std::str::from_utf8(fold_plain_path(display_path.as_bytes(), &mut self.buffer)).ok()?;
        let seen = (folded, entry.server.folded(), entry.replica_id, entry.status);
        self.fingerprint = self.fingerprint.wrapping_add(hash_key(seen));
        Some(Row {
            replica_id: entry.replica_id,
            display_path: self.strings.intern(display_path)?,
            path: PathId(self.strings.intern(folded)?),
            title: self.strings.intern(entry.title.trim())?,
            // All numbers of databases and replicas are below this one, so they fit, too.
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

    /// The index of all that was given.
    #[must_use]
    pub fn finish(self) -> (DirectoryIndex, IndexReport) {
        let Self { mut report, strings, servers, mut rows, .. } = self;
        let servers = sort_servers(servers, &mut rows);
        drop_duplicates(&mut rows, &mut report, &servers, &strings);
        rows.sort_unstable_by(|a, b| {
            let text = |row: &Row| strings.get(row.path.0);
            (a.replica_id, a.server).cmp(&(b.replica_id, b.server)).then_with(|| text(a).cmp(text(b)))
        });
        report.replicas = rows.len();
        let (databases, replicas, owners) = group_databases(&rows);
        // Not needed any more, and large.
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
    let hash_of = |ix: &DatabaseId| databases.get(to_usize(ix.0)).map_or(0, |row| hash_key(row.replica_id));
    for ix in (0_u32..).map(DatabaseId).take(databases.len()) {
        table.insert_unique(hash_of(&ix), ix, hash_of);
    }
    table
}

/// The servers by name; the rows then name them by their new places.
fn sort_servers(
    servers: HashMap<ServerName, DirectoryServerId, ahash::RandomState>,
    rows: &mut [Row],
) -> Box<[ServerName]> {
    let mut listed: Vec<_> = servers.into_iter().collect();
    listed.sort_unstable();
    let mut new_ids = vec![DirectoryServerId(0); listed.len()];
    for (new, (_, old)) in (0_u16..=u16::MAX).zip(&listed) {
        if let Some(place) = new_ids.get_mut(old.as_usize()) {
            *place = DirectoryServerId(new);
        }
    }
    for row in rows {
        row.server = new_ids.get(row.server.as_usize()).copied().unwrap_or(row.server);
    }
    listed.into_iter().map(|(name, _)| name).collect()
}

/// Keeps the last row of every server and path.
fn drop_duplicates(
    rows: &mut Vec<Row>,
    report: &mut IndexReport,
    servers: &[ServerName],
    strings: &StringPoolBuilder,
) {
    // The last one comes first, as `dedup` keeps the first.
    rows.sort_unstable_by_key(|row| (row.server, row.path, std::cmp::Reverse(row.order)));
    rows.dedup_by(|later, kept| {
        let same = (later.server, later.path) == (kept.server, kept.path);
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

/// Databases, replicas that are not in their rows, and which database has which path.
type GroupedRows = (Vec<DatabaseRow>, Vec<ReplicaRow>, Vec<(PathId, DatabaseId)>);

/// The databases of rows sorted by replica ID.
fn group_databases(rows: &[Row]) -> GroupedRows {
    let (mut databases, mut overflow) = (Vec::new(), Vec::new());
    let mut owners = Vec::with_capacity(rows.len());
    let groups = rows.chunk_by(|a, b| a.replica_id == b.replica_id);
    for (ix, group) in (0_u32..).map(DatabaseId).zip(groups) {
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
            database.inline_replicas.iter_mut().zip(replicas).for_each(|(place, replica)| *place = replica);
        } else {
            overflow.extend(replicas);
        }
        databases.push(database);
        owners.extend(group.iter().map(|row| (row.path, ix)));
    }
    (databases, overflow, owners)
}

/// Every path with its database, or with its place among the ambiguous ones.
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

//! From the entries of a directory to an index.
//!
//! In: entries in any order, with duplicates. Out: the tables, sorted so that equal directories give
//! equal indexes, and a [`Report`]. Needs about twice the memory of the index while it works. Never
//! fails: an entry that cannot be kept is counted.

use super::texts::{TextIx, TextsBuilder};
use super::{AmbiguousIx, AmbiguousRow, DatabaseIx, DatabaseRow, Index, PathIx, PathOwner, PathRow};
use super::{ReplicaRow, ServerIx, hash, place};
use crate::cluster::ServerName;
use crate::directory::db_path::{Folded, fold_plain, with_slashes};
use crate::directory::{Entry, Mark, ReplicaId};
use hashbrown::HashTable;
use std::collections::HashMap;

/// How many duplicates are named in a report.
const NAMED_DUPLICATES: usize = 20;

/// What became of the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
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

impl Index {
    /// Builds the index of a whole directory. Of several entries with the same server and path (folded)
    /// the last one wins.
    #[must_use]
    pub fn build(entries: impl IntoIterator<Item = Entry>) -> (Self, Report) {
        let mut builder = Builder::default();
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
    spelling: TextIx,
    path: PathIx,
    title: TextIx,
    /// Position among the entries: the last of duplicates counts, and the first title.
    order: u32,
    server: ServerIx,
    mark: Mark,
}

#[derive(Default)]
struct Builder {
    report: Report,
    buffer: Folded,
    texts: TextsBuilder,
    servers: HashMap<ServerName, ServerIx, ahash::RandomState>,
    rows: Vec<Row>,
}

impl Builder {
    fn add(&mut self, entry: &Entry) {
        self.report.entries += 1;
        let spelling = with_slashes(&entry.path);
        if spelling.is_empty() {
            self.report.without_path += 1;
        } else {
            match self.row(entry, &spelling) {
                Some(row) => self.rows.push(row),
                None => self.report.too_many += 1,
            }
        }
    }

    /// `None` when it does not fit.
    fn row(&mut self, entry: &Entry, spelling: &str) -> Option<Row> {
        let folded = std::str::from_utf8(fold_plain(spelling.as_bytes(), &mut self.buffer)).ok()?;
        Some(Row {
            replica_id: entry.replica_id,
            spelling: self.texts.intern(spelling)?,
            path: PathIx(self.texts.intern(folded)?),
            title: self.texts.intern(entry.title.trim())?,
            // All numbers of databases and replicas are below this one, so they fit, too.
            order: u32::try_from(self.report.entries).ok().filter(|order| *order < PathOwner::AMBIGUOUS)?,
            server: self.server(&entry.server)?,
            mark: entry.mark,
        })
    }

    fn server(&mut self, name: &ServerName) -> Option<ServerIx> {
        if let Some(known) = self.servers.get(name) {
            return Some(*known);
        }
        let new = ServerIx(u16::try_from(self.servers.len()).ok()?);
        self.servers.insert(name.clone(), new);
        Some(new)
    }

    fn finish(self) -> (Index, Report) {
        let Self { mut report, texts, servers, mut rows, .. } = self;
        let servers = sort_servers(servers, &mut rows);
        drop_duplicates(&mut rows, &mut report, &servers, &texts);
        rows.sort_unstable_by(|a, b| {
            let text = |row: &Row| texts.get(row.path.0);
            (a.replica_id, a.server).cmp(&(b.replica_id, b.server)).then_with(|| text(a).cmp(text(b)))
        });
        let (databases, owners) = group_databases(&rows);
        let replicas = rows.iter().map(|row| ReplicaRow {
            spelling: row.spelling,
            path: row.path,
            server: row.server,
            mark: row.mark,
        });
        let replicas: Box<[ReplicaRow]> = replicas.collect();
        let (paths, ambiguous, sharers) = own_paths(owners);

        let mut by_path = HashTable::with_capacity(paths.len());
        let hash_of = |row: &PathRow| hash(texts.get(row.path.0).as_bytes());
        for row in &paths {
            by_path.insert_unique(hash_of(row), *row, hash_of);
        }
        let mut by_replica_id = HashTable::with_capacity(databases.len());
        let hash_of = |ix: &DatabaseIx| databases.get(place(ix.0)).map_or(0, |row| hash(row.replica_id));
        for ix in (0_u32..).map(DatabaseIx).take(databases.len()) {
            by_replica_id.insert_unique(hash_of(&ix), ix, hash_of);
        }
        report.replicas = replicas.len();
        report.databases = databases.len();
        report.paths = paths.len();
        report.ambiguous_paths = ambiguous.len();
        let index = Index {
            texts: texts.finish(),
            servers,
            databases: databases.into(),
            replicas,
            ambiguous: ambiguous.into(),
            sharers: sharers.into(),
            by_path,
            by_replica_id,
        };
        (index, report)
    }
}

/// The servers by name; the rows then name them by their new places.
fn sort_servers(
    servers: HashMap<ServerName, ServerIx, ahash::RandomState>,
    rows: &mut [Row],
) -> Box<[ServerName]> {
    let mut listed: Vec<_> = servers.into_iter().collect();
    listed.sort_unstable();
    let mut new_places = vec![ServerIx(0); listed.len()];
    for (new, (_, old)) in (0_u16..=u16::MAX).zip(&listed) {
        if let Some(place) = new_places.get_mut(old.index()) {
            *place = ServerIx(new);
        }
    }
    for row in rows {
        row.server = new_places.get(row.server.index()).copied().unwrap_or(row.server);
    }
    listed.into_iter().map(|(name, _)| name).collect()
}

/// Keeps the last row of every server and path.
fn drop_duplicates(rows: &mut Vec<Row>, report: &mut Report, servers: &[ServerName], texts: &TextsBuilder) {
    // The last one comes first, as `dedup` keeps the first.
    rows.sort_unstable_by_key(|row| (row.server, row.path, std::cmp::Reverse(row.order)));
    rows.dedup_by(|later, kept| {
        let same = (later.server, later.path) == (kept.server, kept.path);
        if same {
            report.duplicates += 1;
            if report.duplicate_examples.len() < NAMED_DUPLICATES
                && let Some(server) = servers.get(kept.server.index())
            {
                report.duplicate_examples.push((server.clone(), texts.get(kept.spelling).to_owned()));
            }
        }
        same
    });
}

/// The databases of rows sorted by replica ID, and which has which path.
fn group_databases(rows: &[Row]) -> (Vec<DatabaseRow>, Vec<(PathIx, DatabaseIx)>) {
    let mut databases = Vec::new();
    let mut owners = Vec::with_capacity(rows.len());
    let mut first_replica = 0;
    let groups = rows.chunk_by(|a, b| a.replica_id == b.replica_id);
    for (ix, group) in (0_u32..).map(DatabaseIx).zip(groups) {
        let titled = group.iter().filter(|row| row.title != TextIx::default());
        databases.push(DatabaseRow {
            replica_id: group.first().map_or(ReplicaId(0), |row| row.replica_id),
            first_replica,
            title: titled.min_by_key(|row| row.order).map(|row| row.title).unwrap_or_default(),
        });
        owners.extend(group.iter().map(|row| (row.path, ix)));
        first_replica += group.len() as u32;
    }
    (databases, owners)
}

/// Every path with its database, or with its place among the ambiguous ones.
fn own_paths(mut owners: Vec<(PathIx, DatabaseIx)>) -> (Vec<PathRow>, Vec<AmbiguousRow>, Vec<DatabaseIx>) {
    owners.sort_unstable();
    owners.dedup();
    let (mut paths, mut ambiguous, mut sharers) = (Vec::new(), Vec::new(), Vec::new());
    for sharing in owners.chunk_by(|a, b| a.0 == b.0) {
        let Some((path, first)) = sharing.first().copied() else { continue };
        let owner = if sharing.len() == 1 {
            PathOwner::one(first)
        } else {
            sharers.extend(sharing.iter().map(|(_, database)| *database));
            ambiguous.push(AmbiguousRow { path, end: sharers.len() as u32 });
            PathOwner::ambiguous(AmbiguousIx(ambiguous.len() as u32 - 1))
        };
        paths.push(PathRow { path, owner });
    }
    (paths, ambiguous, sharers)
}

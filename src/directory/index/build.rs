//! From the entries of a directory to an index.
//!
//! In: entries in any order, with duplicates. Out: the tables, sorted so that equal directories give
//! equal indexes, and a [`Report`]. Needs about twice the memory of the index while it works. Never
//! fails: an entry that cannot be kept is counted.

use super::texts::{TextIx, TextsBuilder};
use super::{AmbiguousIx, DatabaseIx, DatabaseRow, Index, PathIx, PathOwner, PathRow, ReplicaRow, ServerIx};
use super::{hash, place};
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
    /// The first twenty of them: server, and the path as spelled in the entry that was kept.
    pub duplicate_examples: Vec<(ServerName, String)>,
    /// Entries without a path.
    pub without_path: usize,
    /// Entries that do not fit: over 65,536 servers, 2^31 replicas or 4 GiB of texts.
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
    /// Position among the entries, since the first title counts.
    order: u32,
    server: ServerIx,
    mark: Mark,
}

impl Row {
    fn site(&self) -> (ServerIx, PathIx) {
        (self.server, self.path)
    }
}

#[derive(Default)]
struct Builder {
    report: Report,
    buffer: Folded,
    texts: TextsBuilder,
    servers: HashMap<ServerName, ServerIx, ahash::RandomState>,
    /// Folded texts by number of path.
    paths: Vec<TextIx>,
    by_path: HashTable<PathIx>,
    rows: Vec<Row>,
    /// Places in `rows` by server and path.
    by_site: HashTable<u32>,
}

impl Builder {
    fn add(&mut self, entry: &Entry) {
        self.report.entries += 1;
        let spelling = with_slashes(&entry.path);
        if spelling.is_empty() {
            self.report.without_path += 1;
        } else if self.try_add(entry, &spelling).is_none() {
            self.report.too_many += 1;
        }
    }

    /// `None` when a table is full.
    fn try_add(&mut self, entry: &Entry, spelling: &str) -> Option<()> {
        let new = u32::try_from(self.rows.len()).ok().filter(|at| *at < PathOwner::AMBIGUOUS)?;
        let path = self.path(spelling)?;
        let row = Row {
            replica_id: entry.replica_id,
            spelling: self.texts.intern(spelling)?,
            path,
            title: self.texts.intern(entry.title.trim())?,
            order: u32::try_from(self.report.entries).ok()?,
            server: self.server(&entry.server)?,
            mark: entry.mark,
        };
        let Self { rows, by_site, report, .. } = self;
        let site_of = |at: &u32| rows.get(place(*at)).map(Row::site);
        let hashed = hash(row.site());
        if let Some(at) = by_site.find(hashed, |at| site_of(at) == Some(row.site())).copied() {
            report.duplicates += 1;
            if report.duplicate_examples.len() < NAMED_DUPLICATES {
                report.duplicate_examples.push((entry.server.clone(), spelling.to_owned()));
            }
            if let Some(earlier) = rows.get_mut(place(at)) {
                *earlier = row;
            }
        } else {
            by_site.insert_unique(hashed, new, |at| hash(site_of(at).unwrap_or(row.site())));
            rows.push(row);
        }
        Some(())
    }

    fn server(&mut self, name: &ServerName) -> Option<ServerIx> {
        if let Some(known) = self.servers.get(name) {
            return Some(*known);
        }
        let new = ServerIx(u16::try_from(self.servers.len()).ok()?);
        self.servers.insert(name.clone(), new);
        Some(new)
    }

    fn path(&mut self, spelling: &str) -> Option<PathIx> {
        let Self { buffer, texts, paths, by_path, .. } = self;
        // Folding a text yields a text; should it ever not, the entry is refused, not misfiled.
        let folded = std::str::from_utf8(fold_plain(spelling.as_bytes(), buffer)).ok()?;
        let text_of =
            |path: &PathIx| paths.get(place(path.0)).map(|text| texts.get(*text)).unwrap_or_default();
        let hashed = hash(folded.as_bytes());
        if let Some(known) = by_path.find(hashed, |path| text_of(path) == folded) {
            return Some(*known);
        }
        let new = PathIx(u32::try_from(paths.len()).ok()?);
        by_path.insert_unique(hashed, new, |path| hash(text_of(path).as_bytes()));
        let text = texts.intern(folded)?;
        paths.push(text);
        Some(new)
    }

    fn finish(self) -> (Index, Report) {
        let Self { mut report, texts, servers, paths, mut by_path, mut rows, by_site, .. } = self;
        drop(by_site);
        let (servers, sorted) = sort_servers(servers);
        for row in &mut rows {
            row.server = sorted.get(row.server.index()).copied().unwrap_or(row.server);
        }
        let text_of =
            |path: PathIx| paths.get(place(path.0)).map(|text| texts.get(*text)).unwrap_or_default();
        rows.sort_unstable_by(|a, b| {
            (a.replica_id, a.server)
                .cmp(&(b.replica_id, b.server))
                .then_with(|| text_of(a.path).cmp(text_of(b.path)))
        });

        let mut databases: Vec<DatabaseRow> = Vec::new();
        let mut owners: Vec<(PathIx, DatabaseIx)> = Vec::with_capacity(rows.len());
        let mut replicas: Vec<ReplicaRow> = Vec::with_capacity(rows.len());
        // The counts were checked against 31 bits row by row.
        for group in rows.chunk_by(|a, b| a.replica_id == b.replica_id) {
            let database = DatabaseIx(databases.len() as u32);
            let titled = group.iter().filter(|row| row.title != TextIx::default());
            databases.push(DatabaseRow {
                replica_id: group.first().map_or(ReplicaId(0), |row| row.replica_id),
                first_replica: replicas.len() as u32,
                title: titled.min_by_key(|row| row.order).map(|row| row.title).unwrap_or_default(),
            });
            owners.extend(group.iter().map(|row| (row.path, database)));
            replicas.extend(group.iter().map(|row| ReplicaRow {
                spelling: row.spelling,
                path: row.path,
                server: row.server,
                mark: row.mark,
            }));
        }
        drop(rows);

        let (path_rows, ambiguous, ambiguous_ends) = own_paths(&paths, owners);
        by_path.shrink_to_fit(|path| hash(text_of(*path).as_bytes()));
        let mut by_replica_id = HashTable::with_capacity(databases.len());
        for (at, row) in databases.iter().enumerate() {
            by_replica_id.insert_unique(hash(row.replica_id), DatabaseIx(at as u32), |ix| {
                databases.get(place(ix.0)).map_or(0, |row| hash(row.replica_id))
            });
        }
        report.replicas = replicas.len();
        report.databases = databases.len();
        report.paths = path_rows.len();
        report.ambiguous_paths = ambiguous_ends.len();
        let index = Index {
            texts: texts.finish(),
            servers,
            databases: databases.into(),
            replicas: replicas.into(),
            paths: path_rows.into(),
            ambiguous: ambiguous.into(),
            ambiguous_ends: ambiguous_ends.into(),
            by_path,
            by_replica_id,
        };
        (index, report)
    }
}

/// The servers by name, and the new place of each by its old one.
fn sort_servers(
    servers: HashMap<ServerName, ServerIx, ahash::RandomState>,
) -> (Box<[ServerName]>, Vec<ServerIx>) {
    let mut listed: Vec<_> = servers.into_iter().collect();
    listed.sort_unstable();
    let mut new_places = vec![ServerIx(0); listed.len()];
    for (new, (_, old)) in listed.iter().enumerate() {
        if let Some(place) = new_places.get_mut(old.index()) {
            *place = ServerIx(new as u16);
        }
    }
    (listed.into_iter().map(|(name, _)| name).collect(), new_places)
}

/// Every path with its database, or with its place among the ambiguous ones.
fn own_paths(
    paths: &[TextIx],
    mut owners: Vec<(PathIx, DatabaseIx)>,
) -> (Vec<PathRow>, Vec<DatabaseIx>, Vec<u32>) {
    owners.sort_unstable();
    owners.dedup();
    let (mut rows, mut ambiguous, mut ends) = (Vec::with_capacity(paths.len()), Vec::new(), Vec::new());
    // Every path has an owner, as an entry is only ever replaced by one with the same path.
    for (sharers, folded) in owners.chunk_by(|a, b| a.0 == b.0).zip(paths) {
        let owner = match sharers {
            [(_, only)] => PathOwner::one(*only),
            _ => {
                let ix = AmbiguousIx(ends.len() as u32);
                ambiguous.extend(sharers.iter().map(|(_, database)| *database));
                ends.push(ambiguous.len() as u32);
                PathOwner::ambiguous(ix)
            }
        };
        rows.push(PathRow { folded: *folded, owner });
    }
    (rows, ambiguous, ends)
}

//! Finds a database by the database part of a URL or by a replica ID. A lookup does not allocate for paths up to 256
//! bytes.

use super::{AmbiguousPathId, DatabaseId, DirectoryIndex, PathId, PathRow, hash_key, to_usize};
use crate::domain::directory::db_path::{FoldBuffer, fold_plain_path, fold_url_path};
use crate::domain::directory::replica_id::ReplicaId;

/// The result of a lookup by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// No server has such a path.
    Unknown,
    /// All servers with this path have the same database there.
    Unique(DatabaseMatch),
    /// Different databases have this path; [`DirectoryIndex::ambiguous_databases`] lists them.
    Ambiguous(AmbiguousPathId),
}

/// A database, and the path by which it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseMatch {
    /// The database in its index.
    pub database: DatabaseId,
    /// The requested path; `None` if the request named the replica ID.
    pub path: Option<PathId>,
}

impl DirectoryIndex {
    /// Looks up the raw database part of a URL. If there is no such path, `+` counts as a space
    /// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/side1.html>).
    #[must_use]
    pub fn find_by_url_path(&self, raw_from_url: &[u8]) -> LookupResult {
        let mut buffer = FoldBuffer::default();
        let folded = fold_url_path(raw_from_url, &mut buffer);
        match self.find_by_folded_path(folded) {
            LookupResult::Unknown if memchr::memchr(b'+', raw_from_url).is_some() => {
                let spaced: smallvec::SmallVec<[u8; 256]> =
                    raw_from_url.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
                self.find_by_folded_path(fold_url_path(&spaced, &mut buffer))
            }
            found => found,
        }
    }

    /// Looks up a path in the plain spelling of the directory.
    #[must_use]
    pub fn find_by_plain_path(&self, plain: &str) -> LookupResult {
        self.find_by_folded_path(fold_plain_path(plain.as_bytes(), &mut FoldBuffer::default()))
    }

    fn find_by_folded_path(&self, folded: &[u8]) -> LookupResult {
        let same = |row: &PathRow| self.folded_path(row.path).as_bytes() == folded;
        match self.by_path.find(hash_key(folded), same).map(|row| (row.path, row.owner.decode())) {
            Some((path, Ok(database))) => LookupResult::Unique(DatabaseMatch { database, path: Some(path) }),
            Some((_, Err(ambiguous))) => LookupResult::Ambiguous(ambiguous),
            None => LookupResult::Unknown,
        }
    }

    /// The database with this replica ID.
    #[must_use]
    pub fn find_by_replica_id(&self, id: ReplicaId) -> Option<DatabaseId> {
        self.by_replica_id
            .find(hash_key(id), |database| {
                self.databases.get(to_usize(database.0)).is_some_and(|row| row.replica_id == id)
            })
            .copied()
    }

    /// Every path that different databases have.
    pub fn ambiguous_paths(&self) -> impl ExactSizeIterator<Item = (PathId, AmbiguousPathId)> {
        // The count was checked against 31 bits when the index was built.
        self.ambiguous.iter().enumerate().map(|(at, row)| (row.path, AmbiguousPathId(at as u32)))
    }

    /// The databases that share a path, in the order of their replica IDs.
    pub fn ambiguous_databases(
        &self,
        id: AmbiguousPathId,
    ) -> impl ExactSizeIterator<Item = DatabaseMatch> + use<'_> {
        let row = self.ambiguous.get(to_usize(id.0));
        let before = id.0.checked_sub(1).and_then(|before| self.ambiguous.get(to_usize(before)));
        let range = before.map_or(0, |row| to_usize(row.end))..row.map_or(0, |row| to_usize(row.end));
        let ambiguous_databases = self.ambiguous_databases.get(range).unwrap_or_default();
        let path = row.map(|row| row.path);
        ambiguous_databases.iter().map(move |database| DatabaseMatch { database: *database, path })
    }

    /// The path in its folded form.
    #[must_use]
    pub fn folded_path(&self, path: PathId) -> &str {
        self.strings.get(path.0)
    }
}

//! From the database part of a URL, or a replica ID, to a database.
//!
//! In: octets as the client spelled them. Out: a [`Lookup`]. Does not allocate for paths up to 256
//! octets; touches only what the one request needs.

use super::{AmbiguousIx, DatabaseIx, Index, PathIx, PathRow, hash, place};
use crate::domain::directory::db_path::{Folded, fold, fold_plain};
use crate::domain::directory::replica_id::ReplicaId;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No server has such a path.
    Unknown,
    /// Every server that has this path has the same database there.
    One(Found),
    /// Different databases have this path; [`Index::ambiguous`] lists them.
    Ambiguous(AmbiguousIx),
}

/// A database, and how it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Which database.
    pub database: DatabaseIx,
    /// The path that was asked for; `None` when it was the replica ID.
    pub path: Option<PathIx>,
}

impl Index {
    /// Looks up the database part of a URL, percent-encoded as it came.
    ///
    /// Where nothing has that path, `+` counts as a space
    /// (<http://www.ibm.com/developerworks/lotus/library/ls-Domino_URL_cheat_sheet/side1.html>).
    #[must_use]
    pub fn by_path(&self, raw_from_url: &[u8]) -> Lookup {
        let mut buffer = Folded::default();
        let folded = fold(raw_from_url, &mut buffer);
        match self.by_folded(folded) {
            Lookup::Unknown if memchr::memchr(b'+', raw_from_url).is_some() => {
                let spaced: smallvec::SmallVec<[u8; 256]> =
                    raw_from_url.iter().map(|octet| if *octet == b'+' { b' ' } else { *octet }).collect();
                self.by_folded(fold(&spaced, &mut buffer))
            }
            found => found,
        }
    }

    /// Looks up a path in the directory's own, plain spelling.
    #[must_use]
    pub fn by_plain_path(&self, plain: &str) -> Lookup {
        self.by_folded(fold_plain(plain.as_bytes(), &mut Folded::default()))
    }

    fn by_folded(&self, folded: &[u8]) -> Lookup {
        let same = |row: &PathRow| self.folded_path(row.path).as_bytes() == folded;
        match self.by_path.find(hash(folded), same).map(|row| (row.path, row.owner.read())) {
            Some((path, Ok(database))) => Lookup::One(Found { database, path: Some(path) }),
            Some((_, Err(ambiguous))) => Lookup::Ambiguous(ambiguous),
            None => Lookup::Unknown,
        }
    }

    /// The database with this replica ID.
    #[must_use]
    pub fn by_replica_id(&self, id: ReplicaId) -> Option<DatabaseIx> {
        self.by_replica_id
            .find(hash(id), |ix| self.databases.get(place(ix.0)).is_some_and(|row| row.replica_id == id))
            .copied()
    }

    /// Every path that different databases have.
    pub fn ambiguous_paths(&self) -> impl ExactSizeIterator<Item = (PathIx, AmbiguousIx)> {
        // Their count was checked against 31 bits when the index was built.
        self.ambiguous.iter().enumerate().map(|(at, row)| (row.path, AmbiguousIx(at as u32)))
    }

    /// The databases that share a path, in the order of their replica IDs.
    pub fn ambiguous(&self, ix: AmbiguousIx) -> impl ExactSizeIterator<Item = Found> + use<'_> {
        let row = self.ambiguous.get(place(ix.0));
        let before = ix.0.checked_sub(1).and_then(|before| self.ambiguous.get(place(before)));
        let range = before.map_or(0, |row| place(row.end))..row.map_or(0, |row| place(row.end));
        let sharers = self.sharers.get(range).unwrap_or_default();
        let path = row.map(|row| row.path);
        sharers.iter().map(move |database| Found { database: *database, path })
    }

    /// The folded text of a path.
    #[must_use]
    pub fn folded_path(&self, path: PathIx) -> &str {
        self.texts.get(path.0)
    }
}

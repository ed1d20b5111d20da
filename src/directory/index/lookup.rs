//! From the database part of a URL, or a replica ID, to a database.
//!
//! In: octets as the client spelled them. Out: a [`Lookup`]. Does not allocate for paths up to 256
//! octets; touches only what the one request needs.

use super::{AmbiguousIx, DatabaseIx, Index, PathIx, hash, place};
use crate::directory::db_path::{Folded, fold, fold_plain};
use crate::directory::replica_id::ReplicaId;

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
        let same = |path: &PathIx| self.folded_path(*path).as_bytes() == folded;
        let Some(path) = self.by_path.find(hash(folded), same).copied() else { return Lookup::Unknown };
        match self.paths.get(place(path.0)).map(|row| row.owner.read()) {
            Some(Ok(database)) => Lookup::One(Found { database, path: Some(path) }),
            Some(Err(ambiguous)) => Lookup::Ambiguous(ambiguous),
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

    /// The databases that share a path, in the order of their replica IDs.
    pub fn ambiguous(&self, ix: AmbiguousIx) -> impl ExactSizeIterator<Item = Found> + use<'_> {
        let end = self.ambiguous_ends.get(place(ix.0)).copied();
        let start = ix.0.checked_sub(1).and_then(|before| self.ambiguous_ends.get(place(before)).copied());
        let range = place(start.unwrap_or(0))..place(end.unwrap_or(0));
        let sharing = self.ambiguous.get(range).unwrap_or_default();
        let path = self.path_of_ambiguous(sharing, ix);
        sharing.iter().map(move |database| Found { database: *database, path })
    }

    /// The path that is ambiguous: one of the first sharer's own, so it need not be stored.
    fn path_of_ambiguous(&self, sharing: &[DatabaseIx], ix: AmbiguousIx) -> Option<PathIx> {
        let rows = self.replica_rows(*sharing.first()?);
        rows.iter()
            .map(|row| row.path)
            .find(|path| self.paths.get(place(path.0)).is_some_and(|row| row.owner.read() == Err(ix)))
    }

    /// The folded text of a path.
    #[must_use]
    pub fn folded_path(&self, path: PathIx) -> &str {
        self.paths.get(place(path.0)).map(|row| self.texts.get(row.folded)).unwrap_or_default()
    }
}

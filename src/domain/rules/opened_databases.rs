//! Which databases a URL could open. The caller looks them up in the directory; rules and the preset compare their names.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::domain::directory::ReplicaId;

/// The folded paths of a database, and its replica ID as 16 digits.
pub type DatabaseNames<'a> = SmallVec<[Cow<'a, [u8]>; 4]>;

/// The databases that a server could open for a URL.
#[derive(Debug, Default)]
pub struct OpenedDatabases<'a> {
    /// Folded paths and the replica ID of each one; several if the path is ambiguous.
    pub candidates: SmallVec<[DatabaseNames<'a>; 1]>,
    /// The URL has a replica ID that the directory does not have.
    pub is_unknown_replica: bool,
}

/// Whether the last name of a folded path is spelled as a replica ID that the parser of URLs does not take for one: in a
/// folder, or with another ending than `.nsf`.
#[must_use]
pub fn is_odd_replica_id(folded: &[u8]) -> bool {
    let name = folded.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let stem = name.iter().position(|byte| *byte == b'.').and_then(|dot| name.get(..dot)).unwrap_or(name);
    ReplicaId::from_bytes(stem).is_some()
}

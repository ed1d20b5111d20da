//! Recognizes the names of databases, by their ending or as a replica ID.

use crate::domain::directory::ReplicaId;
use crate::util::percent::decode_into;

/// True if a database's name can end in these four bytes, which are in lower case.
pub(super) fn is_database_suffix(last: &[u8; 4]) -> bool {
    matches!(last, b".nsf" | b".ntf" | [b'.', b'n', b's', b'2'..=b'9'] | b".nsg" | b".nsh" | b".box")
}

/// True if a decoded name has the ending of a database.
pub(super) fn is_database_name(name: &[u8]) -> bool {
    name.last_chunk::<4>().is_some_and(|last| is_database_suffix(&last.map(|b| b.to_ascii_lowercase())))
}

/// The replica ID of `__<16 hex>` or `<16 hex>`, without the ending.
pub(super) fn bare_replica_id(raw: &[u8]) -> Option<ReplicaId> {
    let mut buffer = [0; 19];
    ReplicaId::from_bytes(decode_into(raw, &mut buffer)?)
}

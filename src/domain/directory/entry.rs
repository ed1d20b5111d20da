//! One line of a cluster directory, as every source delivers it before it is indexed.

use super::ReplicaId;
use crate::domain::cluster::ServerName;

/// What the administrator has said about one replica.
///
/// Out of service: no new opens, those inside continue
/// (<https://help.hcltechsw.com/domino/11.0.1/admin/admn_makingadatabaseunavailableforuseraccess_t.html>).
/// Pending delete: no new sessions; deleted when the last user leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReplicaStatus {
    /// Open to everybody.
    #[default]
    InService = 0,
    /// Open only to those already inside.
    OutOfService = 1,
    /// Open only to those already inside, and deleted after them.
    PendingDelete = 2,
}

impl ReplicaStatus {
    /// The words of the configuration and of the JSON: `in_service`, `out_of_service`, `pending_delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InService => "in_service",
            Self::OutOfService => "out_of_service",
            Self::PendingDelete => "pending_delete",
        }
    }

    /// Reads what [`ReplicaStatus::as_str`] writes, in any case, blanks and dashes for underscores; empty is in service.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word: String = text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        match word.as_str() {
            "" | "in_service" => Some(Self::InService),
            "out_of_service" => Some(Self::OutOfService),
            "pending_delete" => Some(Self::PendingDelete),
            _ => None,
        }
    }
}

/// A replica as a directory source reports it: one database on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Path below the data directory as the source spells it; either separator, no leading one needed.
    pub path: String,
    /// The server that holds it.
    pub server: ServerName,
    /// Shared by all replicas of the database.
    pub replica_id: ReplicaId,
    /// Title for pages and listings; may be empty.
    pub title: String,
    /// Whether new users may open it.
    pub status: ReplicaStatus,
}

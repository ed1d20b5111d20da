//! A line of a cluster directory, as every source delivers it to the index.

use super::ReplicaId;
use crate::domain::cluster::ServerName;

/// The mark that the administrator set on a replica.
///
/// Out of service: no new users, those inside continue
/// (<https://help.hcltechsw.com/domino/11.0.1/admin/admn_makingadatabaseunavailableforuseraccess_t.html>). Pending
/// delete: no new sessions; deleted when the last user leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReplicaStatus {
    /// Open to all users.
    #[default]
    InService = 0,
    /// Open only to users already inside.
    OutOfService = 1,
    /// Open only to users already inside, and deleted when the last one leaves.
    PendingDelete = 2,
}

impl ReplicaStatus {
    /// The value in the configuration and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InService => "in_service",
            Self::OutOfService => "out_of_service",
            Self::PendingDelete => "pending_delete",
        }
    }

    /// Parses the values of [`ReplicaStatus::as_str`] in any case and with blanks or dashes for underscores. An empty
    /// text means in service.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        match word.as_str() {
            "" | "in_service" => Some(Self::InService),
            "out_of_service" => Some(Self::OutOfService),
            "pending_delete" => Some(Self::PendingDelete),
            _ => None,
        }
    }
}

/// A replica, which is one database on one server, as a directory source reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Path below the data directory as the source spells it, with either separator.
    pub path: String,
    /// The server that holds the replica.
    pub server: ServerName,
    /// The ID that all replicas of the database share.
    pub replica_id: ReplicaId,
    /// Title for pages and listings; may be empty.
    pub title: String,
    /// Whether new users may open it.
    pub status: ReplicaStatus,
}

//! The data that goes into the tracker and comes out of it.

use crate::domain::cluster::health::Reachability;
use crate::domain::cluster::name::ServerName;
use crate::domain::cluster::report::ReplicatorReport;

/// One moment on both clocks: the monotonic one, and milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub ms: u64,
    pub unix_ms: u64,
}

/// The configuration of catching up, and of what else could be evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUpRules {
    pub enabled: bool,
    /// A shorter outage closes no gate.
    pub after_ms: u64,
    /// After this time a gate opens without evidence.
    pub limit_ms: u64,
    /// Modification times of databases are read, which is evidence too.
    pub reads_freshness: bool,
}

/// One source of reports about a server: the same text and number stay the same source over a reload.
pub type SourceId = (&'static str, usize);

/// A server of the cluster at the moment of an update.
#[derive(Clone, Debug)]
pub struct ServerReachability {
    pub name: ServerName,
    pub health: Reachability,
}

/// Why a gate opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpenReason {
    /// All servers that must have reported have shown that nothing waits for replication.
    Evidence,
    /// The limit has passed, and nothing was shown.
    Limit,
    /// An administrator opened it.
    Administrator,
    Configuration,
    /// The followed ICM opened its gate for the same outage.
    FollowedIcm,
}

impl OpenReason {
    /// All reasons, in the order of the metric.
    pub const ALL: [Self; 5] =
        [Self::Evidence, Self::Limit, Self::Administrator, Self::Configuration, Self::FollowedIcm];

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Limit => "limit",
            Self::Administrator => "administrator",
            Self::Configuration => "configuration",
            Self::FollowedIcm => "followed_icm",
        }
    }
}

/// What to do with the gate of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUpAction {
    /// It returned, and its gate stays closed; `text` says until when.
    Gated {
        server: ServerName,
        /// Until when, as the end of a sentence.
        text: String,
        /// The outage was a long one, not an interruption of catching up.
        is_new: bool,
    },
    /// It returned, and nobody must be set aside: open the gate of this return at once.
    NotGated {
        server: ServerName,
        returned_ms: u64,
        /// Why, as a sentence; `None` = not worth an event.
        text: Option<String>,
    },
    /// Open the gate of this return.
    Open {
        server: ServerName,
        returned_ms: u64,
        reason: OpenReason,
        /// The same as a sentence.
        text: String,
    },
}

/// What one server has reported about its Cluster Replicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterStatus {
    pub report: ReplicatorReport,
    /// When it was received, on the monotonic clock.
    pub at_ms: u64,
    /// The kind of its source: `statpub`, `companion`, ...
    pub source: &'static str,
}

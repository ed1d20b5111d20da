//! The input of selection: plain data of one moment, which the caller takes from the directory, the servers and the
//! affinity cookie.

use crate::domain::cluster::{Port, ServerSnapshot};
use crate::domain::directory::ReplicaStatus;

/// Position of a server in the current list of its cluster.
pub type ServerId = u16;

/// A server that could take the request, with the mark of its replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The server, by its position in the cluster.
    pub server: ServerId,
    /// The mark of its replica; in service if the URL names no database.
    pub status: ReplicaStatus,
    /// The state of the server.
    pub snapshot: ServerSnapshot,
    /// How its replica compares with the others.
    pub freshness: CandidateFreshness,
    /// Whether the server is of another site than this balancer. Without the site of one of them it is not.
    pub of_other_site: bool,
}

/// When a server of another site may take a user who does not belong there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrossSites {
    /// When no server of the own site may take the request at all.
    #[default]
    WhenUnavailable,
    /// Also when those of the own site are all set aside.
    WhenBusy,
    /// Never: without a server of the own site such a user gets an error.
    Never,
}

/// What is known about the replica of a candidate. The default is that nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CandidateFreshness {
    /// The replica has lacked changes of another one since then, in milliseconds since 1970.
    pub behind_since_unix_ms: Option<u64>,
    /// A reading after the return of the server showed no older time than the other replicas have: this database may
    /// open before the server has caught up.
    pub shown_fresh: bool,
    /// How it compares with the user's own last write.
    pub own_write: OwnWrite,
}

/// How a replica compares with the user's own last write to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnWrite {
    /// A reading after the write is not older than the write.
    Included,
    /// There is no write, or nothing says whether the replica has it.
    #[default]
    Unknown,
    /// A reading after the write is older than the write.
    Missing,
}

/// Why an affinity entry applies to a request whose database has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The database in `RedirectTo` of the query or of a login form.
    RedirectTo,
    /// The database of a same-origin Referer.
    Referer,
    /// The most recent entry.
    Recent,
}

/// The input of [`super::decide`].
#[derive(Clone, Copy, Debug)]
pub struct SelectionInput<'a> {
    /// The holders of the database, or all servers of the cluster; each server at most once.
    pub candidates: &'a [Candidate],
    /// The port that the request needs.
    pub port: Port,
    /// The server of the user's entry for this database.
    pub entry: Option<ServerId>,
    /// The server of another entry that applies, if `entry` is `None` and the URL names no database, or one that every
    /// server holds.
    pub hint: Option<(ServerId, Hint)>,
    /// The server of the user's most recent entry.
    pub recent: Option<ServerId>,
    /// Servers where the user has a session without an entry.
    pub sessions: &'a [ServerId],
    /// The server that took the user's last write to this database.
    pub written_on: Option<ServerId>,
    /// The request posts a login form that the server of the entry or hint served within the last ten minutes.
    pub posts_login_form: bool,
    /// The URL names a document by NoteID, so a user with an entry is never moved.
    pub note_id: bool,
    /// Servers already tried in this request.
    pub tried: &'a [ServerId],
    /// Milliseconds on the clock of the snapshots.
    pub now_ms: u64,
    /// Seed of the draw among equals.
    pub seed: u64,
}

impl<'a> SelectionInput<'a> {
    /// A request from a user without affinity: no entry, no session, no server tried.
    #[must_use]
    pub fn without_affinity(candidates: &'a [Candidate], port: Port, now_ms: u64, seed: u64) -> Self {
        Self {
            candidates,
            port,
            entry: None,
            hint: None,
            recent: None,
            sessions: &[],
            written_on: None,
            posts_login_form: false,
            note_id: false,
            tried: &[],
            now_ms,
            seed,
        }
    }
}

/// The part of the configuration that selection uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionPolicy {
    /// Milliseconds for which users may stay on a RESTRICTED server.
    pub drain_timeout_ms: u64,
    /// Milliseconds over which a server that returned ramps up; 0 = no ramp.
    pub slow_start_ms: u64,
    /// Maximum of requests in flight on one server; 0 = no limit.
    pub max_in_flight: u32,
    /// Try a server even if every holder is UNREACHABLE.
    pub try_unreachable: bool,
    /// When a server of another site serves.
    pub cross_sites: CrossSites,
    /// `Server_Transinfo_Range`: the number of doublings of the expansion factor that span the index.
    pub transinfo_range: u8,
}

impl SelectionPolicy {
    /// The in-flight limit of a server with an `own` limit; 0 = no limit.
    #[must_use]
    pub fn in_flight_limit(&self, own: u32) -> u32 {
        match (own, self.max_in_flight) {
            (0, limit) | (limit, 0) => limit,
            (own, all) => own.min(all),
        }
    }
}

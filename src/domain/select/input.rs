//! What selection is asked: plain data of one moment.
//!
//! In: the caller fills it from the directory, the members and the affinity cookie. Nothing here
//! can change while a decision is made.

use crate::domain::cluster::{Port, ServerSnapshot};
use crate::domain::directory::ReplicaStatus;

/// Number of a member within its cluster's current list.
pub type ServerId = u16;

/// One server that could serve, with what Domino says about its replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub server: ServerId,
    /// The mark of its replica; in service where the URL names no database.
    pub status: ReplicaStatus,
    /// Its condition now.
    pub snapshot: ServerSnapshot,
}

/// Why an affinity entry applies to a request whose database has none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The database in `RedirectTo`, of the query or of a login form.
    RedirectTo,
    /// The database of a same-origin Referer.
    Referer,
    /// Simply the most recent entry.
    Recent,
}

/// One question to [`super::decide`].
#[derive(Clone, Copy, Debug)]
pub struct SelectionInput<'a> {
    /// The holders of the database, or every member; at most one a server.
    pub candidates: &'a [Candidate],
    /// The port through which the server would be reached.
    pub port: Port,
    /// The server of the user's entry for this very database.
    pub entry: Option<ServerId>,
    /// For a URL without a database, or with one that every member holds, when `entry` is none:
    /// the server of the entry that speaks for it.
    pub hint: Option<(ServerId, Hint)>,
    /// The server of the user's most recent entry.
    pub recent: Option<ServerId>,
    /// Where the user has a session of which no entry tells.
    pub sessions: &'a [ServerId],
    /// The URL names a document by NoteID: a user with an entry is never moved.
    pub note_id: bool,
    /// Servers already tried in this request.
    pub tried: &'a [ServerId],
    /// Milliseconds on the clock that also dated the views.
    pub now_ms: u64,
    /// Seed of the draw among equals.
    pub seed: u64,
}

impl<'a> SelectionInput<'a> {
    /// What somebody asks of whom nothing is known: no entry, no session, nothing tried.
    #[must_use]
    pub fn without_affinity(candidates: &'a [Candidate], port: Port, now_ms: u64, seed: u64) -> Self {
        Self {
            candidates,
            port,
            entry: None,
            hint: None,
            recent: None,
            sessions: &[],
            note_id: false,
            tried: &[],
            now_ms,
            seed,
        }
    }
}

/// What of the configuration selection obeys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionPolicy {
    /// How long those inside may stay on a RESTRICTED server, milliseconds.
    pub drain_timeout_ms: u64,
    /// A server that returns ramps up over this, milliseconds; 0 = at once.
    pub slow_start_ms: u64,
    /// Requests in flight on one server at most; 0 = no cap.
    pub max_in_flight: u32,
    /// Try the holders although every one is UNREACHABLE.
    pub try_unreachable: bool,
    /// `Server_Transinfo_Range`: how many doublings of the expansion factor make up the index.
    pub transinfo_range: u8,
}

impl SelectionPolicy {
    /// Requests in flight that a server takes at most, which may have a cap of its own; 0 = no cap.
    #[must_use]
    pub fn in_flight_limit(&self, own: u32) -> u32 {
        match (own, self.max_in_flight) {
            (0, cap) | (cap, 0) => cap,
            (a, b) => a.min(b),
        }
    }
}

//! The result of selection: an outcome, and one verdict on each candidate in the order of elimination.

use std::fmt;

use smallvec::SmallVec;

use super::input::{Hint, ServerId};

/// The result of [`super::decide`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do with the request.
    pub outcome: SelectionOutcome,
    /// One verdict for each candidate, in the order of elimination, the chosen one last.
    pub verdicts: SmallVec<[(ServerId, CandidateVerdict); 8]>,
    /// The equally light servers that the draw was among: another request may get another of them.
    pub band: SmallVec<[ServerId; 8]>,
}

/// What to do with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionOutcome {
    /// Send it to this server.
    Serve(ServerId, SelectionReason),
    /// Every eligible server is at its in-flight limit: wait, then decide again.
    Full,
    /// The URL has a NoteID, and the server that the user's documents came from cannot be used.
    NoteIdServerGone,
    /// Every replica is out of service or pending delete.
    OutOfService,
    /// No server can take the request.
    NoServer,
}

/// Why a server was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionReason {
    /// The user's entry for this database names it.
    Entry,
    /// An entry for another database applies.
    Hint(Hint),
    /// The user's most recent entry names it.
    Recent,
    /// The user has a session there.
    Session,
    /// It took the user's own last write.
    OwnWrite,
    /// It has the lightest workload.
    Lightest,
    /// It is of another site, and none of the own site may serve.
    OtherSite,
    /// It is set aside, but no other server is left.
    SetAside,
    /// Every holder is UNREACHABLE, and the configuration allows trying one.
    LastResort,
}

/// The verdict on one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CandidateVerdict {
    /// Its replica is out of service, and the user is not inside.
    OutOfService,
    /// Its replica is pending delete, and the user is not inside.
    PendingDelete,
    /// Already tried in this request.
    Tried,
    /// The required port is disabled or does not answer.
    Unreachable,
    /// RESTRICTED, and the user is not inside or the drain timeout is over.
    Restricted,
    /// It is at its in-flight limit.
    Full,
    /// BUSY: its index is at or under its threshold.
    Busy,
    /// MAXUSERS: its user limit is reached.
    MaxUsers,
    /// CATCHING UP: it returned after an outage and may lack changes.
    CatchingUp,
    /// Its replica lacks changes of another one.
    Behind,
    /// It is of another site.
    OtherSite,
    /// It is of another site, and the configuration lets no user cross.
    OtherSiteExcluded,
    /// It surely lacks the user's own last write.
    OlderThanOwnWrite,
    /// It returned recently and was passed over in this draw; its share of the ramp in percent.
    SlowStart(u8),
    /// Outside the band of the lightest; its corrected index.
    Heavier(f32),
    /// As light as the chosen server, but not drawn; its corrected index.
    Equal(f32),
    /// Usable, but affinity leads to another server.
    NotAffinityServer,
    /// Chosen; its corrected index if it was ranked.
    Chosen(Option<f32>),
}

impl Decision {
    /// The verdict on one server.
    #[must_use]
    pub fn verdict(&self, server: ServerId) -> Option<CandidateVerdict> {
        self.verdicts.iter().find(|(known, _)| *known == server).map(|(_, v)| *v)
    }

    /// The server that takes the request.
    #[must_use]
    pub fn chosen(&self) -> Option<ServerId> {
        match self.outcome {
            SelectionOutcome::Serve(server, _) => Some(server),
            _ => None,
        }
    }
}

impl fmt::Display for SelectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entry => "the user's server for this database",
            Self::Hint(Hint::RedirectTo) => "the user's server for the database in RedirectTo",
            Self::Hint(Hint::Referer) => "the user's server for the database of the Referer",
            Self::Hint(Hint::Recent) | Self::Recent => "the user's most recent server",
            Self::Session => "the user has a session there",
            Self::OwnWrite => "it took the user's own last write",
            Self::Lightest => "lightest workload",
            Self::OtherSite => "of another site, because no server of this site takes it",
            Self::SetAside => "set aside, but no other server is left",
            Self::LastResort => "every holder is UNREACHABLE, tried as the last resort",
        })
    }
}

impl SelectionReason {
    /// The value in the access log and the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Hint(Hint::RedirectTo) => "redirect_to",
            Self::Hint(Hint::Referer) => "referer",
            Self::Hint(Hint::Recent) | Self::Recent => "recent",
            Self::Session => "session",
            Self::OwnWrite => "own_write",
            Self::Lightest => "lightest",
            Self::OtherSite => "other_site",
            Self::SetAside => "set_aside",
            Self::LastResort => "last_resort",
        }
    }
}

impl fmt::Display for CandidateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfService => f.write_str("dropped: the replica is out of service"),
            Self::PendingDelete => f.write_str("dropped: the replica is pending delete"),
            Self::Tried => f.write_str("dropped: already tried in this request"),
            Self::Unreachable => f.write_str("dropped: UNREACHABLE on this port"),
            Self::Restricted => f.write_str("dropped: RESTRICTED"),
            Self::Full => f.write_str("passed over: at its in-flight limit"),
            Self::Busy => f.write_str("set aside: BUSY"),
            Self::MaxUsers => f.write_str("set aside: MAXUSERS"),
            Self::CatchingUp => f.write_str("set aside: CATCHING UP"),
            Self::Behind => f.write_str("set aside: the replica is behind"),
            Self::OtherSite => f.write_str("set aside: of another site"),
            Self::OtherSiteExcluded => f.write_str("dropped: of another site, and cross_sites is never"),
            Self::OlderThanOwnWrite => {
                f.write_str("set aside: the replica is older than the user's own last write")
            }
            Self::SlowStart(percent) => {
                write!(f, "passed over: slow start, at {percent} % of its share")
            }
            Self::Heavier(index) => write!(f, "heavier: corrected index {index:.0}"),
            Self::Equal(index) => write!(f, "equal: corrected index {index:.0}, in the band of the lightest"),
            Self::NotAffinityServer => f.write_str("usable, but affinity leads to another server"),
            Self::Chosen(Some(index)) => write!(f, "chosen: corrected index {index:.0}"),
            Self::Chosen(None) => f.write_str("chosen"),
        }
    }
}

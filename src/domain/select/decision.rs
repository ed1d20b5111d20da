//! What selection answers: an outcome, and one verdict for each candidate in the order of elimination.

use std::fmt;

use smallvec::SmallVec;

use super::input::{Hint, ServerId};

/// The answer of [`super::decide`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub outcome: SelectionOutcome,
    /// One verdict a candidate: eliminated first, then set aside, then the rest, the chosen one last.
    pub verdicts: SmallVec<[(ServerId, CandidateVerdict); 8]>,
    /// Among whom it was drawn, where several were equally light: another time it may be another of them.
    pub band: SmallVec<[ServerId; 8]>,
}

/// What to do with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionOutcome {
    /// Send it there.
    Serve(ServerId, SelectionReason),
    /// Every usable server has as many requests in flight as it may: wait, then ask again.
    Full,
    /// A NoteID, and the server that the user's documents came from cannot be used.
    NoteIdServerGone,
    /// Every replica is out of service or pending delete.
    OutOfService,
    /// Nobody can take it.
    NoServer,
}

/// Why the chosen server was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionReason {
    /// The user's entry for this database names it.
    Entry,
    /// Another entry speaks for it.
    Hint(Hint),
    /// The user's most recent entry names it.
    Recent,
    /// The user has a session there.
    Session,
    /// It has the lightest workload.
    Lightest,
    /// It is set aside, but nobody else is left.
    SetAside,
    /// It is UNREACHABLE, as every other holder, and the configuration says to try.
    LastResort,
}

/// What became of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CandidateVerdict {
    /// Its replica is out of service and this user is not inside.
    OutOfService,
    /// Its replica is pending delete and this user is not inside.
    PendingDelete,
    /// Already tried in this request.
    Tried,
    /// Its port of the needed kind is disabled or does not answer.
    Unreachable,
    /// RESTRICTED, and this user is not inside or was for too long.
    Restricted,
    /// As many requests in flight as it may have.
    Full,
    /// Index at or under its threshold.
    Busy,
    /// User limit reached.
    MaxUsers,
    /// Returned a short while ago and passed over in this draw; how far its ramp is, percent.
    SlowStart(u8),
    /// Outside the band of the lightest; the corrected index that it was ranked by.
    Heavier(f32),
    /// As light as the chosen one, lost the draw; its corrected index.
    Equal(f32),
    /// Usable, but an affinity entry names another.
    NotAffinityServer,
    /// This one; its corrected index where it was ranked.
    Chosen(Option<f32>),
}

impl Decision {
    /// The verdict on one member.
    #[must_use]
    pub fn verdict(&self, server: ServerId) -> Option<CandidateVerdict> {
        self.verdicts.iter().find(|(m, _)| *m == server).map(|(_, v)| *v)
    }

    /// The chosen member.
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
            Self::Lightest => "lightest workload",
            Self::SetAside => "set aside, but nobody else is left",
            Self::LastResort => "every holder is UNREACHABLE, tried as the last resort",
        })
    }
}

impl SelectionReason {
    /// One word for the access log and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Hint(Hint::RedirectTo) => "redirect_to",
            Self::Hint(Hint::Referer) => "referer",
            Self::Hint(Hint::Recent) | Self::Recent => "recent",
            Self::Session => "session",
            Self::Lightest => "lightest",
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
            Self::Full => f.write_str("passed over: as many requests in flight as it may have"),
            Self::Busy => f.write_str("set aside: BUSY"),
            Self::MaxUsers => f.write_str("set aside: MAXUSERS"),
            Self::SlowStart(percent) => {
                write!(f, "passed over: returned lately, at {percent} % of its share")
            }
            Self::Heavier(index) => write!(f, "heavier: corrected index {index:.0}"),
            Self::Equal(index) => write!(f, "equal: corrected index {index:.0}, in the band of the lightest"),
            Self::NotAffinityServer => f.write_str("usable, but the user belongs to another"),
            Self::Chosen(Some(index)) => write!(f, "chosen: corrected index {index:.0}"),
            Self::Chosen(None) => f.write_str("chosen"),
        }
    }
}

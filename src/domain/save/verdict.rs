//! What the answers of the replicas mean for a save that was cut.
//!
//! Any replica can show that the document was changed, because the time of a revision replicates with it. Only the server
//! that got the request can show that it was not: if it stopped before it pushed the change, no other copy has it.

use super::SaveToken;

/// Times of Domino have whole seconds, and so has the server's clock in the same answer.
const RESOLUTION_MS: u64 = 1_000;

/// What one server answered about its copy of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyReading {
    /// The tag of the server, as in cookies.
    pub server: u32,
    /// What it said about the document.
    pub answer: CopyAnswer,
}

/// The answer of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyAnswer {
    /// It has the document.
    State(CopyState),
    /// The server does not answer.
    Unreachable,
    /// It answers, but says nothing about the document: it does not exist there, or the agent may not read it, or the
    /// agent is older than the question.
    NotTold,
    /// Its times cannot be compared with ours.
    ClockMoved,
}

/// A copy of the document. Times are milliseconds since 1970 on our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyState {
    /// When its revision was saved, on whatever server.
    pub revised_unix_ms: u64,
    /// How far the conversion of its times to our clock may be wrong.
    pub uncertainty_ms: u64,
    /// When its server was started, if it says so.
    pub started_unix_ms: Option<u64>,
    /// When the question was sent.
    pub asked_unix_ms: u64,
}

/// The answer to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveVerdict {
    /// The document was changed after the request was sent.
    Saved {
        /// When, on our clock.
        changed_unix_ms: u64,
        /// Whether every server with a replica has this change.
        is_everywhere: bool,
    },
    /// The server that got the request has not changed the document, and does not work on it any more.
    NotSaved,
    /// Neither can be shown.
    Unknown(SaveUnknown),
}

/// Why it cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveUnknown {
    /// Not changed so far, but the server may still be working on the request.
    MayStillRun,
    /// The server that got the request cannot be asked, and no other one has a change.
    ServerGone,
    /// That server does not say anything about the document.
    NotTold,
    /// The clock of that server moved.
    ClockMoved,
    /// The change may be the user's own one from just before.
    EarlierWrite,
}

impl SaveVerdict {
    /// The word in logs, metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Saved { .. } => "saved",
            Self::NotSaved => "not_saved",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl SaveUnknown {
    /// The word in logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MayStillRun => "may_still_run",
            Self::ServerGone => "server_gone",
            Self::NotTold => "not_told",
            Self::ClockMoved => "clock_moved",
            Self::EarlierWrite => "earlier_write",
        }
    }
}

impl CopyState {
    /// Two times of whole seconds that are this far apart may be the same moment.
    fn tolerance_ms(&self) -> u64 {
        self.uncertainty_ms.saturating_add(RESOLUTION_MS)
    }

    fn is_changed_since(&self, unix_ms: u64) -> bool {
        self.revised_unix_ms.saturating_add(self.tolerance_ms()) >= unix_ms
    }

    /// Whether its server has nothing of the request left to do.
    fn is_settled(&self, post: &SaveToken) -> bool {
        let restarted_after = post.sent_unix_ms.saturating_add(self.tolerance_ms());
        self.asked_unix_ms >= post.settled_unix_ms
            || self.started_unix_ms.is_some_and(|at| at > restarted_after)
    }
}

/// Decides from one reading of each server with a replica.
#[must_use]
pub fn decide(post: &SaveToken, readings: &[CopyReading]) -> SaveVerdict {
    let states = readings.iter().filter_map(|reading| match reading.answer {
        CopyAnswer::State(state) => Some(state),
        _ => None,
    });
    let newest = states
        .clone()
        .filter(|state| state.is_changed_since(post.sent_unix_ms))
        .max_by_key(|state| state.revised_unix_ms);
    if let Some(newest) = newest {
        // The time of that write has whole seconds, too.
        let earlier =
            post.earlier_write_unix_ms.saturating_add(newest.tolerance_ms()).saturating_add(RESOLUTION_MS);
        if post.earlier_write_unix_ms > 0 && newest.revised_unix_ms <= earlier {
            return SaveVerdict::Unknown(SaveUnknown::EarlierWrite);
        }
        let have_it = states.filter(|state| state.is_changed_since(newest.revised_unix_ms)).count();
        return SaveVerdict::Saved {
            changed_unix_ms: newest.revised_unix_ms,
            is_everywhere: have_it == readings.len(),
        };
    }
    let of_post = readings.iter().find(|reading| reading.server == post.server).map(|reading| reading.answer);
    match of_post {
        Some(CopyAnswer::State(state)) if state.is_settled(post) => SaveVerdict::NotSaved,
        Some(CopyAnswer::State(_)) => SaveVerdict::Unknown(SaveUnknown::MayStillRun),
        Some(CopyAnswer::NotTold) => SaveVerdict::Unknown(SaveUnknown::NotTold),
        Some(CopyAnswer::ClockMoved) => SaveVerdict::Unknown(SaveUnknown::ClockMoved),
        Some(CopyAnswer::Unreachable) | None => SaveVerdict::Unknown(SaveUnknown::ServerGone),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

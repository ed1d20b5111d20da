//! The phases of the maintenance of one server, its limits and the actions that come out of it. Apart from the steps, because
//! the plan, the progress and the runner use them too.

use serde::{Deserialize, Serialize};

use super::stop::StopReason;

/// The phases in the order in which a server passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepPhase {
    /// Nothing is changed yet.
    Check,
    /// RESTRICTED: users finish what they do.
    Drain,
    /// Nobody returns: its own changes are pushed to the other servers.
    Push,
    /// The hook runs, or is to run.
    Hook,
    /// It is to answer again.
    Return,
    /// It answers, and lacks what the others have.
    CatchUp,
    /// The restriction is to be removed.
    Release,
    /// It is to take users.
    Serve,
}

impl StepPhase {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Check => "before its maintenance",
            Self::Drain => "while users finish",
            Self::Push => "while its changes are pushed",
            Self::Hook => "at its hook",
            Self::Return => "while it is to return",
            Self::CatchUp => "while it catches up",
            Self::Release => "at its release",
            Self::Serve => "after its release",
        }
    }
}

/// Limits in milliseconds, and what the administrator accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepLimits {
    pub drain_ms: u64,
    pub return_ms: u64,
    pub settle_ms: u64,
    pub allow_outage: bool,
    pub accept_unproven: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextAction {
    /// Observe again after a pause. The second text may change with every observation.
    Wait(String, String),
    /// Tell this under this word, and ask again at once.
    Tell(&'static str, String),
    Restrict,
    /// Let nobody return, not even users who work there.
    Close,
    RunHook,
    Release,
    Done,
    Stop(StopReason),
}

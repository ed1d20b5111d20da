//! Outages of one server, and the gate that stays closed after a long one until its replicas have caught up. The gate is
//! part of the health, because it must close in the same step in which the server becomes reachable.

use std::time::Duration;

use super::{ServerHealth, ServerState};
use crate::domain::cluster::state::Transition;

/// A duration for people, in whole seconds above one second.
pub(in crate::domain::cluster) fn duration(ms: u64) -> String {
    let rounded = if ms < 1_000 { Duration::from_millis(ms) } else { Duration::from_secs(ms / 1_000) };
    humantime::format_duration(rounded).to_string()
}

/// The server is UNREACHABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When this process saw that.
    pub since_ms: u64,
    /// How long an earlier process had seen it UNREACHABLE before, in milliseconds.
    pub before_ms: u64,
    /// When the server last answered a probe: changes on other servers may be missing on this one since then.
    pub last_answer_ms: u64,
}

impl Outage {
    /// Its duration so far, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms).saturating_add(self.before_ms)
    }
}

/// The gate of a server that returned after a long outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUpGate {
    /// When it last returned, on the monotonic clock; identifies the gate.
    pub returned_ms: u64,
    /// The same in milliseconds since 1970.
    pub returned_unix_ms: u64,
    /// When the time began after which it opens without evidence.
    pub limit_from_ms: u64,
    /// How much of that time had passed before, in an earlier process.
    pub before_ms: u64,
    /// How long the outage lasted.
    pub outage_ms: u64,
}

impl CatchUpGate {
    /// How long the server has been CATCHING UP, in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.limit_from_ms).saturating_add(self.before_ms)
    }
}

/// The server is CATCHING UP on the ICM that this one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUpElsewhere {
    /// When it returned there, in milliseconds since 1970.
    pub returned_unix_ms: u64,
    /// The URL of that ICM.
    pub at: String,
}

/// What catching up needs to know about the health of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachability {
    /// Every enabled port was probed at least once.
    pub probed: bool,
    /// The state as last derived.
    pub state: ServerState,
    /// How often it became UNREACHABLE, so that a short outage is not missed.
    pub outages: u64,
    /// The outage that is not over.
    pub outage: Option<Outage>,
    /// The gate, while it is closed.
    pub gate: Option<CatchUpGate>,
}

impl Reachability {
    /// Whether the server answers.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.state != ServerState::Unreachable
    }
}

impl ServerHealth {
    /// What catching up needs to know.
    #[must_use]
    pub fn reachability(&self) -> Reachability {
        Reachability {
            probed: self.probed_once(),
            state: self.state,
            outages: self.outages,
            outage: self.outage,
            gate: self.gate,
        }
    }

    /// Sets the difference between the time since 1970 and the monotonic clock, in milliseconds.
    pub fn set_unix_offset(&mut self, offset_ms: u64) {
        self.unix_offset = offset_ms;
    }

    /// Takes over an outage and a gate that an earlier process saw, before the first probe of this one.
    pub fn restore_catch_up(
        &mut self,
        outage: Option<Outage>,
        gate: Option<CatchUpGate>,
        now_ms: u64,
    ) -> Option<Transition> {
        if outage.is_some() {
            self.known = true;
        }
        self.gate = gate;
        self.outage = outage;
        // It has returned since that process saw it.
        if self.state != ServerState::Unreachable {
            self.end_outage(now_ms);
        }
        self.update_state(now_ms, "it is CATCHING UP, as the process before this one saw")
    }

    /// Opens the gate that was closed at this return; a later one stays.
    pub fn open_gate(&mut self, returned_ms: u64, cause: &str, now_ms: u64) -> Option<Transition> {
        self.gate = self.gate.filter(|gate| gate.returned_ms != returned_ms);
        self.update_state(now_ms, cause)
    }

    /// Replaces what the followed ICM says about this server.
    pub fn set_gate_elsewhere(
        &mut self,
        gate: Option<CatchUpElsewhere>,
        cause: &str,
        now_ms: u64,
    ) -> Option<Transition> {
        self.gate_elsewhere = gate;
        self.update_state(now_ms, cause)
    }

    /// What the followed ICM says about this server.
    #[must_use]
    pub fn gate_elsewhere(&self) -> Option<&CatchUpElsewhere> {
        self.gate_elsewhere.as_ref()
    }

    /// When it returned, if it is CATCHING UP here or on the followed ICM: the later time.
    pub(super) fn catching_up_since_unix_ms(&self) -> Option<u64> {
        let own = self.gate.map(|gate| gate.returned_unix_ms);
        own.max(self.gate_elsewhere.as_ref().map(|gate| gate.returned_unix_ms))
    }

    pub(super) fn begin_outage(&mut self, now_ms: u64) {
        self.outages += 1;
        // A server that has never answered is compared with everything that happened here.
        let last_answer_ms = self.last_answer.min(now_ms);
        self.outage.get_or_insert(Outage { since_ms: now_ms, before_ms: 0, last_answer_ms });
    }

    /// Ends an outage and closes the gate if it was a long one. A short one in the middle of catching up leaves the gate
    /// closed, and does not extend its limit. Returns the duration if the gate is closed.
    pub(super) fn end_outage(&mut self, now_ms: u64) -> Option<u64> {
        let outage_ms = self.outage.take()?.duration_ms(now_ms);
        let is_long = self.settings.catch_up_after_ms.is_some_and(|after| outage_ms > after);
        let returned_unix_ms = now_ms.saturating_add(self.unix_offset);
        match &mut self.gate {
            Some(gate) if !is_long => {
                gate.returned_ms = now_ms;
                gate.returned_unix_ms = returned_unix_ms;
            }
            gate if is_long => {
                *gate = Some(CatchUpGate {
                    returned_ms: now_ms,
                    returned_unix_ms,
                    limit_from_ms: now_ms,
                    before_ms: 0,
                    outage_ms,
                });
            }
            _ => return None,
        }
        Some(outage_ms)
    }
}

//! The outages and the gate of a server, changed under the lock of its health. Apart from the rest, because only the
//! tracker of its cluster and the state of an earlier process use it.

use super::ClusterServer;
use crate::domain::cluster::health::{CatchUpElsewhere, CatchUpGate, Outage};
use crate::domain::cluster::state::Transition;

impl ClusterServer {
    /// Takes over an outage and a gate that an earlier process saw.
    pub fn restore_catch_up(
        &self,
        outage: Option<Outage>,
        gate: Option<CatchUpGate>,
        now_ms: u64,
    ) -> Option<Transition> {
        self.update_health(now_ms, |health| health.restore_catch_up(outage, gate, now_ms))
    }

    /// Opens the gate that was closed at this return; a later one stays.
    pub fn open_gate(&self, returned_ms: u64, cause: &str, now_ms: u64) -> Option<Transition> {
        self.update_health(now_ms, |health| health.open_gate(returned_ms, cause, now_ms))
    }

    /// Replaces what the followed ICM says about catching up, if it changed.
    pub fn set_gate_elsewhere(
        &self,
        gate: Option<CatchUpElsewhere>,
        cause: &str,
        now_ms: u64,
    ) -> Option<Transition> {
        if self.read(|health| health.gate_elsewhere() == gate.as_ref()) {
            return None;
        }
        self.update_health(now_ms, |health| health.set_gate_elsewhere(gate, cause, now_ms))
    }

    /// Sets the difference between the time since 1970 and the monotonic clock, in milliseconds.
    pub fn set_unix_offset(&self, offset_ms: u64) {
        self.health.lock().set_unix_offset(offset_ms);
    }
}

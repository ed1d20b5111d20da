//! What probes and failed connects have said about one port.

use crate::domain::cluster::state::Port;

#[derive(Clone, Debug, Default)]
pub(super) struct PortHealth {
    pub(super) probed: bool,
    pub(super) reachable: bool,
    /// Good probes in a row.
    pub(super) good: u32,
    /// Bad probes in a row.
    pub(super) bad: u32,
    /// Connects of requests that failed in a row.
    pub(super) passive: u32,
    /// Why it is not reachable.
    pub(super) cause: String,
}

impl PortHealth {
    /// Takes in a probe and says in words how it ended. The first one decides by itself, later ones need their number
    /// in a row.
    pub(super) fn probed(
        &mut self,
        port: Port,
        result: Result<u16, &str>,
        healthy_after: u32,
        unreachable_after: u32,
    ) -> String {
        let first = !std::mem::replace(&mut self.probed, true);
        match result {
            Ok(status) => {
                self.good = self.good.saturating_add(1);
                self.bad = 0;
                if first || (!self.reachable && self.good >= healthy_after) {
                    self.reachable = true;
                    self.passive = 0;
                }
                format!("{port} probe answered {status}")
            }
            Err(reason) => {
                self.bad = self.bad.saturating_add(1);
                self.good = 0;
                if first || self.bad >= unreachable_after {
                    self.reachable = false;
                }
                self.cause = format!("{port} probe failed: {reason}");
                self.cause.clone()
            }
        }
    }

    /// Takes in a connect that failed; true when that makes the port UNREACHABLE, which `limit` 0 never does.
    pub(super) fn connect_failed(&mut self, reason: &str, limit: u32) -> bool {
        self.passive = self.passive.saturating_add(1);
        let turns = limit > 0 && self.passive >= limit && self.reachable;
        if turns {
            self.reachable = false;
            self.good = 0;
            self.cause = format!("{} connects in a row failed, the last: {reason}", self.passive);
        }
        turns
    }
}

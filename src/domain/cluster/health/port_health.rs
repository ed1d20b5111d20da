//! The results of probes and connects of one port.

use crate::domain::cluster::state::Port;

#[derive(Clone, Debug, Default)]
pub(super) struct PortHealth {
    pub(super) probed: bool,
    pub(super) reachable: bool,
    /// Number of consecutive good probes.
    pub(super) good: u32,
    /// Number of consecutive bad probes.
    pub(super) bad: u32,
    /// Number of consecutive failed connects of requests.
    pub(super) passive: u32,
    /// Why the port is not reachable.
    pub(super) cause: String,
}

impl PortHealth {
    /// Adds a probe and describes its result. The first probe decides alone; later ones must be consecutive.
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

    /// Adds a failed connect. True if it makes the port UNREACHABLE; never with a `limit` of 0.
    pub(super) fn connect_failed(&mut self, reason: &str, limit: u32) -> bool {
        self.passive = self.passive.saturating_add(1);
        let is_down = limit > 0 && self.passive >= limit && self.reachable;
        if is_down {
            self.reachable = false;
            self.good = 0;
            self.cause = format!("{} connects in a row failed, the last: {reason}", self.passive);
        }
        is_down
    }
}

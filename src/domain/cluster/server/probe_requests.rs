//! Probes that failed requests ask for, ahead of the schedule.

use std::sync::atomic::Ordering::Relaxed;

use super::{ClusterServer, bit};
use crate::domain::cluster::state::Port;

impl ClusterServer {
    /// The next check of the schedule starts a probe.
    pub fn probe_now(&self) {
        self.probe_now.store(true, Relaxed);
    }

    /// True once for each request.
    pub fn take_probe_now(&self) -> bool {
        self.probe_now.load(Relaxed) && self.probe_now.swap(false, Relaxed)
    }

    /// A request failed on this port before its response header. The request itself may be the cause (a page on which the
    /// server always fails), so nothing is counted: a single probe decides.
    pub fn suspect(&self, port: Port) {
        self.suspected.fetch_or(bit(port), Relaxed);
    }

    /// The next probe of this port decides by itself.
    #[must_use]
    pub fn is_suspected(&self, port: Port) -> bool {
        self.suspected.load(Relaxed) & bit(port) != 0
    }

    /// The same, for the probe that begins now: a later failure asks for another one.
    pub fn take_suspicion(&self, port: Port) -> bool {
        self.suspected.fetch_and(!bit(port), Relaxed) & bit(port) != 0
    }

    /// See [`ServerHealth::let_one_bad_probe_decide`].
    pub fn let_one_bad_probe_decide(&self, port: Port) {
        self.lock().let_one_bad_probe_decide(port);
    }
}

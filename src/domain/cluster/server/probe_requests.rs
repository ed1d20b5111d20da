//! Probes ahead of the schedule, which failed requests ask for.

use std::sync::atomic::Ordering::Relaxed;

use super::{ClusterServer, bit};
use crate::domain::cluster::state::Port;

impl ClusterServer {
    /// Requests a probe at the next check of the schedule.
    pub fn probe_now(&self) {
        self.probe_now.store(true, Relaxed);
    }

    /// True if a probe was requested; clears the request.
    pub fn take_probe_now(&self) -> bool {
        self.probe_now.load(Relaxed) && self.probe_now.swap(false, Relaxed)
    }

    /// A request failed on this port before its response header. The request itself may be the cause, such as a page
    /// that always fails, so the failure is not counted: the next probe decides.
    pub fn suspect(&self, port: Port) {
        self.suspected.fetch_or(bit(port), Relaxed);
    }

    /// True if the next probe of this port decides alone.
    #[must_use]
    pub fn is_suspected(&self, port: Port) -> bool {
        self.suspected.load(Relaxed) & bit(port) != 0
    }

    /// Like [`Self::is_suspected`], for a probe that starts now; a later failure asks for another probe.
    pub fn take_suspicion(&self, port: Port) -> bool {
        self.suspected.fetch_and(!bit(port), Relaxed) & bit(port) != 0
    }

    /// Lets the next probe of this port decide alone if it is bad.
    pub fn let_one_bad_probe_decide(&self, port: Port) {
        self.health.lock().let_one_bad_probe_decide(port);
    }
}

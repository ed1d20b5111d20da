//! Counters of one server for the status page and the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::state::Port;

/// Since the process began; no decision depends on them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts that got a response header.
    pub answered: AtomicU64,
    /// Connections that could not be made.
    pub connect_failures: AtomicU64,
    /// Connections that ended before the response header.
    pub broken: AtomicU64,
    /// Responses that did not come in time.
    pub timeouts: AtomicU64,
    /// Responses that were not HTTP.
    pub malformed: AtomicU64,
    /// Requests that went on to another server.
    pub failed_over: AtomicU64,
    /// Probes by port, good ones before bad ones.
    probed: [[AtomicU64; 2]; 2],
}

impl Counters {
    /// Good and bad probes of a port.
    #[must_use]
    pub fn probes(&self, port: Port) -> [u64; 2] {
        let [good, bad] = self.of(port);
        [good.load(Relaxed), bad.load(Relaxed)]
    }

    /// Good and bad ones.
    pub(super) fn of(&self, port: Port) -> &[AtomicU64; 2] {
        let [http, https] = &self.probed;
        match port {
            Port::Http => http,
            Port::Https => https,
        }
    }

    /// By the words that the metrics use.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("answered", self.answered.load(Relaxed)),
            ("connect_failed", self.connect_failures.load(Relaxed)),
            ("broken", self.broken.load(Relaxed)),
            ("timed_out", self.timeouts.load(Relaxed)),
            ("malformed", self.malformed.load(Relaxed)),
            ("failed_over", self.failed_over.load(Relaxed)),
        ]
    }
}

//! What happened on a member since the process began, for the status page and metrics.
//!
//! In: what requests and probes came to. Out: numbers that only grow. Nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::state::Port;

/// What happened on a member since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts that got an answer's header.
    pub answered: AtomicU64,
    /// Connections that could not be made.
    pub connect_failures: AtomicU64,
    /// Deaths and resets before the answer's header.
    pub broken: AtomicU64,
    /// Answers that did not come in time.
    pub timeouts: AtomicU64,
    /// Answers that were not HTTP.
    pub malformed: AtomicU64,
    /// Requests that left this member for another.
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

    /// Those of a port: good, bad.
    pub(super) fn of(&self, port: Port) -> &[AtomicU64; 2] {
        let [http, https] = &self.probed;
        match port {
            Port::Http => http,
            Port::Https => https,
        }
    }

    /// All of them, by the words of the metrics.
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

//! Counters of one server for the status page and the metrics. No decision depends on them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::response_times::ResponseTimes;
use super::state::Port;

/// Counters since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Response headers by the time they took.
    pub response_times: ResponseTimes,
    /// Response headers without such a time, as of `home_mail`.
    pub(super) answered_untimed: AtomicU64,
    /// Connects of requests that failed.
    pub connect_failures: AtomicU64,
    /// Connections that ended before the response header.
    pub broken: AtomicU64,
    /// Responses that timed out.
    pub timeouts: AtomicU64,
    /// Responses that were not HTTP.
    pub malformed: AtomicU64,
    /// Requests that failed over to another server.
    pub failed_over: AtomicU64,
    /// Good and bad probes, by port.
    probes: [[AtomicU64; 2]; 2],
}

impl Counters {
    /// Attempts with a response header.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.response_times.total().wrapping_add(self.answered_untimed.load(Relaxed))
    }

    /// Attempts that failed before a valid response header.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let all = [&self.connect_failures, &self.broken, &self.timeouts, &self.malformed];
        all.iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    /// The numbers of good and bad probes of a port.
    #[must_use]
    pub fn probes(&self, port: Port) -> [u64; 2] {
        let [good, bad] = self.probe_counters(port);
        [good.load(Relaxed), bad.load(Relaxed)]
    }

    pub(super) fn probe_counters(&self, port: Port) -> &[AtomicU64; 2] {
        let [http, https] = &self.probes;
        match port {
            Port::Http => http,
            Port::Https => https,
        }
    }

    /// All counters but those of probes, with the names of the metrics.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("answered", self.answered()),
            ("connect_failed", self.connect_failures.load(Relaxed)),
            ("broken", self.broken.load(Relaxed)),
            ("timed_out", self.timeouts.load(Relaxed)),
            ("malformed", self.malformed.load(Relaxed)),
            ("failed_over", self.failed_over.load(Relaxed)),
        ]
    }
}

//! How long a server keeps an idle connection, as far as it has announced or shown.
//!
//! If a server closes a pooled connection while a request is on its way, the request fails, and it may not be sent
//! twice. So such a request uses only connections of a kind that the server has shown to keep open.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A server that closes connections after a response without announcement does so within this time. A connection that
/// is still open then stays open.
const CLOSE_AFTER_RESPONSE_MS: u64 = 20;
/// Reused connections that must work in a row before one that has just had a response is trusted.
const MIN_TRUST: u32 = 20;
/// How long a closed connection counts.
const MAX_EVIDENCE_AGE_MS: u64 = 10 * 60 * 1_000;
const UNKNOWN: u32 = u32::MAX;

/// How one server keeps its connections.
#[derive(Debug)]
pub struct KeepAlive {
    /// The last `Keep-Alive: timeout=`.
    announced_ms: AtomicU32,
    /// The shortest idle time after which a connection was closed, except right after a response.
    shortest_ms: AtomicU32,
    /// The time of that observation.
    shortest_at_ms: AtomicU64,
    /// Reused connections that worked since a connection was closed right after a response.
    trust: AtomicU32,
    /// The highest number of requests that a connection has carried. A Domino server closes a connection after the
    /// number in its Server document, five by default.
    proven_requests: AtomicU32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            announced_ms: AtomicU32::new(UNKNOWN),
            shortest_ms: AtomicU32::new(UNKNOWN),
            shortest_at_ms: AtomicU64::new(0),
            trust: AtomicU32::new(0),
            proven_requests: AtomicU32::new(0),
        }
    }
}

impl KeepAlive {
    /// Records the announced keep-alive time, in seconds.
    pub fn announced(&self, seconds: u32) {
        self.announced_ms.store(seconds.saturating_mul(1_000), Relaxed);
    }

    /// Records that a pooled connection was still open for its `nth` request.
    pub fn worked(&self, nth: u32) {
        if nth > self.proven_requests.load(Relaxed) {
            self.proven_requests.store(nth, Relaxed);
        }
        let trust = self.trust.load(Relaxed);
        if trust < MIN_TRUST {
            self.trust.store(trust + 1, Relaxed);
        }
    }

    /// Records that the server closed a pooled connection, idle for at most `idle_ms`, after `served` requests.
    pub fn closed(&self, idle_ms: u64, served: u32, now_ms: u64) {
        if idle_ms < CLOSE_AFTER_RESPONSE_MS {
            self.trust.store(0, Relaxed);
            self.proven_requests.store(served, Relaxed);
            return;
        }
        let idle_ms = u32::try_from(idle_ms).unwrap_or(UNKNOWN);
        if idle_ms < self.shortest_ms.load(Relaxed) || self.is_outdated(now_ms) {
            self.shortest_ms.store(idle_ms, Relaxed);
            self.shortest_at_ms.store(now_ms, Relaxed);
        }
    }

    /// True if a connection that is idle for `idle_ms` and has carried `served` requests may be reused. A `replayable`
    /// request can be sent again if the connection is closed.
    #[must_use]
    pub fn allows(&self, idle_ms: u64, served: u32, replayable: bool, now_ms: u64) -> bool {
        let announced = u64::from(self.announced_ms.load(Relaxed));
        // The server counts whole seconds, from when it sent the response.
        if idle_ms + (announced / 4).min(1_000) >= announced {
            return false;
        }
        if replayable {
            return true;
        }
        if idle_ms < CLOSE_AFTER_RESPONSE_MS {
            return self.trust.load(Relaxed) >= MIN_TRUST && served < self.proven_requests.load(Relaxed);
        }
        let shortest = self.shortest_ms.load(Relaxed);
        shortest == UNKNOWN || self.is_outdated(now_ms) || idle_ms < u64::from(shortest / 2)
    }

    fn is_outdated(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.shortest_at_ms.load(Relaxed)) > MAX_EVIDENCE_AGE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose connections have often carried ten requests each.
    fn known() -> KeepAlive {
        let keep_alive = KeepAlive::default();
        for _ in 0..5 {
            (2..=10).for_each(|nth| keep_alive.worked(nth));
        }
        keep_alive
    }

    #[test]
    fn a_connection_right_after_a_response_is_reused_only_if_others_have_worked() {
        let new = KeepAlive::default();
        assert!(new.allows(1, 1, true, 1));
        assert!(!new.allows(1, 1, false, 1), "the server may be about to close it");
        assert!(new.allows(50, 1, false, 1), "it is still open after its response");
        assert!(known().allows(1, 1, false, 1));
    }

    #[test]
    fn a_server_that_closes_after_a_response_loses_trust_at_once() {
        let keep_alive = known();
        keep_alive.closed(8, 3, 1);
        assert!(!keep_alive.allows(1, 1, false, 1));
        for _ in 0..19 {
            keep_alive.worked(2);
        }
        assert!(!keep_alive.allows(1, 1, false, 1));
        keep_alive.worked(2);
        assert!(keep_alive.allows(1, 1, false, 1));
    }

    #[test]
    fn a_connection_carries_no_more_requests_than_another_has_carried() {
        let keep_alive = known();
        assert!(keep_alive.allows(1, 9, false, 1));
        assert!(!keep_alive.allows(1, 10, false, 1), "no connection has carried eleven");
        assert!(keep_alive.allows(50, 10, false, 1));
    }

    #[test]
    fn a_connection_is_reused_for_at_most_half_of_the_shortest_idle_time_seen() {
        let keep_alive = known();
        keep_alive.closed(5_000, 1, 1_000);
        keep_alive.closed(9_000, 1, 1_000);
        assert!(keep_alive.allows(2_400, 1, false, 2_000));
        assert!(!keep_alive.allows(2_500, 1, false, 2_000));
        assert!(keep_alive.allows(2_500, 1, true, 2_000));
        assert!(
            keep_alive.allows(2_500, 1, false, 2_000 + MAX_EVIDENCE_AGE_MS),
            "the observation is too old"
        );
    }

    #[test]
    fn the_announced_time_limits_every_request() {
        let keep_alive = known();
        keep_alive.announced(5);
        assert!(keep_alive.allows(3_900, 1, true, 1));
        assert!(!keep_alive.allows(4_000, 1, true, 1));
        keep_alive.announced(1);
        assert!(keep_alive.allows(700, 1, true, 1));
        assert!(!keep_alive.allows(760, 1, true, 1));
    }
}

//! Counters of refused client connections and requests. No label comes from a client.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The statuses with which the gate refuses a request.
const REFUSAL_STATUSES: [u16; 7] = [400, 405, 408, 414, 431, 501, 505];

/// Client connections and requests that were refused or ended early.
#[derive(Debug, Default)]
pub struct ClientStatistics {
    refused: [AtomicU64; REFUSAL_STATUSES.len()],
    /// Connections closed at once: `limits.connections`.
    pub over_limit: AtomicU64,
    /// Connections closed at once: `limits.per_client.connections`.
    pub over_client_limit: AtomicU64,
    /// Requests answered with 429: `limits.per_client.requests_per_second`.
    pub over_rate: AtomicU64,
    /// Requests answered with 429: `limits.per_client.requests_in_flight`.
    pub over_in_flight: AtomicU64,
    /// Attempts to log in answered with 429: `limits.logins.per_address`.
    pub logins_over_address: AtomicU64,
    /// Attempts to log in answered with 429: `limits.logins.per_user`.
    pub logins_over_user: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections of proxies closed because of their PROXY header.
    pub proxy_headers_failed: AtomicU64,
    /// Connections closed, and HTTP/2 streams reset, because the client took too long.
    pub too_slow: AtomicU64,
}

impl ClientStatistics {
    pub(crate) fn count_refused(&self, status: u16) {
        let known = REFUSAL_STATUSES.iter().position(|s| *s == status);
        if let Some(count) = known.and_then(|at| self.refused.get(at)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Requests that the gate refused, by status.
    pub fn refused_by_status(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        REFUSAL_STATUSES.iter().zip(&self.refused).map(|(status, count)| (*status, count.load(Relaxed)))
    }
}

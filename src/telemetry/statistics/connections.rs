//! Counts the connections of one direction: active, peak and total.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
struct ConnectionGauge {
    active: AtomicU64,
    peak: AtomicU64,
    total: AtomicU64,
}

impl ConnectionGauge {
    fn begin(&self, is_new: bool) {
        let active = self.active.fetch_add(1, Relaxed).wrapping_add(1);
        // The load is cheap, unlike `fetch_max`, which is rarely needed.
        if active > self.peak.load(Relaxed) {
            self.peak.fetch_max(active, Relaxed);
        }
        if is_new {
            self.total.fetch_add(1, Relaxed);
        }
    }
}

/// The connections of clients, or those to servers.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    all: ConnectionGauge,
    tls: ConnectionGauge,
}

impl ConnectionCounts {
    /// Counts a connection that is opened (`is_new`) or used again.
    pub fn begin(&self, tls: bool, is_new: bool) {
        self.all.begin(is_new);
        if tls {
            self.tls.begin(is_new);
        }
    }

    pub fn end(&self, tls: bool) {
        self.all.active.fetch_sub(1, Relaxed);
        if tls {
            self.tls.active.fetch_sub(1, Relaxed);
        }
    }

    /// Counts a new connection until the guard is dropped.
    #[must_use]
    pub fn count_connection(self: &Arc<Self>, tls: bool) -> CountedConnection {
        self.begin(tls, true);
        CountedConnection { counts: Arc::clone(self), tls }
    }

    fn gauge(&self, tls: bool) -> &ConnectionGauge {
        if tls { &self.tls } else { &self.all }
    }

    /// `tls` = only connections with TLS.
    #[must_use]
    pub fn active(&self, tls: bool) -> u64 {
        self.gauge(tls).active.load(Relaxed)
    }

    #[must_use]
    pub fn peak(&self, tls: bool) -> u64 {
        self.gauge(tls).peak.load(Relaxed)
    }

    #[must_use]
    pub fn total(&self, tls: bool) -> u64 {
        self.gauge(tls).total.load(Relaxed)
    }
}

/// Ends the count of a connection when dropped.
#[derive(Debug)]
pub struct CountedConnection {
    counts: Arc<ConnectionCounts>,
    tls: bool,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.counts.end(self.tls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_after_connections_end() {
        let counts = Arc::new(ConnectionCounts::default());
        let (plain, tls) = (counts.count_connection(false), counts.count_connection(true));
        drop((plain, tls));
        let again = counts.count_connection(false);
        assert_eq!((counts.active(false), counts.peak(false), counts.total(false)), (1, 2, 3));
        assert_eq!((counts.active(true), counts.peak(true), counts.total(true)), (0, 1, 1));
        drop(again);
        counts.begin(true, false);
        assert_eq!(
            (counts.active(true), counts.total(true)),
            (1, 1),
            "a reused connection was counted as new"
        );
    }
}

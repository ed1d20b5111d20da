//! Connections of one direction: how many there are, were at most, and were in all.
//!
//! In: a call when one begins and when it ends. Out: numbers. It keeps no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A gauge with its highest value and its number of beginnings.
#[derive(Debug, Default)]
struct ConnectionGauge {
    active: AtomicU64,
    peak: AtomicU64,
    total: AtomicU64,
}

impl ConnectionGauge {
    fn begin(&self, is_new: bool) {
        let active = self.active.fetch_add(1, Relaxed).wrapping_add(1);
        // Rarely true, and a load that all threads share costs nothing.
        if active > self.peak.load(Relaxed) {
            self.peak.fetch_max(active, Relaxed);
        }
        if is_new {
            self.total.fetch_add(1, Relaxed);
        }
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    all: ConnectionGauge,
    tls: ConnectionGauge,
}

impl ConnectionCounts {
    /// A connection is there, or carries a request again; `is_new` = it was made for this.
    pub fn begin(&self, tls: bool, is_new: bool) {
        self.all.begin(is_new);
        if tls {
            self.tls.begin(is_new);
        }
    }

    /// The end of what began.
    pub fn end(&self, tls: bool) {
        self.all.active.fetch_sub(1, Relaxed);
        if tls {
            self.tls.active.fetch_sub(1, Relaxed);
        }
    }

    /// A new connection that ends when the guard is dropped.
    #[must_use]
    pub fn count_connection(self: &Arc<Self>, tls: bool) -> CountedConnection {
        self.begin(tls, true);
        CountedConnection { sessions: Arc::clone(self), tls }
    }

    fn gauge(&self, tls: bool) -> &ConnectionGauge {
        if tls { &self.tls } else { &self.all }
    }

    /// How many there are; `tls` = only those with TLS.
    #[must_use]
    pub fn active(&self, tls: bool) -> u64 {
        self.gauge(tls).active.load(Relaxed)
    }

    /// The most at any time.
    #[must_use]
    pub fn peak(&self, tls: bool) -> u64 {
        self.gauge(tls).peak.load(Relaxed)
    }

    /// How many there were in all.
    #[must_use]
    pub fn total(&self, tls: bool) -> u64 {
        self.gauge(tls).total.load(Relaxed)
    }
}

/// One connection; dropping it ends it.
#[derive(Debug)]
pub struct CountedConnection {
    sessions: Arc<ConnectionCounts>,
    tls: bool,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.sessions.end(self.tls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stays_when_connections_end() {
        let sessions = Arc::new(ConnectionCounts::default());
        let (plain, tls) = (sessions.count_connection(false), sessions.count_connection(true));
        drop((plain, tls));
        let again = sessions.count_connection(false);
        assert_eq!((sessions.active(false), sessions.peak(false), sessions.total(false)), (1, 2, 3));
        assert_eq!((sessions.active(true), sessions.peak(true), sessions.total(true)), (0, 1, 1));
        drop(again);
        sessions.begin(true, false);
        assert_eq!((sessions.active(true), sessions.total(true)), (1, 1), "a used one was counted as new");
    }
}

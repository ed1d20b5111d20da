//! What a simulated server counts, for the control port and for faults that wait until connections are closed. The counters
//! change without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cluster::PortKind;

/// Counters of one server.
#[derive(Default)]
pub struct Counters {
    /// Connections opened, on HTTP and HTTPS.
    pub connections: AtomicU64,
    http: Connections,
    https: Connections,
    /// Most connections open at once.
    pub peak: AtomicU64,
    /// Requests whose head was read; those for `/fast` too.
    pub requests: AtomicU64,
    /// Requests whose head was read and whose response is not complete.
    pub in_flight: AtomicU64,
    /// Successful pushes of statistics.
    pub pushed: AtomicU64,
    pub push_failed: AtomicU64,
}

/// Connections of one port.
#[derive(Default)]
pub struct Connections {
    pub open: AtomicU64,
    /// Open connections without a request.
    pub idle: AtomicU64,
}

impl Counters {
    pub fn of(&self, port: PortKind) -> &Connections {
        if port == PortKind::Https { &self.https } else { &self.http }
    }

    /// Connections open now, on HTTP and HTTPS.
    pub fn open(&self) -> u64 {
        self.http.open.load(Relaxed) + self.https.open.load(Relaxed)
    }

    /// Open connections without a request, on HTTP and HTTPS.
    pub fn idle(&self) -> u64 {
        self.http.idle.load(Relaxed) + self.https.idle.load(Relaxed)
    }
}

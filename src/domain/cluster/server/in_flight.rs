//! A guard that counts one request in flight on every path on which the request may end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ClusterServer;

/// One request in flight on a server; dropping it ends the request.
#[derive(Debug)]
pub struct InFlight {
    server: Arc<ClusterServer>,
    tunnel: bool,
}

impl ClusterServer {
    /// Begins a request if fewer than `cap` are in flight (0 = no cap). Selection read the number a moment ago, so only
    /// this check counts.
    #[must_use]
    pub fn begin(self: &Arc<Self>, cap: u32) -> Option<InFlight> {
        if cap == 0 {
            self.in_flight.fetch_add(1, Relaxed);
        } else {
            self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < cap).then_some(n + 1)).ok()?;
        }
        Some(InFlight { server: Arc::clone(self), tunnel: false })
    }
}

impl InFlight {
    /// That the request was sent to.
    #[must_use]
    pub fn server(&self) -> &Arc<ClusterServer> {
        &self.server
    }

    /// Counts the request as a tunnel from now on.
    pub fn is_tunnel(&mut self) {
        if !std::mem::replace(&mut self.tunnel, true) {
            self.server.tunnels.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
        if self.tunnel {
            self.server.tunnels.fetch_sub(1, Relaxed);
        }
    }
}

//! A guard that counts a request in flight until it ends, on every path.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ClusterServer;

/// A request in flight on a server; dropping it ends the request.
#[derive(Debug)]
pub struct InFlight {
    server: Arc<ClusterServer>,
    tunnel: bool,
}

impl ClusterServer {
    /// Begins a request if fewer than `limit` are in flight (0 = no limit). Selection saw an older number, so only this
    /// check is exact.
    #[must_use]
    pub fn begin(self: &Arc<Self>, limit: u32) -> Option<InFlight> {
        if limit == 0 {
            self.in_flight.fetch_add(1, Relaxed);
        } else {
            self.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1)).ok()?;
        }
        Some(InFlight { server: Arc::clone(self), tunnel: false })
    }
}

impl InFlight {
    /// The server of the request.
    #[must_use]
    pub fn server(&self) -> &Arc<ClusterServer> {
        &self.server
    }

    /// Counts the request as a tunnel from now on.
    pub fn mark_as_tunnel(&mut self) {
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

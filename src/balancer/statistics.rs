//! Counters of the balancer as a whole, among them the ICM's own under its own names.
//!
//! In: one call a request. Out: plain numbers. Names of the ICM's statistics:
//! <https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Balancer;
use crate::edge::ClientStatistics;

/// All start at 0 with the process.
#[derive(Debug, Default)]
pub struct Statistics {
    /// `ICM.Command.Total`
    pub commands: AtomicU64,
    /// `ICM.Command.Unknown`
    pub unknown: AtomicU64,
    /// `ICM.Command.Redirects.Successful`: found its server.
    pub successful: AtomicU64,
    /// `ICM.Command.Redirects.Unsuccessful`
    pub unsuccessful: AtomicU64,
    /// `ICM.Command.Redirects.ClusterBusy`: every usable member was BUSY or MAXUSERS.
    pub cluster_busy: AtomicU64,
    /// `ICM.Receive.Error`
    pub receive_errors: AtomicU64,
    /// Requests that were sent to a second server.
    pub failovers: AtomicU64,
    /// Requests in progress.
    pub in_flight: AtomicU64,
    /// Connections of clients, and what was refused on them.
    pub clients: Arc<ClientStatistics>,
}

/// One request in progress, from its head to its last octet; dropping it ends it on every path.
#[derive(Debug)]
pub struct InProgress(Arc<Balancer>);

impl InProgress {
    /// Begins one.
    #[must_use]
    pub fn begin(balancer: &Arc<Balancer>) -> Self {
        balancer.statistics.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(balancer))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.statistics.in_flight.fetch_sub(1, Relaxed);
    }
}

//! Counters of the balancer as a whole, among them the ICM's own under its own names.
//!
//! In: one call a request. Out: plain numbers. Names of the ICM's statistics:
//! <https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>.

use std::sync::atomic::AtomicU64;

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
}

//! Counters of the balancer as a whole, among them those of the ICM's own under its own names.
//!
//! In: a few calls a request. Out: plain numbers. Threads count each in
//! a shard of their own, so that none waits for another's cache line. It never holds up a request. Names of the
//! ICM's statistics: <https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>.

pub mod accept_queue;
mod clients;
mod connections;
mod rates;
pub mod shards;
pub mod traffic;

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::telemetry::access_log::LineCounters;
pub use clients::ClientStatistics;
pub use connections::{ConnectionCounts, CountedConnection};
pub use rates::{CommandRates, RateWindow};
use shards::PerThread;
use traffic::Traffic;

/// What requests count; all start at 0 with the process.
#[derive(Debug, Default)]
pub struct RequestCounters {
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
    /// Octets of bodies that clients sent.
    pub client_received: AtomicU64,
    /// Octets of bodies that clients were sent.
    pub client_sent: AtomicU64,
    /// Octets of bodies that servers sent.
    pub server_received: AtomicU64,
    /// Octets of bodies that servers were sent.
    pub server_sent: AtomicU64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Statistics {
    counts: PerThread<RequestCounters>,
    /// Requests in progress.
    pub in_flight: Arc<AtomicU64>,
    /// Connections of clients.
    pub inbound: Arc<ConnectionCounts>,
    /// What was refused on them.
    pub client_statistics: Arc<ClientStatistics>,
    /// Connections to servers that carry a request.
    pub outbound: ConnectionCounts,
    /// Commands of the last minute, five minutes and hour.
    pub rates: CommandRates,
    /// Requests that no cluster took.
    pub unrouted: Traffic,
    /// The writer of the access log.
    pub access_log: Arc<LineCounters>,
    /// What the listeners show now.
    pub certificates: Mutex<Vec<CertificateExpiry>>,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The listener's address.
    pub listener: String,
    /// The file as configured.
    pub file: String,
    /// Seconds since 1970.
    pub expires_unix_secs: i64,
}

impl Statistics {
    /// The counters of this thread.
    #[must_use]
    pub fn this_thread(&self) -> &RequestCounters {
        self.counts.this_thread()
    }

    /// One of the counters, over all threads.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&RequestCounters) -> &AtomicU64) -> u64 {
        self.counts.all().map(|counts| counter(counts).load(Relaxed)).fold(0, u64::wrapping_add)
    }

    /// Every half second or so: keeps what [`CommandRates`] are made of.
    pub fn sample_rates(&self, now_ms: u64) {
        self.rates.sample(now_ms, self.sum(|c| &c.commands));
    }
}

/// One request in progress, from its head to its last octet; dropping it ends it on every path.
#[derive(Debug)]
pub struct InFlightRequest(Arc<Statistics>);

impl InFlightRequest {
    /// Begins one.
    #[must_use]
    pub fn begin(statistics: &Arc<Statistics>) -> Self {
        statistics.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(statistics))
    }

    /// Where it is counted.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.0
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

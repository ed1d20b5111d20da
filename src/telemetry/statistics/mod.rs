//! Counters of the whole process, including the statistics of Domino's ICM
//! (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).
//!
//! They are atomics; those that change with every request have a shard for each thread.

pub(crate) mod accept_queue;
mod cache;
mod clients;
mod compression;
mod connections;
pub mod denied;
mod rates;
pub mod request_counter;
pub mod save_checks;
mod shards;
pub mod traffic;

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::telemetry::access_log::LineCounters;
use cache::CacheCounters;
pub(crate) use cache::CacheResult;
pub(crate) use clients::ClientStatistics;
use compression::CompressionCounters;
pub(crate) use connections::ConnectionCounts;
pub(crate) use rates::{CommandRates, RateWindow};
use shards::PerThread;
use traffic::Traffic;

/// The counters that change with every request.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// All requests; `ICM.Command.Total` in Domino.
    pub commands: AtomicU64,
    /// `ICM.Command.Unknown`: no server holds what the URL names.
    pub(crate) unknown: AtomicU64,
    /// `ICM.Command.Redirects.Successful`: a server was chosen.
    pub(crate) successful: AtomicU64,
    /// `ICM.Command.Redirects.Unsuccessful`: no server could be chosen.
    pub(crate) unsuccessful: AtomicU64,
    /// `ICM.Command.Redirects.ClusterBusy`: a BUSY or MAXUSERS server was chosen, because no other was left.
    pub(crate) cluster_busy: AtomicU64,
    /// `ICM.Receive.Error`: the connection to the client failed.
    pub(crate) receive_errors: AtomicU64,
    pub(crate) failovers: AtomicU64,
    /// Requests that took the fast path.
    pub(crate) fast_path: AtomicU64,
    /// Bytes of request bodies received from clients.
    pub(crate) client_received: AtomicU64,
    /// Bytes of response bodies sent to clients.
    pub(crate) client_sent: AtomicU64,
    /// Bytes of response bodies received from servers.
    pub(crate) server_received: AtomicU64,
    /// Bytes of request bodies sent to servers.
    pub(crate) server_sent: AtomicU64,
    pub(crate) compression: CompressionCounters,
    pub(crate) cache: CacheCounters,
}

/// All counters of the process that do not belong to a cluster or server.
#[derive(Debug, Default)]
pub struct Statistics {
    counters: PerThread<RequestCounters>,
    pub(crate) in_flight: Arc<AtomicU64>,
    pub(crate) inbound: Arc<ConnectionCounts>,
    pub(crate) client_statistics: Arc<ClientStatistics>,
    /// Connections to servers while they carry a request.
    pub outbound: ConnectionCounts,
    /// Connections to servers that wait for a request in the pool of the fast path.
    pub(crate) idle_upstream: Arc<AtomicUsize>,
    pub(crate) rates: CommandRates,
    /// Requests that belong to no cluster.
    pub(crate) unrouted: Traffic,
    pub(crate) access_log: Arc<LineCounters>,
    /// The certificates that the listeners use now.
    pub(crate) certificates: Mutex<Vec<CertificateExpiry>>,
}

/// When the certificate of a listener expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateExpiry {
    pub(crate) listener: String,
    pub(crate) file: String,
    pub(crate) expires_unix_secs: i64,
}

impl Statistics {
    /// The counters of this thread.
    #[must_use]
    pub fn this_thread(&self) -> &RequestCounters {
        self.counters.this_thread()
    }

    /// The sum of a counter over all threads.
    #[must_use]
    pub(crate) fn sum(&self, counter: impl Fn(&RequestCounters) -> &AtomicU64) -> u64 {
        self.counters.all().map(|counters| counter(counters).load(Relaxed)).fold(0, u64::wrapping_add)
    }

    /// Takes a sample for [`CommandRates`]; called about twice a second.
    pub(crate) fn sample_rates(&self, now_ms: u64) {
        self.rates.sample(now_ms, self.sum(|c| &c.commands));
    }
}

/// Counts one request in flight until it is dropped.
#[derive(Debug)]
pub struct InFlightRequest(Arc<Statistics>);

impl InFlightRequest {
    #[must_use]
    pub(crate) fn begin(statistics: &Arc<Statistics>) -> Self {
        statistics.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(statistics))
    }

    #[must_use]
    pub(crate) fn statistics(&self) -> &Statistics {
        &self.0
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

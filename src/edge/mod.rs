//! The edge: clients' connections from the socket to Pingora, in one place for every listener.
//!
//! [`accept`] takes connections from [`sockets`], within the limits of [`places`], or turns them
//! away (`crowded`); after the TLS handshake each
//! becomes a [`guarded::Guarded`], which is what Pingora reads and writes: [`http1`] puts the strict gate
//! ([`crate::gate`]) in front of its parser, [`http2`] follows the `frames` of an HTTP/2 connection and what it owes,
//! `answers` how slowly it takes its answers and [`waiting`] which of them have bytes that wait,
//! `outgoing` lets heads and bodies leave together, and [`batch`] the answers of many clients, [`patience`] has
//! the deadlines and rates of both, and [`parting`] lets a client read its last answer.
//!
//! In: what strangers send. Out: requests that are clean and do not keep us waiting. It knows no cluster.

pub mod accept;
mod answers;
pub mod batch;
mod crowded;
mod facts;
mod frames;
pub mod guarded;
pub mod http1;
pub mod http2;
mod outgoing;
mod pace;
pub mod parting;
pub mod patience;
pub mod places;
pub mod sockets;
mod statistics;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod waiting;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pingora::protocols::SocketDigest;

pub use statistics::ClientStatistics;

use batch::Batch;

use crate::access_log::AccessLog;
use crate::balancer::statistics::Sessions;
use crate::config::settings::Limits;
use crate::gate::{self, Refusal};

/// What a client may do on its connection: `limits`, as they were when its request began.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// One head.
    pub head: gate::Limits,
    /// For a whole head from its first octet, and for the first octet of a connection.
    pub header_timeout: Duration,
    /// Between an answer and the next request.
    pub idle_timeout: Duration,
    /// Octets a second while it is the client's turn; 0 for none.
    pub min_rate: u64,
}

impl From<&Limits> for Rules {
    fn from(limits: &Limits) -> Self {
        let octets = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            head: gate::Limits {
                header_count: limits.header_count,
                header_bytes: octets(limits.header_bytes),
                uri_bytes: octets(limits.uri_bytes),
            },
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            min_rate: limits.min_rate,
        }
    }
}

/// Where the connections of one service are counted and logged.
#[derive(Debug, Default)]
pub struct House {
    /// Counters of the process.
    pub statistics: Arc<ClientStatistics>,
    /// How many connections there are.
    pub sessions: Arc<Sessions>,
    /// Where refused requests are logged, if they are.
    pub access_log: Option<Arc<AccessLog>>,
    /// Where answers of many clients leave together.
    pub batch: Option<Arc<Batch>>,
}

impl House {
    /// A request was refused; `unseen` is its client where nobody else has seen the request.
    fn refused(&self, refusal: &Refusal, unseen: Option<&SocketDigest>) {
        self.statistics.refused(refusal.status);
        if let (Some(log), Some(client)) = (&self.access_log, unseen) {
            let client = client.peer_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
            log.refused(client, refusal);
        }
    }

    /// A connection was closed because its client took too long.
    fn too_slow(&self) {
        self.statistics.too_slow.fetch_add(1, Relaxed);
    }
}

//! The edge: clients' connections from the socket to Pingora, in one place for every listener.
//!
//! [`accept`] takes connections from [`sockets`], within the limits of [`places`], or turns them
//! away (`crowded`); after the TLS handshake each
//! becomes a [`client_stream::ClientStream`], which is what Pingora reads and writes: [`http1`] puts the strict gate
//! ([`crate::edge::gate`]) in front of its parser, [`http2`] follows the `frames` of an HTTP/2 connection and what it owes,
//! `http2_input` adds to its blocks of fields what the `h2` library needs to be told and [`interim`] sends what Pingora
//! drops. Both versions keep in `held` what was read and must wait. `answers` has how slowly a client takes its
//! answers and [`waiting`] which of them have bytes that wait, `outgoing` lets heads and bodies leave together, and
//! [`batch`] the answers of many clients, [`patience`] has the deadlines and rates of both, and [`parting`] lets a
//! client read its last answer.
//!
//! In: what strangers send. Out: requests that are clean and do not keep us waiting. It knows no cluster.

pub(crate) mod client_stream;
mod client_stream_traits;
pub(crate) mod coalesce;
pub(crate) mod connection_limit;
mod frames;
pub mod gate;
pub(crate) mod http1;
pub mod http2;
mod http2_input;
pub(crate) mod interim;
pub(crate) mod lingering_close;
pub(crate) mod listener;
pub(crate) mod login_connections;
mod min_rate;
mod overload;
mod read_buffer;
mod response_windows;
pub(crate) mod sockets;
pub(crate) mod timeouts;
mod write_buffer;

pub(crate) mod pending_responses;
pub(crate) mod tcp;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pingora::protocols::SocketDigest;

use coalesce::Coalescer;
use login_connections::LoginConnections;

use crate::config::settings::Limits;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::statistics::{ClientStatistics, ConnectionCounts};
use gate::Refusal;

/// Beyond these Pingora's parser refuses a head without a word, so they are refused before. Fields of a head:
/// `MAX_HEADERS` in `pingora-core`. Octets of a target: what `http::Uri` holds. Octets of all fields: what leaves
/// room for such a target in `MAX_HEADER_SIZE`.
const MAX_HEADER_COUNT: usize = 256;
const MAX_URI_BYTES: usize = 65_534;
const MAX_HEADER_BYTES: usize = 1_048_575 - MAX_URI_BYTES - 64;

/// What a client may do on its connection: `limits`, as they were when its request began.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// One head.
    pub head_limits: gate::HeadLimits,
    /// For a whole head from its first octet, and for the first octet of a connection.
    pub header_timeout: Duration,
    /// Between an answer and the next request.
    pub idle_timeout: Duration,
    /// Octets a second while it is the client's turn; 0 for none.
    pub min_rate: u64,
}

impl From<&Limits> for ClientLimits {
    fn from(limits: &Limits) -> Self {
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            head_limits: gate::HeadLimits {
                header_count: limits.header_count.min(MAX_HEADER_COUNT),
                header_bytes: bytes(limits.header_bytes).min(MAX_HEADER_BYTES),
                uri_bytes: bytes(limits.uri_bytes).min(MAX_URI_BYTES),
            },
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            min_rate: limits.min_rate,
        }
    }
}

/// Where the connections of one service are counted and logged.
#[derive(Debug, Default)]
pub struct ListenerContext {
    /// Counters of the process.
    pub statistics: Arc<ClientStatistics>,
    /// How many connections there are.
    pub sessions: Arc<ConnectionCounts>,
    /// Where refused requests are logged, if they are.
    pub access_log: Option<Arc<AccessLog>>,
    /// Connections that carry a login.
    pub logins: Arc<LoginConnections>,
    /// Where answers of many clients leave together.
    pub coalescer: Option<Arc<Coalescer>>,
}

impl ListenerContext {
    /// A request was refused; `unseen` is its client where nobody else has seen the request.
    fn count_refused(&self, refusal: &Refusal, unseen: Option<&SocketDigest>) {
        self.statistics.count_refused(refusal.status);
        if let (Some(log), Some(client)) = (&self.access_log, unseen) {
            let client = client.peer_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
            log.refused(client, refusal.status, refusal.reason);
        }
    }

    /// A connection was closed because its client took too long.
    fn count_too_slow(&self) {
        self.statistics.too_slow.fetch_add(1, Relaxed);
    }
}

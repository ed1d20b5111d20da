//! The edge: clients' connections from the socket to Pingora, for every listener.
//!
//! `listener` accepts connections from `sockets` within `connection_limit`; `overload` rejects the others. A proxy in
//! front may send the client's address first (`proxy_protocol`, `admission`). After the TLS handshake (`tls_endpoint`) each
//! becomes a `client_stream::ClientStream`, which Pingora reads and writes. In HTTP/1.1, `http1` puts the strict `gate`
//! in front of Pingora's parser; a plain request has a `plain_session` and its `raw_request` in place of Pingora's session
//! and parser. `client_certificate` is what a connection with one keeps of it. In HTTP/2, `http2` follows the `frames`,
//! `http2_input` adds fields to header blocks, and `interim` sends 1xx responses. `timeouts` has the deadlines and minimum
//! rates of both. The edge knows no cluster.

pub(crate) mod acme_hello;
mod acme_store;
mod admission;
pub(crate) mod client_certificate;
mod client_stream;
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
pub(crate) mod pending_responses;
mod plain_response;
mod plain_session;
mod plain_session_trait;
pub mod proxy_protocol;
pub mod raw_request;
mod read_buffer;
mod response_windows;
pub(crate) mod session_tickets;
pub(crate) mod sockets;
pub(crate) mod tcp;
pub(crate) mod timeouts;
pub(crate) mod tls;
pub(crate) mod tls_endpoint;
mod write_buffer;

#[cfg(test)]
mod tests;

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

// Above these limits Pingora closes the connection without a response, so the gate responds first.

/// The number in `MAX_HEADERS` of `pingora-core`.
const MAX_HEADER_COUNT: usize = 256;
/// The limit of `http::Uri`.
const MAX_URI_BYTES: usize = 65_534;
/// `MAX_HEADER_SIZE` of `pingora-core`, less the longest request line.
const MAX_HEADER_BYTES: usize = 1_048_575 - MAX_URI_BYTES - 64;

/// The `limits` that applied when a client's request began.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    pub(crate) head_limits: gate::HeadLimits,
    /// For a whole head from its first byte, and for the first byte of a connection.
    pub(crate) header_timeout: Duration,
    /// Between a response and the next request.
    pub(crate) idle_timeout: Duration,
    /// Bytes per second while the server waits for the client; 0 = no minimum.
    pub(crate) min_rate: u64,
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

/// What the connections of one service share.
#[derive(Debug, Default)]
pub(crate) struct ListenerContext {
    pub statistics: Arc<ClientStatistics>,
    pub sessions: Arc<ConnectionCounts>,
    /// Logs requests that the gate refuses.
    pub access_log: Option<Arc<AccessLog>>,
    pub logins: Arc<LoginConnections>,
    /// `None`: responses are never deferred.
    pub coalescer: Option<Arc<Coalescer>>,
}

impl ListenerContext {
    /// Counts a refused request. `unlogged` is its client if the proxy has not seen the request and will not log it.
    fn count_refused(&self, refusal: &Refusal, unlogged: Option<&SocketDigest>) {
        self.statistics.count_refused(refusal.status);
        if let (Some(log), Some(client)) = (&self.access_log, unlogged) {
            let client = client.peer_addr().and_then(|a| a.as_inet()).map(|a| a.ip().to_canonical());
            log.refused(client, refusal.status, refusal.reason);
        }
    }

    fn count_too_slow(&self) {
        self.statistics.too_slow.fetch_add(1, Relaxed);
    }
}

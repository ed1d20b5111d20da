//! Whether a new connection may be served: the connection limits, and the PROXY header that names the client they are for.
//!
//! It is separate from the listener, because a connection from a proxy is counted twice: in total when it is accepted, and
//! for its client when the header is known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::TcpStream;

use super::connection_limit::{ConnectionLimit, ConnectionLimiter, ConnectionPermit, LimitReached};
use super::proxy_protocol;
use crate::config::settings::{Limits, Listener};
use crate::state::Balancer;
use crate::telemetry::statistics::ClientStatistics;

pub(super) struct Admission {
    balancer: Arc<Balancer>,
    statistics: Arc<ClientStatistics>,
    connections: Arc<ConnectionLimiter>,
    limit: ConnectionLimit,
}

/// A connection as it was accepted.
pub(super) struct Arrival {
    /// Whether a PROXY header must come first.
    pub has_proxy_header: bool,
    /// `None` above the limits.
    pub permit: Option<ConnectionPermit>,
}

impl Admission {
    pub fn new(balancer: Arc<Balancer>, statistics: Arc<ClientStatistics>, limit: ConnectionLimit) -> Self {
        Self { balancer, statistics, connections: Arc::default(), limit }
    }

    /// Counts a connection of this peer to the listener with this address.
    pub fn arrive(&self, peer: SocketAddr, address: SocketAddr) -> Arrival {
        let ip = peer.ip().to_canonical();
        if let ConnectionLimit::Fixed(total, per_client) = self.limit {
            let permit = self.count_rejected(self.connections.acquire(Some(ip), total, per_client));
            return Arrival { has_proxy_header: false, permit };
        }
        let snapshot = self.balancer.snapshot();
        let limits = &snapshot.settings.limits;
        let listener = snapshot.settings.listeners.iter().find(|l| l.address == address);
        let has_proxy_header = listener.is_some_and(|listener| listener.expects_proxy_header(ip));
        let client = (!has_proxy_header && is_counted(limits, listener, ip)).then_some(ip);
        let permit = self.connections.acquire(client, limits.connections, limits.per_client_connections);
        Arrival { has_proxy_header, permit: self.count_rejected(permit) }
    }

    /// Reads the PROXY header. The client that it names, if it names one; `None` if the connection must be closed.
    pub async fn read_proxy_header(
        &self,
        socket: &mut TcpStream,
        proxy: SocketAddr,
    ) -> Option<Option<SocketAddr>> {
        let timeout = self.balancer.snapshot().settings.limits.handshake_timeout;
        let cause = match tokio::time::timeout(timeout, proxy_protocol::read(socket)).await {
            Ok(Ok(client)) => return Some(client),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the PROXY header did not come in time".to_owned(),
        };
        self.statistics.proxy_headers_failed.fetch_add(1, Relaxed);
        log::debug!(target: "icm::clients", "connection of proxy {proxy} closed: {cause}");
        None
    }

    /// Counts the client behind a proxy. False above its limit.
    pub fn count_client(
        &self,
        permit: &mut ConnectionPermit,
        client: SocketAddr,
        address: SocketAddr,
    ) -> bool {
        let ip = client.ip().to_canonical();
        let snapshot = self.balancer.snapshot();
        let limits = &snapshot.settings.limits;
        let listener = snapshot.settings.listeners.iter().find(|l| l.address == address);
        if !is_counted(limits, listener, ip) {
            return true;
        }
        self.count_rejected(permit.count_client(ip, limits.per_client_connections)).is_some()
    }

    fn count_rejected<T>(&self, permit: Result<T, LimitReached>) -> Option<T> {
        let reached = |limit| match limit {
            LimitReached::Total => self.statistics.over_limit.fetch_add(1, Relaxed),
            LimitReached::Client => self.statistics.over_client_limit.fetch_add(1, Relaxed),
        };
        permit.map_err(reached).ok()
    }
}

/// A trusted proxy carries many clients.
fn is_counted(limits: &Limits, listener: Option<&Listener>, client: IpAddr) -> bool {
    let is_proxy = listener.is_some_and(|l| l.trusted_proxies.iter().any(|net| net.contains(&client)));
    !is_proxy && !limits.is_exempt(client)
}

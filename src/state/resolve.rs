//! Host names of members to addresses: at load, and every minute, never on the request path.
//!
//! In: servers. Out: addresses of the names that resolve; a name that does not is left out, and its
//! member is UNREACHABLE with that as the cause.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::config::settings::Server;
use crate::domain::cluster::HostPort;

/// The names among the ports of these servers.
pub fn host_names(servers: &[Server]) -> impl Iterator<Item = &HostPort> {
    servers.iter().flat_map(|s| [&s.http, &s.https]).flatten().filter(|p| p.literal_address().is_none())
}

/// What is not resolved by then is not known yet: a dead name server must not keep the listeners closed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the system's resolver and waits for it, 3 s at most for all names together: at start and at a
/// reload only.
#[must_use]
pub fn resolve_blocking(servers: &[Server]) -> HashMap<HostPort, SocketAddr> {
    let wanted: std::collections::HashSet<HostPort> = host_names(servers).cloned().collect();
    let (sender, receiver) = mpsc::channel();
    for at in &wanted {
        let (sender, at) = (sender.clone(), at.clone());
        // The system's resolver cannot be interrupted: whoever waits for it waits alone.
        std::thread::spawn(move || {
            let found = (at.host.as_str(), at.port).to_socket_addrs().ok().and_then(prefer_ipv4);
            let _ = sender.send((at, found));
        });
    }
    let end = Instant::now() + RESOLVE_TIMEOUT;
    let mut found = HashMap::new();
    for _ in &wanted {
        let Ok((at, address)) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) else {
            break;
        };
        found.extend(address.map(|address| (at, address)));
    }
    found
}

/// Asks the system's resolver without blocking.
pub async fn resolve_async(servers: &[Server]) -> HashMap<HostPort, SocketAddr> {
    let mut found = HashMap::new();
    for at in host_names(servers) {
        match tokio::net::lookup_host((at.host.as_str(), at.port)).await {
            Ok(addresses) => {
                if let Some(address) = prefer_ipv4(addresses) {
                    found.insert(at.clone(), address);
                }
            }
            Err(error) => log::warn!(target: "icm::resolve", "{}: does not resolve: {error}", at.host),
        }
    }
    found
}

/// IPv4 first: Domino servers with an IPv6 address in the DNS but without a listener on it are common.
fn prefer_ipv4(addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut all: Vec<SocketAddr> = addresses.collect();
    all.sort_by_key(|a| (a.is_ipv6(), *a));
    all.first().copied()
}

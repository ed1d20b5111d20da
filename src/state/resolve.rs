//! Resolves the host names of servers: at load, and every minute, never for a request. A name that does not resolve is
//! left out, which makes its server UNREACHABLE.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::config::settings::Server;
use crate::domain::cluster::HostPort;

/// The ports of these servers that name a host rather than an address.
pub fn host_names(servers: &[Server]) -> impl Iterator<Item = &HostPort> {
    servers.iter().flat_map(|s| [&s.http, &s.https]).flatten().filter(|p| p.literal_address().is_none())
}

/// A dead name server must not keep the listeners closed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Resolves all names, within [`RESOLVE_TIMEOUT`] in total. For a start or a reload.
#[must_use]
pub fn resolve_blocking(servers: &[Server]) -> HashMap<HostPort, SocketAddr> {
    let wanted: HashSet<HostPort> = host_names(servers).cloned().collect();
    let (sender, receiver) = mpsc::channel();
    for at in &wanted {
        let (sender, at) = (sender.clone(), at.clone());
        // The system's resolver cannot be interrupted, so each name gets a thread.
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

/// Many Domino servers have an IPv6 address in the DNS but no listener on it.
fn prefer_ipv4(addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut all: Vec<SocketAddr> = addresses.collect();
    all.sort_by_key(|a| (a.is_ipv6(), *a));
    all.first().copied()
}

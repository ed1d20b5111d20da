//! Probes a port of a server and schedules the next probe.

pub mod schedule;

use crate::config::settings::{self, HostPattern};
use crate::discovery::domino::request::host_header;
use crate::discovery::domino::{DominoClient, DominoRequest};
use crate::domain::cluster::Port;

/// The Host header of requests that `icm` makes itself: as users send it, because a web site of Domino may answer only
/// to its own names.
#[must_use]
pub fn probe_host(
    cluster: &settings::ClusterSettings,
    hostname: &str,
    address: std::net::SocketAddr,
    https: bool,
) -> String {
    let public = cluster.hostnames.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => Some(name.as_str()),
        HostPattern::Wildcard(_) => None,
    });
    match cluster.probe.host.as_deref().or(public) {
        Some(host) => host.to_owned(),
        None => host_header(hostname, address, https),
    }
}

/// Probes a port once and returns the status of the response.
///
/// # Errors
/// When there is no response, or its status is not an expected one; the message is for the administrator.
pub async fn probe(
    client: &DominoClient,
    cluster: &settings::ClusterSettings,
    server: &settings::Server,
    port: Port,
    address: std::net::SocketAddr,
) -> Result<u16, String> {
    let settings = &cluster.probe;
    let mut request =
        DominoRequest::get(address, port == Port::Https, &server.hostname, settings.path.as_str());
    request.timeout = settings.timeout;
    request.host_header = probe_host(cluster, &server.hostname, address, port == Port::Https);
    match client.probe(&request).await {
        Ok(status) if settings.accepts(status) => Ok(status),
        Ok(status) => Err(format!("{} answered {status}", request.url())),
        Err(error) => Err(error.to_string()),
    }
}

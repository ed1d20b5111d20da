//! Probes a port of a server and schedules the next probe.

pub mod schedule;

use crate::config::settings::{self, HostPattern};
use crate::discovery::domino::request::host_header;
use crate::discovery::domino::{DominoClient, DominoRequest};
use crate::domain::cluster::Port;

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
    let public = cluster.hostnames.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => Some(name.as_str()),
        HostPattern::Wildcard(_) => None,
    });
    request.host_header = match settings.host.as_deref().or(public) {
        Some(host) => host.to_owned(),
        None => host_header(&server.hostname, address, port == Port::Https),
    };
    match client.probe(&request).await {
        Ok(status) if settings.accepts(status) => Ok(status),
        Ok(status) => Err(format!("{} answered {status}", request.url())),
        Err(error) => Err(error.to_string()),
    }
}

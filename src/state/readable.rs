//! The ports from which `icm` itself reads from Domino: views, databases, the companion.

use super::cluster::Cluster;
use super::cluster_view::UpstreamServer;
use crate::config::settings::UpstreamScheme;
use crate::discovery::directory::ServerAddress;
use crate::domain::cluster::Port;

/// The port of a server that readers use: of the scheme of requests, else the other one. Also whether it answers.
#[must_use]
pub fn reading_port(cluster: &Cluster, entry: &UpstreamServer) -> Option<(bool, ServerAddress)> {
    let order = match cluster.settings.upstream_scheme {
        UpstreamScheme::Http => [Port::Http, Port::Https],
        // With `same`, TLS is preferred.
        UpstreamScheme::Https | UpstreamScheme::Same => [Port::Https, Port::Http],
    };
    let (port, address) = order.into_iter().find_map(|p| Some((p, entry.address(p)?)))?;
    let server = ServerAddress {
        name: entry.config.name.clone(),
        hostname: entry.config.hostname.clone(),
        address,
        https: port == Port::Https,
    };
    Some((entry.server.snapshot().is_up(port), server))
}

/// The servers from which a view can be read; those whose port answers come first.
#[must_use]
pub fn readable_servers(cluster: &Cluster) -> Vec<ServerAddress> {
    let view = cluster.view.load();
    let mut servers: Vec<(bool, ServerAddress)> =
        view.entries.iter().filter_map(|entry| reading_port(cluster, entry)).collect();
    servers.sort_by_key(|(answers, _)| !*answers);
    servers.into_iter().map(|(_, server)| server).collect()
}

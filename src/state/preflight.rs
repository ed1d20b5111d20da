//! Probes of servers that are about to join: before they are members, so that nobody waits for them.
//!
//! In: servers of a new configuration, or of a new reading of the Server documents. Out: whether the ports of those that
//! are not known yet answer. A member is UNREACHABLE until it was probed; where the same change takes the servers away
//! that have served until now, users would meet nobody for a moment. What is known already is not probed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::persistent::PersistentState;
use super::{Balancer, resolve};
use crate::config::Settings;
use crate::config::settings::{self, Server, Servers};
use crate::discovery::domino::DominoClient;
use crate::discovery::probe;
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{Port, ServerName};

/// All names and all probes together: what is not known by then is found out afterwards.
pub const PREFLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

/// A port that was not known.
#[derive(Clone, Debug, PartialEq)]
pub struct UnprobedPort {
    server: Server,
    port: Port,
    address: SocketAddr,
}

/// What probes of the unknown ports of one cluster said.
#[derive(Debug, Default)]
pub struct PreflightProbes {
    /// `None`: it did not end in time.
    results: Vec<(UnprobedPort, Option<Result<u16, String>>)>,
}

/// What was found out before a new configuration applies.
#[derive(Debug, Default)]
pub struct PreflightResults {
    /// Addresses of all names among the servers in the file.
    pub addresses: HashMap<HostPort, SocketAddr>,
    clusters: HashMap<String, PreflightProbes>,
}

impl PreflightProbes {
    /// What the port of a server said at this address.
    #[must_use]
    pub fn result(&self, server: &ServerName, port: Port, address: SocketAddr) -> Option<Result<u16, &str>> {
        let is = |of: &UnprobedPort| of.server.name == *server && of.port == port && of.address == address;
        let (_, result) = self.results.iter().find(|(of, _)| is(of))?;
        Some(result.as_ref()?.as_ref().copied().map_err(String::as_str))
    }

    /// Says which servers join without having answered.
    pub fn record_failures(&self, balancer: &Balancer, cluster: &str) {
        for (UnprobedPort { server, port, .. }, result) in &self.results {
            let text = match result {
                Some(Ok(_)) => continue,
                Some(Err(reason)) => format!("it joins though its {port} port does not answer: {reason}"),
                None => {
                    format!(
                        "it joins though a probe of its {port} port has not ended within {PREFLIGHT_TIMEOUT:?}"
                    )
                }
            };
            balancer.events.record_port_change(log::Level::Warn, cluster, &server.name, text);
        }
    }
}

impl PreflightResults {
    /// Those of a cluster.
    #[must_use]
    pub fn for_cluster(&self, cluster: &str) -> Option<&PreflightProbes> {
        self.clusters.get(cluster)
    }
}

/// The ports among these that requests go to and that are not known at their address.
#[must_use]
pub fn unprobed_ports(
    kept: &PersistentState,
    settings: &settings::ClusterSettings,
    servers: &[Server],
    addresses: &HashMap<HostPort, SocketAddr>,
) -> Vec<UnprobedPort> {
    let ports = |server: &Server| [(Port::Http, server.http.clone()), (Port::Https, server.https.clone())];
    let all = servers.iter().flat_map(|server| ports(server).map(|(port, at)| (server, port, at)));
    all.filter(|(_, port, _)| settings.uses(*port))
        .filter_map(|(server, port, at)| {
            let at = at?;
            let address = at.literal_address().or_else(|| addresses.get(&at).copied())?;
            let is_known = kept.last_address(&server.name, port) == Some(address);
            (!is_known).then(|| UnprobedPort { server: server.clone(), port, address })
        })
        .collect()
}

/// Probes all of them at once, until then at most.
pub async fn probe_ports(
    client: &DominoClient,
    settings: &Arc<settings::ClusterSettings>,
    unknown: Vec<UnprobedPort>,
    deadline: Instant,
) -> PreflightProbes {
    let mut set = JoinSet::new();
    for of in unknown {
        let (client, settings) = (client.clone(), Arc::clone(settings));
        set.spawn(async move {
            let probe = probe::probe(&client, &settings, &of.server, of.port, of.address);
            let result = tokio::time::timeout_at(deadline, probe).await.ok();
            (of, result)
        });
    }
    PreflightProbes { results: set.join_all().await }
}

/// What reads servers and probes them. As for requests, `pingora.ca_file` counts where the cluster names no `ca_file`.
#[must_use]
pub fn upstream_client(settings: &settings::ClusterSettings, process: &Settings) -> DominoClient {
    let own = &settings.upstream_tls;
    let ca = own.ca.clone().or_else(|| process.upstream_ca.clone());
    let tls = settings::UpstreamTls { ca, ..own.clone() };
    DominoClient::new(&tls, settings.failover.connect_timeout)
}

/// Finds out what a new configuration needs to know. Blocks, for [`PREFLIGHT_TIMEOUT`] at most and not at all where no server is
/// new; what is in force serves meanwhile.
#[must_use]
pub fn run(balancer: &Balancer, settings: &Settings, runtime: &Handle) -> PreflightResults {
    let deadline = Instant::now() + PREFLIGHT_TIMEOUT;
    let listed = |cluster: &settings::ClusterSettings| match &cluster.servers {
        Servers::Static(list) => list.clone(),
        Servers::Names(_) => Vec::new(),
    };
    let all: Vec<Server> = settings.clusters.iter().flat_map(|cluster| listed(cluster)).collect();
    let mut preflight =
        PreflightResults { addresses: resolve::resolve_blocking(&all), clusters: HashMap::new() };
    let mut probing = JoinSet::new();
    for wanted in &settings.clusters {
        let unknown = unprobed_ports(
            &balancer.persistent_state(&wanted.name),
            wanted,
            &listed(wanted),
            &preflight.addresses,
        );
        if unknown.is_empty() {
            continue;
        }
        let (client, wanted) = (upstream_client(wanted, settings), Arc::clone(wanted));
        let probes =
            async move { (wanted.name.clone(), probe_ports(&client, &wanted, unknown, deadline).await) };
        probing.spawn_on(probes, runtime);
    }
    preflight.clusters = runtime.block_on(probing.join_all()).into_iter().collect();
    preflight
}
